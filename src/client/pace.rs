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

/// Spaces requests evenly.
pub struct Pace {
    configured: Duration,
    /// Held by the request that is sent next. What comes after it reserves nothing: it takes the pace as it finds it
    /// when its turn has come, and leaves no gap if it goes away.
    line: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

struct State {
    /// Between two requests, now.
    interval: Duration,
    /// When the last one was sent.
    last: Option<Instant>,
    /// Nothing is sent before this time.
    paused_until: Instant,
    /// When the interval last changed.
    changed: Instant,
}

impl Pace {
    /// A pace of so many requests per second; `None` = as fast as they come.
    pub fn new(requests_per_second: Option<f64>) -> Self {
        let configured = requests_per_second.map_or(Duration::ZERO, |n| Duration::from_secs_f64(1.0 / n));
        let now = Instant::now();
        let state = State { interval: configured, last: None, paused_until: now, changed: now };
        Self { configured, line: tokio::sync::Mutex::default(), state: Mutex::new(state) }
    }

    /// Waits until the next request may be sent.
    pub async fn wait(&self) {
        let _first = self.line.lock().await;
        let ready = Instant::now();
        while let Some(slot) = self.take_slot(ready) {
            sleep_until(slot).await;
        }
    }

    /// Takes the slot of a request that has been first in line since `ready`, if it has come. Else says when it will
    /// come, as things stand.
    fn take_slot(&self, ready: Instant) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.lock();
        self.recover(&mut state, now);
        let next = state.last.map_or(ready, |last| last + state.interval);
        let slot = next.max(state.paused_until).max(ready);
        if now < slot {
            return Some(slot);
        }
        state.last = Some(slot);
        None
    }

    /// Whether requests wait because the API said that there were too many.
    pub fn is_throttled(&self) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        self.recover(&mut state, now);
        state.interval > self.configured || now < state.paused_until
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
        state.paused_until = state.paused_until.max(now + retry_after.unwrap_or_default());
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
            let start = Instant::now();
            pace.wait().await;
            gaps.push(start.elapsed().as_millis());
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
        assert_eq!(intervals, [150, 113, 100, 100]);
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
    async fn waits_as_long_as_the_api_asks_for() {
        let pace = Pace::new(None);
        pace.throttled(Some(Duration::from_secs(7)));
        assert_eq!(gaps(&pace, 1).await, [7000]);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_longer_if_that_is_asked_for_meanwhile() {
        let pace = Pace::new(None);
        pace.throttled(Some(Duration::from_secs(7)));
        let start = Instant::now();
        let ask = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            pace.throttled(Some(Duration::from_secs(7)));
        };
        tokio::join!(pace.wait(), ask);
        assert_eq!(start.elapsed().as_secs(), 12);
    }

    /// How long the next request of a new poll waits, once a crowd is in line after ten bad seconds and its poll has
    /// come to its end at this time.
    async fn wait_after_a_bad_minute(crowd: usize, requests_per_second: Option<f64>) -> Duration {
        let pace = Pace::new(requests_per_second);
        let waiting = async {
            futures_util::future::join_all((0..crowd).map(|_| pace.wait())).await;
            std::future::pending::<()>().await;
        };
        let throttling = async {
            for _ in 0..10 {
                pace.throttled(None);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            tokio::time::sleep(Duration::from_secs(230)).await;
        };
        tokio::select! {
            () = waiting => unreachable!("it never ends"),
            () = throttling => {}
        }
        let start = Instant::now();
        pace.wait().await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_that_ends_leaves_nothing_reserved() {
        for crowd in [1, 8, 64, 128, 256, 1000] {
            for pace in [None, Some(10.0), Some(0.5)] {
                let waited = wait_after_a_bad_minute(crowd, pace).await;
                assert!(waited <= SLOWEST, "{crowd} requests at {pace:?}: {waited:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_in_line_take_the_pace_that_has_recovered() {
        let pace = Pace::new(Some(10.0));
        for _ in 0..10 {
            pace.throttled(None);
            tokio::time::advance(ONE_THROTTLING).await;
        }
        // At the slowest pace that would take 1280 seconds.
        let start = Instant::now();
        futures_util::future::join_all((0..128).map(|_| pace.wait())).await;
        assert!(start.elapsed() < Duration::from_secs(150), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn knows_whether_requests_wait_for_throttling_or_for_the_configured_pace() {
        let pace = Pace::new(Some(0.1));
        pace.wait().await;
        assert!(!pace.is_throttled());
        pace.throttled(Some(Duration::from_secs(300)));
        assert!(pace.is_throttled());
        tokio::time::advance(Duration::from_secs(300)).await;
        assert!(!pace.is_throttled());
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
