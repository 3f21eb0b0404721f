//! Simulated days of a source's life, each page compared with an independent model of the rules. The benchmark
//! `soak` runs the same for a month, and over real sockets.

mod account;
mod counters;
mod memory;
mod page;
mod random;
mod rules;
mod shown;
mod simulated;
mod weather;

use simulated::{Simulation, run};

#[tokio::test(start_paused = true)]
async fn days_of_changes_and_troubles_show_nothing_else_than_the_rules_say() {
    let swr = Simulation { ncr: false, days: 3, full_sweep: 6, size: 10, seed: 1 };
    let ncr = Simulation { ncr: true, days: 1, full_sweep: 2, size: 10, seed: 1 };
    for simulation in [swr, ncr] {
        let figures = run(&simulation).await.unwrap();
        assert_eq!(figures.polls, u64::from(simulation.days) * 288);
        assert!(figures.failed_lists > 0 && figures.most_repositories > figures.least_repositories);
    }
}
