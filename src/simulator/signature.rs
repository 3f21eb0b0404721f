//! Both vendors' request signatures, computed anew from what arrived; written from the documents alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// What the signing guides call unreserved: letters, digits and these four stay as they are.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The header `Authorization: SDK-HMAC-SHA256 Access=..., SignedHeaders=..., Signature=...`, taken apart.
///
/// <https://support.huaweicloud.com/devg-apisign/api-sign-algorithm-001.html>
pub(super) struct SdkAuthorization<'a> {
    /// The access key that the caller claims to own.
    pub access_key: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> SdkAuthorization<'a> {
    /// `None` if the value has another form.
    pub fn parse(value: &'a str) -> Option<Self> {
        let mut parts = value.strip_prefix("SDK-HMAC-SHA256 ")?.split(", ");
        let access_key = parts.next()?.strip_prefix("Access=")?;
        let signed_headers = parts.next()?.strip_prefix("SignedHeaders=")?;
        let signature = parts.next()?.strip_prefix("Signature=")?;
        parts.next().is_none().then_some(Self { access_key, signed_headers, signature })
    }

    /// Compares the signature with the one made from the request as it arrived.
    ///
    /// # Errors
    /// The gateway's words for what is wrong. As at the real gateway they repeat the canonical request with `|`
    /// for line ends, so whoever prints them prints the values of signed headers too.
    pub fn verify(
        &self,
        method: &str,
        target: &str,
        headers: &HeaderMap,
        body: &[u8],
        secret_key: &str,
    ) -> Result<(), String> {
        let names: Vec<&str> = self.signed_headers.split(';').collect();
        if !names.is_sorted() || names.iter().any(|name| name.bytes().any(|b| b.is_ascii_uppercase())) {
            return Err("signed headers are not in lower case and order".to_owned());
        }
        for name in ["host", "x-sdk-date"] {
            if !names.contains(&name) {
                return Err(format!("{name} is not signed"));
            }
        }
        for name in ["x-project-id", "x-security-token"] {
            if headers.contains_key(name) && !names.contains(&name) {
                return Err(format!("{name} is sent but not signed"));
            }
        }
        let canonical = canonical_request(method, target, headers, &names, body)?;
        let date = header(headers, "x-sdk-date").unwrap_or_default();
        let to_sign = format!("SDK-HMAC-SHA256\n{date}\n{}", hexadecimal(&Sha256::digest(&canonical)));
        if hexadecimal(&hmac_sha256(secret_key, &to_sign)) == self.signature {
            return Ok(());
        }
        Err(format!("verify aksk signature fail, canonicalRequest:{}", canonical.replace('\n', "|")))
    }
}

/// Makes the header value that [`SdkAuthorization`] accepts; for tests that speak to the simulator by hand.
#[cfg(test)]
pub(super) fn sdk_authorization(
    method: &str,
    target: &str,
    headers: &HeaderMap,
    body: &[u8],
    keys: (&str, &str),
) -> String {
    let mut names: Vec<&str> = headers.keys().map(hyper::header::HeaderName::as_str).collect();
    names.sort_unstable();
    let canonical = canonical_request(method, target, headers, &names, body).unwrap();
    let date = header(headers, "x-sdk-date").unwrap();
    let to_sign = format!("SDK-HMAC-SHA256\n{date}\n{}", hexadecimal(&Sha256::digest(&canonical)));
    let signature = hexadecimal(&hmac_sha256(keys.1, &to_sign));
    format!("SDK-HMAC-SHA256 Access={}, SignedHeaders={}, Signature={signature}", keys.0, names.join(";"))
}

/// METHOD, URI with a slash at its end, sorted query, signed headers, their names, payload hash, one a line.
fn canonical_request(
    method: &str,
    target: &str,
    headers: &HeaderMap,
    names: &[&str],
    body: &[u8],
) -> Result<String, String> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut canonical = format!("{method}\n{}\n{}\n", canonical_uri(path), canonical_query(query));
    for name in names {
        let value = header(headers, name).ok_or_else(|| format!("signed header {name} is missing"))?;
        writeln!(canonical, "{name}:{}", value.trim()).expect("writing to a String cannot fail");
    }
    // Bodies of other types than JSON are sent unsigned, which the caller declares in this header.
    let payload = match header(headers, "x-sdk-content-sha256") {
        Some("UNSIGNED-PAYLOAD") => "UNSIGNED-PAYLOAD".to_owned(),
        _ => hexadecimal(&Sha256::digest(body)),
    };
    write!(canonical, "\n{}\n{payload}", names.join(";")).expect("writing to a String cannot fail");
    Ok(canonical)
}

/// The whole path is decoded before it is split, so `a%2Fb` becomes two segments.
fn canonical_uri(path: &str) -> String {
    let decoded: Vec<u8> = percent_decode_str(path).collect();
    let segments: Vec<String> =
        decoded.split(|b| *b == b'/').map(|s| percent_encode(s, RESERVED).to_string()).collect();
    let mut uri = segments.join("/");
    if !uri.ends_with('/') {
        uri.push('/');
    }
    uri
}

fn canonical_query(query: &str) -> String {
    let encode = |text: &str| {
        let bytes: Vec<u8> = percent_decode_str(text).collect();
        percent_encode(&bytes, RESERVED).to_string()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// NAVER's signature over the request target exactly as it was sent: no decoding, no sorting.
///
/// <https://api.ncloud-docs.com/docs/en/common-ncpapi>
pub(super) fn ncp_signature(
    method: &str,
    target: &str,
    timestamp: &str,
    access_key: &str,
    secret_key: &str,
) -> String {
    STANDARD.encode(hmac_sha256(secret_key, &format!("{method} {target}\n{timestamp}\n{access_key}")))
}

fn hmac_sha256(key: &str, message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Lower-case hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The value of a header if it is text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    std::str::from_utf8(headers.get(name)?.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};
    use serde_json::Value;

    fn vectors(file: &str) -> Value {
        let path = format!("{}/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn header_map<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> HeaderMap {
        pairs
            .map(|(name, value)| {
                let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).unwrap();
                (name, HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    fn verify(
        method: &str,
        target: &str,
        headers: &HeaderMap,
        body: &[u8],
        secret: &str,
    ) -> Result<(), String> {
        let authorization = header(headers, "authorization").expect("every vector is signed");
        SdkAuthorization::parse(authorization)
            .expect("well formed")
            .verify(method, target, headers, body, secret)
    }

    #[test]
    fn accepts_every_request_signed_by_the_huawei_signer() {
        let file = vectors("huawei_sign_vectors.json");
        let all = file["vectors"].as_array().unwrap();
        assert_eq!(all.len(), 26);
        for vector in all {
            let expected = &vector["expected"];
            let sent = expected["headers"].as_object().unwrap();
            let headers = header_map(sent.iter().map(|(n, v)| (n.as_str(), v.as_str().unwrap())));
            let body = vector["body"].as_str().unwrap_or_default();
            let target = expected["request_target"].as_str().unwrap();
            let result = verify(
                vector["method"].as_str().unwrap(),
                target,
                &headers,
                body.as_bytes(),
                vector["sk"].as_str().unwrap(),
            );
            assert_eq!(result, Ok(()), "{}", vector["name"]);
        }
    }

    #[test]
    fn accepts_every_request_captured_from_the_huawei_sdk() {
        let file = vectors("huawei_sdk_requests.json");
        let secret = file["credentials"]["sk"].as_str().unwrap();
        let mut checked = 0;
        let requests =
            file["requests"].as_array().unwrap().iter().chain(file["auth_requests"].as_array().unwrap());
        for request in requests {
            let pairs = request["headers"].as_array().unwrap().iter();
            let headers = header_map(pairs.map(|p| (p[0].as_str().unwrap(), p[1].as_str().unwrap())));
            if !header(&headers, "authorization").is_some_and(|value| value.starts_with("SDK-")) {
                continue; // metadata services do not sign
            }
            let body = request["body"].as_str().unwrap_or_default();
            let (method, target) =
                (request["method"].as_str().unwrap(), request["request_target"].as_str().unwrap());
            assert_eq!(
                verify(method, target, &headers, body.as_bytes(), secret),
                Ok(()),
                "{}",
                request["name"]
            );
            checked += 1;
        }
        assert!(checked >= 22, "{checked}");
    }

    #[test]
    fn refuses_a_changed_huawei_request() {
        let file = vectors("huawei_sdk_requests.json");
        let secret = file["credentials"]["sk"].as_str().unwrap();
        let request = &file["requests"][1];
        let pairs = request["headers"].as_array().unwrap().iter();
        let headers = header_map(pairs.map(|p| (p[0].as_str().unwrap(), p[1].as_str().unwrap())));
        let target = request["request_target"].as_str().unwrap();
        assert!(verify("GET", &format!("{target}&x=1"), &headers, b"", secret).is_err());
        assert!(verify("POST", target, &headers, b"", secret).is_err());
        assert!(verify("GET", target, &headers, b"{}", secret).is_err());
        assert!(verify("GET", target, &headers, b"", "another").is_err());
        let mut unsigned_token = headers.clone();
        unsigned_token.insert("x-security-token", HeaderValue::from_static("t"));
        assert_eq!(
            verify("GET", target, &unsigned_token, b"", secret),
            Err("x-security-token is sent but not signed".to_owned())
        );
        let mut without_date = headers;
        without_date.remove("x-sdk-date");
        assert!(verify("GET", target, &without_date, b"", secret).is_err());
    }

    #[test]
    fn computes_every_ncp_vector() {
        let file = vectors("ncp_sign_vectors.json");
        let all = file["vectors"].as_array().unwrap();
        assert_eq!(all.len(), 20);
        for vector in all {
            let text = |name: &str| vector[name].as_str().unwrap();
            let signature = ncp_signature(
                text("method"),
                text("request_uri"),
                text("timestamp"),
                text("access_key"),
                text("secret_key"),
            );
            assert_eq!(signature, text("signature"), "{}", vector["name"]);
        }
    }
}
