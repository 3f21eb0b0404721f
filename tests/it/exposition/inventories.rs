//! Inventories to render: one to look at, and arbitrary ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use container_registry_exporter::inventory::{
    Center, Entry, Inventory, Repositories, Repository, SharedRepository, SourceInfo, SourceName, Tag,
    TagInfo, TagSet, Timestamp,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// What a source called `name` is.
pub fn info(name: &str) -> Arc<SourceInfo> {
    Arc::new(SourceInfo {
        name: SourceName::new(name).unwrap(),
        provider: "swr",
        cloud_region: "cn-north-4".to_owned(),
        api_host: "swr-api.cn-north-4.myhuaweicloud.com".to_owned(),
    })
}

/// An inventory with a series in every family: `repositories` repositories of `tags` tags each in two organizations.
pub fn sample(name: &str, repositories: u64, tags: u64) -> Inventory {
    let time = |seconds: u64| {
        Timestamp::from_milliseconds(1_700_000_000_123 + i64::try_from(seconds).unwrap() * 1000)
    };
    let entry = |n: u64| {
        let tag = |t: u64| Tag {
            name: format!("v{t}").into(),
            size_bytes: Some(n * 1_000_003 + t),
            created: time(t),
            updated: time(t + 1),
            last_pulled: time(t + 2),
            info: Some(Box::new(TagInfo { digest: Some("sha256:0".into()), kind: Some("manifest") })),
        };
        let organization = if n < repositories / 2 { "dev" } else { "prod" };
        let repository = Repository {
            organization: organization.into(),
            name: format!("team/app-{n:05}").into(),
            size_bytes: Some(n * 1_000_003),
            images: Some(tags),
            downloads: Some(n),
            created: time(n),
            updated: time(n + 1),
            public: Some(n.is_multiple_of(2)),
            category: Some("other".into()),
            image: Some(format!("swr.example/{organization}/team/app-{n:05}").into()),
            tag_names_hash: None,
        };
        let newest = (0..tags).map(tag).collect();
        let set = TagSet { images: None, last_push: time(n), newest };
        Entry { repository: Arc::new(repository), tags: Some(Arc::new(set)) }
    };
    let shared = |center| SharedRepository {
        center,
        organization: "partner".into(),
        name: "tools".into(),
        size_bytes: Some(7),
        images: Some(1),
        downloads: Some(3),
        updated: time(0),
        valid: (center == Center::ThirdParty).then_some(false),
        owner_account: Some("somebody".into()),
        category: Some("other".into()),
    };
    Inventory {
        source: info(name),
        up: Some(true),
        organizations_up: vec![("dev".into(), true), ("gone".into(), false)],
        repositories: Some(Arc::new(Repositories {
            listed: Some(repositories),
            measured: true,
            organizations: Some(vec!["dev".into(), "prod".into()]),
            entries: (0..repositories).map(entry).collect(),
        })),
        shared: Some([shared(Center::Own), shared(Center::ThirdParty)].into()),
    }
}

/// Any inventory of the source `swr-test`: few names, so that they meet, and all that labels may hold.
pub fn any_inventory() -> impl Strategy<Value = Inventory> {
    let ups = vec(("[a-c]{0,2}".prop_map(String::into_boxed_str), any::<bool>()), 0..4);
    (option::of(any::<bool>()), ups, option::of(repositories()), option::of(vec(shared(), 0..5))).prop_map(
        |(up, ups, repositories, shared)| {
            let ups: BTreeMap<_, _> = ups.into_iter().collect();
            let shared = shared.map(|rows| {
                let key = |s: &SharedRepository| (s.center, s.organization.clone(), s.name.clone());
                let rows: BTreeMap<_, _> = rows.into_iter().map(|row| (key(&row), row)).collect();
                rows.into_values().collect()
            });
            Inventory {
                source: info("swr-test"),
                up,
                organizations_up: ups.into_iter().collect(),
                repositories: repositories.map(Arc::new),
                shared,
            }
        },
    )
}

fn repositories() -> impl Strategy<Value = Repositories> {
    let flags = (any::<bool>(), any::<bool>());
    (any::<u64>(), flags, vec(text(), 0..3), vec((repository(), option::of(tags())), 0..12)).prop_map(
        |(listed, (measured, watched), more, rows)| {
            let key = |r: &Repository| (r.organization.clone(), r.name.clone());
            let rows: BTreeMap<_, _> = rows.into_iter().map(|row| (key(&row.0), row)).collect();
            let organizations: BTreeSet<_> = rows.keys().map(|(o, _)| o.clone()).chain(more).collect();
            let entry = |(repository, tags): (Repository, Option<TagSet>)| Entry {
                repository: Arc::new(repository),
                tags: tags.map(Arc::new),
            };
            Repositories {
                listed: Some(listed),
                measured,
                organizations: (!watched).then(|| organizations.into_iter().collect()),
                entries: rows.into_values().map(entry).collect(),
            }
        },
    )
}

fn repository() -> impl Strategy<Value = Repository> {
    let figures = (number(), number(), number(), time(), time(), option::of(any::<bool>()));
    let texts = (text(), text(), option::of(text()), option::of(text()));
    (figures, texts).prop_map(|((size_bytes, images, downloads, created, updated, public), texts)| {
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
            tag_names_hash: None,
        }
    })
}

fn tags() -> impl Strategy<Value = TagSet> {
    let tag = (text(), number(), time(), time(), time(), option::of(option::of(text()))).prop_map(
        |(name, size_bytes, created, updated, last_pulled, digest)| {
            let info = digest.map(|digest| Box::new(TagInfo { digest, kind: Some("index") }));
            Tag { name, size_bytes, created, updated, last_pulled, info }
        },
    );
    (number(), time(), vec(tag, 0..6)).prop_map(|(images, last_push, tags)| {
        let tags: BTreeMap<_, _> = tags.into_iter().map(|tag| (tag.name.clone(), tag)).collect();
        TagSet { images, last_push, newest: tags.into_values().collect() }
    })
}

fn shared() -> impl Strategy<Value = SharedRepository> {
    let center = prop_oneof![Just(Center::Own), Just(Center::ThirdParty)];
    let figures = (number(), number(), number(), time(), option::of(any::<bool>()));
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

/// What readers of text stumble over: ends of lines and of texts, escapes, marks without a letter, directions, and
/// what no character is.
const HOSTILE: [&str; 20] = [
    "\"",
    "\\",
    "\n",
    "\\n",
    "\r",
    "\r\n",
    "\0",
    "\t",
    "\u{b}",
    "\u{1b}[31m",
    "\u{7f}",
    "\u{85}",
    "\u{301}",
    "\u{200d}",
    "\u{202e}",
    "\u{2028}",
    "\u{feff}",
    "\u{ffff}",
    "\u{10ffff}",
    " # {} 1 2",
];

fn text() -> impl Strategy<Value = Box<str>> {
    prop_oneof![
        4 => "[a-b]{1,2}",
        2 => vec(any::<char>(), 0..5).prop_map(String::from_iter),
        1 => r#"["\\\n{},= ]{0,4}"#,
        2 => vec(select(&HOSTILE[..]), 0..5).prop_map(String::from_iter),
        1 => (1018..1026_usize, "[é…]{0,2}").prop_map(|(length, end)| "x".repeat(length) + &end),
    ]
    .prop_map(String::into_boxed_str)
}

fn number() -> impl Strategy<Value = Option<u64>> {
    option::of(prop_oneof![0..5_u64, any::<u64>()])
}

fn time() -> impl Strategy<Value = Option<Timestamp>> {
    let nanoseconds = prop_oneof![any::<i64>(), (0..4000_i64).prop_map(|s| s * 500_000_000)];
    option::of(nanoseconds).prop_map(|n| Timestamp::from_nanoseconds(n?.into()))
}
