//! Keeps the exporter from locking its own key.
//!
//! Five refused calls in a row lock a Huawei key for five minutes, for everybody who uses it. So every poll sends
//! its first request alone, a refusal stops whatever else wants to use that credential, in every source, and the
//! next attempt is made only after some minutes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tokio::sync::MutexGuard;
use tokio::time::{Instant, timeout_at};

use super::error::Cause;
use crate::inventory::Timestamp;

/// How long to leave a refused credential alone: longer than Huawei's lock of five minutes, and then longer.
const WAITS: [Duration; 3] = [Duration::from_mins(6), Duration::from_mins(12), Duration::from_mins(30)];

/// The guards of all credentials, one for each, shared by the sources that use it.
#[derive(Clone, Default)]
pub struct Guards(Arc<Mutex<HashMap<[u8; 32], Arc<Guard>>>>);

impl Guards {
    /// The guard of the credential that consists of `parts`. Another part makes another credential, so a changed
    /// secret is tried at once.
    pub fn of(&self, parts: &[&str]) -> Arc<Guard> {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        let hash: [u8; 32] = hash.finalize().into();
        let mut guards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Credentials that rotate would gather here for ever.
        if guards.len() > 100 {
            guards.retain(|_, guard| Arc::strong_count(guard) > 1 || guard.check().is_err());
        }
        Arc::clone(guards.entry(hash).or_default())
    }

    /// Lets every credential be tried again whose last attempt is longer ago than the first wait: whoever reloads
    /// the configuration may have mended something at the cloud.
    pub fn reloaded(&self) {
        for guard in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let mut state = guard.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(wait) = &mut state.wait {
                wait.until = wait.until.min(wait.refused + WAITS[0]);
            }
        }
    }
}

/// Watches over one credential.
#[derive(Default)]
pub struct Guard {
    /// Held by the one request that finds out whether the credential is still good.
    probe: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Refusals since the credential was last found to be good.
    refusals: usize,
    wait: Option<Wait>,
}

#[derive(Clone)]
struct Wait {
    refused: Instant,
    until: Instant,
    message: String,
}

impl Guard {
    /// Waits until a request of this poll may be sent. The first comes back with a lock that it must keep until its
    /// answer is there: it is alone.
    ///
    /// Errors: the credential was refused and its time has not come.
    pub async fn admit(self: &Arc<Self>, poll: &Poll) -> Result<Option<MutexGuard<'_, ()>>, Cause> {
        self.check()?;
        if poll.is_proven(self) {
            return Ok(None);
        }
        let probe = self.probe.lock().await;
        self.check()?;
        Ok((!poll.is_proven(self)).then_some(probe))
    }

    /// Whether a request may be sent now.
    pub fn check(&self) -> Result<(), Cause> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.wait {
            Some(wait) if Instant::now() < wait.until => Err(Cause::Waiting {
                message: format!("the credential was refused ({})", wait.message),
                next_attempt: Timestamp::from(SystemTime::now() + (wait.until - Instant::now())),
            }),
            _ => Ok(()),
        }
    }

    /// Notes that the API refused the credential. Answers to requests that were under way at that moment add
    /// nothing.
    pub fn refuse(&self, message: String) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.wait.as_ref().is_some_and(|wait| now < wait.until) {
            return;
        }
        state.refusals += 1;
        state.wait = Some(Wait { refused: now, until: now + wait_after(state.refusals), message });
    }

    /// Notes that the API accepted the credential.
    fn accept(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }
}

/// How long to leave a credential alone after so many refusals.
fn wait_after(refusals: usize) -> Duration {
    WAITS[refusals.saturating_sub(1).min(WAITS.len() - 1)]
}

/// One poll: how long it may take, and which credential it has found to be good.
pub struct Poll {
    deadline: Option<Instant>,
    first_pages: bool,
    proven: Mutex<Option<Arc<Guard>>>,
}

impl Poll {
    /// A poll that begins now and must end by `deadline`.
    pub fn new(deadline: Option<Instant>) -> Self {
        Self { deadline, first_pages: false, proven: Mutex::new(None) }
    }

    /// A poll that reads only the first page of every listing.
    pub fn of_first_pages(deadline: Option<Instant>) -> Self {
        Self { first_pages: true, ..Self::new(deadline) }
    }

    /// Whether only the first page of every listing is wanted.
    pub fn first_pages(&self) -> bool {
        self.first_pages
    }

    /// When it must end.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether its time is up.
    pub fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// `future`, or `None` when the poll must end before it does.
    pub async fn within<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        match self.deadline {
            Some(deadline) => timeout_at(deadline, future).await.ok(),
            None => Some(future.await),
        }
    }

    fn is_proven(&self, guard: &Arc<Guard>) -> bool {
        let proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        proven.as_ref().is_some_and(|g| Arc::ptr_eq(g, guard))
    }

    /// Notes that an answer came which did not refuse the credential; `alone` if it was the first.
    pub(super) fn prove(&self, guard: &Arc<Guard>, alone: bool) {
        if alone {
            guard.accept();
            *self.proven.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(guard));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_six_then_twelve_then_every_thirty_minutes() {
        let guard = Guards::default().of(&["key", "secret"]);
        for minutes in [6, 12, 30, 30, 30] {
            guard.refuse("status 401".to_owned());
            guard.refuse("an answer that was under way".to_owned());
            tokio::time::advance(Duration::from_secs(minutes * 60 - 1)).await;
            assert!(guard.check().is_err(), "before {minutes} minutes");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(guard.check().is_ok(), "after {minutes} minutes");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_accepted_credential_starts_again_at_six_minutes() {
        let guard = Guards::default().of(&["key", "secret"]);
        guard.refuse(String::new());
        tokio::time::advance(WAITS[0]).await;
        Poll::new(None).prove(&guard, true);
        guard.refuse(String::new());
        tokio::time::advance(WAITS[0]).await;
        assert!(guard.check().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_allows_an_attempt_six_minutes_after_the_last() {
        let guards = Guards::default();
        let guard = guards.of(&["key", "secret"]);
        guard.refuse(String::new());
        tokio::time::advance(WAITS[0]).await;
        guard.refuse(String::new());
        tokio::time::advance(WAITS[0] / 2).await;
        guards.reloaded();
        assert!(guard.check().is_err());
        tokio::time::advance(WAITS[0] / 2).await;
        assert!(guard.check().is_ok());
    }

    #[test]
    fn sources_with_the_same_credential_share_a_guard_and_others_do_not() {
        let guards = Guards::default();
        assert!(Arc::ptr_eq(&guards.of(&["key", "secret"]), &guards.of(&["key", "secret"])));
        assert!(!Arc::ptr_eq(&guards.of(&["key", "secret"]), &guards.of(&["key", "other"])));
        assert!(!Arc::ptr_eq(&guards.of(&["key", "secret"]), &guards.of(&["keys", "ecret"])));
    }

    #[tokio::test]
    async fn only_the_first_request_of_a_poll_is_alone() {
        let guard = Guards::default().of(&["key"]);
        let poll = Poll::new(None);
        let probe = guard.admit(&poll).await.unwrap();
        assert!(probe.is_some());
        let mut second = Box::pin(guard.admit(&poll));
        assert!((&mut second).now_or_never().is_none());
        poll.prove(&guard, true);
        drop(probe);
        assert!(second.await.unwrap().is_none());
    }
}
