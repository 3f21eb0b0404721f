//! Keeps the exporter from locking its own key.
//!
//! Five refused calls in a row lock a Huawei key for five minutes, for everybody who uses it. So every poll sends
//! its first request to a host alone, a refusal stops whatever else wants to use that credential there, in every
//! source, and the next attempt is made only after some minutes. Hosts are apart: a region may refuse a token that is
//! meant for another one. What speaks against the key itself is counted over all hosts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Instant;
use url::{Position, Url};

use super::error::Cause;
use super::poll::Poll;
use crate::inventory::Timestamp;
use crate::telemetry::Reason;

/// How long to leave a refused credential alone: longer than Huawei's lock of five minutes, and then longer.
const WAITS: [Duration; 3] = [Duration::from_mins(6), Duration::from_mins(12), Duration::from_mins(30)];

/// Calls of a key that may be under way to hosts that have not accepted it yet, those counted that were refused in
/// the last minutes: two fewer than lock a key, for whoever else uses it.
const PLACES: usize = 3;
/// How long a refusal keeps its place: as long as Huawei counts and locks.
const REFUSAL_TIME: Duration = Duration::from_mins(5);

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
        let mut guards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Credentials that rotate would gather here for ever.
        if guards.len() > 100 {
            guards.retain(|_, guard| Arc::strong_count(guard) > 1 || guard.is_needed());
        }
        Arc::clone(guards.entry(hash.finalize().into()).or_default())
    }

    /// Lets every credential be tried again whose last attempt is longer ago than the first wait: whoever reloads
    /// the configuration may have mended something at the cloud.
    pub fn reloaded(&self) {
        for guard in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            for wait in guard.lock().hosts.values_mut().filter_map(|host| host.wait.as_mut()) {
                wait.until = wait.until.min(wait.refused + WAITS[0]);
            }
        }
    }
}

/// Watches over one credential, wherever it is used.
#[derive(Default)]
pub struct Guard {
    state: Mutex<State>,
    /// A probe has ended.
    changed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    hosts: HashMap<Box<str>, Host>,
    /// Probes under way, to any host.
    probes: usize,
    /// When the latest request was sent that any host accepted.
    accepted: Option<Instant>,
    /// When hosts said that the key itself is bad, since one accepted it.
    refusals: Vec<Instant>,
    /// What was said last.
    message: String,
}

/// What is known of the credential at one host.
#[derive(Default)]
struct Host {
    /// When the latest request was sent that it accepted.
    accepted: Option<Instant>,
    /// A request finds out whether the credential is good.
    probing: bool,
    /// The last that tried to had no answer that shows it.
    doubtful: bool,
    /// Refusals since it last accepted the credential.
    refusals: usize,
    wait: Option<Wait>,
}

struct Wait {
    refused: Instant,
    until: Instant,
    message: String,
}

/// Whether a request may be sent.
pub enum Turn {
    /// It may, and must keep the ticket, if there is one, until its answer was judged.
    Now(Option<Ticket>),
    /// Another request is finding out whether the credential is good: ask again when it has ended.
    Later(OwnedNotified),
}

/// Says that a request is under way that finds out whether the credential is good.
pub struct Ticket {
    guard: Arc<Guard>,
    host: Box<str>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.guard.lock();
        state.probes -= 1;
        state.host(&self.host).probing = false;
        drop(state);
        self.guard.changed.notify_waiters();
    }
}

impl Guard {
    /// Whether a request of this poll to `url` may be sent now. The first one to its host is alone until an answer
    /// showed that the credential is good there; and while none did to any host since the poll began, few such are
    /// under way in all. The last place is kept for hosts that are not in doubt, so that those that are never keep it
    /// from being found good.
    ///
    /// Errors: the credential was refused, and its time has not come.
    pub fn admit(self: &Arc<Self>, poll: &Poll, url: &Url) -> Result<Turn, Cause> {
        // Before looking, so that nothing is missed that changes afterwards.
        let changed = Arc::clone(&self.changed).notified_owned();
        let now = Instant::now();
        let mut state = self.lock();
        let key = host_of(url);
        state.host(key).check(now)?;
        state.refusals.retain(|time| now < *time + REFUSAL_TIME);
        let (probes, accepted) = (state.probes, state.accepted);
        let host = state.host(key);
        if host.accepted >= Some(poll.started()) {
            return Ok(Turn::Now(None));
        }
        let places = if host.doubtful { PLACES - 1 } else { PLACES };
        let full = accepted < Some(poll.started()) && state.refusals.len() + probes >= places;
        if state.host(key).probing || (full && probes > 0) {
            return Ok(Turn::Later(changed));
        }
        if full {
            let until = state.refusals[state.refusals.len() - places] + REFUSAL_TIME;
            let message =
                format!("{} times in five minutes, the last: {}", state.refusals.len(), state.message);
            return Err(waiting(&message, until, now));
        }
        state.probes += 1;
        let host = state.host(key);
        (host.probing, host.doubtful) = (true, true);
        Ok(Turn::Now(Some(Ticket { guard: Arc::clone(self), host: key.into() })))
    }

    /// Whether the credential may be sent to `url` now.
    ///
    /// Errors: it was refused there, and its time has not come.
    pub fn check(&self, url: &Url) -> Result<(), Cause> {
        self.lock().host(host_of(url)).check(Instant::now())
    }

    /// Notes that the host of `url` accepted the credential of a request that was sent at `sent`.
    pub(super) fn accept(&self, url: &Url, sent: Instant) {
        let mut state = self.lock();
        // What was refused later is news.
        state.refusals.retain(|time| *time > sent);
        state.accepted = state.accepted.max(Some(sent));
        let host = state.host(host_of(url));
        if host.wait.as_ref().is_none_or(|wait| wait.refused <= sent) {
            let accepted = host.accepted.max(Some(sent));
            *host = Host { accepted, probing: host.probing, ..Host::default() };
        }
    }

    /// Notes that the credential was refused, in these words, and the key itself is bad: it may not be refused many
    /// times more.
    pub(super) fn count(&self, message: &str) {
        let mut state = self.lock();
        state.refusals.push(Instant::now());
        message.clone_into(&mut state.message);
    }

    /// Begins the wait for the host of `url` after it refused the credential. Answers to requests that were under way
    /// at that moment add nothing.
    pub fn hold(&self, url: &Url, message: String) {
        let now = Instant::now();
        let mut state = self.lock();
        let host = state.host(host_of(url));
        if host.check(now).is_ok() {
            (host.accepted, host.doubtful) = (None, true);
            host.wait = Some(Wait { refused: now, until: now + wait_after(host.refusals), message });
            host.refusals += 1;
        }
    }

    /// Whether something is known that must not be forgotten.
    fn is_needed(&self) -> bool {
        let (state, now) = (self.lock(), Instant::now());
        state.hosts.values().any(|host| host.check(now).is_err())
            || state.refusals.iter().any(|time| now < *time + REFUSAL_TIME)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn host(&mut self, key: &str) -> &mut Host {
        if !self.hosts.contains_key(key) {
            self.hosts.insert(key.into(), Host::default());
        }
        self.hosts.get_mut(key).expect("it was inserted if it was not there")
    }
}

impl Host {
    fn check(&self, now: Instant) -> Result<(), Cause> {
        match &self.wait {
            Some(wait) if now < wait.until => Err(waiting(&wait.message, wait.until, now)),
            _ => Ok(()),
        }
    }
}

/// The error of a call with a credential that was refused.
fn waiting(message: &str, until: Instant, now: Instant) -> Cause {
    Cause::Waiting {
        reason: Reason::Unauthorized,
        message: format!("the credential was refused ({message})"),
        next_attempt: Timestamp::from(SystemTime::now() + (until - now)),
    }
}

/// How long to leave a credential alone that was refused again after so many refusals.
fn wait_after(refusals: usize) -> Duration {
    WAITS[refusals.min(WAITS.len() - 1)]
}

/// Host and port.
fn host_of(url: &Url) -> &str {
    &url[Position::BeforeHost..Position::AfterPort]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: &str) -> Url {
        Url::parse(&format!("https://{host}/v2/manage/repos")).unwrap()
    }

    fn guard() -> Arc<Guard> {
        Guards::default().of(&["key", "secret"])
    }

    /// What a request of a poll that begins now would get to hear.
    fn ask(guard: &Arc<Guard>, host: &str) -> &'static str {
        answer(&guard.admit(&Poll::new(None), &url(host)))
    }

    fn answer(turn: &Result<Turn, Cause>) -> &'static str {
        match turn {
            Ok(Turn::Now(Some(_))) => "alone",
            Ok(Turn::Now(None)) => "at will",
            Ok(Turn::Later(_)) => "later",
            Err(_) => "no",
        }
    }

    fn take(guard: &Arc<Guard>, poll: &Poll, host: &str) -> Ticket {
        match guard.admit(poll, &url(host)) {
            Ok(Turn::Now(Some(ticket))) => ticket,
            turn => panic!("{host}: {}", answer(&turn)),
        }
    }

    /// A probe of the host, which refuses the key.
    fn refuse(guard: &Arc<Guard>, host: &str) {
        let ticket = take(guard, &Poll::new(None), host);
        guard.count("status 401");
        guard.hold(&url(host), "status 401".to_owned());
        drop(ticket);
    }

    /// A probe of the host, which accepts the key.
    async fn accept(guard: &Arc<Guard>, host: &str) {
        let ticket = take(guard, &Poll::new(None), host);
        guard.accept(&url(host), Instant::now());
        drop(ticket);
        tokio::time::advance(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn waits_six_then_twelve_then_every_thirty_minutes() {
        let guard = guard();
        for minutes in [6, 12, 30, 30, 30] {
            guard.hold(&url("a"), "status 401".to_owned());
            guard.hold(&url("a"), "an answer that was under way".to_owned());
            tokio::time::advance(Duration::from_secs(minutes * 60 - 1)).await;
            assert_eq!(ask(&guard, "a"), "no", "before {minutes} minutes");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(ask(&guard, "a"), "alone", "after {minutes} minutes");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_accepted_credential_starts_again_at_six_minutes() {
        let guard = guard();
        refuse(&guard, "a");
        tokio::time::advance(WAITS[0]).await;
        accept(&guard, "a").await;
        refuse(&guard, "a");
        tokio::time::advance(WAITS[0]).await;
        assert_eq!(ask(&guard, "a"), "alone");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_before_a_refusal_does_not_end_its_wait() {
        let guard = guard();
        let sent = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        refuse(&guard, "a");
        guard.accept(&url("a"), sent);
        assert_eq!(ask(&guard, "a"), "no");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_allows_an_attempt_six_minutes_after_the_last() {
        let guards = Guards::default();
        let guard = guards.of(&["key", "secret"]);
        refuse(&guard, "a");
        tokio::time::advance(WAITS[0]).await;
        refuse(&guard, "a");
        tokio::time::advance(WAITS[0] / 2).await;
        guards.reloaded();
        assert_eq!(ask(&guard, "a"), "no");
        tokio::time::advance(WAITS[0] / 2).await;
        assert_eq!(ask(&guard, "a"), "alone");
    }

    #[test]
    fn sources_with_the_same_credential_share_a_guard_and_others_do_not() {
        let guards = Guards::default();
        assert!(Arc::ptr_eq(&guards.of(&["key", "secret"]), &guards.of(&["key", "secret"])));
        assert!(!Arc::ptr_eq(&guards.of(&["key", "secret"]), &guards.of(&["key", "other"])));
        assert!(!Arc::ptr_eq(&guards.of(&["key", "secret"]), &guards.of(&["keys", "ecret"])));
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_first_request_of_a_poll_is_alone_at_each_host() {
        let guard = guard();
        let poll = Poll::new(None);
        let ticket = take(&guard, &poll, "a");
        let Ok(Turn::Later(changed)) = guard.admit(&poll, &url("a")) else { panic!("not alone") };
        assert_eq!(ask(&guard, "a:8443"), "alone");
        guard.accept(&url("a"), Instant::now());
        drop(ticket);
        changed.await;
        assert_eq!(answer(&guard.admit(&poll, &url("a"))), "at will");
        assert_eq!(answer(&guard.admit(&poll, &url("b"))), "alone");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(ask(&guard, "a"), "alone", "the next poll");
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_refuses_silences_itself_alone() {
        let guard = guard();
        for host in ["a", "b", "c", "d"] {
            // Not against the key: a token for another region.
            guard.hold(&url(host), "status 401, code APIGW.0307".to_owned());
        }
        assert_eq!(ask(&guard, "a"), "no");
        assert_eq!(ask(&guard, "e"), "alone");
    }

    #[tokio::test(start_paused = true)]
    async fn ten_hosts_that_start_at_once_refuse_a_key_three_times_in_five_minutes() {
        let guard = guard();
        let poll = Poll::new(None);
        let tickets = ["a", "b", "c"].map(|host| take(&guard, &poll, host));
        let Ok(Turn::Later(changed)) = guard.admit(&poll, &url("d")) else { panic!("a fourth one") };
        for host in ["a", "b", "c"] {
            guard.count("status 401");
            guard.hold(&url(host), "status 401".to_owned());
        }
        drop(tickets);
        changed.await;
        assert_eq!(answer(&guard.admit(&poll, &url("d"))), "no");
        tokio::time::advance(REFUSAL_TIME.checked_sub(Duration::from_secs(1)).unwrap()).await;
        assert_eq!(ask(&guard, "d"), "no");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(ask(&guard, "d"), "alone");
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_that_refuse_a_key_again_and_again_leave_a_place_to_those_that_accept_it() {
        let guard = guard();
        for host in ["a", "b", "c", "good"] {
            if host == "good" {
                tokio::time::advance(REFUSAL_TIME).await;
                accept(&guard, host).await;
            } else {
                refuse(&guard, host);
            }
        }
        tokio::time::advance(WAITS[0]).await;
        refuse(&guard, "a");
        refuse(&guard, "b");
        assert_eq!(ask(&guard, "c"), "no");
        accept(&guard, "good").await;
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_that_do_not_answer_leave_a_place_to_those_that_do() {
        let guard = guard();
        let poll = Poll::new(None);
        // One exchange each, without an answer.
        drop(["a", "b", "c"].map(|host| take(&guard, &poll, host)));
        let _under_way = ["a", "b"].map(|host| take(&guard, &poll, host));
        assert_eq!(answer(&guard.admit(&poll, &url("c"))), "later");
        drop(take(&guard, &poll, "good"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_a_host_has_accepted_since_the_poll_began_needs_no_place() {
        let guard = guard();
        let poll = Poll::new(None);
        tokio::time::advance(Duration::from_millis(1)).await;
        accept(&guard, "good").await;
        let _tickets = ["a", "b", "c", "d", "e"].map(|host| take(&guard, &poll, host));
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_that_a_host_has_disproved_since_do_not_count() {
        let guard = guard();
        refuse(&guard, "a");
        refuse(&guard, "b");
        tokio::time::advance(Duration::from_millis(1)).await;
        accept(&guard, "good").await;
        refuse(&guard, "c");
        assert_eq!(ask(&guard, "d"), "alone");
    }
}
