//! The configuration: what a user can set, checked once and complete, so that no later stage checks again.
//!
//! `layers` puts the file and the environment into one tree of values; `validate` walks that tree key by key and
//! collects every problem it finds. `keys` is the list of everything that can be set, `value` reads one table of it.
//! [`secret`] holds what must never be printed.

mod address;
mod auth;
pub mod certificate;
mod cloud;
mod credentials;
pub mod duration;
pub mod key_service;
mod keys;
mod layers;
mod poll;
pub mod problem;
mod proxy;
pub mod reading;
pub mod secret;
pub mod tls;
mod validate;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;
use url::Url;

use crate::inventory::{Center, SourceName};
pub use address::is_loopback;
pub use key_service::{KeyService, Metadata, Oidc};
pub use problem::{ConfigError, Problem};
pub use proxy::Proxies;
pub use secret::Secret;
pub use tls::TlsFiles;

/// A valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// At least one source, sorted by name.
    pub sources: Vec<SourceConfig>,
    /// The directory where snapshots are kept for the next start; `None` = nothing is kept on disk.
    pub state: Option<PathBuf>,
}

impl Config {
    /// Reads the file at `path`, always as TOML. `environment` is the whole environment of the process: keys of the
    /// configuration (`CRE__…`) and the vendors' own variables are looked up there and nowhere else.
    ///
    /// Errors: every problem found, each with its key and the cure; no value of the file is repeated in them, for it
    /// might be a secret.
    pub fn load(path: &Path, environment: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let text = layers::read_file(path)?;
        Self::parse(&text, path.parent().unwrap_or(Path::new("")), environment)
    }

    /// As [`Config::load`], from `text`; paths in it are relative to `directory`.
    pub fn parse(
        text: &str,
        directory: &Path,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let problems = problem::Problems::default();
        let tree = layers::layer(text, environment, &problems)?;
        let sources = validate::sources(&tree, directory, environment, &problems);
        let state = validate::state(&tree, directory, &problems);
        problems.none_or_error()?;
        Ok(Self { sources, state })
    }
}

/// Whether the value of a variable is not UTF-8: whoever collects the environment puts this character where it cannot
/// read it. Nobody means it.
pub fn is_unreadable(value: &str) -> bool {
    value.contains(char::REPLACEMENT_CHARACTER)
}

/// One source: a cloud account (or part of one) to poll.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceConfig {
    /// The name in `[sources.NAME]`.
    pub name: SourceName,
    /// The cloud and what to read there.
    pub cloud: Cloud,
    /// When and how fast to poll.
    pub poll: PollConfig,
    /// Most inventory series of this source; `None` = no limit.
    pub series_limit: Option<u64>,
    /// Which repositories to keep, matched against `organization/repository`.
    pub repositories: Filter,
    /// Which tags to read and to expose.
    pub tags: TagsConfig,
    /// How to connect.
    pub connection: ConnectionConfig,
}

/// The two clouds.
#[derive(Clone, Debug, PartialEq)]
pub enum Cloud {
    /// Huawei Cloud SoftWare Repository for Container.
    Swr(SwrConfig),
    /// NAVER Cloud Platform Container Registry.
    Ncr(NcrConfig),
}

impl Cloud {
    /// The organizations (SWR) or registries (NCR) that are named; empty = all.
    pub fn organizations(&self) -> &[String] {
        match self {
            Self::Swr(swr) => &swr.organizations,
            Self::Ncr(ncr) => &ncr.registries,
        }
    }

    /// Whether single repositories are read instead of lists.
    pub fn watches(&self) -> bool {
        matches!(self, Self::Swr(swr) if !swr.watch.is_empty())
    }

    /// What kind of credential is used and where it comes from, for people.
    pub fn credential(&self) -> String {
        match self {
            Self::Swr(swr) => match &swr.auth {
                SwrAuth::AccessKey { access_key, security_token, .. } => {
                    let kind = if security_token.is_some() { "temporary access key" } else { "access key" };
                    format!("{kind} from {}", access_key.place())
                }
                SwrAuth::Password { account, username, password } => {
                    format!("password of {username} in account {account}, from {}", password.place())
                }
                SwrAuth::Token(file) => format!("token from {}", file.place()),
                SwrAuth::Temporary(service) => service.describe(),
            },
            Self::Ncr(ncr) => match &ncr.auth {
                NcrAuth::AccessKey { access_key, .. } => format!("access key from {}", access_key.place()),
                NcrAuth::ServerRole(metadata) => metadata.describe("role"),
            },
        }
    }

    /// Whether there is no credential but the one that a metadata service may give, of which nothing says that it is there.
    pub fn is_last_resort(&self) -> bool {
        match self {
            Self::Swr(SwrConfig { auth: SwrAuth::Temporary(KeyService::Metadata(metadata)), .. })
            | Self::Ncr(NcrConfig { auth: NcrAuth::ServerRole(metadata), .. }) => metadata.last_resort,
            _ => false,
        }
    }

    /// The listings of shared repositories to read.
    pub fn shared(&self) -> &[Center] {
        match self {
            Self::Swr(swr) => &swr.shared,
            Self::Ncr(_) => &[],
        }
    }
}

/// What is particular to Huawei Cloud SWR.
#[derive(Clone, Debug, PartialEq)]
pub struct SwrConfig {
    /// Region such as `cn-north-4`.
    pub region: String,
    /// Base address of the SWR API: no user, query or fragment, and no slash at the end but that of an empty path.
    pub endpoint: Url,
    /// Base address of IAM, of the same form.
    pub iam_endpoint: Url,
    /// Sent as `X-Project-Id`, and the scope of a password's token.
    pub project_id: Option<String>,
    /// The token's scope when there is no `project_id`; the region unless set.
    pub project_name: String,
    /// Exact organization names; empty = all.
    pub organizations: Vec<String>,
    /// The shared listings to read.
    pub shared: Vec<Center>,
    /// `(organization, repository)` pairs to read one by one instead of listing; empty = list.
    pub watch: Vec<(String, String)>,
    /// The credential.
    pub auth: SwrAuth,
}

/// How to authenticate to Huawei Cloud.
#[derive(Clone, Debug, PartialEq)]
pub enum SwrAuth {
    /// Signed requests (SDK-HMAC-SHA256).
    AccessKey {
        /// AK.
        access_key: Secret,
        /// SK.
        secret_key: Secret,
        /// Goes with a temporary key.
        security_token: Option<Secret>,
    },
    /// An IAM token made from a user's password.
    Password {
        /// Account (domain) name.
        account: String,
        /// IAM user name.
        username: String,
        /// Password.
        password: Secret,
    },
    /// An IAM token that somebody else renews, always from a file.
    Token(Secret),
    /// Signed requests with keys that a service hands out.
    Temporary(KeyService),
}

/// What is particular to NAVER Cloud Platform Container Registry.
#[derive(Clone, Debug, PartialEq)]
pub struct NcrConfig {
    /// `public`, `gov` or `fin`.
    pub site: Site,
    /// Region code: KR, SGN, JPN; gov: KR, KRS; fin: FKR.
    pub region: String,
    /// Base address of the API (`…/ncr/api/v2`): no user, query, fragment or slash at the end.
    pub endpoint: Url,
    /// Registry names; empty = every registry of the account.
    pub registries: Vec<String>,
    /// The credential.
    pub auth: NcrAuth,
}

/// How to authenticate to NAVER Cloud Platform: by signed requests, with one key or another.
#[derive(Clone, Debug, PartialEq)]
pub enum NcrAuth {
    /// A key that stays.
    AccessKey {
        /// Access key.
        access_key: Secret,
        /// Secret key.
        secret_key: Secret,
    },
    /// Keys of the role of the server that the exporter runs on.
    ServerRole(Metadata),
}

/// NAVER Cloud Platform's three separate sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// `public`
    Public,
    /// `gov`
    Government,
    /// `fin`
    Financial,
}

/// When and how fast to poll.
#[derive(Clone, Debug, PartialEq)]
pub struct PollConfig {
    /// From the start of a poll to the start of the next.
    pub interval: Duration,
    /// One whole poll; shorter than the interval.
    pub timeout: Duration,
    /// One API call.
    pub request_timeout: Duration,
    /// Data without success for so long is withdrawn.
    pub stale_after: Duration,
    /// Paces all API calls of the source; `None` = no pace.
    pub requests_per_second: Option<f64>,
    /// API calls under way at once, at least 1.
    pub max_concurrent_requests: usize,
}

/// Which tags to read and to expose.
#[derive(Clone, Debug, PartialEq)]
pub struct TagsConfig {
    /// Whether to read tags at all.
    pub enabled: bool,
    /// Tags exposed per repository, the newest first; `None` = all.
    pub newest: Option<usize>,
    /// Which tags to expose, matched against the tag's name.
    pub filter: Filter,
    /// Whether to expose digest and kind.
    pub info: bool,
    /// Every repository's tags are read at least once in this time.
    pub full_sweep: Duration,
}

/// Names to keep: one of `include` (empty = any) and none of `exclude`, each matched against the whole name.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Anchored at both ends.
    pub include: Vec<Regex>,
    /// Anchored at both ends.
    pub exclude: Vec<Regex>,
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        let texts = |regexes: &[Regex]| regexes.iter().map(|r| r.as_str().to_owned()).collect::<Vec<_>>();
        texts(&self.include) == texts(&other.include) && texts(&self.exclude) == texts(&other.exclude)
    }
}

impl Filter {
    /// Whether `name` is to be kept.
    pub fn keeps(&self, name: &str) -> bool {
        (self.include.is_empty() || self.include.iter().any(|r| r.is_match(name)))
            && !self.exclude.iter().any(|r| r.is_match(name))
    }

    /// Whether the repository `organization/name` is to be kept.
    pub fn keeps_repository(&self, organization: &str, name: &str) -> bool {
        self.is_empty() || self.keeps(&format!("{organization}/{name}"))
    }

    /// Whether everything is kept.
    pub fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }
}

/// How to connect to a source's addresses, that of IAM included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectionConfig {
    /// Certificates and keys.
    pub tls: TlsFiles,
    /// `proxy_url`, or what `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say.
    pub proxies: Proxies,
}
