//! Resident memory over many polls of accounts in which much changes.

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
    let poll = "interval = \"6s\"\ntimeout = \"5900ms\"\nmax_concurrent_requests = 32";
    // A sweep in every poll: the most work, and the most memory, that there can be.
    let exporter = Exporter::start(&config(&cloud.url, 1, poll, "full_sweep = \"6s\""))?;
    let mut resident = Vec::new();
    let mut series = 0;
    for poll in 1..=POLLS {
        let requests = poll as u64 * CALLS_PER_POLL;
        while cloud.requests()? < requests {
            sleep(Duration::from_millis(20));
        }
        exporter.settle()?;
        series = scrape(&exporter)?;
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

/// With five tags of each, a million series.
const MANY_REPOSITORIES: u32 = 43_480;
const MANY_TAGS: u32 = 5;
const MANY_POLLS: u32 = 8;

/// The same for an account ten times as large, whose first poll reads all tags and the others those of every tenth
/// repository: most of the page is made anew while the one before is served.
pub fn measure_million(figures: &mut Figures) -> Result<()> {
    let mut cloud = Simulated::start(MANY_REPOSITORIES, MANY_TAGS, Duration::ZERO)?;
    let poll = "interval = \"15s\"\ntimeout = \"14s\"\nmax_concurrent_requests = 32";
    let exporter = Exporter::start(&config(&cloud.url, 1, poll, ""))?;
    let mut resident = Vec::new();
    let mut series = 0;
    let mut tag_lists = u64::from(MANY_REPOSITORIES);
    for round in 0..=MANY_POLLS {
        let least = cloud.requests()? + tag_lists;
        // A few tag lists more than that are the poll's share of the full sweep.
        while cloud.requests()? < least {
            sleep(Duration::from_millis(20));
        }
        exporter.settle()?;
        series = scrape(&exporter)?;
        let (now, peak) = exporter.memory()?;
        println!("  poll {round}: {now:.1} MB, at most {peak:.1} MB so far");
        resident.push(now);
        cloud.scatter(round)?;
        tag_lists = u64::from(MANY_REPOSITORIES / 10);
    }
    let (_, peak) = exporter.memory()?;
    println!("  {series} series");
    figures.at_most(
        270.0,
        "a million series: resident after the last poll, MB",
        resident[resident.len() - 1],
    );
    figures.at_most(400.0, "a million series: resident at most, MB", peak);
    Ok(())
}

/// A scrape per poll, as there is in life: the number of series on the page.
fn scrape(exporter: &Exporter) -> Result<usize> {
    let page = exporter.client()?.body("/metrics", "identity")?;
    Ok(std::str::from_utf8(&page)?.lines().filter(|line| is_inventory(line)).count())
}
