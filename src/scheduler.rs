//! One task per source: when to poll, what to keep after a failure, when to publish and when to withdraw.
//!
//! A poll has up to three collectors. Each publishes as soon as it is complete, and a failure of one leaves what the
//! others know untouched: the last good data stays until it is too old to be shown.

pub mod memory;
mod publish;
pub mod status;
pub mod tag_cache;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, stream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::client::{ApiError, Cause, Poll};
use crate::config::{Cloud, SourceConfig};
use crate::inventory::{Inventory, SharedRepository, SourceInfo, Timestamp};
use crate::provider::{Provider, RepositoryListing, TagListing};
use crate::telemetry::logging::chain;
use crate::telemetry::self_metrics::SourceMetrics;
use crate::telemetry::{Collector, Reason};

pub use memory::Memory;
pub use status::{CollectorStatus, Failure, SourceState, SourceStatus};
use tag_cache::{Rules, TagCache};

/// While tags are read or become too old, what is known so far is published this often.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(10);

/// A download alone makes tags be read again after this time, for when they were last pulled.
const AFTER_DOWNLOAD: Duration = Duration::from_hours(1);

/// A source together with all that it knows, and with what it needs to poll itself.
pub struct Source {
    config: SourceConfig,
    provider: Arc<dyn Provider>,
    metrics: SourceMetrics,
    state: watch::Sender<Arc<SourceState>>,
    status: SourceStatus,
    /// What was published last; `changed` says that it is no longer what is known.
    inventory: Arc<Inventory>,
    changed: bool,
    /// When something in it becomes too old.
    expiry: Option<Instant>,
    up: Option<bool>,
    repositories: Known<RepositoryListing>,
    tags: TagCache,
    shared: Known<Arc<[SharedRepository]>>,
    /// Where to hand out what is known; `unsaved` says that there is something new.
    memories: Option<mpsc::Sender<Memory>>,
    unsaved: bool,
}

/// What a collector last read, and when.
type Known<T> = Option<(Instant, T)>;

impl Source {
    /// A source that knows nothing yet, and the channel on which it publishes.
    pub fn new(
        config: SourceConfig,
        info: SourceInfo,
        provider: Arc<dyn Provider>,
        metrics: SourceMetrics,
    ) -> (Self, watch::Receiver<Arc<SourceState>>) {
        let inventory =
            Arc::new(Inventory { source: Arc::new(info), up: None, repositories: None, shared: None });
        let status = SourceStatus::new(&collectors(&config));
        let (state, receiver) = watch::channel(Arc::new(SourceState {
            inventory: Arc::clone(&inventory),
            status: status.clone(),
        }));
        let tags = TagCache::new(tag_rules(&config));
        let source = Self {
            config,
            provider,
            metrics,
            state,
            status,
            inventory,
            changed: false,
            expiry: None,
            up: None,
            repositories: None,
            tags,
            shared: None,
            memories: None,
            unsaved: false,
        };
        (source, receiver)
    }

    /// Polls for ever, the first time at `first`. Polls never overlap; a poll in flight ends when the future is
    /// dropped.
    pub async fn run(mut self, first: Instant) {
        let mut next = first;
        loop {
            self.status.next_poll = Some(wall_clock(next));
            self.publish();
            self.withdrawing(sleep_until(next)).await;
            let start = Instant::now();
            self.status.polling = true;
            self.publish();
            self.poll(Some(start + self.config.poll.timeout)).await;
            self.status.polling = false;
            self.hand_out();
            next = Instant::now().max(start + self.config.poll.interval);
        }
    }

    /// One poll of all collectors. Whether none of them failed.
    pub async fn poll(&mut self, deadline: Option<Instant>) -> bool {
        let poll = Poll::new(deadline);
        let listed = self.poll_repositories(&poll).await;
        self.publish();
        let mut succeeded = listed;
        if self.status.has(Collector::SharedRepositories) {
            succeeded &= self.poll_shared_repositories(&poll).await;
            self.publish();
        }
        // Without a fresh list there is nothing to compare tags with, and what is wrong with it is wrong with them.
        if listed && self.status.has(Collector::Tags) {
            succeeded &= self.poll_tags(&poll).await;
            self.publish();
        }
        succeeded
    }

    async fn poll_repositories(&mut self, poll: &Poll) -> bool {
        let start = Instant::now();
        self.tags.begin_poll();
        let provider = Arc::clone(&self.provider);
        let outcome = self.withdrawing(provider.repositories(poll)).await;
        self.up = Some(outcome.is_ok());
        self.status.tried = true;
        self.changed = true;
        let outcome = outcome.map(|listing| self.learn_repositories(listing));
        self.finish(Collector::Repositories, start, outcome)
    }

    fn learn_repositories(&mut self, mut listing: RepositoryListing) {
        self.metrics.duplicates(listing.duplicates);
        self.note_mismatch(Collector::Repositories, listing.mismatch);
        let filter = &self.config.repositories;
        let named = self.config.cloud.organizations();
        let everything = named.is_empty() && listing.organizations.is_some();
        let was_empty = self.repositories.as_ref().is_some_and(|(_, known)| known.listed == 0);
        if everything && listing.listed == 0 && !was_empty {
            tracing::warn!(
                source = self.config.name.as_str(),
                "the account has no repository; if it should have, the key lacks the permission to list them"
            );
        }
        let mut rows = std::mem::take(&mut listing.rows);
        rows.retain(|r| filter.keeps_repository(&r.organization, &r.name));
        if let Some(organizations) = &mut listing.organizations {
            if !filter.is_empty() {
                organizations.clear();
            }
            organizations.extend(named.iter().map(|name| name.as_str().into()));
            organizations.extend(rows.iter().map(|r| r.organization.clone()));
            organizations.sort_unstable();
            organizations.dedup();
        }
        let skipped = self.tags.list(rows, Instant::now());
        if self.status.has(Collector::Tags) {
            self.metrics.tag_listings_skipped(skipped);
        }
        self.repositories = Some((Instant::now(), listing));
        self.unsaved = true;
    }

    async fn poll_shared_repositories(&mut self, poll: &Poll) -> bool {
        let start = Instant::now();
        let outcome = self.read_shared_repositories(poll).await;
        self.finish(Collector::SharedRepositories, start, outcome)
    }

    async fn read_shared_repositories(&mut self, poll: &Poll) -> Result<(), ApiError> {
        let mut rows = Vec::new();
        let (mut duplicates, mut mismatch) = (0, 0);
        let provider = Arc::clone(&self.provider);
        for center in self.config.cloud.shared().to_vec() {
            let listing = self.withdrawing(provider.shared_repositories(poll, center)).await?;
            duplicates += listing.duplicates;
            mismatch += listing.mismatch;
            rows.extend(listing.rows);
        }
        rows.retain(|r| self.config.repositories.keeps_repository(&r.organization, &r.name));
        rows.sort_by(|a, b| (a.center, &a.organization, &a.name).cmp(&(b.center, &b.organization, &b.name)));
        self.metrics.duplicates(duplicates);
        self.note_mismatch(Collector::SharedRepositories, mismatch);
        self.shared = Some((Instant::now(), rows.into()));
        (self.changed, self.unsaved) = (true, true);
        Ok(())
    }

    /// Reads the tags of the repositories that are due, as far as the poll's time goes; the rest stays due.
    async fn poll_tags(&mut self, poll: &Poll) -> bool {
        let start = Instant::now();
        let provider = Arc::clone(&self.provider);
        let due = self.tags.due();
        let (mut left, mut answered, mut mismatch) = (due.len(), 0, 0);
        let mut failure = None;
        let mut listings = stream::iter(due)
            .map(|(index, repository)| {
                let provider = &provider;
                async move { (index, provider.tags(poll, &repository).await) }
            })
            .buffer_unordered(self.config.poll.max_concurrent_requests);
        let mut next_publish = start + PUBLISH_INTERVAL;
        self.note_pending();
        self.publish();
        while let Some(Some((index, outcome))) = self.withdrawing(poll.within(listings.next())).await {
            match outcome {
                Ok(TagListing { listing, images }) => {
                    answered += 1;
                    mismatch += listing.mismatch;
                    self.metrics.duplicates(listing.duplicates);
                    self.metrics.tag_listing(Ok(()));
                    let tags = tag_cache::tag_set(listing.rows, images, &self.config.tags);
                    self.tags.learn(index, tags, Instant::now());
                }
                // What the end of the poll cuts off did not fail.
                Err(_) if poll.deadline().is_some_and(|deadline| Instant::now() >= deadline) => break,
                Err(error) => {
                    self.note_tag_failure(&error);
                    let reason = error.reason();
                    if reason == Reason::NotFound {
                        answered += 1;
                        self.tags.gone(index);
                    } else {
                        failure = Some(error);
                    }
                    // The guard refuses whatever would come after it.
                    if reason == Reason::Unauthorized {
                        break;
                    }
                }
            }
            left -= 1;
            self.changed = true;
            if Instant::now() >= next_publish {
                self.note_pending();
                self.publish();
                next_publish = Instant::now() + PUBLISH_INTERVAL;
            }
        }
        drop(listings);
        self.note_pending();
        self.note_mismatch(Collector::Tags, mismatch);
        match failure {
            Some(error) if answered == 0 => self.finish(Collector::Tags, start, Err(error)),
            _ if left == 0 => self.finish(Collector::Tags, start, Ok(())),
            _ => {
                self.metrics.poll(Collector::Tags, Ok(()), start.elapsed());
                tracing::debug!(
                    source = self.config.name.as_str(),
                    left,
                    "the next poll goes on reading tags"
                );
                true
            }
        }
    }

    /// Notes the end of a collector's work. A source that turns bad is one warning, one that turns good one line;
    /// what repeats is told by the metrics.
    fn finish(&mut self, collector: Collector, start: Instant, outcome: Result<(), ApiError>) -> bool {
        let (source, name) = (self.config.name.as_str(), collector.as_str());
        self.metrics.poll(collector, outcome.as_ref().copied().map_err(ApiError::reason), start.elapsed());
        let now = wall_clock(Instant::now());
        let status = self.status.of(collector);
        match outcome {
            Ok(()) => {
                self.metrics.last_success(collector, now);
                if status.last_success.is_none() || status.failure.is_some() {
                    tracing::info!(source, collector = name, "poll succeeded");
                }
                status.last_success = Some(now);
                status.failure = None;
                true
            }
            Err(error) => {
                let reason = error.reason();
                let message = chain(&error);
                // What was not even tried has its reason elsewhere, and was told there.
                let news = status.failure.as_ref().is_none_or(|last| last.reason != reason);
                let told = error.attempts == 0 && !matches!(error.cause, Cause::Credential(_));
                if news && !told {
                    tracing::warn!(
                        source,
                        collector = name,
                        reason = reason.as_str(),
                        error = message,
                        "poll failed"
                    );
                } else {
                    tracing::debug!(
                        source,
                        collector = name,
                        reason = reason.as_str(),
                        error = message,
                        "poll failed"
                    );
                }
                let next_attempt = error.next_attempt();
                status.failure = Some(Failure { time: now, reason, message, next_attempt });
                false
            }
        }
    }

    fn note_tag_failure(&self, error: &ApiError) {
        let (source, reason) = (self.config.name.as_str(), error.reason());
        self.metrics.tag_listing(Err(reason));
        tracing::debug!(
            source,
            reason = reason.as_str(),
            error = chain(error),
            "tags of a repository not read"
        );
    }

    fn note_pending(&mut self) {
        self.status.tags_pending = self.tags.pending();
        self.metrics.tag_listings_pending(self.status.tags_pending);
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
