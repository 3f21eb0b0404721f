//! The real binary, started as a user would start it, and plain HTTP to talk to it.

use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use container_registry_exporter::simulator::{Simulator, keys};
use flate2::read::GzDecoder;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// Longest wait for anything that should come; a machine with other work may need some of it.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// From the signal to the end of the process.
const STOP_TIME: Duration = Duration::from_secs(5);
/// Between two looks at something that has no event to wait for.
const PAUSE: Duration = Duration::from_millis(50);

/// The program.
pub const BINARY: &str = env!("CARGO_BIN_EXE_container-registry-exporter");

/// The binary with nothing of the test's own environment, so that nobody's keys or proxies come in.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    isolate(&mut command);
    command
}

/// As [`command`], run by a shell that does `before` first, such as setting its umask.
pub fn command_after(before: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{before}; exec \"$0\" \"$@\""), BINARY]).args(arguments);
    isolate(&mut command);
    command
}

/// Keeps the own environment of the test from a command.
pub fn isolate(command: &mut Command) {
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent");
    command.stdin(Stdio::null()).kill_on_drop(true);
}

/// Runs the binary to its end.
pub async fn run(arguments: &[&str]) -> Output {
    timeout(PATIENCE, command(arguments).output()).await.unwrap().unwrap()
}

/// What a program wrote, as text.
pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A running exporter.
pub struct Program {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Program {
    /// Starts the exporter on a free port and waits until it listens.
    pub async fn start(arguments: &[&str]) -> Self {
        Self::start_after(":", arguments).await
    }

    /// As [`Program::start`], by a shell that does `before` first.
    pub async fn start_after(before: &str, arguments: &[&str]) -> Self {
        let mut arguments = arguments.to_vec();
        arguments.push("--web.listen-address=127.0.0.1:0");
        let mut child = command_after(before, &arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                kept.lock().unwrap().push(line);
            }
        });
        let program = Self { child, log, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let address = until("the line that says where it listens", async || {
            let lines = program.log();
            let line = lines.iter().find(|line| line.contains("listening"))?;
            let from = line.find("127.0.0.1:")?;
            line[from..].trim_end_matches(['"', '}']).split('"').next()?.parse().ok()
        });
        Self { address: address.await, ..program }
    }

    /// The lines of the log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Sends a signal, such as `TERM`.
    pub async fn signal(&self, name: &str) {
        signal(self.id(), name).await;
    }

    /// Sends a signal that stops it, and returns how it ended; fails if that takes too long.
    pub async fn stop(&mut self, signal: &str) -> ExitStatus {
        self.signal(signal).await;
        let ended = timeout(STOP_TIME, self.child.wait()).await;
        ended.unwrap_or_else(|_| panic!("still runs {STOP_TIME:?} after SIG{signal}")).unwrap()
    }

    /// An answer of status 200, as text.
    pub async fn get(&self, path: &str) -> String {
        let answer = get(self.address, path, "").await;
        assert_eq!(answer.status, 200, "{path}");
        text(&answer.body).to_owned()
    }

    /// Waits until a line of the metrics begins with `start`, and returns the rest of it.
    pub async fn sample(&self, start: &str) -> String {
        until(start, async || {
            let page = self.get("/metrics").await;
            page.lines().find_map(|line| line.strip_prefix(start)).map(|rest| rest.trim().to_owned())
        })
        .await
    }
}

/// Sends a signal, such as `TERM`, to a process.
pub async fn signal(process: u32, name: &str) {
    let kill = format!("kill -{name} {process}");
    assert!(Command::new("sh").args(["-c", &kill]).status().await.unwrap().success());
}

/// An answer to an HTTP request.
pub struct Answer {
    pub status: u16,
    /// The lines of the head, in lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body of an answer that is compressed.
    pub fn unzipped(&self) -> String {
        assert!(self.head.contains("content-encoding: gzip"), "{}", self.head);
        let mut text = String::new();
        GzDecoder::new(&self.body[..]).read_to_string(&mut text).unwrap();
        text
    }
}

/// Asks for a path, with further header lines that end in `\r\n`.
pub async fn get(address: SocketAddr, path: &str, headers: &str) -> Answer {
    try_get(address, path, headers).await.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// As [`get`], to change something.
pub async fn post(address: SocketAddr, path: &str, headers: &str) -> Answer {
    try_ask(address, "POST", path, headers).await.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// As [`get`]; nobody may listen yet.
pub async fn try_get(address: SocketAddr, path: &str, headers: &str) -> std::io::Result<Answer> {
    try_ask(address, "GET", path, headers).await
}

/// HTTP/1.0, so that the body comes whole and ends with the connection.
async fn try_ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("{method} {path} HTTP/1.0\r\nHost: test\r\n{headers}\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap()?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head and a body");
    let head = text(&answer[..end]).to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Answer { status, head, body: answer[end + 4..].to_vec() })
}

/// Waits until `look` finds something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(found) = look().await {
            return found;
        }
        sleep(PAUSE).await;
    }
    panic!("waited {PATIENCE:?} in vain for: {what}");
}

/// A directory with a configuration, and other files of a test.
pub struct Files(TempDir);

impl Files {
    /// Writes `config.toml`.
    pub fn with_config(config: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        fs::write(files.path("config.toml"), config).unwrap();
        files
    }

    /// A file here, there or not.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The flag that names the configuration.
    pub fn flag(&self) -> String {
        format!("--config.file={}", self.path("config.toml").display())
    }

    /// The names of all files here, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir::<&Path>(self.0.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// The configuration of a source `swr` that reads the simulator; `more` are further keys.
pub fn swr(simulator: &Simulator, more: &str) -> String {
    format!(
        "[sources.swr]\nprovider = \"swr\"\nregion = \"{}\"\nendpoint = \"{}\"\n{more}\n\
         auth = {{ access_key = \"{}\", secret_key = \"{}\" }}\n",
        keys::REGION,
        simulator.swr_url(),
        keys::SWR_ACCESS_KEY,
        keys::SWR_SECRET_KEY
    )
}

/// The configuration of a source `ncr` that reads the simulator.
pub fn ncr(simulator: &Simulator) -> String {
    format!(
        "[sources.ncr]\nprovider = \"ncr\"\nregion = \"KR\"\nendpoint = \"{}\"\n\
         auth = {{ access_key = \"{}\", secret_key = \"{}\" }}\n",
        simulator.ncr_url(),
        keys::NCR_ACCESS_KEY,
        keys::NCR_SECRET_KEY
    )
}

/// A program of Debian by its name; its absence fails the test and says what to do.
pub fn tool(name: &str) -> Command {
    let found = ["/usr/bin", "/usr/local/bin"].map(|directory| Path::new(directory).join(name));
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = found.into_iter().chain(std::env::split_paths(&on_path).map(|path| path.join(name)));
    let found = found.find(|path| path.is_file());
    let path = found.unwrap_or_else(|| panic!("{name} is missing; tests/tools installs what the tests need"));
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The directory in which `tests/tools` has installed what is not from Debian.
pub fn tools() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("tools")
}

/// Python with the packages that the tests need; its absence fails the test and says what to do.
pub fn python() -> Command {
    let path = tools().join("python/bin/python");
    assert!(path.is_file(), "{} is missing; tests/tools makes it", path.display());
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// What promtool says about a page; silence is good.
pub async fn promtool_check_metrics(page: &[u8]) -> String {
    let mut promtool = tool("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(page).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let said = text(&output.stdout).to_owned() + text(&output.stderr);
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}
