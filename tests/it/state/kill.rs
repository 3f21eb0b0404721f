//! The program itself, killed at any moment: the next start finds the old snapshot or the new one.
//!
//! `CRE_TEST_KILLS=100` goes on until so many kills fell inside a write, which takes minutes; the file that was being
//! written tells, because only a process that was killed leaves it behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use container_registry_exporter::config::Config;
use container_registry_exporter::simulator::{Call, Simulator, World};
use container_registry_exporter::state::decode::decode;
use container_registry_exporter::state::identity::identity;
use tokio::task::block_in_place;

use super::files::config_text;

/// Kills in the ordinary run.
const KILLS: u32 = 8;

/// The simulated list takes so long, so that there is time to see what a restart shows before it.
const LIST_TAKES: Duration = Duration::from_millis(150);

/// The program, killed when dropped.
struct Program {
    child: Child,
    address: SocketAddr,
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Program {
    fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_container-registry-exporter"))
            .args(["--web.listen-address", "127.0.0.1:0", "--config.file"])
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let listening = log.by_ref().map(Result::unwrap).find(|line| line.contains("listening")).unwrap();
        let address = listening.split_whitespace().find_map(|field| field.strip_prefix("address="));
        let address = address.unwrap().trim_matches('"').parse().unwrap();
        thread::spawn(move || {
            for line in log.map_while(Result::ok) {
                assert!(!line.contains("the snapshot is not"), "{line}");
            }
        });
        Self { child, address }
    }

    fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The page once it shows repositories.
    fn first_page(&self) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            let page = self.metrics();
            if page.contains("\ncontainer_registry_repository_downloads{") {
                return page;
            }
        }
        panic!("nothing is shown");
    }
}

/// The downloads on a page: one number, since every repository has the round's number.
fn round_on(page: &str, repositories: usize) -> u64 {
    let lines = page.lines().filter(|l| l.starts_with("container_registry_repository_downloads{"));
    let values: Vec<&str> = lines.map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(values.len(), repositories);
    assert_eq!(values.iter().collect::<BTreeSet<_>>().len(), 1, "rounds are mixed");
    values[0].parse().unwrap()
}

/// xorshift: the same moments in every run, as far as the machine lets it.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// The files that are being written, or were when the program was killed.
fn unfinished(state: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(state) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|e| e == "tmp")).collect()
}

/// Waits for a random moment: any one within a second, or one close to a write.
fn random_moment(seed: &mut u64, state: &Path) {
    if random(seed).is_multiple_of(4) {
        thread::sleep(Duration::from_millis(random(seed) % 1000));
        return;
    }
    let end = Instant::now() + Duration::from_secs(20);
    while unfinished(state).is_empty() && Instant::now() < end {
        thread::yield_now();
    }
    thread::sleep(Duration::from_micros(random(seed) % 2000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_leaves_the_old_snapshot_or_the_new_one() {
    const REPOSITORIES: u32 = 200;
    let wanted = std::env::var("CRE_TEST_KILLS").ok().map(|kills| kills.parse::<u32>().unwrap());
    let mut world = World::uniform(REPOSITORIES, 3);
    world.latency_of.insert(Call::ListRepositories, LIST_TAKES);
    let simulator = Simulator::start(world).await.unwrap();
    let directory = tempfile::TempDir::new().unwrap();
    let state = directory.path().join("state");
    let text = config_text(&simulator, &state, "").replace("\"1h\"", "\"1s\"");
    let path = directory.path().join("config.toml");
    fs::write(&path, &text).unwrap();
    let config = Config::parse(&text, directory.path(), &BTreeMap::new()).unwrap();
    let identity = identity(&config.sources[0]);
    block_in_place(|| {
        let mut seed = 0x9e37_79b9_7f4a_7c15;
        let (mut kills, mut within, mut new, mut shown_again) = (0, 0, 0, 0);
        // What the snapshot on disk holds.
        let (mut kept, mut left) = (None, Vec::<PathBuf>::new());
        let mut round = 0;
        while kills < KILLS || wanted.is_some_and(|wanted| within < wanted) {
            round += 1;
            simulator.edit(|world| {
                for repository in world.swr.repositories.values_mut() {
                    repository.downloads = i64::try_from(round).unwrap();
                }
            });
            let program = Program::start(&path);
            let page = program.first_page();
            assert!(!left.iter().any(|file| file.exists()), "what the last kill left is cleared away");
            let shown = round_on(&page, REPOSITORIES as usize);
            if page.contains("\ncontainer_registry_up{") {
                assert_eq!(shown, round);
            } else {
                assert_eq!(Some(shown), kept, "the page of a restart is the snapshot");
                shown_again += 1;
            }
            random_moment(&mut seed, &state);
            drop(program);
            kills += 1;
            left = unfinished(&state);
            assert!(left.len() <= 1, "two writes at once");
            within += u32::try_from(left.len()).unwrap();
            if let Ok(bytes) = fs::read(state.join("swr.snapshot")) {
                let memory = decode(&bytes, &identity).expect("a whole snapshot");
                let rows = memory.repositories.unwrap().listings.remove(0).rows;
                let rounds: BTreeSet<_> = rows.iter().map(|row| row.repository.downloads).collect();
                assert_eq!((rows.len(), rounds.len()), (REPOSITORIES as usize, 1));
                let found = rounds.into_iter().next().unwrap();
                assert!(found == Some(round) || found == kept, "{found:?} is neither {kept:?} nor {round}");
                new += u32::from(found == Some(round));
                kept = found;
            } else {
                assert_eq!(kept, None, "the old snapshot is gone");
            }
        }
        println!(
            "{kills} kills, {within} within a write, {new} left the new snapshot, {shown_again} restarts showed it before their first poll"
        );
    });
}
