//! Scrapes of 100,000 and of a million series, in turn with a bare server that writes the same bytes.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::bare::Bare;
use super::exporter::{Exporter, config};
use super::http::Client;
use super::model::is_inventory;
use super::simulated::Simulated;
use super::{Figures, quantile};

/// Repositories of five tags, each with 23 series: 100,000 and a million.
const REPOSITORIES: [u32; 2] = [4340, 43_480];
/// Of each encoding: scrapes whose time is taken, and scrapes in a row whose CPU time is taken, since the system counts
/// it in steps of 10 ms. For 100,000 series; a tenth of that for a million.
const SCRAPES: [(&str, usize, u32); 2] = [("gzip", 1000, 3000), ("identity", 1000, 300)];

pub fn measure(figures: &mut Figures) -> Result<()> {
    for repositories in REPOSITORIES {
        for sources in [1, 10] {
            measure_with(figures, sources, repositories)?;
        }
    }
    Ok(())
}

fn measure_with(figures: &mut Figures, sources: u32, repositories: u32) -> Result<()> {
    let mut cloud = Simulated::start(repositories / sources, 5, Duration::ZERO)?;
    let poll = "interval = \"1h\"\nmax_concurrent_requests = 8";
    let exporter = Exporter::start(&config(&cloud.url, sources as usize, poll, ""))?;
    let each = repositories / sources;
    while cloud.requests()? < u64::from(sources * (each.div_ceil(1000) + each)) {
        sleep(Duration::from_millis(20));
    }
    exporter.settle()?;
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
    drop(page);
    drop(cloud);

    let bare = Bare::start(&gzip, &identity)?;
    let mut other = Client::connect(bare.address)?;
    let fewer = repositories / REPOSITORIES[0];
    for (encoding, scrapes, in_a_row) in SCRAPES {
        let mut times = Vec::new();
        let mut floor = Vec::new();
        for round in 0..scrapes / fewer as usize {
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
        let ours = cpu(&mut client, encoding, in_a_row / fewer, || exporter.cpu())?;
        let theirs = cpu(&mut other, encoding, in_a_row / fewer, || bare.cpu())?;
        println!(
            "  {encoding}, {length} bytes: p50 {:.3} ms (bare {:.3}), p99 {:.3} ms (bare {:.3}), \
             CPU {ours:.3} ms (bare {theirs:.3})",
            quantile(&mut times, 0.5),
            quantile(&mut floor, 0.5),
            quantile(&mut times, 0.99),
            quantile(&mut floor, 0.99),
        );
        let p50 = quantile(&mut times, 0.5) / quantile(&mut floor, 0.5);
        let name =
            |what| format!("{encoding}, {inventory} series, {sources} sources: {what} to the bare server's");
        figures.at_most(1.5, &name("p50"), p50);
        figures.at_most(1.5, &name("CPU"), ours / theirs);
    }
    Ok(())
}

/// The time of one scrape.
pub fn time(client: &mut Client, encoding: &str) -> Result<Duration> {
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
