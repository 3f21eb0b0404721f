//! The rules of polling, told what happened at the API and when, and asked what must be seen and read next.
//!
//! Written from the description of the exporter and not from the program: maps and sorting, nothing incremental.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use container_registry_exporter::inventory::{Center, Repository, SharedRepository, Tag, Timestamp};
use container_registry_exporter::telemetry::Reason;
use tokio::time::Instant;

use super::page::{self, Seen, SeenRepository, SeenTags};

/// Organization and name.
pub type Key = (String, String);

/// How the source is configured.
#[derive(Clone)]
pub struct Settings {
    pub source: &'static str,
    /// `provider`, `cloud_region` and `api_host`.
    pub info: [String; 3],
    /// NCR rather than SWR: no shared repositories, no sizes, images counted by their tags, and a download alone
    /// causes a read of the tags after an hour.
    pub ncr: bool,
    pub interval: Duration,
    pub stale_after: Duration,
    pub full_sweep: Duration,
    /// Tags shown per repository.
    pub newest: usize,
    /// Tags that begin so are not shown.
    pub excluded: &'static str,
}

/// What is known, and what is to be done.
pub struct Rules {
    pub settings: Settings,
    /// Polls begun.
    polls: u64,
    up: Option<bool>,
    list: Option<(Instant, List)>,
    own_shared: Vec<SharedRepository>,
    shared: Option<(Instant, Vec<SharedRepository>)>,
    tags: BTreeMap<Key, Known>,
    /// Since when tags wait to be read.
    due: BTreeMap<Key, Instant>,
    /// Tags that could not be read at the last try: how often in a row, and the poll in which they are tried again.
    failing: BTreeMap<Key, (u32, u64)>,
    /// Organizations all of whose tags were forbidden at the last try.
    forbidden: BTreeSet<String>,
    poll: ThisPoll,
    /// What was told so far.
    pub events: u64,
    pub counts: Counts,
}

/// A complete list of repositories.
#[derive(Clone, Default)]
pub struct List {
    pub rows: Vec<Repository>,
    pub listed: u64,
    pub organizations: Vec<String>,
}

struct Known {
    tags: Vec<Tag>,
    at: Instant,
    fingerprint: Option<Fingerprint>,
    downloads: Option<u64>,
}

type Fingerprint = (Option<Timestamp>, Option<u64>, Option<u64>, Option<u64>);

/// How far the poll is that is under way.
#[derive(Default)]
struct ThisPoll {
    listed: bool,
    /// What is to be read, in order.
    queue: VecDeque<Key>,
    /// By organization, in the order in which they ended: whether the reading before had failed, and how this one did.
    readings: BTreeMap<String, Vec<(bool, Option<Reason>)>>,
    /// The failures in the order in which they came, with the organization.
    failed: Vec<(String, Reason)>,
    refused: bool,
    begun: bool,
}

/// What the exporter's own counters must say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By collector.
    pub polls: BTreeMap<&'static str, u64>,
    pub failures: BTreeMap<(&'static str, &'static str), u64>,
    pub tag_listings: u64,
    pub tag_listings_skipped: u64,
    pub tag_listing_failures: BTreeMap<&'static str, u64>,
    pub duplicates: u64,
}

impl Rules {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            polls: 0,
            up: None,
            list: None,
            own_shared: Vec::new(),
            shared: None,
            tags: BTreeMap::new(),
            due: BTreeMap::new(),
            failing: BTreeMap::new(),
            forbidden: BTreeSet::new(),
            poll: ThisPoll::default(),
            events: 0,
            counts: Counts::default(),
        }
    }

    /// A poll begins.
    pub fn begin(&mut self) {
        self.polls += 1;
        self.poll = ThisPoll { begun: true, ..ThisPoll::default() };
    }

    /// The list of repositories ended at `now`.
    pub fn listed(&mut self, now: Instant, outcome: Result<List, Reason>) {
        self.events += 1;
        self.up = Some(outcome.is_ok());
        self.count("repositories", outcome.as_ref().err());
        let Ok(mut list) = outcome else { return };
        list.rows.sort_by_key(key);
        let there: BTreeMap<Key, &Repository> = list.rows.iter().map(|row| (key(row), row)).collect();
        self.tags.retain(|key, _| there.contains_key(key));
        self.due.retain(|key, _| there.contains_key(key));
        self.failing.retain(|key, _| there.contains_key(key));
        for (key, row) in &there {
            if row.images == Some(0) {
                let (fingerprint, downloads) = (fingerprint(row), row.downloads);
                self.tags.insert(key.clone(), Known { tags: Vec::new(), at: now, fingerprint, downloads });
                self.due.remove(key);
                self.failing.remove(key);
            }
        }
        for (key, row) in &there {
            if !self.due.contains_key(key) && self.must_read(key, row, now) {
                self.due.insert(key.clone(), now);
            }
        }
        self.counts.tag_listings_skipped += (there.len() - self.due.len()) as u64;
        let ready =
            |key: &Key| self.failing.get(key).is_none_or(|(_, poll)| *poll <= self.polls) || self.turn(key);
        let due = self.due.iter().filter(|(key, _)| ready(key));
        let mut queue: Vec<_> = due.map(|(key, since)| (*since, key.clone())).collect();
        queue.sort();
        self.poll.listed = true;
        self.poll.queue = queue.into_iter().map(|(_, key)| key).collect();
        self.list = Some((now, list));
    }

    fn must_read(&self, key: &Key, row: &Repository, now: Instant) -> bool {
        if row.images == Some(0) {
            return false;
        }
        let Some(known) = self.tags.get(key) else { return true };
        let age = now - known.at;
        fingerprint(row).is_none()
            || fingerprint(row) != known.fingerprint
            || self.turn(key)
            || age >= self.settings.full_sweep
            || self.settings.ncr && row.downloads != known.downloads && age >= Duration::from_hours(1)
    }

    /// Whether it is a repository's turn in the full sweep.
    fn turn(&self, key: &Key) -> bool {
        let slots = self.settings.full_sweep.as_millis() / self.settings.interval.as_millis();
        let hash = u128::from(crc32fast::hash(format!("{}/{}", key.0, key.1).as_bytes()));
        hash % slots == u128::from(self.polls) % slots
    }

    /// One of the two lists of shared repositories ended; the other one follows only a success.
    pub fn shared(&mut self, now: Instant, center: Center, outcome: Result<Vec<SharedRepository>, Reason>) {
        self.events += 1;
        match outcome {
            Err(reason) => self.count("shared_repositories", Some(&reason)),
            Ok(rows) if center == Center::Own => self.own_shared = rows,
            Ok(rows) => {
                self.count("shared_repositories", None);
                self.shared = Some((now, self.own_shared.drain(..).chain(rows).collect()));
            }
        }
    }

    /// Which tags must be read next; `None` if no more.
    pub fn next_read(&mut self) -> Option<Key> {
        let poll = &mut self.poll;
        while let Some(next) = poll.queue.pop_front() {
            if !poll.readings.get(&next.0).is_some_and(|readings| is_forbidden(readings)) {
                return Some(next);
            }
        }
        None
    }

    /// The reading of a repository's tags ended.
    pub fn read(&mut self, key: &Key, now: Instant, outcome: Result<Vec<Tag>, Reason>) {
        self.events += 1;
        let failing = self.failing.get(key).copied();
        if outcome != Err(Reason::Unauthorized) {
            let readings = self.poll.readings.entry(key.0.clone()).or_default();
            readings.push((failing.is_some(), outcome.as_ref().err().copied()));
        }
        match outcome {
            Ok(tags) => {
                self.failing.remove(key);
                let (_, list) = self.list.as_ref().expect("tags are read after a list");
                let row = list.rows.iter().find(|row| (&*row.organization, &*row.name) == (&key.0, &key.1));
                let row = row.expect("tags are read of what is listed");
                let (fingerprint, downloads) = (fingerprint(row), row.downloads);
                self.tags.insert(key.clone(), Known { tags, at: now, fingerprint, downloads });
                self.due.remove(key);
                self.counts.tag_listings += 1;
            }
            Err(reason) => {
                *self.counts.tag_listing_failures.entry(reason.as_str()).or_default() += 1;
                if reason == Reason::Unauthorized {
                    self.poll.refused = true;
                    self.poll.queue.clear();
                } else {
                    let times = failing.map_or(0, |(times, _)| times);
                    let retry = self.polls + 2_u64.saturating_pow(times);
                    self.failing.insert(key.clone(), (times + 1, retry));
                    self.poll.failed.push((key.0.clone(), reason));
                }
            }
        }
    }

    /// The poll under way has ended. `in_time`: not because its time was up. Says what is wrong about it.
    pub fn end(&mut self, now: Instant, in_time: bool) -> Result<(), String> {
        let poll = std::mem::take(&mut self.poll);
        if !poll.begun || !poll.listed {
            return Ok(());
        }
        let failed = if poll.refused { Some(Reason::Unauthorized) } else { self.failure(&poll) };
        self.count("tags", failed.as_ref());
        for (name, readings) in &poll.readings {
            if readings.iter().any(|(_, failure)| failure.is_none()) {
                self.forbidden.remove(name);
            } else if is_forbidden(readings) {
                self.forbidden.insert(name.clone());
            }
        }
        let left = |key: &&Key| !poll.readings.get(&key.0).is_some_and(|readings| is_forbidden(readings));
        let left = poll.queue.iter().filter(left).count();
        if in_time && left > 0 {
            return Err(format!("{left} tag listings were never begun"));
        }
        let oldest = self.tags.values().map(|known| now - known.at).max().unwrap_or_default();
        if self.due.is_empty() && oldest > self.settings.full_sweep + self.settings.interval {
            return Err(format!("tags are {oldest:?} old though nothing is due"));
        }
        Ok(())
    }

    /// For what the collector failed, if so much did.
    fn failure(&self, poll: &ThisPoll) -> Option<Reason> {
        let all_known = poll.readings.keys().all(|name| self.forbidden.contains(name));
        let counts = |name: &String| all_known || !self.forbidden.contains(name);
        let counted = || poll.readings.iter().filter(|(name, _)| counts(name));
        let new: Vec<_> = counted().flat_map(|(_, all)| all).filter(|(before, _)| !before).collect();
        let failed = new.iter().filter(|(_, failure)| failure.is_some()).count();
        let bad = counted().all(|(_, all)| is_forbidden(all)) || failed >= 2 && 2 * failed > new.len();
        let last = poll.failed.iter().rfind(|(name, _)| counts(name));
        last.filter(|_| bad).map(|(_, reason)| *reason)
    }

    /// Repositories whose tags wait to be read in this poll or the next.
    pub fn pending(&self) -> usize {
        let waits = |key: &&Key| self.failing.get(*key).is_some_and(|(_, poll)| *poll > self.polls + 1);
        self.due.keys().filter(|key| !waits(key)).count()
    }

    /// Repositories in the last list.
    pub fn repositories(&self) -> usize {
        self.list.as_ref().map_or(0, |(_, list)| list.rows.len())
    }

    /// The lines that a page must have at `now`, sorted.
    pub fn lines(&self, now: Instant) -> Vec<String> {
        let stale = |at: Instant| now - at >= self.settings.stale_after;
        let list = self.list.as_ref().filter(|(at, _)| !stale(*at));
        let shared = self.shared.as_ref().filter(|(at, _)| !stale(*at));
        let shared = shared.filter(|_| self.list.is_none() || list.is_some());
        page::lines(&Seen {
            source: self.settings.source,
            info: self.settings.info.each_ref().map(String::as_str),
            up: self.up,
            repositories: list.map(|(_, list)| {
                let rows = list.rows.iter().map(|row| SeenRepository { row, tags: self.tags(row, now) });
                (list.listed, rows.collect())
            }),
            organizations: list.map_or(&[], |(_, list)| &list.organizations),
            measured: !self.settings.ncr,
            shared: shared.map(|(_, rows)| rows.as_slice()),
        })
    }

    fn tags(&self, row: &Repository, now: Instant) -> Option<SeenTags<'_>> {
        let known = self.tags.get(&key(row)).filter(|known| now < self.tags_end(known))?;
        let mut shown: Vec<&Tag> =
            known.tags.iter().filter(|tag| !tag.name.starts_with(self.settings.excluded)).collect();
        shown.sort_by_key(|tag| (Reverse(tag.updated), &tag.name));
        shown.truncate(self.settings.newest);
        Some(SeenTags {
            images: self.settings.ncr.then_some(known.tags.len() as u64),
            last_push: known.tags.iter().filter_map(|tag| tag.updated).max(),
            shown,
        })
    }

    fn tags_end(&self, known: &Known) -> Instant {
        known.at + self.settings.full_sweep + self.settings.stale_after
    }

    /// Until when what is seen at `now` may stay as it is: the first list that becomes too old then, or tags, which
    /// are looked at every ten seconds at least.
    pub fn good_until(&self, now: Instant) -> Option<Instant> {
        let end = |at: Instant| Some(at + self.settings.stale_after).filter(|end| *end > now);
        let list = self.list.as_ref().map(|list| list.0);
        let shared = self.shared.as_ref().map(|shared| shared.0);
        // With too old a list of repositories nothing else is seen.
        let shared = shared.and_then(end).filter(|_| list.is_none_or(|at| end(at).is_some()));
        let list = list.and_then(end);
        let tags = self.tags.values().map(|known| self.tags_end(known)).filter(|end| *end > now).min();
        let tags = list.and(tags).map(|end| end.max(now + Duration::from_secs(10)));
        list.into_iter().chain(shared).chain(tags).min()
    }

    fn count(&mut self, collector: &'static str, failure: Option<&Reason>) {
        *self.counts.polls.entry(collector).or_default() += 1;
        if let Some(reason) = failure {
            *self.counts.failures.entry((collector, reason.as_str())).or_default() += 1;
        }
    }
}

/// Whether an organization's tags are left alone: three in a row were forbidden, and none could be read.
fn is_forbidden(readings: &[(bool, Option<Reason>)]) -> bool {
    let forbidden = |three: &[(bool, Option<Reason>)]| {
        three.iter().all(|(_, failure)| *failure == Some(Reason::Forbidden))
    };
    readings.windows(3).any(forbidden) && readings.iter().all(|(_, failure)| failure.is_some())
}

/// The key of a row.
pub fn key(row: &Repository) -> Key {
    (row.organization.to_string(), row.name.to_string())
}

/// What changes in a row when its tags do; `None` if the row cannot tell.
fn fingerprint(row: &Repository) -> Option<Fingerprint> {
    let told = row.updated.is_some() || row.tag_names_hash.is_some();
    told.then_some((row.updated, row.images, row.size_bytes, row.tag_names_hash))
}
