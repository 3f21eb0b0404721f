//! container-registry-exporter polls the management APIs of cloud container registries on a schedule and serves
//! what it finds as Prometheus metrics.

pub mod client;
pub mod config;
pub mod exposition;
pub mod inventory;
pub mod scheduler;
pub mod server;
pub mod telemetry;
