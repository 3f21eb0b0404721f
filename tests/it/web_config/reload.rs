//! Files that change while the exporter runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use container_registry_exporter::server::WebConfigFile;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use super::{curl, https, pem, tls};
use crate::program::{PATIENCE, Program, until};
use crate::support::assert_no_secret;

const PASSWORD: &str = "looking-glass-password";
const OTHER_PASSWORD: &str = "another-secret-password";

/// An exporter whose certificate is mounted as Kubernetes mounts a secret, and whose only user is `alice`.
struct Scene {
    program: Program,
    directory: TempDir,
}

impl Scene {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        mount(directory.path(), "server");
        for name in ["tls.crt", "tls.key"] {
            symlink(format!("..data/{name}"), path(name)).unwrap();
        }
        replace(&path("web.yml"), &config(PASSWORD));
        let flag = format!("--web.config.file={}", path("web.yml").display());
        let program = Program::start(&["demo", "--log.level=trace", &flag]).await;
        Self { program, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn status(&self, password: &str) -> u16 {
        let user = format!("alice:{password}");
        https(self.program.address, "/-/healthy", &["--user", &user]).await.status
    }

    /// Waits until a password comes in.
    async fn admits(&self, password: &str) {
        until("the new password", async || (self.status(password).await == 200).then_some(())).await;
    }

    fn logged(&self, part: &str) -> usize {
        self.program.log().iter().filter(|line| line.contains(part)).count()
    }

    async fn warned(&self, part: &str) {
        until(part, async || (self.logged(part) > 0).then_some(())).await;
    }

    /// The certificate that the server shows, in PEM form.
    async fn certificate(&self) -> String {
        let command = format!("openssl s_client -connect {} </dev/null | openssl x509", self.program.address);
        let output = Command::new("sh").args(["-c", &command]).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

fn config(password: &str) -> String {
    let hash = bcrypt::hash(password, 4).unwrap();
    format!(
        "tls_server_config:\n  cert_file: tls.crt\n  key_file: tls.key\nbasic_auth_users:\n  alice: {hash}\n"
    )
}

/// Replaces a file in one step.
fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, path).unwrap();
}

/// Puts a certificate of the tests, and its key, behind the link `..data`.
fn mount(directory: &Path, name: &str) {
    let path = |name: &str| directory.join(name);
    fs::create_dir(path(name)).unwrap();
    fs::copy(pem(&format!("{name}.pem")), path(name).join("tls.crt")).unwrap();
    fs::copy(pem(&format!("{name}.key")), path(name).join("tls.key")).unwrap();
    symlink(name, path("..new")).unwrap();
    fs::rename(path("..new"), path("..data")).unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart() {
    let scene = Scene::new().await;
    assert_eq!(scene.certificate().await, fs::read_to_string(pem("server.pem")).unwrap());
    mount(scene.directory.path(), "renewed");
    let renewed = fs::read_to_string(pem("renewed.pem")).unwrap();
    until("the renewed certificate", async || (scene.certificate().await == renewed).then_some(())).await;
    assert_eq!(scene.status(PASSWORD).await, 200);
}

#[tokio::test]
async fn garbage_in_a_file_that_is_named_is_never_a_success() {
    let scene = Scene::new().await;
    let user = format!("alice:{PASSWORD}");
    let reload = ["--request", "POST", "--user", &user];
    let good = fs::read_to_string(scene.path("server/tls.crt")).unwrap();
    let half = &good[..good.len() / 2];
    let (no_certificate, twice) = ("hunter2", format!("{good}{half}"));
    for (name, content) in [
        ("tls.crt", ""),
        ("tls.crt", no_certificate),
        ("tls.crt", half),
        ("tls.crt", &twice),
        ("tls.key", ""),
    ] {
        let path = scene.path("server").join(name);
        let before = fs::read_to_string(&path).unwrap();
        replace(&path, content);
        let answer = https(scene.program.address, "/-/reload", &reload).await;
        assert_eq!(answer.status, 500, "{name}: {content}");
        let file = scene.path(name);
        assert!(answer.body.contains(&format!("_file: {}: ", file.display())), "{}", answer.body);
        assert!(!answer.body.contains("hunter2"), "{}", answer.body);
        // The old certificate stays in force.
        assert_eq!(scene.certificate().await, good);
        replace(&path, &before);
        assert_eq!(https(scene.program.address, "/-/reload", &reload).await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn changed_users_are_admitted_and_the_old_ones_are_not() {
    let scene = Scene::new().await;
    assert_eq!(scene.status(PASSWORD).await, 200);
    assert_eq!(scene.status(OTHER_PASSWORD).await, 401);
    replace(&scene.path("web.yml"), &config(OTHER_PASSWORD));
    scene.admits(OTHER_PASSWORD).await;
    assert_eq!(scene.status(PASSWORD).await, 401);
}

#[tokio::test]
async fn a_broken_file_keeps_the_old_one_in_force_and_is_warned_of_once() {
    let scene = Scene::new().await;
    let warning = "web configuration cannot be read anew";
    replace(&scene.path("web.yml"), "basic_auth_users: {alice: hunter2}");
    scene.warned(warning).await;
    assert_eq!(scene.status(PASSWORD).await, 200);
    // Another fault, and only that, is another warning.
    fs::remove_file(scene.path("web.yml")).unwrap();
    scene.warned("no such file").await;
    assert_eq!(scene.logged(warning), 2);
    assert_eq!(scene.status(PASSWORD).await, 200);
    replace(&scene.path("web.yml"), &config(OTHER_PASSWORD));
    scene.admits(OTHER_PASSWORD).await;
    assert_eq!(scene.logged(warning), 2);
}

/// All that protects, in the order in which a file may be cut off.
fn everything() -> String {
    let authority = pem("authority.pem");
    let clients = format!(
        "  min_version: TLS13\n  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n  \
         curve_preferences: [X25519]\n  client_auth_type: RequireAndVerifyClientCert\n  \
         client_ca_file: {authority}\n  client_allowed_sans: [prometheus.example, other.example]\n"
    );
    let (alice, bob) = (bcrypt::hash("rabbit", 4).unwrap(), bcrypt::hash("builder", 4).unwrap());
    tls(&clients)
        + "rate_limit:\n  interval: 1s\n  burst: 5\n"
        + "http_server_config:\n  headers:\n    X-Frame-Options: deny\n"
        + &format!("basic_auth_users:\n  alice: {alice}\n  bob: {bob}\n")
}

#[test]
fn a_re_read_may_tighten_and_change_but_takes_no_protection_away() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.yml");
    let full = everything();
    replace(&path, &full);
    let file = WebConfigFile::load(Some(&path)).unwrap();
    let reread = |text: &str| {
        replace(&path, text);
        file.read().map(|_| ()).map_err(|error| error.to_string())
    };
    let without = |part: &str| {
        let kept: Vec<_> = full.lines().filter(|line| !line.contains(part)).collect();
        assert!(kept.len() < full.lines().count(), "{part}");
        kept.join("\n")
    };
    let tls_is_gone = "tls_server_config: has no certificate";
    let nobody = "basic_auth_users: names nobody";
    for (text, keys) in [
        (String::new(), &[tls_is_gone, nobody, "rate_limit", "http_server_config.headers"][..]),
        ("\n \n".to_owned(), &[tls_is_gone, nobody]),
        ("# nothing\n".to_owned(), &[tls_is_gone, nobody]),
        ("\u{feff}".to_owned(), &[tls_is_gone, nobody]),
        ("tls_server_config:\n".to_owned(), &[tls_is_gone, nobody]),
        ("{}".to_owned(), &[tls_is_gone, nobody]),
        (full[full.find("rate_limit").unwrap()..].to_owned(), &[tls_is_gone]),
        (full[..full.find("  alice").unwrap()].to_owned(), &[nobody]),
        (full[..full.find("    X-Frame").unwrap()].to_owned(), &[nobody, "http_server_config.headers"]),
        (full[..full.find("rate_limit").unwrap()].to_owned(), &[nobody, "rate_limit"]),
        (without("min_version"), &["tls_server_config.min_version"]),
        (full.replace("TLS13", "TLS12"), &["tls_server_config.min_version"]),
        (without("cipher_suites"), &["tls_server_config.cipher_suites"]),
        (without("curve_preferences"), &["tls_server_config.curve_preferences"]),
        (
            without("client_"),
            &["tls_server_config.client_auth_type", "tls_server_config.client_allowed_sans"],
        ),
        (without("client_ca_file"), &["tls_server_config.client_ca_file"]),
        (without("client_allowed_sans"), &["tls_server_config.client_allowed_sans"]),
        (full.replace("RequireAndVerify", "RequireAny"), &["tls_server_config.client_auth_type"]),
        (
            without("client_allowed_sans").replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"),
            &["tls_server_config.client_auth_type: would no longer demand", "client_allowed_sans"],
        ),
        (
            without("client_allowed_sans").replace("RequireAndVerifyClientCert", "RequestClientCert"),
            &["client_auth_type: would no longer demand", "client_auth_type: would no longer have"],
        ),
        (full.replace("interval: 1s", "interval: 0"), &["rate_limit"]),
    ] {
        let error = reread(&text).expect_err(&text);
        for key in keys {
            assert!(error.contains(key), "{key}: {error}\n{text}");
        }
        assert!(error.contains("; restart to run with less protection"), "{error}\n{text}");
    }
    for text in [
        full.clone(),
        format!("\u{feff}{full}"),
        // One user or name fewer, another one, another password, another limit.
        without("  bob"),
        full.replace("bob", "carol"),
        full.replace(", other.example", ""),
        full.replace("other.example", "another.example"),
        full.replace("burst: 5", "burst: 50"),
        full.replace("X-Frame-Options: deny", "X-Frame-Options: sameorigin\n    X-XSS-Protection: 1"),
        full.replace(&pem("authority.pem"), &pem("stranger.pem")),
        full.replace(&pem("server."), &pem("renewed.")),
    ] {
        reread(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
}

#[test]
fn protection_may_come_but_tls_needs_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.yml");
    replace(&path, "");
    let file = WebConfigFile::load(Some(&path)).unwrap();
    replace(&path, &everything());
    let error = file.read().map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("TLS cannot be switched on while the exporter runs; restart it"), "{error}");
    replace(&path, &everything()[everything().find("rate_limit").unwrap()..]);
    file.replace(file.read().unwrap());
    replace(&path, "");
    assert!(file.read().is_err());
}

#[tokio::test]
async fn protection_cannot_be_lost_by_accident() {
    let scene = Scene::new().await;
    let refusal = "web configuration cannot be read anew";
    for (number, (text, key)) in [
        ("", "tls_server_config"),
        ("\u{feff}", "basic_auth_users"),
        ("tls_server_config:\n  cert_file: tls.crt\n  key_file: tls.key\n", "basic_auth_users"),
        ("rate_limit: {}", "tls_server_config"),
    ]
    .into_iter()
    .enumerate()
    {
        replace(&scene.path("web.yml"), text);
        until(text, async || (scene.logged(refusal) > number).then_some(())).await;
        let log = scene.program.log();
        let line = log.iter().rfind(|line| line.contains(refusal)).unwrap();
        assert!(line.contains(key) && line.contains("restart to run with less protection"), "{line}");
        assert_eq!(scene.status(PASSWORD).await, 200);
        assert_eq!(scene.status("").await, 401);
    }
    // Once each, and told whoever asks for a reload.
    assert_eq!(scene.logged(refusal), 4);
    let user = format!("alice:{PASSWORD}");
    let reload = ["--request", "POST", "--user", &user];
    let answer = https(scene.program.address, "/-/reload", &reload).await;
    assert_eq!(answer.status, 500);
    assert!(answer.body.contains("basic_auth_users: names nobody"), "{}", answer.body);
    scene.program.signal("HUP").await;
    scene.warned("configuration not reloaded").await;
    assert_eq!(scene.status("").await, 401);
    // What speaks no TLS is told so, and nothing else.
    assert_eq!(curl(&format!("http://{}/", scene.program.address), &["--http1.1"]).await.status, 400);
}

#[tokio::test]
async fn a_user_who_is_gone_is_refused_at_once_though_his_password_is_remembered() {
    let scene = Scene::new().await;
    let bob = bcrypt::hash(OTHER_PASSWORD, 4).unwrap();
    let alone = config(PASSWORD);
    replace(&scene.path("web.yml"), &format!("{alone}  bob: {bob}\n"));
    let bobs = format!("bob:{OTHER_PASSWORD}");
    let ask = async || https(scene.program.address, "/-/healthy", &["--user", &bobs]).await.status;
    until("the second user", async || (ask().await == 200).then_some(())).await;
    replace(&scene.path("web.yml"), &alone);
    let user = format!("alice:{PASSWORD}");
    let reload = ["--request", "POST", "--user", &user];
    assert_eq!(https(scene.program.address, "/-/reload", &reload).await.status, 200);
    assert_eq!(ask().await, 401);
}

#[tokio::test]
async fn a_client_whose_certificate_is_no_longer_accepted_is_sent_away_from_an_open_connection() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.yml");
    let (authority, certificate, key) = (pem("authority.pem"), pem("client.pem"), pem("client.key"));
    let allowed = |names: &str| {
        tls(&format!(
            "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: {authority}\n  \
             client_allowed_sans: [{names}]\n"
        ))
    };
    replace(&path, &allowed("prometheus.example, other.example"));
    let program = Program::start(&["demo", &format!("--web.config.file={}", path.display())]).await;
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-cert", &certificate, "-key", &key, "-connect"])
        .arg(program.address.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut to, from) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    let mut lines = BufReader::new(from).lines();
    // The status of the next answer on the one connection.
    let mut ask = async || {
        to.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        loop {
            let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().expect("an answer");
            // The end of an answer before has no line of its own.
            if let Some((_, status)) = line.split_once("HTTP/1.1 ") {
                break status[..3].to_owned();
            }
        }
    };
    assert_eq!(ask().await, "200");
    let reread = async |names: &str, times: usize| {
        replace(&path, &allowed(names));
        until(names, async || {
            let lines = program.log().iter().filter(|line| line.contains("read anew")).count();
            (lines == times).then_some(())
        })
        .await;
    };
    reread("prometheus.example", 1).await;
    assert_eq!(ask().await, "200");
    reread("other.example", 2).await;
    assert_eq!(ask().await, "403");
}

#[tokio::test]
async fn a_reload_reads_the_web_configuration_and_tells_its_problems() {
    let scene = Scene::new().await;
    let reload = async |password: &str| {
        let user = format!("alice:{password}");
        https(scene.program.address, "/-/reload", &["--request", "POST", "--user", &user]).await
    };
    assert_eq!(reload("wrong").await.status, 401);
    replace(&scene.path("web.yml"), "basic_auth_users: {alice: hunter2}");
    let answer = reload(PASSWORD).await;
    assert_eq!(answer.status, 500);
    assert!(answer.body.starts_with("basic_auth_users.alice: must be a bcrypt hash"), "{}", answer.body);
    replace(&scene.path("web.yml"), &config(OTHER_PASSWORD));
    assert_eq!(reload(PASSWORD).await.status, 200);
    // At once, without waiting for the next look at the file.
    assert_eq!(scene.status(OTHER_PASSWORD).await, 200);
    replace(&scene.path("web.yml"), &config(PASSWORD));
    scene.program.signal("HUP").await;
    scene.admits(PASSWORD).await;
}

#[tokio::test]
async fn the_rate_limit_goes_on_over_reloads_and_re_reads_that_do_not_change_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.yml");
    let limit = "rate_limit: {interval: 1h, burst: 2}\n";
    replace(&path, limit);
    let flag = format!("--web.config.file={}", path.display());
    let program = Program::start(&["demo", &flag]).await;
    let ask =
        async |path: &str| curl(&format!("http://{}{path}", program.address), &["--http1.1"]).await.status;
    assert_eq!([ask("/").await, ask("/").await, ask("/").await], [200, 200, 429]);
    let logged = |part: &str| program.log().iter().any(|line| line.contains(part)).then_some(());
    program.signal("HUP").await;
    until("the reload", async || logged("configuration reloaded")).await;
    assert_eq!(ask("/").await, 429);
    replace(&path, &format!("{limit}# changed\n"));
    until("the re-read", async || logged("read anew")).await;
    assert_eq!(ask("/").await, 429);
    // Another limit is another bucket.
    replace(&path, "rate_limit: {interval: 1h, burst: 3}\n");
    until("the new limit", async || (ask("/").await == 200).then_some(())).await;
    // Whoever asks how the process is needs none of it.
    assert_eq!([ask("/").await, ask("/").await, ask("/").await], [200, 200, 429]);
    assert_eq!([ask("/-/healthy").await, ask("/-/ready").await], [200, 200]);
}

#[tokio::test]
async fn no_password_hash_or_key_is_in_the_log() {
    let mut scene = Scene::new().await;
    for password in [PASSWORD, OTHER_PASSWORD] {
        scene.status(password).await;
        let user = format!("alice:{password}");
        https(scene.program.address, "/metrics", &["--http1.1", "--user", &user]).await;
    }
    let first = fs::read_to_string(scene.path("web.yml")).unwrap();
    let second = config(OTHER_PASSWORD);
    replace(&scene.path("web.yml"), &format!("{second}  bob: hunter2-hash\nx: ["));
    scene.warned("cannot be read anew").await;
    replace(&scene.path("web.yml"), &second);
    scene.admits(OTHER_PASSWORD).await;
    assert!(scene.program.stop("TERM").await.success());
    let log = scene.program.log().join("\n");
    let hash = |config: &str| config.rsplit("alice: ").next().unwrap().trim().to_owned();
    let key = fs::read_to_string(pem("server.key")).unwrap();
    let (first, second, key) = (hash(&first), hash(&second), key.lines().nth(1).unwrap().to_owned());
    let header = BASE64_STANDARD.encode(format!("alice:{PASSWORD}"));
    assert_no_secret(&log, &[PASSWORD, OTHER_PASSWORD, &header, "hunter2-hash", &first, &second, &key]);
}
