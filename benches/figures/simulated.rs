//! The simulated cloud in a process of its own, steered through its standard input and output.

use std::io::{BufRead as _, BufReader, Write as _, stdin};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use container_registry_exporter::simulator::{Simulator, World};

/// The argument that makes this program the simulated cloud.
pub const ROLE: &str = "simulate";

/// A simulated cloud; dropping it ends its process.
pub struct Simulated {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Base address of SWR.
    pub url: String,
}

impl Simulated {
    /// Starts a cloud that holds [`World::uniform`] and takes `latency` for each answer.
    pub fn start(repositories: u32, tags: u32, latency: Duration) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([ROLE, &repositories.to_string(), &tags.to_string(), &latency.as_millis().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("no standard input")?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut cloud = Self { child, input, output, url: String::new() };
        cloud.url = cloud.line()?;
        Ok(cloud)
    }

    /// How many requests there were so far.
    pub fn requests(&mut self) -> Result<u64> {
        Ok(self.ask("count requests")?.parse()?)
    }

    /// Changes a tenth of the repositories, each time others.
    pub fn push(&mut self, round: u32) -> Result<()> {
        self.ask(&format!("push {round}")).map(drop)
    }

    /// Pushes to every tenth repository, each time to others, so that something changes in every stretch of the page.
    pub fn scatter(&mut self, round: u32) -> Result<()> {
        self.ask(&format!("scatter {round}")).map(drop)
    }

    fn ask(&mut self, question: &str) -> Result<String> {
        writeln!(self.input, "{question}")?;
        self.line()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is the simulated cloud until its input ends.
pub fn serve(arguments: &[&str]) -> Result<()> {
    let [repositories, tags, latency] = arguments else { bail!("three numbers are needed") };
    let mut world = World::uniform(repositories.parse()?, tags.parse()?);
    world.latency = Duration::from_millis(latency.parse()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let simulator = runtime.block_on(Simulator::start(world))?;
    println!("{}", simulator.swr_url());
    for line in stdin().lines() {
        match line?.split_once(' ').unwrap_or_default() {
            ("push", round) => {
                let round = round.parse()?;
                simulator.edit(|world| world.push_to_percent(10, round));
                println!("pushed");
            }
            ("scatter", round) => {
                let round: usize = round.parse()?;
                simulator.edit(|world| scatter(world, round));
                println!("scattered");
            }
            ("count", "requests") => println!("{}", simulator.all_requests()),
            (_, what) => bail!("cannot do {what:?}"),
        }
    }
    Ok(())
}

/// Puts another tag in place of the last one of every tenth repository.
fn scatter(world: &mut World, round: usize) {
    for repository in world.swr.repositories.values_mut().skip(round % 10).step_by(10) {
        let updated = format!("2025-01-01T{:02}:{:02}:{:02}Z", round / 3600, round / 60 % 60, round % 60);
        repository.updated.clone_from(&updated);
        if let Some(tag) = repository.tags.last_mut() {
            tag.name = format!("round-{round}");
            tag.size_bytes += 1;
            tag.updated = updated;
        }
    }
}
