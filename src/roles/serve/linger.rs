//! Who is refused hears why, even while still sending.
//!
//! A connection that is closed before everything that came was read is reset, and the other side may lose the answer that was
//! on its way: whoever sends a large body in one go would learn of the reset only.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// Silence after which the other side is taken to have heard.
const SILENCE: Duration = Duration::from_secs(1);
/// For so long it may go on sending: less than a process that ends gives its connections.
const LONGEST: Duration = Duration::from_secs(5);
/// Bytes that are thrown away at once.
const PIECE: usize = 8 << 10;

/// A stream that, when it is shut down, reads until the other side ends it too, and throws away what it reads.
#[derive(Debug)]
pub(super) struct Linger<S> {
    stream: S,
    ending: Option<Box<Ending>>,
}

#[derive(Debug)]
struct Ending {
    until: Instant,
    silence: Pin<Box<Sleep>>,
}

impl<S> Linger<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, ending: None }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let ending = match &mut this.ending {
            Some(ending) => ending,
            ending => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
                let silence = Box::pin(sleep(SILENCE));
                ending.insert(Box::new(Ending { until: Instant::now() + LONGEST, silence }))
            }
        };
        loop {
            let mut bytes = [MaybeUninit::uninit(); PIECE];
            let mut piece = ReadBuf::uninit(&mut bytes);
            match Pin::new(&mut this.stream).poll_read(context, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                    let now = Instant::now();
                    if now >= ending.until {
                        return Poll::Ready(Ok(()));
                    }
                    ending.silence.as_mut().reset(ending.until.min(now + SILENCE));
                }
                // The end, or it is gone.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return ending.silence.as_mut().poll(context).map(Ok),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Linger<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}
