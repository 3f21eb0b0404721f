//! The connections that are open, and which of them goes when there are too many.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// Connections at a time over all listeners. Some Prometheus servers and probes need ten.
const MOST: usize = 1024;
/// So many at least: below, a few Prometheus servers would push each other out.
const LEAST: usize = 8;
/// A closed connection frees its descriptor in this time, or else it is not worth waiting for.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Between two warnings: a crowd of clients would fill the log otherwise.
const WARNING_PAUSE: Duration = Duration::from_mins(1);

/// So many connections may have more of their answers in the system at a time than the others: more than there are
/// scrapers, so that only a crowd gets less, and few enough for it to be of no account when they all stand still.
const GENEROUS: usize = 64;
/// What the system is given of an answer at a time. It keeps all of it for a reader that stands still, and a thousand of
/// these together may cost 64 MB.
const WRITE_BYTES: usize = 32 * 1024;
/// The same for the connections that may have more: less would cost time where the line is as fast as memory.
const GENEROUS_WRITE_BYTES: usize = 64 * 1024;

/// A connection that is not older than this has its first request on the way and counts as idle only where there are more
/// of its kind than these: newcomers of a crowd would push each other out otherwise before they are heard.
const NEW: Duration = Duration::from_secs(1);
const NEWCOMERS: usize = 32;

/// How many connections there may be. A newcomer is never made to wait: the one that asked for nothing for the longest
/// time goes instead, one whose answer is under way only if there is no other but newcomers. That is how a scraper gets
/// through a crowd of idle connections, of readers that take no bytes and of writers that never finish a request; its own
/// idle connection may go as well, which costs it a new one.
pub struct Places {
    most: usize,
    open: Mutex<Open>,
    freed: Notify,
    generous: Arc<Semaphore>,
}

#[derive(Default)]
struct Open {
    /// Places that are taken, by connections told to close too.
    taken: usize,
    /// Grows with every connection and every request.
    latest: u64,
    /// Connections not told to close, by rank: the value of `latest` at their latest request. The first goes first.
    connections: BTreeMap<u64, Connection>,
    warned: Option<Instant>,
}

struct Connection {
    begun: Instant,
    closed: CancellationToken,
}

/// What the rank of a connection has besides, when its answer is under way.
const ANSWERING: u64 = 1 << 63;

/// A connection's place, free again when this is dropped.
pub struct Place {
    places: Arc<Places>,
    rank: AtomicU64,
    closed: CancellationToken,
    generous: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// `descriptors` is how many files and sockets the process may have open: clients get half of them, the rest is
    /// for the connections to the clouds and for files. No limit is known if it is `None`.
    pub fn new(descriptors: Option<u64>) -> Self {
        let half = descriptors.and_then(|n| usize::try_from(n / 2).ok()).unwrap_or(MOST);
        Self {
            most: half.clamp(LEAST, MOST),
            open: Mutex::default(),
            freed: Notify::new(),
            generous: Arc::new(Semaphore::new(GENEROUS)),
        }
    }

    /// A place for a new connection. If that is one too many, the quietest other one is told to close.
    pub fn take(self: &Arc<Self>) -> Place {
        let mut open = self.lock();
        if open.taken >= self.most {
            open.close_quietest("there are as many as there may be");
        }
        open.taken += 1;
        open.latest += 1;
        let (rank, closed) = (open.latest, CancellationToken::new());
        open.connections.insert(rank, Connection { begun: Instant::now(), closed: closed.clone() });
        let generous = Arc::clone(&self.generous).try_acquire_owned().ok();
        Place { places: Arc::clone(self), rank: rank.into(), closed, generous }
    }

    /// Waits until no place too many is taken.
    pub async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            if self.lock().taken <= self.most {
                return;
            }
            freed.await;
        }
    }

    /// Closes the quietest connection for its descriptor; `false` if there is none.
    pub async fn give_one_up(&self, reason: &str) -> bool {
        let freed = self.freed.notified();
        if !self.lock().close_quietest(reason) {
            return false;
        }
        timeout(CLOSE_TIMEOUT, freed).await.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing under the lock can leave a half-made value behind.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn close_quietest(&mut self, reason: &str) -> bool {
        let idle = || self.connections.range(..ANSWERING);
        let quietest = idle()
            .find(|(_, connection)| connection.begun.elapsed() >= NEW)
            .or_else(|| idle().next().filter(|_| idle().count() > NEWCOMERS))
            .or_else(|| self.connections.range(ANSWERING..).next())
            .or_else(|| idle().next());
        let Some((&rank, quietest)) = quietest else { return false };
        quietest.closed.cancel();
        self.connections.remove(&rank);
        if self.warned.is_none_or(|warned| warned.elapsed() >= WARNING_PAUSE) {
            self.warned = Some(Instant::now());
            tracing::warn!(
                connections = self.taken,
                reason,
                "too many connections, closing those that asked for nothing for the longest time"
            );
        }
        true
    }
}

impl Place {
    /// Notes that a request came: its answer is under way.
    pub fn asked(&self) {
        let mut open = self.places.lock();
        open.latest += 1;
        let rank = ANSWERING | open.latest;
        self.move_to(&mut open, rank);
    }

    /// Notes that the answer to the latest request is out.
    pub fn answered(&self) {
        self.move_to(&mut self.places.lock(), self.rank() & !ANSWERING);
    }

    fn move_to(&self, open: &mut Open, rank: u64) {
        // One that is told to close is no longer there.
        if let Some(connection) = open.connections.remove(&self.rank()) {
            self.rank.store(rank, Ordering::Relaxed);
            open.connections.insert(rank, connection);
        }
    }

    /// Changes under the lock alone.
    fn rank(&self) -> u64 {
        self.rank.load(Ordering::Relaxed)
    }

    /// How much of an answer the system may be given at a time.
    pub fn write_bytes(&self) -> usize {
        if self.generous.is_some() { GENEROUS_WRITE_BYTES } else { WRITE_BYTES }
    }

    /// Ends when the connection must go.
    pub fn closed(&self) -> WaitForCancellationFuture<'_> {
        self.closed.cancelled()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.lock();
        open.taken -= 1;
        open.connections.remove(&self.rank());
        drop(open);
        self.places.freed.notify_waiters();
    }
}

/// How many files and sockets this process may have open, as far as the system tells.
#[cfg(target_os = "linux")]
pub fn descriptor_limit() -> Option<u64> {
    use procfs::process::{LimitValue, Process};
    let limits = Process::myself().and_then(|process| process.limits()).ok()?;
    match limits.max_open_files.soft_limit {
        LimitValue::Value(most) => Some(most),
        LimitValue::Unlimited => None,
    }
}

#[cfg(not(target_os = "linux"))]
pub fn descriptor_limit() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(places: &[Place]) -> Vec<usize> {
        (0..places.len()).filter(|&number| places[number].closed.is_cancelled()).collect()
    }

    #[test]
    fn clients_get_half_of_the_descriptors() {
        for (descriptors, most) in [
            (Some(0), LEAST),
            (Some(64), 32),
            (Some(1024), 512),
            (Some(1_048_576), MOST),
            (Some(u64::MAX), MOST),
            (None, MOST),
        ] {
            assert_eq!(Places::new(descriptors).most, most, "{descriptors:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_whose_latest_request_is_oldest_makes_room() {
        let places = Arc::new(Places::new(Some(16)));
        let mut taken: Vec<_> = (0..8).map(|_| places.take()).collect();
        tokio::time::advance(NEW).await;
        assert_eq!(closed(&taken), [0; 0]);
        taken[0].asked();
        taken[2].asked();
        taken.push(places.take());
        assert_eq!(closed(&taken), [1]);
        // The request of one that is told to close comes too late.
        taken[1].asked();
        taken.push(places.take());
        assert_eq!(closed(&taken), [1, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn newcomers_are_heard_before_they_count_as_idle_unless_they_are_a_crowd() {
        let places = Arc::new(Places::new(Some(2 * 64)));
        let mut taken: Vec<_> = (0..64).map(|_| places.take()).collect();
        taken.iter().for_each(Place::asked);
        taken.extend((0..NEWCOMERS).map(|_| places.take()));
        assert_eq!(closed(&taken), (0..NEWCOMERS).collect::<Vec<_>>(), "the oldest answers went");
        taken.extend((0..2).map(|_| places.take()));
        assert_eq!(closed(&taken).last(), Some(&64), "the first of too many newcomers");
        tokio::time::advance(NEW).await;
        taken.push(places.take());
        assert_eq!(closed(&taken).last(), Some(&65), "it was silent for too long");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_under_way_is_cut_only_when_nobody_is_idle() {
        let places = Arc::new(Places::new(Some(16)));
        let mut taken: Vec<_> = (0..8).map(|_| places.take()).collect();
        tokio::time::advance(NEW).await;
        // The first asked and is still being answered, the second was answered since, the others never asked.
        taken[0].asked();
        taken[1].asked();
        taken[1].answered();
        for place in &taken[3..] {
            place.asked();
        }
        let mut told = Vec::new();
        for _ in 0..4 {
            let newcomer = places.take();
            newcomer.asked();
            taken.push(newcomer);
            told.push(closed(&taken));
        }
        let expected: [&[usize]; 4] = [&[2], &[1, 2], &[0, 1, 2], &[0, 1, 2, 3]];
        assert_eq!(told, expected, "first the idle ones, then the oldest answers");
    }

    #[test]
    fn a_crowd_gets_less_at_a_time_and_takes_nothing_from_who_was_there_before() {
        let places = Arc::new(Places::new(None));
        let mut taken: Vec<_> = (0..=GENEROUS).map(|_| places.take()).collect();
        let last = taken.pop().unwrap();
        assert!(taken.iter().all(|place| place.write_bytes() == GENEROUS_WRITE_BYTES));
        assert_eq!(last.write_bytes(), WRITE_BYTES);
        taken.pop();
        assert_eq!(places.take().write_bytes(), GENEROUS_WRITE_BYTES);
    }

    #[tokio::test]
    async fn there_is_room_once_the_closed_ones_are_gone() {
        let places = Arc::new(Places::new(Some(16)));
        let mut taken: Vec<_> = (0..9).map(|_| places.take()).collect();
        let room = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.room().await }
        });
        tokio::task::yield_now().await;
        assert!(!room.is_finished());
        taken.remove(0);
        room.await.unwrap();
        taken.clear();
        assert!(!places.give_one_up("a test").await, "nobody is left to give up");
        assert_eq!(places.lock().taken, 0);
    }
}
