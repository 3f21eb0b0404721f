//! Resident memory over many polls of an account in which much changes.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Figures;
use super::exporter::{Exporter, config};
use super::model::is_inventory;
use super::simulated::Simulated;

/// With the five newest tags of each, 100,000 series.
const REPOSITORIES: u32 = 4340;
const TAGS: u32 = 20;
const POLLS: usize = 20;
/// The lists of repositories, 1000 a page, and one list of tags for each repository.
const CALLS_PER_POLL: u64 = REPOSITORIES.div_ceil(1000) as u64 + REPOSITORIES as u64;

pub fn measure(figures: &mut Figures) -> Result<()> {
    let mut cloud = Simulated::start(REPOSITORIES, TAGS, Duration::ZERO)?;
    let poll = "interval = \"3s\"\ntimeout = \"2900ms\"\nmax_concurrent_requests = 32";
    // A sweep in every poll: the most work, and the most memory, that there can be.
    let exporter = Exporter::start(&config(&cloud.url, 1, poll, "full_sweep = \"3s\""))?;
    let mut resident = Vec::new();
    let mut series = 0;
    for poll in 1..=POLLS {
        let requests = poll as u64 * CALLS_PER_POLL;
        while cloud.requests()? < requests {
            sleep(Duration::from_millis(20));
        }
        exporter.settle()?;
        // A scrape per poll, as there is in life.
        let page = exporter.client()?.body("/metrics", "identity")?;
        series = std::str::from_utf8(&page)?.lines().filter(|line| is_inventory(line)).count();
        let (now, _) = exporter.memory()?;
        resident.push(now);
        cloud.push(u32::try_from(poll)?)?;
        ensure!(cloud.requests()? == requests, "the interval is too short for this machine");
    }
    let (_, peak) = exporter.memory()?;
    let each: Vec<_> = resident.iter().map(|megabytes| format!("{megabytes:.1}")).collect();
    println!("  {series} series; resident after each poll, MB: {}", each.join(" "));
    let (third, last) = (resident[2], resident[POLLS - 1]);
    figures.at_most(40.0, "resident after the last poll, MB", last);
    figures.at_most(80.0, "resident at most, MB", peak);
    figures.at_most(1.15, "resident after the last poll, ratio to the third", last / third);
    Ok(())
}
