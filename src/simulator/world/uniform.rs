use super::super::made_up::{digest, mix, rfc3339};
use super::{Manifest, Overrides, Repository, Tag, World};
use jiff::Timestamp;

/// 2024-01-01T00:00:00Z: the repositories of the uniform world were changed one second after the other from here on.
const EPOCH_SECONDS: i64 = 1_704_067_200;

impl World {
    /// An SWR of equal repositories for measurements: a hundred per organization, named `org-000/repository-00000`,
    /// each with tags `v0`, `v1` and so on, whose manifests take 2 to 8 KB and are shared. Compression and log are off.
    pub fn uniform(repositories: u32, tags_per_repository: u32) -> Self {
        let manifests: Vec<Manifest> =
            (0..16).map(|n| Manifest::of_bytes(2048 + n * 400, n as u64)).collect();
        let mut world = Self::empty();
        world.gzip = false;
        world.log_limit = 0;
        for number in 0..repositories {
            let mut repository =
                Repository::new(&format!("org-{:03}", number / 100), &format!("repository-{number:05}"));
            repository.id = i64::from(number);
            repository.downloads = (mix(u64::from(number)) % 100_000).cast_signed();
            repository.updated = time(number);
            repository.tags =
                (0..tags_per_repository).map(|tag| uniform_tag(number, tag, &manifests)).collect();
            world.swr.add(repository);
        }
        world
    }

    /// Pushes a new tag to this many hundredths of the SWR repositories and drops their oldest ones, so counts stay
    /// while `updated_at`, tag names and sizes change. Count `round` up: the next ones in the order of the list are
    /// hit, so that ten rounds of ten percent change each repository once.
    pub fn push_to_percent(&mut self, percent: u32, round: u32) {
        let count = self.swr.repositories.len();
        let hit = count * percent as usize / 100;
        let first = (hit * round as usize).checked_rem(count).unwrap_or_default();
        for (number, repository) in self.swr.repositories.values_mut().enumerate() {
            if (number + count - first) % count >= hit || repository.tags.is_empty() {
                continue;
            }
            let mut tag = repository.tags.remove(0);
            let next = repository.tags.iter().chain([&tag]).map(|tag| tag.id).max().unwrap_or_default() + 1;
            let seed = mix(next.unsigned_abs() ^ repository.id.unsigned_abs() << 32);
            tag.id = next;
            tag.name = format!("v{next}");
            tag.digest = digest(seed);
            tag.size_bytes = size(seed);
            tag.updated = time(1_000_000 + round); // later than all that was there at the start
            tag.created.clone_from(&tag.updated);
            repository.updated.clone_from(&tag.updated);
            repository.tags.push(tag);
        }
    }
}

fn uniform_tag(repository: u32, tag: u32, manifests: &[Manifest]) -> Tag {
    let seed = mix(u64::from(repository) << 32 | u64::from(tag));
    let manifest = (repository as usize * 7 + tag as usize) % manifests.len();
    Tag {
        id: i64::from(tag),
        name: format!("v{tag}"),
        digest: digest(seed),
        size_bytes: size(seed),
        created: time(repository),
        updated: time(repository),
        tag_type: 0,
        manifest: manifests[manifest].clone(),
        overrides: Overrides::new(),
    }
}

/// 1 MB to 1 GB.
fn size(seed: u64) -> i64 {
    (1_000_000 + seed % 999_000_000).cast_signed()
}

fn time(second: u32) -> String {
    rfc3339(Timestamp::from_second(EPOCH_SECONDS + i64::from(second)).expect("a second of this century"))
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
