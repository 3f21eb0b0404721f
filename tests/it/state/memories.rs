//! Memories to keep: a large one, and arbitrary ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use container_registry_exporter::inventory::{
    Center, Repository, SharedRepository, Tag, TagInfo, TagSet, Timestamp,
};
use container_registry_exporter::scheduler::Memory;
use container_registry_exporter::scheduler::memory::{
    KnownListing, KnownRepositories, KnownRepository, KnownTags,
};
use container_registry_exporter::telemetry::Collector;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn time(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanoseconds(nanoseconds.into()).unwrap()
}

/// What a source of so many repositories with so many tags knows, in the forms that clouds give it.
pub fn sample(repositories: u32, tags: u32) -> Memory {
    let moment = |n: u32| time(1_700_000_000_123_456_789 + i64::from(n) * 1_000_003);
    let tag = |n: u32| Tag {
        name: format!("v1.{n}").into(),
        size_bytes: Some(u64::from(n.wrapping_mul(2_654_435_761))),
        created: Some(moment(n)),
        updated: Some(moment(n + 7)),
        last_pulled: None,
        info: None,
    };
    let row = |n: u32| {
        let organization = format!("organization-{:03}", n / 100);
        let name = format!("team/application-{n:06}");
        let repository = Repository {
            image: Some(format!("swr.cn-north-4.myhuaweicloud.com/{organization}/{name}").into()),
            organization: organization.into(),
            name: name.into(),
            size_bytes: Some(u64::from(n) * 1_000_003),
            images: Some(tags.into()),
            downloads: Some(n.into()),
            created: Some(moment(n)),
            updated: Some(moment(n + 1)),
            public: Some(n.is_multiple_of(2)),
            category: Some("other".into()),
            tag_names_hash: Some(u64::from(n) << 32),
        };
        let newest = (0..tags).map(|t| tag(n * tags + t)).collect();
        let set = TagSet { images: None, last_push: Some(moment(n)), newest };
        let (fingerprint, downloads) = (Some(u64::from(n) << 17), Some(n.into()));
        let (tags, read, unsettled) = (Arc::new(set), moment(n), false);
        let known = KnownTags { tags, mismatch: 0, read, fingerprint, downloads, unsettled };
        let repository = Arc::new(repository);
        KnownRepository { repository, due: None, failures: 0, retry: 0, tags: Some(known) }
    };
    Memory {
        taken: moment(0),
        repositories: Some(KnownRepositories {
            read: moment(0),
            polls: 288,
            listings: vec![KnownListing {
                name: "".into(),
                read: moment(0),
                listed: repositories.into(),
                rows: (0..repositories).map(row).collect(),
            }],
        }),
        shared: None,
        last_success: vec![(Collector::Repositories, moment(0)), (Collector::Tags, moment(1))],
    }
}

/// Any memory: few names, so that they meet, and all that texts, numbers and times may be.
pub fn any_memory() -> impl Strategy<Value = Memory> {
    let collector = proptest::sample::select(vec![
        Collector::Repositories,
        Collector::SharedRepositories,
        Collector::Tags,
    ]);
    let shared = (some_time(), vec(shared(), 0..5)).prop_map(|(read, rows)| {
        let key = |row: &SharedRepository| (row.center, row.organization.clone(), row.name.clone());
        let rows: BTreeMap<_, _> = rows.into_iter().map(|row| (key(&row), row)).collect();
        (read, rows.into_values().collect())
    });
    let success = vec((collector, some_time()), 0..4);
    (some_time(), option::of(repositories()), option::of(shared), success).prop_map(
        |(taken, repositories, shared, last_success)| Memory { taken, repositories, shared, last_success },
    )
}

fn repositories() -> impl Strategy<Value = KnownRepositories> {
    (some_time(), any::<u64>(), vec(listing(), 0..4)).prop_map(|(read, polls, listings)| {
        let listings: BTreeMap<_, _> = listings.into_iter().map(|list| (list.name.clone(), list)).collect();
        KnownRepositories { read, polls, listings: listings.into_values().collect() }
    })
}

fn listing() -> impl Strategy<Value = KnownListing> {
    let tries = (option::of(some_time()), any::<u32>(), any::<u64>());
    let row = (repository(), tries, option::of(tags()));
    (text(), some_time(), any::<u64>(), vec(row, 0..10)).prop_map(|(name, read, listed, rows)| {
        let key = |r: &Repository| (r.organization.clone(), r.name.clone());
        let rows: BTreeMap<_, _> = rows
            .into_iter()
            .map(|(repository, (due, failures, retry), tags)| {
                let key = key(&repository);
                (key, KnownRepository { repository: Arc::new(repository), due, failures, retry, tags })
            })
            .collect();
        KnownListing { name, read, listed, rows: rows.into_values().collect() }
    })
}

fn repository() -> impl Strategy<Value = Repository> {
    let figures = (number(), number(), number(), option::of(some_time()), option::of(some_time()));
    let texts = (text(), text(), option::of(text()), option::of(text()));
    (figures, texts, option::of(any::<bool>()), number()).prop_map(
        |((size_bytes, images, downloads, created, updated), texts, public, tag_names_hash)| {
            let (organization, name, category, image) = texts;
            Repository {
                organization,
                name,
                size_bytes,
                images,
                downloads,
                created,
                updated,
                public,
                category,
                image,
                tag_names_hash,
            }
        },
    )
}

fn tags() -> impl Strategy<Value = KnownTags> {
    let times = [(); 3].map(|()| option::of(some_time()));
    let kind = option::of(proptest::sample::select(vec!["manifest", "index"]));
    let info = option::of((option::of(text()), kind));
    let tag = (text(), number(), times, info).prop_map(|(name, size_bytes, times, info)| {
        let [created, updated, last_pulled] = times;
        let info = info.map(|(digest, kind)| Box::new(TagInfo { digest, kind }));
        Tag { name, size_bytes, created, updated, last_pulled, info }
    });
    let set = (number(), option::of(some_time()), vec(tag, 0..6)).prop_map(|(images, last_push, tags)| {
        let tags: BTreeMap<_, _> = tags.into_iter().map(|tag| (tag.name.clone(), tag)).collect();
        TagSet { images, last_push, newest: tags.into_values().collect() }
    });
    let rest = (any::<i64>(), number(), number(), any::<bool>());
    (set, some_time(), rest).prop_map(|(set, read, (mismatch, fingerprint, downloads, unsettled))| {
        KnownTags { tags: Arc::new(set), mismatch, read, fingerprint, downloads, unsettled }
    })
}

fn shared() -> impl Strategy<Value = SharedRepository> {
    let center = prop_oneof![Just(Center::Own), Just(Center::ThirdParty)];
    let figures = (number(), number(), number(), option::of(some_time()), option::of(any::<bool>()));
    let texts = (text(), text(), option::of(text()), option::of(text()));
    (center, figures, texts).prop_map(|(center, (size_bytes, images, downloads, updated, valid), texts)| {
        let (organization, name, owner_account, category) = texts;
        SharedRepository {
            center,
            organization,
            name,
            size_bytes,
            images,
            downloads,
            updated,
            valid,
            owner_account,
            category,
        }
    })
}

fn text() -> impl Strategy<Value = Box<str>> {
    prop_oneof![
        4 => "[a-b]{0,2}",
        2 => vec(any::<char>(), 0..5).prop_map(String::from_iter),
        1 => (4090..4100_usize, "[é…]{0,2}").prop_map(|(length, end)| "x".repeat(length) + &end),
    ]
    .prop_map(String::into_boxed_str)
}

fn number() -> impl Strategy<Value = Option<u64>> {
    option::of(prop_oneof![0..300_u64, any::<u64>(), (0..64_u32).prop_map(|bit| 1 << bit)])
}

fn some_time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_filter_map("the epoch is no time", |n| Timestamp::from_nanoseconds(n.into()))
}
