//! The real program on every path at the lowest level of the log, in both of its forms: nothing that it writes, serves
//! or keeps has a secret in it, in whatever notation.

use std::fs;
use std::io::Read as _;
use std::process::Output;

use container_registry_exporter::simulator::{AccessKey, Simulator};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::program::{Files, Program, command, get, text, until};

/// What encodings change is in all of them.
const SECRET_KEY: &str = "swr-p@ss/w+rd=&\"e\\?>";
const TEMPORARY_KEY: &str = "tmp>s3cret/k+y=&\"u\\?>";
const SECURITY_TOKEN: &str = "security/t0ken+with=odd&\"characters\\?>";
const PASSWORD: &str = "iam p@ss/w+rd=&\"ñ\\?>";
const TOKEN: &str = "iam/t0ken+of=odd&\"characters\\?>";
const NCR_KEY: &str = "ncr-p@ss/w+rd=&\"h\\?>";
const PROXY_PASSWORD: &str = "pr0xy-p@ss/w+rd";
const WRONG: &str = "wr0ng/s3cret+of=odd&\"characters\\?>";

/// Clouds that know the secrets above.
async fn clouds() -> Simulator {
    let mut world = world();
    SECRET_KEY.clone_into(&mut world.swr.access_keys[0].secret_key);
    let temporary = AccessKey::new("TEMPORARYACCESSKEY01", TEMPORARY_KEY);
    let security_token = Some(SECURITY_TOKEN.to_owned());
    world.swr.access_keys.push(AccessKey { security_token, ..temporary });
    world.swr.access_keys.push(AccessKey::new("OTHERSWRACCESSKEY001", "another"));
    NCR_KEY.clone_into(&mut world.ncr.access_keys[0].secret_key);
    PASSWORD.clone_into(&mut world.iam.users[0].password);
    let expires_at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
    let project_id = Some(keys::PROJECT_ID.to_owned());
    let value = TOKEN.to_owned();
    world.iam.tokens.push(IamToken { value, expires_at, project_id, lacks_permission: false });
    let simulator = simulator(world).await;
    simulator.fault(Call::ListTags, Fault::status(503)).times(1);
    simulator
}

/// A source for each way to authenticate, and for each the same with a credential that is refused.
fn config(clouds: &Simulator, files: &Files) -> String {
    let in_file = |name: &str, secret: &str| {
        fs::write(files.path(name), secret.to_owned() + "\n").unwrap();
        format!("'{}'", files.path(name).display())
    };
    let ak_sk = |key: &str, secret: &str| format!("access_key = \"{key}\", secret_key = '{secret}'");
    let temporary =
        |token: &str| ak_sk("TEMPORARYACCESSKEY01", TEMPORARY_KEY) + &format!(", security_token = '{token}'");
    let (account, user) = (keys::IAM_ACCOUNT, keys::IAM_USER);
    let password = |file: &str| {
        format!(
            "method = \"password\", account = \"{account}\", username = \"{user}\", password_file = {file}"
        )
    };
    let token = |file: &str| format!("method = \"token\", token_file = {file}");
    let swr = |name: &str, auth: &str| swr_with(name, clouds, auth, "");
    let ncr = |name: &str, secret: &str| {
        ncr_at(name, &clouds.ncr_url(), "made-up", "").replace("\"made-up\"", secret)
    };
    [
        "[poll]\nrequests_per_second = 0\n[state]\npath = \"state\"\n".to_owned(),
        swr("key", &ak_sk(keys::SWR_ACCESS_KEY, SECRET_KEY)),
        swr("key-refused", &ak_sk("OTHERSWRACCESSKEY001", WRONG)),
        swr("temporary", &temporary(SECURITY_TOKEN)),
        swr("password", &password(&in_file("password", PASSWORD))),
        swr("password-refused", &password(&in_file("wrong", WRONG))),
        swr("token", &token(&in_file("token", TOKEN))),
        swr("token-refused", &token(&in_file("wrong", WRONG))),
        ncr("ncr", &format!("'{NCR_KEY}'")),
        ncr("ncr-refused", &format!("'{WRONG}'")),
    ]
    .concat()
}

/// A source whose proxy wants a password and does not answer.
fn behind_a_proxy() -> String {
    let password = percent_encoding::utf8_percent_encode(PROXY_PASSWORD, percent_encoding::NON_ALPHANUMERIC);
    format!(
        "[sources.proxied]\nprovider = \"swr\"\nregion = \"cn-north-4\"\nallow_http = true\n\
         endpoint = \"http://registry.invalid\"\nproxy_url = \"http://user:{password}@127.0.0.1:1\"\n\
         auth = {{ access_key = \"KEY\", secret_key = '{SECRET_KEY}' }}\n"
    )
}

/// Every secret, those that the clouds made included.
fn secrets(clouds: &Simulator) -> Vec<String> {
    let mut secrets: Vec<String> =
        clouds.edit(|world| world.iam.tokens.iter().map(|t| t.value.clone()).collect());
    assert!(secrets.len() > 1, "a token was made");
    for token in &mut secrets {
        token.truncate(40);
    }
    for secret in [SECRET_KEY, TEMPORARY_KEY, SECURITY_TOKEN, PASSWORD, NCR_KEY, PROXY_PASSWORD, WRONG] {
        secrets.push(secret.to_owned());
    }
    secrets
}

/// Panics if a line of the log is not one event in that form, or not of this program.
fn assert_log(lines: &[String], format: &str) {
    let own = "container_registry_exporter";
    for line in lines {
        let good = match format {
            "json" => serde_json::from_str::<Value>(line)
                .is_ok_and(|line| line["target"].as_str().unwrap().starts_with(own)),
            _ => line.starts_with("ts=") && line.contains(&format!(" target={own}")),
        };
        assert!(good, "{line}");
    }
}

/// All that a run of the program wrote.
fn written(output: &Output, format: &str) -> String {
    let log: Vec<_> = text(&output.stderr).lines().map(str::to_owned).collect();
    assert_log(&log, format);
    text(&output.stdout).to_owned() + text(&output.stderr)
}

async fn reload(program: &Program) -> String {
    let mut stream = TcpStream::connect(program.address).await.unwrap();
    stream.write_all(b"POST /-/reload HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The content of every file that a running exporter keeps, as it is and unpacked.
fn kept(files: &Files) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(files.path("state")).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        all += &String::from_utf8_lossy(&bytes);
        let mut content = Vec::new();
        // A head, then what is packed, then a checksum; what is not packed so is in the text above.
        let packed = bytes.get(52..bytes.len().saturating_sub(4)).unwrap_or_default();
        let _ = flate2::bufread::DeflateDecoder::new(packed).read_to_end(&mut content);
        all += &String::from_utf8_lossy(&content);
    }
    assert!(all.contains("group"), "a snapshot holds what was read");
    all
}

/// Runs the exporter until it has polled everything, changes its configuration to bad and good ones, and returns all
/// that could be seen of it.
async fn life(clouds: &Simulator, format: &str) -> String {
    let files = Files::with_config("");
    let config = config(clouds, &files) + &behind_a_proxy();
    fs::write(files.path("config.toml"), &config).unwrap();
    let flags = [files.flag(), format!("--log.format={format}"), "--log.level=trace".to_owned()];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let stdout = format!("exec >'{}'", files.path("stdout").display());
    let mut program = Program::start_after(&stdout, &flags).await;
    let ended = |source: &Value| {
        let list = &source["collectors"][0];
        source["polling"] == false && !(list["failure"].is_null() && list["last_success_time"].is_null())
    };
    let status = until("every source to be polled", async || {
        let status = program.get("/status.json").await;
        let facts: Value = serde_json::from_str(&status).unwrap();
        facts["sources"].as_array().unwrap().iter().all(ended).then_some(status)
    });
    let mut seen = status.await;
    until("a snapshot of every source that is well", async || {
        let written = "container_registry_exporter_snapshot_timestamp_seconds{";
        (program.get("/metrics").await.matches(written).count() == 5).then_some(())
    })
    .await;
    for (path, accept) in [
        ("/", ""),
        ("/metrics", ""),
        ("/metrics", "Accept: application/openmetrics-text\r\n"),
        ("/-/ready", ""),
    ] {
        seen += text(&get(program.address, path, accept).await.body);
    }
    for line in [
        format!("region = '{WRONG}"),
        format!("region = '{WRONG}'\n'{WRONG}' = 1"),
        format!("[sources.key.poll]\ninterval = '{WRONG}'"),
    ] {
        fs::write(files.path("config.toml"), config.clone() + &line).unwrap();
        let answer = reload(&program).await;
        assert!(answer.starts_with("HTTP/1.0 500"), "{answer}");
        seen += &answer;
    }
    let other_key = config.replace(keys::SWR_ACCESS_KEY, "OTHERSWRACCESSKEY001");
    fs::write(files.path("config.toml"), other_key).unwrap();
    program.signal("HUP").await;
    until("a reload", async || {
        program.log().iter().any(|line| line.contains("configuration reloaded")).then_some(())
    })
    .await;
    assert!(program.stop("TERM").await.success());
    let log = program.log();
    assert_log(&log, format);
    for part in [
        "poll succeeded",
        "trying again",
        "canonicalRequest",
        "not reloaded",
        "no connection",
        "Connection refused",
        "stopping",
    ] {
        assert!(log.iter().any(|line| line.contains(part)), "{part} is not in: {}", log.join("\n"));
    }
    seen + &log.join("\n") + &fs::read_to_string(files.path("stdout")).unwrap() + &kept(&files)
}

#[tokio::test]
async fn a_running_exporter_shows_no_secret_anywhere() {
    let clouds = clouds().await;
    let (logfmt, json) = tokio::join!(life(&clouds, "logfmt"), life(&clouds, "json"));
    let secrets = secrets(&clouds);
    assert_no_secret(&(logfmt + &json), &secrets.iter().map(String::as_str).collect::<Vec<_>>());
}

#[tokio::test]
async fn no_command_shows_a_secret() {
    let clouds = clouds().await;
    let files = Files::with_config("");
    let surroundings = "[sources.surroundings]\nprovider = \"swr\"\nregion = \"cn-north-4\"\n";
    let surroundings = format!("{surroundings}endpoint = \"{}\"\n", clouds.swr_url());
    fs::write(files.path("config.toml"), config(&clouds, &files) + &surroundings).unwrap();
    let mut seen = String::new();
    for format in ["logfmt", "json"] {
        for (arguments, code) in [(&["check"][..], 0), (&["check", "--live"], 1), (&["once"], 1)] {
            let mut command = command(arguments);
            command.args([&files.flag(), &format!("--log.format={format}"), "--log.level=trace"]);
            command.env("HUAWEICLOUD_SDK_AK", keys::SWR_ACCESS_KEY).env("HUAWEICLOUD_SDK_SK", SECRET_KEY);
            let output = command.output().await.unwrap();
            let written = written(&output, format);
            assert_eq!(output.status.code(), Some(code), "{written}");
            seen += &written;
        }
    }
    let secrets = secrets(&clouds);
    assert_no_secret(&seen, &secrets.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
#[should_panic(expected = "is in")]
fn a_secret_in_another_notation_is_found() {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    assert_no_secret(&BASE64_STANDARD.encode(format!("user:{PROXY_PASSWORD}")), &[PROXY_PASSWORD]);
}
