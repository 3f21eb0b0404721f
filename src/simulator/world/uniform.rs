use super::super::made_up::{digest, mix, rfc3339};
use super::{Manifest, Overrides, Repository, Tag, World};
use jiff::Timestamp;

/// 2024-01-01T00:00:00Z: the repositories of the uniform world were changed one second after the other from here on.
const EPOCH_SECONDS: i64 = 1_704_067_200;

impl World {
    /// An SWR of equal repositories for measurements: a hundred per organization, named `org-000/repository-00000`,
    /// each with tags `v0`, `v1` and so on, whose manifests take 2 to 8 KB and are shared. Compression and log are off.
    pub fn uniform(repositories: usize, tags_per_repository: usize) -> Self {
        let manifests: Vec<Manifest> =
            (0..16).map(|n| Manifest::of_bytes(2048 + n * 400, n as u64)).collect();
        let mut world = Self::empty();
        world.gzip = false;
        world.log_limit = 0;
        for number in 0..repositories {
            let mut repository =
                Repository::new(&format!("org-{:03}", number / 100), &format!("repository-{number:05}"));
            repository.id = number as i64;
            repository.downloads = (mix(number as u64) % 100_000) as i64;
            repository.updated = time(number);
            repository.tags =
                (0..tags_per_repository).map(|tag| uniform_tag(number, tag, &manifests)).collect();
            world.swr.add(repository);
        }
        world
    }

    /// Pushes a new tag to each of the given hundredths of the SWR repositories and drops its oldest one, so counts
    /// stay while `updated_at`, tag names and sizes change. Which repositories it hits moves on with `round`.
    pub fn push_to_percent(&mut self, percent: usize, round: usize) {
        let count = self.swr.repositories.len();
        for (number, repository) in self.swr.repositories.values_mut().enumerate() {
            let place = (number + count - (round * count * percent / 100) % count.max(1)) % count.max(1);
            if place * 100 >= count * percent || repository.tags.is_empty() {
                continue;
            }
            let mut tag = repository.tags.remove(0);
            let next = repository.tags.iter().chain([&tag]).map(|t| t.id).max().unwrap_or_default() + 1;
            let seed = mix(next as u64 ^ (number as u64) << 32);
            tag.id = next;
            tag.name = format!("v{next}");
            tag.digest = digest(seed);
            tag.size_bytes = size(seed);
            tag.updated = time(count + round);
            tag.created.clone_from(&tag.updated);
            repository.updated.clone_from(&tag.updated);
            repository.tags.push(tag);
        }
    }
}

fn uniform_tag(repository: usize, tag: usize, manifests: &[Manifest]) -> Tag {
    let seed = mix((repository as u64) << 32 | tag as u64);
    Tag {
        id: tag as i64,
        name: format!("v{tag}"),
        digest: digest(seed),
        size_bytes: size(seed),
        created: time(repository),
        updated: time(repository),
        tag_type: 0,
        manifest: manifests[(repository * 7 + tag) % manifests.len()].clone(),
        overrides: Overrides::new(),
    }
}

/// 1 MB to 1 GB.
fn size(seed: u64) -> i64 {
    (1_000_000 + seed % 999_000_000) as i64
}

fn time(second: usize) -> String {
    rfc3339(Timestamp::from_second(EPOCH_SECONDS + second as i64).expect("a second of this century"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_rounds_of_ten_percent_change_every_repository_once() {
        let before = World::uniform(50, 3);
        let mut world = before.clone();
        for round in 0..10 {
            world.push_to_percent(10, round);
        }
        for (key, repository) in &world.swr.repositories {
            let names: Vec<&str> = repository.tags.iter().map(|tag| tag.name.as_str()).collect();
            assert_eq!(names, ["v1", "v2", "v3"], "{key}");
            assert_ne!(repository.updated, before.swr.repositories[key].updated);
        }
    }
}
