//! What an organization's repositories add up to.

use crate::inventory::{Entry, Inventory, Repositories};

/// The totals of one organization, over what the filters left and before limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Whether its own list could be read last, where it has one.
    pub up: Option<bool>,
    /// Number of repositories; `None` if nothing is known of them that is not too old.
    pub repositories: Option<u64>,
    /// Sum of their images; `None` if one does not say.
    pub images: Option<u128>,
    /// Sum of their sizes; `None` if one does not say.
    pub size_bytes: Option<u128>,
    /// Sum of their downloads; `None` if one does not say.
    pub downloads: Option<u128>,
}

/// Every organization to report, in order, with its totals.
pub fn totals(inventory: &Inventory) -> Vec<(&str, Totals)> {
    let mut all = inventory.repositories.as_deref().map(sums).unwrap_or_default();
    for (name, up) in &inventory.organizations_up {
        let place = all.binary_search_by(|(known, _)| (*known).cmp(name)).unwrap_or_else(|place| {
            all.insert(place, (name, Totals::default()));
            place
        });
        all[place].1.up = Some(*up);
    }
    all
}

fn sums(repositories: &Repositories) -> Vec<(&str, Totals)> {
    let entries = &repositories.entries;
    let mut rest = entries.as_slice();
    let mut all = Vec::new();
    for organization in repositories.organizations.as_deref().unwrap_or_default() {
        let start = rest.partition_point(|e| e.repository.organization < *organization);
        let end = rest.partition_point(|e| e.repository.organization <= *organization);
        let own = &rest[start..end];
        rest = &rest[end..];
        let totals = Totals {
            up: None,
            repositories: Some(own.len() as u64),
            images: sum(own, |e| e.repository.images).filter(|_| repositories.measured),
            size_bytes: sum(own, |e| e.repository.size_bytes).filter(|_| repositories.measured),
            downloads: sum(own, |e| e.repository.downloads),
        };
        all.push((&**organization, totals));
    }
    all
}

/// The sum of what every row gives; `None` if one does not.
fn sum(entries: &[Entry], value: impl Fn(&Entry) -> Option<u64>) -> Option<u128> {
    entries.iter().map(|entry| value(entry).map(u128::from)).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::inventory::Repository;

    fn entry(organization: &str, size_bytes: Option<u64>, downloads: Option<u64>) -> Entry {
        let organization = organization.into();
        let repository = Repository { organization, size_bytes, downloads, ..Repository::default() };
        Entry { repository: Arc::new(repository), tags: None }
    }

    fn repositories(organizations: &[&str], entries: Vec<Entry>) -> Repositories {
        let organizations = Some(organizations.iter().map(|o| (*o).into()).collect());
        Repositories { listed: None, measured: true, organizations, entries }
    }

    #[test]
    fn adds_beyond_64_bits() {
        let all =
            repositories(&["a"], vec![entry("a", Some(u64::MAX), None), entry("a", Some(u64::MAX), None)]);
        assert_eq!(sums(&all)[0].1.size_bytes, Some(u128::from(u64::MAX) * 2));
    }

    #[test]
    fn leaves_out_a_sum_that_one_row_lacks() {
        let rows =
            vec![entry("a", Some(1), Some(1)), entry("a", None, Some(2)), entry("b", Some(5), Some(3))];
        let all = repositories(&["a", "b"], rows);
        let sums: Vec<_> = sums(&all).into_iter().map(|(_, t)| (t.size_bytes, t.downloads)).collect();
        assert_eq!(sums, [(None, Some(3)), (Some(5), Some(3))]);
    }

    #[test]
    fn an_organization_without_rows_adds_up_to_zero_of_what_the_source_gives() {
        let all = repositories(&["a", "b"], vec![entry("b", Some(1), Some(2))]);
        let empty = |all: &Repositories| sums(all).swap_remove(0).1;
        let zero = Totals {
            up: None,
            repositories: Some(0),
            images: Some(0),
            size_bytes: Some(0),
            downloads: Some(0),
        };
        assert_eq!(empty(&all), zero);
        let unmeasured = Repositories { measured: false, ..all };
        assert_eq!(empty(&unmeasured), Totals { images: None, size_bytes: None, ..zero });
    }

    #[test]
    fn a_source_that_watches_single_repositories_has_no_totals() {
        let all = Repositories {
            listed: Some(1),
            measured: true,
            organizations: None,
            entries: vec![entry("a", None, None)],
        };
        assert!(sums(&all).is_empty());
    }
}
