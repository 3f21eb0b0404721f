//! Turns what the sources publish into the bytes of `/metrics`, once per poll and not once per scrape.
//!
//! `families` is the table of all inventory metrics; [`limit`] chooses what of an inventory is served;
//! [`source_page`] renders one source through `encode` into pieces of text that are compressed once and kept while
//! they stay the same; [`page`] joins the pieces of all sources; [`live`] adds the exporter's own metrics;
//! [`negotiate`] chooses the format. [`run`] does all this whenever a source publishes something new.

mod distinct;
pub mod encode;
pub mod families;
pub mod limit;
pub mod live;
pub mod negotiate;
pub mod page;
mod piece;
pub mod source_page;
mod totals;
pub mod trim;
mod unchanged;

use std::collections::BTreeMap;
use std::future::pending;
use std::panic::resume_unwind;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder as _, TextEncoder};
use tokio::sync::watch;

use crate::inventory::{Inventory, SourceName};
use crate::scheduler::SourceState;
use crate::telemetry::self_metrics::{LAST_SUCCESS, SelfMetrics, SourceMetrics};
use limit::{Selection, select};
use page::{Page, Pages};
use source_page::render;

/// The sources there are, by name.
pub type Sources = BTreeMap<SourceName, Source>;

/// What the page needs of a source.
#[derive(Clone)]
pub struct Source {
    /// What it publishes.
    pub states: watch::Receiver<Arc<SourceState>>,
    /// Most inventory series; `None` = no limit.
    pub series_limit: Option<u64>,
    /// Its own metrics.
    pub metrics: SourceMetrics,
}

/// Keeps `pages` up to date with what `sources` publish, until the sender of `sources` is dropped.
///
/// One source is rendered at a time, in a blocking thread, so that at most one page is held twice. A source that is
/// no longer among `sources` loses its page.
pub async fn run(mut sources: watch::Receiver<Sources>, pages: Arc<Pages>) {
    let mut tasks: BTreeMap<SourceName, Rendering> = BTreeMap::new();
    loop {
        let current = sources.borrow_and_update().clone();
        for gone in pages.sources().iter().filter(|name| !current.contains_key(name)) {
            pages.set(gone, None);
        }
        tasks.retain(|name, _| current.contains_key(name));
        for (name, source) in current {
            match tasks.get_mut(&name) {
                Some(task) => task.source = source,
                None => drop(tasks.insert(name, Rendering::new(source))),
            }
        }
        for (name, task) in &mut tasks {
            task.update(name, &pages).await;
        }
        let mut published: FuturesUnordered<_> = tasks.values_mut().map(Rendering::published).collect();
        tokio::select! {
            changed = sources.changed() => if changed.is_err() { return },
            Some(()) = published.next() => {}
        }
    }
}

/// The page of one round of polls, as text: each inventory with its limit, and when each collector succeeded.
pub fn page_of(sources: &[(Arc<Inventory>, Option<u64>)], metrics: &SelfMetrics) -> Vec<u8> {
    let pages = sources.iter().map(|(inventory, limit)| {
        let selection = select(inventory, *limit, &Selection::default());
        render(inventory, &selection, None)
    });
    let pages: Vec<_> = pages.collect();
    let mut text = Page::join(&pages.iter().collect::<Vec<_>>()).to_vec();
    let wanted = |family: &MetricFamily| family.name() == LAST_SUCCESS;
    let families: Vec<_> = metrics.gather().into_iter().filter(wanted).collect();
    TextEncoder::new().encode(&families, &mut text).expect("the family is whole, and a Vec takes it");
    text
}

/// The rendering of one source.
struct Rendering {
    source: Source,
    /// What the page shows, and the limit it was made with.
    rendered: Option<(Arc<Inventory>, Option<u64>)>,
    selection: Selection,
    withholds: bool,
}

impl Rendering {
    fn new(source: Source) -> Self {
        Self { source, rendered: None, selection: Selection::default(), withholds: false }
    }

    /// Waits until the source publishes again; for ever if it has ended.
    async fn published(&mut self) {
        if self.source.states.changed().await.is_err() {
            pending::<()>().await;
        }
    }

    /// Renders what the source published last, unless that is what the page shows.
    async fn update(&mut self, name: &SourceName, pages: &Arc<Pages>) {
        let inventory = Arc::clone(&self.source.states.borrow_and_update().inventory);
        let limit = self.source.series_limit;
        if let Some((rendered, rendered_limit)) = &self.rendered
            && Arc::ptr_eq(rendered, &inventory)
            && *rendered_limit == limit
        {
            return;
        }
        // Not to keep the inventory before in memory meanwhile; the selection keeps what it needs.
        self.rendered = Some((Arc::clone(&inventory), limit));
        let previous = std::mem::take(&mut self.selection);
        let (source, pages) = (name.clone(), Arc::clone(pages));
        let rendering = tokio::task::spawn_blocking(move || {
            let selection = select(&inventory, limit, &previous);
            drop(previous);
            let page = render(&inventory, &selection, pages.source(&source).as_deref());
            pages.set(&source, Some(Arc::new(page)));
            trim::return_free_memory();
            selection
        });
        match rendering.await {
            Ok(selection) => self.selection = selection,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // The process is stopping.
            Err(_) => return,
        }
        self.report(name);
    }

    /// Says how many series are served and withheld, and logs when withholding starts and when it ends.
    fn report(&mut self, name: &SourceName) {
        let counts = self.selection.counts();
        let limit = self.source.series_limit.unwrap_or(0);
        self.source.metrics.series(counts.served, counts.withheld, limit);
        let withheld: u64 = counts.withheld.iter().sum();
        if withheld > 0 && !self.withholds {
            let served: u64 = counts.served.iter().sum();
            tracing::warn!(
                source = %name, served, withheld, limit,
                "the source has more series than its limit allows, some are withheld"
            );
        } else if withheld == 0 && self.withholds {
            tracing::warn!(source = %name, limit, "no series of the source are withheld any more");
        }
        self.withholds = withheld > 0;
    }
}
