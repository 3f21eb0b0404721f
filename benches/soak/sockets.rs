//! Polls over real sockets as fast as they go: the client, the wire formats, the scheduler and the page against the
//! simulated SWR.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use container_registry_exporter::app::sources;
use container_registry_exporter::client::Guards;
use container_registry_exporter::config::Config;
use container_registry_exporter::inventory::{Center, Inventory};
use container_registry_exporter::scheduler::{Source, SourceState};
use container_registry_exporter::simulator::{Call, Fault, Simulator, World, keys};
use container_registry_exporter::telemetry::Reason;
use container_registry_exporter::telemetry::self_metrics::SelfMetrics;
use tokio::sync::watch;
use tokio::time::Instant;

use super::counters;
use super::life::{self, Life, SEASON};
use super::random::Random;
use super::rules::{Key, Rules, Settings};
use super::shown::Shown;

/// So small that every list has several pages.
const ROWS_PER_PAGE: usize = 10;
/// Memory at the end must not be more than so many times what it was after the first fifth.
const MOST_GROWTH: f64 = 1.15;
/// For polls in which an answer never comes.
const TIMEOUT: Duration = Duration::from_millis(1500);

/// Polls so often; the error is the first disagreement.
pub fn run(polls: u32, seed: u64) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(poll_all(polls, seed))
}

async fn poll_all(polls: u32, seed: u64) -> Result<(), String> {
    let start = Instant::now();
    let mut soak = Soak::start(seed).await;
    // At the same point of a season there are as many repositories.
    let warm = (polls / 5).div_ceil(SEASON) * SEASON;
    let (mut after_warming, mut most_files) = (0, 0);
    for poll in 1..=polls {
        soak.poll().await.map_err(|disagreement| format!("poll {poll} over sockets: {disagreement}"))?;
        if poll <= warm {
            after_warming = resident_kilobytes();
            most_files = most_files.max(open_files());
        }
    }
    counters::compare(&soak.metrics, &soak.rules.counts, soak.rules.pending())?;
    let (memory, files) = (resident_kilobytes(), open_files());
    #[expect(clippy::cast_precision_loss, reason = "kilobytes of one process")]
    let growth = memory as f64 / after_warming as f64;
    println!(
        "sockets: {polls} polls in {:.1?}, {} API calls, {} pages compared, {} tag listings, {} skipped, troubles \
         {:?}; memory {memory} kB, {growth:.3} times that after {warm} polls; {files} open files, at most \
         {most_files} while warming up",
        start.elapsed(),
        soak.simulator.all_requests(),
        soak.pages,
        soak.rules.counts.tag_listings,
        soak.rules.counts.tag_listings_skipped,
        soak.troubles,
    );
    if polls > warm && (growth > MOST_GROWTH || files > most_files) {
        return Err("memory or open files grow".to_owned());
    }
    Ok(())
}

struct Soak {
    simulator: Simulator,
    source: Source,
    states: watch::Receiver<Arc<SourceState>>,
    metrics: SelfMetrics,
    life: Life,
    random: Random,
    rules: Rules,
    shown: Shown,
    pages: u64,
    /// How often each kind of trouble came.
    troubles: BTreeMap<&'static str, u64>,
    /// Requests for tags so far, those of the first poll not counted.
    tag_requests: Option<u64>,
}

/// What is wrong with the API during one poll.
#[derive(Default)]
struct Trouble {
    kind: &'static str,
    list: Option<Reason>,
    shared: Option<Reason>,
    /// The tags of one repository: `None` = no answer.
    tags: Option<(Key, Option<Reason>)>,
    /// Requests are sent again.
    retries: bool,
}

impl Soak {
    async fn start(seed: u64) -> Self {
        let mut world = World::empty();
        world.log_limit = 0;
        world.swr.limit_refused_above = ROWS_PER_PAGE;
        let simulator = Simulator::start(world).await.expect("loopback has free ports");
        let text = format!(
            r#"
            [sources.test]
            provider = "swr"
            region = "cn-north-4"
            endpoint = "{}"
            poll = {{ requests_per_second = 0 }}
            tags = {{ newest = 3, exclude = ["tmp-.*"], info = true, full_sweep = "2h" }}
            auth = {{ method = "ak_sk", access_key = "{}", secret_key = "{}" }}
            "#,
            simulator.swr_url(),
            keys::SWR_ACCESS_KEY,
            keys::SWR_SECRET_KEY,
        );
        let config =
            Config::parse(&text, Path::new("."), &BTreeMap::new()).expect("the configuration is good");
        let config = config.sources.into_iter().next().expect("there is one source");
        let address = simulator.swr_url()["http://".len()..].to_owned();
        let settings = Settings {
            source: "test",
            info: ["swr".to_owned(), "cn-north-4".to_owned(), address],
            ncr: false,
            interval: config.poll.interval,
            stale_after: config.poll.stale_after,
            full_sweep: config.tags.full_sweep,
            newest: 3,
            excluded: "tmp-",
        };
        let metrics = SelfMetrics::new();
        let (source, states) =
            sources::source(config, &Guards::default(), &metrics).expect("no certificate is needed");
        Self {
            simulator,
            source,
            states,
            metrics,
            life: Life::default(),
            random: Random::new(seed),
            rules: Rules::new(settings),
            shown: Shown::default(),
            pages: 0,
            troubles: BTreeMap::new(),
            tag_requests: None,
        }
    }

    /// Lets the account live, polls it and compares all that was published meanwhile.
    async fn poll(&mut self) -> Result<(), String> {
        self.simulator.edit(|world| self.life.pass(&mut world.swr, &mut self.random));
        let trouble = self.trouble();
        let hangs = matches!(trouble.tags, Some((_, None)));
        let (lists_before, deadline) =
            (self.requests(Call::ListRepositories), hangs.then(|| Instant::now() + TIMEOUT));
        let published = watch(&mut self.source, deadline, &mut self.states).await;
        self.simulator.clear_faults();

        let swr = self.simulator.edit(|world| world.swr.clone());
        let now = Instant::now();
        self.rules.begin();
        let listed = trouble.list.map_or_else(|| Ok(life::list(&swr)), Err);
        let may_read = listed.is_ok();
        self.rules.listed(now, listed);
        let mut phases = vec![self.rules.lines(now)];
        for center in [Center::Own, Center::ThirdParty] {
            let outcome = trouble.shared.map_or_else(|| Ok(life::shared(&swr, center)), Err);
            self.rules.shared(now, center, outcome);
            if trouble.shared.is_some() {
                break;
            }
        }
        phases.push(self.rules.lines(now));
        let mut reads = 0;
        while let Some(key) = self.rules.next_read().filter(|_| may_read) {
            reads += 1;
            let outcome = match &trouble.tags {
                Some((of, None)) if *of == key => continue,
                Some((of, Some(reason))) if *of == key => Err(*reason),
                _ => life::tags(&swr, &key).ok_or(Reason::NotFound),
            };
            self.rules.read(&key, now, outcome);
        }
        self.rules.end(now, true)?;
        phases.push(self.rules.lines(now));
        self.compare(&published, &phases).map_err(|error| format!("{}: {error}", trouble.kind))?;
        let tag_requests = self.requests(Call::ListTags);
        let made = self.tag_requests.replace(tag_requests).map(|before| tag_requests - before);
        if !trouble.retries && made.is_some_and(|made| made != reads) {
            return Err(format!("{made:?} requests for tags were made instead of {reads}"));
        }
        let (lists, pages) = (
            self.requests(Call::ListRepositories) - lists_before,
            swr.repositories.len().div_ceil(ROWS_PER_PAGE),
        );
        if !trouble.retries && trouble.list.is_none() && made.is_some() && lists != pages as u64 {
            return Err(format!("the list was read in {lists} requests instead of {pages}"));
        }
        Ok(())
    }

    /// Each page must be one of the `phases`, none of an earlier one than the page before; the last the last.
    fn compare(&mut self, published: &[Arc<Inventory>], phases: &[Vec<String>]) -> Result<(), String> {
        let mut phase = 0;
        for inventory in published {
            self.shown.render(inventory);
            self.pages += 1;
            let differences: Vec<_> = phases[phase..]
                .iter()
                .map(|lines| self.shown.compare(lines))
                .take_while(Result::is_err)
                .collect();
            phase += differences.len();
            if phase == phases.len() {
                return Err(format!("a page is that of no phase: {:?}", differences.last()));
            }
        }
        self.shown.compare(phases.last().expect("there are three"))
    }

    fn requests(&self, call: Call) -> u64 {
        self.simulator.requests(call)
    }

    fn trouble(&mut self) -> Trouble {
        let mut trouble = Trouble::default();
        let random = &mut self.random;
        let keys: Vec<String> = self.simulator.edit(|world| world.swr.repositories.keys().cloned().collect());
        let kind = match random.below(100) {
            0..3 => {
                let (fault, reason) = match random.below(5) {
                    0 => (Fault::status(403), Reason::Forbidden),
                    1 => (Fault::NotJson, Reason::Decode),
                    2 => (Fault::Html, Reason::Decode),
                    3 => (Fault::EmptyBody, Reason::Decode),
                    _ => (Fault::RepeatPage, Reason::Incomplete),
                };
                self.simulator.fault(Call::ListRepositories, fault);
                trouble.list = Some(reason);
                "list fails"
            }
            3..6 => {
                self.simulator.fault(Call::ListShared, Fault::status(403));
                trouble.shared = Some(Reason::Forbidden);
                "shared lists fail"
            }
            6..20 => {
                let key = random.index(keys.len());
                let (fault, reason) = match random.below(3) {
                    0 => (Fault::status(403), Reason::Forbidden),
                    1 => (Fault::NotJson, Reason::Decode),
                    _ => (Fault::status(404), Reason::NotFound),
                };
                self.simulator.fault(Call::ListTags, fault).repository(&keys[key]);
                trouble.tags = split(&keys[key]).map(|key| (key, Some(reason)));
                "tags of one repository fail"
            }
            20 => {
                let key = random.index(keys.len());
                self.simulator.fault(Call::ListTags, Fault::Hang).repository(&keys[key]);
                trouble.tags = split(&keys[key]).map(|key| (key, None));
                "tags of one repository hang"
            }
            21 => {
                let call = random.of(&[Call::ListRepositories, Call::ListShared, Call::ListTags]);
                let (fault, kind) = match random.below(4) {
                    0 => (Fault::status(429), "one request is throttled"),
                    1 => (Fault::status(503), "one answer is an error"),
                    2 => (Fault::Reset, "one connection is reset"),
                    _ => (Fault::Truncate, "one answer is cut short"),
                };
                self.simulator.fault(call, fault).times(1);
                trouble.retries = true;
                kind
            }
            22..25 => {
                self.simulator.fault(Call::ListRepositories, Fault::ShiftWhilePaging).times(1);
                trouble.retries = true;
                "the list shifts while it is paged"
            }
            25..28 => {
                self.simulator.fault(Call::ListRepositories, Fault::NoTotal);
                trouble.retries = true;
                "the list states no total"
            }
            28..30 => {
                self.simulator.fault(Call::ListRepositories, Fault::WrongTotal(3));
                trouble.retries = true;
                "the list states a wrong total"
            }
            _ => "none",
        };
        trouble.kind = kind;
        *self.troubles.entry(kind).or_default() += 1;
        trouble
    }
}

/// Polls once and collects what is published meanwhile.
async fn watch(
    source: &mut Source,
    deadline: Option<Instant>,
    states: &mut watch::Receiver<Arc<SourceState>>,
) -> Vec<Arc<Inventory>> {
    let mut published: Vec<Arc<Inventory>> = Vec::new();
    let mut poll = pin!(source.poll(deadline));
    let mut polling = true;
    while polling {
        tokio::select! {
            biased;
            _ = states.changed() => {}
            _ = &mut poll => polling = false,
        }
        let inventory = Arc::clone(&states.borrow_and_update().inventory);
        if published.last().is_none_or(|last| !Arc::ptr_eq(last, &inventory)) {
            published.push(inventory);
        }
    }
    published
}

fn split(key: &str) -> Option<Key> {
    key.split_once('/').map(|(organization, name)| (organization.to_owned(), name.to_owned()))
}

fn resident_kilobytes() -> u64 {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.ok().and_then(|status| status.vmrss).expect("Linux tells a process its memory")
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux lists open files").count()
}
