//! When a connection has taken too long.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// An answer must be taken in this time: a reader that hangs keeps an old page in memory. Prometheus gives up after
/// 10 s unless told otherwise.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// A connection without a request under way may stay for this time after its latest one. It differs from the usual
/// times between scrapes, lest the end and the next request meet.
const QUIET_TIMEOUT: Duration = Duration::from_secs(75);

/// The end of a connection's time, which each request moves.
pub(super) struct Deadline(Arc<Mutex<State>>);

struct State {
    /// Unless an answer is under way.
    end: Instant,
    /// When each answer under way must be taken, in the order of the requests.
    answers: BTreeMap<u64, Instant>,
    requests: u64,
}

/// An answer under way, until it is dropped.
pub(super) struct Answer {
    number: u64,
    state: Arc<Mutex<State>>,
}

impl Deadline {
    /// Ends after `first` unless something comes.
    pub(super) fn new(first: Duration) -> Self {
        let end = Instant::now() + first;
        Self(Arc::new(Mutex::new(State { end, answers: BTreeMap::new(), requests: 0 })))
    }

    /// Allows for another `more` from now.
    pub(super) fn extend(&self, more: Duration) {
        lock(&self.0).end = Instant::now() + more;
    }

    /// Notes a request; its answer is under way until what is returned is dropped.
    pub(super) fn answer(&self) -> Answer {
        let now = Instant::now();
        let mut state = lock(&self.0);
        state.requests += 1;
        let number = state.requests;
        state.answers.insert(number, now + ANSWER_TIMEOUT);
        state.end = now + QUIET_TIMEOUT;
        Answer { number, state: Arc::clone(&self.0) }
    }

    /// Waits until the time is over.
    pub(super) async fn passed(&self) {
        loop {
            let end = lock(&self.0).end();
            if Instant::now() >= end {
                return;
            }
            sleep_until(end).await;
        }
    }
}

impl State {
    fn end(&self) -> Instant {
        self.answers.first_key_value().map_or(self.end, |(_, end)| *end)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        lock(&self.state).answers.remove(&self.number);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Nothing under the lock can leave a half-made value behind.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(deadline: &Deadline) -> Duration {
        lock(&deadline.0).end() - Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_answer_under_way_decides() {
        let deadline = Deadline::new(Duration::from_secs(10));
        assert_eq!(left(&deadline), Duration::from_secs(10));
        let hangs = deadline.answer();
        tokio::time::advance(Duration::from_secs(20)).await;
        drop(deadline.answer());
        assert_eq!(left(&deadline), Duration::from_secs(40));
        drop(hangs);
        assert_eq!(left(&deadline), QUIET_TIMEOUT);
        let start = Instant::now();
        let _hangs = deadline.answer();
        deadline.passed().await;
        assert_eq!(start.elapsed(), ANSWER_TIMEOUT);
    }
}
