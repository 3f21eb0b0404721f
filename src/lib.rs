//! container-registry-exporter polls the management APIs of cloud container registries on a schedule and serves what
//! it finds as Prometheus metrics.
//!
//! ```text
//! config ──> provider (swr, ncr; through client) ──> inventory ──> scheduler ──> exposition ──> server
//! ```
//!
//! Data flows one way. A [`scheduler::Source`] polls one account: it asks a [`provider::Provider`] for whole listings,
//! keeps the last good ones as an [`inventory::Inventory`] and publishes that on a channel. [`exposition`] turns what
//! is published into the bytes of the page, once per poll; [`server`] hands these bytes to whoever asks. A scrape
//! never waits for a cloud, and a cloud that fails never empties the page.
//!
//! A module imports only from those above it in this list, which is also the order to read them in:
//!
//! - [`inventory`]: the model, free of I/O: sources, repositories, tags, and what is unknown of them
//! - [`telemetry`]: what the exporter says about itself: its own metrics and its log
//! - [`config`]: file and environment to a checked configuration, or to all its problems at once
//! - [`client`]: one request to an API: pace, retries, limits, the page walk, the guard of a credential
//! - [`provider`]: the trait, and one folder per cloud: wire format, signature, authentication, which calls to make
//! - [`scheduler`]: one task per source: when to poll, what to keep after a failure, which tags to read again
//! - [`state`]: what the sources know, kept on disk for the next start
//! - [`exposition`]: the table of metrics, limits, text and compression, the page
//! - [`server`]: listeners, TLS and users, routes, the page for people
//! - [`cli`]: commands and flags
//! - [`app`]: puts the stages together and keeps them together
//!
//! [`simulator`] stands apart: both clouds as real HTTP servers for `demo` and the tests. It imports nothing from
//! the others, so that it cannot share their mistakes.

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
pub mod state;
pub mod telemetry;
