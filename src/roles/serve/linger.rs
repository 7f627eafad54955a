//! Who is refused hears why, even while still sending.
//!
//! A connection that is closed before everything that came was read is reset, and the other side may lose the answer that was
//! on its way: whoever sends a large body in one go would learn of the reset only.

use std::{
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// Silence after which the other side is taken to have heard.
const SILENCE: Duration = Duration::from_secs(1);
/// For so long it may go on sending: less than a process that ends gives its connections.
const LONGEST: Duration = Duration::from_secs(5);
/// Bytes that are thrown away at once.
const PIECE: usize = 8 << 10;

/// The end of a stream that was shut down: it is read until the other side ends it too, and what is read is thrown away.
#[derive(Debug)]
pub(super) struct Linger {
    until: Instant,
    silence: Pin<Box<Sleep>>,
}

impl Linger {
    /// From now on.
    pub(super) fn new() -> Self {
        Self { until: Instant::now() + LONGEST, silence: Box::pin(sleep(SILENCE)) }
    }

    /// Ready when the stream may be closed.
    pub(super) fn poll(&mut self, mut stream: impl AsyncRead + Unpin, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut bytes = [MaybeUninit::uninit(); PIECE];
            let mut piece = ReadBuf::uninit(&mut bytes);
            match Pin::new(&mut stream).poll_read(context, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                    let now = Instant::now();
                    if now >= self.until {
                        return Poll::Ready(());
                    }
                    self.silence.as_mut().reset(self.until.min(now + SILENCE));
                }
                // The end, or it is gone.
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.silence.as_mut().poll(context),
            }
        }
    }
}
