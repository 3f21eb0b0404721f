//! What a source knows, in a form that outlives the process: with the wall clock's times instead of instants.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Source;
use super::listings::{KnownList, is_organization};
use crate::inventory::{Repository, SharedRepository, TagSet, Timestamp};
use crate::telemetry::Collector;

/// Everything that a source knows. Its content is shared with the source, not copied.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// When it was taken.
    pub taken: Timestamp,
    /// The last good lists of repositories, with the tags.
    pub repositories: Option<KnownRepositories>,
    /// The last good list of shared repositories, sorted, and when it was read.
    pub shared: Option<(Timestamp, Arc<[SharedRepository]>)>,
    /// When the collectors last succeeded, for those that did.
    pub last_success: Vec<(Collector, Timestamp)>,
}

/// The lists of repositories with what is known of their tags.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownRepositories {
    /// When it was read which lists there are.
    pub read: Timestamp,
    /// Polls begun so far: the full sweep goes on from here.
    pub polls: u64,
    /// Those that were read at least once, sorted by name.
    pub listings: Vec<KnownListing>,
}

/// One of the lists in which a source's repositories come.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownListing {
    /// Its name among the others.
    pub name: Box<str>,
    /// When it was last read.
    pub read: Timestamp,
    /// Rows that it had, before filters.
    pub listed: u64,
    /// Sorted by organization and name, each once.
    pub rows: Vec<KnownRepository>,
}

/// A repository with what is known of its tags.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownRepository {
    /// What the list says.
    pub repository: Arc<Repository>,
    /// Since when its tags wait to be read; `None` = they need not be.
    pub due: Option<Timestamp>,
    /// How often in a row they could not be read, and the number of the poll in which to try again.
    pub failures: u32,
    /// See [`Self::failures`].
    pub retry: u64,
    /// The tags, if they were read.
    pub tags: Option<KnownTags>,
}

/// A repository's tags and what tells whether they must be read again.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownTags {
    /// The tags.
    pub tags: Arc<TagSet>,
    /// The stated total of tags minus those listed.
    pub mismatch: i64,
    /// When they were read.
    pub read: Timestamp,
    /// A hash of the list's row at that time. Another version of Rust may hash differently: then the row seems
    /// changed and the tags are read again, once.
    pub fingerprint: Option<u64>,
    /// The row's downloads at that time.
    pub downloads: Option<u64>,
    /// Whether the row had changed so shortly before that the tags are to be read once more.
    pub unsettled: bool,
}

/// The two clocks at the same moment: instants end with the process, the wall clock's times do not.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    instant: Instant,
    wall: Timestamp,
}

impl Clocks {
    /// Now, which is `wall` on the wall clock.
    pub fn new(wall: SystemTime) -> Self {
        Self { instant: Instant::now(), wall: wall.into() }
    }

    /// What the wall clock showed at an instant that is past.
    pub fn wall(&self, instant: Instant) -> Timestamp {
        let age = self.instant.saturating_duration_since(instant).as_nanos();
        let time = i128::try_from(age).ok().map(|age| i128::from(self.wall.nanoseconds()) - age);
        time.and_then(Timestamp::from_nanoseconds).unwrap_or(self.wall)
    }

    /// The instant of a time of the wall clock; the future is now. `None` if it is too long ago for an instant, which
    /// may begin with the machine.
    pub fn instant(&self, time: Timestamp) -> Option<Instant> {
        let age = i128::from(self.wall.nanoseconds()) - i128::from(time.nanoseconds());
        let age = u64::try_from(age.max(0)).ok()?;
        self.instant.checked_sub(Duration::from_nanos(age))
    }
}

impl Source {
    /// Hands out, after every poll that learned something, what the source knows by then. A poll never waits for whoever
    /// takes it: while the last one is not taken, none is made.
    pub fn memories(&mut self) -> mpsc::Receiver<Memory> {
        let (sender, receiver) = mpsc::channel(1);
        self.memories = Some(sender);
        receiver
    }

    /// Goes on with what was known before the process started, and publishes what is not too old of it. `now` is the
    /// time of the wall clock, by which ages count.
    pub fn restore(&mut self, memory: Memory, now: SystemTime) {
        let clocks = Clocks::new(now);
        if let Some(known) = memory.repositories {
            self.listings_read = clocks.instant(known.read);
            self.polls = known.polls;
            for KnownListing { name, read: time, listed, rows } in known.listings {
                if let Some(read) = clocks.instant(time) {
                    if is_organization(&self.config, &name) {
                        self.metrics.organization_last_success(&name, Some(time.min(clocks.wall)));
                    }
                    let mut listing = KnownList::new(name, self.rules);
                    (listing.read, listing.listed) = (Some(read), listed);
                    listing.tags.restore(rows, &clocks);
                    // It may have been kept with other settings.
                    listing.tags.adopt(self.rules, &self.config.tags);
                    self.listings.push(listing);
                }
            }
        }
        if let Some((read, rows)) = memory.shared {
            self.shared = clocks.instant(read).map(|read| (read, rows));
        }
        for (collector, time) in memory.last_success {
            if self.status.has(collector) {
                let time = time.min(clocks.wall);
                self.metrics.last_success(collector, time);
                self.status.of(collector).last_success = Some(time);
            }
        }
        self.changed = true;
        self.status.tried = self.knows_repositories();
        self.publish();
    }

    /// Hands out what is known if there is something new and somebody to take it.
    pub(super) fn hand_out(&mut self) {
        if self.unsaved
            && let Some(Ok(place)) = self.memories.as_ref().map(mpsc::Sender::try_reserve)
        {
            place.send(self.memory(SystemTime::now()));
            self.unsaved = false;
        }
    }

    fn memory(&self, now: SystemTime) -> Memory {
        let clocks = Clocks::new(now);
        let listing = |listing: &KnownList| {
            Some(KnownListing {
                name: listing.name.clone(),
                read: clocks.wall(listing.read?),
                listed: listing.listed,
                rows: listing.tags.remember(&clocks),
            })
        };
        let repositories =
            self.listings_read.filter(|_| self.knew_repositories()).map(|read| KnownRepositories {
                read: clocks.wall(read),
                polls: self.polls,
                listings: self.listings.iter().filter_map(listing).collect(),
            });
        let success = |status: &super::CollectorStatus| Some((status.collector, status.last_success?));
        Memory {
            taken: clocks.wall,
            repositories,
            shared: self.shared.as_ref().map(|(read, rows)| (clocks.wall(*read), Arc::clone(rows))),
            last_success: self.status.collectors.iter().filter_map(success).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const TODAY: Duration = Duration::from_secs(1_800_000_000);

    fn at(time: Duration) -> Timestamp {
        Timestamp::from(UNIX_EPOCH + time)
    }

    #[test]
    fn a_time_is_as_old_as_its_instant_and_back() {
        let clocks = Clocks::new(UNIX_EPOCH + TODAY);
        let later = Clocks::new(UNIX_EPOCH + TODAY + Duration::from_mins(1));
        let instant = clocks.instant - Duration::from_mins(1);
        assert_eq!(clocks.wall(instant).nanoseconds(), at(TODAY).nanoseconds() - 60_000_000_000);
        assert_eq!(later.instant(at(TODAY)), Some(later.instant - Duration::from_mins(1)));
    }

    #[test]
    fn the_future_is_now() {
        let clocks = Clocks::new(UNIX_EPOCH + TODAY);
        assert_eq!(clocks.instant(at(TODAY + TODAY)), Some(clocks.instant));
    }

    #[test]
    fn any_time_is_an_instant_or_none() {
        let clocks = Clocks::new(UNIX_EPOCH + TODAY);
        for nanoseconds in [i64::MIN, -1, 1, i64::MAX] {
            let time = Timestamp::from_nanoseconds(nanoseconds.into()).unwrap();
            assert!(clocks.instant(time).is_none_or(|instant| instant <= clocks.instant));
        }
    }
}
