//! A soak in two parts: a month of polls in simulated time, and thousands of polls over real sockets. Every page that
//! is published is compared with a model of the rules; the program fails at the first disagreement, and if memory or
//! file descriptors grow.
//!
//! ```text
//! cargo bench --bench soak                            # a quick try
//! cargo bench --bench soak -- days=30 polls=2000      # the whole
//! ```

#[path = "../../tests/it/soak/account.rs"]
mod account;
#[path = "../../tests/it/soak/counters.rs"]
mod counters;
mod life;
#[path = "../../tests/it/soak/memory.rs"]
mod memory;
#[path = "../../tests/it/soak/page.rs"]
mod page;
#[path = "../../tests/it/soak/random.rs"]
mod random;
#[path = "../../tests/it/soak/rules.rs"]
mod rules;
#[path = "../../tests/it/soak/shown.rs"]
mod shown;
#[path = "../../tests/it/soak/simulated.rs"]
mod simulated;
mod sockets;
#[path = "../../tests/it/soak/weather.rs"]
mod weather;

use std::process::ExitCode;
use std::time::Instant;

use simulated::Simulation;
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let argument = |name: &str, default: u32| {
        let given = std::env::args().find_map(|argument| argument.strip_prefix(name)?.parse().ok());
        given.unwrap_or(default)
    };
    let (days, polls) = (argument("days=", 3), argument("polls=", 100));
    let seed = argument("seed=", 1).into();
    let month = if days > 0 { month(days, seed) } else { Ok(()) };
    let outcome = month.and_then(|()| if polls > 0 { sockets::run(polls, seed) } else { Ok(()) });
    if let Err(disagreement) = outcome {
        eprintln!("{disagreement}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Simulated days, of both clouds.
fn month(days: u32, seed: u64) -> Result<(), String> {
    for ncr in [false, true] {
        let start = Instant::now();
        let simulation = Simulation { ncr, days, full_sweep: 24.min(days * 2), size: 60, seed };
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
        let figures = runtime.expect("a runtime").block_on(simulated::run(&simulation))?;
        let cloud = if ncr { "ncr" } else { "swr" };
        println!(
            "{cloud}: {days} simulated days in {:.1?}, no page other than it must be: {figures:#?}",
            start.elapsed()
        );
    }
    Ok(())
}
