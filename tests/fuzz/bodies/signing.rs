//! Names from lists, and what becomes of them in addresses and signatures. The input is an organization, a
//! repository, a host and an access key on a line each, then a query's keys and values on a line each.

use container_registry_exporter::inventory::Timestamp;
use container_registry_exporter::provider::encode::{hex, hmac_sha256};
use container_registry_exporter::provider::ncr;
use container_registry_exporter::provider::swr::sign::{self, EMPTY_BODY_HASH, Request};
use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use url::{Position, Url, form_urlencoded};

/// What is signed is what is sent: no URL parser changes it, and it names what it was made of.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let [organization, repository, host, access_key] =
        std::array::from_fn(|_| lines.next().unwrap_or_default());
    let query: Vec<(&str, &str)> = lines.map(|line| line.split_once('=').unwrap_or((line, ""))).collect();
    let secret_key = SecretString::from("exampleSecretKey0123456789");
    let now = Timestamp::from_milliseconds(1_790_000_000_123).expect("it is in range");

    let encoded = sign::query_string(&query);
    let mut sorted = query.clone();
    sorted.sort_unstable();
    let decoded: Vec<_> = form_urlencoded::parse(encoded.as_bytes()).collect();
    assert!(decoded.iter().map(|(key, value)| (&**key, &**value)).eq(sorted.iter().copied()), "{encoded}");

    if let Ok(path) = sign::tags_path(organization, repository) {
        let sent = as_sent(&path, &encoded);
        // The API writes `$` where a repository's name has a slash.
        let repository = repository.replace('/', "$");
        let expected = ["", "v2", "manage", "namespaces", organization, "repos", &repository, "tags"];
        assert_eq!(segments_of(&path), expected);
        let request = Request {
            method: "GET",
            host,
            path: &path,
            query: &query,
            headers: &[],
            body_hash: EMPTY_BODY_HASH,
        };
        let signed = sign::sign(request, access_key, &secret_key, now);
        let reversed: Vec<_> = query.iter().rev().copied().collect();
        let again = sign::sign(Request { query: &reversed, ..request }, access_key, &secret_key, now);
        assert_eq!(signed.authorization, again.authorization);
        // The vendor's algorithm, from what is on the wire.
        let (path, query) = sent.split_once('?').unwrap_or((&sent, ""));
        let path = path.replace("%2F", "/");
        let time = "20260921T141320Z";
        let canonical = format!(
            "GET\n{path}/\n{query}\nhost:{host}\nx-sdk-date:{time}\n\nhost;x-sdk-date\n{EMPTY_BODY_HASH}"
        );
        let hash = hex(&Sha256::digest(canonical));
        let signature = hex(&hmac_sha256(&secret_key, &format!("SDK-HMAC-SHA256\n{time}\n{hash}")));
        assert_eq!(signed.date, time);
        assert_eq!(
            signed.authorization,
            format!(
                "SDK-HMAC-SHA256 Access={access_key}, SignedHeaders=host;x-sdk-date, Signature={signature}"
            )
        );
    }
    if let Ok(path) = ncr::sign::tags_path(organization, repository) {
        as_sent(&path, &encoded);
        assert_eq!(segments_of(&path), ["", "repositories", organization, repository, "tags"]);
        assert_eq!(ncr::sign::images_path(organization).as_deref(), Ok(path_of_images(&path)));
    }
}

/// Path and query as an HTTP client sends them.
fn as_sent(path: &str, query: &str) -> String {
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let url = Url::parse(&format!("https://registry.example{target}")).expect("it is an address");
    assert_eq!(&url[Position::BeforePath..], target);
    target
}

fn segments_of(path: &str) -> Vec<String> {
    let decoded = |segment| percent_decode_str(segment).decode_utf8().expect("it was text").into_owned();
    path.split('/').map(decoded).collect()
}

fn path_of_images(path: &str) -> &str {
    path.rsplitn(3, '/').last().expect("there are segments")
}
