//! What the exporter says about itself: its own metrics and its log, and the closed sets of words they share.

pub mod logging;
pub mod self_metrics;

/// One of the jobs of a poll; the value of the label `collector`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Collector {
    /// The list of repositories.
    Repositories,
    /// The lists of shared repositories (SWR).
    SharedRepositories,
    /// The tags, repository by repository.
    Tags,
}

impl Collector {
    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Repositories => "repositories",
            Self::SharedRepositories => "shared_repositories",
            Self::Tags => "tags",
        }
    }
}

/// Why something failed; the value of the label `reason` and of the log field of that name.
///
/// The README has a row for each that says what to do.
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
}
