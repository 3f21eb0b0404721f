//! The series that a page must show, written from the description of the metrics and not from the program.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use container_registry_exporter::inventory::{Repository, SharedRepository, Tag, Timestamp};

/// What must be seen of one source.
pub struct Seen<'a> {
    pub source: &'a str,
    /// `provider`, `cloud_region` and `api_host`.
    pub info: [&'a str; 3],
    pub up: Option<bool>,
    /// The rows of the list and how many there were before filters.
    pub repositories: Option<(u64, Vec<SeenRepository<'a>>)>,
    /// Organizations that exist without rows too.
    pub organizations: &'a [String],
    /// Whether the list gives sizes and numbers of images.
    pub measured: bool,
    pub shared: Option<&'a [SharedRepository]>,
}

/// A repository and what must be seen of its tags.
pub struct SeenRepository<'a> {
    pub row: &'a Repository,
    pub tags: Option<SeenTags<'a>>,
}

/// A repository's tags.
pub struct SeenTags<'a> {
    pub images: Option<u64>,
    pub last_push: Option<Timestamp>,
    pub shown: Vec<&'a Tag>,
}

/// Every series' line, sorted.
pub fn lines(seen: &Seen<'_>) -> Vec<String> {
    let mut lines = Lines { all: Vec::new(), labels: labels("", "source", seen.source) };
    lines.value("up", seen.up.map(u8::from));
    let info = seen.info;
    lines.info("source_info", &[("provider", info[0]), ("cloud_region", info[1]), ("api_host", info[2])]);
    let of_source = lines.labels.clone();
    if let Some((listed, rows)) = &seen.repositories {
        lines.value("source_repositories", Some(*listed));
        organizations(&mut lines, seen, rows);
        for seen in rows {
            let row = seen.row;
            lines.labels = labels(&of_source, "organization", &row.organization);
            lines.labels = labels(&lines.labels, "repository", &row.name);
            repository(&mut lines, seen);
        }
    }
    for row in seen.shared.unwrap_or_default() {
        lines.labels = labels(&of_source, "center", row.center.as_str());
        lines.labels = labels(&lines.labels, "organization", &row.organization);
        lines.labels = labels(&lines.labels, "repository", &row.name);
        lines.value("shared_repository_size_bytes", row.size_bytes);
        lines.value("shared_repository_images", row.images);
        lines.value("shared_repository_downloads", row.downloads);
        lines.time("shared_repository_updated_timestamp_seconds", row.updated);
        lines.value("shared_repository_valid", row.valid.map(u8::from));
        let more = [("owner_account", row.owner_account.as_deref()), ("category", row.category.as_deref())];
        lines.info("shared_repository_info", &given(&more));
    }
    lines.all.sort_unstable();
    lines.all
}

fn organizations(lines: &mut Lines, seen: &Seen<'_>, rows: &[SeenRepository<'_>]) {
    let of_source = lines.labels.clone();
    let mut members: BTreeMap<&str, Vec<&Repository>> = BTreeMap::new();
    for name in seen.organizations {
        members.entry(name).or_default();
    }
    for row in rows {
        members.entry(&row.row.organization).or_default().push(row.row);
    }
    for (name, rows) in members {
        let sum = |value: fn(&Repository) -> Option<u64>| {
            rows.iter().try_fold(0_u128, |sum, row| Some(sum + u128::from(value(row)?)))
        };
        lines.labels = labels(&of_source, "organization", name);
        lines.value("organization_repositories", Some(rows.len()));
        if seen.measured {
            lines.value("organization_images", sum(|row| row.images));
            lines.value("organization_size_bytes", sum(|row| row.size_bytes));
        }
        lines.value("organization_downloads", sum(|row| row.downloads));
    }
}

fn repository(lines: &mut Lines, seen: &SeenRepository<'_>) {
    let row = seen.row;
    lines.value("repository_size_bytes", row.size_bytes);
    lines.value("repository_images", row.images.or(seen.tags.as_ref().and_then(|tags| tags.images)));
    lines.value("repository_downloads", row.downloads);
    lines.time("repository_created_timestamp_seconds", row.created);
    lines.time("repository_updated_timestamp_seconds", row.updated);
    lines.value("repository_public", row.public.map(u8::from));
    let more = [("category", row.category.as_deref()), ("image", row.image.as_deref())];
    lines.info("repository_info", &given(&more));
    let Some(tags) = &seen.tags else { return };
    lines.time("repository_last_push_timestamp_seconds", tags.last_push);
    let of_repository = lines.labels.clone();
    for tag in &tags.shown {
        lines.labels = labels(&of_repository, "tag", &tag.name);
        lines.value("tag_size_bytes", tag.size_bytes);
        lines.time("tag_created_timestamp_seconds", tag.created);
        lines.time("tag_updated_timestamp_seconds", tag.updated);
        lines.time("tag_last_pulled_timestamp_seconds", tag.last_pulled);
        if let Some(info) = &tag.info {
            lines.info("tag_info", &given(&[("digest", info.digest.as_deref()), ("kind", info.kind)]));
        }
    }
}

struct Lines {
    all: Vec<String>,
    /// Of what is being written.
    labels: String,
}

impl Lines {
    fn value(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.all.push(format!("container_registry_{name}{{{}}} {}", self.labels, value));
        }
    }

    fn time(&mut self, name: &str, time: Option<Timestamp>) {
        if let Some(time) = time {
            let (seconds, rest) = (time.nanoseconds() / 1_000_000_000, time.nanoseconds() % 1_000_000_000);
            let decimal = format!("{seconds}.{rest:09}");
            let decimal = decimal.trim_end_matches('0').trim_end_matches('.');
            self.all.push(format!("container_registry_{name}{{{}}} {decimal}", self.labels));
        }
    }

    fn info(&mut self, name: &str, more: &[(&str, &str)]) {
        let all = more.iter().fold(self.labels.clone(), |all, (name, value)| labels(&all, name, value));
        self.all.push(format!("container_registry_{name}{{{all}}} 1"));
    }
}

fn given<'a>(labels: &[(&'a str, Option<&'a str>)]) -> Vec<(&'a str, &'a str)> {
    labels.iter().filter_map(|(name, value)| Some((*name, (*value)?))).collect()
}

fn labels(before: &str, name: &str, value: &str) -> String {
    let mut all = before.to_owned();
    if !all.is_empty() {
        all.push(',');
    }
    let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', "\\n");
    write!(all, "{name}=\"{value}\"").expect("writing to a String cannot fail");
    all
}
