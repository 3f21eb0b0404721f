//! The bytes of a connection, and what passes there that its time and its end depend on.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::connection::Service;
use super::listener::Stream;

/// A client that still sends when all was answered has this time to take note of it. If its bytes were thrown back at
/// it at once, as the system does with what nobody read, it would lose the answer as well.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);
/// So many of these bytes are taken.
const LINGER_BYTES: usize = 16 * 1024 * 1024;
/// Pieces of an answer that are written at a time; they are large.
const MAX_PIECES: usize = 8;

/// The stream of a connection, below TLS.
pub(super) struct Watched {
    stream: Box<dyn Stream>,
    service: Arc<Service>,
    /// What was read to see who is there, until it is read once more.
    first: Option<u8>,
    stop: CancellationToken,
    linger: Option<Linger>,
}

struct Linger {
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    left: usize,
}

impl Watched {
    /// Tells `service` what passes; after `stop` nobody is waited for.
    pub(super) fn new(stream: Box<dyn Stream>, service: Arc<Service>, stop: CancellationToken) -> Self {
        Self { stream, service, first: None, stop, linger: None }
    }

    /// The byte that comes first, which stays to be read; `None` at the end.
    pub(super) async fn first(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        self.first = (self.stream.read(&mut byte).await? > 0).then_some(byte[0]);
        Ok(self.first)
    }

    /// Takes what still comes, until the end or until that is enough.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let linger = self.linger.get_or_insert_with(|| {
            let stop = self.stop.clone();
            Linger {
                over: Box::pin(async move {
                    stop.run_until_cancelled(sleep(LINGER_TIMEOUT)).await;
                }),
                left: LINGER_BYTES,
            }
        });
        let mut space = [0; 8 * 1024];
        while linger.left > 0 {
            if linger.over.as_mut().poll(cx).is_ready() {
                break;
            }
            let mut buffer = ReadBuf::new(&mut space);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
            linger.left = linger.left.saturating_sub(buffer.filled().len());
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(first) = self.first.take() {
            buffer.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        if buffer.filled().len() > before {
            self.service.something_came();
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let most = self.service.place.write_bytes().min(bytes.len());
        Pin::new(&mut self.stream).poll_write(cx, &bytes[..most])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut left = self.service.place.write_bytes();
        let mut some = [IoSlice::new(&[]); MAX_PIECES];
        for (slot, piece) in some.iter_mut().zip(pieces) {
            *slot = IoSlice::new(&piece[..piece.len().min(left)]);
            left -= slot.len();
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, &some[..pieces.len().min(MAX_PIECES)])
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.service.all_written();
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more goes out, and waits until nothing more comes in.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        self.poll_linger(cx).map(Ok)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Only one that is told to go, or has no more time, ends in the middle of an answer. The system would go on to
        // offer the rest to a reader that stands still.
        if self.service.deadline.answering() {
            self.stream.abandon();
        }
    }
}
