//! How long a poll of a large account takes, beside how long the cloud itself needs for it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use container_registry_exporter::simulator::World;

use super::exporter::{Exporter, config};
use super::simulated::Simulated;
use super::{Figures, model};

const REPOSITORIES: u32 = 10_000;
const TAGS: u32 = 20;
const LATENCY: Duration = Duration::from_millis(50);
const IN_FLIGHT: u32 = 32;
/// The lists of repositories, 1000 a page and one page more since they are full and a total may be capped, and one list of
/// tags for each repository.
const CALLS: u32 = REPOSITORIES / 1000 + 1 + REPOSITORIES;
/// One run is 16 s.
const RUNS: usize = 3;

pub fn measure(figures: &mut Figures) -> Result<()> {
    let world = World::uniform(REPOSITORIES, TAGS);
    let least = LATENCY * CALLS.div_ceil(IN_FLIGHT);
    println!(
        "  {CALLS} calls of {LATENCY:?}, {IN_FLIGHT} in flight, take {:.2} s at least",
        least.as_secs_f64()
    );
    let mut walls = Vec::new();
    let mut cpus = Vec::new();
    for run in 1..=RUNS {
        let (wall, cpu) = run_once(run, &world)?;
        walls.push(wall);
        cpus.push(cpu);
    }
    let ratio = super::quantile(&mut walls, 0.5) / 1e3 / least.as_secs_f64();
    figures.at_most(1.10, "wall time, ratio to the least possible (median)", ratio);
    figures.at_most(0.25, "CPU of the exporter per call, ms (median)", super::quantile(&mut cpus, 0.5));
    Ok(())
}

/// One poll by a new process: how long it took, and the CPU time per call, the making of the page included.
fn run_once(run: usize, world: &World) -> Result<(Duration, Duration)> {
    let mut cloud = Simulated::start(REPOSITORIES, TAGS, LATENCY)?;
    let poll = format!("interval = \"1h\"\nmax_concurrent_requests = {IN_FLIGHT}");
    let exporter = Exporter::start(&config(&cloud.url, 1, &poll, "newest = \"all\""))?;
    let (end, _) = exporter.logged(&["poll succeeded", "tags"])?;
    let wall = end - exporter.spawned;
    exporter.settle()?;
    let cpu = exporter.cpu()?;
    let (memory, peak) = exporter.memory()?;

    let page = String::from_utf8(exporter.client()?.body("/metrics", "identity")?)?;
    let api_host = cloud.url.strip_prefix("http://").context("the simulator speaks plain HTTP")?;
    let series = model::check(&page, world, api_host)?;
    let own = |family: &str, labels: &str| {
        model::sum(&page, &format!("container_registry_exporter_{family}"), labels)
    };
    let calls = own("api_requests_total", "")?;
    let listing = own("poll_duration_seconds", "collector=\"repositories\"")?;
    let tags = own("poll_duration_seconds", "collector=\"tags\"")?;
    ensure!(cloud.requests()? == u64::from(CALLS), "the simulator counts {} calls", cloud.requests()?);
    ensure!((calls - f64::from(CALLS)).abs() < 0.5, "the exporter counts {calls} calls");
    println!(
        "  run {run}: {calls} calls in {:.2} s from the start of the process, by its own clock {listing:.2} s for the list \
         and {tags:.2} s for the tags; {:.2} s of CPU; all {series} series exact; {memory:.0} MB resident, {peak:.0} MB at most",
        wall.as_secs_f64(),
        cpu.as_secs_f64(),
    );
    Ok((wall, cpu / CALLS))
}
