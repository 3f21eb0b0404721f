//! One request to a cloud's API: paced, signed anew at every attempt, retried, bounded in time and size.
//!
//! Knows HTTP and no cloud: how to sign a request and what an error body means comes from the provider.

pub mod error;
pub mod page;

pub use error::{ApiError, Cause, Refusal};
pub use page::{Listing, Next, Page};
