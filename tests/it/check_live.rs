//! `check --live`: the first page of every listing, the credential by its place, and what polling costs.

use std::collections::BTreeMap;
use std::path::Path;

use container_registry_exporter::app::check;
use container_registry_exporter::config::Config;
use container_registry_exporter::simulator::{
    Call, Image, ImageTag, Registry, Repository, Simulator, Tag, World, keys,
};
use expect_test::expect;
use serde_json::json;

use crate::support;

/// 2,500 SWR repositories with two tags each and one NCR image with three.
async fn simulator() -> Simulator {
    let mut world = World::empty();
    for n in 0..2500 {
        let repository = Repository::new("group", &format!("repository-{n}"));
        world.swr.add(repository.with_tag(Tag::new("v1", 1)).with_tag(Tag::new("v2", 2)));
    }
    let image = ["a", "b", "c"]
        .into_iter()
        .fold(Image::new("app"), |image, tag| image.with_tag(ImageTag::new(tag, 1)));
    world.ncr.add(Registry::new("registry").with_image(image));
    Simulator::start(world).await.unwrap()
}

fn config(simulator: &Simulator, ncr_secret: &str) -> Config {
    let text = format!(
        r#"
        [sources.ncr]
        provider = "ncr"
        region = "KR"
        endpoint = "{}"
        auth = {{ access_key = "{}", secret_key = "{ncr_secret}" }}
        [sources.swr]
        provider = "swr"
        region = "cn-north-4"
        endpoint = "{}"
        iam_endpoint = "{}"
        auth = {{ method = "password", account = "{}", username = "{}", password = "{}" }}
        "#,
        simulator.ncr_url(),
        keys::NCR_ACCESS_KEY,
        simulator.swr_url(),
        simulator.iam_url(),
        keys::IAM_ACCOUNT,
        keys::IAM_USER,
        keys::IAM_PASSWORD,
    );
    Config::parse(&text, Path::new("."), &BTreeMap::new()).unwrap()
}

#[tokio::test]
async fn says_what_polling_costs_and_reads_only_first_pages() {
    let simulator = simulator().await;
    let (report, good) = check::live(&config(&simulator, keys::NCR_SECRET_KEY)).await.unwrap();
    expect![[r"
        ncr: ok
          repositories: 1
          API calls: 3 for a full poll, 3 for one without changes
          series: ≈ 16
          credential: access key from sources.ncr.auth.access_key
        swr: ok
          repositories: 2500
          API calls: 2505 for a full poll, 14 for one without changes
          series: ≈ 35007
          credential: password of made-up-user in account made-up-account, from sources.swr.auth.password
    "]]
    .assert_eq(&report);
    assert!(good);
    let calls =
        [Call::ListRepositories, Call::ListShared, Call::ListTags, Call::ListImages, Call::ListImageTags];
    assert_eq!(calls.map(|call| simulator.requests(call)), [1, 2, 1, 1, 1]);
}

#[tokio::test]
async fn figures_beyond_all_bounds_end_in_the_largest_number() {
    let mut world = World::empty();
    for name in ["a", "b"] {
        let mut repository = Repository::new("group", name).with_tag(Tag::new("v1", 1));
        repository.overrides.insert("num_images".to_owned(), Some(json!(i64::MAX)));
        repository.overrides.insert("size".to_owned(), Some(json!(u64::MAX)));
        repository.overrides.insert("total_range".to_owned(), Some(json!(i64::MAX)));
        repository.shared_by_me = true;
        world.swr.add(repository.clone());
        world.swr.add_shared_with_me(repository);
    }
    let simulator = Simulator::start(world).await.unwrap();
    let source = support::swr(&simulator, "tags = { newest = \"all\" }\nlimits = { series_per_source = 0 }");
    let config = Config::parse(&source, Path::new("."), &BTreeMap::new()).unwrap();
    let (report, good) = check::live(&config).await.unwrap();
    assert!(good, "{report}");
    assert!(report.contains(&format!("series: ≈ {}", u64::MAX)), "{report}");
}

#[tokio::test]
async fn a_source_that_cannot_be_read_is_told_beside_the_others() {
    let simulator = simulator().await;
    let (report, good) = check::live(&config(&simulator, "a-wrong-secret")).await.unwrap();
    assert!(!good);
    let ncr = report.split("swr:").next().unwrap();
    assert!(ncr.starts_with("ncr: failed\n  reason: unauthorized\n  error: list_registries: GET"), "{ncr}");
    assert!(!report.contains("a-wrong-secret"), "{report}");
    assert!(report.contains("swr: ok\n"), "{report}");
}
