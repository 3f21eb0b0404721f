//! Which repositories' tags to read next, and what is known of them meanwhile.
//!
//! Reading tags costs a call for every repository, and the list of repositories tells most changes. So tags are read
//! again only when the repository's row changed, and each repository once in a full sweep in case a change did not
//! show there.

use std::cmp::{Ordering, Reverse};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::memory::{Clocks, KnownRepository, KnownTags};
use super::wall_clock;
use crate::config::TagsConfig;
use crate::inventory::{Entry, Repository, Tag, TagSet, Timestamp};

/// A row that changed less than a minute (in nanoseconds) before its tags were read is read once more: what happens
/// within the second that it states would not show.
const SETTLED: i64 = 60_000_000_000;

/// The repositories of one list, sorted by key, with what is known of their tags.
pub struct TagCache {
    rows: Vec<Row>,
    rules: Rules,
}

/// When tags are read again, and how long they are shown.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Every repository's tags are read at least once in this time, spread over this many polls.
    pub full_sweep: Duration,
    /// See [`Self::full_sweep`]; at least 1.
    pub sweep_polls: u64,
    /// Tags are shown so long after they were read.
    pub max_age: Duration,
    /// Where a download changes what is known of the tags, it causes them to be read again after this time.
    pub after_download: Option<Duration>,
}

struct Row {
    repository: Arc<Repository>,
    known: Option<Known>,
    /// Since when the tags wait to be read.
    due: Option<Instant>,
    /// How often in a row they could not be read, and the poll in which to try again.
    failures: u32,
    retry: u64,
}

/// The tags of a repository, and the list's row and the time with which they were read.
struct Known {
    tags: Arc<TagSet>,
    /// The stated total of tags minus those listed.
    mismatch: i64,
    read: Instant,
    fingerprint: Option<u64>,
    downloads: Option<u64>,
    /// The row had changed just before, so that it may have changed again without showing it.
    unsettled: bool,
}

impl TagCache {
    /// An empty cache.
    pub fn new(rules: Rules) -> Self {
        Self { rows: Vec::new(), rules }
    }

    /// Goes on by other rules, and keeps of the tags what `config` shows. What it shows beyond that is read when each
    /// repository's turn comes in the full sweep.
    pub fn adopt(&mut self, rules: Rules, config: &TagsConfig) {
        self.rules = rules;
        for row in &mut self.rows {
            if !config.enabled {
                (row.due, row.known, row.failures, row.retry) = (None, None, 0, 0);
            } else if let Some(known) = &mut row.known
                && let Some(tags) = narrowed(&known.tags, config)
            {
                known.tags = Arc::new(tags);
            }
        }
    }

    /// Takes a new list, sorted by key, in the poll of this number, and says how many of its repositories' tags need
    /// not be read. Tags of repositories that are still there are kept; what was due before is so since then.
    pub fn list(&mut self, repositories: Vec<Repository>, poll: u64, now: Instant) -> u64 {
        let mut old = std::mem::take(&mut self.rows).into_iter().peekable();
        let mut rows = Vec::with_capacity(repositories.len());
        let mut skipped = 0;
        for repository in repositories {
            while old.next_if(|row| by_key(&row.repository, &repository) == Ordering::Less).is_some() {}
            let mut row = match old.next_if(|row| by_key(&row.repository, &repository) == Ordering::Equal) {
                Some(row) if *row.repository == repository => row,
                Some(row) => Row { repository: Arc::new(repository), ..row },
                None => Row::new(repository),
            };
            // Whatever a call for them would say.
            if row.repository.images == Some(0) {
                row.learn(TagSet::default(), 0, now, false);
            }
            if row.due.is_none() {
                if row.known.as_ref().is_some_and(|known| self.holds(known, &row.repository, poll, now)) {
                    skipped += 1;
                } else {
                    row.due = Some(now);
                }
            }
            rows.push(row);
        }
        self.rows = rows;
        skipped
    }

    /// Whether tags need not be read again.
    fn holds(&self, known: &Known, repository: &Repository, poll: u64, now: Instant) -> bool {
        if repository.images == Some(0) {
            return true;
        }
        let age = now.saturating_duration_since(known.read);
        let unchanged = known.fingerprint.is_some() && known.fingerprint == fingerprint(repository);
        let downloaded = known.downloads != repository.downloads
            && self.rules.after_download.is_some_and(|least_age| age >= least_age);
        unchanged
            && !known.unsettled
            && !downloaded
            && !self.rules.sweeps(repository, poll)
            && age < self.rules.full_sweep
    }

    /// The repositories whose tags are to be read in the poll of this number: since when they wait, and the index by
    /// which [`Self::repository`], [`Self::learn`] and [`Self::failed`] know them until the next list.
    pub fn due(&self, poll: u64) -> impl Iterator<Item = (Instant, usize)> {
        let ready = move |row: &Row| row.retry <= poll || self.rules.sweeps(&row.repository, poll);
        let rows = self.rows.iter().enumerate();
        rows.filter_map(move |(index, row)| row.due.filter(|_| ready(row)).map(|since| (since, index)))
    }

    /// A repository of the last list.
    pub fn repository(&self, index: usize) -> &Arc<Repository> {
        &self.rows[index].repository
    }

    /// The organization of a repository.
    pub fn organization(&self, index: usize) -> &str {
        &self.rows[index].repository.organization
    }

    /// Whether a repository's tags could not be read at the last try.
    pub fn is_failing(&self, index: usize) -> bool {
        self.rows[index].failures > 0
    }

    /// Notes tags that were read `now`, and the stated total of them minus those listed.
    pub fn learn(&mut self, index: usize, tags: TagSet, mismatch: i64, now: Instant) {
        let row = &mut self.rows[index];
        let time = wall_clock(now);
        let lately = |updated: Timestamp| time.nanoseconds().saturating_sub(updated.nanoseconds()) < SETTLED;
        let once_more = row
            .known
            .as_ref()
            .is_some_and(|known| known.unsettled && known.fingerprint == fingerprint(&row.repository));
        let unsettled = row.repository.updated.is_some_and(lately) && !once_more;
        row.learn(tags, mismatch, now, unsettled);
    }

    /// Notes that tags could not be read in the poll of this number: the old ones stay, and they are tried again one
    /// poll later, two after that, then four and so on.
    pub fn failed(&mut self, index: usize, poll: u64) {
        let row = &mut self.rows[index];
        let polls = 1_u64.checked_shl(row.failures).unwrap_or(u64::MAX);
        (row.failures, row.retry) = (row.failures.saturating_add(1), poll.saturating_add(polls));
    }

    /// How many repositories wait for their tags to be read, in the poll of this number or the next.
    pub fn pending(&self, poll: u64) -> usize {
        self.rows.iter().filter(|row| row.due.is_some() && row.retry <= poll.saturating_add(1)).count()
    }

    /// Of how many repositories the tags could not be read at the last try.
    pub fn failing(&self) -> usize {
        self.rows.iter().filter(|row| row.failures > 0).count()
    }

    /// The stated totals of tags minus those listed, of all repositories.
    pub fn mismatch(&self) -> i64 {
        let known = self.rows.iter().filter_map(|row| row.known.as_ref());
        known.fold(0, |sum, known| sum.saturating_add(known.mismatch))
    }

    /// Every repository with its tags, where they are known and not too old.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let now = Instant::now();
        let tags = move |row: &Row| Some(Arc::clone(&self.shown(row, now)?.tags));
        self.rows.iter().map(move |row| Entry { repository: Arc::clone(&row.repository), tags: tags(row) })
    }

    /// Every repository with all that is known, too old or not.
    pub fn remember(&self, clocks: &Clocks) -> Vec<KnownRepository> {
        let tags = |known: &Known| KnownTags {
            tags: Arc::clone(&known.tags),
            mismatch: known.mismatch,
            read: clocks.wall(known.read),
            fingerprint: known.fingerprint,
            downloads: known.downloads,
            unsettled: known.unsettled,
        };
        let row = |row: &Row| KnownRepository {
            repository: Arc::clone(&row.repository),
            due: row.due.map(|due| clocks.wall(due)),
            failures: row.failures,
            retry: row.retry,
            tags: row.known.as_ref().map(tags),
        };
        self.rows.iter().map(row).collect()
    }

    /// Goes on from what [`Self::remember`] said.
    pub fn restore(&mut self, rows: Vec<KnownRepository>, clocks: &Clocks) {
        let known = |tags: KnownTags| {
            let KnownTags { tags, mismatch, read, fingerprint, downloads, unsettled } = tags;
            let read = clocks.instant(read)?;
            Some(Known { tags, mismatch, read, fingerprint, downloads, unsettled })
        };
        let row = |row: KnownRepository| Row {
            repository: row.repository,
            // What waits longer than the clock reaches back still waits.
            due: row.due.map(|due| clocks.instant(due).unwrap_or_else(Instant::now)),
            failures: row.failures,
            retry: row.retry,
            known: row.tags.and_then(known),
        };
        self.rows = rows.into_iter().map(row).collect();
    }

    /// When the first of the tags that are shown become too old.
    pub fn expiry(&self) -> Option<Instant> {
        let now = Instant::now();
        let read = self.rows.iter().filter_map(|row| Some(self.shown(row, now)?.read));
        read.min().map(|read| read + self.rules.max_age)
    }

    fn shown<'a>(&self, row: &'a Row, now: Instant) -> Option<&'a Known> {
        row.known.as_ref().filter(|known| now.saturating_duration_since(known.read) < self.rules.max_age)
    }
}

impl Rules {
    /// Whether a repository's tags are read in the poll of this number although nothing changed.
    fn sweeps(&self, repository: &Repository, poll: u64) -> bool {
        poll % self.sweep_polls == sweep_slot(repository, self.sweep_polls)
    }
}

impl Row {
    fn new(repository: Repository) -> Self {
        Self { repository: Arc::new(repository), known: None, due: None, failures: 0, retry: 0 }
    }

    fn learn(&mut self, tags: TagSet, mismatch: i64, read: Instant, unsettled: bool) {
        (self.due, self.failures, self.retry) = (None, 0, 0);
        let tags = match &self.known {
            Some(known) if *known.tags == tags => Arc::clone(&known.tags),
            _ => Arc::new(tags),
        };
        let (fingerprint, downloads) = (fingerprint(&self.repository), self.repository.downloads);
        self.known = Some(Known { tags, mismatch, read, fingerprint, downloads, unsettled });
    }
}

pub(super) fn by_key(a: &Repository, b: &Repository) -> Ordering {
    (&a.organization, &a.name).cmp(&(&b.organization, &b.name))
}

/// What changes in a list's row when the tags do; `None` if the row does not say enough to tell.
///
/// Downloads are not part of it: they change all the time and say nothing of a push.
fn fingerprint(repository: &Repository) -> Option<u64> {
    let Repository { updated, images, size_bytes, tag_names_hash, .. } = repository;
    let mut hasher = DefaultHasher::new();
    (updated, images, size_bytes, tag_names_hash).hash(&mut hasher);
    (updated.is_some() || tag_names_hash.is_some()).then(|| hasher.finish())
}

/// In which of `slots` polls a repository is read although it did not change: always the same one, and as many
/// repositories in each.
fn sweep_slot(repository: &Repository, slots: u64) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    for part in [&*repository.organization, "/", &*repository.name] {
        hasher.update(part.as_bytes());
    }
    u64::from(hasher.finalize()) % slots
}

/// What `config` shows of tags that were kept by another one; `None` if that is all of them.
fn narrowed(tags: &TagSet, config: &TagsConfig) -> Option<TagSet> {
    let most = config.newest.unwrap_or(usize::MAX);
    let as_it_is = |tag: &Tag| config.filter.keeps(&tag.name) && (config.info || tag.info.is_none());
    if tags.newest.len() <= most && tags.newest.iter().all(as_it_is) {
        return None;
    }
    let shown = tags.newest.iter().filter(|tag| config.filter.keeps(&tag.name)).take(most).cloned();
    let newest = shown.map(|tag| Tag { info: tag.info.filter(|_| config.info), ..tag }).collect();
    Some(TagSet { newest, ..tags.clone() })
}

/// What to keep of a repository's tags: the latest push of all, and the newest of those that the filter keeps.
pub fn tag_set(mut tags: Vec<Tag>, images: Option<u64>, config: &TagsConfig) -> TagSet {
    let last_push = tags.iter().filter_map(|tag| tag.updated).max();
    tags.retain(|tag| config.filter.keeps(&tag.name));
    tags.sort_unstable_by(|a, b| (Reverse(a.updated), &a.name).cmp(&(Reverse(b.updated), &b.name)));
    tags.truncate(config.newest.unwrap_or(usize::MAX));
    TagSet { images, last_push, newest: tags.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Filter;

    const INTERVAL: Duration = Duration::from_mins(5);
    const RULES: Rules = Rules {
        full_sweep: Duration::from_hours(24),
        sweep_polls: 288,
        max_age: Duration::from_hours(25),
        after_download: None,
    };

    fn repository(name: &str, updated: i64) -> Repository {
        Repository {
            organization: "group".into(),
            name: name.into(),
            updated: Timestamp::from_milliseconds(updated),
            ..Repository::default()
        }
    }

    /// A poll in which no repository has its turn.
    const POLL: u64 = 0;

    /// Reads the tags of all repositories that are due, and says which they were.
    fn read(cache: &mut TagCache, poll: u64, now: Instant) -> Vec<String> {
        let due: Vec<_> = cache.due(poll).map(|(_, index)| index).collect();
        for index in &due {
            cache.learn(*index, TagSet::default(), 0, now);
        }
        due.into_iter().map(|index| cache.repository(index).name.to_string()).collect()
    }

    #[test]
    fn an_unchanged_repository_is_not_read_again() {
        let mut cache = TagCache::new(RULES);
        let now = Instant::now();
        assert_eq!(cache.list(vec![repository("a", 1), repository("b", 1)], POLL, now), 0);
        assert_eq!(read(&mut cache, POLL, now), ["a", "b"]);
        assert_eq!(
            cache.list(vec![repository("a", 1), repository("b", 2), repository("c", 1)], POLL, now),
            1
        );
        assert_eq!(read(&mut cache, POLL, now), ["b", "c"]);
    }

    #[test]
    fn every_part_of_the_fingerprint_makes_a_repository_due() {
        let now = Instant::now();
        let row = repository("a", 1);
        for changed in [
            Repository { updated: None, tag_names_hash: Some(1), ..row.clone() },
            Repository { images: Some(1), ..row.clone() },
            Repository { size_bytes: Some(1), ..row.clone() },
            Repository { tag_names_hash: Some(1), ..row.clone() },
        ] {
            let mut cache = TagCache::new(RULES);
            cache.list(vec![row.clone()], POLL, now);
            read(&mut cache, POLL, now);
            cache.list(vec![changed.clone()], POLL, now);
            assert_eq!(cache.pending(POLL), 1, "{changed:?}");
        }
    }

    #[test]
    fn a_row_that_tells_no_change_makes_its_repository_due_every_time() {
        let mut cache = TagCache::new(RULES);
        let now = Instant::now();
        for _ in 0..3 {
            cache.list(vec![Repository { updated: None, ..repository("a", 1) }], POLL, now);
            assert_eq!(read(&mut cache, POLL, now), ["a"]);
        }
    }

    #[test]
    fn downloads_make_a_repository_due_only_where_they_matter_and_after_a_while() {
        let now = Instant::now();
        let downloaded = |n| Repository { downloads: Some(n), ..repository("a", 1) };
        for (after_download, minutes, due) in
            [(None, 600, 0), (Some(Duration::from_hours(1)), 59, 0), (Some(Duration::from_hours(1)), 60, 1)]
        {
            let mut cache = TagCache::new(Rules { after_download, ..RULES });
            cache.list(vec![downloaded(1)], POLL, now);
            read(&mut cache, POLL, now);
            cache.list(vec![downloaded(2)], POLL, now + Duration::from_mins(minutes));
            assert_eq!(cache.pending(POLL), due, "{after_download:?} {minutes}");
        }
    }

    #[test]
    fn a_full_sweep_reads_every_repository_once_and_evenly() {
        let mut cache = TagCache::new(RULES);
        let start = Instant::now();
        let rows: Vec<_> = (0..2880).map(|n| repository(&format!("{n:04}"), 1)).collect();
        cache.list(rows.clone(), POLL, start);
        read(&mut cache, POLL, start);
        let mut reads = Vec::new();
        let mut most = 0;
        for n in 1..=288 {
            let now = start + n * INTERVAL;
            cache.list(rows.clone(), n.into(), now);
            let swept = read(&mut cache, n.into(), now);
            most = most.max(swept.len());
            reads.extend(swept);
        }
        reads.sort();
        assert_eq!(reads, rows.iter().map(|r| r.name.to_string()).collect::<Vec<_>>());
        assert!(most < 30, "ten are expected in each, and there were {most} in one");
    }

    #[test]
    fn a_failed_list_does_not_make_the_sweep_read_anything_twice() {
        let mut cache = TagCache::new(RULES);
        let start = Instant::now();
        let rows: Vec<_> = (0..2880).map(|n| repository(&format!("{n:04}"), 1)).collect();
        cache.list(rows.clone(), POLL, start);
        read(&mut cache, POLL, start);
        let mut reads = 0;
        for n in 1..=2 * 288 {
            if !(200..210).contains(&n) {
                let now = start + n * INTERVAL;
                cache.list(rows.clone(), n.into(), now);
                reads += read(&mut cache, n.into(), now).len();
            }
        }
        assert_eq!(reads, 2 * rows.len());
    }

    #[test]
    fn nothing_is_older_than_a_full_sweep_however_seldom_lists_come() {
        let mut cache = TagCache::new(Rules { sweep_polls: u64::MAX, ..RULES });
        let now = Instant::now();
        cache.list(vec![repository("a", 1)], POLL, now);
        read(&mut cache, POLL, now);
        cache.list(vec![repository("a", 1)], POLL, now + RULES.full_sweep);
        assert_eq!(cache.pending(POLL), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn tags_that_are_too_old_are_not_shown() {
        let mut cache = TagCache::new(RULES);
        cache.list(vec![repository("a", 1)], POLL, Instant::now());
        read(&mut cache, POLL, Instant::now());
        tokio::time::advance(Duration::from_mins(25 * 60 - 1)).await;
        assert!(cache.entries().next().unwrap().tags.is_some());
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(cache.entries().next().unwrap().tags.is_none());
    }

    #[test]
    fn keeps_the_newest_tags_that_the_filter_keeps_and_the_latest_push_of_all() {
        let tag = |name: &str, updated: i64| Tag {
            name: name.into(),
            updated: Timestamp::from_milliseconds(updated),
            ..Tag::default()
        };
        let tags = vec![tag("b", 2), tag("never", 0), tag("a", 2), tag("old", 1), tag("dev-1", 3)];
        let exclude = vec![regex::Regex::new("^(?:dev-.*)$").unwrap()];
        let config = TagsConfig {
            enabled: true,
            newest: Some(3),
            filter: Filter { exclude, ..Filter::default() },
            info: false,
            full_sweep: RULES.full_sweep,
        };
        let set = tag_set(tags, Some(5), &config);
        let names: Vec<_> = set.newest.iter().map(|tag| &*tag.name).collect();
        assert_eq!(names, ["a", "b", "old"]);
        assert_eq!((set.images, set.last_push), (Some(5), Timestamp::from_milliseconds(3)));
    }
}
