//! The servers over real sockets, called as a stranger with the documents in hand would call them.

mod faults;
mod iam;
mod ncr;
mod services;
mod swr;

use super::signature::{ncp_signature, sdk_authorization};
use super::*;
use hyper::HeaderMap;
use hyper::header::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, ClientBuilder, Response};
use serde_json::{Value, json};
use std::time::Duration;

fn client() -> Client {
    client_builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

fn client_builder() -> ClientBuilder {
    // A second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Loopback needs no authorities, and reading the system's may fail.
    Client::builder().no_proxy().tls_certs_only([])
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

async fn call_swr_with(simulator: &Simulator, target: &str, secret: &str, time: Timestamp) -> Response {
    let headers = signed_headers(simulator, target, secret, time);
    let url = format!("{}{target}", simulator.swr_url());
    client().get(url).headers(headers).send().await.unwrap()
}

async fn call_swr(simulator: &Simulator, target: &str) -> Response {
    call_swr_with(simulator, target, keys::SWR_SECRET_KEY, Timestamp::now()).await
}

async fn call_ncr_below(simulator: &Simulator, base: &str, below: &str, time: Timestamp) -> Response {
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

async fn call_ncr(simulator: &Simulator, below: &str) -> Response {
    call_ncr_below(simulator, "/ncr/api/v2", below, Timestamp::now()).await
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
