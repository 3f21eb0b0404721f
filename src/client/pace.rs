//! How fast requests may follow each other: as configured, and slower while the API says that they are too many.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The longest time between two requests to which throttling leads.
const SLOWEST: Duration = Duration::from_secs(10);
/// Between two requests when throttling begins and no pace is configured: half the gateway's smallest limits known.
const FIRST_STEP: Duration = Duration::from_millis(50);
/// Answers to requests that were under way together count as one throttling.
const ONE_THROTTLING: Duration = Duration::from_secs(1);
/// So long after the last throttling, and after each step, the pace recovers by one step.
const RECOVERY: Duration = Duration::from_secs(10);
/// A `Retry-After` holds up the whole source, but not longer than this.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Spaces requests evenly.
pub struct Pace {
    configured: Duration,
    state: Mutex<State>,
}

struct State {
    /// Between two requests, now.
    interval: Duration,
    /// The next free slot.
    next: Instant,
    /// When the interval last changed.
    changed: Instant,
}

impl Pace {
    /// A pace of so many requests per second; `None` = as fast as they come.
    pub fn new(requests_per_second: Option<f64>) -> Self {
        let configured = requests_per_second.map_or(Duration::ZERO, |n| Duration::from_secs_f64(1.0 / n));
        let now = Instant::now();
        Self { configured, state: Mutex::new(State { interval: configured, next: now, changed: now }) }
    }

    /// Waits for the next free slot and says how long that took.
    pub async fn wait(&self) -> Duration {
        let now = Instant::now();
        let slot = {
            let mut state = self.lock();
            self.recover(&mut state, now);
            let slot = now.max(state.next);
            state.next = slot + state.interval;
            slot
        };
        if slot > now {
            sleep_until(slot).await;
        }
        slot - now
    }

    /// Notes an answer that said there were too many requests: the pace is halved, and nothing is sent before the
    /// time that the API asks for.
    pub fn throttled(&self, retry_after: Option<Duration>) {
        let now = Instant::now();
        let mut state = self.lock();
        let slowed = state.interval > self.configured;
        if !slowed || now >= state.changed + ONE_THROTTLING {
            state.interval = (state.interval * 2).clamp(FIRST_STEP, SLOWEST.max(self.configured));
            state.changed = now;
        }
        let pause = retry_after.unwrap_or_default().min(LONGEST_PAUSE);
        state.next = state.next.max(now + pause);
    }

    /// Shortens the interval by a quarter for every time of recovery that has passed.
    fn recover(&self, state: &mut State, now: Instant) {
        while state.interval > self.configured && now >= state.changed + RECOVERY {
            state.interval = (state.interval * 3 / 4).max(self.configured);
            state.changed += RECOVERY;
            if self.configured.is_zero() && state.interval < FIRST_STEP / 2 {
                state.interval = Duration::ZERO;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The milliseconds from one request to the next, for so many of them.
    async fn gaps(pace: &Pace, requests: usize) -> Vec<u128> {
        let mut gaps = Vec::new();
        for _ in 0..requests {
            gaps.push(pace.wait().await.as_millis());
        }
        gaps
    }

    #[tokio::test(start_paused = true)]
    async fn spaces_requests_as_configured() {
        assert_eq!(gaps(&Pace::new(Some(10.0)), 4).await, [0, 100, 100, 100]);
        assert_eq!(gaps(&Pace::new(None), 4).await, [0; 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn halves_its_pace_once_for_answers_that_come_together() {
        let pace = Pace::new(Some(10.0));
        pace.throttled(None);
        pace.throttled(None);
        assert_eq!(gaps(&pace, 3).await[1..], [200, 200]);
        tokio::time::advance(ONE_THROTTLING).await;
        pace.throttled(None);
        assert_eq!(gaps(&pace, 3).await[1..], [400, 400]);
    }

    #[tokio::test(start_paused = true)]
    async fn recovers_step_by_step_and_no_further_than_configured() {
        let pace = Pace::new(Some(10.0));
        pace.throttled(None);
        let mut intervals = Vec::new();
        for _ in 0..4 {
            tokio::time::advance(RECOVERY).await;
            intervals.push(gaps(&pace, 2).await[1]);
        }
        assert_eq!(intervals, [150, 112, 100, 100]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_pace_throttling_brings_one_that_goes_again() {
        let pace = Pace::new(None);
        pace.throttled(None);
        assert_eq!(gaps(&pace, 2).await[1], 50);
        tokio::time::advance(10 * RECOVERY).await;
        assert_eq!(gaps(&pace, 2).await[1], 0);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_as_long_as_the_api_asks_for_and_not_for_ever() {
        let pace = Pace::new(None);
        pace.throttled(Some(Duration::from_secs(7)));
        assert_eq!(gaps(&pace, 1).await, [7000]);
        pace.throttled(Some(Duration::MAX));
        assert_eq!(gaps(&pace, 1).await, [LONGEST_PAUSE.as_millis()]);
    }

    #[tokio::test(start_paused = true)]
    async fn never_becomes_slower_than_its_limit() {
        let pace = Pace::new(Some(10.0));
        for _ in 0..100 {
            tokio::time::advance(ONE_THROTTLING).await;
            pace.throttled(None);
        }
        assert_eq!(gaps(&pace, 2).await[1], SLOWEST.as_millis());
    }
}
