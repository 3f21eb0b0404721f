//! The page as it must be, made from the simulated cloud's state with nothing of the exporter.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context as _, Result, bail};
use container_registry_exporter::simulator::{Repository, World};

/// Checks that the inventory on `page` is exactly that of `world`, read as the source `swr-0` with all its tags, and
/// returns the number of its series.
pub fn check(page: &str, world: &World, api_host: &str) -> Result<usize> {
    let mut expected = expected(world, api_host);
    let count = expected.len();
    for line in page.lines().filter(|line| is_inventory(line)) {
        if !expected.remove(line) {
            bail!("the page has a series that it should not have, or has it twice: {line}");
        }
    }
    match expected.iter().next() {
        Some(missing) => bail!("the page lacks {} series, such as {missing}", expected.len()),
        None => Ok(count),
    }
}

/// Whether a line is a sample of the inventory, not of the exporter itself.
pub fn is_inventory(line: &str) -> bool {
    line.starts_with("container_registry_") && !line.starts_with("container_registry_exporter_")
}

fn expected(world: &World, api_host: &str) -> HashSet<String> {
    let mut lines = Lines(HashSet::new());
    let source = "source=\"swr-0\"";
    let region = &world.swr.region;
    lines.add("up", source, 1);
    let info = format!("{source},provider=\"swr\",cloud_region=\"{region}\",api_host=\"{api_host}\"");
    lines.add("source_info", &info, 1);
    lines.add("source_repositories", source, world.swr.repositories.len());
    let mut organizations: BTreeMap<&str, Vec<&Repository>> = BTreeMap::new();
    for repository in world.swr.repositories.values() {
        organizations.entry(&repository.organization).or_default().push(repository);
    }
    for (organization, repositories) in organizations {
        let labels = format!("{source},organization=\"{organization}\"");
        let images: usize = repositories.iter().map(|r| r.tags.len()).sum();
        let size: i64 = repositories.iter().map(|r| r.size_bytes()).sum();
        let downloads: i64 = repositories.iter().map(|r| r.downloads).sum();
        lines.add("organization_repositories", &labels, repositories.len());
        lines.add("organization_images", &labels, images);
        lines.add("organization_size_bytes", &labels, size);
        lines.add("organization_downloads", &labels, downloads);
        for repository in repositories {
            lines.add_repository(repository, &labels, region);
        }
    }
    lines.0
}

struct Lines(HashSet<String>);

impl Lines {
    fn add(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        self.0.insert(format!("container_registry_{name}{{{labels}}} {value}"));
    }

    fn add_repository(&mut self, repository: &Repository, labels: &str, region: &str) {
        let Repository { organization, name, category, .. } = repository;
        let labels = format!("{labels},repository=\"{name}\"");
        let image = format!("swr.{region}.myhuaweicloud.com/{organization}/{name}");
        self.add("repository_size_bytes", &labels, repository.size_bytes());
        self.add("repository_images", &labels, repository.tags.len());
        self.add("repository_downloads", &labels, repository.downloads);
        self.add("repository_created_timestamp_seconds", &labels, seconds(&repository.created));
        self.add("repository_updated_timestamp_seconds", &labels, seconds(&repository.updated));
        self.add("repository_public", &labels, u8::from(repository.public));
        // All times of this world have the same form, so that the latest is the greatest text.
        if let Some(last) = repository.tags.iter().map(|tag| &tag.updated).max() {
            self.add("repository_last_push_timestamp_seconds", &labels, seconds(last));
        }
        self.add("repository_info", &format!("{labels},category=\"{category}\",image=\"{image}\""), 1);
        for tag in &repository.tags {
            let labels = format!("{labels},tag=\"{}\"", tag.name);
            self.add("tag_size_bytes", &labels, tag.size_bytes);
            self.add("tag_created_timestamp_seconds", &labels, seconds(&tag.created));
            self.add("tag_updated_timestamp_seconds", &labels, seconds(&tag.updated));
        }
    }
}

/// `2021-06-10T03:24:44.784402Z` as `1623295484.784402`.
fn seconds(time: &str) -> String {
    let (_, fraction) = time.trim_end_matches('Z').split_once('.').unwrap_or((time, ""));
    let whole = time.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second);
    format!("{whole}.{fraction}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The sum of the samples of a family whose labels contain `labels`.
pub fn sum(page: &str, family: &str, labels: &str) -> Result<f64> {
    let mut sum = 0.0;
    let samples = page.lines().filter(|l| l.split('{').next() == Some(family) && l.contains(labels));
    for line in samples {
        let (_, value) = line.rsplit_once(' ').context("a sample without a value")?;
        sum += value.parse::<f64>()?;
    }
    Ok(sum)
}
