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
use crate::config::TagsConfig;
use crate::inventory::{Entry, Repository, Tag, TagSet};

/// The repositories of the last good list, sorted by key, with what is known of their tags.
pub struct TagCache {
    rows: Vec<Row>,
    rules: Rules,
    /// Polls begun so far.
    polls: u64,
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
}

/// The tags of a repository, and the list's row and the time with which they were read.
struct Known {
    tags: Arc<TagSet>,
    read: Instant,
    fingerprint: Option<u64>,
    downloads: Option<u64>,
}

impl TagCache {
    /// An empty cache.
    pub fn new(rules: Rules) -> Self {
        Self { rows: Vec::new(), rules, polls: 0 }
    }

    /// Notes that a poll begins: each has its share of the full sweep, whether or not its list succeeds, so that an
    /// outage puts nothing off.
    pub fn begin_poll(&mut self) {
        self.polls = self.polls.wrapping_add(1);
    }

    /// Takes a new list, sorted by key, and says how many of its repositories' tags need not be read. Tags of
    /// repositories that are still there are kept; what was due before is so since then.
    pub fn list(&mut self, repositories: Vec<Repository>, now: Instant) -> u64 {
        let mut old = std::mem::take(&mut self.rows).into_iter().peekable();
        let mut rows = Vec::with_capacity(repositories.len());
        let mut skipped = 0;
        for repository in repositories {
            while old.next_if(|row| by_key(&row.repository, &repository) == Ordering::Less).is_some() {}
            let mut row = match old.next_if(|row| by_key(&row.repository, &repository) == Ordering::Equal) {
                Some(row) if *row.repository == repository => row,
                Some(row) => Row { repository: Arc::new(repository), ..row },
                None => Row { repository: Arc::new(repository), known: None, due: None },
            };
            if row.due.is_none() {
                if row.known.as_ref().is_some_and(|known| self.holds(known, &row.repository, now)) {
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
    fn holds(&self, known: &Known, repository: &Repository, now: Instant) -> bool {
        let age = now.saturating_duration_since(known.read);
        let turn = self.polls % self.rules.sweep_polls == sweep_slot(repository, self.rules.sweep_polls);
        let unchanged = known.fingerprint.is_some() && known.fingerprint == fingerprint(repository);
        let downloaded = known.downloads != repository.downloads
            && self.rules.after_download.is_some_and(|least_age| age >= least_age);
        unchanged && !downloaded && !turn && age < self.rules.full_sweep
    }

    /// The repositories whose tags are to be read, those first that wait longest, with the index by which
    /// [`Self::learn`] and [`Self::gone`] know them until the next list.
    pub fn due(&self) -> Vec<(usize, Arc<Repository>)> {
        let due = |(index, row): (usize, &Row)| row.due.map(|since| (since, index));
        let mut order: Vec<_> = self.rows.iter().enumerate().filter_map(due).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, index)| (index, Arc::clone(&self.rows[index].repository))).collect()
    }

    /// Notes tags that were read.
    pub fn learn(&mut self, index: usize, tags: TagSet, now: Instant) {
        let row = &mut self.rows[index];
        row.due = None;
        let tags = match &row.known {
            Some(known) if *known.tags == tags => Arc::clone(&known.tags),
            _ => Arc::new(tags),
        };
        let (fingerprint, downloads) = (fingerprint(&row.repository), row.repository.downloads);
        row.known = Some(Known { tags, read: now, fingerprint, downloads });
    }

    /// Notes that a repository is no longer there.
    pub fn gone(&mut self, index: usize) {
        let row = &mut self.rows[index];
        (row.due, row.known) = (None, None);
    }

    /// How many repositories wait for their tags to be read.
    pub fn pending(&self) -> usize {
        self.rows.iter().filter(|row| row.due.is_some()).count()
    }

    /// Every repository with its tags, where they are known and not too old.
    pub fn entries(&self) -> Vec<Entry> {
        let now = Instant::now();
        let tags = |row: &Row| Some(Arc::clone(&self.shown(row, now)?.tags));
        self.rows
            .iter()
            .map(|row| Entry { repository: Arc::clone(&row.repository), tags: tags(row) })
            .collect()
    }

    /// How many polls began, and every repository with all that is known, too old or not.
    pub fn remember(&self, clocks: &Clocks) -> (u64, Vec<KnownRepository>) {
        let tags = |known: &Known| KnownTags {
            tags: Arc::clone(&known.tags),
            read: clocks.wall(known.read),
            fingerprint: known.fingerprint,
            downloads: known.downloads,
        };
        let row = |row: &Row| KnownRepository {
            repository: Arc::clone(&row.repository),
            due: row.due.map(|due| clocks.wall(due)),
            tags: row.known.as_ref().map(tags),
        };
        (self.polls, self.rows.iter().map(row).collect())
    }

    /// Goes on from what [`Self::remember`] said.
    pub fn restore(&mut self, polls: u64, rows: Vec<KnownRepository>, clocks: &Clocks) {
        let known = |tags: KnownTags| {
            let KnownTags { tags, read, fingerprint, downloads } = tags;
            Some(Known { tags, read: clocks.instant(read)?, fingerprint, downloads })
        };
        let row = |row: KnownRepository| Row {
            repository: row.repository,
            due: row.due.and_then(|due| clocks.instant(due)),
            known: row.tags.and_then(known),
        };
        (self.polls, self.rows) = (polls, rows.into_iter().map(row).collect());
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

fn by_key(a: &Repository, b: &Repository) -> Ordering {
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
    use crate::inventory::Timestamp;

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

    /// Reads the tags of all repositories that are due, and says which they were.
    fn read(cache: &mut TagCache, now: Instant) -> Vec<String> {
        let due = cache.due();
        for (index, _) in &due {
            cache.learn(*index, TagSet::default(), now);
        }
        due.into_iter().map(|(_, repository)| repository.name.to_string()).collect()
    }

    #[test]
    fn an_unchanged_repository_is_not_read_again() {
        let mut cache = TagCache::new(RULES);
        let now = Instant::now();
        assert_eq!(cache.list(vec![repository("a", 1), repository("b", 1)], now), 0);
        assert_eq!(read(&mut cache, now), ["a", "b"]);
        assert_eq!(cache.list(vec![repository("a", 1), repository("b", 2), repository("c", 1)], now), 1);
        assert_eq!(read(&mut cache, now), ["b", "c"]);
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
            cache.list(vec![row.clone()], now);
            read(&mut cache, now);
            cache.list(vec![changed.clone()], now);
            assert_eq!(cache.pending(), 1, "{changed:?}");
        }
    }

    #[test]
    fn a_row_that_tells_no_change_makes_its_repository_due_every_time() {
        let mut cache = TagCache::new(RULES);
        let now = Instant::now();
        for _ in 0..3 {
            cache.list(vec![Repository { updated: None, ..repository("a", 1) }], now);
            assert_eq!(read(&mut cache, now), ["a"]);
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
            cache.list(vec![downloaded(1)], now);
            read(&mut cache, now);
            cache.list(vec![downloaded(2)], now + Duration::from_mins(minutes));
            assert_eq!(cache.pending(), due, "{after_download:?} {minutes}");
        }
    }

    #[test]
    fn a_full_sweep_reads_every_repository_once_and_evenly() {
        let mut cache = TagCache::new(RULES);
        let start = Instant::now();
        let rows: Vec<_> = (0..2880).map(|n| repository(&format!("{n:04}"), 1)).collect();
        cache.list(rows.clone(), start);
        read(&mut cache, start);
        let mut reads = Vec::new();
        let mut most = 0;
        for n in 1..=288 {
            let now = start + n * INTERVAL;
            cache.begin_poll();
            cache.list(rows.clone(), now);
            let swept = read(&mut cache, now);
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
        cache.list(rows.clone(), start);
        read(&mut cache, start);
        let mut reads = 0;
        for n in 1..=2 * 288 {
            cache.begin_poll();
            if !(200..210).contains(&n) {
                let now = start + n * INTERVAL;
                cache.list(rows.clone(), now);
                reads += read(&mut cache, now).len();
            }
        }
        assert_eq!(reads, 2 * rows.len());
    }

    #[test]
    fn nothing_is_older_than_a_full_sweep_however_seldom_lists_come() {
        let mut cache = TagCache::new(Rules { sweep_polls: u64::MAX, ..RULES });
        let now = Instant::now();
        cache.list(vec![repository("a", 1)], now);
        read(&mut cache, now);
        cache.list(vec![repository("a", 1)], now + RULES.full_sweep);
        assert_eq!(cache.pending(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn tags_that_are_too_old_are_not_shown() {
        let mut cache = TagCache::new(RULES);
        cache.list(vec![repository("a", 1)], Instant::now());
        read(&mut cache, Instant::now());
        tokio::time::advance(Duration::from_mins(25 * 60 - 1)).await;
        assert!(cache.entries()[0].tags.is_some());
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(cache.entries()[0].tags.is_none());
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
