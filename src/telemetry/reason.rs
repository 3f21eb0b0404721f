//! Why something failed, in a closed set of words, and what to do about it.

/// Why something failed; the value of the label `reason` and of the log field of that name.
///
/// The README has a row for each, with the texts of [`Reason::what_happened`] and [`Reason::cure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No connection: name not found, refused, reset.
    Connect,
    /// The TLS handshake failed, usually over a certificate.
    Tls,
    /// No answer within the request's or the poll's time.
    Timeout,
    /// The credential was refused.
    Unauthorized,
    /// The credential is good but lacks a permission.
    Forbidden,
    /// No such repository, organization or registry.
    NotFound,
    /// Too many requests.
    Throttled,
    /// The API answered with a server error.
    Server,
    /// The answer was not what the API documents.
    Decode,
    /// The answer was larger than any real one.
    TooLarge,
    /// The pages of a listing do not make a whole.
    Incomplete,
    /// The answer broke the rules of HTTP or of the API: a redirect, an unexpected status.
    Protocol,
}

impl Reason {
    /// All of them, in the order of the README's table.
    pub const ALL: [Self; 12] = [
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Throttled,
        Self::Server,
        Self::Decode,
        Self::TooLarge,
        Self::Incomplete,
        Self::Protocol,
    ];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Throttled => "throttled",
            Self::Server => "server",
            Self::Decode => "decode",
            Self::TooLarge => "too_large",
            Self::Incomplete => "incomplete",
            Self::Protocol => "protocol",
        }
    }

    /// What happened, for people.
    pub fn what_happened(self) -> &'static str {
        self.texts()[0]
    }

    /// What to do about it, for people.
    pub fn cure(self) -> &'static str {
        self.texts()[1]
    }

    fn texts(self) -> [&'static str; 2] {
        match self {
            Self::Connect => {
                ["No connection: name not found, refused, reset", "Check endpoint, DNS, firewall, proxy_url"]
            }
            Self::Tls => [
                "The TLS handshake failed",
                "Check the system's authorities (package ca-certificates) or tls.ca_file, the clock, and proxies that break up TLS",
            ],
            Self::Timeout => [
                "No answer within request_timeout, or the poll did not end within timeout",
                "Raise these and interval; see api_wait_seconds_total: if requests wait for the pace, raise requests_per_second",
            ],
            Self::Unauthorized => [
                "The credential was refused, or cannot be had. The exporter then waits 6, 12, then 30 minutes before it tries again, so that the key is not locked",
                "Check key, region and clock (clock_skew_seconds; SWR allows 15 minutes, NCR 5). A changed key file is tried at once. The README has a table of what else can be wrong with credentials",
            ],
            Self::Forbidden => [
                "The credential is good but lacks a permission",
                "Give its user the permissions that the README lists. NCR: also check that the account is subscribed to the service",
            ],
            Self::NotFound => [
                "No such repository, organization or registry, or no such address",
                "Check organizations, registries, watch, endpoint. Tags of a repository that was just deleted: nothing",
            ],
            Self::Throttled => [
                "Too many requests, also after retries",
                "Lower requests_per_second, raise interval; look for others that use the account's quota",
            ],
            Self::Server => [
                "The API answered with a server error, also after retries",
                "Wait; then ask the cloud's support. The log has the message",
            ],
            Self::Decode => [
                "The answer was not what the API documents: HTML, broken JSON, wrong types",
                "Check that endpoint is the API and not a console or a proxy's login page; else report it",
            ],
            Self::TooLarge => [
                "The answer was larger than any real one (64 MiB for lists of repositories, 16 MiB for others)",
                "Check endpoint; else report it",
            ],
            Self::Incomplete => [
                "The pages of a listing did not make a whole, three times over: something changed all the time, or the API miscounts",
                "Usually passes. The old data stays meanwhile. If it lasts, report it",
            ],
            Self::Protocol => [
                "The answer broke the rules: a redirect, an unexpected status, pages without end",
                "Check endpoint (redirects are never followed: they would carry signatures to other hosts)",
            ],
        }
    }
}
