//! One trait, [`Provider`], and the two clouds behind it.

pub mod encode;
pub mod fresh;
pub mod ncr;
pub mod operation;
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
    /// The lists in which the source's repositories come, each of which succeeds, fails and ages by itself: one for each
    /// organization or watched repository that has its own, and one without a name where there is but one.
    async fn listings(&self, poll: &Poll) -> Result<Listing<Box<str>>, ApiError>;

    /// Every repository of one of the [`Self::listings`], before `include` and `exclude`.
    async fn repositories(&self, poll: &Poll, listing: &str) -> Result<Listing<Repository>, ApiError>;

    /// What the account has of that which the configuration names, as far as one call tells: to find what was meant by
    /// a name that matches nothing.
    async fn existing(&self, _: &Poll) -> Result<Vec<Box<str>>, ApiError> {
        Ok(Vec::new())
    }

    /// One of the two lists of shared repositories, for sources that have them.
    async fn shared_repositories(
        &self,
        poll: &Poll,
        center: Center,
    ) -> Result<Listing<SharedRepository>, ApiError>;

    /// Every tag of one repository.
    async fn tags(&self, poll: &Poll, repository: &Repository) -> Result<TagListing, ApiError>;
}

/// What a repository has in tags.
#[derive(Debug)]
pub struct TagListing {
    /// The tags.
    pub listing: Listing<Tag>,
    /// Their number, where the list of repositories does not give it.
    pub images: Option<u64>,
}
