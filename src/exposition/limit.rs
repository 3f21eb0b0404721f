//! Which series of a source are served when there are more than its limit allows.
//!
//! First the number of tags per repository shrinks, then shared repositories are withheld, then one's own; series of
//! the source itself and of organizations never are.

use std::cmp::Reverse;
use std::sync::Arc;

use super::distinct;
use super::families::{organization_series, repository_series, shared_series, source_series, tag_series};
use crate::inventory::{Center, Entry, Inventory, Repositories, SharedRepository, Tag};

/// What of an inventory is served, and the memory of that for the next choice. The default serves nothing but
/// what has no repository, and remembers nothing.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Most tags of a repository; `None` = all.
    tags: Option<usize>,
    repositories: Option<Arc<Repositories>>,
    serves_repository: Vec<bool>,
    shared: Option<Arc<[SharedRepository]>>,
    serves_shared: Vec<bool>,
    counts: Counts,
}

/// Number of series by level: source, organization, repository, shared repository, tag; and what they are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// On the page.
    pub served: [u64; 5],
    /// Kept off the page by the limit.
    pub withheld: [u64; 5],
    /// Tags that may be on the page, those that the limit keeps off included.
    pub tags: u64,
}

impl Selection {
    /// The repositories on the page, in order.
    pub fn repositories(&self) -> impl Iterator<Item = &Entry> {
        let all = self.repositories.iter().flat_map(|r| &r.entries);
        all.zip(&self.serves_repository).filter_map(|(entry, serves)| serves.then_some(entry))
    }

    /// The shared repositories on the page, in order.
    pub fn shared(&self) -> impl Iterator<Item = &SharedRepository> {
        let all = self.shared.iter().flat_map(|s| s.iter());
        all.zip(&self.serves_shared).filter_map(|(shared, serves)| serves.then_some(shared))
    }

    /// The tags of a repository on the page, the newest first.
    pub fn tags<'a>(&self, entry: &'a Entry) -> impl Iterator<Item = &'a Tag> {
        let most = self.tags.unwrap_or(usize::MAX);
        distinct::tags(entry).take_while(move |(index, _)| *index < most).map(|(_, tag)| tag)
    }

    /// How many series are served and withheld.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether the same number of tags of each repository is on the page as with `other`.
    pub(super) fn has_tags_of(&self, other: &Self) -> bool {
        self.tags == other.tags
    }

    /// Whether a repository, which is probably at `index`, is on the page.
    fn served_repository(&self, entry: &Entry, index: usize) -> bool {
        fn key(entry: &Entry) -> (&str, &str) {
            (&entry.repository.organization, &entry.repository.name)
        }
        let known = self.repositories.as_ref().map_or(&[][..], |r| &r.entries);
        if known.get(index).is_some_and(|known| key(known) == key(entry)) {
            return self.serves_repository[index];
        }
        known.binary_search_by_key(&key(entry), key).is_ok_and(|index| self.serves_repository[index])
    }

    fn served_shared(&self, shared: &SharedRepository) -> bool {
        fn key(shared: &SharedRepository) -> (Center, &str, &str) {
            (shared.center, &shared.organization, &shared.name)
        }
        let known = self.shared.as_deref().unwrap_or_default();
        known.binary_search_by_key(&key(shared), key).is_ok_and(|index| self.serves_shared[index])
    }
}

/// Chooses what to serve of `inventory` so that it has at most `limit` series (`None` = no limit).
///
/// What `previous` served stays as long as it exists and the limit allows it, so that series do not come and go;
/// the number of tags grows again only into 90 % of the limit.
pub fn select(inventory: &Inventory, limit: Option<u64>, previous: &Selection) -> Selection {
    let none = Repositories::default();
    let repositories = inventory.repositories.as_deref().unwrap_or(&none);
    let shared = inventory.shared.as_deref().unwrap_or_default();
    let limit = limit.unwrap_or(u64::MAX);

    let repository_rows: Vec<Row> = distinct::repositories(&repositories.entries)
        .map(|(index, entry)| Row {
            index,
            series: repository_series(entry),
            size_bytes: entry.repository.size_bytes,
            downloads: entry.repository.downloads,
            served_before: previous.served_repository(entry, index),
        })
        .collect();
    let shared_rows: Vec<Row> = distinct::shared(shared)
        .map(|(index, row)| Row {
            index,
            series: shared_series(row),
            size_bytes: row.size_bytes,
            downloads: row.downloads,
            served_before: previous.served_shared(row),
        })
        .collect();
    let tags = TagCounts::new(repository_rows.iter().map(|row| &repositories.entries[row.index]));
    let of_source = source_series(inventory);
    let of_organizations =
        distinct::organizations(inventory).map(|(_, totals)| organization_series(&totals)).sum();
    let of_repositories: u64 = repository_rows.iter().map(|r| r.series).sum();
    let of_shared: u64 = shared_rows.iter().map(|r| r.series).sum();

    let budget = limit.saturating_sub(of_source + of_organizations);
    let above_tags = of_source + of_organizations + of_repositories + of_shared;
    let most_tags = tags.choose(
        limit.saturating_sub(above_tags),
        (limit - limit.div_ceil(10)).saturating_sub(above_tags),
        previous.tags,
    );
    let served_tags = tags.up_to(most_tags);
    let (serves_repository, served_repositories) = fill(&repository_rows, repositories.entries.len(), budget);
    // What is left over where one's own do not fit is not for shared ones.
    let left = if served_repositories == of_repositories { budget - served_repositories } else { 0 };
    let (serves_shared, of_shared_served) = fill(&shared_rows, shared.len(), left);
    Selection {
        tags: most_tags,
        repositories: inventory.repositories.clone(),
        serves_repository,
        shared: inventory.shared.clone(),
        serves_shared,
        counts: Counts {
            served: [of_source, of_organizations, served_repositories, of_shared_served, served_tags],
            withheld: [
                0,
                0,
                of_repositories - served_repositories,
                of_shared - of_shared_served,
                tags.up_to(None) - served_tags,
            ],
            tags: tags.number,
        },
    }
}

/// How many series the tags of all repositories have.
struct TagCounts {
    /// At index n: with at most n tags per repository.
    up_to: Vec<u64>,
    /// How many tags these are.
    number: u64,
}

impl TagCounts {
    fn new<'a>(entries: impl Iterator<Item = &'a Entry>) -> Self {
        let (mut up_to, mut number) = (vec![0], 0);
        for entry in entries {
            for (index, tag) in distinct::tags(entry) {
                if up_to.len() < index + 2 {
                    up_to.resize(index + 2, 0);
                }
                up_to[index + 1] += tag_series(tag);
                number += 1;
            }
        }
        let mut sum = 0;
        for count in &mut up_to {
            sum += *count;
            *count = sum;
        }
        Self { up_to, number }
    }

    fn up_to(&self, most: Option<usize>) -> u64 {
        self.up_to[most.unwrap_or(usize::MAX).min(self.up_to.len() - 1)]
    }

    /// The number of tags per repository (`None` = all): at most `budget` series, and more than `previous` only
    /// within `growth_budget`.
    fn choose(&self, budget: u64, growth_budget: u64, previous: Option<usize>) -> Option<usize> {
        let fitting = |budget| {
            let fits = self.up_to.partition_point(|series| *series <= budget);
            (fits < self.up_to.len()).then(|| fits.saturating_sub(1))
        };
        if self.up_to(previous) > budget {
            return fitting(budget);
        }
        match (previous, fitting(growth_budget)) {
            (Some(previous), Some(grown)) => Some(previous.max(grown)),
            (None, _) | (_, None) => None,
        }
    }
}

/// A repository or a shared one that competes for room.
struct Row {
    /// Its place in the inventory.
    index: usize,
    series: u64,
    size_bytes: Option<u64>,
    downloads: Option<u64>,
    served_before: bool,
}

/// Which of `length` rows to serve within `budget` series, and the number of their series.
fn fill(rows: &[Row], length: usize, budget: u64) -> (Vec<bool>, u64) {
    let mut serves = vec![false; length];
    let mut used = 0;
    // Sizes where the API gives them, else downloads: the two cannot be compared.
    let sized = rows.iter().any(|row| row.size_bytes.is_some());
    let rank = |row: &&Row| {
        let size = if sized { row.size_bytes } else { row.downloads };
        // The rows are in order of names, and of equals the first name is withheld first.
        Reverse((size.unwrap_or(0), row.index))
    };
    let mut take = |row: &&&Row| {
        let fits = used + row.series <= budget;
        if fits {
            serves[row.index] = true;
            used += row.series;
        }
        fits
    };
    let (mut before, mut others): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.served_before);
    before.sort_by_key(rank);
    let stay = before.iter().take_while(&mut take).count();
    others.extend_from_slice(&before[stay..]);
    others.sort_by_key(rank);
    // Stopping at the first that does not fit keeps a smaller one from being served in its place.
    let _ = others.iter().take_while(&mut take).count();
    (serves, used)
}
