use super::*;
use reqwest::RequestBuilder;

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

async fn body(request: RequestBuilder) -> Value {
    let response = request.send().await.unwrap();
    assert!(response.status().is_success(), "{}", response.status());
    response.json().await.unwrap()
}

fn web_token(simulator: &Simulator) {
    let token = WebToken { value: "web token".to_owned(), expires_at: Timestamp::MAX };
    simulator.edit(|world| world.services.web_tokens.push(token));
}

#[tokio::test]
async fn metadata_services_want_a_session_and_give_the_same_key_for_hours() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let at = |path: &str| format!("{}{path}", simulator.metadata_url());
    for (token_path, ttl, header, key_path, secret) in [
        (
            "/meta-data/latest/api/token",
            "X-Metadata-Token-Ttl-Seconds",
            "X-Metadata-Token",
            "/openstack/latest/securitykey",
            "/credential/secret",
        ),
        (
            "/latest/api/token",
            "X-NCP-METADATA-TOKEN-TTL-SECONDS",
            "X-NCP-METADATA-TOKEN",
            "/latest/meta-data/iam/security-credentials/5c2f0e9a-made-up-role",
            "/SecretAccessKey",
        ),
    ] {
        assert_eq!(status(client().get(at(key_path))).await, 401);
        assert_eq!(status(client().put(at(token_path))).await, 400);
        assert_eq!(status(client().put(at(token_path)).header(ttl, "21601")).await, 400);
        let token = client().put(at(token_path)).header(ttl, "21600").send().await.unwrap();
        let token = token.text().await.unwrap();
        assert_eq!(status(client().get(at(key_path)).header(header, "another")).await, 401);
        let first = body(client().get(at(key_path)).header(header, &token)).await;
        let second = body(client().get(at(key_path)).header(header, &token)).await;
        assert!(first.pointer(secret).unwrap().is_string(), "{first}");
        assert_eq!(first.pointer(secret), second.pointer(secret));
        simulator.edit(|world| world.clock_offset = SignedDuration::from_hours(19));
        let third = body(client().get(at(key_path)).header(header, &token)).await;
        assert_ne!(first.pointer(secret), third.pointer(secret));
        simulator.edit(|world| world.clock_offset = SignedDuration::ZERO);
    }
    assert_eq!(status(client().get(at("/openstack/latest/"))).await, 404);
    assert_eq!(status(client().get(at("/latest/meta-data/iam/security-credentials/another"))).await, 401);
}

#[tokio::test]
async fn keys_are_good_until_they_end() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let (key, _) =
        simulator.edit(|world| world.hand_out(world::Owner::Huawei, Duration::from_hours(1), false));
    let call = || async {
        let mut headers = HeaderMap::new();
        let now = simulator.edit(|world| world.now()).strftime("%Y%m%dT%H%M%SZ").to_string();
        let token = key.security_token.clone().unwrap();
        for (name, value) in [
            ("host", simulator.swr_url().replace("http://", "")),
            ("x-sdk-date", now),
            ("x-security-token", token),
        ] {
            headers.insert(name, HeaderValue::try_from(value).unwrap());
        }
        let keys = (key.access_key.as_str(), key.secret_key.as_str());
        let authorization = sdk_authorization("GET", "/v2/manage/repos", &headers, b"", keys);
        headers.insert("authorization", HeaderValue::try_from(authorization).unwrap());
        status(client().get(format!("{}/v2/manage/repos", simulator.swr_url())).headers(headers)).await
    };
    assert_eq!(call().await, 200);
    simulator.edit(|world| world.clock_offset = SignedDuration::from_mins(61));
    assert_eq!(call().await, 401);
}

#[tokio::test]
async fn the_agent_takes_the_bare_token_and_an_empty_object() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    web_token(&simulator);
    let ask = |token: &str, body: Value| {
        client().post(simulator.agent_url()).header("authorization", token).json(&body)
    };
    assert_eq!(status(ask("Bearer web token", json!({}))).await, 401);
    assert_eq!(status(ask("web token", json!([]))).await, 400);
    let answer = body(ask("web token", json!({}))).await;
    assert!(answer["credentials"]["accessKeyId"].is_string(), "{answer}");
    simulator.edit(|world| world.services.pod_associated = false);
    assert_eq!(status(ask("web token", json!({}))).await, 404);
}

#[tokio::test]
async fn iam_and_sts_take_web_tokens_of_providers_they_know() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    web_token(&simulator);
    let at = |path: &str| format!("{}{path}", simulator.iam_url());
    let unscoped = |provider: &str, token: &str| {
        let body = json!({ "auth": { "id_token": { "id": token } } });
        client().post(at("/v3.0/OS-AUTH/id-token/tokens")).header("x-idp-id", provider).json(&body)
    };
    assert_eq!(status(unscoped("another", "web token")).await, 401);
    assert_eq!(status(unscoped("made-up-idp", "another")).await, 401);
    let response = unscoped("made-up-idp", "web token").send().await.unwrap();
    assert_eq!(response.status(), 201);
    let token = response.headers()["x-subject-token"].to_str().unwrap().to_owned();
    let key = |seconds: u32| {
        let identity = json!({ "methods": ["token"], "token": { "id": token, "duration_seconds": seconds } });
        let body = json!({ "auth": { "identity": identity } });
        client().post(at("/v3.0/OS-CREDENTIAL/securitytokens")).json(&body)
    };
    assert_eq!(status(key(899)).await, 400);
    assert!(body(key(900)).await["credential"]["securitytoken"].is_string());

    let assume = |agency: &str, seconds: u32| {
        let body = json!({
            "provider_urn": "iam::made-up:oidc-provider:cce", "agency_urn": agency,
            "agency_session_name": "session", "id_token": "web token", "duration_seconds": seconds,
        });
        client().post(at("/v5/agencies/assume-with-oidc")).json(&body)
    };
    let agency = "iam::made-up:agency:swr-reader";
    assert_eq!(status(assume("another", 3600)).await, 403);
    assert_eq!(status(assume(agency, 43_201)).await, 400);
    assert!(body(assume(agency, 3600)).await["credentials"]["security_token"].is_string());
    simulator.edit(|world| world.services.web_tokens.clear());
    assert_eq!(status(assume(agency, 3600)).await, 401);
}
