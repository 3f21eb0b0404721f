//! What the other side said stands in the error, whatever form it has, and no secret with it.

use super::*;

const BLOCKED: &str = "<!DOCTYPE html>\n<html><head><title>Blocked by the firewall</title></head><body><h1>418</h1>\
    <p>Request ID: <code>4f2a-77</code></p></body></html>";

/// Answers of whoever stands before, or is taken for, the service; the reason, and words that must be shown.
fn answers() -> Vec<(Fault, &'static str, Vec<&'static str>)> {
    let text = |code, text: &str| Fault::Status { code, retry_after: None, body: ErrorBody::text(text) };
    let docker = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":null}]}"#;
    let not_ready = r#"{"responseError":{"returnCode":"900","returnMessage":"in maintenance"}}"#;
    vec![
        (text(418, BLOCKED), "protocol", vec!["Blocked by the firewall", "Request ID: 4f2a-77"]),
        (text(403, BLOCKED), "protocol", vec!["status 403", "Blocked by the firewall"]),
        (text(403, "RBAC: access\n denied"), "protocol", vec!["RBAC: access denied"]),
        (text(404, "404 page not found\n"), "not_found", vec!["404 page not found"]),
        (text(400, "<error><message>No such zone</message></error>"), "protocol", vec!["No such zone"]),
        (text(401, docker), "protocol", vec!["Docker registry", "endpoint", "UNAUTHORIZED"]),
        (text(200, not_ready), "decode", vec!["in maintenance", "status 200"]),
        (text(200, r#"{"success":false,"message":"in maintenance"}"#), "decode", vec!["in maintenance"]),
        (text(200, BLOCKED), "decode", vec!["Blocked by the firewall"]),
        (
            Fault::Redirect("https://login.example/sign-in?next=%2Fsecret".to_owned()),
            "protocol",
            vec!["status 307", "login.example/sign-in"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_carries_what_the_other_side_said() {
    let mut cells = Vec::new();
    for call in [Call::ListRepositories, Call::ListShared, Call::ListRegistries, Call::ListImages] {
        for (fault, reason, words) in answers() {
            let name = format!("{call:?} {fault:?}");
            cells.push((name, async move {
                let simulator = simulator(world()).await;
                simulator.fault(call, fault);
                let mut exporter = Exporter::new(&source(&simulator, call, "tags = { enabled = false }"));
                assert!(!exporter.poll().await);
                let failure = exporter.failure(place(call).0).unwrap();
                assert_eq!(failure.reason.as_str(), reason, "{}", failure.message);
                for word in words {
                    assert!(failure.message.contains(word), "{}", failure.message);
                }
                assert!(!failure.message.contains("secret") && !failure.message.contains('\n'));
                // None of them speaks of the key: the next poll asks again.
                simulator.clear_faults();
                assert!(exporter.poll().await);
            }));
        }
    }
    run(cells).await;
}
