//! `check --live`: whether every source can be read, with which credential, and what polling it will cost.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};

use super::sources::{all, info, provider};
use crate::client::{ApiError, Guards, Listing, Poll};
use crate::config::{Cloud, Config, ConfigError, SourceConfig};
use crate::exposition::families::tag_series;
use crate::exposition::limit::{Selection, select};
use crate::inventory::{Entry, Inventory, Repositories, Repository, SharedRepository, Tag, TagSet};
use crate::provider::Provider;
use crate::telemetry::logging::chain;
use crate::telemetry::self_metrics::SelfMetrics;

/// Rows on a full page of each cloud's lists of repositories, and of tags.
const LIST_PAGE: (u64, u64) = (1000, 100);
const TAGS_PAGE: u64 = 100;

/// Makes everything that the sources need to run, without sending anything.
///
/// Errors: every source that cannot be set up.
pub fn set_up(config: Config) -> Result<Config, ConfigError> {
    let (metrics, guards) = (SelfMetrics::new(), Guards::default());
    all(config.sources.iter().map(|config| provider(config, &guards, metrics.handle(&config.name))))?;
    Ok(config)
}

/// Reads the first page of every listing of every source. The report for people, and whether all could be read.
///
/// Errors: every source that cannot be set up.
pub async fn live(config: &Config) -> Result<(String, bool), ConfigError> {
    let (metrics, guards) = (SelfMetrics::new(), Guards::default());
    let sources = all(config
        .sources
        .iter()
        .map(|config| Ok((config, provider(config, &guards, metrics.handle(&config.name))?))))?;
    let previews = join_all(sources.iter().map(|(config, provider)| preview(config, &**provider))).await;
    let mut report = String::new();
    let mut good = true;
    for ((config, _), preview) in sources.iter().zip(previews) {
        good &= preview.is_ok();
        describe(&mut report, config, &preview);
    }
    Ok((report, good))
}

/// What the first pages tell of a source.
struct Preview {
    listing: Listing<Repository>,
    /// Rows before filters, and the lists that they come from.
    listed: u64,
    names: Vec<Box<str>>,
    shared: Vec<SharedRepository>,
    shared_mismatch: i64,
    /// The tags of one of the repositories.
    tags: Vec<Tag>,
}

async fn preview(config: &SourceConfig, provider: &dyn Provider) -> Result<Preview, ApiError> {
    let poll = Poll::of_first_pages(None);
    let names = provider.listings(&poll).await?;
    let mut preview = Preview {
        listing: Listing { mismatch: names.mismatch, ..Listing::of(Vec::new()) },
        listed: 0,
        names: names.rows,
        shared: Vec::new(),
        shared_mismatch: 0,
        tags: Vec::new(),
    };
    let listing = &mut preview.listing;
    let lists: Vec<_> = preview.names.iter().map(|name| provider.repositories(&poll, name)).collect();
    let mut lists = stream::iter(lists).buffered(config.poll.max_concurrent_requests);
    while let Some(list) = lists.next().await {
        let list = list?;
        listing.mismatch = listing.mismatch.saturating_add(list.mismatch);
        listing.rows.extend(list.rows);
    }
    drop(lists);
    preview.listed = listing.rows.len() as u64;
    for center in config.cloud.shared() {
        let shared = provider.shared_repositories(&poll, *center).await?;
        preview.shared.extend(shared.rows);
        preview.shared_mismatch = preview.shared_mismatch.saturating_add(shared.mismatch);
    }
    let listing = &mut preview.listing;
    listing.rows.retain(|r| config.repositories.keeps_repository(&r.organization, &r.name));
    if let Some(repository) = listing.rows.first().filter(|_| config.tags.enabled) {
        preview.tags = provider.tags(&poll, repository).await?.listing.rows;
    }
    Ok(preview)
}

fn describe(report: &mut String, config: &SourceConfig, preview: &Result<Preview, ApiError>) {
    let outcome = match preview {
        Ok(preview) => {
            let repositories = preview.repositories();
            let (full, unchanged) = preview.calls(config);
            let series = preview.series(config);
            format!(
                "ok\n  repositories: {repositories}\n  API calls: {full} for a full poll, {unchanged} for one \
                 without changes\n  series: ≈ {series}\n"
            )
        }
        Err(error) => format!("failed\n  reason: {}\n  error: {}\n", error.reason().as_str(), chain(error)),
    };
    let (name, credential) = (&config.name, config.cloud.credential());
    writeln!(report, "{name}: {outcome}  credential: {credential}").expect("writing to a string cannot fail");
}

impl Preview {
    fn repositories(&self) -> u64 {
        self.listed.saturating_add_signed(self.listing.mismatch)
    }

    /// API calls of a poll that reads everything, and of one in which nothing changed.
    fn calls(&self, config: &SourceConfig) -> (u64, u64) {
        let rest = |mismatch: i64, page: u64| u64::try_from(mismatch).unwrap_or(0).div_ceil(page);
        let (page, names) = match &config.cloud {
            Cloud::Swr(_) => (LIST_PAGE.0, 0),
            Cloud::Ncr(ncr) => (LIST_PAGE.1, u64::from(ncr.registries.is_empty())),
        };
        let lists = names + self.names.len() as u64 + rest(self.listing.mismatch, page);
        let shared = config.cloud.shared().len() as u64 + rest(self.shared_mismatch, LIST_PAGE.0);
        if !config.tags.enabled {
            return (lists + shared, lists + shared);
        }
        let pages = |r: &Repository| r.images.unwrap_or(1).div_ceil(TAGS_PAGE).max(1);
        let tags = self.scaled(sum(self.listing.rows.iter().map(pages)));
        let sweeps = config.tags.full_sweep.as_secs().div_ceil(config.poll.interval.as_secs().max(1)).max(1);
        (sum([lists, shared, tags]), sum([lists, shared, tags.div_ceil(sweeps)]))
    }

    fn organizations(&self) -> Vec<Box<str>> {
        let listed = self.names.iter().filter(|name| !name.is_empty());
        let rows = self.listing.rows.iter().map(|row| &row.organization);
        let names: BTreeSet<_> = listed.chain(rows).cloned().collect();
        names.into_iter().collect()
    }

    /// Series that the first pages make, in proportion for the whole.
    fn series(&self, config: &SourceConfig) -> u64 {
        let sample = self.tags.first().cloned().unwrap_or_default();
        let entry = |repository: &Repository| {
            let tags = TagSet { images: Some(1), last_push: sample.updated, ..TagSet::default() };
            let tags = config.tags.enabled.then(|| Arc::new(tags));
            Entry { repository: Arc::new(repository.clone()), tags }
        };
        // Counted and not made: an API may state any number.
        let newest = config.tags.newest.map_or(u64::MAX, |newest| newest as u64);
        let tags = |row: &Repository| row.images.unwrap_or(self.tags.len() as u64).min(newest);
        let tags = if config.tags.enabled { sum(self.listing.rows.iter().map(tags)) } else { 0 };
        let inventory = Inventory {
            source: Arc::new(info(config)),
            up: Some(true),
            organizations_up: Vec::new(),
            repositories: Some(Arc::new(Repositories {
                listed: Some(self.listed),
                measured: matches!(config.cloud, Cloud::Swr(_)),
                organizations: (!config.cloud.watches()).then(|| self.organizations()),
                entries: self.listing.rows.iter().map(entry).collect(),
            })),
            shared: Some(self.shared.clone().into()),
        };
        // By level: of the source and its organizations, and of rows.
        let served = select(&inventory, None, &Selection::default()).counts().served;
        let limit = config.series_limit.unwrap_or(u64::MAX);
        let (fixed, of_rows) = served.split_at(2);
        let of_rows = sum(of_rows.iter().copied().chain([tags.saturating_mul(tag_series(&sample))]));
        sum(fixed.iter().copied().chain([self.scaled(of_rows)])).min(limit)
    }

    /// A figure of the rows of the first pages in proportion to all rows.
    fn scaled(&self, figure: u64) -> u64 {
        match self.listed {
            0 => figure,
            listed => {
                let of_all = (u128::from(figure) * u128::from(self.repositories())).div_ceil(listed.into());
                u64::try_from(of_all).unwrap_or(u64::MAX)
            }
        }
    }
}

/// The sum, or the largest number: an estimate of what an API states need not be exact there.
fn sum(figures: impl IntoIterator<Item = u64>) -> u64 {
    figures.into_iter().fold(0, u64::saturating_add)
}
