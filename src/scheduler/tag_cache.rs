//! Which repositories' tags to read next, and what is known of them meanwhile.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::TagsConfig;
use crate::inventory::{Entry, Repository, Tag, TagSet};

/// The repositories of the last good list, sorted by key, with what is known of their tags.
pub struct TagCache {
    rows: Vec<Row>,
    max_age: Duration,
}

struct Row {
    repository: Arc<Repository>,
    /// The tags, and when they were read.
    known: Option<(Instant, Arc<TagSet>)>,
    /// Since when the tags wait to be read.
    due: Option<Instant>,
}

impl TagCache {
    /// An empty cache that shows tags for `max_age` after they were read.
    pub fn new(max_age: Duration) -> Self {
        Self { rows: Vec::new(), max_age }
    }

    /// Takes a new list, sorted by key. Tags of repositories that are still there are kept; all are due, those that
    /// were due before since then.
    pub fn list(&mut self, repositories: Vec<Repository>, now: Instant) {
        let mut old = std::mem::take(&mut self.rows).into_iter().peekable();
        self.rows.reserve_exact(repositories.len());
        for repository in repositories {
            while old.next_if(|row| by_key(&row.repository, &repository) == Ordering::Less).is_some() {}
            let row = match old.next_if(|row| by_key(&row.repository, &repository) == Ordering::Equal) {
                Some(row) => {
                    let unchanged = *row.repository == repository;
                    let repository = if unchanged { row.repository } else { Arc::new(repository) };
                    Row { repository, known: row.known, due: row.due.or(Some(now)) }
                }
                None => Row { repository: Arc::new(repository), known: None, due: Some(now) },
            };
            self.rows.push(row);
        }
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
            Some((_, known)) if **known == tags => Arc::clone(known),
            _ => Arc::new(tags),
        };
        row.known = Some((now, tags));
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
        let tags = |row: &Row| {
            let (read, tags) = row.known.as_ref()?;
            (read.elapsed() < self.max_age).then(|| Arc::clone(tags))
        };
        self.rows
            .iter()
            .map(|row| Entry { repository: Arc::clone(&row.repository), tags: tags(row) })
            .collect()
    }
}

fn by_key(a: &Repository, b: &Repository) -> Ordering {
    (&a.organization, &a.name).cmp(&(&b.organization, &b.name))
}

/// What to keep of a repository's tags: the latest push of all, and the newest of those that the filter keeps.
pub fn tag_set(mut tags: Vec<Tag>, images: Option<u64>, config: &TagsConfig) -> TagSet {
    let last_push = tags.iter().filter_map(|tag| tag.updated).max();
    tags.retain(|tag| config.filter.keeps(&tag.name));
    tags.sort_unstable_by(|a, b| (Reverse(a.updated), &a.name).cmp(&(Reverse(b.updated), &b.name)));
    tags.truncate(config.newest.unwrap_or(usize::MAX));
    TagSet { images, last_push, newest: tags.into() }
}
