//! Huawei Cloud SWR (SoftWare Repository for Container), and its relatives that speak the same API.

pub mod auth;
pub mod keys;
pub mod sign;
pub mod token;
pub mod walk;
pub mod wire;

pub use walk::Swr;
