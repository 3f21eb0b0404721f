//! The model: what the sources said, free of I/O, clocks, HTTP and Prometheus.
//!
//! `None` always means *the API does not say*; it is never replaced by 0. Everything here is immutable once
//! built and shared by reference counting: a poll that changes one repository shares all the others with the
//! poll before.

use std::fmt;
use std::num::NonZeroI64;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

/// The name of a configured source, `[a-z0-9]+(-[a-z0-9]+)*`; the value of the label `source`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(Arc<str>);

impl SourceName {
    /// Takes `name` if it consists of groups of lower-case letters and digits joined by single hyphens.
    pub fn new(name: &str) -> Option<Self> {
        let group =
            |g: &str| !g.is_empty() && g.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        name.split('-').all(group).then(|| Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A point in time as nanoseconds since 1970-01-01T00:00:00Z, in eight bytes even when optional.
///
/// The epoch itself and what lies outside of the years 1678 to 2261 cannot be expressed: an API that names such
/// a time for an image means "never" (Go's zero time is 0001-01-01), so it counts as not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(NonZeroI64);

impl Timestamp {
    /// From nanoseconds since the epoch; `None` for what cannot be expressed.
    pub fn from_nanoseconds(nanoseconds: i128) -> Option<Self> {
        i64::try_from(nanoseconds).ok().and_then(NonZeroI64::new).map(Self)
    }

    /// From milliseconds since the epoch; `None` for what cannot be expressed.
    pub fn from_milliseconds(milliseconds: i64) -> Option<Self> {
        Self::from_nanoseconds(i128::from(milliseconds) * 1_000_000)
    }

    /// Nanoseconds since the epoch.
    pub fn nanoseconds(self) -> i64 {
        self.0.get()
    }
}

/// In UTC to the second, such as `2026-01-02T03:04:05Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.nanoseconds().div_euclid(1_000_000_000);
        jiff::Timestamp::from_second(seconds).expect("jiff knows the years -9999 to 9999").fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let nanoseconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let nanoseconds = i64::try_from(nanoseconds).unwrap_or(i64::MAX);
        Self(NonZeroI64::new(nanoseconds).unwrap_or(NonZeroI64::MIN))
    }
}

/// Which of a SWR account's two lists of shared images a row comes from; the value of the label `center`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Center {
    /// Shared by this account with others.
    Own,
    /// Shared by other accounts with this one.
    ThirdParty,
}

impl Center {
    /// The API's word, which is also the label value: `self` or `thirdparty`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "self",
            Self::ThirdParty => "thirdparty",
        }
    }
}

/// One repository as its provider's list describes it (NCR calls it an image and its organization a registry).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repository {
    /// SWR organization, NCR registry.
    pub organization: Box<str>,
    /// Name within the organization; may contain `/`.
    pub name: Box<str>,
    /// Size of all images in bytes.
    pub size_bytes: Option<u64>,
    /// Number of images (tags).
    pub images: Option<u64>,
    /// Downloads since the repository exists.
    pub downloads: Option<u64>,
    /// When the repository was created.
    pub created: Option<Timestamp>,
    /// When the repository last changed.
    pub updated: Option<Timestamp>,
    /// Whether everybody may pull.
    pub public: Option<bool>,
    /// The provider's category, such as `linux` or `database`.
    pub category: Option<Box<str>>,
    /// The pull address, without a tag.
    pub image: Option<Box<str>>,
    /// A hash of the names of the tags, where the list gives them: part of what tells whether the tags must be read
    /// again.
    pub tag_names_hash: Option<u64>,
}

/// One row of a list of shared images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedRepository {
    /// The list it comes from.
    pub center: Center,
    /// The organization of the account that owns it.
    pub organization: Box<str>,
    /// Name within the organization; may contain `/`.
    pub name: Box<str>,
    /// Size of all images in bytes.
    pub size_bytes: Option<u64>,
    /// Number of images (tags).
    pub images: Option<u64>,
    /// Downloads since the repository exists.
    pub downloads: Option<u64>,
    /// When the repository last changed.
    pub updated: Option<Timestamp>,
    /// Whether the share has not expired; only for [`Center::ThirdParty`].
    pub valid: Option<bool>,
    /// The account that owns it.
    pub owner_account: Option<Box<str>>,
    /// The provider's category.
    pub category: Option<Box<str>>,
}

/// One tag of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// The tag's name.
    pub name: Box<str>,
    /// Size in bytes as the provider states it.
    pub size_bytes: Option<u64>,
    /// When the image was created.
    pub created: Option<Timestamp>,
    /// When the tag was last pushed.
    pub updated: Option<Timestamp>,
    /// When an image behind the tag was last pulled.
    pub last_pulled: Option<Timestamp>,
    /// Digest and kind; kept only where `tags.info` asks for them, since they are longer than all the rest.
    pub info: Option<Box<TagInfo>>,
}

/// What identifies the image behind a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagInfo {
    /// Digest of the manifest, such as `sha256:…`.
    pub digest: Option<Box<str>>,
    /// `manifest` or `index`.
    pub kind: Option<&'static str>,
}

/// What is known of one repository's tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagSet {
    /// The number of images where the provider's repository list does not carry it: the tags listed.
    pub images: Option<u64>,
    /// The latest `updated` of all tags.
    pub last_push: Option<Timestamp>,
    /// The tags to expose: the newest first, ties by name.
    pub newest: Box<[Tag]>,
}

/// A repository together with its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the list says.
    pub repository: Arc<Repository>,
    /// What the tag listing says; `None` while it is unknown.
    pub tags: Option<Arc<TagSet>>,
}

impl Entry {
    /// The number of images: the repository list's own figure, else the number of tags listed.
    pub fn images(&self) -> Option<u64> {
        self.repository.images.or(self.tags.as_ref().and_then(|tags| tags.images))
    }
}

/// A source's repositories, of all its lists that are not too old.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repositories {
    /// Repositories listed, before filters and limits; `None` while one of the lists was never read.
    pub listed: Option<u64>,
    /// Whether this API states sizes and image counts at all, so that no rows add up to 0 of them.
    pub measured: bool,
    /// The organizations to report totals of: those named in the configuration, those listed, those of the rows;
    /// sorted. `None` for a source that watches single repositories and so knows no organization as a whole.
    pub organizations: Option<Vec<Box<str>>>,
    /// What the filters left, sorted by organization and name, each once.
    pub entries: Vec<Entry>,
}

/// What does not change about a source while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceInfo {
    /// Its name in the configuration.
    pub name: SourceName,
    /// `swr` or `ncr`.
    pub provider: &'static str,
    /// The cloud's name of the region.
    pub cloud_region: String,
    /// Host, and port if it is not the scheme's own, of the API.
    pub api_host: String,
}

/// Everything that one source said, as of its last good listings. `None` = unknown: not read yet, or withdrawn
/// because it became too old.
///
/// Comparing two costs little where they share their content, as those of successive polls do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// The source.
    pub source: Arc<SourceInfo>,
    /// Whether the last finished listing of the repositories succeeded; `None` until the first one ended.
    pub up: Option<bool>,
    /// The organizations that have a list of their own, by name, and whether it could be read last.
    pub organizations_up: Vec<(Box<str>, bool)>,
    /// The repositories.
    pub repositories: Option<Arc<Repositories>>,
    /// The shared repositories, sorted by center, organization and name, each once.
    pub shared: Option<Arc<[SharedRepository]>>,
}
