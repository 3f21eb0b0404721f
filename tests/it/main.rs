//! The integration tests: everything that opens a socket, reads a file or runs the program.

#![expect(clippy::float_cmp, reason = "the metrics compared are whole numbers")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod acceptance;
mod certificates;
mod check_live;
mod config;
mod credentials;
mod dashboards;
mod dead_mount;
mod deploy;
mod exposition;
mod faults;
mod fuzz;
mod golden;
mod landing;
mod layering;
mod lifecycle;
mod log;
mod ncr;
mod once;
mod port;
mod pressure;
mod program;
mod prometheus;
mod proxies;
mod readme;
mod reload;
mod rules;
mod scheduler;
mod server;
mod signals;
mod soak;
mod state;
mod support;
mod swr;
mod variables;
mod web_config;
