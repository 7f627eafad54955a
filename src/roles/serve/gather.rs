//! Small writes become large ones, and who waits holds no buffer.
//!
//! The WebSocket library keeps a buffer for each socket as large as its largest burst was. Here what is written between two
//! flushes is gathered instead, and the room for it is given back with the flush: of thousands of sockets few are
//! written to at the same moment.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::linger::Linger;

/// Bytes that are written at once.
const LIMIT: usize = 16 << 10;

/// A stream whose writes are gathered until they are flushed, and that [lingers](Linger) at its end.
///
/// Writes of several pieces, as those of HTTP answers, are gathered by their writer already and pass.
#[derive(Debug)]
pub(super) struct Gather<S> {
    stream: S,
    held: Vec<u8>,
    /// Of these, so many are written.
    written: usize,
    /// Once it is shut down.
    linger: Option<Box<Linger>>,
}

impl<S> Gather<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, held: Vec::new(), written: 0, linger: None }
    }
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    /// Writes what is held, and gives the room for it back.
    fn poll_release(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.written += taken,
            }
        }
        (self.held, self.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.held.len() + bytes.len() > LIMIT {
            ready!(self.poll_release(context))?;
            if bytes.len() > LIMIT {
                return Pin::new(&mut self.stream).poll_write(context, bytes);
            }
        }
        self.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_release(context))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            ready!(this.poll_release(context))?;
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        }
        let linger = this.linger.get_or_insert_with(|| Box::new(Linger::new()));
        linger.poll(&mut this.stream, context).map(Ok)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// Whatever is written in whatever pieces comes out as it is, and nothing stays behind after a flush.
    #[tokio::test]
    async fn bytes_keep_their_order_and_leave_with_the_flush() {
        let mut random = fastrand::Rng::with_seed(7);
        let (near, mut far) = duplex(1000);
        let heard = tokio::spawn(async move {
            let mut heard = Vec::new();
            far.read_to_end(&mut heard).await.map(|_| heard)
        });
        let mut gather = Gather::new(near);
        let mut said = Vec::new();
        for _ in 0..2_000 {
            let most = if random.u8(..) < 20 { 3 * LIMIT } else { 300 };
            let mut piece = vec![0; random.usize(..most)];
            random.fill(&mut piece);
            gather.write_all(&piece).await.unwrap();
            said.extend(piece);
            if random.u8(..) < 30 {
                gather.flush().await.unwrap();
                assert_eq!(gather.held.capacity(), 0);
            }
        }
        gather.shutdown().await.unwrap();
        drop(gather);
        let heard = heard.await.unwrap().unwrap();
        assert!(heard == said, "{} and {} bytes", heard.len(), said.len());
    }

    #[tokio::test]
    async fn small_writes_wait_for_the_flush() {
        let (near, mut far) = duplex(1000);
        let mut gather = Gather::new(near);
        gather.write_all(b"one ").await.unwrap();
        gather.write_all(b"two").await.unwrap();
        let mut heard = [0; 10];
        assert!(far.read(&mut heard).now_or_never().is_none());
        gather.flush().await.unwrap();
        assert_eq!(far.read(&mut heard).await.unwrap(), 7);
    }
}
