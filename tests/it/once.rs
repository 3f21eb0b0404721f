//! One round of polls by the real binary.

mod output;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use container_registry_exporter::simulator::{
    Call, Fault, Image, Registry, Repository, Simulator, Tag, World,
};

use crate::program::{Files, command_after, ncr, promtool_check_metrics, run, swr, text};

async fn simulator() -> Simulator {
    let mut world = World::empty();
    world.swr.add(Repository::new("group", "team/app").with_tag(Tag::new("v1", 1_304_902)));
    world.ncr.add(Registry::new("registry").with_image(Image::new("web")));
    Simulator::start(world).await.unwrap()
}

const SIZE: &str = "container_registry_repository_size_bytes{source=\"swr\",organization=\"group\",repository=\"team/app\"} 1304902\n";

#[tokio::test]
async fn prints_the_inventory_and_when_it_was_read() {
    let simulator = simulator().await;
    let files = Files::with_config(&(swr(&simulator, "") + &ncr(&simulator)));
    let output = run(&["once", &files.flag()]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let page = text(&output.stdout);
    assert!(page.contains(SIZE), "{page}");
    assert!(page.contains("container_registry_up{source=\"ncr\"} 1\n"), "{page}");
    assert!(
        page.contains("poll_last_success_timestamp_seconds{collector=\"tags\",source=\"swr\"} "),
        "{page}"
    );
    assert!(!page.contains("process_"), "{page}");
    assert_eq!(promtool_check_metrics(&output.stdout).await, "");
}

#[tokio::test]
async fn a_source_that_fails_leaves_the_others_printed_and_exits_with_1() {
    let simulator = simulator().await;
    simulator.fault(Call::ListRegistries, Fault::Unauthorized);
    let files = Files::with_config(&(swr(&simulator, "") + &ncr(&simulator)));
    let output = run(&["once", &files.flag()]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains(SIZE));
    assert!(text(&output.stdout).contains("container_registry_up{source=\"ncr\"} 0\n"));
    assert!(text(&output.stderr).contains("reason=unauthorized"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn tags_of_one_repository_that_fail_are_told_and_are_no_failed_source() {
    let simulator = simulator().await;
    simulator.fault(Call::ListTags, Fault::Html).repository("group/team/app");
    let files = Files::with_config(&swr(&simulator, ""));
    let output = run(&["once", &files.flag()]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(SIZE));
    for part in ["repositories=group/team/app", "reason=decode", "tags not read"] {
        assert!(text(&output.stderr).contains(part), "{part} is not in: {}", text(&output.stderr));
    }
}

#[tokio::test]
async fn a_timeout_ends_a_call_that_hangs_with_1() {
    let simulator = simulator().await;
    simulator.fault(Call::ListRegistries, Fault::Hang);
    let files = Files::with_config(&(swr(&simulator, "") + &ncr(&simulator)));
    let output = run(&["once", "--timeout=3s", &files.flag()]).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(SIZE));
}

#[tokio::test]
async fn a_file_is_replaced_whole_and_readable_as_the_umask_allows() {
    let simulator = simulator().await;
    let files = Files::with_config(&swr(&simulator, ""));
    let file = files.path("registry.prom");
    for (umask, mode) in [("022", 0o644), ("027", 0o640)] {
        fs::write(&file, "old").unwrap();
        let arguments = ["once", &files.flag(), "--output", file.to_str().unwrap()];
        let output = command_after(&format!("umask {umask}"), &arguments).output().await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty());
        assert!(fs::read_to_string(&file).unwrap().contains(SIZE));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, mode);
        assert_eq!(files.names(), ["config.toml", "registry.prom"]);
    }
}

#[tokio::test]
async fn a_file_stays_as_it_was_when_nothing_could_be_read() {
    let simulator = simulator().await;
    simulator.fault(Call::ListRepositories, Fault::status(403));
    let files = Files::with_config(&swr(&simulator, ""));
    let file = files.path("registry.prom");
    fs::write(&file, "old").unwrap();
    let output = run(&["once", &files.flag(), "--output", file.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    assert_eq!(files.names(), ["config.toml", "registry.prom"]);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_exits_with_1_and_is_named() {
    let simulator = simulator().await;
    let files = Files::with_config(&swr(&simulator, ""));
    let file = files.path("no-such-directory/registry.prom");
    let output = run(&["once", &files.flag(), "--output", file.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no-such-directory/registry.prom"), "{}", text(&output.stderr));
}
