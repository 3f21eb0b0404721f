//! Hands a finished page to hyper frame by frame.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::connection::Service;
use crate::exposition::page::Frames;

/// The body of every answer. Its frames are shared with all other answers of the same page, not copied.
pub struct Body {
    frames: Frames,
    next: usize,
    left: u64,
    service: Option<Arc<Service>>,
}

impl Body {
    /// The same body, which tells `service` when hyper has all of it.
    pub(super) fn of(mut self, service: Arc<Service>) -> Self {
        self.service = Some(service);
        self
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(service) = &self.service {
            service.deadline.answer_made();
        }
    }
}

impl From<Frames> for Body {
    fn from(frames: Frames) -> Self {
        let left = frames.length();
        Self { frames, next: 0, left, service: None }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        while let Some(frame) = this.frames.get(this.next) {
            this.next += 1;
            // hyper takes an empty frame for the end in places.
            if !frame.is_empty() {
                this.left -= frame.len() as u64;
                return Poll::Ready(Some(Ok(Frame::data(frame.clone()))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
