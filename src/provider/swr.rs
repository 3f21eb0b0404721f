//! Huawei Cloud SWR (SoftWare Repository for Container).

pub mod sign;
pub mod wire;
