//! Files that change while the exporter runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use tempfile::TempDir;
use tokio::process::Command;

use super::{curl, https, pem};
use crate::program::{Program, until};
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

#[tokio::test]
async fn protection_cannot_be_lost_by_accident() {
    let scene = Scene::new().await;
    replace(&scene.path("web.yml"), "");
    scene.warned("the file is empty").await;
    assert_eq!(scene.status(PASSWORD).await, 200);
    replace(&scene.path("web.yml"), "rate_limit: {}");
    scene.warned("TLS cannot be switched on or off").await;
    assert_eq!(scene.status(PASSWORD).await, 200);
    assert_eq!(curl(&format!("http://{}/", scene.program.address), &["--http1.1"]).await.status, 0);
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
