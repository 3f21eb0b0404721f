//! The walk over the tree: what every source has in common. It goes on after a problem, in a fixed order, so that a
//! user sees all problems at once and always the same ones first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::layers::Entries;
use super::poll::PollKeys;
use super::problem::Problems;
use super::value::Table;
use super::{Cloud, SourceConfig, TagsConfig, address, cloud, duration, keys, poll};
use crate::inventory::SourceName;

/// What a value may refer to outside of the tree.
pub(super) struct Surroundings<'a> {
    /// Relative paths start here.
    pub(super) directory: &'a Path,
    /// The environment of the process.
    pub(super) environment: &'a BTreeMap<String, String>,
}

/// The sources, sorted by name. Complete only if no problem was noted.
pub(super) fn sources(
    tree: &Entries,
    directory: &Path,
    environment: &BTreeMap<String, String>,
    problems: &Problems,
) -> Vec<SourceConfig> {
    let root = Table::root(tree, problems);
    root.refuse_unknown(keys::ROOT);
    let (poll_defaults, _) = poll::read(&root, &PollKeys::default());
    let series_limit = poll::series_limit(&root).unwrap_or(Some(DEFAULT_SERIES));
    let table = root.open("sources");
    let names = table.names();
    if names.is_empty() && (table.is_present() || !root.has("sources")) {
        root.problem("sources", NO_SOURCE);
    }
    let surroundings = Surroundings { directory, environment };
    let mut sources = Vec::new();
    for name in names {
        let Some(source_name) = SourceName::new(name) else {
            table.problem(
                name,
                "a source's name consists of lower-case letters and digits, in groups joined by single hyphens, such as \
                 swr-prod; rename it",
            );
            continue;
        };
        let entry = table.open(name);
        if entry.is_present()
            && let Some(source) = source(source_name, &entry, &poll_defaults, series_limit, &surroundings)
        {
            sources.push(source);
        }
    }
    sources
}

/// The directory of `[state]`; `None` if the section is not there.
pub(super) fn state(tree: &Entries, directory: &Path, problems: &Problems) -> Option<PathBuf> {
    let table = Table::root(tree, problems).table("state", keys::STATE);
    let cure = "name the directory for the snapshots, such as \"state\", or remove the section";
    let path = table.is_present().then(|| table.required_text("path", cure)).flatten();
    path.map(|path| directory.join(path))
}

/// Series per source unless the file says otherwise.
const DEFAULT_SERIES: u64 = 200_000;

const NO_SOURCE: &str = "no source is declared; add one such as\n  \
    [sources.swr-prod]\n  \
    provider = \"swr\"\n  \
    region = \"cn-north-4\"";

fn source(
    name: SourceName,
    table: &Table,
    poll_defaults: &PollKeys,
    series_limit: Option<u64>,
    surroundings: &Surroundings,
) -> Option<SourceConfig> {
    #[derive(Clone, Copy)]
    enum Provider {
        Swr,
        Ncr,
    }
    if !table.has("provider") {
        table.problem("provider", "is missing; set \"swr\" (Huawei Cloud) or \"ncr\" (NAVER Cloud Platform)");
        return None;
    }
    // Everything else depends on it.
    let provider = table.word("provider", &[("swr", Provider::Swr), ("ncr", Provider::Ncr)])?;
    let cloud = match provider {
        Provider::Swr => {
            table.refuse_unknown(keys::SWR);
            cloud::swr(table, surroundings).map(Cloud::Swr)
        }
        Provider::Ncr => {
            table.refuse_unknown(keys::NCR);
            cloud::ncr(table, surroundings).map(Cloud::Ncr)
        }
    };
    let (poll_keys, poll) = poll::read(table, poll_defaults);
    let series_limit = poll::series_limit(table).unwrap_or(series_limit);
    let repositories = table.table("repositories", keys::REPOSITORIES).filter();
    let tags = tags(table, (!poll_keys.interval_unreadable).then_some(poll.interval));
    let connection = address::connection(table, surroundings);
    Some(SourceConfig { name, cloud: cloud?, poll, series_limit, repositories, tags, connection })
}

fn tags(source: &Table, interval: Option<Duration>) -> TagsConfig {
    let table = source.table("tags", keys::TAGS);
    let full_sweep = table.duration("full_sweep", Duration::ZERO);
    if let (Some(full_sweep), Some(interval)) = (full_sweep, interval)
        && full_sweep < interval
    {
        let interval = duration::write(interval);
        table.problem("full_sweep", format!("must not be shorter than the interval, {interval}"));
    }
    TagsConfig {
        enabled: table.flag("enabled").unwrap_or(true),
        newest: newest(&table),
        filter: table.filter(),
        info: table.flag("info").unwrap_or(false),
        full_sweep: full_sweep.unwrap_or(Duration::from_hours(24).max(interval.unwrap_or_default())),
    }
}

/// A number, or the word `all`, which is no limit.
fn newest(table: &Table) -> Option<usize> {
    if table.is_word("newest", "all") {
        return None;
    }
    let number = table.integer_called("newest", 0..=u64::from(u32::MAX), "a whole number or \"all\"");
    number.map_or(Some(5), |n| usize::try_from(n).ok())
}
