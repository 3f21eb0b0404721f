//! One request to a cloud's API: paced, signed anew at every attempt, retried, bounded in time and size.
//!
//! Knows HTTP and no cloud: how to sign a request and what an error body means comes from the provider.

pub mod connection;
pub mod error;
pub mod guard;
pub mod pace;
pub mod page;
pub mod poll;
pub mod retry;

use std::io::{self, Read as _};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use flate2::read::MultiGzDecoder;
use futures_util::FutureExt as _;
use reqwest::header::{HeaderMap, HeaderValue, LOCATION, TRANSFER_ENCODING};
use secrecy::{ExposeSecret, SecretString};
use serde::de::IgnoredAny;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::Proxies;
use crate::inventory::Timestamp;
use crate::telemetry::Reason;
use crate::telemetry::self_metrics::SourceMetrics;

pub use error::{ApiError, Cause, ProxyRefusal, Refusal, Verdict};
pub use guard::{Guard, Guards};
use guard::{Ticket, Turn};
use pace::Pace;
pub use page::{Listing, Next, Page, PageSizes, Pages, walk};
pub use poll::Poll;

/// The most that is read of an answer whose status is not a success.
const ERROR_BODY_LIMIT: usize = 64 * 1024;

/// One source's way to its cloud's API.
pub struct ApiClient {
    http: reqwest::Client,
    classify: fn(u16, &[u8]) -> Refusal,
    request_timeout: Duration,
    permits: Semaphore,
    pace: Pace,
    /// This machine's clock minus the service's, in nanoseconds, as the last answer showed it.
    clock_difference: AtomicI64,
    metrics: SourceMetrics,
    proxies: Proxies,
    guards: Guards,
}

/// What to call: for the error, the metrics and the limits.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What is to be done, such as `list_tags`; the label `operation`.
    pub operation: &'static str,
    /// HTTP method.
    pub method: &'static str,
    /// The address, its query included.
    pub url: &'a url::Url,
    /// Most bytes of a good answer, after decompression.
    pub body_limit: usize,
}

/// A request that is ready to be sent, once.
pub struct Signed {
    /// The request with its signature.
    pub request: reqwest::Request,
    /// Watches over the credential that signed it, unless a refusal would say nothing about one.
    pub guard: Option<Arc<Guard>>,
    /// A secret in the request's body, which must not come back in an error.
    pub body_secret: Option<SecretString>,
    /// Whether a 401 makes the guard wait. It does not where the provider can renew a token first.
    pub guarded: bool,
}

/// A good answer.
#[derive(Debug)]
pub struct Answer {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, decompressed.
    pub body: Vec<u8>,
    /// What the request said that must not come back in an error.
    secrets: Vec<HeaderValue>,
}

impl ApiClient {
    /// A client over `http`. `classify` reads a status that is not a success together with its body.
    pub fn new(
        http: reqwest::Client,
        classify: fn(u16, &[u8]) -> Refusal,
        poll: &crate::config::PollConfig,
        metrics: SourceMetrics,
    ) -> Self {
        Self {
            http,
            classify,
            request_timeout: poll.request_timeout,
            permits: Semaphore::new(poll.max_concurrent_requests),
            pace: Pace::new(poll.requests_per_second),
            clock_difference: AtomicI64::new(0),
            metrics,
            proxies: Proxies::default(),
            guards: Guards::default(),
        }
    }

    /// The client, whose `http` uses these proxies. One that refuses its log-in is left alone for some minutes by all
    /// that log in alike: directories lock accounts, too.
    #[must_use]
    pub fn through(mut self, proxies: &Proxies, guards: Guards) -> Self {
        (self.proxies, self.guards) = (proxies.clone(), guards);
        self
    }

    /// The proxy on the way to `url`, and what watches over the log-in there.
    fn proxy_for(&self, url: &url::Url) -> Option<(&url::Url, Arc<Guard>)> {
        let proxy = self.proxies.proxy_for(url)?;
        let log_in = ["proxy", proxy.username(), proxy.password().unwrap_or_default()];
        Some((proxy, self.guards.of(&log_in)))
    }

    /// What the service's clock shows, as far as its answers told. Its own judgement is what counts.
    pub fn now(&self) -> Timestamp {
        let ours = Timestamp::from(SystemTime::now()).nanoseconds();
        let theirs = ours.saturating_sub(self.clock_difference.load(Ordering::Relaxed));
        Timestamp::from_nanoseconds(theirs.into()).unwrap_or_else(|| SystemTime::now().into())
    }

    /// The metrics of the source.
    pub fn metrics(&self) -> &SourceMetrics {
        &self.metrics
    }

    /// Sends what `sign` returns until a good answer comes, an error that a repetition does not mend, or the end of
    /// the retries or of the poll's time. `sign` is called for every attempt, so that each has a time and signature
    /// of its own.
    pub async fn send(
        &self,
        poll: &Poll,
        call: Call<'_>,
        sign: impl Fn() -> Result<Signed, Cause>,
    ) -> Result<Answer, ApiError> {
        let started = Instant::now();
        let mut attempts = 0;
        let mut delays = retry::delays();
        let cause = loop {
            let cause = match self.attempt(poll, call, &sign, &mut attempts).await {
                Ok(answer) => return Ok(answer),
                Err(cause) => cause,
            };
            let Some(delay) = retry::delay(&cause, &mut delays) else { break cause };
            if poll.deadline().is_some_and(|deadline| Instant::now() + delay >= deadline) {
                break cause;
            }
            tracing::debug!(
                operation = call.operation,
                reason = cause.reason().as_str(),
                ?delay,
                "request failed, trying again"
            );
            self.metrics.retry(call.operation);
            self.waiting(sleep(delay)).await;
        };
        Err(ApiError::new(call, attempts, started.elapsed(), cause))
    }

    /// One attempt, from waiting for a turn to the last byte of the answer.
    async fn attempt(
        &self,
        poll: &Poll,
        call: Call<'_>,
        sign: &impl Fn() -> Result<Signed, Cause>,
        attempts: &mut u32,
    ) -> Result<Answer, Cause> {
        if let Some(guard) = sign()?.guard {
            guard.check(call.url)?;
        }
        let proxy = self.proxy_for(call.url);
        let proxy_admits =
            || proxy.as_ref().map_or(Ok(()), |(url, guard)| guard.check(url).map_err(of_proxy));
        proxy_admits()?;
        let turn = async {
            let permit = self.permits.acquire().await.expect("the semaphore is never closed");
            self.waiting(self.pace.wait()).await;
            // Last, since other sources wait for what follows.
            let (signed, ticket) = admitted(poll, call, sign).await?;
            proxy_admits()?;
            Ok::<_, Cause>((permit, signed, ticket))
        };
        let (_permit, signed, _ticket) = match poll.within(turn).await {
            Some(turn) => turn?,
            None if self.pace.is_throttled() => return Err(Cause::Throttled),
            None => return Err(Cause::Timeout("the poll's time, before its turn came".to_owned())),
        };
        *attempts += 1;
        let sent = Instant::now();
        let request_end = sent + self.request_timeout;
        let end = poll.deadline().map_or(request_end, |deadline| deadline.min(request_end));
        let exchange = timeout_at(end, self.exchange(call, signed.request, signed.body_secret)).await;
        let (status, outcome) = exchange.unwrap_or_else(|_| {
            let whose = if end == request_end { "the request's time" } else { "the poll's time" };
            (None, Err(Cause::Timeout(format!("{whose} ({:.1?})", end - sent))))
        });
        self.metrics.request(call.operation, status, sent.elapsed());
        if let Err(Cause::Refused { refusal, retry_after }) = &outcome
            && refusal.reason == Reason::Throttled
        {
            self.metrics.throttled();
            self.pace.throttled(*retry_after);
        }
        if let Some((url, guard)) = &proxy {
            match &outcome {
                Err(cause @ Cause::Proxy(ProxyRefusal::LogIn)) => guard.hold(url, cause.to_string()),
                _ if status.is_some() => guard.accept(url, sent),
                _ => {}
            }
        }
        if let Some(guard) = &signed.guard {
            judge(guard, call, signed.guarded, sent, status, &outcome)?;
        }
        outcome
    }

    /// `wait`, which counts as time that a request waited, however it ends.
    async fn waiting(&self, wait: impl Future<Output = ()>) {
        struct Waiting<'a>(&'a SourceMetrics, Instant);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.waited(self.1.elapsed());
            }
        }
        let mut wait = pin!(wait);
        if (&mut wait).now_or_never().is_none() {
            let _counted = Waiting(&self.metrics, Instant::now());
            wait.await;
        }
    }

    /// The error of a call whose good `answer` is not what was asked for: the `problem`, and what the answer says.
    pub fn unreadable(
        &self,
        call: Call<'_>,
        elapsed: Duration,
        answer: &Answer,
        problem: &serde_json::Error,
    ) -> ApiError {
        let body = &answer.body[..answer.body.len().min(ERROR_BODY_LIMIT)];
        let secrets: Vec<&str> = answer.secrets.iter().filter_map(|value| value.to_str().ok()).collect();
        let said = (self.classify)(200, body).clean(&secrets);
        ApiError::new(call, 1, elapsed, Cause::Decode(format!("{problem} ({said})").into()))
    }

    /// Sends a request and reads its answer; the status too, where one came.
    async fn exchange(
        &self,
        call: Call<'_>,
        request: reqwest::Request,
        body_secret: Option<SecretString>,
    ) -> (Option<u16>, Result<Answer, Cause>) {
        let secret_headers: Vec<HeaderValue> =
            request.headers().values().filter(|value| value.is_sensitive()).cloned().collect();
        let mut response = match self.http.execute(request).await {
            Ok(response) => response,
            Err(error) => return (None, Err(connection::cause(error))),
        };
        let status = response.status().as_u16();
        // No API sends it: it comes from the proxy that was asked for a plain address.
        if status == 407 {
            return (None, Err(Cause::Proxy(ProxyRefusal::LogIn)));
        }
        let skew = retry::clock_skew(response.headers(), SystemTime::now());
        if let Some(skew) = skew {
            self.metrics.clock_skew(skew);
            #[expect(clippy::cast_possible_truncation, reason = "no clock is off by 292 years")]
            self.clock_difference.store((skew * 1e9) as i64, Ordering::Relaxed);
        }
        let good = response.status().is_success();
        let unframed =
            response.content_length().is_none() && !response.headers().contains_key(TRANSFER_ENCODING);
        let limit = if good { call.body_limit } else { ERROR_BODY_LIMIT };
        let body = read_body(&mut response, limit).await;
        let outcome = match body {
            Ok(body) if good && unframed && ends_early(&body) => Err(Cause::Cut),
            Ok(body) if good => {
                Ok(Answer { headers: response.headers().clone(), body, secrets: secret_headers })
            }
            Err(cause) if good => Err(cause),
            // An error is an error even where its body cannot be read.
            body => {
                let secrets = secret_headers.iter().filter_map(|value| value.to_str().ok());
                let secrets: Vec<&str> =
                    secrets.chain(body_secret.as_ref().map(ExposeSecret::expose_secret)).collect();
                let mut refusal = (self.classify)(status, &body.unwrap_or_default());
                if let Some(target) = redirect(status, call.url, response.headers()) {
                    refusal.message = Some(target);
                }
                let refusal = refusal.clean(&secrets).blame_clock(skew);
                let retry_after = retry::retry_after(response.headers(), SystemTime::now());
                Err(Cause::Refused { refusal, retry_after })
            }
        };
        (Some(status), outcome)
    }
}

/// Waits until a request may be sent as far as its credential goes, and signs it. Its first of a poll comes with a
/// ticket.
///
/// Errors: the credential was refused and its time has not come, or there is none.
async fn admitted(
    poll: &Poll,
    call: Call<'_>,
    sign: &impl Fn() -> Result<Signed, Cause>,
) -> Result<(Signed, Option<Ticket>), Cause> {
    loop {
        // Anew after every wait: the credential may have changed, and a signature has its time.
        let signed = sign()?;
        let Some(guard) = &signed.guard else { return Ok((signed, None)) };
        match guard.admit(poll, call.url)? {
            Turn::Now(ticket) => return Ok((signed, ticket)),
            Turn::Later(changed) => changed.await,
        }
    }
}

/// Tells the guard what the outcome of a request that was sent at `sent` says about the credential.
///
/// Errors: the credential is refused, and when it may be tried again.
fn judge(
    guard: &Guard,
    call: Call<'_>,
    guarded: bool,
    sent: Instant,
    status: Option<u16>,
    outcome: &Result<Answer, Cause>,
) -> Result<(), Cause> {
    match outcome {
        Err(Cause::Refused { refusal, .. }) => match refusal.credential {
            Verdict::Unknown => {}
            Verdict::Accepted => guard.accept(call.url, sent),
            Verdict::RefusedHere | Verdict::Refused => {
                let message = refusal.to_string();
                if refusal.credential == Verdict::Refused {
                    guard.count(&message);
                }
                if guarded {
                    guard.hold(call.url, message);
                    guard.check(call.url)?;
                }
            }
        },
        // A good answer that cannot be read is one for all that.
        _ if status.is_some() => guard.accept(call.url, sent),
        _ => {}
    }
    Ok(())
}

/// The error of a call that waits for the log-in at the proxy, which says nothing about the API's credential.
fn of_proxy(waiting: Cause) -> Cause {
    match waiting {
        Cause::Waiting { message, next_attempt, .. } => {
            Cause::Waiting { reason: Reason::Connect, message, next_attempt }
        }
        other => other,
    }
}

/// Where a redirect leads, as host and path; a query may hold a secret.
fn redirect(status: u16, from: &url::Url, headers: &HeaderMap) -> Option<String> {
    let location = headers.get(LOCATION).filter(|_| (300..400).contains(&status))?;
    let to = from.join(location.to_str().ok()?).ok()?;
    Some(format!("it leads to {}{}", to.host_str().unwrap_or_default(), to.path()))
}

/// A header that no library's log shows.
///
/// Errors: the value has characters that no header can carry.
pub fn sensitive(value: &str) -> Result<HeaderValue, Cause> {
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        Cause::Credential(io::Error::other("a key or token has characters that no header can carry"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Collects a body of at most `limit` bytes, counted after decompression.
async fn read_body(response: &mut reqwest::Response, limit: usize) -> Result<Vec<u8>, Cause> {
    // Growing step by step would copy it several times and leave holes of many sizes in the heap.
    let stated = response.content_length().and_then(|length| usize::try_from(length).ok());
    let mut body = Vec::with_capacity(stated.unwrap_or_default().min(limit));
    while let Some(chunk) = response.chunk().await.map_err(connection::cause)? {
        if body.len() + chunk.len() > limit {
            return Err(Cause::TooLarge(limit));
        }
        body.extend_from_slice(&chunk);
    }
    // Whatever it is called, `gzip`, `x-gzip`, `GZIP` or nothing: no text begins like this.
    if body.starts_with(&[0x1f, 0x8b]) { unpack(&body, limit) } else { Ok(body) }
}

fn unpack(packed: &[u8], limit: usize) -> Result<Vec<u8>, Cause> {
    // Its last four bytes tell how long it becomes, if it is in one piece and they are right.
    let length = packed.last_chunk().map_or(0, |length| u32::from_le_bytes(*length));
    let mut body = Vec::with_capacity(usize::try_from(length).unwrap_or(limit).min(limit));
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    match MultiGzDecoder::new(packed).take(most).read_to_end(&mut body) {
        Ok(_) if body.len() > limit => Err(Cause::TooLarge(limit)),
        Ok(_) => Ok(body),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Cause::Cut),
        Err(error) => Err(Cause::Decode(format!("the body is gzip, and broken: {error}").into())),
    }
}

/// Whether JSON breaks off, of which nothing but its own end tells how long it is.
fn ends_early(body: &[u8]) -> bool {
    let began = matches!(body.trim_ascii_start().first(), Some(b'{' | b'['));
    began && serde_json::from_slice::<IgnoredAny>(body).is_err_and(|error| error.is_eof())
}
