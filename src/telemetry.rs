//! What the exporter says about itself: its own metrics and its log, and the closed sets of words they share.

pub mod logging;
mod reason;
pub mod self_metrics;

pub use reason::Reason;

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
