//! Scrapes while polls make the page anew, beside scrapes of the same exporter at rest.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::exporter::{Exporter, config};
use super::model::sum;
use super::scrape::time;
use super::simulated::Simulated;
use super::{Figures, quantile};

/// With five tags of each, 100,000 series.
const REPOSITORIES: u32 = 4340;
/// How long the cloud takes for an answer, as real ones do: otherwise it is the simulated cloud that needs the machine
/// during a poll, and scrapes wait for that.
const LATENCY: Duration = Duration::from_millis(50);
/// Scrapes at rest and meanwhile, and the pause after each.
const IDLE: usize = 1000;
const BUSY: usize = 5200;
const PAUSE: Duration = Duration::from_millis(16);
const POLLS: f64 = 20.0;

pub fn measure(figures: &mut Figures) -> Result<()> {
    for sources in [1, 10] {
        measure_with(figures, sources)?;
    }
    Ok(())
}

fn measure_with(figures: &mut Figures, sources: u32) -> Result<()> {
    let mut cloud = Simulated::start(REPOSITORIES / sources, 5, LATENCY)?;
    let exporter = start(&mut cloud, sources, "interval = \"1h\"")?;
    exporter.settle()?;
    let mut idle = Vec::new();
    for encoding in ["gzip", "identity"] {
        idle.push((encoding, scrape(&exporter, encoding, IDLE, || Ok(()))?));
    }
    drop(exporter);

    let exporter = start(&mut cloud, sources, "interval = \"4s\"\ntimeout = \"3900ms\"")?;
    let (mut round, mut changed) = (0, Instant::now());
    for (encoding, mut idle) in idle {
        let before = done(&exporter)?;
        let mut busy = scrape(&exporter, encoding, BUSY, || {
            if changed.elapsed() >= Duration::from_secs(4) {
                (round, changed) = (round + 1, Instant::now());
                cloud.scatter(round)?;
            }
            Ok(())
        })?;
        let after = done(&exporter)?;
        let (polls, lists) = ((after.0 - before.0) / f64::from(sources), after.1 - before.1);
        println!(
            "  {sources} sources, {encoding}: p50 {:.3} ms and p99 {:.3} ms at rest; p50 {:.3} ms, p99 {:.3} ms, \
             longest {:.3} ms over {polls} polls of each source that read {lists} tag lists",
            quantile(&mut idle, 0.5),
            quantile(&mut idle, 0.99),
            quantile(&mut busy, 0.5),
            quantile(&mut busy, 0.99),
            quantile(&mut busy, 1.0),
        );
        // Otherwise the pages were not made anew.
        ensure!(lists > POLLS * f64::from(REPOSITORIES / 11), "too few tags changed");
        let name = |what: &str| format!("{encoding}, {sources} sources: {what}");
        figures.at_least(POLLS, &name("polls meanwhile"), polls);
        let ratio = quantile(&mut busy, 0.99) / quantile(&mut idle, 0.5);
        figures.at_most(3.0, &name("p99 meanwhile to p50 at rest"), ratio);
    }
    Ok(())
}

/// Starts an exporter with these lines about its polls and waits until it has read everything once.
fn start(cloud: &mut Simulated, sources: u32, poll: &str) -> Result<Exporter> {
    let each = REPOSITORIES / sources;
    let all = cloud.requests()? + u64::from(sources * (each.div_ceil(1000) + each));
    let poll = format!("max_concurrent_requests = 16\n{poll}");
    let exporter = Exporter::start(&config(&cloud.url, sources as usize, &poll, ""))?;
    while cloud.requests()? < all {
        sleep(Duration::from_millis(20));
    }
    Ok(exporter)
}

/// Scrapes with pauses, in which `pause` is called; a scrape that fails ends it.
fn scrape(
    exporter: &Exporter,
    encoding: &str,
    scrapes: usize,
    mut pause: impl FnMut() -> Result<()>,
) -> Result<Vec<Duration>> {
    let mut client = exporter.client()?;
    let mut times = Vec::with_capacity(scrapes);
    for _ in 0..scrapes {
        times.push(time(&mut client, encoding).context("a scrape failed")?);
        pause()?;
        sleep(PAUSE);
    }
    Ok(times)
}

/// How many polls all sources made so far, and how many tag lists they read.
fn done(exporter: &Exporter) -> Result<(f64, f64)> {
    let page = String::from_utf8(exporter.client()?.body("/metrics", "identity")?)?;
    let own =
        |family: &str, labels: &str| sum(&page, &format!("container_registry_exporter_{family}"), labels);
    Ok((own("polls_total", "collector=\"tags\"")?, own("tag_listings_total", "")?))
}
