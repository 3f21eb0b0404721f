//! What each fuzz target does with an input: used by the targets, and by the ordinary test that replays the corpus.

pub mod accept;
pub mod configuration;
pub mod content_range;
pub mod credentials;
pub mod error_body;
mod json;
pub mod labels;
pub mod ncr_wire;
pub mod query;
pub mod retry_after;
pub mod signing;
pub mod snapshot;
pub mod swr_wire;
pub mod temporary_key;
pub mod texts;
pub mod web_configuration;
