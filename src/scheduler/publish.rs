//! What a source knows and when it is too old to be shown.

use std::pin::pin;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::{PUBLISH_INTERVAL, Source, SourceState};
use crate::config::Cloud;
use crate::inventory::{Inventory, Repositories};

impl Source {
    /// Waits for `work`; what becomes too old meanwhile is withdrawn at its time.
    pub(super) async fn withdrawing<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let Some(expiry) = self.expiry else { return work.await };
            if let Ok(done) = timeout_at(expiry, &mut work).await {
                return done;
            }
            self.changed = true;
            self.publish();
        }
    }

    /// Publishes what is known and not too old.
    pub(super) fn publish(&mut self) {
        if std::mem::take(&mut self.changed) {
            let before = Arc::clone(&self.inventory);
            let inventory = self.build();
            // By what is still the same one, readers know that they have nothing to do.
            if inventory != *before {
                self.inventory = Arc::new(inventory);
            }
            self.expiry = self.next_expiry();
            let source = self.config.name.as_str();
            if before.repositories.is_some() && self.inventory.repositories.is_none() {
                tracing::warn!(source, "the list of repositories became too old, all is withdrawn");
            } else if before.shared.is_some() && self.inventory.shared.is_none() {
                tracing::warn!(source, "the shared repositories became too old and are withdrawn");
            }
        }
        let state = SourceState { inventory: Arc::clone(&self.inventory), status: self.status.clone() };
        self.state.send_replace(Arc::new(state));
    }

    /// When something of what was just published becomes too old.
    fn next_expiry(&self) -> Option<Instant> {
        let inventory = &self.inventory;
        let list = self.repositories.as_ref().filter(|_| inventory.repositories.is_some()).map(|k| k.0);
        let shared = self.shared.as_ref().filter(|_| inventory.shared.is_some()).map(|k| k.0);
        let lists = list.into_iter().chain(shared).map(|read| read + self.config.poll.stale_after).min();
        // Each repository's tags have a time of their own, and not every one is worth a page.
        let tags = list.and(self.tags.expiry()).map(|expiry| expiry.max(Instant::now() + PUBLISH_INTERVAL));
        lists.into_iter().chain(tags).min()
    }

    fn build(&self) -> Inventory {
        let fresh = |read: &Instant| read.elapsed() < self.config.poll.stale_after;
        let repositories = self.repositories.as_ref().filter(|(read, _)| fresh(read));
        // Too old a list of repositories takes everything else with it.
        let shared = self.shared.as_ref().filter(|(read, _)| fresh(read));
        let shared = shared.filter(|_| self.repositories.is_none() || repositories.is_some());
        Inventory {
            source: Arc::clone(&self.inventory.source),
            up: self.up,
            repositories: repositories.map(|(_, known)| {
                Arc::new(Repositories {
                    listed: known.listed,
                    measured: matches!(self.config.cloud, Cloud::Swr(_)),
                    organizations: known.organizations.clone(),
                    entries: self.tags.entries(),
                })
            }),
            shared: shared.map(|(_, rows)| Arc::clone(rows)),
        }
    }
}
