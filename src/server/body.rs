//! Hands a finished page to hyper frame by frame.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::deadline::Answer;
use crate::exposition::page::Frames;

/// The body of every answer. Its frames are shared with all other answers of the same page, not copied.
pub struct Body {
    frames: Frames,
    next: usize,
    left: u64,
    _answer: Option<Answer>,
}

impl Body {
    /// The same body, which holds on to `answer` as long as it exists.
    pub(super) fn until_taken(self, answer: Answer) -> Self {
        Self { _answer: Some(answer), ..self }
    }
}

impl From<Frames> for Body {
    fn from(frames: Frames) -> Self {
        let left = frames.length();
        Self { frames, next: 0, left, _answer: None }
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
