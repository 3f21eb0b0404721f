//! Scrapes of 100,000 series, in turn with a bare server that writes the same bytes.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::bare::Bare;
use super::exporter::{Exporter, config};
use super::http::Client;
use super::model::is_inventory;
use super::simulated::Simulated;
use super::{Figures, quantile};

/// With the five newest tags of each, 100,000 series.
const REPOSITORIES: u32 = 4340;
/// Scrapes of each kind whose time is taken.
const SCRAPES: usize = 1000;
/// Scrapes in a row whose CPU time is taken, since the system counts it in steps of 10 ms.
const IN_A_ROW: [(&str, u32); 2] = [("gzip", 3000), ("identity", 300)];

pub fn measure(figures: &mut Figures) -> Result<()> {
    for sources in [1, 10] {
        measure_with(figures, sources)?;
    }
    Ok(())
}

fn measure_with(figures: &mut Figures, sources: u8) -> Result<()> {
    let cloud = Simulated::start(REPOSITORIES / u32::from(sources), 5, Duration::ZERO)?;
    let poll = "interval = \"1h\"\nmax_concurrent_requests = 8";
    let exporter = Exporter::start(&config(&cloud.url, sources.into(), poll, ""))?;
    for source in 0..sources {
        exporter.logged(&["poll succeeded", "tags"])?;
        if source + 1 == sources {
            exporter.settle()?;
        }
    }
    let mut client = exporter.client()?;
    let directory = tempfile::tempdir()?;
    let (gzip, identity) = (directory.path().join("gzip"), directory.path().join("identity"));
    std::fs::write(&gzip, client.body("/metrics", "gzip")?)?;
    let page = client.body("/metrics", "identity")?;
    std::fs::write(&identity, &page)?;
    let lines = std::str::from_utf8(&page)?.lines();
    let inventory = lines.clone().filter(|line| is_inventory(line)).count();
    let all = lines.filter(|line| !line.starts_with('#')).count();
    println!("  {sources} sources: {inventory} series and {} of the exporter itself", all - inventory);
    drop(cloud);

    let bare = Bare::start(&gzip, &identity)?;
    let mut other = Client::connect(bare.address)?;
    for (encoding, in_a_row) in IN_A_ROW {
        let mut times = Vec::with_capacity(SCRAPES);
        let mut floor = Vec::with_capacity(SCRAPES);
        for round in 0..SCRAPES {
            // Who is asked first must not matter.
            if round % 2 == 0 {
                times.push(time(&mut client, encoding)?);
                floor.push(time(&mut other, encoding)?);
            } else {
                floor.push(time(&mut other, encoding)?);
                times.push(time(&mut client, encoding)?);
            }
        }
        let length = client.get("/metrics", encoding, |_| ())?;
        let ours = cpu(&mut client, encoding, in_a_row, || exporter.cpu())?;
        let theirs = cpu(&mut other, encoding, in_a_row, || bare.cpu())?;
        println!(
            "  {encoding}, {length} bytes: p50 {:.3} ms (bare {:.3}), p99 {:.3} ms (bare {:.3}), \
             CPU {ours:.3} ms (bare {theirs:.3})",
            quantile(&mut times, 0.5),
            quantile(&mut floor, 0.5),
            quantile(&mut times, 0.99),
            quantile(&mut floor, 0.99),
        );
        let ratio = quantile(&mut times, 0.5) / quantile(&mut floor, 0.5);
        figures.at_most(1.5, &format!("{encoding}, {sources} sources: p50, ratio to the bare server"), ratio);
    }
    Ok(())
}

/// The time of one scrape.
fn time(client: &mut Client, encoding: &str) -> Result<Duration> {
    let start = Instant::now();
    client.get("/metrics", encoding, |_| ())?;
    Ok(start.elapsed())
}

/// Milliseconds of the server's CPU time per scrape.
fn cpu(
    client: &mut Client,
    encoding: &str,
    scrapes: u32,
    used: impl Fn() -> Result<Duration>,
) -> Result<f64> {
    let before = used()?;
    for _ in 0..scrapes {
        client.get("/metrics", encoding, |_| ())?;
    }
    Ok((used()?.saturating_sub(before) / scrapes).as_secs_f64() * 1e3)
}
