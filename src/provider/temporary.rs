//! Access keys that a service hands out for some hours: kept fresh, and guarded like any other credential.

pub mod answer;
pub mod metadata;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::fresh::{Fresh, Leased};
use crate::client::{Answer, ApiClient, ApiError, Call, Cause, Guard, Guards, Poll, Signed};
use crate::telemetry::Reason;
use crate::telemetry::logging::chain;
use crate::telemetry::self_metrics::SourceMetrics;

/// No answer with a key in it comes near this.
pub const BODY_LIMIT: usize = 64 * 1024;
/// Keys that one call may see end before it is answered.
const MOST_KEYS: u32 = 3;

/// An access key as it is now. It has no `Debug`.
pub struct AccessKey {
    /// Its public half.
    pub access_key: SecretString,
    /// Its secret half.
    pub secret_key: SecretString,
    /// To be sent with Huawei's temporary keys.
    pub security_token: Option<SecretString>,
}

impl AccessKey {
    /// The security token, or nothing.
    pub fn token(&self) -> &str {
        self.security_token.as_ref().map_or("", |token| token.expose_secret())
    }

    /// What makes it this key and no other.
    pub fn parts(&self) -> [&str; 3] {
        [self.access_key.expose_secret(), self.secret_key.expose_secret(), self.token()]
    }
}

/// The keys that one service hands out to one source.
pub struct TemporaryKeys {
    /// What service, and as whom: the same for sources that get the same keys.
    origin: String,
    guards: Guards,
    fresh: Fresh<AccessKey>,
    /// The key in force was handed out in place of one that the API had refused, and the API has not accepted it yet.
    on_probation: AtomicBool,
}

impl TemporaryKeys {
    /// None yet.
    pub fn new(origin: String, guards: Guards, metrics: SourceMetrics) -> Self {
        Self { origin, guards, fresh: Fresh::new(metrics), on_probation: AtomicBool::new(false) }
    }

    /// One authenticated call: `fetch` gets a key from the service, `sign` signs with it, and says whether a refusal
    /// is to count.
    ///
    /// A refused key is replaced by a new one, with which the call is made once more. If that is refused too, or the
    /// service has no other, the wait for refused credentials begins; a key that is renewed meanwhile ends it, but
    /// not if its predecessors were new ones that were refused: a service that hands out one bad key after another
    /// would have all of them tried.
    pub async fn send<F: Future<Output = Result<Leased<AccessKey>, ApiError>>>(
        &self,
        client: &ApiClient,
        poll: &Poll,
        call: Call<'_>,
        fetch: impl Fn() -> F,
        sign: impl Fn(&AccessKey, Arc<Guard>, bool) -> Result<Signed, Cause>,
    ) -> Result<Answer, ApiError> {
        let mut keys = 0;
        let (key, guard, outcome) = loop {
            let key = self.get(client, poll, call, None, fetch()).await?;
            let guard = self.guard(&key);
            let outcome =
                client.send(poll, call, || sign(self.alive(client, &key)?, Arc::clone(&guard), false)).await;
            keys += 1;
            if keys == MOST_KEYS || !matches!(outcome, Err(ApiError { cause: Cause::Ended, .. })) {
                break (key, guard, outcome);
            }
        };
        let Some(refusal) = refusal_of(&outcome) else {
            self.learn(&outcome);
            return outcome;
        };
        let other = self.get(client, poll, call, Some(&key), fetch()).await?;
        if other.parts() == key.parts() {
            guard.hold(call.url, refusal);
            return outcome.map_err(|error| match guard.check(call.url) {
                Err(cause) => ApiError { cause, ..error },
                Ok(()) => error,
            });
        }
        self.on_probation.store(true, Ordering::Relaxed);
        let guard = self.guard(&other);
        let outcome =
            client.send(poll, call, || sign(self.alive(client, &other)?, Arc::clone(&guard), true)).await;
        self.learn(&outcome);
        outcome
    }

    async fn get(
        &self,
        client: &ApiClient,
        poll: &Poll,
        call: Call<'_>,
        refused: Option<&Arc<AccessKey>>,
        fetch: impl Future<Output = Result<Leased<AccessKey>, ApiError>>,
    ) -> Result<Arc<AccessKey>, ApiError> {
        let started = Instant::now();
        let key = poll.within(self.fresh.get(poll, || client.now(), refused, fetch)).await;
        key.unwrap_or_else(|| {
            let cause = Cause::Timeout("the poll's time, before there was a key".to_owned());
            Err(ApiError::new(call, 0, started.elapsed(), cause))
        })
    }

    /// The key, unless it has ended: attempts wait, for their turn and for what the API asks.
    fn alive<'a>(&self, client: &ApiClient, key: &'a Arc<AccessKey>) -> Result<&'a AccessKey, Cause> {
        if self.fresh.is_over(key, client.now()) { Err(Cause::Ended) } else { Ok(key) }
    }

    /// Watches over a key, or over all that the service hands out.
    fn guard(&self, key: &AccessKey) -> Arc<Guard> {
        if self.on_probation.load(Ordering::Relaxed) {
            self.guards.of(&["temporary keys", &self.origin])
        } else {
            self.guards.of(&key.parts())
        }
    }

    /// Notes that the API accepted the key.
    fn learn(&self, outcome: &Result<Answer, ApiError>) {
        let accepted = match outcome {
            Ok(_) => true,
            Err(ApiError { cause: Cause::Refused { refusal, .. }, .. }) => {
                refusal.reason == Reason::Forbidden || refusal.reason == Reason::NotFound
            }
            Err(_) => false,
        };
        if accepted {
            self.on_probation.store(false, Ordering::Relaxed);
        }
    }
}

/// What the API said if it refused the key.
fn refusal_of(outcome: &Result<Answer, ApiError>) -> Option<String> {
    match outcome {
        Err(ApiError { cause: Cause::Refused { refusal, .. }, .. })
            if refusal.reason == Reason::Unauthorized =>
        {
            Some(refusal.to_string())
        }
        _ => None,
    }
}

/// The error of a service that gave no key, with what to do about it.
pub fn no_key(error: ApiError, cure: &str) -> ApiError {
    let cause = match error.cause {
        Cause::Waiting { reason, message, next_attempt } => {
            Cause::Waiting { reason, message: format!("{message}; {cure}"), next_attempt }
        }
        // What is wrong with a file says what to do.
        local @ Cause::Credential(_) => local,
        cause => {
            // What keeps us from asking is no verdict on what we are.
            let reason = match cause.reason() {
                own @ (Reason::Connect
                | Reason::Tls
                | Reason::Timeout
                | Reason::Throttled
                | Reason::Server) => own,
                _ => Reason::Unauthorized,
            };
            Cause::NoKey { reason, message: format!("{}; {cure}", chain(&cause)) }
        }
    };
    ApiError { cause, ..error }
}
