//! Addresses and signature version 2 of NAVER Cloud's API gateway.
//!
//! ```text
//! signature = base64(HMAC-SHA256(secret key, METHOD " " TARGET "\n" TIMESTAMP "\n" ACCESS_KEY))
//! ```
//!
//! TARGET is path and query exactly as sent; headers and body are not signed.
//! <https://api.ncloud-docs.com/docs/en/common-ncpapi>

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::SecretString;

use crate::inventory::Timestamp;
use crate::provider::encode::{UnusableName, hmac_sha256, segment};

/// Header that carries [`Signed::timestamp`].
pub const TIMESTAMP_HEADER: &str = "x-ncp-apigw-timestamp";
/// Header that carries the access key.
pub const ACCESS_KEY_HEADER: &str = "x-ncp-iam-access-key";
/// Header that carries [`Signed::signature`].
pub const SIGNATURE_HEADER: &str = "x-ncp-apigw-signature-v2";

/// The list of registries, below the endpoint.
pub const REGISTRIES_PATH: &str = "/repositories";

/// What a signature adds to a request; good for five minutes around its time.
pub struct Signed {
    /// Milliseconds since 1970.
    pub timestamp: String,
    /// The signature in base64.
    pub signature: String,
}

/// Signs one attempt to request `target`, the path and query exactly as they are sent.
pub fn sign(
    method: &str,
    target: &str,
    access_key: &str,
    secret_key: &SecretString,
    now: Timestamp,
) -> Signed {
    let timestamp = (now.nanoseconds() / 1_000_000).to_string();
    let string_to_sign = format!("{method} {target}\n{timestamp}\n{access_key}");
    Signed { timestamp, signature: BASE64_STANDARD.encode(hmac_sha256(secret_key, &string_to_sign)) }
}

/// Path, below the endpoint, of the list of a registry's images.
pub fn images_path(registry: &str) -> Result<String, UnusableName> {
    Ok(format!("{REGISTRIES_PATH}/{}", segment(registry)?))
}

/// Path, below the endpoint, of the list of an image's tags. A `/` in the image's name is sent as `%2F`.
pub fn tags_path(registry: &str, image: &str) -> Result<String, UnusableName> {
    Ok(format!("{REGISTRIES_PATH}/{}/{}/tags", segment(registry)?, segment(image)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reproduces_every_vector() {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/vectors/ncp_sign_vectors.json")).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        assert_eq!(vectors.len(), 20);
        for vector in vectors {
            let text = |field: &str| vector[field].as_str().unwrap();
            let secret_key = SecretString::from(text("secret_key"));
            let now = Timestamp::from_milliseconds(text("timestamp").parse().unwrap()).unwrap();
            let signed = sign(text("method"), text("request_uri"), text("access_key"), &secret_key, now);
            assert_eq!(signed.signature, text("signature"), "{}", text("name"));
            assert_eq!(signed.timestamp, text("timestamp"), "{}", text("name"));
        }
    }

    #[test]
    fn url_parser_leaves_every_signed_target_as_it_is() {
        let path = tags_path("ncpdocker", "team/app").unwrap();
        let url = url::Url::parse(&format!("https://ncr.apigw.ntruss.com/ncr/api/v2{path}?page=1")).unwrap();
        assert_eq!(
            &url[url::Position::BeforePath..],
            "/ncr/api/v2/repositories/ncpdocker/team%2Fapp/tags?page=1"
        );
    }

    #[test]
    fn refuses_names_that_would_address_something_else() {
        assert!(images_path("").is_err());
        assert!(images_path("..").is_err());
        assert!(tags_path("ncpdocker", ".").is_err());
        assert_eq!(tags_path("r", "x/tags").as_deref(), Ok("/repositories/r/x%2Ftags/tags"));
    }
}
