//! The servers over real sockets, called as a stranger with the documents in hand would call them.

use super::signature::{ncp_signature, sdk_authorization};
use super::*;
use hyper::HeaderMap;
use hyper::header::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use std::time::Duration;

fn client() -> Client {
    // Loopback needs no authorities, and reading the system's may fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let redirects = reqwest::redirect::Policy::none();
    Client::builder().no_proxy().tls_certs_only([]).redirect(redirects).build().unwrap()
}

/// A group with `busybox` (three tags) and `team/app` (one tag).
fn small_world() -> World {
    let mut world = World::empty();
    let tags = [Tag::new("latest", 3), Tag::new("v1", 4), Tag::new("v2", 5)];
    let busybox = tags.into_iter().fold(Repository::new("group", "busybox"), Repository::with_tag);
    world.swr.add(busybox);
    world.swr.add(Repository::new("group", "team/app").with_tag(Tag::new("v1", 7)));
    let image = Image::new("team/app").with_tag(ImageTag::new("v1", 9));
    world.ncr.add(Registry::new("prod").with_image(image).with_image(Image::new("web")));
    world
}

fn signed_headers(simulator: &Simulator, target: &str, secret: &str, time: Timestamp) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let host = simulator.swr_url().replace("http://", "");
    headers.insert("host", HeaderValue::try_from(host).unwrap());
    headers.insert("x-sdk-date", HeaderValue::try_from(time.strftime("%Y%m%dT%H%M%SZ").to_string()).unwrap());
    let keys = (keys::SWR_ACCESS_KEY, secret);
    let authorization = sdk_authorization("GET", target, &headers, b"", keys);
    headers.insert("authorization", HeaderValue::try_from(authorization).unwrap());
    headers
}

async fn swr_with(simulator: &Simulator, target: &str, secret: &str, time: Timestamp) -> Response {
    let headers = signed_headers(simulator, target, secret, time);
    let url = format!("{}{target}", simulator.swr_url());
    client().get(url).headers(headers).send().await.unwrap()
}

async fn swr(simulator: &Simulator, target: &str) -> Response {
    swr_with(simulator, target, keys::SWR_SECRET_KEY, Timestamp::now()).await
}

async fn ncr_at(simulator: &Simulator, base: &str, below: &str, time: Timestamp) -> Response {
    let time = time.as_millisecond().to_string();
    let key = keys::NCR_ACCESS_KEY;
    let signature = ncp_signature("GET", &format!("{base}{below}"), &time, key, keys::NCR_SECRET_KEY);
    client()
        .get(format!("{}{below}", simulator.ncr_url_below(base)))
        .header("x-ncp-apigw-timestamp", time)
        .header("x-ncp-iam-access-key", key)
        .header("x-ncp-apigw-signature-v2", signature)
        .send()
        .await
        .unwrap()
}

async fn ncr(simulator: &Simulator, below: &str) -> Response {
    ncr_at(simulator, "/ncr/api/v2", below, Timestamp::now()).await
}

fn content_range(response: &Response) -> Option<&str> {
    response.headers().get("content-range").map(|value| value.to_str().unwrap())
}

/// Status and the vendor's code of an error.
async fn error(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
    let code = [&body["error_code"], &body["error"]["errorCode"], &body["error"]["code"]];
    (status, code.iter().find(|code| !code.is_null()).map(ToString::to_string).unwrap_or_default())
}

async fn names(response: Response, field: &str) -> Vec<String> {
    assert_eq!(response.status(), 200);
    let body: Value = response.json().await.unwrap();
    let rows = body.as_array().or_else(|| body["results"].as_array()).unwrap();
    rows.iter().map(|row| row[field].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn swr_pages_with_totals_and_an_empty_page_beyond_the_end() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let response = swr(&simulator, "/v2/manage/repos?limit=1&offset=1").await;
    assert_eq!(content_range(&response), Some("1-1/2"));
    let rows: Value = response.json().await.unwrap();
    assert_eq!(rows[0]["name"], "team/app");
    assert_eq!(rows[0]["total_range"], 2);
    let response = swr(&simulator, "/v2/manage/repos?limit=10&offset=10").await;
    assert_eq!(content_range(&response), Some("10-0/0"));
    assert_eq!(response.text().await.unwrap(), "[]");
    assert_eq!(content_range(&swr(&simulator, "/v2/manage/repos").await), None);
    assert_eq!(simulator.requests(Call::ListRepositories), 3);
}

#[tokio::test]
async fn swr_refuses_halves_of_pairs_and_numbers_out_of_range() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    for query in [
        "limit=10",
        "offset=0",
        "limit=0&offset=0",
        "limit=1001&offset=0",
        "limit=10&offset=5",
        "limit=x&offset=0",
    ] {
        let refused = error(swr(&simulator, &format!("/v2/manage/repos?{query}")).await).await;
        assert_eq!(refused, (400, "\"SVCSTG.SWR.4001072\"".to_owned()), "{query}");
    }
    assert_eq!(swr(&simulator, "/v2/manage/shared-repositories?limit=10&offset=0").await.status(), 400);
    let filtered =
        swr(&simulator, "/v2/manage/repos?filter=name%3A%3Abusy%7Climit%3A%3A10%7Coffset%3A%3A0").await;
    assert_eq!(names(filtered, "name").await, ["busybox"]);
}

#[tokio::test]
async fn swr_addresses_nested_names_with_a_dollar() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    for name in ["team$app", "team%24app"] {
        let tags =
            swr(&simulator, &format!("/v2/manage/namespaces/group/repos/{name}/tags?limit=10&offset=0"))
                .await;
        assert_eq!(content_range(&tags), Some("0-1/1"));
        assert_eq!(names(tags, "Tag").await, ["v1"]);
        let shown: Value =
            swr(&simulator, &format!("/v2/manage/namespaces/group/repos/{name}")).await.json().await.unwrap();
        assert_eq!((&shown["name"], &shown["size"]), (&json!("team/app"), &json!(7)));
    }
    let refused = swr(&simulator, "/v2/manage/namespaces/group/repos/team%2Fapp/tags").await;
    assert_eq!(error(refused).await, (404, "\"APIGW.0101\"".to_owned()));
    let missing = swr(&simulator, "/v2/manage/namespaces/group/repos/none/tags").await;
    assert_eq!(error(missing).await, (404, "\"SVCSTG.SWR.4040113\"".to_owned()));
    simulator.edit(|world| world.swr.not_found_is_400 = true);
    assert_eq!(swr(&simulator, "/v2/manage/namespaces/group/repos/none").await.status(), 400);
}

#[tokio::test]
async fn swr_locks_a_key_after_five_refused_calls() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let target = "/v2/manage/repos";
    let now = Timestamp::now();
    for _ in 0..5 {
        let refused = swr_with(&simulator, target, "wrong", now).await;
        assert_eq!(error(refused).await, (401, "\"APIGW.0301\"".to_owned()));
    }
    assert_eq!(swr(&simulator, target).await.status(), 401);
    assert_eq!(simulator.edit(|world| world.swr.access_keys[0].refused_calls), 6);
    simulator.edit(|world| world.clock_offset = SignedDuration::from_secs(301));
    assert_eq!(swr(&simulator, target).await.status(), 200);
}

#[tokio::test]
async fn swr_judges_dates_by_its_own_clock_and_shows_it() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    simulator.edit(|world| world.clock_offset = SignedDuration::from_hours(1));
    let now = Timestamp::now();
    let refused = swr_with(&simulator, "/v2/manage/repos", keys::SWR_SECRET_KEY, now).await;
    assert_eq!(refused.status(), 401);
    let date = refused.headers()["date"].to_str().unwrap().to_owned();
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(&date).unwrap();
    assert!(date.duration_since(now) > SignedDuration::from_mins(59), "{date}");
    let hour = SignedDuration::from_hours(1);
    assert_eq!(
        swr_with(&simulator, "/v2/manage/repos", keys::SWR_SECRET_KEY, now + hour).await.status(),
        200
    );
}

#[tokio::test]
async fn swr_lists_both_sides_of_sharing() {
    let mut world = small_world();
    world.swr.repositories.get_mut("group/busybox").unwrap().shared_by_me = true;
    let mut expired = Repository::new("theirs", "base");
    expired.share_is_valid = false;
    world.swr.add_shared_with_me(expired);
    let simulator = Simulator::start(world).await.unwrap();
    let mine = swr(&simulator, "/v2/manage/shared-repositories?center=self&limit=10&offset=0").await;
    assert_eq!(names(mine, "name").await, ["busybox"]);
    let theirs = swr(&simulator, "/v2/manage/shared-repositories?center=thirdparty&limit=10&offset=0").await;
    let theirs: Value = theirs.json().await.unwrap();
    assert_eq!((&theirs[0]["name"], &theirs[0]["status"]), (&json!("base"), &json!(false)));
}

#[tokio::test]
async fn iam_gives_a_token_that_swr_takes_until_it_expires() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let ask = |password: &str, scope: Value| {
        let user =
            json!({"domain": {"name": keys::IAM_ACCOUNT}, "name": keys::IAM_USER, "password": password});
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        let body = json!({"auth": {"identity": identity, "scope": scope}});
        client().post(format!("{}/v3/auth/tokens?nocatalog=true", simulator.iam_url())).json(&body).send()
    };
    let use_token = |token: HeaderValue| {
        client().get(format!("{}/v2/manage/repos", simulator.swr_url())).header("x-auth-token", token).send()
    };
    let project = json!({"project": {"name": keys::REGION}});
    let response = ask(keys::IAM_PASSWORD, project.clone()).await.unwrap();
    assert_eq!(response.status(), 201);
    let token = response.headers()["x-subject-token"].clone();
    assert_eq!(token.len(), 7 * 1024);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["token"]["project"]["id"], keys::PROJECT_ID);
    assert!(body["token"]["expires_at"].as_str().unwrap().len() == "2020-01-04T09:05:22.701000Z".len());
    assert_eq!(use_token(token.clone()).await.unwrap().status(), 200);

    let account = json!({"domain": {"name": keys::IAM_ACCOUNT}});
    let response = ask(keys::IAM_PASSWORD, account).await.unwrap();
    assert_eq!(use_token(response.headers()["x-subject-token"].clone()).await.unwrap().status(), 401);

    assert_eq!(error(ask("wrong", project.clone()).await.unwrap()).await, (401, "401".to_owned()));
    assert_eq!(
        error(ask(keys::IAM_PASSWORD, json!({"project": {}})).await.unwrap()).await,
        (400, "400".to_owned())
    );

    simulator.edit(|world| world.clock_offset = SignedDuration::from_hours(25));
    assert_eq!(use_token(token).await.unwrap().status(), 401);
}

#[tokio::test]
async fn ncr_pages_by_number_below_every_base_path() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    for base in ["/ncr/api/v2", "/ncr/sgn-api/v2", "/ncr/jpn-api/v2", "/ncr/kr/v2", "/ncr/krs/v2"] {
        let page = ncr_at(&simulator, base, "/repositories/prod?page=1&pagesize=1", Timestamp::now()).await;
        let page: Value = page.json().await.unwrap();
        assert_eq!((&page["count"], &page["next"], &page["previous"]), (&json!(2), &json!(2), &Value::Null));
    }
    let last: Value = ncr(&simulator, "/repositories/prod?page=2&pagesize=1").await.json().await.unwrap();
    assert_eq!((&last["next"], &last["previous"]), (&Value::Null, &json!(1)));
    assert_eq!(names(ncr(&simulator, "/repositories").await, "name").await, ["prod"]);
    assert_eq!(names(ncr(&simulator, "/repositories/prod/team%2Fapp/tags").await, "name").await, ["v1"]);
    let missed = ncr(&simulator, "/repositories/prod/team/app/tags").await;
    assert_eq!(error(missed).await, (404, "\"300\"".to_owned()));
    for query in ["page=0", "pagesize=0", "pagesize=101", "page=x"] {
        assert_eq!(ncr(&simulator, &format!("/repositories?{query}")).await.status(), 400, "{query}");
    }
}

#[tokio::test]
async fn ncr_refuses_stale_signatures_and_missing_permission() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let stale = Timestamp::now() - SignedDuration::from_secs(310);
    let refused = ncr_at(&simulator, "/ncr/api/v2", "/repositories", stale).await;
    assert_eq!(error(refused).await, (401, "\"200\"".to_owned()));
    simulator.edit(|world| {
        world.ncr.access_keys[0].lacks_permission = true;
        world.ncr.error_shape = ErrorShape::NcrNumber;
    });
    assert_eq!(error(ncr(&simulator, "/repositories").await).await, (401, "210".to_owned()));
}

#[tokio::test]
async fn faults_hit_their_requests_and_the_log_tells() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let throttled =
        ErrorBody::new(ErrorShape::Gateway, "APIGW.0308", "The throttling threshold has been reached");
    let fault = Fault::Status { code: 429, retry_after: Some("1".to_owned()), body: throttled };
    simulator.fault(Call::ListRepositories, fault).times(1);
    let target = "/v2/manage/repos?limit=1&offset=0";
    let response = swr(&simulator, target).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (429, &HeaderValue::from_static("1"))
    );
    assert_eq!(swr(&simulator, target).await.status(), 200);
    let log = simulator.log();
    assert_eq!(log.iter().map(|exchange| exchange.status).collect::<Vec<_>>(), [Some(429), Some(200)]);
    assert!(log[0].header("authorization").unwrap().starts_with("SDK-HMAC-SHA256 Access=MADEUP"));
    assert!(log[0].ended.unwrap() <= log[1].started);
    assert_eq!(simulator.most_in_flight(Call::ListRepositories), 1);
}

#[tokio::test]
async fn a_shift_while_paging_hides_a_row() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let tags = "/v2/manage/namespaces/group/repos/busybox/tags?limit=1&offset";
    simulator.fault(Call::ListTags, Fault::ShiftByLuck).times(1);
    let mut seen = Vec::new();
    for offset in 0..3 {
        let page = swr(&simulator, &format!("{tags}={offset}")).await;
        assert_eq!(content_range(&page), Some(format!("{offset}-1/3").as_str()));
        seen.extend(names(page, "Tag").await);
    }
    assert_eq!(seen, ["latest", "v2", "latest-more"]);
}

#[tokio::test]
async fn endless_pages_are_full_and_name_no_total() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    simulator.fault(Call::ListRepositories, Fault::EndlessPages);
    let page = swr(&simulator, "/v2/manage/repos?limit=3&offset=3").await;
    assert_eq!(content_range(&page), None);
    assert_eq!(names(page, "name").await, ["team/app-3", "busybox-4", "team/app-5"]);
}

#[tokio::test]
async fn broken_answers_break_on_the_wire() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let target = "/v2/manage/repos";
    let send = || {
        let headers = signed_headers(&simulator, target, keys::SWR_SECRET_KEY, Timestamp::now());
        client().get(format!("{}{target}", simulator.swr_url())).headers(headers)
    };
    let fault = simulator.fault(Call::ListRepositories, Fault::Reset);
    assert!(send().send().await.is_err());
    fault.end();
    let fault = simulator.fault(Call::ListRepositories, Fault::Truncate);
    assert!(send().send().await.unwrap().bytes().await.is_err());
    fault.end();
    let fault = simulator.fault(Call::ListRepositories, Fault::Hang);
    assert!(send().timeout(Duration::from_millis(50)).send().await.unwrap_err().is_timeout());
    fault.end();
    simulator.fault(Call::ListRepositories, Fault::HugeBody);
    let mut body = send().send().await.unwrap();
    assert!(body.chunk().await.unwrap().unwrap().iter().all(|byte| *byte == b' '));
}

#[tokio::test]
async fn stopping_ends_calls_that_hang() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    simulator.fault(Call::ListRepositories, Fault::Hang);
    let headers = signed_headers(&simulator, "/v2/manage/repos", keys::SWR_SECRET_KEY, Timestamp::now());
    let call = client().get(format!("{}/v2/manage/repos", simulator.swr_url())).headers(headers).send();
    let call = tokio::spawn(call);
    while simulator.requests(Call::ListRepositories) == 0 {
        tokio::task::yield_now().await;
    }
    drop(simulator);
    assert!(call.await.unwrap().is_err());
}

#[tokio::test]
async fn compresses_for_those_who_ask() {
    let simulator = Simulator::start(small_world()).await.unwrap();
    let headers = signed_headers(&simulator, "/v2/manage/repos", keys::SWR_SECRET_KEY, Timestamp::now());
    let response = Client::builder().no_proxy().no_gzip().tls_certs_only([]).build().unwrap();
    let response = response.get(format!("{}/v2/manage/repos", simulator.swr_url())).headers(headers);
    let response = response.header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(names(swr(&simulator, "/v2/manage/repos").await, "name").await, ["busybox", "team/app"]);
}
