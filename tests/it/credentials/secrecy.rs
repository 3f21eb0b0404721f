//! What clouds repeat of a request, and what is logged of temporary keys, shows no secret.

use std::net::TcpListener;

use container_registry_exporter::simulator::{ErrorBody, ErrorShape};

use super::services::Services;
use super::*;
use crate::program::command;

#[tokio::test]
async fn what_the_gateway_repeats_of_a_request_is_not_shown() {
    let mut world = world();
    world.swr.access_keys[0].security_token = Some(security_token());
    let simulator = simulator(world).await;
    let auth = format!(
        "access_key = \"{}\", secret_key = \"not-the-secret-key\", security_token = \"{}\"",
        keys::SWR_ACCESS_KEY,
        security_token()
    );
    let mut exporter = Exporter::new(&swr_with("swr", &simulator, &auth, ""));
    assert!(!exporter.poll().await);
    let message = refusal(&exporter);
    assert!(message.contains("canonicalRequest:GET|/v2/manage/repos/|"), "{message}");
    assert!(!exporter.poll().await);
    let shown = exporter.everything_shown();
    let token = security_token();
    assert_no_secret(&shown, &["not-the-secret-key", &token, &token[..12], &token[400..440]]);
}

#[tokio::test]
async fn what_iam_repeats_of_a_password_is_not_shown() {
    let password = "made-up \"password\" \\ with / odd + characters";
    let mut world = world();
    password.clone_into(&mut world.iam.users[0].password);
    let simulator = simulator(world).await;
    let body = ErrorBody::new(ErrorShape::Iam, "401", &format!("wrong: {password}, {password}"));
    simulator.fault(Call::CreateToken, Fault::Status { code: 401, retry_after: None, body });
    let config = swr_with_password(&simulator, "")
        .replace(&format!("\"{}\"", keys::IAM_PASSWORD), &format!("'{password}'"));
    let mut exporter = Exporter::new(&config);
    assert!(!exporter.poll().await);
    assert!(refusal(&exporter).contains("wrong: "));
    assert!(!exporter.poll().await);
    // Its end is the same in whatever quotes it is printed.
    assert_no_secret(&exporter.everything_shown(), &[password, "with / odd + characters"]);
}

/// Runs the program once in the environment of `services` and no other.
async fn once(services: &Services, config: &str, more: &[(&str, &str)]) -> std::process::Output {
    let (_directory, path) = secret_file(config);
    let mut command = command(&["once", "--log.level", "trace", "--config.file", path.to_str().unwrap()]);
    command.envs(services.environment.iter().map(|(name, value)| (*name, value.as_str())));
    command.envs(more.iter().copied()).output().await.unwrap()
}

#[tokio::test]
async fn no_log_line_of_any_level_shows_a_temporary_key() {
    let services = Services::of(world()).await.metadata().pod_identity();
    services.simulator.fault(Call::ListTags, Fault::Unauthorized).times(1);
    let more = "auth = { method = \"metadata\" }\ntags = { enabled = false }";
    let config = services.swr(more).replace("[sources.swr]", "[sources.agency]")
        + &services.swr("")
        + &services.ncr("");
    let output = once(&services, &config, &[]).await;
    let (page, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(log.contains("poll succeeded"), "{log}");
    // The metadata service may hand out the key that the agent made.
    assert!(services.keys().len() >= 3, "{log}");
    assert_eq!(answers(&services.simulator, Call::ListTags, 401), 1);
    services.assert_none_in(&log);
    services.assert_none_in(&page);
}

#[tokio::test]
async fn metadata_services_are_asked_without_a_proxy() {
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let proxy = format!("http://{}", trap.local_addr().unwrap());
    let mut services = Services::of(world()).await;
    // No name server knows this name, but a proxy would be asked for it.
    for name in ["HUAWEICLOUD_SDK_METADATA_ENDPOINT", "NCLOUD_METADATA_ENDPOINT"] {
        services.environment.push((name, "http://metadata.invalid".to_owned()));
    }
    let config = services.swr("shared = []") + &services.ncr("");
    let variables = [("HTTP_PROXY", proxy.as_str()), ("http_proxy", &proxy), ("ALL_PROXY", &proxy)];
    let output = once(&services, &config, &variables).await;
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(log.matches("no other credential is configured").count(), 2, "{log}");
    assert!(trap.accept().is_err(), "the proxy was asked");

    let services = Services::of(world()).await.metadata().pod_identity();
    let output = once(&services, &(services.swr("") + &services.ncr("")), &variables).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8(output.stderr).unwrap());
    assert!(trap.accept().is_err(), "the proxy was asked");
}
