//! What accounts of different sizes cost: the table "Sizing" of the README.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use super::Figures;
use super::exporter::{Exporter, config};
use super::model::is_inventory;
use super::simulated::Simulated;

const REPOSITORIES: [u32; 3] = [200, 2_000, 20_000];
const TAGS: u32 = 20;
/// Ten times faster than by default, the sweep likewise: a poll has the default's share of it.
const POLL: &str = "interval = \"30s\"";
const SWEEP: &str = "full_sweep = \"144m\"";
/// The defaults: calls per minute, minutes that a poll may take, minutes from poll to poll.
const PACE: f64 = 600.0;
const TIMEOUT: f64 = 4.0;
const INTERVAL: f64 = 5.0;

/// Has no bounds: it prints rows.
pub fn measure(_: &mut Figures) -> Result<()> {
    println!(
        "  repositories   series  resident, MB  at most  calls, minutes of first poll  of an unchanged one"
    );
    for repositories in REPOSITORIES {
        let mut cloud = Simulated::start(repositories, TAGS, Duration::ZERO)?;
        let exporter = Exporter::start(&config(&cloud.url, 1, POLL, SWEEP))?;
        exporter.logged(&["poll succeeded", "tags"])?;
        let first = cloud.requests()?;
        exporter.settle()?;
        let page = exporter.client()?.body("/metrics", "identity")?;
        let series = std::str::from_utf8(&page)?.lines().filter(|line| is_inventory(line)).count();
        while cloud.requests()? == first {
            sleep(Duration::from_millis(100));
        }
        exporter.settle()?;
        let unchanged = cloud.requests()? - first;
        let (resident, peak) = exporter.memory()?;
        println!(
            "  {repositories:>12} {series:>8} {resident:>13.0} {peak:>8.0} {first:>20} {:>8.1} {unchanged:>12} {:>7.2}",
            minutes(first),
            minutes(unchanged),
        );
    }
    Ok(())
}

/// How long so many calls take by default: what a poll has no time for waits for the next one.
fn minutes(calls: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "some thousand calls")]
    let needed = calls as f64 / PACE;
    (needed / TIMEOUT).floor() * INTERVAL + needed % TIMEOUT
}
