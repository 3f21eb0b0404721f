//! What clouds repeat of a request and what is logged shows no secret.

use std::process::Command;

use container_registry_exporter::simulator::{ErrorBody, ErrorShape};

use super::*;

#[tokio::test]
async fn what_the_gateway_repeats_of_a_request_is_not_shown() {
    let mut world = world();
    world.swr.access_keys[0].security_token = Some(security_token());
    let simulator = simulator(world).await;
    let auth = format!(
        "access_key = \"{}\", secret_key = \"not the secret key\", security_token = \"{}\"",
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
    assert_no_secret(&shown, &["not the secret key", &token, &token[..12], &token[400..440]]);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_line_of_any_level_shows_a_secret() {
    let mut world = world();
    world.swr.access_keys[0].security_token = Some(security_token());
    let simulator = simulator(world).await;
    let auth = |secret_key: &str| {
        format!(
            "access_key = \"{}\", secret_key = \"{secret_key}\", security_token = \"{}\"",
            keys::SWR_ACCESS_KEY,
            security_token()
        )
    };
    simulator.fault(Call::ListTags, Fault::status(503)).times(1);
    let config = [
        swr_with("good", &simulator, &auth(keys::SWR_SECRET_KEY), ""),
        swr_with("bad", &simulator, &auth("not the secret key"), ""),
        swr_with_password(&simulator, ""),
        ncr(&simulator, ""),
        ncr_at("bad-ncr", &simulator.ncr_url(), "not the secret key", ""),
    ];
    let (_directory, path) = secret_file(&config.concat());
    let run = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_container-registry-exporter"));
        command.args(["once", "--log.level", "trace", "--config.file"]).arg(&path).output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let (page, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    for line in ["poll succeeded", "poll failed", "trying again", "canonicalRequest"] {
        assert!(log.contains(line), "{line} is not in: {log}");
    }
    let token = security_token();
    let mut secrets = SECRETS.to_vec();
    secrets.extend(["not the secret key", &token, &token[..12], &token[400..440]]);
    let tokens = simulator.edit(|world| world.iam.tokens.clone());
    assert_eq!(tokens.len(), 1);
    secrets.push(&tokens[0].value[..40]);
    assert_no_secret(&log, &secrets);
    assert_no_secret(&page, &secrets);
}
