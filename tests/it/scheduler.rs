//! When to poll, what to keep after a failure, what to publish and when to withdraw: with a provider in memory and
//! time that stands still unless everybody waits.

mod lists;
mod restart;
mod tags;
mod warnings;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use container_registry_exporter::client::{ApiError, Call, Cause, Listing, Poll, Refusal, Verdict};
use container_registry_exporter::config::Config;
use container_registry_exporter::inventory::{
    Center, Repository, SharedRepository, SourceInfo, Tag, Timestamp,
};
use container_registry_exporter::provider::{Provider, TagListing};
use container_registry_exporter::scheduler::{Source, SourceState, collectors};
use container_registry_exporter::telemetry::Reason;
use container_registry_exporter::telemetry::self_metrics::SelfMetrics;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// What the provider in memory says; tests change it while the source runs.
struct Account {
    repositories: Vec<&'static str>,
    /// The lists in which they come, each with the repositories whose names begin with its own and a slash; none = one
    /// list of all.
    lists: Vec<&'static str>,
    fail_names: Option<Reason>,
    fail_lists: BTreeMap<&'static str, Reason>,
    lists_take: BTreeMap<&'static str, Duration>,
    /// What there is instead of names that match nothing.
    existing: Vec<&'static str>,
    fail_repositories: Option<Reason>,
    fail_shared: Option<Reason>,
    /// How often what fails was sent.
    attempts: u32,
    fail_tags: BTreeMap<&'static str, Reason>,
    /// When repositories changed, and their numbers of images, which for others the list does not tell.
    updated: BTreeMap<&'static str, Timestamp>,
    images: BTreeMap<&'static str, u64>,
    /// The stated totals of tags minus those listed.
    mismatches: BTreeMap<&'static str, i64>,
    /// How long one tag listing takes, and the list of repositories.
    tags_take: Duration,
    repositories_take: Duration,
    /// Calls in the order in which they began, with the time since the start.
    calls: Vec<(Duration, String)>,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            repositories: Vec::new(),
            lists: Vec::new(),
            fail_names: None,
            fail_lists: BTreeMap::new(),
            lists_take: BTreeMap::new(),
            existing: Vec::new(),
            fail_repositories: None,
            fail_shared: None,
            attempts: 1,
            fail_tags: BTreeMap::new(),
            updated: BTreeMap::new(),
            images: BTreeMap::new(),
            mismatches: BTreeMap::new(),
            tags_take: Duration::ZERO,
            repositories_take: Duration::ZERO,
            calls: Vec::new(),
        }
    }
}

struct InMemory {
    account: Arc<Mutex<Account>>,
    start: Instant,
}

impl InMemory {
    fn note(&self, call: String) {
        self.account.lock().unwrap().calls.push((self.start.elapsed(), call));
    }
}

fn outcome(reason: Option<Reason>, attempts: u32) -> Result<(), ApiError> {
    let Some(reason) = reason else { return Ok(()) };
    let url = "https://registry.example/list".parse().unwrap();
    let call = Call { operation: "list", method: "GET", url: &url, body_limit: 0 };
    let credential = Verdict::Unknown;
    let refusal =
        Refusal { status: 418, reason, code: None, message: None, cure: None, retry: false, credential };
    Err(ApiError::new(call, attempts, Duration::ZERO, Cause::Refused { refusal, retry_after: None }))
}

#[async_trait]
impl Provider for InMemory {
    async fn listings(&self, _: &Poll) -> Result<Listing<Box<str>>, ApiError> {
        let account = self.account.lock().unwrap();
        outcome(account.fail_names, account.attempts)?;
        let names: Vec<Box<str>> = account.lists.iter().map(|name| (*name).into()).collect();
        Ok(Listing::of(if names.is_empty() { vec!["".into()] } else { names }))
    }

    async fn existing(&self, _: &Poll) -> Result<Vec<Box<str>>, ApiError> {
        self.note("existing".to_owned());
        Ok(self.account.lock().unwrap().existing.iter().map(|name| (*name).into()).collect())
    }

    async fn repositories(&self, _: &Poll, listing: &str) -> Result<Listing<Repository>, ApiError> {
        self.note(format!("repositories {listing}").trim_end().to_owned());
        let take = {
            let account = self.account.lock().unwrap();
            account.lists_take.get(listing).copied().unwrap_or(account.repositories_take)
        };
        sleep(take).await;
        let account = self.account.lock().unwrap();
        outcome(account.fail_repositories.or(account.fail_lists.get(listing).copied()), account.attempts)?;
        let row = |whole: &&'static str| {
            let (organization, name) = whole.split_once('/').unwrap_or(("group", whole));
            Repository {
                organization: organization.into(),
                name: name.into(),
                updated: account.updated.get(whole).copied(),
                images: account.images.get(whole).copied(),
                ..Repository::default()
            }
        };
        let rows = account.repositories.iter().map(row);
        let belongs = |row: &Repository| listing.is_empty() || *row.organization == *listing;
        Ok(Listing::of(rows.filter(belongs).collect()))
    }

    async fn shared_repositories(
        &self,
        _: &Poll,
        center: Center,
    ) -> Result<Listing<SharedRepository>, ApiError> {
        self.note(format!("shared {}", center.as_str()));
        {
            let account = self.account.lock().unwrap();
            outcome(account.fail_shared, account.attempts)?;
        }
        let row = SharedRepository {
            center,
            organization: "others".into(),
            name: "base".into(),
            size_bytes: Some(1),
            images: None,
            downloads: None,
            updated: None,
            valid: None,
            owner_account: None,
            category: None,
        };
        Ok(Listing::of(vec![row]))
    }

    async fn tags(&self, _: &Poll, repository: &Repository) -> Result<TagListing, ApiError> {
        self.note(format!("tags {}", repository.name));
        let (take, mismatch, outcome) = {
            let account = self.account.lock().unwrap();
            let reason = account.fail_tags.get(&*repository.name).copied();
            let mismatch = account.mismatches.get(&*repository.name).copied().unwrap_or_default();
            (account.tags_take, mismatch, outcome(reason, account.attempts))
        };
        sleep(take).await;
        outcome?;
        let updated = Timestamp::from_milliseconds(1_700_000_000_000);
        let rows = vec![Tag { name: "latest".into(), updated, ..Tag::default() }];
        Ok(TagListing { listing: Listing { mismatch, ..Listing::of(rows) }, images: None })
    }
}

/// A source that polls an account in memory.
struct Running {
    account: Arc<Mutex<Account>>,
    state: watch::Receiver<Arc<SourceState>>,
    metrics: SelfMetrics,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a source with an interval of a minute, a time-out of 48 s and two requests at once.
fn start(account: Account) -> Running {
    start_with(Arc::new(Mutex::new(account)), |_| ())
}

/// As [`start`], `prepare` having the source first.
fn start_with(account: Arc<Mutex<Account>>, prepare: impl FnOnce(&mut Source)) -> Running {
    let lists = account.lock().unwrap().lists.clone();
    let text = format!(
        r#"
        [sources.test]
        provider = "swr"
        region = "cn-north-4"
        organizations = {lists:?}
        poll = {{ interval = "1m", stale_after = "10m", max_concurrent_requests = 2 }}
        auth = {{ method = "ak_sk", access_key = "key", secret_key = "secret" }}
    "#
    );
    let config = Config::parse(&text, Path::new("."), &BTreeMap::new()).unwrap();
    let config = config.sources.into_iter().next().unwrap();
    let info = SourceInfo {
        name: config.name.clone(),
        provider: "swr",
        cloud_region: "cn-north-4".to_owned(),
        api_host: "registry.example".to_owned(),
    };
    let metrics = SelfMetrics::new();
    let source_metrics = metrics.source(&config.name, &collectors(&config), config.poll.interval);
    let provider = Arc::new(InMemory { account: Arc::clone(&account), start: Instant::now() });
    let (mut source, state) = Source::new(config, info, provider, source_metrics);
    prepare(&mut source);
    let task = tokio::spawn(source.run(Instant::now()));
    Running { account, state, metrics, task }
}

impl Running {
    /// Changes the account.
    fn edit(&self, change: impl FnOnce(&mut Account)) {
        change(&mut self.account.lock().unwrap());
    }

    /// The names of the repositories shown, with a `+` where tags are known, or `unknown`.
    fn repositories(&self) -> String {
        let state = self.state.borrow();
        let Some(repositories) = &state.inventory.repositories else { return "unknown".to_owned() };
        let show = |e: &container_registry_exporter::inventory::Entry| {
            format!("{}{}", e.repository.name, if e.tags.is_some() { "+" } else { "" })
        };
        repositories.entries.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    fn shared(&self) -> Option<usize> {
        self.state.borrow().inventory.shared.as_ref().map(|rows| rows.len())
    }

    fn up(&self) -> Option<bool> {
        self.state.borrow().inventory.up
    }

    /// The tag listings that began, in order.
    fn tag_calls(&self) -> String {
        let account = self.account.lock().unwrap();
        let names = account.calls.iter().filter_map(|(_, call)| call.strip_prefix("tags "));
        names.collect::<Vec<_>>().join(" ")
    }

    /// The value of a metric of the exporter itself.
    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let name = format!("container_registry_exporter_{name}");
        let family = self.metrics.gather().into_iter().find(|family| family.name() == name).unwrap();
        let has = |m: &prometheus::proto::Metric, (name, value): &(&str, &str)| {
            m.get_label().iter().any(|label| label.name() == *name && label.value() == *value)
        };
        let metric = family.get_metric().iter().find(|m| labels.iter().all(|label| has(m, label))).unwrap();
        match family.get_field_type() {
            prometheus::proto::MetricType::COUNTER => metric.get_counter().get_value(),
            _ => metric.get_gauge().get_value(),
        }
    }
}

/// Lets everything happen that is due within `seconds`.
async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

fn account(repositories: &[&'static str]) -> Account {
    Account { repositories: repositories.to_vec(), ..Account::default() }
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_finds_nothing_new_leaves_the_inventory_the_same_one() {
    let mut account = Account { repositories: vec!["a", "b"], ..Account::default() };
    let updated = Timestamp::from_milliseconds(1_700_000_000_000).unwrap();
    account.updated = [("a", updated), ("b", updated)].into();
    let running = start(account);
    pass(1).await;
    assert_eq!((running.repositories().as_str(), running.shared()), ("a+ b+", Some(2)));
    let inventory = || Arc::clone(&running.state.borrow().inventory);
    let first = inventory();
    pass(60).await;
    assert_eq!(running.metric("polls_total", &[("collector", "tags")]), 2.0);
    assert!(Arc::ptr_eq(&inventory(), &first));
    running.edit(|account| account.repositories.push("c"));
    pass(60).await;
    assert!(!Arc::ptr_eq(&inventory(), &first));
}

#[tokio::test(start_paused = true)]
async fn polls_at_once_and_then_every_interval() {
    let source = start(account(&["a"]));
    pass(121).await;
    let calls = source.account.lock().unwrap();
    let polls = calls.calls.iter().filter(|(_, call)| call == "repositories");
    let times: Vec<_> = polls.map(|(time, _)| time.as_secs()).collect();
    assert_eq!(times, [0, 60, 120]);
}

#[tokio::test(start_paused = true)]
async fn shows_repositories_before_their_tags_are_read() {
    let source = start(Account { tags_take: Duration::from_secs(5), ..account(&["a"]) });
    pass(1).await;
    assert_eq!(source.repositories(), "a");
    pass(5).await;
    assert_eq!(source.repositories(), "a+");
}

#[tokio::test(start_paused = true)]
async fn shows_tags_every_ten_seconds_while_they_are_read() {
    let source = start(Account {
        tags_take: Duration::from_secs(4),
        ..account(&["a", "b", "c", "d", "e", "f", "g", "h"])
    });
    pass(9).await;
    assert_eq!(source.repositories(), "a b c d e f g h");
    pass(4).await;
    assert_eq!(source.repositories(), "a+ b+ c+ d+ e+ f g h");
}

#[tokio::test(start_paused = true)]
async fn keeps_what_it_knows_when_the_list_fails_and_heals_at_the_next_poll() {
    let source = start(account(&["a"]));
    pass(1).await;
    source.edit(|account| account.fail_repositories = Some(Reason::Server));
    pass(60).await;
    assert_eq!((source.repositories().as_str(), source.up()), ("a+", Some(false)));
    let labels = [("collector", "repositories"), ("reason", "server")];
    assert_eq!(source.metric("poll_failures_total", &labels), 1.0);
    assert_eq!(source.state.borrow().status.collectors[0].failure.as_ref().unwrap().reason, Reason::Server);
    source.edit(|account| account.fail_repositories = None);
    pass(60).await;
    assert_eq!(source.up(), Some(true));
    assert_eq!(source.state.borrow().status.collectors[0].failure, None);
    assert_eq!(source.metric("polls_total", &[("collector", "repositories")]), 3.0);
}

#[tokio::test(start_paused = true)]
async fn withdraws_what_is_too_old_at_its_time_and_nothing_is_zero() {
    let source = start(account(&["a"]));
    pass(1).await;
    source.edit(|account| account.fail_repositories = Some(Reason::Connect));
    pass(598).await;
    assert_eq!((source.repositories().as_str(), source.shared()), ("a+", Some(2)));
    pass(2).await;
    assert_eq!((source.repositories().as_str(), source.shared()), ("unknown", None));
    assert_eq!(source.up(), Some(false));
}

#[tokio::test(start_paused = true)]
async fn withdraws_what_becomes_too_old_while_a_poll_is_under_way() {
    let source = start(account(&["a"]));
    pass(1).await;
    source.edit(|account| account.fail_repositories = Some(Reason::Timeout));
    pass(540).await;
    source.edit(|account| account.repositories_take = Duration::from_secs(47));
    pass(58).await;
    assert_eq!(source.repositories(), "a+");
    pass(2).await;
    assert_eq!((source.repositories().as_str(), source.shared()), ("unknown", None));
}

#[tokio::test(start_paused = true)]
async fn withdraws_shared_repositories_at_their_time_when_only_they_fail() {
    let source = start(account(&["a"]));
    pass(1).await;
    source.edit(|account| account.fail_shared = Some(Reason::Server));
    pass(598).await;
    assert_eq!(source.shared(), Some(2));
    pass(2).await;
    assert_eq!((source.repositories().as_str(), source.shared()), ("a+", None));
}

#[tokio::test(start_paused = true)]
async fn withdraws_tags_between_polls_too() {
    // The first list takes half a minute, and so tags are that much younger than the polls.
    let source = start(Account { repositories_take: Duration::from_secs(30), ..account(&["a"]) });
    pass(31).await;
    source.edit(|account| {
        account.repositories_take = Duration::ZERO;
        account.fail_tags.insert("a", Reason::Server);
    });
    pass(24 * 3600 + 598).await;
    assert_eq!(source.repositories(), "a+");
    pass(2).await;
    assert_eq!(source.repositories(), "a");
}

#[tokio::test(start_paused = true)]
async fn knows_nothing_of_up_before_the_first_list_ended() {
    let source = start(account(&["a"]));
    assert_eq!((source.up(), source.repositories().as_str()), (None, "unknown"));
}

#[tokio::test(start_paused = true)]
async fn a_failing_shared_list_does_not_harm_the_repositories() {
    let source = start(Account { fail_shared: Some(Reason::Forbidden), ..account(&["a"]) });
    pass(1).await;
    assert_eq!((source.repositories().as_str(), source.up(), source.shared()), ("a+", Some(true), None));
}

#[tokio::test(start_paused = true)]
async fn a_failing_list_of_repositories_does_not_harm_the_shared_ones() {
    let source = start(Account { fail_repositories: Some(Reason::Decode), ..account(&["a"]) });
    pass(1).await;
    assert_eq!((source.repositories().as_str(), source.shared()), ("unknown", Some(2)));
    assert_eq!(source.tag_calls(), "");
}

#[tokio::test(start_paused = true)]
async fn goes_on_with_the_tags_that_waited_longest_when_the_time_is_up() {
    // Two at a time for 20 s each: four are begun before the end of the poll at 48 s and two more are cut off.
    let source = start(Account {
        tags_take: Duration::from_secs(20),
        ..account(&["a", "b", "c", "d", "e", "f", "g"])
    });
    pass(59).await;
    assert_eq!(source.tag_calls(), "a b c d e f");
    assert_eq!(source.metric("tag_listings_pending", &[]), 3.0);
    assert_eq!(source.metric("poll_failures_total", &[("collector", "tags"), ("reason", "timeout")]), 0.0);
    assert!(source.state.borrow().status.collectors[2].last_success.is_some(), "that is no failure");
    pass(60).await;
    assert_eq!(source.tag_calls(), "a b c d e f e f g a b c");
}

#[tokio::test(start_paused = true)]
async fn a_repository_whose_tags_failed_keeps_the_old_ones_and_is_first_at_the_next_poll() {
    let source = start(account(&["a", "b", "c"]));
    pass(1).await;
    source.edit(|account| _ = account.fail_tags.insert("c", Reason::Server));
    pass(60).await;
    assert_eq!(source.repositories(), "a+ b+ c+");
    assert_eq!(source.metric("tag_listings_pending", &[]), 1.0);
    assert_eq!(source.metric("tag_listing_failures_total", &[("reason", "server")]), 1.0);
    pass(60).await;
    assert_eq!(source.tag_calls(), "a b c a b c c a b");
}

#[tokio::test(start_paused = true)]
async fn tags_of_a_repository_that_is_not_found_are_kept_since_its_list_still_has_it() {
    let source = start(account(&["a", "b"]));
    pass(1).await;
    source.edit(|account| _ = account.fail_tags.insert("b", Reason::NotFound));
    pass(60).await;
    assert_eq!(source.repositories(), "a+ b+");
    assert_eq!(source.metric("tag_listing_failures_total", &[("reason", "not_found")]), 1.0);
    assert_eq!(source.metric("tag_listings_pending", &[]), 1.0);
}

#[tokio::test(start_paused = true)]
async fn the_tags_fail_only_when_all_of_them_fail() {
    let source = start(account(&["a", "b"]));
    source.edit(|account| account.fail_tags = [("a", Reason::Server), ("b", Reason::Decode)].into());
    pass(1).await;
    assert_eq!(source.metric("poll_failures_total", &[("collector", "tags"), ("reason", "decode")]), 1.0);
    source.edit(|account| _ = account.fail_tags.remove("a"));
    pass(60).await;
    assert_eq!(source.metric("poll_failures_total", &[("collector", "tags"), ("reason", "decode")]), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_ends_the_reading_of_tags() {
    let source = start(account(&["a", "b", "c", "d", "e"]));
    source.edit(|account| _ = account.fail_tags.insert("a", Reason::Unauthorized));
    pass(1).await;
    let calls = source.tag_calls();
    assert!(calls.len() < "a b c d e".len(), "{calls}");
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_is_gone_is_gone_from_the_next_list() {
    let source = start(account(&["a", "b", "c"]));
    pass(1).await;
    source.edit(|account| account.repositories = vec!["a", "c", "d"]);
    pass(60).await;
    assert_eq!(source.repositories(), "a+ c+ d+");
}
