//! The log, while whoever reads it stands still: a real pipe that is full and that nobody reads.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, BufReader, PipeReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use container_registry_exporter::simulator::{Call, Fault, Repository, Simulator, World};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::program::{Files, PATIENCE, command, command_after, get, post, signal, swr, until};

/// From the signal to the end of the process.
const STOP_TIME: Duration = Duration::from_secs(5);
/// As in Linux's `fcntl.h`.
const O_NONBLOCK: i32 = 0o4000;
const FILLER: &[u8] = b"nobody reads this\n";

/// A program whose stderr is a pipe that is full and that nobody reads.
struct Unread {
    child: Child,
    stderr: PipeReader,
}

impl Unread {
    fn start(mut command: Command) -> Self {
        let (stderr, writer) = io::pipe().unwrap();
        // Opened once more, so that what the program writes to still blocks.
        let again = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let mut again = OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(again).unwrap();
        while again.write(FILLER).is_ok() {}
        while again.write(b"\n").is_ok() {}
        let child = command.stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
        Self { child, stderr }
    }

    /// Starts the exporter, and says where it listens.
    fn serve(arguments: &[&str]) -> (Self, SocketAddr) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let before = "export LISTEN_FDS=1 LISTEN_PID=$$; exec 3<&0 0</dev/null";
        let mut command = command_after(before, &[arguments, &["--web.systemd-socket"]].concat());
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(socket)));
        (Self::start(command), address)
    }

    /// Waits for its end, which must come soon; its status and what it printed on stdout.
    async fn end(&mut self) -> (ExitStatus, String) {
        let mut printed = String::new();
        let mut stdout = self.child.stdout.take().unwrap();
        let ended = timeout(STOP_TIME, async {
            stdout.read_to_string(&mut printed).await.unwrap();
            self.child.wait().await.unwrap()
        });
        let status = ended.await.unwrap_or_else(|_| panic!("still runs after {STOP_TIME:?}"));
        (status, printed)
    }

    async fn stop(&mut self, name: &str) -> ExitStatus {
        signal(self.child.id().unwrap(), name).await;
        self.end().await.0
    }
}

async fn simulator() -> Simulator {
    let mut world = World::empty();
    world.swr.add(Repository::new("group", "busybox"));
    Simulator::start(world).await.unwrap()
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing_and_loses_lines_that_are_counted() {
    let simulator = simulator().await;
    for format in ["logfmt", "json"] {
        let files = Files::with_config(&swr(&simulator, ""));
        let arguments = [&files.flag(), &format!("--log.format={format}")];
        let (mut program, address) = Unread::serve(&arguments.map(String::as_str));
        let dropped = async || {
            let page = get(address, "/metrics", "").await;
            let page = String::from_utf8(page.body).unwrap();
            let start = "container_registry_exporter_log_lines_dropped_total ";
            page.lines().find_map(|line| line.strip_prefix(start)).map(|n| n.parse::<u64>().unwrap())
        };
        until("the counter", async || dropped().await.filter(|number| *number == 0)).await;
        // Each reload that fails is a line of some 40 kB.
        let broken: Vec<String> = (0..500).map(|number| format!("[sources.swr-{number}]\n")).collect();
        let broken = broken.concat();
        fs::write(files.path("config.toml"), broken).unwrap();
        let mut reloads = 0;
        let lost = until("lines that are dropped", async || {
            assert_eq!(post(address, "/-/reload", "").await.status, 500);
            reloads += 1;
            assert_eq!(get(address, "/-/healthy", "").await.status, 200);
            dropped().await.filter(|number| *number > 0)
        });
        lost.await;

        let stderr = BufReader::new(program.stderr.try_clone().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || stderr.lines().for_each(|line| kept.lock().unwrap().push(line.unwrap())));
        let told = until("the line that tells", async || {
            log.lock().unwrap().iter().find(|line| line.contains("lines were dropped")).cloned()
        })
        .await;
        let number = told.split("lines_dropped").nth(1).unwrap();
        let number = number.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty()).unwrap();
        let written = log.lock().unwrap().iter().filter(|line| line.contains("not reloaded")).count();
        assert_eq!(written + number.parse::<usize>().unwrap(), reloads, "{format}: {told}");
        assert_eq!(program.stop("TERM").await.code(), Some(0));
    }
}

#[tokio::test]
async fn a_signal_stops_the_exporter_whose_log_nobody_reads() {
    for name in ["TERM", "INT"] {
        let (mut program, address) = Unread::serve(&["demo"]);
        until("the exporter", async || {
            let answer = timeout(STOP_TIME, get(address, "/-/healthy", "")).await.expect("an answer");
            (answer.status == 200).then_some(())
        })
        .await;
        assert_eq!(program.stop(name).await.code(), Some(0), "{name}");
    }
}

#[tokio::test]
async fn commands_whose_log_nobody_reads_come_to_their_end_and_print_nothing_else() {
    let simulator = simulator().await;
    let (good, bad) =
        (Files::with_config(&swr(&simulator, "")), Files::with_config("[poll]\ninterval = 3\n"));
    let (good, bad) = (good.flag(), bad.flag());
    simulator.fault(Call::ListTags, Fault::Html);
    for (arguments, code, on_stdout) in [
        (&["once", "--log.level=trace", &good][..], 0, "# HELP"),
        (&["check", "--live", "--log.level=trace", &good], 1, "swr: failed"),
        (&["check", &good], 0, "ok"),
        (&["check", &bad], 2, ""),
        (&["once", &bad], 2, ""),
        (&["serve", &bad], 2, ""),
        (&["--no-such-flag"], 2, ""),
    ] {
        let (status, printed) = Unread::start(command(arguments)).end().await;
        assert_eq!(status.code(), Some(code), "{arguments:?}");
        assert!(printed.starts_with(on_stdout), "{arguments:?}: {printed}");
        assert_eq!(printed.is_empty(), on_stdout.is_empty(), "{arguments:?}: {printed}");
        let foreign = printed.lines().find(|line| line.contains("level=") || line.contains("log"));
        assert_eq!(foreign, None, "{arguments:?}");
    }
}

#[tokio::test]
async fn a_pipe_that_somebody_made_not_to_block_gets_every_line() {
    let bad: Vec<String> = (0..800).map(|number| format!("[sources.Bad{number}]\n")).collect();
    let files = Files::with_config(&bad.concat());
    let (mut stderr, writer) = io::pipe().unwrap();
    // The mode belongs to what is shared with the program.
    let shared = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let shared = OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(shared).unwrap();
    drop(writer);
    let mut child = command(&["check", &files.flag()]).stderr(shared).spawn().unwrap();
    let reader = std::thread::spawn(move || {
        // Byte by byte, so that the program is faster.
        let mut text = Vec::new();
        let mut byte = [0];
        while stderr.read(&mut byte).unwrap() > 0 {
            text.push(byte[0]);
        }
        String::from_utf8(text).unwrap()
    });
    assert_eq!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().code(), Some(2));
    let text = reader.join().unwrap();
    assert!(text.len() > 70_000 && text.contains("Bad799"), "{} bytes", text.len());
}
