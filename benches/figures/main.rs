//! Measures the real program against the simulated cloud, which runs in a process of its own, and says whether the
//! figures are reached that the project has set itself.
//!
//! `cargo bench --bench figures` measures everything, `cargo bench --bench figures -- memory` one thing. The exit
//! code is 1 if a figure is missed. Needs Linux, whose `/proc` tells time and memory of a process.

mod bare;
mod busy;
mod compare;
mod exporter;
mod full_poll;
mod http;
mod memory;
mod model;
mod rivals;
mod scrape;
mod simulated;
mod sizing;
mod startup;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

type Measure = fn(&mut Figures) -> Result<()>;

/// What can be measured, in the order in which it is.
const MEASUREMENTS: [(&str, Measure); 10] = [
    ("startup", startup::measure),
    ("scrape", scrape::measure),
    ("busy", busy::measure),
    ("memory", memory::measure),
    ("memory_1m", memory::measure_million),
    ("full_poll", full_poll::measure),
    ("sizing", sizing::measure),
    ("compare_1k", compare::measure_thousand),
    ("compare_100k", compare::measure_hundred_thousand),
    ("compare_1m", compare::measure_million),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        [simulated::ROLE, rest @ ..] => simulated::serve(rest),
        [bare::ROLE, rest @ ..] => bare::serve(rest),
        [rivals::ROLE, rest @ ..] => rivals::serve(rest),
        // `cargo test --all-targets` runs this program too, without the flag.
        _ if !arguments.contains(&"--bench") => {
            println!("nothing measured: that takes `cargo bench --bench figures`");
            return ExitCode::SUCCESS;
        }
        _ => measure(&arguments),
    };
    outcome.map_or_else(
        |error| {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn measure(arguments: &[&str]) -> Result<()> {
    let wanted: Vec<&str> = arguments.iter().filter(|a| !a.starts_with("--")).copied().collect();
    if let Some(unknown) = wanted.iter().find(|name| !MEASUREMENTS.iter().any(|(known, _)| known == *name)) {
        bail!("there is no measurement {unknown:?}, only {}", MEASUREMENTS.map(|(name, _)| name).join(", "));
    }
    let mut figures = Figures::default();
    for (name, measure) in MEASUREMENTS {
        if wanted.is_empty() || wanted.contains(&name) {
            println!("\n{name}, with a load of {}", load()?);
            measure(&mut figures).with_context(|| format!("cannot measure {name}"))?;
        }
    }
    if !figures.missed.is_empty() {
        bail!("missed: {}", figures.missed.join(", "));
    }
    Ok(())
}

/// The load of the machine before a measurement: what else runs on it falsifies times.
fn load() -> Result<String> {
    let averages = std::fs::read_to_string("/proc/loadavg")?;
    Ok(averages.split(' ').next().unwrap_or_default().to_owned())
}

/// Prints figures beside what they may be at most, and collects those that are missed.
#[derive(Default)]
pub struct Figures {
    missed: Vec<String>,
}

impl Figures {
    /// Compares one figure with its bound.
    pub fn at_most(&mut self, bound: f64, name: &str, value: f64) {
        let verdict = if value <= bound { "reached" } else { "MISSED" };
        println!("  {name:<58} {value:>9.3}   at most {bound:<6} {verdict}");
        if value > bound {
            self.missed.push(name.to_owned());
        }
    }

    /// Compares one figure with what it must be at least.
    pub fn at_least(&mut self, bound: f64, name: &str, value: f64) {
        let verdict = if value >= bound { "reached" } else { "MISSED" };
        println!("  {name:<58} {value:>9.3}   at least {bound:<5} {verdict}");
        if value < bound {
            self.missed.push(name.to_owned());
        }
    }
}

/// The value below which this share of `times` lies, in milliseconds.
pub fn quantile(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into some hundred measurements"
    )]
    let index = ((times.len() - 1) as f64 * share).round() as usize;
    times[index].as_secs_f64() * 1e3
}
