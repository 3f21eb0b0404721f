//! When a connection has taken too long.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// A request's head must come in this time: the first of a connection from its beginning (with TLS: from the end of the
/// handshake, which has as long) and each other from its first byte.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer must be taken in this time: a reader that hangs keeps an old page in memory. Prometheus gives up after
/// 10 s unless told otherwise.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// A connection may stay for this time between an answer and the next request. It differs from the usual times between
/// scrapes, lest the end and the next request meet.
const IDLE_TIMEOUT: Duration = Duration::from_secs(125);

/// The end of a connection's time, which moves with what the client does.
pub(super) struct Deadline {
    state: Mutex<State>,
    moved: Notify,
}

struct State {
    end: Instant,
    phase: Phase,
}

#[derive(PartialEq, Eq)]
enum Phase {
    /// A request's head is on its way.
    Head,
    /// An answer is under way; `made` is whether hyper has all of it.
    Answer { made: bool },
    /// The client has all that it asked for, as far as this process knows.
    Idle,
}

impl Deadline {
    /// The connection has just begun.
    pub(super) fn new() -> Self {
        let state = State { end: Instant::now() + HEAD_TIMEOUT, phase: Phase::Head };
        Self { state: Mutex::new(state), moved: Notify::new() }
    }

    /// A request's head may come now.
    pub(super) fn head_may_come(&self) {
        self.enter(&mut self.lock(), Phase::Head, HEAD_TIMEOUT);
    }

    /// The client has sent something.
    pub(super) fn something_came(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Idle {
            self.enter(&mut state, Phase::Head, HEAD_TIMEOUT);
        }
    }

    /// A request's head is there.
    pub(super) fn asked(&self) {
        self.enter(&mut self.lock(), Phase::Answer { made: false }, ANSWER_TIMEOUT);
    }

    /// hyper has the whole answer.
    pub(super) fn answer_made(&self) {
        let mut state = self.lock();
        if let Phase::Answer { made } = &mut state.phase {
            *made = true;
        }
    }

    /// hyper has nothing left to write; whether that ends an answer.
    pub(super) fn all_written(&self) -> bool {
        let mut state = self.lock();
        let ends = state.phase == Phase::Answer { made: true };
        if ends {
            self.enter(&mut state, Phase::Idle, IDLE_TIMEOUT);
        }
        ends
    }

    /// Whether an answer is under way.
    pub(super) fn answering(&self) -> bool {
        matches!(self.lock().phase, Phase::Answer { .. })
    }

    /// Waits until the time is over.
    pub(super) async fn passed(&self) {
        loop {
            let end = self.lock().end;
            if timeout_at(end, self.moved.notified()).await.is_err() {
                return;
            }
        }
    }

    fn enter(&self, state: &mut State, phase: Phase, time: Duration) {
        *state = State { end: Instant::now() + time, phase };
        self.moved.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can leave a half-made value behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(deadline: &Deadline) -> Duration {
        deadline.lock().end - Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn each_step_of_a_conversation_has_its_own_time() {
        let second = Duration::from_secs(1);
        let deadline = Deadline::new();
        for _ in 0..2 {
            tokio::time::advance(second).await;
            // What comes piece by piece has no longer.
            deadline.something_came();
            assert!(left(&deadline) < HEAD_TIMEOUT);
            deadline.asked();
            tokio::time::advance(second).await;
            // Neither a next request nor what was written so far moves it.
            deadline.something_came();
            assert!(!deadline.all_written());
            assert_eq!(left(&deadline) + second, ANSWER_TIMEOUT);
            deadline.answer_made();
            assert_eq!(left(&deadline) + second, ANSWER_TIMEOUT);
            assert!(deadline.all_written());
            assert!(!deadline.all_written(), "it ends once");
            tokio::time::advance(60 * second).await;
            assert_eq!(left(&deadline) + 60 * second, IDLE_TIMEOUT);
            deadline.something_came();
            assert_eq!(left(&deadline), HEAD_TIMEOUT);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_notices_that_the_end_came_nearer() {
        let deadline = Deadline::new();
        deadline.asked();
        deadline.answer_made();
        deadline.all_written();
        let start = Instant::now();
        let begin = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            deadline.something_came();
        };
        tokio::join!(deadline.passed(), begin);
        assert_eq!(start.elapsed(), Duration::from_secs(60) + HEAD_TIMEOUT);
    }
}
