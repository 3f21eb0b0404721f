//! What the exporter says about itself: its own metrics and its log, and the closed sets of words they share.

pub mod logging;
mod reason;
pub mod self_metrics;

pub use reason::Reason;

/// The values of the label `field`: what an optional value of an answer feeds, by the family's name.
pub const UNREADABLE_FIELDS: [&str; 20] = [
    "repository_created_timestamp_seconds",
    "repository_downloads",
    "repository_images",
    "repository_info",
    "repository_public",
    "repository_size_bytes",
    "repository_updated_timestamp_seconds",
    "shared_repository_downloads",
    "shared_repository_images",
    "shared_repository_info",
    "shared_repository_size_bytes",
    "shared_repository_updated_timestamp_seconds",
    "shared_repository_valid",
    "tag_created_timestamp_seconds",
    "tag_info",
    "tag_last_pulled_timestamp_seconds",
    "tag_names",
    "tag_size_bytes",
    "tag_updated_timestamp_seconds",
    "total",
];

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
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Repositories, Self::SharedRepositories, Self::Tags];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Repositories => "repositories",
            Self::SharedRepositories => "shared_repositories",
            Self::Tags => "tags",
        }
    }
}
