//! Why a call failed, and how to say so.

use std::cmp::Reverse;
use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::{Call, connection};
use crate::inventory::Timestamp;
use crate::telemetry::Reason;
use crate::telemetry::logging::chain;

/// A call that failed for good: what was tried on what, how often and how long, and what came back.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {method} {url} failed after {attempts} attempt(s) in {elapsed:.1?}")]
pub struct ApiError {
    /// What was to be done, such as `list_tags`.
    pub operation: &'static str,
    /// HTTP method.
    pub method: &'static str,
    /// Address without its query.
    pub url: String,
    /// Requests sent.
    pub attempts: u32,
    /// From the first attempt to the end of the last.
    pub elapsed: Duration,
    /// What came back.
    #[source]
    pub cause: Cause,
}

impl ApiError {
    /// The error of a call that ended with `cause`.
    pub fn new(call: Call<'_>, attempts: u32, elapsed: Duration, cause: Cause) -> Self {
        let mut url = call.url.clone();
        url.set_query(None);
        Self { operation: call.operation, method: call.method, url: url.into(), attempts, elapsed, cause }
    }

    /// The error of a call that cannot be made, since a name cannot be part of an address.
    pub fn unusable(operation: &'static str, endpoint: &url::Url, problem: &dyn fmt::Display) -> Self {
        let call = Call { operation, method: "GET", url: endpoint, body_limit: 0 };
        Self::new(call, 0, Duration::ZERO, Cause::Protocol(problem.to_string()))
    }

    /// The word of the closed set for metrics, log and page.
    pub fn reason(&self) -> Reason {
        self.cause.reason()
    }

    /// Whether the service itself, in its own form, says that there is no such thing.
    pub fn is_absence(&self) -> bool {
        matches!(&self.cause, Cause::Refused { refusal, .. }
            if refusal.reason == Reason::NotFound && refusal.credential == Verdict::Accepted)
    }

    /// The error of the same call that was not made again, since it is not to be for so long.
    #[must_use]
    pub fn remembered(&self, left: Duration) -> Self {
        let later = Timestamp::from(SystemTime::now() + left);
        let (message, next_attempt) = match &self.cause {
            Cause::Waiting { message, next_attempt, .. } => (message.clone(), later.max(*next_attempt)),
            cause => (chain(cause), later),
        };
        let cause = Cause::Waiting { reason: self.reason(), message, next_attempt };
        let (elapsed, url) = (Duration::ZERO, self.url.clone());
        Self { operation: self.operation, method: self.method, url, attempts: 0, elapsed, cause }
    }

    /// What the API answered to `operation`; nothing where another step failed, such as getting a token.
    pub fn refusal_of(&self, operation: &str) -> Option<&Refusal> {
        match &self.cause {
            Cause::Refused { refusal, .. } if self.operation == operation => Some(refusal),
            _ => None,
        }
    }

    /// When a refused credential may be tried again.
    pub fn next_attempt(&self) -> Option<Timestamp> {
        match self.cause {
            Cause::Waiting { next_attempt, .. } => Some(next_attempt),
            _ => None,
        }
    }
}

/// What came back instead of a good answer.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// No connection, or it broke.
    #[error("no connection")]
    Connect(#[source] reqwest::Error),
    /// The connection's end is the body's, and came too early.
    #[error("the answer ends before its end")]
    Cut,
    /// The proxy on the way refused.
    #[error("{}", .0.words())]
    Proxy(ProxyRefusal),
    /// The TLS handshake failed.
    #[error("TLS failed{}", connection::words(.0).map(|words| format!(": {words}")).unwrap_or_default())]
    Tls(#[source] reqwest::Error),
    /// No answer in time; the text names which time.
    #[error("no answer within {0}")]
    Timeout(String),
    /// The API said no.
    #[error("{refusal}")]
    Refused {
        /// What it said.
        refusal: Refusal,
        /// The time that it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The poll ended while its source waited because the API had said that there were too many requests.
    #[error(
        "the API said that there were too many requests, and the poll ended before the wait that this caused"
    )]
    Throttled,
    /// The credential was refused, or could not be had, a while ago, and is not tried again yet.
    #[error("{message}; next attempt at {next_attempt}")]
    Waiting {
        /// The word of the closed set for what happened then.
        reason: Reason,
        /// What happened then.
        message: String,
        /// When the next request may be sent.
        next_attempt: Timestamp,
    },
    /// The answer is not what the API documents.
    #[error("the answer cannot be read")]
    Decode(#[source] Box<dyn Error + Send + Sync>),
    /// The answer is larger than any real one.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The pages do not make a whole.
    #[error("the listing is incomplete: {0}")]
    Incomplete(String),
    /// The answer broke the rules of HTTP or of the API.
    #[error("{0}")]
    Protocol(String),
    /// The credential cannot be had: a file that cannot be read.
    #[error("no credential")]
    Credential(#[source] std::io::Error),
    /// The temporary credential ended before the request was sent.
    #[error("the temporary credential ended while the request waited")]
    Ended,
    /// A service hands out no credential, or cannot be reached.
    #[error("no credential: {message}")]
    NoKey {
        /// The word of the closed set.
        reason: Reason,
        /// What it said, and what to do about it.
        message: String,
    },
}

impl Cause {
    /// The word of the closed set.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Connect(_) | Self::Cut | Self::Proxy(_) => Reason::Connect,
            Self::Tls(_) => Reason::Tls,
            Self::Timeout(_) => Reason::Timeout,
            Self::Refused { refusal, .. } => refusal.reason,
            Self::Throttled => Reason::Throttled,
            Self::Waiting { reason, .. } | Self::NoKey { reason, .. } => *reason,
            Self::Credential(_) | Self::Ended => Reason::Unauthorized,
            Self::Decode(_) => Reason::Decode,
            Self::TooLarge(_) => Reason::TooLarge,
            Self::Incomplete(_) => Reason::Incomplete,
            Self::Protocol(_) => Reason::Protocol,
        }
    }
}

/// What a proxy refused. None of it mends itself within a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyRefusal {
    /// To serve who is not logged in.
    LogIn,
    /// To connect to the host. The library does not tell the status.
    Host,
}

impl ProxyRefusal {
    /// What happened and what to do.
    pub fn words(self) -> &'static str {
        match self {
            Self::LogIn => {
                "the proxy refused the log-in (status 407); check the user and the password in the address of the proxy"
            }
            Self::Host => {
                "the proxy did not connect to this host; its log tells why, or except the host from it (NO_PROXY)"
            }
        }
    }
}

/// A status that is not a success, as a provider reads it together with the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The word of the closed set.
    pub reason: Reason,
    /// The API's own code.
    pub code: Option<String>,
    /// The API's own words.
    pub message: Option<String>,
    /// What to do about it where the API's words do not tell; in words of ours, which nothing cuts.
    pub cure: Option<&'static str>,
    /// Whether the same request may succeed a little later.
    pub retry: bool,
    /// What it says about the credential.
    pub credential: Verdict,
}

/// What an answer says about the credential of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it may come from something in front of the API that never looked at it.
    Unknown,
    /// It is good: the answer comes from behind the authentication.
    Accepted,
    /// It is no good at this host, such as a token for another region, and may be good at another.
    RefusedHere,
    /// It is no good.
    Refused,
}

/// The longest text of an API that is kept, in characters: enough for every documented message.
const LONGEST_TEXT: usize = 300;
/// The longest text of anybody else: what comes without a code is a page or plain text.
const LONGEST_PLAIN_TEXT: usize = 200;

impl Refusal {
    /// Takes `secrets` out of the API's texts, some of which repeat the request, and cuts them to a sensible length.
    #[must_use]
    pub fn clean(mut self, secrets: &[&str]) -> Self {
        // A body that is repeated as text has its quotes and backslashes escaped.
        let escaped = secrets.iter().map(|secret| json!(secret).to_string());
        let escaped = escaped.map(|text| text[1..text.len() - 1].to_owned());
        let mut secrets: Vec<String> =
            secrets.iter().map(|secret| (*secret).to_owned()).chain(escaped).collect();
        secrets.retain(|secret| !secret.is_empty());
        // One may be part of another.
        secrets.sort_unstable_by_key(|secret| Reverse(secret.len()));
        let longest = if self.code.is_some() { LONGEST_TEXT } else { LONGEST_PLAIN_TEXT };
        for text in [&mut self.code, &mut self.message].into_iter().flatten() {
            for secret in &secrets {
                *text = text.replace(secret, "[redacted]");
            }
            if text.contains(char::is_whitespace) {
                *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            if let Some((end, _)) = text.char_indices().nth(longest) {
                text.truncate(end);
                text.push('…');
            }
        }
        self
    }
}

/// Clocks that differ by less than this many seconds make no signature invalid: NAVER allows five minutes, Huawei
/// fifteen.
const HARMLESS_SKEW_SECONDS: f64 = 120.0;

impl Refusal {
    /// Adds to a refused credential that this machine's clock is off, if it is by `skew` seconds: a signature carries
    /// its time.
    #[must_use]
    pub fn blame_clock(mut self, skew: Option<f64>) -> Self {
        let skew =
            skew.filter(|skew| self.reason == Reason::Unauthorized && skew.abs() > HARMLESS_SKEW_SECONDS);
        if let Some(skew) = skew {
            let side = if skew > 0.0 { "ahead of" } else { "behind" };
            let message = self.message.unwrap_or_default();
            let separator = if message.is_empty() { "" } else { "; " };
            let seconds = skew.abs();
            self.message = Some(format!(
                "{message}{separator}this machine's clock is {seconds:.0} s {side} the API's, set it right"
            ));
        }
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.status)?;
        if let Some(code) = &self.code {
            write!(f, ", code {}", code.escape_debug())?;
        }
        if let Some(message) = &self.message {
            write!(f, ", {message:?}")?;
        }
        if let Some(cure) = self.cure {
            write!(f, "; {cure}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(message: &str) -> Refusal {
        let message = Some(message.to_owned());
        let credential = Verdict::Refused;
        Refusal {
            status: 401,
            reason: Reason::Unauthorized,
            code: None,
            message,
            cure: None,
            retry: false,
            credential,
        }
    }

    #[test]
    fn takes_secrets_out_before_it_cuts() {
        let secret = "s".repeat(400);
        let cleaned = refusal(&format!("x-security-token:{secret}|x-sdk-date")).clean(&["", &secret]);
        assert_eq!(cleaned.message.as_deref(), Some("x-security-token:[redacted]|x-sdk-date"));
    }

    #[test]
    fn names_the_clock_where_it_may_be_the_cause() {
        let of = |skew| refusal("bad signature").blame_clock(Some(skew)).message.unwrap();
        assert_eq!(of(-400.4), "bad signature; this machine's clock is 400 s behind the API's, set it right");
        assert_eq!(of(60.0), "bad signature");
    }

    #[test]
    fn takes_secrets_out_that_the_api_repeats_as_json() {
        let cleaned = refusal(r#"bad request {"password":"pass\"wörd\\1"}"#).clean(&["pass\"wörd\\1"]);
        assert_eq!(cleaned.message.as_deref(), Some(r#"bad request {"password":"[redacted]"}"#));
    }

    #[test]
    fn takes_a_secret_out_whole_where_another_is_a_part_of_it() {
        let cleaned = refusal("sent key-and-more").clean(&["key", "key-and-more"]);
        assert_eq!(cleaned.message.as_deref(), Some("sent [redacted]"));
    }

    #[test]
    fn shows_the_apis_texts_in_one_line() {
        let code = Some("a\nb\u{1b}[31m".to_owned());
        let shown = Refusal { code, ..refusal("c\r\nd") }.to_string();
        assert_eq!(shown, r#"status 401, code a\nb\u{1b}[31m, "c\r\nd""#);
    }

    #[test]
    fn keeps_the_cure_of_a_long_message() {
        let long = Refusal { cure: Some("set region"), ..refusal(&"x".repeat(1000)) };
        let shown = long.clean(&[]).to_string();
        assert!(shown.contains("xxx…") && shown.ends_with("; set region"), "{shown}");
    }

    #[test]
    fn cuts_a_long_message_at_a_character() {
        let cleaned = refusal(&"é".repeat(10_000)).clean(&[]);
        assert_eq!(cleaned.message, Some("é".repeat(LONGEST_PLAIN_TEXT) + "…"));
        let own = Refusal { code: Some("7".to_owned()), ..refusal(&"é".repeat(10_000)) }.clean(&[]);
        assert_eq!(own.message, Some("é".repeat(LONGEST_TEXT) + "…"));
    }

    #[test]
    fn makes_one_line_of_a_page() {
        let cleaned = refusal("upstream\n\n   said\tno\r\n").clean(&["a  b"]);
        assert_eq!(cleaned.message.as_deref(), Some("upstream said no"));
        assert_eq!(refusal("key a  b here").clean(&["a  b"]).message.as_deref(), Some("key [redacted] here"));
    }
}
