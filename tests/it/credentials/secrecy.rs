//! What clouds repeat of a request shows no secret.

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
