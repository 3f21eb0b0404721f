//! The lists in which a source's repositories come: each succeeds, fails and becomes too old by itself.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::memory::Clocks;
use super::similar::similar;
use super::tag_cache::{Rules, TagCache, by_key};
use super::{Event, Failure, ListDown, Source, wall_clock};
use crate::client::{ApiError, Listing, Poll};
use crate::config::{Cloud, SourceConfig};
use crate::inventory::{Center, Entry, Repositories, Repository, SharedRepository};
use crate::provider::Provider;
use crate::telemetry::logging::chain;
use crate::telemetry::{Collector, Reason};

/// What is known of one of the lists.
pub(super) struct KnownList {
    /// Its name among the others: an organization, a watched repository, or nothing where there is but one list.
    pub name: Box<str>,
    /// When it was last read.
    pub read: Option<Instant>,
    /// Rows that it had then, before filters.
    pub listed: u64,
    /// The stated total minus the rows.
    pub mismatch: i64,
    /// Whether it could be read at the last try of this process, and why not.
    pub up: Option<bool>,
    pub failure: Option<Failure>,
    /// Whether it was found to be empty.
    pub is_empty: bool,
    /// Whether it was not too old at the last look.
    was_fresh: bool,
    /// Its rows and their tags.
    pub tags: TagCache,
}

impl KnownList {
    /// A list of which nothing is known.
    pub fn new(name: Box<str>, rules: Rules) -> Self {
        Self {
            name,
            read: None,
            listed: 0,
            mismatch: 0,
            up: None,
            failure: None,
            is_empty: false,
            was_fresh: false,
            tags: TagCache::new(rules),
        }
    }

    fn is_fresh(&self, stale_after: Duration) -> bool {
        self.read.is_some_and(|read| read.elapsed() < stale_after)
    }
}

/// The lists that a poll reads, by their indices.
pub(super) struct Lists {
    to_begin: Range<usize>,
    /// How many are being read.
    pub under_way: usize,
    /// Whether one could be read.
    pub any: bool,
    /// The stated total of lists minus those that there are.
    mismatch: i64,
    /// The failure of the first by name.
    failure: Option<(usize, ApiError)>,
    /// Those that could be read the time before, and now could not; and the reverse.
    pub new_failures: BTreeSet<usize>,
    pub recovered: BTreeSet<usize>,
    ended: bool,
}

impl Lists {
    fn new(number: usize) -> Self {
        Self {
            to_begin: 0..number,
            under_way: 0,
            any: false,
            mismatch: 0,
            failure: None,
            new_failures: BTreeSet::new(),
            recovered: BTreeSet::new(),
            ended: false,
        }
    }

    /// None, since it could not be found out which there are.
    pub fn failed(error: ApiError) -> Self {
        Self { failure: Some((0, error)), ..Self::new(0) }
    }

    /// The next to read.
    pub fn next(&mut self) -> Option<usize> {
        let next = self.to_begin.next();
        self.under_way += usize::from(next.is_some());
        next
    }

    /// Takes what came of one, and gives back its rows.
    pub fn note<T>(&mut self, index: usize, outcome: Result<T, ApiError>) -> Option<T> {
        self.under_way -= 1;
        match outcome {
            Ok(rows) => {
                self.any = true;
                Some(rows)
            }
            Err(error) => {
                if self.failure.as_ref().is_none_or(|(first, _)| index < *first) {
                    self.failure = Some((index, error));
                }
                None
            }
        }
    }

    /// What came of all, once.
    pub fn end(&mut self) -> Option<Result<i64, ApiError>> {
        let failure = self.failure.take();
        let outcome = failure.map_or(Ok(self.mismatch), |(_, error)| Err(error));
        (!std::mem::replace(&mut self.ended, true)).then_some(outcome)
    }

    /// Whether [`Self::end`] was called.
    pub fn are_over(&self) -> bool {
        self.ended
    }
}

impl Source {
    /// Takes the names of the lists that there are now, which are to be read. What is known of others is forgotten.
    pub(super) fn learn_listings(&mut self, names: Listing<Box<str>>) -> Lists {
        let Listing { rows: mut names, duplicates, mismatch } = names;
        self.metrics.duplicates(duplicates);
        names.sort_unstable();
        names.dedup();
        let mut old = std::mem::take(&mut self.listings).into_iter().peekable();
        let mut gone = Vec::new();
        for name in names {
            while let Some(list) = old.next_if(|list| list.name < name) {
                gone.push(list.name);
            }
            let known = old.next_if(|list| list.name == name);
            self.listings.push(known.unwrap_or_else(|| KnownList::new(name, self.rules)));
        }
        gone.extend(old.map(|list| list.name));
        self.unsaved |= !gone.is_empty() || self.listings.is_empty();
        for name in gone {
            self.metrics.organization_last_success(&name, None);
        }
        self.listings_read = Some(Instant::now());
        self.changed = true;
        Lists { mismatch, ..Lists::new(self.listings.len()) }
    }

    /// Takes the rows of the list at `index`. Whether it could not be read the time before.
    pub(super) fn learn_repositories(&mut self, index: usize, listing: Listing<Repository>) -> bool {
        let Listing { mut rows, duplicates, mismatch } = listing;
        self.metrics.duplicates(duplicates);
        let now = Instant::now();
        let list = &mut self.listings[index];
        (list.read, list.listed, list.mismatch) = (Some(now), rows.len() as u64, mismatch);
        list.up = Some(true);
        let recovered = list.failure.take().is_some();
        if is_organization(&self.config, &list.name) {
            self.metrics.organization_last_success(&list.name, Some(wall_clock(now)));
        }
        let filter = &self.config.repositories;
        rows.retain(|row| filter.keeps_repository(&row.organization, &row.name));
        let skipped = list.tags.list(rows, self.polls, now);
        if self.status.has(Collector::Tags) {
            self.metrics.tag_listings_skipped(skipped);
        }
        (self.changed, self.unsaved) = (true, true);
        recovered
    }

    /// Notes that the list at `index` could not be read. Whether it could the time before.
    pub(super) fn fail_repositories(&mut self, index: usize, error: &ApiError) -> bool {
        let list = &mut self.listings[index];
        list.up = Some(false);
        self.changed = true;
        list.failure.replace(Failure::new(error)).is_none()
    }

    /// Takes what came of all `lists`, the last of which has ended. Whether none failed.
    pub(super) fn end_repositories(
        &mut self,
        start: Instant,
        outcome: Result<i64, ApiError>,
        lists: &Lists,
    ) -> bool {
        self.up = Some(outcome.is_ok());
        self.status.tried = true;
        self.changed = true;
        if let Ok(of_names) = outcome {
            let all = self.listings.iter().map(|list| list.mismatch);
            self.note_mismatch(Collector::Repositories, all.fold(of_names, i64::saturating_add));
            self.warn_of_nothing();
        } else if outcome.as_ref().is_err_and(|error| error.reason() == Reason::Unauthorized) {
            // Also where it was refused before the lists could be tried.
            for list in &mut self.listings {
                list.up = Some(false);
            }
        }
        // Of a poll that succeeded that is told anyway.
        let recovered = self.list_names(&lists.recovered);
        if outcome.is_err() && !recovered.is_empty() {
            let (source, lists) = (self.config.name.as_str(), recovered);
            tracing::info!(source, lists, "lists can be read again");
        }
        let failed = self.list_names(&lists.new_failures);
        self.finish(Collector::Repositories, start, outcome.map(drop), &failed)
    }

    fn list_names(&self, lists: &BTreeSet<usize>) -> String {
        let names = lists.iter().map(|index| &*self.listings[*index].name);
        names_of(names.filter(|name| !name.is_empty()))
    }

    /// The names of the lists that became too old since the last look.
    pub(super) fn newly_too_old(&mut self) -> String {
        let stale_after = self.config.poll.stale_after;
        let mut too_old = Vec::new();
        for list in &mut self.listings {
            let is_fresh = list.is_fresh(stale_after);
            if std::mem::replace(&mut list.was_fresh, is_fresh) && !is_fresh {
                too_old.push(&*list.name);
            }
        }
        names_of(too_old.into_iter())
    }

    fn warn_of_nothing(&mut self) {
        let cloud = &self.config.cloud;
        let everything = cloud.organizations().is_empty() && !cloud.watches();
        let nothing = everything && self.listings.iter().all(|list| list.listed == 0);
        if nothing && !self.has_nothing {
            tracing::warn!(
                source = self.config.name.as_str(),
                "the account has no repository; if it should have, the key lacks the permission to list them"
            );
        }
        self.has_nothing = nothing;
    }

    /// The organizations or watched repositories that are named in the configuration and were found to have nothing,
    /// for the first time.
    pub(super) fn new_empties(&mut self) -> Vec<Box<str>> {
        let named = self.config.cloud.watches() || !self.config.cloud.organizations().is_empty();
        let mut new = Vec::new();
        for list in self.listings.iter_mut().filter(|list| named && list.up == Some(true)) {
            let was_empty = std::mem::replace(&mut list.is_empty, list.listed == 0);
            if list.is_empty && !was_empty {
                new.push(list.name.clone());
            }
        }
        new
    }

    /// Warns of names that match nothing; `existing` are names that there are.
    pub(super) fn warn_of_empties(&self, empties: &[Box<str>], existing: &[Box<str>]) {
        let near: BTreeSet<&str> = empties.iter().flat_map(|wanted| similar(wanted, existing)).collect();
        tracing::warn!(
            source = self.config.name.as_str(),
            names = names_of(empties.iter().map(|name| &**name)),
            similar = (!near.is_empty()).then(|| names_of(near.into_iter())),
            "what the configuration names has no repository, or the key lacks the permission to see it"
        );
    }

    /// The organizations that have a list of their own, and whether it could be read at the last try.
    pub(super) fn organizations_up(&self) -> Vec<(Box<str>, bool)> {
        let own = self.listings.iter().filter(|list| is_organization(&self.config, &list.name));
        own.filter_map(|list| Some((list.name.clone(), list.up?))).collect()
    }

    /// The lists that could not be read at the last try, where they have names.
    pub(super) fn lists_down(&self) -> Arc<[ListDown]> {
        let clocks = Clocks::new(SystemTime::now());
        let down = |list: &KnownList| {
            Some(ListDown {
                name: list.name.clone(),
                last_success: list.read.map(|read| clocks.wall(read)),
                failure: list.failure.clone()?,
            })
        };
        self.listings.iter().filter(|list| !list.name.is_empty()).filter_map(down).collect()
    }

    fn fresh(&self) -> impl Iterator<Item = &KnownList> {
        self.listings.iter().filter(|list| list.is_fresh(self.config.poll.stale_after))
    }

    /// Whether something is known of the repositories that is not too old, if only that there are none.
    pub(super) fn knows_repositories(&self) -> bool {
        let none = |read: Instant| self.listings.is_empty() && read.elapsed() < self.config.poll.stale_after;
        self.listings_read.is_some_and(none) || self.fresh().next().is_some()
    }

    /// Whether some were ever read.
    pub(super) fn knew_repositories(&self) -> bool {
        self.listings.iter().any(|list| list.read.is_some())
            || self.listings_read.is_some() && self.listings.is_empty()
    }

    /// All lists together, but those that are too old.
    pub(super) fn repositories(&self) -> Option<Repositories> {
        if !self.knows_repositories() {
            return None;
        }
        let mut entries: Vec<Entry> = self.fresh().flat_map(|list| list.tags.entries()).collect();
        // Each list is in order, and so are most of them one after the other.
        entries.sort_by(|a, b| by_key(&a.repository, &b.repository));
        entries.dedup_by(|a, b| by_key(&a.repository, &b.repository).is_eq());
        let all_known = self.listings.iter().all(|list| list.read.is_some());
        let listed = self.fresh().fold(0, |sum: u64, list| sum.saturating_add(list.listed));
        Some(Repositories {
            listed: all_known.then_some(listed),
            measured: matches!(self.config.cloud, Cloud::Swr(_)),
            organizations: (!self.config.cloud.watches()).then(|| self.organizations(&entries)),
            entries,
        })
    }

    /// The organizations to report totals of: those named in the configuration, those listed if there is no filter,
    /// those of the rows.
    fn organizations(&self, entries: &[Entry]) -> Vec<Box<str>> {
        let all = self.config.repositories.is_empty() || !self.config.cloud.organizations().is_empty();
        let listed = self.fresh().map(|list| &list.name).filter(|name| all && !name.is_empty());
        let rows = entries.chunk_by(|a, b| a.repository.organization == b.repository.organization);
        let of_rows = rows.map(|rows| &rows[0].repository.organization);
        let names: BTreeSet<&Box<str>> = listed.chain(of_rows).collect();
        names.into_iter().cloned().collect()
    }

    /// When the first list that is not too old becomes so, or the first of its tags.
    pub(super) fn listings_expiry(&self) -> (Option<Instant>, Option<Instant>) {
        let of_none = self.listings_read.filter(|_| self.listings.is_empty() && self.knows_repositories());
        let read = self.fresh().filter_map(|list| list.read).chain(of_none).min();
        (read, self.fresh().filter_map(|list| list.tags.expiry()).min())
    }
}

/// Whether the list of this name is that of an organization.
pub(super) fn is_organization(config: &SourceConfig, name: &str) -> bool {
    !name.is_empty() && !config.cloud.watches()
}

/// Names for the log, the first of them if there are many.
pub(super) fn names_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 10;
    let mut names: Vec<&str> = names.collect();
    let more = names.len().saturating_sub(MOST);
    names.truncate(MOST);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    names.join(", ") + &more
}

/// Looks for names that could have been meant by those that match nothing.
pub(super) async fn existing(
    provider: &dyn Provider,
    deadline: Option<Instant>,
    empties: Vec<Box<str>>,
) -> Event {
    let names = provider.existing(&Poll::of_first_pages(deadline)).await;
    Event::Existing(
        empties,
        names.unwrap_or_else(|error| {
            tracing::debug!(error = chain(&error), "it is not known which names there are");
            Vec::new()
        }),
    )
}

/// Reads the lists of shared repositories, one after the other.
pub(super) async fn shared_repositories(
    provider: &dyn Provider,
    poll: &Poll,
    centers: Vec<Center>,
) -> Result<Listing<SharedRepository>, ApiError> {
    let mut all = Listing::of(Vec::new());
    for center in centers {
        let listing = provider.shared_repositories(poll, center).await?;
        all.duplicates = all.duplicates.saturating_add(listing.duplicates);
        all.mismatch = all.mismatch.saturating_add(listing.mismatch);
        all.rows.extend(listing.rows);
    }
    Ok(all)
}
