//! Clients that are too many, too slow or too big: a scraper gets its pages throughout, and nothing of it stays.

mod scraper;

use std::fs;
use std::future::pending;
use std::net::SocketAddr;
use std::process::Stdio;

use container_registry_exporter::simulator::{Repository, Simulator, World};
use futures_util::future::join_all;
use regex::Regex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::program::{Files, PATIENCE, Program, get, promtool_check_metrics, swr, text, tool, until};
use scraper::Scraper;

/// More than the exporter has places for.
const CROWD: usize = 1100;
/// Enough for all tests here at once, both ends of the simulators' connections included.
const DESCRIPTORS: u32 = 10_000;
/// Connections to the cloud, which come and go.
const CLOUD_DESCRIPTORS: usize = 12;
/// What is on every page.
const UP: &str = "container_registry_up{source=\"swr\"} 1";
const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n";

/// The exporter, polling a simulated cloud, and a scraper.
struct Scene {
    program: Program,
    scraper: Scraper,
    descriptors: usize,
    _simulator: Simulator,
    _files: Files,
}

impl Scene {
    async fn new() -> Self {
        let mut world = World::empty();
        world.swr.add(Repository::new("group", "busybox"));
        Self::with(world, "1s", "ulimit -Sn 4096").await
    }

    /// A poll at each `interval`; `before` is what a shell does first.
    async fn with(world: World, interval: &str, before: &str) -> Self {
        raise_own_limit().await;
        let simulator = Simulator::start(world).await.unwrap();
        let poll = format!("[poll]\ninterval = \"{interval}\"\nrequests_per_second = 0\n");
        let tags = "tags = { enabled = false }\nshared = []";
        let files = Files::with_config(&format!("{poll}{}", swr(&simulator, tags)));
        let program = Program::start_after(before, &[&files.flag()]).await;
        assert_eq!(program.sample("container_registry_up{source=\"swr\"}").await, "1");
        let descriptors = descriptors(&program);
        let mut scraper = Scraper::start(program.address, UP);
        scraper.scrapes(1).await;
        Self { program, scraper, descriptors, _simulator: simulator, _files: files }
    }

    /// Connects as often as said, without a word.
    async fn crowd(&self, size: usize) -> Vec<TcpStream> {
        let mut crowd = Vec::new();
        for _ in 0..size {
            crowd.push(connect(self.program.address).await);
        }
        crowd
    }

    /// Waits for scrapes on the connection from before and on a new one.
    async fn scrapes(&mut self, more: u32) {
        Scraper::start(self.program.address, UP).scrapes(more).await;
        self.scraper.scrapes(more).await;
    }

    /// Once the attackers are gone: everything is as before, and the exporter stops when told to.
    async fn recovers(self) {
        let most = self.descriptors + CLOUD_DESCRIPTORS;
        until("the end of all connections", async || (descriptors(&self.program) <= most).then_some(()))
            .await;
        let before = self.polls().await;
        until("a poll", async || (self.polls().await > before).then_some(())).await;
        let page = self.program.get("/metrics").await;
        assert!(page.lines().any(|line| line == UP));
        assert_eq!(promtool_check_metrics(page.as_bytes()).await, "");
        self.stops().await;
    }

    /// The exporter stops when told to, in time, and never panicked.
    async fn stops(mut self) {
        drop(self.scraper);
        assert_eq!(self.program.stop("TERM").await.code(), Some(0));
        let log = self.program.log();
        assert!(!log.iter().any(|line| line.contains("panicked")), "{log:?}");
        // Each reload is worth a line.
        let lines = log.iter().filter(|line| !line.contains("reload")).count();
        assert!(lines < 50, "the log is flooded: {log:?}");
    }

    /// Good polls so far.
    async fn polls(&self) -> f64 {
        let of = |family| {
            format!("container_registry_exporter_{family}{{collector=\"repositories\",source=\"swr\"")
        };
        let polls = self.program.sample(&of("polls_total")).await;
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        let page = self.program.get("/metrics").await;
        let failures = page.lines().filter(|line| line.starts_with(&of("poll_failures_total")));
        value(&polls) - failures.map(value).sum::<f64>()
    }
}

/// A connection that takes few bytes without being read.
async fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    timeout(PATIENCE, socket.connect(address)).await.unwrap().unwrap()
}

/// Sets the soft limit of descriptors of a process.
async fn limit_descriptors(process: u32, most: u32) {
    let status = Command::new("prlimit")
        .args([format!("--pid={process}"), format!("--nofile={most}:")])
        .stdin(Stdio::null())
        .status()
        .await
        .expect("prlimit is missing; run: apt-get install -y util-linux");
    assert!(status.success(), "the hard limit of descriptors is below {most}; raise it with ulimit -Hn");
}

async fn raise_own_limit() {
    use procfs::process::{LimitValue, Process};
    let limit = Process::myself().unwrap().limits().unwrap().max_open_files.soft_limit;
    if matches!(limit, LimitValue::Value(most) if most < DESCRIPTORS.into()) {
        limit_descriptors(std::process::id(), DESCRIPTORS).await;
    }
}

fn descriptors(program: &Program) -> usize {
    fs::read_dir(format!("/proc/{}/fd", program.id())).unwrap().count()
}

fn resident_bytes(program: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// What the system holds of the exporter's connections, as `ss` tells: what was received, what is to be sent, and what is
/// set aside for both.
async fn system_bytes(program: &Program) -> u64 {
    let port = format!("sport = :{}", program.address.port());
    let output = tool("ss").args(["-Htmn", &port]).output().await.unwrap();
    let memory = Regex::new(r"skmem:\(r(\d+),rb\d+,t\d+,tb\d+,f(\d+),w(\d+)").unwrap();
    let of =
        |found: regex::Captures<'_>| (1..=3).map(|group| found[group].parse::<u64>().unwrap()).sum::<u64>();
    memory.captures_iter(text(&output.stdout)).map(of).sum()
}

/// The status of an answer, 0 if the connection ended without one.
async fn status(stream: &mut (impl AsyncRead + Unpin)) -> u16 {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n")
        && let Ok(byte) = timeout(PATIENCE, stream.read_u8()).await.expect("an answer or an end")
    {
        line.push(byte);
    }
    let line = String::from_utf8(line).unwrap();
    line.split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
}

#[tokio::test]
async fn connections_that_ask_for_nothing_give_way() {
    let mut scene = Scene::new().await;
    let mut crowd = scene.crowd(CROWD).await;
    scene.scrapes(5).await;
    assert_eq!(status(&mut crowd[0]).await, 0, "the oldest was closed");
    crowd.extend(scene.crowd(CROWD).await);
    scene.scrapes(5).await;
    drop(crowd);
    scene.recovers().await;
}

#[tokio::test]
async fn readers_that_stand_still_give_way_and_share_one_page() {
    const PAGE_BYTES: usize = 15_000_000;
    let mut world = World::empty();
    for number in 0..8000 {
        world.swr.add(Repository::new("group", &format!("{}-{number}", "x".repeat(200))));
    }
    let mut scene = Scene::with(world, "15s", "ulimit -Sn 4096").await;
    let page = scene.program.get("/metrics").await;
    assert!(page.len() > PAGE_BYTES, "{}", page.len());
    let before = resident_bytes(&scene.program);
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut reader = connect(scene.program.address).await;
        reader.write_all(REQUEST).await.unwrap();
        crowd.push(reader);
    }
    scene.scrapes(3).await;
    assert_eq!(status(crowd.last_mut().unwrap()).await, 200);
    let grown = resident_bytes(&scene.program).saturating_sub(before);
    let held = system_bytes(&scene.program).await;
    assert!(held > 0 && grown + held < 64_000_000, "{grown} bytes more in the process, {held} in the system");
    drop(crowd);
    scene.recovers().await;
}

#[tokio::test]
async fn writers_that_never_finish_a_request_give_way() {
    let mut scene = Scene::new().await;
    let mut crowd = scene.crowd(CROWD).await;
    for byte in REQUEST[..20].chunks(1) {
        for writer in &mut crowd {
            // It may have been closed.
            let _ = writer.write_all(byte).await;
        }
    }
    scene.scrapes(5).await;
    assert_eq!(status(&mut crowd[0]).await, 0, "the oldest was closed");
    drop(crowd);
    scene.recovers().await;
}

#[tokio::test]
async fn requests_that_are_too_big_are_refused_or_their_bodies_left_unread() {
    let mut scene = Scene::new().await;
    let many_lines = "X: x\r\n".repeat(200);
    let head = |line: &str, more: &str| format!("{line} HTTP/1.1\r\nHost: test\r\n{more}\r\n");
    let big = "x".repeat(1_000_000);
    for (request, expected) in [
        (head(&format!("GET /{}", &big[..70_000]), ""), &[431, 414][..]),
        (head(&format!("GET /metrics?source={}", &big[..16_000]), ""), &[404]),
        (head("GET /metrics", &format!("X: {big}\r\n")), &[431]),
        (head("GET /metrics", &many_lines), &[431]),
        (head("GET /metrics", "Content-Length: 1000000000000\r\n") + &big, &[200]),
        (head("GET /metrics", "Content-Length: -1\r\n"), &[400]),
        (head("POST /metrics", "Transfer-Encoding: chunked\r\n") + "f4240\r\n" + &big, &[405]),
        (head("POST /-/reload", "Content-Length: 1000000000000\r\n") + &big, &[200, 500]),
        (head("POST /-/reload", "Expect: 100-continue\r\nContent-Length: 5\r\n"), &[200, 500]),
        (big.clone(), &[400, 431]),
    ] {
        let mut flood = JoinSet::new();
        for _ in 0..20 {
            let (request, address) = (request.clone(), scene.program.address);
            flood.spawn(async move {
                let mut client = connect(address).await;
                let (mut reader, mut writer) = client.split();
                // The answer may come, and the connection end, before all is written.
                let write = async {
                    let _ = writer.write_all(request.as_bytes()).await;
                    pending().await
                };
                tokio::select! {
                    status = status(&mut reader) => status,
                    never = write => never,
                }
            });
        }
        let answers = flood.join_all().await;
        assert!(answers.iter().all(|answer| expected.contains(answer)), "{}: {answers:?}", &request[..20]);
        scene.scrapes(1).await;
    }
    scene.recovers().await;
}

#[tokio::test]
async fn clients_that_leave_in_the_middle_leave_nothing_behind() {
    let mut scene = Scene::new().await;
    for request in [&REQUEST[..0], &REQUEST[..10], REQUEST, &REQUEST.repeat(50)] {
        let mut crowd = scene.crowd(200).await;
        let sent = crowd.iter_mut().map(|client| client.write_all(request));
        assert!(join_all(sent).await.iter().all(Result::is_ok));
        // Half of them close one direction, and then the other without having read.
        let halves = crowd.iter_mut().step_by(2).map(|client| client.shutdown());
        assert!(join_all(halves).await.iter().all(Result::is_ok));
        scene.scrapes(1).await;
    }
    scene.recovers().await;
}

#[tokio::test]
async fn clients_get_half_of_the_descriptors_and_polls_go_on() {
    let mut world = World::empty();
    world.swr.add(Repository::new("group", "busybox"));
    let mut scene = Scene::with(world, "1s", "ulimit -n 64").await;
    let crowd = scene.crowd(300).await;
    let before = scene.polls().await;
    until("a poll", async || (scene.polls().await > before + 1.0).then_some(())).await;
    scene.scrapes(5).await;
    assert!(descriptors(&scene.program) < 64);
    let refused = scene.program.log().into_iter().find(|line| line.contains("cannot accept"));
    assert_eq!(refused, None);
    drop(crowd);
    scene.recovers().await;
}

#[tokio::test]
async fn connections_are_given_up_when_no_descriptor_is_left() {
    let mut scene = Scene::new().await;
    let crowd = scene.crowd(300).await;
    scene.scrapes(2).await;
    // Fewer than are open: every accept fails until enough were closed.
    limit_descriptors(scene.program.id(), 64).await;
    let more = scene.crowd(300).await;
    assert_eq!(get(scene.program.address, "/-/healthy", "").await.status, 200);
    scene.scrapes(5).await;
    assert!(descriptors(&scene.program) <= 64);
    let told = scene.program.log().iter().filter(|line| line.contains("too many connections")).count();
    assert_eq!(told, 1, "{:?}", scene.program.log());
    drop((crowd, more));
    scene.recovers().await;
}

#[tokio::test]
async fn a_flood_of_reloads_stops_nothing() {
    let mut scene = Scene::new().await;
    let mut flood = JoinSet::new();
    for _ in 0..8 {
        let address = scene.program.address;
        flood.spawn(async move {
            loop {
                let mut client = connect(address).await;
                client.write_all(b"POST /-/reload HTTP/1.0\r\n\r\n").await.unwrap();
                assert!([200, 500].contains(&status(&mut client).await));
            }
        });
    }
    scene.scrapes(5).await;
    let before = scene.polls().await;
    until("a poll", async || (scene.polls().await > before).then_some(())).await;
    flood.shutdown().await;
    scene.recovers().await;
}

#[tokio::test]
async fn a_crowd_of_every_kind_does_not_hold_up_the_stop() {
    let mut scene = Scene::new().await;
    let mut crowd = scene.crowd(900).await;
    for (number, client) in crowd.iter_mut().enumerate() {
        let request = [&REQUEST[..0], &REQUEST[..20], REQUEST][number % 3];
        client.write_all(request).await.unwrap();
    }
    scene.scrapes(1).await;
    scene.stops().await;
}
