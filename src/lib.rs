//! container-registry-exporter polls the management APIs of cloud container registries on a schedule and serves
//! what it finds as Prometheus metrics.

pub mod app;
pub mod cli;
pub mod client;
pub mod config;
pub mod exposition;
pub mod inventory;
pub mod provider;
pub mod scheduler;
pub mod server;
pub mod simulator;
pub mod telemetry;
