//! The exporter as a process: flags, what it says and where, signals, exit codes.

use std::fs;
use std::net::TcpListener;
use std::process::Stdio;

use container_registry_exporter::simulator::{Call, Fault, Registry, Repository, Simulator, World, keys};
use regex::Regex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use crate::program::{
    Files, PATIENCE, Program, command, get, ncr, promtool_check_metrics, run, swr, text, tool, until,
};

async fn simulator() -> Simulator {
    let mut world = World::empty();
    world.swr.add(Repository::new("group", "busybox"));
    world.ncr.add(Registry::new("registry"));
    Simulator::start(world).await.unwrap()
}

#[tokio::test]
async fn version_and_help_go_to_stdout() {
    let version = run(&["--version"]).await;
    assert!(version.status.success());
    assert!(
        text(&version.stdout).starts_with(concat!("container-registry-exporter ", env!("CARGO_PKG_VERSION")))
    );
    let help = run(&["--help"]).await;
    assert!(help.status.success());
    for word in ["serve", "check", "once", "demo", "--config.file", "CRE_WEB_LISTEN_ADDRESS"] {
        assert!(text(&help.stdout).contains(word), "{word}");
    }
    assert_eq!((version.stderr.len(), help.stderr.len()), (0, 0));
}

#[tokio::test]
async fn a_bad_flag_exits_with_2_and_is_named() {
    let output = run(&["--log.level=loud"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--log.level"), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty());
}

#[tokio::test]
async fn check_says_ok() {
    let simulator = simulator().await;
    let files = Files::with_config(&(swr(&simulator, "") + &ncr(&simulator)));
    let output = run(&["check", &files.flag()]).await;
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(0), "ok\n", ""));
    assert_eq!(simulator.all_requests(), 0);
}

#[tokio::test]
async fn every_command_tells_all_problems_of_the_configuration_and_exits_with_2() {
    let files =
        Files::with_config("[poll]\ninterval = \"soon\"\n[sources.Swr]\n[sources.ncr]\nprovider = 3\n");
    for arguments in [&["check"][..], &["once"], &["serve"], &[]] {
        let flag = files.flag();
        let output = run(&[arguments, &[flag.as_str()]].concat()).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        for key in ["poll.interval", "sources.Swr", "sources.ncr.provider"] {
            assert!(text(&output.stderr).contains(key), "{arguments:?}: {}", text(&output.stderr));
        }
    }
}

#[tokio::test]
async fn a_missing_configuration_exits_with_2_and_says_where_it_was_looked_for() {
    let output = run(&["--config.file=/nonexistent/config.toml"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/nonexistent/config.toml"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_port_in_use_exits_with_1_and_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["demo", &format!("--web.listen-address={address}")]).await;
    assert_eq!(output.status.code(), Some(1));
    let last = text(&output.stderr).lines().last().unwrap();
    assert!(last.contains(&address) && last.contains("in use"), "{last}");
}

#[tokio::test]
async fn output_that_nobody_takes_is_no_defect() {
    let simulator = simulator().await;
    let files = Files::with_config(&swr(&simulator, ""));
    for (arguments, code) in [(["check", &files.flag()], 0), (["once", &files.flag()], 1)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = command(&arguments).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        assert!(!text(&output.stderr).contains("panicked"), "{arguments:?}: {}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[tokio::test]
async fn demo_shows_registries_that_move_and_stops_on_sigterm() {
    let mut demo = Program::start(&["demo"]).await;
    // What a client of one's own needs besides the addresses and keys.
    assert!(demo.log().iter().any(|line| line.contains(&format!("project_id={}", keys::PROJECT_ID))));
    assert_eq!(demo.get("/-/healthy").await, "healthy\n");
    until("readiness", async || (get(demo.address, "/-/ready", "").await.status == 200).then_some(())).await;

    let downloads = "container_registry_organization_downloads{source=\"swr-demo\",organization=\"web\"} ";
    let at_first = demo.sample(downloads).await;
    for source in ["swr-demo", "ncr-demo"] {
        assert_eq!(demo.sample(&format!("container_registry_up{{source=\"{source}\"}}")).await, "1");
    }
    until("a download", async || (demo.sample(downloads).await != at_first).then_some(())).await;
    assert!(demo.get("/").await.contains("All sources are well"));

    let page = get(demo.address, "/metrics", "Accept-Encoding: gzip\r\n").await;
    assert!(page.head.contains("content-type: text/plain; version=0.0.4"), "{}", page.head);
    assert_eq!(promtool_check_metrics(page.unzipped().as_bytes()).await, "");
    let accept = "Accept: application/openmetrics-text;version=1.0.0\r\nAccept-Encoding: gzip\r\n";
    let page = get(demo.address, "/metrics", accept).await;
    assert!(page.head.contains("content-type: application/openmetrics-text"), "{}", page.head);
    assert!(page.unzipped().ends_with("# EOF\n"));

    assert_eq!(demo.stop("TERM").await.code(), Some(0));
}

#[tokio::test]
async fn a_poll_that_hangs_does_not_hold_up_the_stop() {
    let simulator = simulator().await;
    simulator.fault(Call::ListRepositories, Fault::Hang);
    let files = Files::with_config(&swr(&simulator, ""));
    let mut program = Program::start(&[&files.flag()]).await;
    until("a poll", async || (simulator.requests(Call::ListRepositories) > 0).then_some(())).await;
    assert_eq!(program.stop("INT").await.code(), Some(0));
}

#[tokio::test]
async fn a_reader_that_stands_still_does_not_hold_up_the_stop() {
    // About 10 MB of metrics: more than all buffers between the two processes hold.
    let simulator = Simulator::start(World::uniform(10_000, 0)).await.unwrap();
    let files = Files::with_config(&swr(&simulator, "shared = []\ntags = { enabled = false }"));
    let mut program = Program::start(&[&files.flag()]).await;
    program.sample("container_registry_repository_info{").await;

    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut reader = socket.connect(program.address).await.unwrap();
    reader.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    reader.read_u8().await.unwrap();
    assert_eq!(program.stop("TERM").await.code(), Some(0));
    assert!(program.log().iter().any(|line| line.contains("cut off")), "{:?}", program.log());
}

#[tokio::test]
async fn sighup_reloads() {
    let simulator = simulator().await;
    let files = Files::with_config(&swr(&simulator, ""));
    let mut program = Program::start(&[&files.flag()]).await;
    fs::write(files.path("config.toml"), swr(&simulator, "") + &ncr(&simulator)).unwrap();
    program.signal("HUP").await;
    assert_eq!(program.sample("container_registry_up{source=\"ncr\"}").await, "1");
    assert_eq!(program.stop("TERM").await.code(), Some(0));
}

#[tokio::test]
async fn the_log_is_logfmt_or_json_and_on_stderr_alone() {
    let pair = r#"[a-z_.]+=("([^"\\]|\\.)*"|[^ "=]+)"#;
    let logfmt = Regex::new(&format!("^ts=[^ ]+ level=[a-z]+ {pair}( {pair})*$")).unwrap();
    let simulator = simulator().await;
    simulator.fault(Call::ListRepositories, Fault::Html);
    let files = Files::with_config(&swr(&simulator, ""));
    for format in ["logfmt", "json"] {
        let flag = files.flag();
        let output = run(&["once", &flag, &format!("--log.format={format}"), "--log.level=debug"]).await;
        let lines: Vec<&str> = text(&output.stderr).lines().collect();
        assert!(!lines.is_empty());
        for line in lines {
            let parses = match format {
                "json" => serde_json::from_str::<serde_json::Value>(line).is_ok_and(|line| line.is_object()),
                _ => logfmt.is_match(line),
            };
            assert!(parses, "{line}");
        }
        assert!(!text(&output.stdout).contains("level="));
    }
}

#[tokio::test]
async fn promtool_accepts_the_scrape_configuration() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/prometheus.yml");
    let output = tool("promtool").args(["check", "config", file]).output().await.unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}
