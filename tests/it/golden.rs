//! State model, simulator, exporter, page: the bytes are those of `tests/golden`, which `UPDATE_EXPECT=1` rewrites, and
//! `promtool` has nothing to say about them.

use std::fs;
use std::path::Path;

use container_registry_exporter::simulator::{
    Image, ImageTag, Platform, Registry, Repository, Simulator, Tag, World,
};
use expect_test::{ExpectFile, expect_file};
use serde_json::{Value, json};

use super::program::promtool_check_metrics;
use super::support::{Exporter, ncr, simulator, swr};

/// 2^53 + 1, the first whole number that a double cannot hold.
const NO_DOUBLE: i64 = 9_007_199_254_740_993;

/// Fields of a SWR row that may be missing or null.
const OPTIONAL: [&str; 12] = [
    "category",
    "size",
    "is_public",
    "num_images",
    "num_download",
    "created_at",
    "updated_at",
    "path",
    "tags",
    "status",
    "total_range",
    "domain_name",
];

fn tag(name: &str, size_bytes: i64, created: &str, updated: &str) -> Tag {
    Tag { created: created.to_owned(), updated: updated.to_owned(), ..Tag::new(name, size_bytes) }
}

fn platform(architecture: &str, latest_pulled_milliseconds: Option<i64>) -> Platform {
    Platform { architecture: architecture.to_owned(), size_bytes: 1, latest_pulled_milliseconds }
}

/// Everything odd that the documents allow, and a little more.
pub fn swr_world() -> World {
    let mut world = World::empty();
    let mut app = Repository::new("group", "team/app");
    (app.public, app.downloads, app.shared_by_me) = (true, 12, true);
    "app_server".clone_into(&mut app.category);
    let digits =
        ["", ".1", ".12", ".123", ".1234", ".12345", ".123456", ".1234567", ".12345678", ".123456789"];
    for (count, fraction) in (0..).zip(digits) {
        let updated = format!("2024-02-03T04:05:{count:02}{fraction}Z");
        app.tags.push(tag(&format!("digits-{count}"), 1000 + count, "2018-07-06T06:18:55Z", &updated));
    }
    app.tags[1].tag_type = 1;
    app.tags[2].tag_type = 7;
    world.swr.add(app);

    let mut huge = Repository::new("group", "huge").with_tag(Tag::new("huge", NO_DOUBLE));
    huge.downloads = i64::MAX;
    world.swr.add(huge);

    let mut negative = Repository::new("group-negative", "sizes").with_tag(Tag::new("negative", -1));
    negative.overrides.insert("size".to_owned(), Some(json!(-5)));
    negative.downloads = -1;
    world.swr.add(negative);

    let missing = OPTIONAL.map(|field| (field.to_owned(), None));
    world.swr.add(Repository { overrides: missing.into(), ..Repository::new("sparse", "missing") });
    let null = OPTIONAL.map(|field| (field.to_owned(), Some(Value::Null)));
    let mut nulls = Repository { overrides: null.into(), ..Repository::new("sparse", "null") };
    let mut bare = Tag::new("bare", 0);
    for field in ["digest", "size", "created", "updated", "tag_type", "manifest"] {
        bare.overrides.insert(field.to_owned(), Some(Value::Null));
    }
    nulls.tags.push(bare);
    world.swr.add(nulls);

    let mut text = Repository::new("组织", "имя \"q\" \\ b\nend");
    "a \"quoted\" \\ back\nslash".clone_into(&mut text.category);
    text.tags.push(Tag::new("тег\n\"\\", 3));
    text.tags.push(tag("no time", 4, "", "forever"));
    text.tags.push(tag("zero time", 5, "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z"));
    text.tags.push(tag(&"长".repeat(341), 6, "2018-07-06T06:18:55Z", "2018-07-06T06:18:55Z"));
    world.swr.add(text);

    let mut expired = Repository::new("agency", "campaign/site").with_tag(Tag::new("v1", 14));
    (expired.share_is_valid, expired.account) = (false, "made-up \"agency\"".to_owned());
    world.swr.add_shared_with_me(expired);
    world.swr.add_shared_with_me(Repository::new("partner", "ml").with_tag(Tag::new("v1", NO_DOUBLE)));
    let mut odd = Repository::new("partner", "odd");
    odd.overrides.insert("status".to_owned(), Some(json!("false \"total_ranage\" 4")));
    world.swr.add_shared_with_me(odd);
    world
}

/// The same of NCR.
pub fn ncr_world() -> World {
    let mut world = World::empty();
    let mut v1 = ImageTag::new("v1", NO_DOUBLE);
    v1.platforms = vec![
        platform("amd64", Some(1_711_928_488_001)),
        platform("arm64", Some(1_711_928_488_120)),
        platform("riscv64", Some(0)),
        platform("s390x", None),
    ];
    let mut never = ImageTag::new("never-pulled", -1);
    never.platforms = vec![platform("amd64", Some(0))];
    never.last_updated_milliseconds = 1_711_928_488_500;
    let mut app = Image::new("team/app").with_tag(v1).with_tag(never);
    app.pull_count = i64::MAX;
    let mut old = Image::new("old-name-of-the-field");
    old.overrides.insert("last_updated".to_owned(), None);
    old.overrides.insert("last_update".to_owned(), Some(json!(1_711_928_488_000_i64)));
    let mut sparse = Image::new("sparse");
    for field in ["pull_count", "last_updated"] {
        sparse.overrides.insert(field.to_owned(), Some(Value::Null));
    }
    let live = Registry::new("acme-live").with_image(app).with_image(old).with_image(sparse);
    world.ncr.add(live);
    let mut test = Registry::new("acme-test").with_image(Image::new("образ \"\\\n"));
    test.overrides.insert("end_point".to_owned(), None);
    world.ncr.add(test);
    world.ncr.add(Registry::new("empty"));
    world
}

/// Polls once and compares what the sources said with the file.
async fn check(config: &str, simulator: &Simulator, file: ExpectFile) {
    let mut exporter = Exporter::new(config);
    assert!(exporter.poll().await, "{}", exporter.everything_shown());
    let mut page = exporter.inventory();
    for url in [simulator.swr_url(), simulator.ncr_url_below("")] {
        page = page.replace(&url.replace("http://", ""), "127.0.0.1:1");
    }
    file.assert_eq(&page);
    assert!(exporter.poll().await);
    assert_eq!(promtool_check_metrics(exporter.page().as_bytes()).await, "");
}

#[tokio::test]
async fn swr_with_everything() {
    let simulator = simulator(swr_world()).await;
    let config = swr(&simulator, "tags = { newest = \"all\", info = true }");
    check(&config, &simulator, expect_file!["../golden/swr.prom"]).await;
}

#[tokio::test]
async fn swr_of_named_organizations_with_filters() {
    let simulator = simulator(swr_world()).await;
    let config = swr(
        &simulator,
        "organizations = [\"group\", \"not-there\"]\nshared = [\"thirdparty\"]\n\
         repositories = { exclude = [\".*/huge\", \"partner/odd\"] }\n\
         tags = { newest = 2, include = [\"digits-.*\"], exclude = [\"digits-9\"] }",
    );
    check(&config, &simulator, expect_file!["../golden/organizations.prom"]).await;
}

#[tokio::test]
async fn swr_of_watched_repositories() {
    let simulator = simulator(swr_world()).await;
    let config = swr(
        &simulator,
        "watch = [\"group/team/app\", \"group/not-there\", \"group/huge\"]\ntags = { newest = 1 }",
    );
    check(&config, &simulator, expect_file!["../golden/watch.prom"]).await;
}

#[tokio::test]
async fn ncr_with_listed_registries() {
    let simulator = simulator(ncr_world()).await;
    check(&ncr(&simulator, "tags = { info = true }"), &simulator, expect_file!["../golden/ncr.prom"]).await;
}

#[tokio::test]
async fn both_clouds_with_a_limit() {
    let mut world = swr_world();
    world.ncr = ncr_world().ncr;
    let simulator = simulator(world).await;
    let config = swr(&simulator, "limits = { series_per_source = 60 }") + &ncr(&simulator, "");
    check(&config, &simulator, expect_file!["../golden/limit.prom"]).await;
}

#[tokio::test]
async fn promtool_is_silent_about_every_golden_page() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let pages: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(pages.len(), 5);
    for page in pages {
        assert_eq!(promtool_check_metrics(&fs::read(&page).unwrap()).await, "", "{}", page.display());
    }
    // It is really asked.
    assert_ne!(promtool_check_metrics(b"# TYPE some_total gauge\nsome_total 1\n").await, "");
}
