//! What a poll costs when little changed: 10,000 repositories of which 1 % were pushed to before each poll, on a simulated
//! SWR in a process of its own, over plain HTTP.
//!
//! The API calls must be the pages of the list, the changed repositories and the poll's share of the full sweep, exactly;
//! the CPU time of such a poll, its page included, at most a twentieth of that of a first one.
//!
//! ```text
//! cargo bench --bench incremental
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _, stdin};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use container_registry_exporter::app::sources;
use container_registry_exporter::client::Guards;
use container_registry_exporter::config::Config;
use container_registry_exporter::exposition::limit::{Selection, select};
use container_registry_exporter::exposition::page::Pages;
use container_registry_exporter::exposition::source_page::render;
use container_registry_exporter::inventory::Inventory;
use container_registry_exporter::scheduler::{Source, SourceState};
use container_registry_exporter::simulator::{Call, Simulator, World, keys};
use container_registry_exporter::telemetry::self_metrics::SelfMetrics;
use tokio::sync::watch;

const REPOSITORIES: u32 = 10_000;
const TAGS: u32 = 20;
/// The pages of the list.
const PAGES: u64 = 10;
/// Polls in a full sweep: 24 hours of 5 minutes.
const SWEEP: u64 = 288;
/// Polls after the first whose median counts.
const POLLS: u32 = 9;
const LEAST_RATIO: f64 = 20.0;
/// The argument that makes this program the simulated cloud.
const ROLE: &str = "simulate";

fn main() -> ExitCode {
    let outcome = match std::env::args().nth(1).as_deref() {
        Some(ROLE) => simulate(),
        // The default, and for comparison a page three times as large.
        _ => measure("5", LEAST_RATIO).and_then(|()| measure("\"all\"", 1.0)),
    };
    if let Err(error) = outcome {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Polls with so many tags of each repository on the page.
fn measure(newest: &str, least_ratio: f64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut cloud = Cloud::start()?;
    let mut exporter = Exporter::new(&cloud.url, newest)?;
    let full = exporter.poll(&runtime)?;
    let calls = cloud.calls()?;
    ensure!(calls == [PAGES, u64::from(REPOSITORIES)], "the first poll made {calls:?} calls");
    let mut costs = Vec::new();
    for round in 1..=POLLS {
        cloud.push(round)?;
        let before = cloud.calls()?;
        costs.push(exporter.poll(&runtime)?);
        let after = cloud.calls()?;
        let made = [after[0] - before[0], after[1] - before[1]];
        let expected = [PAGES, due(round, u64::from(round) + 1)];
        println!(
            "  poll {}: {made:?} calls, expected {expected:?}; CPU {:.1?}",
            round + 1,
            costs[costs.len() - 1]
        );
        ensure!(made == expected, "they differ");
    }
    costs.sort();
    let median = costs[costs.len() / 2];
    let ratio = full.as_secs_f64() / median.as_secs_f64();
    println!(
        "tags = {newest}: {} series; CPU {full:.1?} for the first poll, {median:.1?} for one with 1 % changed (median of \
         {POLLS}): 1/{ratio:.1}, at most 1/{least_ratio} wanted",
        exporter.series
    );
    ensure!(ratio >= least_ratio, "missed");
    Ok(())
}

/// How many repositories' tags poll `poll` must read after push `round`: those changed and those whose turn it is.
fn due(round: u32, poll: u64) -> u64 {
    let changed_per_round = REPOSITORIES / 100;
    let changed = round * changed_per_round..(round + 1) * changed_per_round;
    let swept = |n: &u32| {
        let key = format!("org-{:03}/repository-{n:05}", n / 100);
        u64::from(crc32fast::hash(key.as_bytes())) % SWEEP == poll % SWEEP
    };
    let due: BTreeSet<u32> = changed.chain((0..REPOSITORIES).filter(swept)).collect();
    due.len() as u64
}

/// The exporter's stages from the client to the page, in this thread alone, whose CPU time the system counts exactly.
struct Exporter {
    source: Source,
    states: watch::Receiver<Arc<SourceState>>,
    page: Shown,
    series: u64,
}

/// The page as it is served.
#[derive(Default)]
struct Shown {
    inventory: Option<Arc<Inventory>>,
    pages: Pages,
    selection: Selection,
}

impl Shown {
    /// Renders what was published unless that is what the page shows.
    fn show(&mut self, state: &SourceState) {
        let inventory = &state.inventory;
        if self.inventory.as_ref().is_some_and(|shown| Arc::ptr_eq(shown, inventory)) {
            return;
        }
        let name = &inventory.source.name;
        self.selection = select(inventory, None, &self.selection);
        let page = render(inventory, &self.selection, self.pages.source(name).as_deref());
        self.pages.set(name, Some(Arc::new(page)));
        self.inventory = Some(Arc::clone(inventory));
    }
}

impl Exporter {
    fn new(url: &str, newest: &str) -> Result<Self> {
        let text = format!(
            "[sources.swr]\nprovider = \"swr\"\nregion = \"{}\"\nendpoint = \"{url}\"\nshared = []\n\
             poll = {{ requests_per_second = 0, max_concurrent_requests = 32 }}\ntags = {{ newest = {newest} }}\n\
             auth = {{ method = \"ak_sk\", access_key = \"{}\", secret_key = \"{}\" }}\n",
            keys::REGION,
            keys::SWR_ACCESS_KEY,
            keys::SWR_SECRET_KEY,
        );
        let config = Config::parse(&text, Path::new("."), &BTreeMap::new())?;
        let config = config.sources.into_iter().next().context("one source is configured")?;
        let (source, states) = sources::source(config, &Guards::default(), &SelfMetrics::new())?;
        Ok(Self { source, states, page: Shown::default(), series: 0 })
    }

    /// Polls once and renders the page after the list and after the tags, as the exporter does, and says what CPU time
    /// that took.
    fn poll(&mut self, runtime: &tokio::runtime::Runtime) -> Result<Duration> {
        let start = cpu()?;
        ensure!(
            runtime.block_on(async {
                let mut poll = std::pin::pin!(self.source.poll(None));
                loop {
                    tokio::select! {
                        biased;
                        _ = self.states.changed() => {
                            let state = Arc::clone(&self.states.borrow_and_update());
                            self.page.show(&state);
                        }
                        done = &mut poll => break done,
                    }
                }
            }),
            "the poll failed"
        );
        let state = Arc::clone(&self.states.borrow_and_update());
        self.page.show(&state);
        let cost = cpu()?.saturating_sub(start);
        self.series = self.page.selection.counts().served.iter().sum();
        Ok(cost)
    }
}

/// CPU time of this thread.
fn cpu() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(text.split(' ').next().context("no figures")?.parse()?))
}

/// The simulated cloud in a process of its own; dropping it ends it.
struct Cloud {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    url: String,
}

impl Cloud {
    fn start() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg(ROLE).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().context("no standard input")?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut cloud = Self { child, input, output, url: String::new() };
        cloud.url = cloud.line()?;
        Ok(cloud)
    }

    /// Changes a hundredth of the repositories, each time the next.
    fn push(&mut self, round: u32) -> Result<()> {
        writeln!(self.input, "push {round}")?;
        self.line().map(drop)
    }

    /// Calls so far: pages of the list, lists of tags.
    fn calls(&mut self) -> Result<[u64; 2]> {
        writeln!(self.input, "calls")?;
        let line = self.line()?;
        let (lists, tags) = line.split_once(' ').context("two numbers")?;
        Ok([lists.parse()?, tags.parse()?])
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is the simulated cloud until its input ends.
fn simulate() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let simulator = runtime.block_on(Simulator::start(World::uniform(REPOSITORIES, TAGS)))?;
    println!("{}", simulator.swr_url());
    for line in stdin().lines() {
        match line?.strip_prefix("push ") {
            Some(round) => {
                let round = round.parse()?;
                simulator.edit(|world| world.push_to_percent(1, round));
                println!("pushed");
            }
            None => println!(
                "{} {}",
                simulator.requests(Call::ListRepositories),
                simulator.requests(Call::ListTags)
            ),
        }
    }
    Ok(())
}
