//! Metadata services and their like: what a cloud answers to its own servers, on an address that leads nowhere else.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use reqwest::{Method, Request};
use secrecy::zeroize::Zeroizing;
use tokio::time::Instant;
use url::Url;

use super::{BODY_LIMIT, no_key};
use crate::client::{Answer, ApiClient, ApiError, Call, Cause, Poll, Refusal, Signed, connection, sensitive};
use crate::config::{Metadata, PollConfig};
use crate::provider::fresh::Pause;
use crate::provider::refusal::{ErrorFields, from_answer};
use crate::telemetry::self_metrics::SourceMetrics;

/// Where there is no such service nothing answers, not even with a refusal; where there is one it answers at once.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// A key may have to be made first; the SDKs wait as long.
const KEY_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a session token is to live, in seconds: the longest that both clouds allow.
const SESSION_SECONDS: HeaderValue = HeaderValue::from_static("21600");

/// What differs between the clouds.
#[derive(Clone, Debug)]
pub struct Dialect {
    /// Where session tokens are made, with a PUT.
    pub session_path: &'static str,
    /// The header with the lifetime of a session token.
    pub lifetime_header: HeaderName,
    /// The header with the session token.
    pub session_header: HeaderName,
    /// The cloud, as it is called.
    pub cloud: &'static str,
    /// What the metadata service is configured by instead, if it was only tried for want of anything else.
    pub alternatives: &'static str,
}

/// One metadata service.
pub struct MetadataService {
    probe: ApiClient,
    keys: ApiClient,
    request_timeout: Duration,
    metadata: Metadata,
    dialect: Dialect,
    /// Nothing answered, and what was said about it.
    absent: Mutex<Option<(Pause, ApiError)>>,
}

/// A session that was begun, with its token unless the service knows none.
pub struct Session(Option<HeaderValue>);

impl MetadataService {
    /// The service at the address in `metadata`. No proxy is asked for it, and its answers are small and quick.
    ///
    /// Errors: no client can be made.
    pub fn new(
        metadata: &Metadata,
        dialect: Dialect,
        poll: &PollConfig,
        metrics: &SourceMetrics,
    ) -> io::Result<Self> {
        let request_timeout = poll.request_timeout;
        Ok(Self {
            request_timeout,
            probe: local_client(&metadata.endpoint, poll, PROBE_TIMEOUT, metrics)?,
            keys: local_client(&metadata.endpoint, poll, KEY_TIMEOUT, metrics)?,
            metadata: metadata.clone(),
            dialect,
            absent: Mutex::default(),
        })
    }

    /// Finds out whether the service is there, and begins a session with it if it knows sessions. Where nothing answers
    /// it is not asked again for a while.
    pub async fn begin(&self, poll: &Poll) -> Result<Session, ApiError> {
        let url = self.url(self.dialect.session_path);
        let call = Call { operation: "metadata_token", method: "PUT", url: &url, body_limit: BODY_LIMIT };
        if let Some((pause, error)) = &*self.absent()
            && let Some(left) = pause.left()
        {
            return Err(error.remembered(left));
        }
        let request = || {
            let mut request = Request::new(Method::PUT, url.clone());
            request.headers_mut().insert(self.dialect.lifetime_header.clone(), SESSION_SECONDS);
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            Ok(unguarded(request))
        };
        let poll = bounded(poll, PROBE_TIMEOUT.min(self.request_timeout));
        let answer = self.probe.send(&poll, call, request).await;
        let answer = match answer {
            Ok(answer) => answer,
            // Without sessions; the SDKs take these three for that.
            Err(error) if matches!(status(&error), Some(404 | 405 | 503)) => return Ok(Session(None)),
            Err(error) => {
                let absent = matches!(error.cause, Cause::Connect(_) | Cause::Timeout(_));
                let error = no_key(error, &self.where_it_is());
                if absent {
                    let mut absent = self.absent();
                    let pause = Pause::after(absent.as_ref().map(|(pause, _)| *pause));
                    *absent = Some((pause, error.remembered(Duration::ZERO)));
                }
                return Err(error);
            }
        };
        *self.absent() = None;
        let body = Zeroizing::new(answer.body);
        let token = std::str::from_utf8(&body).map(str::trim).unwrap_or_default();
        let token = if token.is_empty() {
            Err(Cause::Protocol("the answer is no token".to_owned()))
        } else {
            sensitive(token)
        };
        token
            .map(|token| Session(Some(token)))
            .map_err(|cause| no_key(ApiError::new(call, 1, Duration::ZERO, cause), &self.where_it_is()))
    }

    /// What stands at `path`. `cure` says what to do about a refusal with this status and message.
    pub async fn get(
        &self,
        poll: &Poll,
        session: &Session,
        operation: &'static str,
        path: &str,
        cure: impl Fn(u16, &str) -> &'static str,
    ) -> Result<Answer, ApiError> {
        let url = self.url(path);
        let call = Call { operation, method: "GET", url: &url, body_limit: BODY_LIMIT };
        let request = || {
            let mut request = Request::new(Method::GET, url.clone());
            if let Session(Some(token)) = session {
                request.headers_mut().insert(self.dialect.session_header.clone(), token.clone());
            }
            Ok(unguarded(request))
        };
        let poll = bounded(poll, KEY_TIMEOUT.min(self.request_timeout));
        let answer = self.keys.send(&poll, call, request).await;
        answer.map_err(|error| {
            let cure = match &error.cause {
                Cause::Connect(_) | Cause::Timeout(_) => self.where_it_is(),
                Cause::Refused { refusal, .. } => {
                    cure(refusal.status, refusal.message.as_deref().unwrap_or_default()).to_owned()
                }
                _ => cure(200, "").to_owned(),
            };
            no_key(error, &cure)
        })
    }

    /// An answer that came from `path` and is of no use.
    pub fn useless(&self, operation: &'static str, path: &str, cause: Cause, cure: &str) -> ApiError {
        let url = self.url(path);
        let call = Call { operation, method: "GET", url: &url, body_limit: BODY_LIMIT };
        no_key(ApiError::new(call, 1, Duration::ZERO, cause), cure)
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.metadata.endpoint.clone();
        url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        url
    }

    fn absent(&self) -> MutexGuard<'_, Option<(Pause, ApiError)>> {
        self.absent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to do where the service is not there.
    fn where_it_is(&self) -> String {
        let Dialect { cloud, alternatives, .. } = &self.dialect;
        if self.metadata.last_resort {
            format!(
                "no other credential is configured, and a metadata service is only there on servers of {cloud}: \
                 {alternatives}"
            )
        } else {
            format!(
                "the metadata service is only there on servers of {cloud}, and their security groups and network \
                 policies must allow it (169.254.169.254, TCP port 80)"
            )
        }
    }
}

/// A request to a metadata service, whose answers say nothing about a credential of ours: nobody waits for it.
fn unguarded(request: Request) -> Signed {
    Signed { request, guard: None, body_secret: None, guarded: false }
}

/// A client for a service close by, that has `timeout` for an answer.
///
/// Errors: no client can be made.
pub fn local_client(
    endpoint: &Url,
    poll: &PollConfig,
    timeout: Duration,
    metrics: &SourceMetrics,
) -> io::Result<ApiClient> {
    let poll = PollConfig {
        request_timeout: timeout.min(poll.request_timeout),
        requests_per_second: None,
        max_concurrent_requests: 1,
        ..poll.clone()
    };
    Ok(ApiClient::new(connection::direct_client(endpoint)?, classify, &poll, metrics.clone()))
}

/// A part of `poll` for one request that may take `time`. Half as long again is time for a second attempt where the
/// first was refused at once, but not for one that waits in vain.
fn bounded(poll: &Poll, time: Duration) -> Poll {
    let end = Instant::now() + time * 3 / 2;
    Poll::new(Some(poll.deadline().map_or(end, |deadline| deadline.min(end))))
}

/// Services close by answer in the clouds' usual forms, or in plain words.
pub fn classify(status: u16, body: &[u8]) -> Refusal {
    const FIELDS: ErrorFields = ErrorFields {
        inner: &["error"],
        codes: &["error_code", "code", "Code"],
        messages: &["error_msg", "message", "Message"],
    };
    let mut refusal = from_answer(status, body, FIELDS);
    if refusal.message.is_none() && refusal.code.is_none() {
        let words = std::str::from_utf8(body).map(str::trim).unwrap_or_default();
        refusal.message = (!words.is_empty() && !words.starts_with(['<', '{'])).then(|| words.to_owned());
    }
    refusal
}

/// The status of a refusal.
fn status(error: &ApiError) -> Option<u16> {
    match &error.cause {
        Cause::Refused { refusal, .. } => Some(refusal.status),
        _ => None,
    }
}
