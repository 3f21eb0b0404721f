//! What a cloud hands out for some hours - tokens, temporary keys - renewed in time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

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
/// Whoever has a good one in hand waits no longer than this for another: a service that falls silent takes nothing with
/// it that is still good.
const PATIENCE: Duration = Duration::from_secs(5);
/// One that had ended when it came is replaced after this time.
const LIFE_AFTER_END: Duration = Duration::from_mins(1);
/// None is renewed sooner after it came, as long as it is good.
const SHORTEST_INTERVAL: Duration = Duration::from_mins(1);

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
    /// It was said that they come after their end.
    told_of_end: bool,
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
        let state = Mutex::new(State { current: None, pause: None, failure: None, told_of_end: false });
        Self { metrics, renewal: tokio::sync::Mutex::default(), state }
    }

    /// The one in force at the time of `clock`. If there is none, or it ends soon, or it is the one that was `refused`,
    /// `renew` gets another. While one renews it, and for a while after it failed, the old one is used as long as it is
    /// good. One that has ended when it comes is used until it is refused: whoever hands it out knows the time, and this
    /// machine may not.
    ///
    /// Errors: `renew` failed, now or a while ago in this poll, and there is none that is still good.
    pub async fn get(
        &self,
        poll: &Poll,
        clock: impl Fn() -> Timestamp,
        refused: Option<&Arc<T>>,
        renew: impl Future<Output = Result<Leased<T>, ApiError>>,
    ) -> Result<Arc<T>, ApiError> {
        let now = clock();
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
        let _turn = match &good {
            None => self.renewal.lock().await,
            Some(good) => match self.renewal.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Ok(Arc::clone(good)),
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
        // Seldom, and large.
        let renew = Box::pin(renew);
        let Some(good) = good else {
            let outcome = renew.await;
            return self.learn(clock(), outcome);
        };
        let Ok(outcome) = timeout(PATIENCE, renew).await else {
            self.lock().fail(self.metrics.name(), &format!("no answer within {PATIENCE:?}"));
            return Ok(good);
        };
        self.learn(clock(), outcome)
    }

    /// Whether `value` is not to be sent any more, since it has ended or there is another in its place.
    pub fn is_over(&self, value: &Arc<T>, now: Timestamp) -> bool {
        let state = self.lock();
        !state
            .current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(&current.value, value) && current.is_good(now))
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
                let value = Arc::new(value);
                let ended = expires.filter(|end| *end <= now);
                if let Some(end) = ended
                    && !state.told_of_end
                {
                    tracing::warn!(
                        source,
                        %end,
                        %now,
                        "the credential had ended when it came and is used until it is refused; set this machine's clock right"
                    );
                }
                state.told_of_end = ended.is_some();
                let (expires, renew_at) = match ended {
                    Some(_) => (None, later(now, LIFE_AFTER_END)),
                    None => (expires, renew_at(now, expires)),
                };
                state.current = Some(Current { value: Arc::clone(&value), expires, renew_at });
                Ok(value)
            }
            Err(error) => {
                let good = state.good(now);
                if good.is_some() {
                    state.fail(source, &chain(&error));
                } else {
                    state.pause = Some(Pause::after(state.pause));
                }
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
        self.current.as_ref().filter(|current| current.is_good(now)).map(|current| Arc::clone(&current.value))
    }

    /// Notes that it could not be renewed while the old one is good.
    fn fail(&mut self, source: &str, error: &str) {
        if self.pause.is_none() {
            tracing::warn!(source, error, "credential not renewed, the old one is still good");
        }
        self.pause = Some(Pause::after(self.pause));
    }
}

impl<T> Current<T> {
    fn is_good(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|end| now < end)
    }
}

/// When to renew what came at `now` and ends at `end`.
fn renew_at(now: Timestamp, end: Option<Timestamp>) -> Timestamp {
    let Some(end) = end else { return later(now, LIFE_WITHOUT_END) };
    let (start, end) = (i128::from(now.nanoseconds()), i128::from(end.nanoseconds()));
    let rest = ((end - start) / 4).clamp(0, nanoseconds(LONGEST_REST));
    // What is handed out with seconds to live is not asked for anew each second of them.
    let early = later(now, SHORTEST_INTERVAL).nanoseconds();
    Timestamp::from_nanoseconds((end - rest).max(i128::from(early))).unwrap_or(now)
}

fn later(now: Timestamp, duration: Duration) -> Timestamp {
    Timestamp::from_nanoseconds(i128::from(now.nanoseconds()) + nanoseconds(duration)).unwrap_or(now)
}

fn nanoseconds(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
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
        let value = fresh.get(&Poll::new(None), || at(now), None, renew).await;
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
        let crowd = (0..10_000).map(|_| fresh.get(&poll, || at(0), None, renew()));
        let answers = futures_util::future::join_all(crowd).await;
        let errors: Vec<String> = answers.into_iter().map(|answer| chain(&answer.unwrap_err())).collect();
        assert_eq!(asked.get(), 1);
        assert!(errors.iter().all(|error| error.contains("no credential: it is out")));
        assert!(errors[1].contains("; next attempt at "), "{}", errors[1]);
        for (pause, expected) in [(9, 1), (1, 2), (19, 2), (1, 3)] {
            tokio::time::advance(Duration::from_secs(pause)).await;
            assert!(fresh.get(&poll, || at(0), None, renew()).await.is_err());
            assert_eq!(asked.get(), expected);
        }
        assert!(fresh.get(&Poll::new(None), || at(0), None, renew()).await.is_err());
        assert_eq!(asked.get(), 4, "the next poll");
        assert_eq!(get(&fresh, 0, Ok(until(1, 1000))).await, (Ok(1), true));
    }

    #[tokio::test]
    async fn a_refused_one_is_replaced_once_and_only_if_it_is_still_in_force() {
        let fresh = fresh();
        let poll = Poll::new(None);
        let first = fresh.get(&poll, || at(0), None, async { Ok(until(1, 1000)) }).await.unwrap();
        let second = fresh.get(&poll, || at(1), Some(&first), async { Ok(until(2, 1000)) }).await.unwrap();
        let again = fresh.get(&poll, || at(1), Some(&first), async { Ok(until(3, 1000)) }).await.unwrap();
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
        let others: Vec<_> = (0..32).map(|_| fresh.get(&poll, || at(0), None, quick())).collect();
        let open = async { go.send(()).unwrap() };
        let (first, others, ()) = tokio::join!(
            fresh.get(&poll, || at(0), None, slow),
            futures_util::future::join_all(others),
            open
        );
        assert_eq!((*first.unwrap(), renewals.get()), (1, 1));
        assert!(others.into_iter().all(|other| *other.unwrap() == 1));

        let never = fresh.get(&poll, || at(800), None, std::future::pending());
        let good = fresh.get(&poll, || at(800), None, quick());
        tokio::select! {
            biased;
            _ = never => unreachable!("it never ends"),
            good = good => assert_eq!(*good.unwrap(), 1),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_when_it_comes_is_used_and_asked_for_once_a_minute() {
        let fresh = fresh();
        assert_eq!(get(&fresh, 0, Ok(until(1, -86_400))).await, (Ok(1), true));
        assert_eq!(get(&fresh, 59, Ok(until(2, -86_400))).await, (Ok(1), false));
        assert_eq!(get(&fresh, 60, Ok(until(2, -86_400))).await, (Ok(2), true));
        // It was refused.
        let (poll, second) = (Poll::new(None), fresh.lock().good(at(60)).unwrap());
        let third = fresh.get(&poll, || at(60), Some(&second), async { Ok(until(3, 1000)) }).await;
        assert_eq!(*third.unwrap(), 3);
        assert_eq!(get(&fresh, 700, Ok(until(4, 1000))).await, (Ok(3), false));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_seconds_to_live_is_asked_for_again_when_it_has_ended() {
        let fresh = fresh();
        assert_eq!(get(&fresh, 0, Ok(until(1, 20))).await, (Ok(1), true));
        assert_eq!(get(&fresh, 19, Ok(until(2, 20))).await, (Ok(1), false));
        assert_eq!(get(&fresh, 20, Ok(until(2, 1000))).await, (Ok(2), true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_falls_silent_takes_no_good_one_with_it() {
        let (fresh, poll) = (fresh(), Poll::new(None));
        get(&fresh, 0, Ok(until(1, 1000))).await.0.unwrap();
        let started = Instant::now();
        for (time, waited) in [(800, 5), (801, 5), (900, 5)] {
            let good = fresh.get(&poll, || at(time), None, std::future::pending()).await;
            assert_eq!((*good.unwrap(), started.elapsed()), (1, Duration::from_secs(waited)));
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(get(&fresh, 900, Ok(until(2, 2000))).await, (Ok(2), true));
    }

    #[tokio::test]
    async fn one_that_has_ended_or_was_replaced_is_over() {
        let (fresh, poll) = (fresh(), Poll::new(None));
        let first = fresh.get(&poll, || at(0), None, async { Ok(until(1, 1000)) }).await.unwrap();
        assert_eq!([0, 999, 1000].map(|time| fresh.is_over(&first, at(time))), [false, false, true]);
        fresh.get(&poll, || at(900), None, async { Ok(until(2, 2000)) }).await.unwrap();
        assert!(fresh.is_over(&first, at(900)));
    }
}
