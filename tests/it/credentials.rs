//! Credentials of all kinds: how they are used and renewed, what becomes of one that is refused, and that none is
//! ever shown.

mod everywhere;
mod failures;
mod neighbours;
mod secrecy;
mod services;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use container_registry_exporter::simulator::{
    Call, Fault, IamToken, Image, ImageTag, Registry, Repository, Simulator, Tag, World, keys,
};
use container_registry_exporter::telemetry::Collector;
use tempfile::TempDir;

use super::support::{
    ALL_TAGS, Exporter, SECRETS, assert_no_secret, exchanges, ncr, ncr_at, simulator, swr, swr_with,
    swr_with_password,
};

/// As long as real ones, with characters that encodings change; its end and its middle are as secret as all of it.
fn security_token() -> String {
    "gQpjbi1ub3J0aC00/made+up=security token ".repeat(20).trim_end().to_owned()
}

/// Thirty repositories of SWR and thirty images of NCR, all with a tag.
fn world() -> World {
    let mut world = World::empty();
    let mut registry = Registry::new("prod");
    for number in 0..30 {
        let name = format!("app-{number:02}");
        world.swr.add(Repository::new("group", &name).with_tag(Tag::new("v1", 1)));
        let image = Image::new(&name).with_tag(ImageTag::new("v1", 1));
        registry.images.insert(name, image);
    }
    world.ncr.add(registry);
    world
}

/// A file with a secret.
fn secret_file(secret: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    fs::write(&path, secret).unwrap();
    (directory, path)
}

fn access_key_with_file(path: &std::path::Path) -> String {
    format!("access_key = \"{}\", secret_key_file = \"{}\"", keys::SWR_ACCESS_KEY, path.display())
}

/// How many answers of a call had this status.
fn answers(simulator: &Simulator, call: Call, status: u16) -> usize {
    exchanges(simulator, call).iter().filter(|exchange| exchange.status == Some(status)).count()
}

/// Why the list of repositories of the only source was not read.
fn refusal(exporter: &Exporter) -> String {
    let failure = exporter.failure(Collector::Repositories).unwrap();
    assert_eq!(failure.reason.as_str(), "unauthorized", "{}", failure.message);
    failure.message
}

/// The next poll asks nothing and says when it will.
async fn assert_waits(exporter: &mut Exporter, simulator: &Simulator) {
    let requests = simulator.all_requests();
    assert!(!exporter.poll().await);
    assert_eq!(simulator.all_requests(), requests);
    let message = refusal(exporter);
    let (_, time) = message.split_once("; next attempt at ").unwrap();
    let wait = time.parse::<jiff::Timestamp>().unwrap().duration_since(jiff::Timestamp::now());
    assert!(
        wait > jiff::SignedDuration::from_mins(4) && wait <= jiff::SignedDuration::from_secs(361),
        "{wait}"
    );
}

#[tokio::test]
async fn makes_one_token_from_a_password_and_uses_it_for_every_call() {
    let simulator = simulator(world()).await;
    let mut exporter = Exporter::new(&swr_with_password(&simulator, ""));
    assert!(exporter.poll().await);
    assert!(exporter.poll().await);
    assert_eq!(simulator.requests(Call::CreateToken), 1);
    let tokens = simulator.edit(|world| world.iam.tokens.clone());
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].project_id.as_deref(), Some(keys::PROJECT_ID));
    for exchange in simulator.log().iter().filter(|exchange| exchange.call != Some(Call::CreateToken)) {
        assert_eq!(exchange.header("x-auth-token"), Some(tokens[0].value.as_str()));
        assert_eq!(exchange.header("authorization"), None);
    }
    let expiry = exporter.number("exporter_credentials_expiry_timestamp_seconds{source=\"swr\"}");
    #[expect(clippy::cast_precision_loss, reason = "a double holds today's time to less than a microsecond")]
    let expected = tokens[0].expires_at.as_millisecond() as f64 / 1000.0;
    assert!((expiry - expected).abs() < 0.01, "{expiry} {expected}");
    assert_no_secret(&exporter.everything_shown(), &[keys::IAM_PASSWORD, &tokens[0].value]);
}

#[tokio::test]
async fn asks_for_a_token_of_the_project_that_is_configured() {
    for scope in
        [format!("project_id = \"{}\"", keys::PROJECT_ID), format!("project_name = \"{}\"", keys::REGION)]
    {
        let simulator = simulator(world()).await;
        let mut exporter = Exporter::new(&swr_with_password(&simulator, &scope));
        assert!(exporter.poll().await);
        let project = simulator.edit(|world| world.iam.tokens[0].project_id.clone());
        assert_eq!(project.as_deref(), Some(keys::PROJECT_ID), "{scope}");
    }
}

#[tokio::test]
async fn renews_a_token_before_it_expires_by_the_clouds_clock() {
    let mut world = world();
    world.iam.token_lifetime = Duration::from_hours(24);
    let simulator = simulator(world).await;
    let mut exporter =
        Exporter::new(&swr_with_password(&simulator, "shared = []\ntags = { enabled = false }"));
    for (minutes_left, tokens) in [(24 * 60, 1), (61, 1), (59, 2), (24 * 60, 2)] {
        let offset = jiff::SignedDuration::from_mins(24 * 60 - minutes_left);
        simulator.edit(|world| world.clock_offset = offset);
        // The first one learns the time.
        for _ in 0..2 {
            assert!(exporter.poll().await);
        }
        assert_eq!(simulator.requests(Call::CreateToken), tokens, "{minutes_left} minutes before its end");
    }
    assert_eq!(answers(&simulator, Call::ListRepositories, 401), 0);
    let last = exchanges(&simulator, Call::ListRepositories).pop().unwrap();
    let token = simulator.edit(|world| world.iam.tokens[1].value.clone());
    assert_eq!(last.header("x-auth-token"), Some(token.as_str()));
}

#[tokio::test]
async fn a_clock_that_is_off_costs_one_token() {
    for hours in [-25, -48, -24 * 365, 25, 23] {
        let simulator = simulator(world()).await;
        simulator.edit(|world| world.clock_offset = jiff::SignedDuration::from_hours(hours));
        let mut exporter = Exporter::new(&swr_with_password(&simulator, ""));
        for _ in 0..3 {
            assert!(exporter.poll().await);
        }
        assert_eq!(simulator.requests(Call::CreateToken), 1, "{hours} hours");
    }
}

#[tokio::test]
async fn makes_a_new_token_once_when_the_old_one_is_refused() {
    let simulator = simulator(world()).await;
    let mut exporter = Exporter::new(&swr_with_password(&simulator, ""));
    assert!(exporter.poll().await);
    simulator.edit(|world| world.iam.tokens.clear());
    assert!(exporter.poll().await);
    assert_eq!(simulator.requests(Call::CreateToken), 2);
    assert_eq!(simulator.log().iter().filter(|exchange| exchange.status == Some(401)).count(), 1);
}

#[tokio::test]
async fn stops_when_a_new_token_is_refused_too_until_the_password_changes() {
    let (_directory, path) = secret_file(keys::IAM_PASSWORD);
    let simulator = simulator(world()).await;
    let auth = format!(
        "method = \"password\", account = \"{}\", username = \"{}\", password_file = \"{}\"",
        keys::IAM_ACCOUNT,
        keys::IAM_USER,
        path.display()
    );
    let mut exporter = Exporter::new(&swr_with("swr", &simulator, &auth, ""));
    assert!(exporter.poll().await);
    simulator.clear_log();
    simulator.fault(Call::ListRepositories, Fault::Unauthorized);
    assert!(!exporter.poll().await);
    assert_eq!(simulator.requests(Call::CreateToken), 1);
    assert_eq!(answers(&simulator, Call::ListRepositories, 401), 2);
    assert_eq!(simulator.all_requests(), 3);
    simulator.clear_faults();
    assert_waits(&mut exporter, &simulator).await;

    simulator.edit(|world| "another password".clone_into(&mut world.iam.users[0].password));
    fs::write(&path, "another password").unwrap();
    assert!(exporter.poll().await);
}

#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    let simulator = simulator(world()).await;
    simulator.edit(|world| "changed since".clone_into(&mut world.iam.users[0].password));
    let mut exporter = Exporter::new(&swr_with_password(&simulator, ""));
    assert!(!exporter.poll().await);
    assert_eq!(simulator.edit(|world| world.iam.users[0].refused_calls), 1);
    assert_eq!(simulator.all_requests(), 1);
    assert_waits(&mut exporter, &simulator).await;
    assert_no_secret(&exporter.everything_shown(), &SECRETS);
}

#[tokio::test]
async fn a_token_of_the_whole_account_is_refused_and_a_changed_token_file_takes_effect_at_once() {
    let (_directory, path) = secret_file("MIItoken-of-the-whole-account");
    let mut world = world();
    let token = |value: &str, project_id: Option<&str>| IamToken {
        value: value.to_owned(),
        expires_at: jiff::Timestamp::MAX,
        project_id: project_id.map(str::to_owned),
        lacks_permission: false,
    };
    world.iam.tokens.push(token("MIItoken-of-the-whole-account", None));
    world.iam.tokens.push(token("MIItoken-of-the-project", Some(keys::PROJECT_ID)));
    world.iam.tokens.push(token("MIIthe-next-token", Some(keys::PROJECT_ID)));
    let simulator = simulator(world).await;
    let auth = format!("method = \"token\", token_file = \"{}\"", path.display());
    let mut exporter = Exporter::new(&swr_with("swr", &simulator, &auth, ""));
    assert!(!exporter.poll().await);
    assert_eq!(simulator.all_requests(), 1);
    assert!(refusal(&exporter).contains("was not made for the project of this region"));
    assert_waits(&mut exporter, &simulator).await;
    assert_no_secret(&exporter.everything_shown(), &["MIItoken-of-the-whole-account"]);

    for token in ["MIItoken-of-the-project", "MIIthe-next-token"] {
        fs::write(&path, token).unwrap();
        simulator.clear_log();
        assert!(exporter.poll().await);
        assert!(simulator.log().iter().all(|exchange| exchange.header("x-auth-token") == Some(token)));
    }
    assert_eq!(simulator.requests(Call::CreateToken), 0);
}

#[tokio::test]
async fn a_refused_key_is_tried_once_and_a_changed_secret_file_at_once() {
    let (_directory, path) = secret_file("not-the-secret-key");
    let simulator = simulator(world()).await;
    let mut exporter = Exporter::new(&swr_with("swr", &simulator, &access_key_with_file(&path), ""));
    assert!(!exporter.poll().await);
    assert_eq!(simulator.edit(|world| world.swr.access_keys[0].refused_calls), 1);
    assert_eq!(simulator.all_requests(), 1);
    assert_waits(&mut exporter, &simulator).await;
    assert_waits(&mut exporter, &simulator).await;

    fs::write(&path, keys::SWR_SECRET_KEY).unwrap();
    assert!(exporter.poll().await);
    assert_eq!(exporter.value("up{source=\"swr\"}").as_deref(), Some("1"));
}

#[tokio::test]
async fn a_secret_file_that_is_half_written_leaves_the_old_secret_in_force() {
    let (_directory, path) = secret_file(keys::SWR_SECRET_KEY);
    let simulator = simulator(world()).await;
    let mut exporter = Exporter::new(&swr_with("swr", &simulator, &access_key_with_file(&path), ALL_TAGS));
    fs::write(&path, "").unwrap();
    assert!(exporter.poll().await);
    simulator.edit(|world| "the-next-secret-key".clone_into(&mut world.swr.access_keys[0].secret_key));
    fs::write(&path, "the-next-secret-key\n").unwrap();
    assert!(exporter.poll().await);
    assert_eq!(simulator.edit(|world| world.swr.access_keys[0].refused_calls), 0);
}

#[tokio::test]
async fn two_sources_that_share_a_key_have_it_refused_once_between_them() {
    let simulator = simulator(world()).await;
    let auth =
        format!("access_key = \"{}\", secret_key = \"{}\"", keys::SWR_ACCESS_KEY, keys::SWR_SECRET_KEY);
    let config = swr_with("first", &simulator, &auth, "") + &swr_with("second", &simulator, &auth, "");
    let mut exporter = Exporter::new(&config);
    assert!(exporter.poll().await);
    simulator.edit(|world| "another secret key".clone_into(&mut world.swr.access_keys[0].secret_key));
    simulator.clear_log();
    assert!(!exporter.poll().await);
    assert_eq!(simulator.all_requests(), 1);
    assert_eq!(simulator.edit(|world| world.swr.access_keys[0].refused_calls), 1);
    for source in ["first", "second"] {
        assert_eq!(exporter.number(&format!("up{{source=\"{source}\"}}")), 0.0);
        assert_eq!(exporter.sum("source_repositories", source), 30.0);
        assert_eq!(exporter.sum("exporter_poll_failures_total", source), 2.0);
    }
    assert_eq!(exporter.sum("exporter_poll_failures_total", "reason=\"unauthorized\""), 4.0);
    assert_no_secret(&exporter.everything_shown(), &SECRETS);
}

#[tokio::test]
async fn a_key_that_is_refused_among_the_tags_ends_the_waiting_calls() {
    let simulator = simulator(world()).await;
    let more = "shared = []\npoll = { max_concurrent_requests = 3 }";
    let mut exporter = Exporter::new(&swr(&simulator, more));
    simulator.fault(Call::ListTags, Fault::Unauthorized);
    exporter.poll().await;
    let refused = simulator.edit(|world| world.swr.access_keys[0].refused_calls);
    assert!((1..=3).contains(&refused), "{refused}");
    assert_eq!(simulator.requests(Call::ListTags), refused);
    simulator.clear_faults();
    assert_waits(&mut exporter, &simulator).await;
}

#[tokio::test]
async fn a_refused_key_of_naver_is_tried_once() {
    let simulator = simulator(world()).await;
    let mut exporter = Exporter::new(&ncr_at("ncr", &simulator.ncr_url(), "not-the-secret-key", ""));
    assert!(!exporter.poll().await);
    assert_eq!(simulator.all_requests(), 1);
    assert_waits(&mut exporter, &simulator).await;
}

#[tokio::test]
async fn a_missing_permission_is_no_refused_credential() {
    let mut world = world();
    world.swr.access_keys[0].lacks_permission = true;
    world.ncr.access_keys[0].lacks_permission = true;
    let simulator = simulator(world).await;
    for (config, call) in [
        (swr(&simulator, "shared = []"), Call::ListRepositories),
        (ncr(&simulator, ""), Call::ListRegistries),
    ] {
        let mut exporter = Exporter::new(&config);
        for polls in 1..=3 {
            assert!(!exporter.poll().await);
            let failure = exporter.failure(Collector::Repositories).unwrap();
            assert_eq!(failure.reason.as_str(), "forbidden", "{}", failure.message);
            assert_eq!(simulator.requests(call), polls);
        }
    }
}

#[tokio::test]
async fn the_first_request_of_every_poll_is_alone_and_the_others_are_not() {
    let mut world = world();
    world.latency = Duration::from_millis(50);
    for number in 0..6 {
        world.ncr.add(Registry::new(&format!("registry-{number}")));
    }
    let watched: Vec<String> = world.swr.repositories.keys().map(|key| format!("\"{key}\"")).collect();
    let registries: Vec<String> = world.ncr.registries.keys().map(|name| format!("\"{name}\"")).collect();
    let simulator = simulator(world).await;
    let limit = &format!("poll = {{ max_concurrent_requests = 4 }}\n{ALL_TAGS}");
    for config in [
        swr(&simulator, limit),
        swr(&simulator, &format!("watch = [{}]\n{limit}", watched.join(", "))),
        swr_with_password(&simulator, limit),
        ncr(&simulator, &format!("registries = [{}]\n{limit}", registries.join(", "))),
    ] {
        let mut exporter = Exporter::new(&config);
        for _ in 0..2 {
            simulator.clear_log();
            assert!(exporter.poll().await);
            let log = simulator.log();
            let first_ended = log[0].ended.unwrap();
            assert!(log[1..].iter().all(|exchange| exchange.started >= first_ended), "{config}");
            assert_eq!(simulator.most_in_flight_overall(), 4, "{config}");
        }
    }
}

#[tokio::test]
async fn temporary_keys_send_and_sign_their_security_token() {
    let mut world = world();
    world.swr.access_keys[0].security_token = Some(security_token());
    let simulator = simulator(world).await;
    let auth = |token: &str| {
        let (access_key, secret_key) = (keys::SWR_ACCESS_KEY, keys::SWR_SECRET_KEY);
        format!("access_key = \"{access_key}\", secret_key = \"{secret_key}\", security_token = \"{token}\"")
    };
    let mut exporter = Exporter::new(&swr_with("swr", &simulator, &auth(&security_token()), ""));
    assert!(exporter.poll().await);
    for exchange in simulator.log() {
        assert_eq!(exchange.header("x-security-token"), Some(security_token().as_str()));
        assert!(exchange.header("authorization").unwrap().contains(";x-security-token"));
    }
    let mut exporter = Exporter::new(&swr_with("swr", &simulator, &auth("outdated"), ""));
    assert!(!exporter.poll().await);
    refusal(&exporter);
}

#[tokio::test]
async fn no_credential_can_be_had_is_unauthorized_and_sends_nothing() {
    let (_directory, path) = secret_file(keys::SWR_SECRET_KEY);
    let simulator = simulator(world()).await;
    let mut exporter = Exporter::new(&swr_with("swr", &simulator, &access_key_with_file(&path), ""));
    fs::remove_file(&path).unwrap();
    assert!(!exporter.poll().await);
    let message = refusal(&exporter);
    assert!(message.contains("no such file"), "{message}");
    assert_eq!(simulator.all_requests(), 0);
    fs::write(&path, keys::SWR_SECRET_KEY).unwrap();
    assert!(exporter.poll().await);
}
