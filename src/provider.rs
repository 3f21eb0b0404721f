//! One trait, [`Provider`], and the two clouds behind it.

pub mod encode;
pub mod fresh;
pub mod ncr;
pub mod refusal;
pub mod swr;
pub mod temporary;
pub mod value;

use async_trait::async_trait;

use crate::client::{ApiError, Listing, Poll};
use crate::inventory::{Center, Repository, SharedRepository, Tag};

/// What the scheduler can ask of a cloud. Every answer is whole: a listing of which a page is missing is an error.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Every repository that the source's configuration selects, before `include` and `exclude`.
    async fn repositories(&self, poll: &Poll) -> Result<RepositoryListing, ApiError>;

    /// One of the two lists of shared repositories, for sources that have them.
    async fn shared_repositories(
        &self,
        poll: &Poll,
        center: Center,
    ) -> Result<Listing<SharedRepository>, ApiError>;

    /// Every tag of one repository.
    async fn tags(&self, poll: &Poll, repository: &Repository) -> Result<TagListing, ApiError>;
}

/// What a source has in repositories.
#[derive(Debug, Default)]
pub struct RepositoryListing {
    /// Sorted by organization and name, each once.
    pub rows: Vec<Repository>,
    /// Repositories that the API listed, those of organizations included that were not asked for.
    pub listed: u64,
    /// Rows that the API listed again.
    pub duplicates: u64,
    /// The stated totals minus the rows.
    pub mismatch: i64,
    /// Organizations that exist whether or not they have rows; `None` where single repositories are watched.
    pub organizations: Option<Vec<Box<str>>>,
}

/// What a repository has in tags.
#[derive(Debug)]
pub struct TagListing {
    /// The tags.
    pub listing: Listing<Tag>,
    /// Their number, where the list of repositories does not give it.
    pub images: Option<u64>,
}
