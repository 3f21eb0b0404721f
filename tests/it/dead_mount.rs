//! Files on a mount that does not answer: a file system whose server takes no request, so that whoever asks for
//! something on it waits until it is killed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use container_registry_exporter::simulator::{Call, Repository, Simulator, World, keys};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::program::{BINARY, Files, get, isolate, post, signal, text, tool, until};

/// From the signal to the end of the process.
const STOP_TIME: Duration = Duration::from_secs(5);
const NO_ANSWER: &str = "does not answer; see to the disk or network mount";
/// Mounts a file system of which it never reads a request, and becomes the exporter. The namespace takes the mount
/// along when it ends.
const MOUNT: &str = r#"
import ctypes, os, sys
fuse = os.open("/dev/fuse", os.O_RDWR)
os.set_inheritable(fuse, True)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0"
if ctypes.CDLL(None, use_errno=True).mount(b"dead", sys.argv[1].encode(), b"fuse", 0, options.encode()):
    raise OSError(ctypes.get_errno(), "the tests need FUSE (modprobe fuse) and user namespaces")
os.execv(sys.argv[2], sys.argv[2:])
"#;

/// The exporter, for which the directory `dead` of `files` is on such a mount.
fn command(files: &Files, arguments: &[&str]) -> Command {
    fs::create_dir_all(files.path("dead")).unwrap();
    let mut command = tool("unshare");
    command.args(["--user", "--map-root-user", "--mount", "python3", "-c", MOUNT]);
    command.arg(files.path("dead")).arg(BINARY).args(arguments);
    isolate(&mut command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn stop(mut child: Child) -> Option<i32> {
    signal(child.id().unwrap(), "TERM").await;
    let ended = timeout(STOP_TIME, child.wait()).await;
    ended.unwrap_or_else(|_| panic!("still runs after {STOP_TIME:?}")).unwrap().code()
}

fn source(simulator: &Simulator, secret: &str) -> String {
    let (endpoint, region, key) = (simulator.swr_url(), keys::REGION, keys::SWR_ACCESS_KEY);
    format!(
        "[poll]\ninterval = \"5s\"\n[sources.swr]\nprovider = \"swr\"\nregion = \"{region}\"\n\
         endpoint = \"{endpoint}\"\nauth = {{ access_key = \"{key}\", secret_key_file = \"{secret}\" }}\n"
    )
}

async fn simulator() -> Simulator {
    let mut world = World::empty();
    world.swr.add(Repository::new("group", "busybox"));
    Simulator::start(world).await.unwrap()
}

/// The threads of a process that read files.
fn readers(process: u32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "file").count()
}

fn point(link: &Path, to: &str) {
    let new = link.with_extension("new");
    symlink(to, &new).unwrap();
    fs::rename(new, link).unwrap();
}

#[tokio::test]
async fn a_mount_that_dies_leaves_the_last_secret_in_force_and_costs_one_thread() {
    let simulator = simulator().await;
    let files = Files::with_config("");
    fs::create_dir(files.path("alive")).unwrap();
    fs::write(files.path("alive/key"), keys::SWR_SECRET_KEY).unwrap();
    fs::write(files.path("alive/config.toml"), source(&simulator, "key")).unwrap();
    let now = files.path("now");
    point(&now, "alive");
    let flag = format!("--config.file={}/config.toml", now.display());
    let mut child = command(&files, &[&flag, "--web.listen-address=127.0.0.1:0"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = loop {
        let line = lines.next_line().await.unwrap().expect("a line that says where it listens");
        if let Some(address) = line.split("address=").nth(1).filter(|_| line.contains("listening")) {
            break address.trim_matches('"').parse().unwrap();
        }
    };
    let log = tokio::spawn(async move {
        let mut log = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            log.push(line);
        }
        log
    });
    let polls = || simulator.requests(Call::ListRepositories);
    until("a poll", async || (polls() > 0).then_some(())).await;

    point(&now, "dead");
    let before = polls();
    until("two polls", async || (polls() >= before + 2).then_some(())).await;
    // The configuration is on the same mount.
    for _ in 0..2 {
        let answer = post(address, "/-/reload", "").await;
        assert_eq!(answer.status, 500);
        assert!(text(&answer.body).contains(NO_ANSWER), "{}", text(&answer.body));
        assert_eq!(get(address, "/-/healthy", "").await.status, 200);
    }
    assert_eq!(readers(child.id().unwrap()), 1);
    let page = get(address, "/metrics", "").await;
    assert!(text(&page.body).contains("container_registry_up{source=\"swr\"} 1\n"));
    assert_eq!(stop(child).await, Some(0));
    let log = log.await.unwrap();
    let told = log.iter().filter(|line| line.contains("what it held before") && line.contains(NO_ANSWER));
    assert_eq!(told.count(), 1, "{log:?}");
}

#[tokio::test]
async fn a_mount_that_does_not_answer_at_the_start_is_told_and_a_signal_ends_the_wait() {
    let simulator = simulator().await;
    let files = Files::with_config(&source(&simulator, "dead/key"));
    let in_it = format!("--config.file={}", files.path("dead/config.toml").display());
    let (beside, web) = (files.flag(), format!("--web.config.file={}", files.path("dead/web.yml").display()));
    for (arguments, code) in [
        (&["check", &in_it][..], 143),
        (&["once", &beside], 143),
        (&["check", "--live", &beside], 143),
        (&["serve", &in_it], 0),
        (&["serve", &beside], 0),
        (&["demo", &web], 0),
    ] {
        let child = command(&files, arguments).spawn().unwrap();
        let id = child.id().unwrap();
        // Until the end of the wait, which is longer than this takes.
        until("the wait", async || {
            let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap();
            (name.starts_with("container-reg") && readers(id) == 1).then_some(())
        })
        .await;
        assert_eq!(stop(child).await, Some(code), "{arguments:?}");
    }
    for (arguments, path) in [(["check", &in_it], "dead/config.toml"), (["once", &beside], "dead/key")] {
        let output = command(&files, &arguments).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        let said = text(&output.stderr);
        assert!(said.contains(path) && said.contains(NO_ANSWER), "{said}");
    }
    assert_eq!(simulator.all_requests(), 0);
}

#[tokio::test]
async fn snapshots_on_a_mount_that_does_not_answer_hold_up_neither_polls_nor_the_stop() {
    let simulator = simulator().await;
    let files = Files::with_config("");
    fs::write(files.path("key"), keys::SWR_SECRET_KEY).unwrap();
    let config = format!("[state]\npath = \"dead\"\n{}", source(&simulator, "key"));
    fs::write(files.path("config.toml"), config).unwrap();
    let arguments = [&*files.flag(), "--web.listen-address=127.0.0.1:0"];
    let mut child = command(&files, &arguments).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    tokio::spawn(async move { stderr.read_to_end(&mut Vec::new()).await });
    let polls = || simulator.requests(Call::ListRepositories);
    until("two polls", async || (polls() >= 2).then_some(())).await;
    assert_eq!(stop(child).await, Some(0));
}
