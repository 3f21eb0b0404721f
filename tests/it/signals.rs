//! Signals that end a command, wherever it is and also where it is the first process of a container, which no signal
//! kills by itself.

use std::fs;
use std::process::{Output, Stdio};
use std::time::Duration;

use container_registry_exporter::simulator::{Call, Fault, Repository, Simulator, Tag, World};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::time::timeout;

use crate::program::{BINARY, Files, isolate, signal, swr, text, tool, until};

/// From the signal to the end of the process.
const STOP_TIME: Duration = Duration::from_secs(5);

async fn simulator() -> Simulator {
    let mut world = World::empty();
    world.swr.add(Repository::new("group", "busybox").with_tag(Tag::new("v1", 1)));
    Simulator::start(world).await.unwrap()
}

/// The exporter as process 1 of a namespace of its own.
struct First(Child);

impl First {
    fn start(arguments: &[&str]) -> Self {
        let mut command = tool("unshare");
        command.args([
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            BINARY,
        ]);
        command.args(arguments);
        isolate(&mut command);
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Its number outside of its namespace.
    async fn id(&self) -> u32 {
        let outer = self.0.id().unwrap();
        let children = format!("/proc/{outer}/task/{outer}/children");
        until("the process", async || fs::read_to_string(&children).ok()?.trim().parse().ok()).await
    }

    async fn stop(self, name: &str) -> Output {
        signal(self.id().await, name).await;
        let ended = timeout(STOP_TIME, self.0.wait_with_output()).await;
        ended.unwrap_or_else(|_| panic!("still runs {STOP_TIME:?} after SIG{name}")).unwrap()
    }
}

const CASES: [(&str, i32); 2] = [("TERM", 143), ("INT", 130)];

#[tokio::test]
async fn a_signal_ends_once_and_check_live_as_the_first_process_and_nothing_half_is_left() {
    for (call, arguments) in [
        (Call::ListRepositories, &["once"][..]),
        (Call::ListTags, &["once", "--output"]),
        (Call::ListRepositories, &["check", "--live"]),
        (Call::ListTags, &["check", "--live"]),
    ] {
        for (name, code) in CASES {
            let simulator = simulator().await;
            simulator.fault(call, Fault::Hang);
            let files = Files::with_config(&swr(&simulator, ""));
            let (flag, file) = (files.flag(), files.path("registry.prom"));
            fs::write(&file, "old").unwrap();
            let file_name = file.to_str().filter(|_| arguments.contains(&"--output"));
            let arguments: Vec<&str> = arguments.iter().copied().chain(file_name).chain([&*flag]).collect();
            let program = First::start(&arguments);
            until("the call", async || (simulator.requests(call) > 0).then_some(())).await;
            let output = program.stop(name).await;
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
            assert_eq!(text(&output.stdout), "", "{arguments:?}");
            assert_eq!(fs::read_to_string(&file).unwrap(), "old");
            assert_eq!(files.names(), ["config.toml", "registry.prom"]);
        }
    }
}

#[tokio::test]
async fn a_signal_ends_the_exporter_as_the_first_process_with_0() {
    let simulator = simulator().await;
    let files = Files::with_config(&swr(&simulator, ""));
    let flag = files.flag();
    for arguments in [&["serve", &flag][..], &["demo"]] {
        for (name, _) in CASES {
            let mut program = First::start(&[arguments, &["--web.listen-address=127.0.0.1:0"]].concat());
            let mut lines = BufReader::new(program.0.stderr.take().unwrap()).lines();
            while !lines.next_line().await.unwrap().unwrap().contains("listening") {}
            tokio::spawn(async move { while lines.next_line().await.unwrap().is_some() {} });
            let output = program.stop(name).await;
            assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        }
    }
}

#[tokio::test]
async fn a_signal_ends_what_waits_for_a_reader_of_stdout() {
    // Several hundred kilobytes, of which a pipe takes 64.
    let simulator = Simulator::start(World::uniform(500, 0)).await.unwrap();
    let files = Files::with_config(&swr(&simulator, "shared = []\ntags = { enabled = false }"));
    for (name, code) in CASES {
        let before = simulator.all_requests();
        let program = First::start(&["once", &files.flag()]);
        until("a poll", async || (simulator.all_requests() > before).then_some(())).await;
        let id = program.id().await;
        // Its stdout is not read before it has ended.
        until_it_waits(id, "pipe_write").await;
        signal(id, name).await;
        let mut child = program.0;
        let status = timeout(STOP_TIME, child.wait()).await.expect("it ends").unwrap();
        assert_eq!(status.code(), Some(code));
    }
}

#[tokio::test]
async fn a_signal_ends_what_waits_for_the_reader_of_a_named_pipe() {
    for (name, code) in CASES {
        let simulator = simulator().await;
        let files = Files::with_config(&swr(&simulator, ""));
        let pipe = files.path("pipe");
        assert!(tool("mkfifo").arg(&pipe).status().await.unwrap().success());
        let program = First::start(&["once", &files.flag(), "--output", pipe.to_str().unwrap()]);
        let id = program.id().await;
        until_it_waits(id, "wait_for_partner").await;
        let output = program.stop(name).await;
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert_eq!(files.names(), ["config.toml", "pipe"]);
    }
}

/// Waits until a thread of a process waits in a function of the system whose name contains `place`.
async fn until_it_waits(process: u32, place: &str) {
    until(place, async || {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).ok()?;
        let mut waits = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("wchan")).ok());
        waits.any(|function| function.contains(place)).then_some(())
    })
    .await;
}
