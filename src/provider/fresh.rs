//! What a cloud hands out for some hours - tokens, temporary keys - renewed in time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::client::{ApiError, Poll};
use crate::inventory::Timestamp;
use crate::telemetry::logging::chain;
use crate::telemetry::self_metrics::SourceMetrics;

/// It is renewed when a quarter of its life is left, and at most this much: a cloud that is down meanwhile has that
/// long to come back.
const LONGEST_REST: Duration = Duration::from_hours(1);
/// What says of no end is renewed after this time.
const LIFE_WITHOUT_END: Duration = Duration::from_hours(1);
/// After a failure nobody asks for so long; after each further one for twice as long, up to the longest. One without an
/// old one to go on with is remembered no longer than its poll: ten thousand repositories need not ask a service that
/// is down one after the other, but the next poll may find it well.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// The one in force, of which at most one is being renewed at any time.
pub struct Fresh<T> {
    metrics: SourceMetrics,
    renewal: tokio::sync::Mutex<()>,
    state: Mutex<State<T>>,
}

/// Something with an end.
pub struct Leased<T> {
    /// What is in force.
    pub value: T,
    /// Until when, if the cloud says so.
    pub expires: Option<Timestamp>,
}

struct State<T> {
    current: Option<Current<T>>,
    /// Renewals failed.
    pause: Option<Pause>,
    /// How the last one did, while there is no old one that is good.
    failure: Option<(Instant, ApiError)>,
}

struct Current<T> {
    value: Arc<T>,
    expires: Option<Timestamp>,
    renew_at: Timestamp,
}

/// Failures since the last success, and how long to leave it at that.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    failures: u32,
    until: Instant,
}

impl Pause {
    /// The pause after a failure, longer than the one `before`.
    pub fn after(before: Option<Self>) -> Self {
        let failures = before.map_or(0, |pause| pause.failures);
        let length = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
        Self { failures: failures + 1, until: Instant::now() + length }
    }

    /// How long it lasts yet.
    pub fn left(self) -> Option<Duration> {
        self.until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}

impl<T> Fresh<T> {
    /// Nothing yet; the end of what is in force goes to `metrics`.
    pub fn new(metrics: SourceMetrics) -> Self {
        let state = Mutex::new(State { current: None, pause: None, failure: None });
        Self { metrics, renewal: tokio::sync::Mutex::default(), state }
    }

    /// The one in force at `now`. If there is none, or it ends soon, or it is the one that was `refused`, `renew` gets
    /// another. While one renews it, and for a while after it failed, the old one is used as long as it is good.
    ///
    /// Errors: `renew` failed, now or a while ago in this poll, and there is none that is still good.
    pub async fn get(
        &self,
        poll: &Poll,
        now: Timestamp,
        refused: Option<&Arc<T>>,
        renew: impl Future<Output = Result<Leased<T>, ApiError>>,
    ) -> Result<Arc<T>, ApiError> {
        {
            let mut state = self.lock();
            let current = state.current.as_ref();
            if refused.is_some_and(|refused| current.is_some_and(|c| Arc::ptr_eq(&c.value, refused))) {
                state.current = None;
            }
        }
        if let Some(value) = self.lock().fresh(now) {
            return Ok(value);
        }
        let good = self.lock().good(now);
        let _turn = match good {
            None => self.renewal.lock().await,
            Some(good) => match self.renewal.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Ok(good),
            },
        };
        // Somebody else may have renewed it, or failed to, meanwhile.
        {
            let state = self.lock();
            if let Some(value) = state.fresh(now) {
                return Ok(value);
            }
            if state.good(now).is_none()
                && let Some((time, error)) = &state.failure
                && let Some(left) = state.pause.and_then(Pause::left)
                && *time > poll.started()
            {
                return Err(error.remembered(left));
            }
        }
        let outcome = renew.await;
        self.learn(now, outcome)
    }

    fn learn(&self, now: Timestamp, outcome: Result<Leased<T>, ApiError>) -> Result<Arc<T>, ApiError> {
        let mut state = self.lock();
        let source = self.metrics.name();
        match outcome {
            Ok(Leased { value, expires }) => {
                self.metrics.credentials_expiry(expires);
                state.failure = None;
                if state.pause.take().is_some() {
                    tracing::info!(source, "credential renewed again");
                }
                let (value, renew_at) = (Arc::new(value), renew_at(now, expires));
                state.current = Some(Current { value: Arc::clone(&value), expires, renew_at });
                Ok(value)
            }
            Err(error) => {
                let good = state.good(now);
                if good.is_some() && state.pause.is_none() {
                    let error = chain(&error);
                    tracing::warn!(source, error, "credential not renewed, the old one is still good");
                }
                state.pause = Some(Pause::after(state.pause));
                good.ok_or_else(|| {
                    state.failure = Some((Instant::now(), error.remembered(Duration::ZERO)));
                    error
                })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    /// The one in force, if it is not time to renew it.
    fn fresh(&self, now: Timestamp) -> Option<Arc<T>> {
        let early = self.current.as_ref().is_some_and(|current| now < current.renew_at);
        let paused = self.pause.is_some_and(|pause| pause.left().is_some());
        self.good(now).filter(|_| early || paused)
    }

    /// The one in force, unless it has ended.
    fn good(&self, now: Timestamp) -> Option<Arc<T>> {
        let current = self.current.as_ref()?;
        current.expires.is_none_or(|end| now < end).then(|| Arc::clone(&current.value))
    }
}

/// When to renew what came at `now` and ends at `end`.
fn renew_at(now: Timestamp, end: Option<Timestamp>) -> Timestamp {
    let whole = |duration: Duration| i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
    let start = i128::from(now.nanoseconds());
    let time = match end.map(|end| i128::from(end.nanoseconds())) {
        None => start + whole(LIFE_WITHOUT_END),
        Some(end) => end - ((end - start) / 4).clamp(0, whole(LONGEST_REST)),
    };
    Timestamp::from_nanoseconds(time).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use url::Url;

    use super::*;
    use crate::client::{Call, Cause};
    use crate::telemetry::self_metrics::SelfMetrics;

    fn fresh() -> Fresh<u32> {
        let name = crate::inventory::SourceName::new("a").unwrap();
        Fresh::new(SelfMetrics::new().source(&name, &[], Duration::from_secs(1)))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_milliseconds(1_700_000_000_000 + seconds * 1000).unwrap()
    }

    fn until(value: u32, end: i64) -> Leased<u32> {
        Leased { value, expires: Some(at(end)) }
    }

    fn failed() -> Result<Leased<u32>, ApiError> {
        let url = Url::parse("http://127.0.0.1/key").unwrap();
        let call = Call { operation: "key", method: "GET", url: &url, body_limit: 0 };
        let cause = Cause::Credential(std::io::Error::other("it is out"));
        Err(ApiError::new(call, 1, Duration::ZERO, cause))
    }

    /// What is in force at a time, if a renewal then had this outcome; and whether there was a renewal.
    async fn get(
        fresh: &Fresh<u32>,
        now: i64,
        outcome: Result<Leased<u32>, ApiError>,
    ) -> (Result<u32, String>, bool) {
        let asked = Cell::new(false);
        let renew = async {
            asked.set(true);
            outcome
        };
        let value = fresh.get(&Poll::new(None), at(now), None, renew).await;
        (value.map(|value| *value).map_err(|error| chain(&error)), asked.get())
    }

    #[tokio::test]
    async fn renews_when_a_quarter_of_its_life_is_left_and_at_the_latest_an_hour_before_its_end() {
        for (life, renewed_at) in [(3600, 2700), (24 * 3600, 23 * 3600)] {
            let fresh = fresh();
            assert_eq!(get(&fresh, 0, Ok(until(1, life))).await, (Ok(1), true));
            assert_eq!(get(&fresh, renewed_at - 1, Ok(until(2, life))).await, (Ok(1), false));
            assert_eq!(get(&fresh, renewed_at, Ok(until(2, 2 * life))).await, (Ok(2), true));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_old_one_is_used_while_it_is_good_and_renewals_fail() {
        let fresh = fresh();
        get(&fresh, 0, Ok(until(1, 1000))).await.0.unwrap();
        assert_eq!(get(&fresh, 800, failed()).await, (Ok(1), true));
        assert_eq!(get(&fresh, 999, failed()).await, (Ok(1), false));
        let (error, asked) = get(&fresh, 1000, failed()).await;
        assert!(asked);
        assert!(error.unwrap_err().ends_with("no credential: it is out"));
        assert_eq!(get(&fresh, 1010, Ok(until(2, 2000))).await, (Ok(2), true));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_make_pauses_that_grow_to_five_minutes() {
        let fresh = fresh();
        get(&fresh, 0, Ok(until(1, 1000))).await.0.unwrap();
        for pause in [10, 20, 40, 80, 160, 300, 300] {
            assert!(get(&fresh, 800, failed()).await.1);
            tokio::time::advance(Duration::from_secs(pause - 1)).await;
            assert!(!get(&fresh, 800, failed()).await.1, "before {pause} seconds");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_remembered_for_its_pause_and_its_poll() {
        let fresh = fresh();
        let asked = Cell::new(0);
        let renew = || async {
            asked.set(asked.get() + 1);
            tokio::time::sleep(Duration::from_millis(1)).await;
            failed()
        };
        let poll = Poll::new(None);
        let crowd = (0..10_000).map(|_| fresh.get(&poll, at(0), None, renew()));
        let answers = futures_util::future::join_all(crowd).await;
        let errors: Vec<String> = answers.into_iter().map(|answer| chain(&answer.unwrap_err())).collect();
        assert_eq!(asked.get(), 1);
        assert!(errors.iter().all(|error| error.contains("no credential: it is out")));
        assert!(errors[1].contains("; next attempt at "), "{}", errors[1]);
        for (pause, expected) in [(9, 1), (1, 2), (19, 2), (1, 3)] {
            tokio::time::advance(Duration::from_secs(pause)).await;
            assert!(fresh.get(&poll, at(0), None, renew()).await.is_err());
            assert_eq!(asked.get(), expected);
        }
        assert!(fresh.get(&Poll::new(None), at(0), None, renew()).await.is_err());
        assert_eq!(asked.get(), 4, "the next poll");
        assert_eq!(get(&fresh, 0, Ok(until(1, 1000))).await, (Ok(1), true));
    }

    #[tokio::test]
    async fn a_refused_one_is_replaced_once_and_only_if_it_is_still_in_force() {
        let fresh = fresh();
        let poll = Poll::new(None);
        let first = fresh.get(&poll, at(0), None, async { Ok(until(1, 1000)) }).await.unwrap();
        let second = fresh.get(&poll, at(1), Some(&first), async { Ok(until(2, 1000)) }).await.unwrap();
        let again = fresh.get(&poll, at(1), Some(&first), async { Ok(until(3, 1000)) }).await.unwrap();
        assert_eq!((*second, *again), (2, 2));
    }

    #[tokio::test]
    async fn one_renews_for_many_that_have_none_and_those_with_a_good_one_do_not_wait() {
        let (fresh, poll) = (fresh(), Poll::new(None));
        let renewals = Cell::new(0);
        let (go, gate) = tokio::sync::oneshot::channel::<()>();
        let slow = async {
            renewals.set(renewals.get() + 1);
            gate.await.unwrap();
            Ok(until(1, 1000))
        };
        let quick = || async {
            renewals.set(renewals.get() + 1);
            Ok(until(2, 1000))
        };
        let others: Vec<_> = (0..32).map(|_| fresh.get(&poll, at(0), None, quick())).collect();
        let open = async { go.send(()).unwrap() };
        let (first, others, ()) =
            tokio::join!(fresh.get(&poll, at(0), None, slow), futures_util::future::join_all(others), open);
        assert_eq!((*first.unwrap(), renewals.get()), (1, 1));
        assert!(others.into_iter().all(|other| *other.unwrap() == 1));

        let never = fresh.get(&poll, at(800), None, std::future::pending());
        let good = fresh.get(&poll, at(800), None, quick());
        tokio::select! {
            biased;
            _ = never => unreachable!("it never ends"),
            good = good => assert_eq!(*good.unwrap(), 1),
        }
    }
}
