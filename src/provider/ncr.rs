//! NAVER Cloud Platform Container Registry.

pub mod sign;
pub mod wire;
