//! Polls of a simulated NCR: what is asked for, how, and what comes of it.

use container_registry_exporter::simulator::{
    Call, ErrorShape, Fault, Image, ImageTag, PastTheEnd, Registry, Simulator, World, keys,
};
use container_registry_exporter::telemetry::Collector;
use serde_json::json;

use super::support::{Exporter, ncr, ncr_at, simulator, targets};

/// So many images `app-NNNN` without tags in the registry `prod`.
fn world_of(images: usize) -> World {
    let mut registry = Registry::new("prod");
    for number in 0..images {
        let name = format!("app-{number:04}");
        registry.images.insert(name.clone(), Image::new(&name));
    }
    let mut world = World::empty();
    world.ncr.add(registry);
    world
}

async fn polled(simulator: &Simulator, more: &str) -> Exporter {
    let mut exporter = Exporter::new(&ncr(simulator, more));
    assert!(exporter.poll().await, "{}", exporter.everything_shown());
    exporter
}

fn listed(exporter: &Exporter) -> f64 {
    exporter.number("source_repositories{source=\"ncr\"}")
}

/// The queries of the requests of a call.
fn queries(simulator: &Simulator, call: Call) -> Vec<String> {
    let targets = targets(simulator, call);
    targets.iter().map(|target| target.split_once('?').unwrap().1.to_owned()).collect()
}

#[tokio::test]
async fn reads_every_region_below_its_own_path() {
    let mut world = world_of(1);
    let image = world.ncr.registries.get_mut("prod").unwrap().images.get_mut("app-0000").unwrap();
    image.tags.push(ImageTag::new("v1", 5));
    let simulator = simulator(world).await;
    for base in ["/ncr/api/v2", "/ncr/sgn-api/v2", "/ncr/jpn-api/v2", "/ncr/kr/v2", "/ncr/krs/v2"] {
        simulator.clear_log();
        let config = ncr_at("ncr", &simulator.ncr_url_below(base), keys::NCR_SECRET_KEY, "");
        let mut exporter = Exporter::new(&config);
        assert!(exporter.poll().await, "{base}");
        assert_eq!(exporter.sum("tag_size_bytes", "app-0000"), 5.0, "{base}");
        let below = ["", "/prod", "/prod/app-0000/tags"];
        let asked: Vec<String> = simulator.log().into_iter().map(|exchange| exchange.target).collect();
        assert_eq!(asked, below.map(|path| format!("{base}/repositories{path}?page=1&pagesize=100")));
    }
}

#[tokio::test]
async fn every_request_asks_for_json_with_a_signature() {
    let simulator = simulator(world_of(3)).await;
    polled(&simulator, "").await;
    for exchange in simulator.log() {
        assert_eq!(exchange.status, Some(200), "{}", exchange.target);
        assert_eq!(exchange.header("accept"), Some("application/json"));
        assert_eq!(exchange.header("content-type"), Some("application/json"));
        assert_eq!(exchange.header("x-ncp-iam-access-key"), Some(keys::NCR_ACCESS_KEY));
        assert_eq!(exchange.header("x-ncp-apigw-timestamp").unwrap().len(), 13);
    }
}

#[tokio::test]
async fn follows_the_page_numbers_to_the_end() {
    let mut world = world_of(250);
    let image = world.ncr.registries.get_mut("prod").unwrap().images.get_mut("app-0000").unwrap();
    image.tags = (0..250).map(|number| ImageTag::new(&format!("v{number}"), 1)).collect();
    let simulator = simulator(world).await;
    let exporter = polled(&simulator, "tags = { newest = \"all\" }").await;
    let pages = [1, 2, 3].map(|page| format!("page={page}&pagesize=100"));
    assert_eq!(queries(&simulator, Call::ListImages), pages);
    assert_eq!(listed(&exporter), 250.0);
    assert_eq!(exporter.sum("tag_size_bytes", "app-0000"), 250.0);
    assert_eq!(exporter.sum("repository_images", ""), 250.0);
}

#[tokio::test]
async fn leaves_the_page_size_to_a_server_that_refuses_all() {
    let mut world = world_of(25);
    world.ncr.page_size_refused_above = 5;
    world.ncr.default_page_size = 5;
    let simulator = simulator(world).await;
    let mut exporter = polled(&simulator, "tags = { enabled = false }").await;
    assert_eq!(listed(&exporter), 25.0);
    let first = queries(&simulator, Call::ListImages);
    assert_eq!(first[..4], ["page=1&pagesize=100", "page=1&pagesize=10", "page=1", "page=2"]);
    simulator.clear_log();
    assert!(exporter.poll().await);
    let pages = [1, 2, 3, 4, 5].map(|page| format!("page={page}"));
    assert_eq!(queries(&simulator, Call::ListImages), pages);
}

#[tokio::test]
async fn pages_that_are_shorter_than_asked_lose_no_row() {
    for rows_per_page in [50, 7] {
        let mut world = world_of(130);
        world.ncr.rows_per_page_at_most = rows_per_page;
        let simulator = simulator(world).await;
        let exporter = polled(&simulator, "tags = { enabled = false }").await;
        assert_eq!(listed(&exporter), 130.0, "{rows_per_page}");
        assert_eq!(exporter.sum("exporter_listing_total_mismatch", ""), 0.0);
    }
}

#[tokio::test]
async fn reads_only_the_registries_that_are_named() {
    let mut world = world_of(2);
    world.ncr.add(Registry::new("empty"));
    world.ncr.add(Registry::new("not-asked-for").with_image(Image::new("app")));
    let simulator = simulator(world).await;
    let exporter = polled(&simulator, "registries = [\"prod\", \"empty\"]").await;
    // Once, for what exists in place of the one without rows.
    assert_eq!(simulator.requests(Call::ListRegistries), 1);
    assert_eq!(listed(&exporter), 2.0);
    let repositories = |name: &str| {
        exporter.value(&format!("organization_repositories{{source=\"ncr\",organization=\"{name}\"}}"))
    };
    assert_eq!(repositories("prod").as_deref(), Some("2"));
    assert_eq!(repositories("empty").as_deref(), Some("0"));
    assert_eq!(repositories("not-asked-for"), None);
    // Nobody told its address, so it is made from name, site and region.
    assert!(exporter.page().contains("image=\"prod.kr.ncr.ntruss.com/app-0001\""));
}

#[tokio::test]
async fn reads_every_registry_of_the_account_unless_named() {
    let mut world = world_of(2);
    let mut other = Registry::new("other").with_image(Image::new("app"));
    "registry.example:5000".clone_into(&mut other.end_point);
    world.ncr.add(other);
    for number in 0..120 {
        world.ncr.add(Registry::new(&format!("registry-{number}")));
    }
    let simulator = simulator(world).await;
    let exporter = polled(&simulator, "").await;
    assert_eq!(simulator.requests(Call::ListRegistries), 2);
    assert_eq!(simulator.requests(Call::ListImages), 122);
    assert_eq!(listed(&exporter), 3.0);
    assert_eq!(exporter.sum("organization_repositories", ""), 3.0);
    assert!(exporter.page().contains("image=\"registry.example:5000/app\""));
}

#[tokio::test]
async fn a_registry_that_is_not_there_takes_the_source_down_and_keeps_the_data() {
    let simulator = simulator(world_of(2)).await;
    let mut exporter = polled(&simulator, "registries = [\"prod\"]").await;
    simulator.edit(|world| world.ncr.registries.clear());
    assert!(!exporter.poll().await);
    assert_eq!(exporter.failure(Collector::Repositories).unwrap().reason.as_str(), "not_found");
    assert_eq!(exporter.value("up{source=\"ncr\"}").as_deref(), Some("0"));
    assert_eq!(listed(&exporter), 2.0);
}

#[tokio::test]
async fn a_nested_name_is_sent_as_percent_2f() {
    let mut world = World::empty();
    let image = Image::new("team/web/app").with_tag(ImageTag::new("v1", 7));
    world.ncr.add(Registry::new("prod").with_image(image));
    let simulator = simulator(world).await;
    let exporter = polled(&simulator, "").await;
    assert_eq!(exporter.sum("tag_size_bytes", "repository=\"team/web/app\""), 7.0);
    let target = &targets(&simulator, Call::ListImageTags)[0];
    assert_eq!(target, "/ncr/api/v2/repositories/prod/team%2Fweb%2Fapp/tags?page=1&pagesize=100");
}

#[tokio::test]
async fn reads_error_codes_as_text_and_as_numbers() {
    for shape in [ErrorShape::NcrText, ErrorShape::NcrNumber] {
        let mut world = world_of(1);
        world.ncr.error_shape = shape;
        world.ncr.access_keys[0].lacks_permission = true;
        let simulator = simulator(world).await;
        let mut exporter = Exporter::new(&ncr(&simulator, ""));
        assert!(!exporter.poll().await);
        let failure = exporter.failure(Collector::Repositories).unwrap();
        assert_eq!(failure.reason.as_str(), "forbidden", "{}", failure.message);
        assert!(failure.message.contains("code 210"), "{}", failure.message);
        // No refused credential: the next poll asks again, and heals.
        simulator.edit(|world| world.ncr.access_keys[0].lacks_permission = false);
        assert!(exporter.poll().await);
    }
}

#[tokio::test]
async fn takes_the_time_of_the_last_update_under_either_name() {
    let mut world = world_of(1);
    let image = world.ncr.registries.get_mut("prod").unwrap().images.get_mut("app-0000").unwrap();
    image.overrides.insert("last_updated".to_owned(), None);
    image.overrides.insert("last_update".to_owned(), Some(json!(1_711_928_488_250_i64)));
    let simulator = simulator(world).await;
    let exporter = polled(&simulator, "").await;
    let updated =
        "repository_updated_timestamp_seconds{source=\"ncr\",organization=\"prod\",repository=\"app-0000\"}";
    assert_eq!(exporter.value(updated).as_deref(), Some("1711928488.25"));
}

#[tokio::test]
async fn does_not_care_what_the_answer_is_called() {
    let mut world = world_of(2);
    world.ncr.plain_text_content_type = true;
    let simulator = simulator(world).await;
    assert_eq!(listed(&polled(&simulator, "").await), 2.0);
}

#[tokio::test]
async fn a_listing_that_shrinks_past_a_page_is_read_again() {
    for past_the_end in [PastTheEnd::EmptyPage, PastTheEnd::Status(404)] {
        let mut world = world_of(101);
        world.ncr.past_the_end = past_the_end;
        let simulator = simulator(world).await;
        let mut exporter = polled(&simulator, "tags = { enabled = false }").await;
        // Between the first page and the second one image goes, and with it the second page.
        simulator.fault(Call::ListImages, Fault::ShiftWhilePaging).times(1);
        assert!(exporter.poll().await);
        assert_eq!(listed(&exporter), 100.0);
        assert!(!exporter.inventory().contains("app-0000"));
    }
}

/// A list of exactly one full page that says that there is another.
#[tokio::test]
async fn a_page_past_the_end_takes_no_image_and_no_tag_away() {
    for past_the_end in
        [PastTheEnd::EmptyPage, PastTheEnd::Status(400), PastTheEnd::Status(404), PastTheEnd::Status(416)]
    {
        for fault in [None, Some(Fault::NoTotal), Some(Fault::WrongTotal(-100)), Some(Fault::WrongTotal(1))] {
            let mut world = world_of(100);
            world.ncr.past_the_end = past_the_end;
            world.ncr.next_after_every_full_page = true;
            let image = world.ncr.registries.get_mut("prod").unwrap().images.get_mut("app-0000").unwrap();
            image.tags = (0..100).map(|number| ImageTag::new(&format!("v{number}"), 1)).collect();
            let simulator = simulator(world).await;
            for call in [Call::ListImages, Call::ListImageTags] {
                if let Some(fault) = &fault {
                    simulator.fault(call, fault.clone());
                }
            }
            // No number of rows is refused a page: only a total that they make tells that there is none.
            let known = matches!(fault, None | Some(Fault::NoTotal)) || past_the_end == PastTheEnd::EmptyPage;
            let mut exporter = Exporter::new(&ncr(&simulator, "tags = { newest = \"all\" }"));
            let case = format!("{past_the_end:?} {fault:?}");
            assert_eq!(exporter.poll().await, known, "{case}");
            if known {
                assert_eq!(exporter.sum("tag_size_bytes", "app-0000"), 100.0, "{case}");
                assert_eq!(listed(&exporter), 100.0, "{case}");
            } else {
                let failure = exporter.failure(Collector::Repositories).unwrap();
                assert_eq!(failure.reason.as_str(), "incomplete", "{case}");
            }
        }
    }
}

#[tokio::test]
async fn a_count_of_registries_is_no_count_of_rows() {
    for more in ["", "registries = [\"prod\", \"empty\"]"] {
        let mut world = world_of(130);
        world.ncr.count_is_of_registries = true;
        let image = world.ncr.registries.get_mut("prod").unwrap().images.get_mut("app-0000").unwrap();
        image.tags = (0..130).map(|number| ImageTag::new(&format!("v{number}"), 1)).collect();
        world.ncr.add(Registry::new("empty"));
        let simulator = simulator(world).await;
        let exporter = polled(&simulator, &format!("tags = {{ newest = \"all\" }}\n{more}")).await;
        assert_eq!(listed(&exporter), 130.0, "{more}");
        assert_eq!(exporter.sum("tag_size_bytes", ""), 130.0, "{more}");
        // 2 instead of 130, and 2 instead of none.
        let mismatch = exporter.sum("exporter_listing_total_mismatch", "collector=\"repositories\"");
        assert_eq!(mismatch, -126.0, "{more}");
        // A number that nothing explains is no empty registry.
        simulator.fault(Call::ListImages, Fault::NoRows).repository("prod");
        simulator.edit(|world| world.ncr.count_is_of_registries = false);
        let mut exporter = exporter;
        assert!(!exporter.poll().await);
        assert_eq!(exporter.failure(Collector::Repositories).unwrap().reason.as_str(), "incomplete");
        assert_eq!(listed(&exporter), 130.0, "{more}");
    }
}

#[tokio::test]
async fn a_poll_reads_images_that_came_and_drops_those_that_went() {
    let simulator = simulator(world_of(3)).await;
    let mut exporter = polled(&simulator, "").await;
    simulator.edit(|world| {
        let images = &mut world.ncr.registries.get_mut("prod").unwrap().images;
        images.remove("app-0001");
        images.insert("new".to_owned(), Image::new("new").with_tag(ImageTag::new("v1", 9)));
    });
    assert!(exporter.poll().await);
    assert!(!exporter.inventory().contains("app-0001"));
    assert_eq!(exporter.sum("tag_size_bytes", "repository=\"new\""), 9.0);
    assert_eq!(listed(&exporter), 3.0);
}

#[tokio::test]
async fn is_never_pulled_unless_a_time_is_given() {
    let mut world = world_of(1);
    let image = world.ncr.registries.get_mut("prod").unwrap().images.get_mut("app-0000").unwrap();
    let mut never = ImageTag::new("never", 1);
    never.platforms[0].latest_pulled_milliseconds = Some(0);
    let mut pulled = ImageTag::new("pulled", 1);
    pulled.platforms[0].latest_pulled_milliseconds = Some(1_711_928_488_001);
    image.tags = vec![ImageTag::new("unknown", 1), never, pulled];
    let simulator = simulator(world).await;
    let page = polled(&simulator, "").await.inventory();
    let times: Vec<_> =
        page.lines().filter(|line| line.contains("_last_pulled_") && !line.starts_with('#')).collect();
    assert_eq!(times.len(), 1);
    assert!(times[0].ends_with("tag=\"pulled\"} 1711928488.001"), "{times:?}");
}
