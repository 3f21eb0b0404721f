//! Keeps series apart whose label values differ only in what is cut off.

use std::collections::HashSet;

use super::encode::{cut, may_collide};
use crate::inventory::{Center, Entry, Inventory, SharedRepository, Tag};

use super::totals::{Totals, totals};

/// The label values that tell the series of a family apart, the source aside.
type Key<'a> = (Option<Center>, &'a str, &'a str);

/// The organizations that have series, with their totals, in order.
pub fn organizations(inventory: &Inventory) -> impl Iterator<Item = (&str, Totals)> {
    distinct(totals(inventory).into_iter(), |(organization, _)| (None, organization, "")).map(|(_, row)| row)
}

/// The repositories that have series, with their indices.
pub fn repositories(all: &[Entry]) -> impl Iterator<Item = (usize, &Entry)> {
    distinct(all.iter(), |e| (None, &e.repository.organization, &e.repository.name))
}

/// The shared repositories that have series, with their indices.
pub fn shared(all: &[SharedRepository]) -> impl Iterator<Item = (usize, &SharedRepository)> {
    distinct(all.iter(), |s| (Some(s.center), &s.organization, &s.name))
}

/// The tags of one repository that have series, with their indices.
pub fn tags(entry: &Entry) -> impl Iterator<Item = (usize, &Tag)> {
    let all = entry.tags.as_ref().map_or(&[][..], |tags| &tags.newest);
    distinct(all.iter(), |tag| (None, &tag.name, ""))
}

/// All of `items` but those with the same labels, once cut, as one before.
fn distinct<T>(
    items: impl Iterator<Item = T>,
    key: impl for<'a> Fn(&'a T) -> Key<'a>,
) -> impl Iterator<Item = (usize, T)> {
    let mut seen: HashSet<(Option<Center>, String, String)> = HashSet::new();
    items.enumerate().filter(move |(_, item)| {
        let (center, first, second) = key(item);
        let owned = |value| cut(value).into_owned();
        !(may_collide(first) || may_collide(second)) || seen.insert((center, owned(first), owned(second)))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::inventory::Repository;

    #[test]
    fn keeps_the_first_of_those_that_look_alike_once_cut() {
        let same = "x".repeat(1021);
        let names = [format!("{same}ab12"), format!("{same}ab34"), format!("{same}…"), "x".to_owned()];
        let entries = names.map(|name| Entry {
            repository: Arc::new(Repository { name: name.into(), ..Repository::default() }),
            tags: None,
        });
        let kept: Vec<_> = repositories(&entries).map(|(index, _)| index).collect();
        assert_eq!(kept, [0, 3]);
    }
}
