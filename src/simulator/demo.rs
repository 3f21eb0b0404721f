//! A small company's registries, in motion: what the `demo` command shows.
//!
//! Everything is a function of the time since the start, without chance and without memory: pushes, downloads, a
//! repository that comes and goes, one that becomes public and private again. Numbers grow, content does not.

use super::made_up::{digest, hash, mix, rfc3339};
use super::world::{Image, ImageTag, Manifest, Overrides, Registry, Repository, Tag, World};
use jiff::{SignedDuration, Timestamp};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

/// Deleted a minute after the start, made anew six minutes later, and so on.
const COMES_AND_GOES: &str = "data/nightly-report";
/// Private at the start, public from 45 s on, private again after ten minutes, and so on.
const BECOMES_PUBLIC: &str = "web/brand-assets";
/// Pushed to every two minutes, first after 30 s.
const BUSY: &str = "web/storefront";
/// After this time the cycles begin anew.
const CYCLE_SECONDS: i64 = 600;

/// Organization, then its repositories, each with its category unless that is `other`.
const SWR: [(&str, &str); 6] = [
    (
        "base",
        "alpine:linux busybox:linux debian:linux ubuntu:linux openeuler:linux openeuler-arm64:arm \
         alpine-arm64:arm distroless:linux windows-nanoserver:windows golang:lang rust:lang python:lang \
         node:lang openjdk:lang nginx:app_server tomcat:app_server",
    ),
    (
        "data",
        "airflow:framework_app clickhouse:database debezium:framework_app etl flink-jobs:framework_app \
         kafka mysql-backup:database nightly-report postgres:database postgres-exporter:database \
         redis:database schema-registry spark:framework_app warehouse-api",
    ),
    (
        "edge",
        "camera-gateway:arm firmware-builder ingest mqtt-bridge:arm node-agent:arm ota-server:app_server \
         telemetry video-transcoder",
    ),
    (
        "payments",
        "fraud-model:framework_app gateway:app_server invoices ledger ledger-migrations:database notifier \
         payouts reconciler refunds risk-rules terminal-api:app_server vault-sidecar",
    ),
    (
        "platform",
        "alertmanager argocd build-cache cert-issuer ci-runner ci-runner-windows:windows dns fluent-bit \
         grafana ingress:app_server kube-state-metrics node-exporter prometheus registry-mirror \
         sso:app_server team/app tempo velero",
    ),
    (
        "web",
        "account:framework_app admin:framework_app brand-assets cart:framework_app catalog:framework_app \
         checkout:framework_app cms:app_server feature-flags image-resizer landing:app_server \
         recommendations:framework_app search:framework_app search-indexer sitemap \
         storefront:framework_app wishlist:framework_app",
    ),
];

const SHARED_BY_US: [&str; 4] = ["base/alpine", "base/openjdk", "payments/terminal-api", "platform/team/app"];

/// Owner's account, organization, name, whether the share is still valid.
const SHARED_WITH_US: [(&str, &str, &str, bool); 4] = [
    ("made-up-partner", "partner-ml", "embedding-server", true),
    ("made-up-partner", "partner-ml", "tokenizer", true),
    ("made-up-agency", "agency", "campaign-site", false),
    ("made-up-vendor", "vendor-tools", "license-server", true),
];

/// Registry, then its images.
const NCR: [(&str, &str); 2] = [
    (
        "acme-live",
        "billing chat chat/worker coupons delivery events feed login map-tiles orders push-sender reviews \
         seller-center support web",
    ),
    ("acme-test", "billing chat delivery e2e/browser e2e/load fixtures login mock-bank orders web"),
];

/// The demo's clouds as of `now`, which is when they start to move.
pub fn world(now: SystemTime) -> World {
    let mut world = World::empty();
    world.started = now;
    advance(&mut world, Duration::ZERO);
    world
}

/// Moves the content to a time after the start; the same time gives the same content. Meant to be called every second
/// or so. Replaces all repositories, registries and shares, and nothing else.
pub fn advance(world: &mut World, since_start: Duration) {
    let scene = Scene {
        start: Timestamp::try_from(world.started).unwrap_or(Timestamp::UNIX_EPOCH),
        seconds: i64::try_from(since_start.as_secs()).unwrap_or(i64::MAX / 1000),
    };
    world.swr.repositories.clear();
    world.swr.shared_with_me.clear();
    world.ncr.registries.clear();
    let gone = (60..420).contains(&(scene.seconds % CYCLE_SECONDS));
    for (organization, repositories) in SWR {
        for repository in repositories.split_whitespace() {
            let (name, category) = repository.split_once(':').unwrap_or((repository, "other"));
            if !(gone && format!("{organization}/{name}") == COMES_AND_GOES) {
                world.swr.add(scene.repository(organization, name, category));
            }
        }
    }
    for (account, organization, name, valid) in SHARED_WITH_US {
        let mut repository = scene.repository(organization, name, "other");
        account.clone_into(&mut repository.account);
        repository.share_is_valid = valid;
        world.swr.add_shared_with_me(repository);
    }
    for (registry, images) in NCR {
        let images = images.split_whitespace().map(|name| scene.image(registry, name));
        world.ncr.add(images.fold(Registry::new(registry), Registry::with_image));
    }
}

/// One moment of the demo.
struct Scene {
    start: Timestamp,
    /// Since the start.
    seconds: i64,
}

/// One push to a repository.
struct Push {
    /// Counts from 1.
    number: i64,
    /// Seconds since the start; negative before it.
    at: i64,
}

impl Scene {
    fn repository(&self, organization: &str, name: &str, category: &str) -> Repository {
        let key = format!("{organization}/{name}");
        let seed = hash(&key);
        let mut repository = Repository::new(organization, name);
        category.clone_into(&mut repository.category);
        repository.description = format!("made-up {name} of {organization}");
        repository.public = match key.as_str() {
            BECOMES_PUBLIC => self.seconds % CYCLE_SECONDS >= 45,
            _ => organization == "base" && seed.is_multiple_of(3),
        };
        repository.shared_by_me = SHARED_BY_US.contains(&key.as_str());
        repository.downloads = self.downloads(seed);
        repository.created = self.time(-between(seed, 100, 900) * 86_400);
        let pushes = self.pushes(&key);
        let mut tags: Vec<Tag> = pushes.iter().map(|push| self.tag(seed, push)).collect();
        if let Some(newest) = tags.last() {
            repository.updated.clone_from(&newest.updated);
            tags.push(Tag { id: 0, name: "latest".to_owned(), ..newest.clone() });
        }
        repository.tags = tags;
        repository
    }

    fn tag(&self, seed: u64, push: &Push) -> Tag {
        static MANIFESTS: LazyLock<Vec<Manifest>> =
            LazyLock::new(|| (0..8).map(|n| Manifest::of_bytes(1000 + 500 * n, 0xde30 + n as u64)).collect());
        let Build { version, digest, size_bytes } = build(seed, push);
        let last_digit = usize::from(digest.as_bytes()[digest.len() - 1]);
        Tag {
            id: push.number,
            name: version,
            digest,
            size_bytes,
            created: self.time(push.at - between(seed, 20, 400)),
            updated: self.time(push.at),
            tag_type: i64::from(seed.is_multiple_of(5)),
            manifest: MANIFESTS[last_digit % MANIFESTS.len()].clone(),
            overrides: Overrides::new(),
        }
    }

    fn image(&self, registry: &str, name: &str) -> Image {
        let key = format!("{registry}/{name}");
        let seed = hash(&key);
        let mut image = Image::new(name);
        image.pull_count = self.downloads(seed);
        for push in self.pushes(&key) {
            let Build { version, digest, size_bytes } = build(seed, &push);
            let mut tag = ImageTag::new(&version, size_bytes);
            tag.id = push.number;
            tag.digest = digest;
            tag.last_updated_milliseconds = self.instant(push.at).as_millisecond();
            // Somebody pulls it every ten minutes or so; what is newer than that was never pulled.
            let every = between(mix(seed), 300, 900);
            let pulled = self.seconds - (self.seconds + between(seed, 0, every)).rem_euclid(every);
            let was_pulled = !seed.is_multiple_of(7) && pulled > push.at;
            for platform in &mut tag.platforms {
                platform.latest_pulled_milliseconds =
                    was_pulled.then(|| self.instant(pulled).as_millisecond());
            }
            image.last_updated_milliseconds = tag.last_updated_milliseconds;
            image.tags.push(tag);
        }
        image
    }

    /// The latest pushes up to now, oldest first: 3 to 12, as if older tags were cleaned up.
    fn pushes(&self, key: &str) -> Vec<Push> {
        let seed = hash(key);
        let (period, phase) = match seed % 12 {
            _ if key == BUSY => (120, 90),
            0 => (between(mix(seed), 100, 900), between(seed, 0, 100)),
            _ => {
                let period = between(mix(seed), 4 * 3600, 72 * 3600);
                (period, between(seed, 0, period))
            }
        };
        let before_start = between(mix(seed ^ 1), 12, 60);
        let newest = before_start + (self.seconds + phase) / period;
        let kept = between(mix(seed ^ 2), 3, 13);
        let push = |number| Push { number, at: (number - before_start) * period - phase };
        (newest - kept + 1..=newest).map(push).collect()
    }

    /// A quiet repository is downloaded every minute or so, a busy one twice a second.
    fn downloads(&self, seed: u64) -> i64 {
        between(mix(seed ^ 3), 0, 250_000) + self.seconds * between(mix(seed ^ 4), 1, 120) / 60
    }

    fn instant(&self, seconds: i64) -> Timestamp {
        self.start.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
    }

    fn time(&self, seconds: i64) -> String {
        rfc3339(self.instant(seconds))
    }
}

struct Build {
    version: String,
    digest: String,
    size_bytes: i64,
}

/// What a push to the repository with this seed brings: each version a little larger or smaller than the last.
fn build(seed: u64, push: &Push) -> Build {
    let number = push.number;
    let of_push = mix(seed ^ push.number.unsigned_abs());
    let usual = between(mix(seed ^ 5), 4_000_000, 700_000_000);
    Build {
        version: format!("{}.{}.{}", 1 + number / 100, number / 10 % 10, number % 10),
        digest: digest(of_push),
        size_bytes: usual + between(of_push, 0, usual / 20),
    }
}

/// A number from `low` up to, but not including, `high`.
fn between(seed: u64, low: i64, high: i64) -> i64 {
    low + (seed % (high - low).unsigned_abs()).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Some second of 2027.
    const START_SECOND: u64 = 1_800_000_001;

    fn at(seconds: u64) -> World {
        let mut world = world(SystemTime::UNIX_EPOCH + Duration::from_secs(START_SECOND));
        advance(&mut world, Duration::from_secs(seconds));
        world
    }

    #[test]
    fn has_about_120_repositories_of_every_kind() {
        let world = at(0);
        let images: usize = world.ncr.registries.values().map(|registry| registry.images.len()).sum();
        let all = world.swr.repositories.len() + world.swr.shared_with_me.len() + images;
        assert!((110..=130).contains(&all), "{all}");
        let categories: BTreeSet<&str> =
            world.swr.repositories.values().map(|r| r.category.as_str()).collect();
        assert_eq!(categories.len(), 8, "{categories:?}");
        assert!(world.swr.repositories.contains_key("platform/team/app"));
        assert_eq!(world.swr.shared_with_me.values().filter(|r| !r.share_is_valid).count(), 1);
        assert!(SHARED_BY_US.iter().all(|key| world.swr.repositories[*key].shared_by_me));
    }

    #[test]
    fn within_two_minutes_there_is_a_push_a_deletion_and_a_publication() {
        let (start, later) = (at(0), at(119));
        let newest = |world: &World| world.swr.repositories[BUSY].updated.clone();
        assert!(newest(&start) < newest(&later));
        assert!(start.swr.repositories.contains_key(COMES_AND_GOES));
        assert!(!later.swr.repositories.contains_key(COMES_AND_GOES));
        assert!(!start.swr.repositories[BECOMES_PUBLIC].public);
        assert!(later.swr.repositories[BECOMES_PUBLIC].public);
    }

    #[test]
    fn downloads_grow_and_content_does_not() {
        let tags = |world: &World| world.swr.repositories.values().map(|r| r.tags.len()).sum::<usize>();
        let (start, hour, years) = (at(0), at(3600), at(100_000_000));
        for (key, repository) in &start.swr.repositories {
            assert!(repository.downloads < hour.swr.repositories[key].downloads, "{key}");
        }
        assert_eq!(tags(&start), tags(&years) + start.swr.repositories[COMES_AND_GOES].tags.len());
    }

    #[test]
    fn nothing_was_pushed_in_the_future_or_before_its_repository() {
        let world = at(500);
        let now = rfc3339(Timestamp::from_second(START_SECOND.cast_signed() + 500).unwrap());
        for (key, repository) in &world.swr.repositories {
            assert!(repository.updated <= now, "{key}");
            assert!(
                repository.tags.iter().all(|tag| tag.updated <= now && tag.created > repository.created),
                "{key}"
            );
        }
    }
}
