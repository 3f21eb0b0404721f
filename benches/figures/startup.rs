//! From the start of the process to its first answer.

use std::time::Duration;

use anyhow::Result;

use super::Figures;
use super::exporter::Exporter;

const STARTS: usize = 21;

/// A source of each cloud, and of the kind that takes longest to set up: with the system's certificate authorities.
/// Nobody listens at the port.
const CONFIG: &str = r#"
[sources.swr]
provider = "swr"
region = "cn-north-4"
endpoint = "https://127.0.0.1:9"
auth = { access_key = "made-up", secret_key = "made-up" }

[sources.ncr]
provider = "ncr"
region = "KR"
endpoint = "https://127.0.0.1:9"
auth = { access_key = "made-up", secret_key = "made-up" }
"#;

pub fn measure(figures: &mut Figures) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        times.push(start()?);
    }
    println!("  the slowest of {STARTS} starts took {:.1} ms", super::quantile(&mut times, 1.0));
    figures.at_most(50.0, "start to first answer, ms (median)", super::quantile(&mut times, 0.5));
    Ok(())
}

fn start() -> Result<Duration> {
    let exporter = Exporter::start(CONFIG)?;
    exporter.client()?.get("/-/healthy", "identity", |_| ())?;
    Ok(exporter.spawned.elapsed())
}
