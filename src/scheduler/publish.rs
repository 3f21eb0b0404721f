//! What a source knows and when it is too old to be shown.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{PUBLISH_INTERVAL, Source, SourceState};
use crate::inventory::Inventory;
use crate::telemetry::Collector;

impl Source {
    /// Waits for `work`; what becomes too old meanwhile is withdrawn at its time.
    pub(super) async fn withdrawing<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let Some(time) = self.expiry.into_iter().chain(self.publish_at).min() else { return work.await };
            if let Ok(done) = timeout_at(time, &mut work).await {
                return done;
            }
            self.changed = true;
            self.publish();
        }
    }

    /// Publishes what is known, but not before `interval` after the last time.
    pub(super) fn publish_after(&mut self, interval: Duration) {
        let time = self.published + interval;
        if time <= Instant::now() {
            self.publish();
        } else {
            self.publish_at = Some(self.publish_at.map_or(time, |before| before.min(time)));
        }
    }

    /// Publishes what is known and not too old.
    pub(super) fn publish(&mut self) {
        if std::mem::take(&mut self.changed) {
            (self.published, self.publish_at) = (Instant::now(), None);
            if self.status.has(Collector::Tags) {
                self.note_pending();
            }
            self.status.lists_down = self.lists_down();
            let before = Arc::clone(&self.inventory);
            let inventory = self.build();
            // By what is still the same one, readers know that they have nothing to do.
            if inventory != *before {
                self.inventory = Arc::new(inventory);
            }
            self.expiry = self.next_expiry();
            let too_old = self.newly_too_old();
            let source = self.config.name.as_str();
            if before.repositories.is_some() && self.inventory.repositories.is_none() {
                tracing::warn!(source, "the list of repositories became too old, all is withdrawn");
            } else if !too_old.is_empty() {
                tracing::warn!(source, lists = too_old, "lists became too old and are withdrawn");
            }
            if self.inventory.repositories.is_some()
                && before.shared.is_some()
                && self.inventory.shared.is_none()
            {
                tracing::warn!(source, "the shared repositories became too old and are withdrawn");
            }
        }
        let state = SourceState { inventory: Arc::clone(&self.inventory), status: self.status.clone() };
        self.state.send_replace(Arc::new(state));
    }

    /// When something of what was just published becomes too old.
    fn next_expiry(&self) -> Option<Instant> {
        let (list, tags) = self.listings_expiry();
        let shared = self.shared.as_ref().filter(|_| self.inventory.shared.is_some()).map(|known| known.0);
        let lists = list.into_iter().chain(shared).map(|read| read + self.config.poll.stale_after).min();
        // Each repository's tags have a time of their own, and not every one is worth a page.
        let tags = tags.map(|expiry| expiry.max(Instant::now() + PUBLISH_INTERVAL));
        lists.into_iter().chain(tags).min()
    }

    fn build(&self) -> Inventory {
        let fresh = |read: &Instant| read.elapsed() < self.config.poll.stale_after;
        let repositories = self.repositories().map(Arc::new);
        // Too old lists of repositories take everything else with them.
        let shared = self.shared.as_ref().filter(|(read, _)| fresh(read));
        let shared = shared.filter(|_| repositories.is_some() || !self.knew_repositories());
        Inventory {
            source: Arc::clone(&self.inventory.source),
            up: self.up,
            organizations_up: self.organizations_up(),
            repositories,
            shared: shared.map(|(_, rows)| Arc::clone(rows)),
        }
    }
}
