//! Finds what a page can take over from the page before without rendering it again.

use std::sync::Arc;

use super::limit::Selection;
use super::piece::Run;
use crate::inventory::{Entry, Repository};

/// For each repository that `selection` serves, the run of unchanged ones that begins with it. Unchanged means shared
/// with what `previous` serves, not equal to it: polls share what they find unchanged, and comparing all texts would
/// cost as much as rendering them.
pub fn runs(previous: &Selection, selection: &Selection) -> Vec<Run> {
    let mut before = previous.repositories().enumerate().peekable();
    let same_tags = selection.has_tags_of(previous);
    let mut runs = Vec::new();
    for entry in selection.repositories() {
        while before.next_if(|(_, other)| key(&other.repository) < key(&entry.repository)).is_some() {}
        let known = before.next_if(|(_, other)| key(&other.repository) == key(&entry.repository));
        let known = known.filter(|(_, other)| same_tags && is_shared(other, entry));
        runs.push(known.map_or_else(Run::default, |(at, _)| Run { at, length: 1, to_end: false }));
    }
    if let Some(last) = runs.last_mut() {
        last.to_end = true;
    }
    for index in (1..runs.len()).rev() {
        let (run, next) = (runs[index - 1], runs[index]);
        if run.length > 0 && next.length > 0 && next.at == run.at + 1 {
            runs[index - 1] = Run { length: run.length + next.length, to_end: next.to_end, ..run };
        }
    }
    runs
}

fn key(repository: &Repository) -> (&str, &str) {
    (&repository.organization, &repository.name)
}

fn is_shared(a: &Entry, b: &Entry) -> bool {
    let tags = match (&a.tags, &b.tags) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    };
    tags && Arc::ptr_eq(&a.repository, &b.repository)
}

#[cfg(test)]
mod tests {
    use super::super::families::FAMILIES;
    use super::super::limit::select;
    use super::super::page::Page;
    use super::super::source_page::{SourcePage, render};
    use super::*;
    use crate::inventory::{Inventory, Repositories, SourceInfo, SourceName, Tag, TagSet};

    fn entry(number: u64) -> Entry {
        let name = format!("repository-{number:06}").into();
        let repository = Repository {
            organization: "group".into(),
            name,
            size_bytes: Some(number),
            ..Repository::default()
        };
        let tag = |n: u64| Tag { name: format!("v{n}").into(), size_bytes: Some(n), ..Tag::default() };
        let tags = TagSet { newest: (0..number % 4).map(tag).collect(), ..TagSet::default() };
        Entry { repository: Arc::new(repository), tags: (!number.is_multiple_of(7)).then(|| Arc::new(tags)) }
    }

    fn inventory(entries: &[Entry]) -> Inventory {
        let info = SourceInfo {
            name: SourceName::new("test").unwrap(),
            provider: "swr",
            cloud_region: String::new(),
            api_host: String::new(),
        };
        let repositories = Repositories { entries: entries.to_vec(), ..Repositories::default() };
        Inventory {
            source: Arc::new(info),
            up: Some(true),
            organizations_up: Vec::new(),
            repositories: Some(Arc::new(repositories)),
            shared: None,
        }
    }

    fn page(entries: &[Entry], limit: Option<u64>, previous: Option<&SourcePage>) -> SourcePage {
        let inventory = inventory(entries);
        render(&inventory, &select(&inventory, limit, &Selection::default()), previous)
    }

    /// What becomes of the repositories from one page to the next.
    type Change = fn(&mut Vec<Entry>);

    #[test]
    fn a_page_that_takes_pieces_over_is_that_which_is_rendered_anew() {
        let changes: [Change; 10] = [
            |_| {},
            |all| all[2500] = entry(2_500_000),
            |all| all[2500].tags = None,
            |all| drop(all.remove(2500)),
            |all| all.insert(2501, Entry { ..entry(2_500_001) }),
            |all| drop(all.drain(..700)),
            |all| all.truncate(3000),
            |all| all.extend((0..900).map(|n| entry(900_000 + n))),
            |all| all.iter_mut().step_by(97).for_each(|e| e.tags = Some(Arc::new(TagSet::default()))),
            |all| all.clear(),
        ];
        let mut all: Vec<Entry> = (0..5000).map(|n| entry(n * 10)).collect();
        let mut previous = page(&all, None, None);
        for (number, change) in changes.into_iter().enumerate() {
            change(&mut all);
            all.sort_by(|a, b| key(&a.repository).cmp(&key(&b.repository)));
            for limit in [Some(6000), None] {
                let taken_over = page(&all, limit, Some(&previous));
                let anew = page(&all, limit, None);
                assert!(
                    Page::join(&[&taken_over]).to_vec() == Page::join(&[&anew]).to_vec(),
                    "{number} {limit:?}"
                );
                previous = taken_over;
            }
        }
    }

    #[test]
    fn an_equal_inventory_makes_no_piece_anew_even_if_it_shares_nothing() {
        let all = || (0..5000).map(|n| entry(n * 10)).collect::<Vec<Entry>>();
        let kept = all();
        let previous = page(&kept, None, None);
        for entries in [kept, all()] {
            let next = page(&entries, None, Some(&previous));
            let families = 0..FAMILIES.len();
            let pieces = |of: &SourcePage| families.clone().flat_map(|f| of.family(f).to_vec()).collect();
            let (before, after): (Vec<_>, Vec<_>) = (pieces(&previous), pieces(&next));
            assert!(before.len() > 10 && before.len() == after.len());
            assert!(before.iter().zip(&after).all(|(before, after)| Arc::ptr_eq(before, after)));
        }
    }

    #[test]
    fn a_run_ends_where_something_changed_came_or_went() {
        let all: Vec<Entry> = (0..6).map(entry).collect();
        let of = |entries: &[Entry]| select(&inventory(entries), None, &Selection::default());
        let lengths = |entries: &[Entry]| -> Vec<(usize, usize)> {
            runs(&of(&all), &of(entries)).into_iter().map(|run| (run.at, run.length)).collect()
        };
        assert_eq!(lengths(&all[1..]), [(1, 5), (2, 4), (3, 3), (4, 2), (5, 1)]);
        let changed = [all[0].clone(), entry(1), all[2].clone(), all[4].clone(), all[5].clone()];
        assert_eq!(lengths(&changed), [(0, 1), (0, 0), (2, 1), (4, 2), (5, 1)]);
    }
}
