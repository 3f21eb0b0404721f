//! What must stand on the page, said once more and without the table of families.

use std::collections::{BTreeMap, BTreeSet};

use container_registry_exporter::inventory::{Inventory, Repository, Timestamp};

use super::parser::Labels;

/// Every sample's text by name and labels, all of the inventory being served.
pub fn expected(inventory: &Inventory) -> BTreeMap<(String, Labels), String> {
    let mut page = Expected::default();
    let info = &inventory.source;
    let source = [("source", info.name.as_str())];
    page.integer("up", &source, inventory.up.map(u128::from));
    let info =
        [("provider", info.provider), ("cloud_region", &info.cloud_region), ("api_host", &info.api_host)];
    page.integer("source_info", &[&source[..], &info].concat(), Some(1));
    let mut organizations_seen = BTreeSet::new();
    for (organization, up) in &inventory.organizations_up {
        if organizations_seen.insert(cut(organization)) {
            page.integer(
                "organization_up",
                &[source[0], ("organization", organization)],
                Some(u128::from(*up)),
            );
        }
    }
    if let Some(repositories) = &inventory.repositories {
        page.integer("source_repositories", &source, repositories.listed.map(u128::from));
        let all: Vec<&Repository> = repositories.entries.iter().map(|e| &*e.repository).collect();
        for organization in repositories.organizations.iter().flatten() {
            let labels = [source[0], ("organization", organization)];
            let own: Vec<_> = all.iter().filter(|r| r.organization == *organization).collect();
            let sum = |value: fn(&Repository) -> Option<u64>| {
                own.iter().map(|r| value(r).map(u128::from)).sum::<Option<u128>>()
            };
            let measured = |sum: Option<u128>| sum.filter(|_| repositories.measured);
            page.integer("organization_repositories", &labels, Some(own.len() as u128));
            page.integer("organization_images", &labels, measured(sum(|r| r.images)));
            page.integer("organization_size_bytes", &labels, measured(sum(|r| r.size_bytes)));
            page.integer("organization_downloads", &labels, sum(|r| r.downloads));
        }
        let mut repositories_seen = BTreeSet::new();
        for entry in &repositories.entries {
            let repository = &entry.repository;
            if !repositories_seen.insert((cut(&repository.organization), cut(&repository.name))) {
                continue;
            }
            let tags = entry.tags.as_deref();
            let labels =
                [source[0], ("organization", &repository.organization), ("repository", &repository.name)];
            page.integer("repository_size_bytes", &labels, repository.size_bytes.map(u128::from));
            let images = repository.images.or(tags.and_then(|t| t.images));
            page.integer("repository_images", &labels, images.map(u128::from));
            page.integer("repository_downloads", &labels, repository.downloads.map(u128::from));
            page.time("repository_created_timestamp_seconds", &labels, repository.created);
            page.time("repository_updated_timestamp_seconds", &labels, repository.updated);
            page.integer("repository_public", &labels, repository.public.map(u128::from));
            let last_push = tags.and_then(|t| t.last_push);
            page.time("repository_last_push_timestamp_seconds", &labels, last_push);
            let category = repository.category.as_deref().map(|c| ("category", c));
            let image = repository.image.as_deref().map(|i| ("image", i));
            let info: Vec<_> = labels.into_iter().chain(category).chain(image).collect();
            page.integer("repository_info", &info, Some(1));
            for tag in tags.map_or(&[][..], |t| &t.newest) {
                let labels = [labels[0], labels[1], labels[2], ("tag", &tag.name)];
                page.integer("tag_size_bytes", &labels, tag.size_bytes.map(u128::from));
                page.time("tag_created_timestamp_seconds", &labels, tag.created);
                page.time("tag_updated_timestamp_seconds", &labels, tag.updated);
                page.time("tag_last_pulled_timestamp_seconds", &labels, tag.last_pulled);
                let info = tag.info.as_deref();
                let digest = info.and_then(|i| i.digest.as_deref()).map(|d| ("digest", d));
                let kind = info.and_then(|i| i.kind).map(|k| ("kind", k));
                let labels: Vec<_> = labels.into_iter().chain(digest).chain(kind).collect();
                page.integer("tag_info", &labels, info.map(|_| 1));
            }
        }
    }
    for shared in inventory.shared.iter().flat_map(|s| s.iter()) {
        let center = ("center", shared.center.as_str());
        let labels =
            [source[0], center, ("organization", &shared.organization), ("repository", &shared.name)];
        page.integer("shared_repository_size_bytes", &labels, shared.size_bytes.map(u128::from));
        page.integer("shared_repository_images", &labels, shared.images.map(u128::from));
        page.integer("shared_repository_downloads", &labels, shared.downloads.map(u128::from));
        page.time("shared_repository_updated_timestamp_seconds", &labels, shared.updated);
        page.integer("shared_repository_valid", &labels, shared.valid.map(u128::from));
        let owner = shared.owner_account.as_deref().map(|o| ("owner_account", o));
        let category = shared.category.as_deref().map(|c| ("category", c));
        let info: Vec<_> = labels.into_iter().chain(owner).chain(category).collect();
        page.integer("shared_repository_info", &info, Some(1));
    }
    page.samples
}

#[derive(Default)]
struct Expected {
    samples: BTreeMap<(String, Labels), String>,
    /// The labels that tell series apart: information is not among them.
    seen: BTreeSet<(String, Labels)>,
}

impl Expected {
    fn integer(&mut self, name: &str, labels: &[(&str, &str)], value: Option<u128>) {
        self.add(name, labels, value.map(|v| v.to_string()));
    }

    fn time(&mut self, name: &str, labels: &[(&str, &str)], value: Option<Timestamp>) {
        self.add(name, labels, value.map(decimal));
    }

    fn add(&mut self, name: &str, labels: &[(&str, &str)], value: Option<String>) {
        let name = format!("container_registry_{name}");
        let labels: Labels = labels.iter().map(|(name, value)| ((*name).to_owned(), cut(value))).collect();
        let telling = ["source", "center", "organization", "repository", "tag"];
        let key = labels.iter().filter(|(name, _)| telling.contains(&name.as_str()));
        let key = key.map(|(name, value)| (name.clone(), value.clone())).collect();
        // Of those that look alike once cut, the first counts, value or not.
        if self.seen.insert((name.clone(), key))
            && let Some(value) = value
        {
            self.samples.insert((name, labels), value);
        }
    }
}

/// A time as decimal seconds without trailing zeros.
fn decimal(time: Timestamp) -> String {
    let nanoseconds = i128::from(time.nanoseconds());
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let digits = format!("{:010}", nanoseconds.abs());
    let (whole, fraction) = digits.split_at(digits.len() - 9);
    format!("{sign}{whole}.{fraction}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A value of more than 1,024 bytes: the most characters that leave room for the ellipsis.
fn cut(value: &str) -> String {
    if value.len() <= 1024 {
        return value.to_owned();
    }
    let mut kept = String::new();
    for character in value.chars() {
        if kept.len() + character.len_utf8() + '…'.len_utf8() > 1024 {
            break;
        }
        kept.push(character);
    }
    kept + "…"
}
