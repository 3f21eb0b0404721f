//! NAVER Cloud Platform Container Registry (NCR).

pub mod keys;
pub mod sign;
pub mod walk;
pub mod wire;

pub use walk::Ncr;
