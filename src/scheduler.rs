//! One task per source: when to poll, what to keep after a failure, when to publish and when to withdraw.
//!
//! A poll has up to three collectors. Each publishes as soon as it is complete, and a failure of one leaves what the
//! others know untouched: the last good data stays until it is too old to be shown.

mod listings;
pub mod memory;
mod publish;
mod reading;
mod similar;
pub mod status;
pub mod tag_cache;

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::client::{ApiError, Listing, Poll};
use crate::config::{Cloud, SourceConfig};
use crate::inventory::{Inventory, Repository, SharedRepository, SourceInfo, Timestamp};
use crate::provider::{Provider, TagListing};
use crate::telemetry::Collector;
use crate::telemetry::self_metrics::SourceMetrics;

use listings::{KnownList, Lists, existing, shared_repositories};
pub use memory::Memory;
use reading::{Place, Reading};
pub use status::{CollectorStatus, Failure, ListDown, SourceState, SourceStatus};
use tag_cache::Rules;

/// Where a source has many lists, what is known so far is published this often while they are read.
const LIST_PUBLISH_INTERVAL: Duration = Duration::from_secs(1);

/// While tags are read or become too old, what is known so far is published this often.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(10);

/// A download alone makes tags be read again after this time, for when they were last pulled.
const AFTER_DOWNLOAD: Duration = Duration::from_hours(1);

/// What a source polls by, apart from what it reads.
#[derive(Clone)]
pub struct Settings {
    /// How it is configured.
    pub config: SourceConfig,
    /// The way to its cloud, made for that configuration.
    pub provider: Arc<dyn Provider>,
    /// When to poll next.
    pub next: Instant,
}

/// A source together with all that it knows, and with what it needs to poll itself.
pub struct Source {
    config: SourceConfig,
    rules: Rules,
    provider: Arc<dyn Provider>,
    metrics: SourceMetrics,
    state: watch::Sender<Arc<SourceState>>,
    status: SourceStatus,
    /// What was published last; `changed` says that it is no longer what is known.
    inventory: Arc<Inventory>,
    changed: bool,
    /// When it was published, is to be again at the latest, and when something in it becomes too old.
    published: Instant,
    publish_at: Option<Instant>,
    expiry: Option<Instant>,
    /// Polls begun so far.
    polls: u64,
    /// When the poll after the one under way begins, where there is one.
    poll_after: Option<Timestamp>,
    up: Option<bool>,
    /// Sorted by name; and when it was last read which there are.
    listings: Vec<KnownList>,
    listings_read: Option<Instant>,
    /// Whether all lists were empty.
    has_nothing: bool,
    /// Organizations of which no tags could be read for lack of permission.
    forbidden: BTreeSet<Box<str>>,
    shared: Option<(Instant, Arc<[SharedRepository]>)>,
    /// Where to hand out what is known; `unsaved` says that there is something new.
    memories: Option<mpsc::Sender<Memory>>,
    unsaved: bool,
    /// Where other settings come from while it runs.
    settings: Option<watch::Receiver<Option<Settings>>>,
}

/// What happens in a poll.
enum Event {
    /// The list at this index ended.
    Repositories(usize, Result<Listing<Repository>, ApiError>),
    /// The lists of shared repositories ended.
    Shared(Result<Listing<SharedRepository>, ApiError>),
    /// Which names there are instead of these, that match nothing.
    Existing(Vec<Box<str>>, Vec<Box<str>>),
    /// A repository's tags; `None` if the poll's end cut them off.
    Tags(Place, Option<Result<TagListing, ApiError>>),
}

impl Source {
    /// A source that knows nothing yet, and the channel on which it publishes.
    pub fn new(
        config: SourceConfig,
        info: SourceInfo,
        provider: Arc<dyn Provider>,
        metrics: SourceMetrics,
    ) -> (Self, watch::Receiver<Arc<SourceState>>) {
        let inventory = Arc::new(Inventory {
            source: Arc::new(info),
            up: None,
            organizations_up: Vec::new(),
            repositories: None,
            shared: None,
        });
        let status = SourceStatus::new(&collectors(&config));
        let (state, receiver) = watch::channel(Arc::new(SourceState {
            inventory: Arc::clone(&inventory),
            status: status.clone(),
        }));
        let source = Self {
            rules: tag_rules(&config),
            config,
            provider,
            metrics,
            state,
            status,
            inventory,
            changed: false,
            published: Instant::now(),
            publish_at: None,
            expiry: None,
            polls: 0,
            poll_after: None,
            up: None,
            listings: Vec::new(),
            listings_read: None,
            has_nothing: false,
            forbidden: BTreeSet::new(),
            shared: None,
            memories: None,
            unsaved: false,
            settings: None,
        };
        (source, receiver)
    }

    /// Where to send the settings that the source is to go on with while it runs. They must read the same things.
    pub fn settings(&mut self) -> watch::Sender<Option<Settings>> {
        let (sender, receiver) = watch::channel(None);
        self.settings = Some(receiver);
        sender
    }

    /// Polls for ever, the first time at `first`. Polls never overlap; a poll in flight ends when the future is
    /// dropped, and when other settings come.
    pub async fn run(mut self, first: Instant) {
        let mut settings = self.settings.take();
        let mut next = first;
        loop {
            let changed = tokio::select! {
                biased;
                settings = changed(&mut settings) => settings,
                after = self.turn(next) => {
                    next = after;
                    continue;
                }
            };
            next = changed.next;
            self.adopt(changed);
        }
    }

    /// Waits for the next poll and polls; the time of the poll after that.
    async fn turn(&mut self, next: Instant) -> Instant {
        self.status.next_poll = Some(wall_clock(next));
        self.publish();
        self.withdrawing(sleep_until(next)).await;
        let start = Instant::now();
        self.status.polling = true;
        self.poll_after = Some(wall_clock(start + self.config.poll.interval));
        self.publish();
        self.poll(Some(start + self.config.poll.timeout)).await;
        self.status.polling = false;
        self.hand_out();
        Instant::now().max(start + self.config.poll.interval)
    }

    /// Goes on with other settings and with all that is known, as far as they show it.
    fn adopt(&mut self, Settings { config, provider, .. }: Settings) {
        let collectors = collectors(&config);
        self.status.keep(&collectors);
        self.status.polling = false;
        self.metrics.configure(&collectors, config.poll.interval);
        if config.cloud != self.config.cloud {
            // Of a credential that may no longer be the one.
            self.metrics.credentials_expiry(None);
        }
        self.rules = tag_rules(&config);
        for list in &mut self.listings {
            list.tags.adopt(self.rules, &config.tags);
        }
        (self.config, self.provider) = (config, provider);
        (self.status.tags_pending, self.status.tags_failing) = (0, 0);
        if self.status.has(Collector::Tags) {
            self.note_pending();
        }
        (self.changed, self.unsaved) = (true, true);
    }

    /// One poll of all collectors. Whether none of them failed.
    ///
    /// Lists and tags are read side by side, so that one that takes long holds up nothing else.
    pub async fn poll(&mut self, deadline: Option<Instant>) -> bool {
        let (poll, start) = (Poll::new(deadline), Instant::now());
        let provider = Arc::clone(&self.provider);
        let (poll, provider) = (&poll, &*provider);
        let most = self.config.poll.max_concurrent_requests;
        // An outage of the lists puts off no repository's turn in the full sweep.
        self.polls = self.polls.wrapping_add(1);
        let mut lists = match self.withdrawing(provider.listings(poll)).await {
            Ok(names) => self.learn_listings(names),
            Err(error) => Lists::failed(error),
        };
        let mut good = true;
        let mut shared = self.config.cloud.shared().to_vec();
        let mut reading: Option<Reading> = None;
        let mut running = FuturesUnordered::<BoxFuture<'_, Event>>::new();
        loop {
            while lists.under_way < most
                && let Some(index) = lists.next()
            {
                let name = self.listings[index].name.clone();
                let list =
                    async move { Event::Repositories(index, provider.repositories(poll, &name).await) };
                running.push(list.boxed());
            }
            if lists.under_way == 0
                && let Some(outcome) = lists.end()
            {
                good &= self.end_repositories(start, outcome, &lists);
                self.publish();
                let empties = self.new_empties();
                if !empties.is_empty() {
                    running.push(existing(provider, deadline, empties).boxed());
                }
            }
            // Not before the credential is known to be good, or what is wrong with it was told.
            if !shared.is_empty() && (lists.any || lists.are_over()) {
                let centers = std::mem::take(&mut shared);
                running.push(shared_repositories(provider, poll, centers).map(Event::Shared).boxed());
            }
            while let Some(tags) = &mut reading
                && tags.under_way < most
                && let Some((list, index)) =
                    tags.next(|(list, index)| self.listings[list].tags.organization(index))
            {
                let repository = Arc::clone(self.listings[list].tags.repository(index));
                let tags = async move {
                    let outcome = poll.within(provider.tags(poll, &repository)).await;
                    // What the end of the poll cuts off did not fail.
                    let in_time = outcome.filter(|outcome| outcome.is_ok() || !poll.is_over());
                    Event::Tags((list, index), in_time)
                };
                running.push(tags.boxed());
            }
            if lists.are_over()
                && let Some(tags) = reading.take_if(|tags| tags.under_way == 0)
            {
                good &= self.end_tags(tags);
                self.publish();
            }
            // Nothing more happens to the tags for now, and other lists may take long.
            if self.changed && reading.as_ref().is_some_and(|tags| tags.under_way == 0) {
                self.publish_after(LIST_PUBLISH_INTERVAL);
            }
            match self.withdrawing(running.next()).await {
                None => return good,
                Some(Event::Existing(empties, names)) => self.warn_of_empties(&empties, &names),
                Some(Event::Repositories(index, outcome)) => {
                    if let Err(error) = &outcome
                        && self.fail_repositories(index, error)
                    {
                        lists.new_failures.insert(index);
                    }
                    if let Some(listing) = lists.note(index, outcome) {
                        if self.learn_repositories(index, listing) {
                            lists.recovered.insert(index);
                        }
                        if self.status.has(Collector::Tags) {
                            let due = self.listings[index].tags.due(self.polls);
                            reading.get_or_insert_with(Reading::new).add(index, due);
                        }
                    }
                    self.publish_after(LIST_PUBLISH_INTERVAL);
                }
                Some(Event::Shared(outcome)) => {
                    let outcome = outcome.map(|listing| self.learn_shared_repositories(listing));
                    good &= self.finish(Collector::SharedRepositories, start, outcome, "");
                    self.publish();
                }
                Some(Event::Tags(place, outcome)) => {
                    if let Some(reading) = &mut reading {
                        self.learn_tags(reading, place, outcome);
                    }
                    if self.published.elapsed() >= PUBLISH_INTERVAL {
                        self.publish();
                    }
                }
            }
        }
    }

    fn learn_shared_repositories(&mut self, listing: Listing<SharedRepository>) {
        let Listing { mut rows, duplicates, mismatch } = listing;
        rows.retain(|r| self.config.repositories.keeps_repository(&r.organization, &r.name));
        rows.sort_by(|a, b| (a.center, &a.organization, &a.name).cmp(&(b.center, &b.organization, &b.name)));
        self.metrics.duplicates(duplicates);
        self.note_mismatch(Collector::SharedRepositories, mismatch);
        self.shared = Some((Instant::now(), rows.into()));
        (self.changed, self.unsaved) = (true, true);
    }

    /// Notes the end of a collector's work. A source that turns bad is one warning, one that turns good one line; what
    /// repeats is told by the metrics. `lists` names those of several lists that failed and did not before.
    fn finish(
        &mut self,
        collector: Collector,
        start: Instant,
        outcome: Result<(), ApiError>,
        lists: &str,
    ) -> bool {
        let (source, name) = (self.config.name.as_str(), collector.as_str());
        self.metrics.poll(collector, outcome.as_ref().copied().map_err(ApiError::reason), start.elapsed());
        let Err(error) = outcome else {
            let now = wall_clock(Instant::now());
            self.metrics.last_success(collector, now);
            let status = self.status.of(collector);
            if status.last_success.is_none() || status.failure.is_some() {
                tracing::info!(source, collector = name, "poll succeeded");
            }
            (status.last_success, status.failure) = (Some(now), None);
            status.told.clear();
            return true;
        };
        let failure = Failure::new(&error);
        let (reason, message) = (failure.reason.as_str(), failure.message.as_str());
        // What was not even sent waited for what had failed before, and was told then.
        let told_before = |other: &CollectorStatus| {
            other.collector != collector && other.failure.as_ref().is_some_and(|f| f.reason == failure.reason)
        };
        let silenced = error.attempts == 0 && self.status.collectors.iter().any(told_before);
        let next_attempt = failure.next_attempt.or(self.poll_after).map(tracing::field::display);
        let status = self.status.of(collector);
        if !silenced && (!lists.is_empty() || !status.told.contains(&failure.reason)) {
            let lists = Some(lists).filter(|lists| !lists.is_empty());
            tracing::warn!(
                source,
                collector = name,
                lists,
                reason,
                error = message,
                next_attempt,
                "poll failed"
            );
            status.told.push(failure.reason);
        } else {
            tracing::debug!(source, collector = name, reason, error = message, "poll failed");
        }
        status.failure = Some(failure);
        false
    }

    fn note_mismatch(&mut self, collector: Collector, difference: i64) {
        self.metrics.total_mismatch(collector, difference);
        let (source, name) = (self.config.name.as_str(), collector.as_str());
        let last = std::mem::replace(&mut self.status.of(collector).mismatch, difference);
        if difference != 0 && last == 0 {
            tracing::warn!(
                source,
                collector = name,
                difference,
                "the total that the API states is not the number of rows that it lists"
            );
        }
    }
}

/// The collectors that a source has.
pub fn collectors(config: &SourceConfig) -> Vec<Collector> {
    let mut collectors = vec![Collector::Repositories];
    if !config.cloud.shared().is_empty() {
        collectors.push(Collector::SharedRepositories);
    }
    if config.tags.enabled {
        collectors.push(Collector::Tags);
    }
    collectors
}

/// Waits for other settings; for ever where none can come.
async fn changed(settings: &mut Option<watch::Receiver<Option<Settings>>>) -> Settings {
    if let Some(settings) = settings {
        while settings.changed().await.is_ok() {
            if let Some(settings) = settings.borrow_and_update().clone() {
                return settings;
            }
        }
    }
    pending().await
}

fn tag_rules(config: &SourceConfig) -> Rules {
    let (full_sweep, interval) = (config.tags.full_sweep, config.poll.interval);
    let polls = full_sweep.as_millis() / interval.as_millis().max(1);
    Rules {
        full_sweep,
        sweep_polls: u64::try_from(polls).unwrap_or(u64::MAX).max(1),
        max_age: full_sweep + config.poll.stale_after,
        // Only NCR's tags tell when they were pulled.
        after_download: matches!(config.cloud, Cloud::Ncr(_)).then_some(AFTER_DOWNLOAD),
    }
}

/// What the clocks on the wall show at `instant`.
fn wall_clock(instant: Instant) -> Timestamp {
    Timestamp::from(SystemTime::now() + instant.saturating_duration_since(Instant::now()))
}
