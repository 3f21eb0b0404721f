//! Addresses and request signature (SDK-HMAC-SHA256) of Huawei Cloud.
//!
//! ```text
//! canonical request = METHOD \n URI \n QUERY \n HEADERS \n NAMES OF HEADERS \n HASH OF BODY
//!   URI     = path decoded and encoded again, ending in a slash that is not sent
//!   QUERY   = key=value pairs, sorted, joined by &; also the form that is sent
//!   HEADERS = one line `name:value\n` each, sorted
//! string to sign    = "SDK-HMAC-SHA256" \n DATE \n hex(SHA-256(canonical request))
//! signature         = hex(HMAC-SHA256(secret key, string to sign))
//! ```
//!
//! <https://support.huaweicloud.com/devg-apisign/api-sign-algorithm-001.html>

use percent_encoding::{AsciiSet, percent_decode_str, percent_encode, utf8_percent_encode};
use secrecy::SecretString;
use sha2::{Digest, Sha256};

use crate::inventory::Timestamp;
use crate::provider::encode::{RESERVED, UnusableName, hex, hmac_sha256, segment};

/// Header that carries [`Signed::date`].
pub const DATE_HEADER: &str = "x-sdk-date";
/// Header that carries the project's id; to be signed.
pub const PROJECT_ID_HEADER: &str = "x-project-id";
/// Header that carries the security token of temporary keys; to be signed.
pub const SECURITY_TOKEN_HEADER: &str = "x-security-token";

/// The list of repositories, below the endpoint.
pub const REPOSITORIES_PATH: &str = "/v2/manage/repos";
/// The lists of shared repositories, below the endpoint.
pub const SHARED_REPOSITORIES_PATH: &str = "/v2/manage/shared-repositories";

const ALGORITHM: &str = "SDK-HMAC-SHA256";
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// SHA-256 of no bytes.
pub const EMPTY_BODY_HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The parts of a request that are signed. Has no `Debug`, since a header may be a security token.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// HTTP method in capitals.
    pub method: &'a str,
    /// The header `Host`: with the port if it is not the scheme's own.
    pub host: &'a str,
    /// Path as sent.
    pub path: &'a str,
    /// Query in any order, not encoded; to be sent as [`query_string`] gives it.
    pub query: &'a [(&'a str, &'a str)],
    /// Further headers to sign, each once and sent as given here; `Host` and the date are signed in any case.
    pub headers: &'a [(&'a str, &'a str)],
    /// SHA-256 of the body in hexadecimal digits: [`EMPTY_BODY_HASH`] for a GET.
    pub body_hash: &'a str,
}

/// What a signature adds to a request; good for fifteen minutes around its time.
pub struct Signed {
    /// The header `Authorization`.
    pub authorization: String,
    /// The header `X-Sdk-Date`.
    pub date: String,
}

/// Signs one attempt.
pub fn sign(request: Request<'_>, access_key: &str, secret_key: &SecretString, now: Timestamp) -> Signed {
    let date = date(now);
    let (canonical, names) = canonical_request(request, &date);
    let signature = hex(&hmac_sha256(secret_key, &string_to_sign(&canonical, &date)));
    let authorization =
        format!("{ALGORITHM} Access={access_key}, SignedHeaders={names}, Signature={signature}");
    Signed { authorization, date }
}

/// The pairs encoded and sorted, as they are signed and sent; without a `?`.
pub fn query_string(pairs: &[(&str, &str)]) -> String {
    let mut pairs = pairs.to_vec();
    pairs.sort_unstable();
    let mut query = String::new();
    for (key, value) in pairs {
        let separator = if query.is_empty() { "" } else { "&" };
        query.extend([separator]);
        query.extend(utf8_percent_encode(key, RESERVED));
        query.push('=');
        query.extend(utf8_percent_encode(value, RESERVED));
    }
    query
}

/// Path, below the endpoint, of one repository. A `/` in its name is addressed as `$`, sent as `%24`.
pub fn repository_path(organization: &str, repository: &str) -> Result<String, UnusableName> {
    let repository = repository.replace('/', "$");
    Ok(format!("/v2/manage/namespaces/{}/repos/{}", segment(organization)?, segment(&repository)?))
}

/// Path, below the endpoint, of the list of a repository's tags.
pub fn tags_path(organization: &str, repository: &str) -> Result<String, UnusableName> {
    Ok(repository_path(organization, repository)? + "/tags")
}

fn date(now: Timestamp) -> String {
    let now = jiff::Timestamp::from_nanosecond(now.nanoseconds().into())
        .expect("the calendar is wider than what eight bytes of nanoseconds reach");
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The canonical request, and the names of the signed headers as the signature lists them.
fn canonical_request(request: Request<'_>, date: &str) -> (String, String) {
    let path_bytes: Vec<u8> = percent_decode_str(request.path).collect();
    let path = percent_encode(&path_bytes, RESERVED_IN_PATH);
    let slash = if path_bytes.ends_with(b"/") { "" } else { "/" };
    let query = query_string(request.query);

    let mut headers: Vec<(String, &str)> =
        request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.trim())).collect();
    headers.extend([("host".to_owned(), request.host), (DATE_HEADER.to_owned(), date)]);
    headers.sort_unstable();
    let mut lines = String::new();
    for (name, value) in &headers {
        lines.extend([name, ":", value, "\n"]);
    }
    let names = headers.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(";");

    let Request { method, body_hash, .. } = request;
    let canonical = format!("{method}\n{path}{slash}\n{query}\n{lines}\n{names}\n{body_hash}");
    (canonical, names)
}

fn string_to_sign(canonical_request: &str, date: &str) -> String {
    format!("{ALGORITHM}\n{date}\n{}", hex(&Sha256::digest(canonical_request)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    const SECRET_KEY: &str = "exampleSecretKey0123456789abcdefghijklmnop";

    fn text(value: &Value) -> &str {
        value.as_str().unwrap()
    }

    fn time(date: &str) -> Timestamp {
        let date = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).unwrap();
        let date = date.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
        Timestamp::from_nanoseconds(date.as_nanosecond()).unwrap()
    }

    /// A value of a query as the SDK writes it.
    fn query_value(value: &Value) -> String {
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }

    #[test]
    fn reproduces_every_vector() {
        let file: Value =
            serde_json::from_str(include_str!("../../../tests/vectors/huawei_sign_vectors.json")).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        assert_eq!(vectors.len(), 26);
        for vector in vectors {
            let (name, expected) = (text(&vector["name"]), &vector["expected"]);
            let pairs = vector["query"].as_array().unwrap().iter();
            let pairs: Vec<_> = pairs.map(|pair| (text(&pair[0]), query_value(&pair[1]))).collect();
            let query: Vec<_> = pairs.iter().map(|(key, value)| (*key, value.as_str())).collect();
            let mut headers: Vec<_> = vector["headers"].as_object().unwrap().iter().collect();
            let sent = expected["headers"].as_object().unwrap();
            headers.extend(sent.iter().filter(|(name, _)| {
                ["x-project-id", "x-security-token", "x-sdk-content-sha256"]
                    .contains(&name.to_lowercase().as_str())
            }));
            let headers: Vec<_> =
                headers.into_iter().map(|(name, value)| (name.as_str(), text(value))).collect();
            let unsigned = sent.get("X-Sdk-Content-Sha256").map(text);
            let hash = hex(&Sha256::digest(vector["body"].as_str().unwrap_or_default()));
            let request = Request {
                method: text(&vector["method"]),
                host: text(&vector["host"]),
                path: text(&vector["path"]),
                query: &query,
                headers: &headers,
                body_hash: unsigned.unwrap_or(&hash),
            };

            let (canonical, names) = canonical_request(request, text(&vector["date"]));
            assert_eq!(canonical, text(&expected["canonical_request"]), "{name}");
            assert_eq!(names, text(&expected["signed_headers"]), "{name}");
            let to_sign = string_to_sign(&canonical, text(&vector["date"]));
            assert_eq!(to_sign, text(&expected["string_to_sign"]), "{name}");
            let secret_key = SecretString::from(text(&vector["sk"]));
            let signed = sign(request, text(&vector["ak"]), &secret_key, time(text(&vector["date"])));
            assert_eq!(signed.authorization, text(&expected["authorization"]), "{name}");
            assert_eq!(signed.date, text(&vector["date"]), "{name}");
            let separator = if query.is_empty() { "" } else { "?" };
            let target = format!("{}{separator}{}", request.path, query_string(&query));
            assert_eq!(target, text(&expected["request_target"]), "{name}");
        }
    }

    #[test]
    fn reproduces_the_signature_of_every_signed_request_of_the_sdk() {
        let file: Value =
            serde_json::from_str(include_str!("../../../tests/vectors/huawei_sdk_requests.json")).unwrap();
        let mut seen = 0;
        for list in ["requests", "auth_requests"] {
            for captured in file[list].as_array().unwrap() {
                let headers = captured["headers"].as_array().unwrap();
                let header = |name: &str| {
                    let found = headers.iter().find(|h| text(&h[0]).eq_ignore_ascii_case(name));
                    found.map(|header| text(&header[1]))
                };
                let Some(authorization) = header("Authorization").filter(|a| a.starts_with(ALGORITHM)) else {
                    continue;
                };
                let names = authorization.split("SignedHeaders=").nth(1).unwrap();
                let names = names.split(',').next().unwrap().split(';');
                let names = names.filter(|name| !["host", DATE_HEADER].contains(name));
                let headers: Vec<_> = names.map(|name| (name, header(name).unwrap())).collect();
                let url = format!("http://127.0.0.1{}", text(&captured["request_target"]));
                let url = url::Url::parse(&url).unwrap();
                let pairs: Vec<_> = url.query_pairs().collect();
                let query: Vec<_> = pairs.iter().map(|(key, value)| (&**key, &**value)).collect();
                let request = Request {
                    method: text(&captured["method"]),
                    host: header("Host").unwrap(),
                    path: url.path(),
                    query: &query,
                    headers: &headers,
                    body_hash: &hex(&Sha256::digest(captured["body"].as_str().unwrap_or_default())),
                };
                let now = time(header(DATE_HEADER).unwrap());
                let signed = sign(request, "HPUATESTAKEXAMPLE001", &SECRET_KEY.into(), now);
                assert_eq!(signed.authorization, authorization, "{}", captured["name"]);
                assert_eq!(query_string(&query), url.query().unwrap_or_default());
                seen += 1;
            }
        }
        assert_eq!(seen, 25);
    }

    #[test]
    fn hash_of_no_body_is_the_hash_of_no_bytes() {
        assert_eq!(EMPTY_BODY_HASH, hex(&Sha256::digest("")));
    }

    #[test]
    fn addresses_a_nested_name_with_dollar_signs() {
        let path = tags_path("group", "a/b/c").unwrap();
        assert_eq!(path, "/v2/manage/namespaces/group/repos/a%24b%24c/tags");
        assert!(repository_path("group", "..").is_err());
    }

    proptest! {
        #[test]
        fn url_parser_leaves_the_query_as_it_was_signed(key in ".*", value in ".*") {
            let query = query_string(&[(&key, &value)]);
            let url = url::Url::parse(&format!("https://swr.example/?{query}")).unwrap();
            prop_assert_eq!(url.query(), Some(query.as_str()));
        }

        #[test]
        fn any_path_has_a_canonical_form(path in ".*", host in ".*") {
            let body_hash = EMPTY_BODY_HASH;
            let request =
                Request { method: "GET", host: &host, path: &path, query: &[], headers: &[], body_hash };
            let (canonical, _) = canonical_request(request, "20240102T030405Z");
            prop_assert!(canonical.split('\n').nth(1).unwrap().ends_with('/'));
        }
    }
}
