//! Answers with a temporary key in them, in all the spellings in which the two clouds' services write them.

use secrecy::SecretString;
use secrecy::zeroize::Zeroize as _;
use serde::Deserialize;

use super::AccessKey;
use crate::inventory::Timestamp;
use crate::provider::fresh::Leased;
use crate::provider::value::{Text, rfc3339};

/// Why an answer has no key for us. Says nothing of what stands in the answer but the service's own code and words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    /// It is no JSON, or a field has another type than documented.
    #[error("the answer is not what is documented (line {line}, column {column})")]
    Malformed {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// A part of the key is not there.
    #[error("the answer has no {0}")]
    Lacks(&'static str),
    /// The service says that it failed.
    #[error("the service says {0:?}")]
    Failed(String),
    /// The key ended before it came.
    #[error("the key had ended already when it came")]
    Expired,
}

#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(borrow, alias = "credentials")]
    credential: Option<Keys<'a>>,
}

#[derive(Default, Deserialize)]
struct Keys<'a> {
    #[serde(borrow, alias = "accessKeyId", alias = "access_key_id", alias = "AccessKeyId")]
    access: Option<Text<'a>>,
    #[serde(alias = "secretAccessKey", alias = "secret_access_key", alias = "SecretAccessKey")]
    secret: Option<Text<'a>>,
    #[serde(alias = "securityToken", alias = "security_token", alias = "Token")]
    securitytoken: Option<Text<'a>>,
    #[serde(default, alias = "expiration", alias = "Expiration", deserialize_with = "rfc3339")]
    expires_at: Option<Timestamp>,
    #[serde(rename = "Code")]
    code: Option<Text<'a>>,
    #[serde(rename = "Message")]
    message: Option<Text<'a>>,
}

/// Reads the key in `body`, which is wiped. `now` tells whether it has ended.
pub fn key(mut body: Vec<u8>, now: Timestamp) -> Result<Leased<AccessKey>, NoKey> {
    let outcome = read(&body, now);
    body.zeroize();
    outcome
}

fn read(body: &[u8], now: Timestamp) -> Result<Leased<AccessKey>, NoKey> {
    // What the library says would repeat the text in question.
    let malformed =
        |error: serde_json::Error| NoKey::Malformed { line: error.line(), column: error.column() };
    let wrapped: Wrapped<'_> = serde_json::from_slice(body).map_err(malformed)?;
    let keys = match wrapped.credential {
        Some(keys) => keys,
        None => serde_json::from_slice(body).map_err(malformed)?,
    };
    let part = |text: Option<Text<'_>>| text.filter(|t| !t.0.is_empty()).map(|t| SecretString::from(&*t.0));
    if let Some(code) = keys.code.filter(|code| !code.0.eq_ignore_ascii_case("success")) {
        let message = keys.message.map_or_else(String::new, |message| format!(": {}", message.0));
        return Err(NoKey::Failed(format!("{}{message}", code.0).chars().take(300).collect()));
    }
    if keys.expires_at.is_some_and(|end| end <= now) {
        return Err(NoKey::Expired);
    }
    let value = AccessKey {
        access_key: part(keys.access).ok_or(NoKey::Lacks("access key"))?,
        secret_key: part(keys.secret).ok_or(NoKey::Lacks("secret key"))?,
        security_token: part(keys.securitytoken),
    };
    Ok(Leased { value, expires: keys.expires_at })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn at(time: &str) -> Timestamp {
        let time: jiff::Timestamp = time.parse().unwrap();
        Timestamp::from_nanoseconds(time.as_nanosecond()).unwrap()
    }

    fn parse(body: &str) -> Result<(String, String, Option<Timestamp>), NoKey> {
        let leased = key(body.as_bytes().to_vec(), at("2020-01-08T00:00:00Z"))?;
        let key = leased.value;
        assert_eq!(key.access_key.expose_secret(), "a");
        Ok((key.secret_key.expose_secret().to_owned(), key.token().to_owned(), leased.expires))
    }

    #[test]
    fn reads_every_spelling() {
        let end = Some(at("2020-01-08T02:56:19Z"));
        let expected = Ok(("s".to_owned(), "t".to_owned(), end));
        for body in [
            r#"{"credential":{"access":"a","secret":"s","securitytoken":"t","expires_at":"2020-01-08T02:56:19.000000Z"}}"#,
            r#"{"assumedAgency":{"urn":""},"audience":"","credentials":{"accessKeyId":"a","secretAccessKey":"s",
                "securityToken":"t","expiration":"2020-01-08T02:56:19Z"},"podIdentityAssociationId":""}"#,
            r#"{"credentials":{"access_key_id":"a","secret_access_key":"s","security_token":"t",
                "expiration":"2020-01-08T10:56:19+08:00"}}"#,
            r#"{"access":"a","secret":"\u0073","securitytoken":"t","expires_at":"2020-01-08T02:56:19.0Z"}"#,
            r#"{"Code":"Success","LastUpdated":"x","Type":"NCP-HMAC","AccessKeyId":"a","SecretAccessKey":"s",
                "Token":"t","Expiration":"2020-01-08T02:56:19Z"}"#,
        ] {
            assert_eq!(parse(body), expected, "{body}");
        }
    }

    #[test]
    fn token_and_end_may_be_missing_or_unreadable() {
        for body in [
            r#"{"AccessKeyId":"a","SecretAccessKey":"s","Token":"","Expiration":null}"#,
            r#"{"AccessKeyId":"a","SecretAccessKey":"s"}"#,
            r#"{"AccessKeyId":"a","SecretAccessKey":"s","Expiration":"some day"}"#,
        ] {
            assert_eq!(parse(body), Ok(("s".to_owned(), String::new(), None)), "{body}");
        }
    }

    #[test]
    fn says_what_is_missing_and_never_what_is_there() {
        for (body, expected) in [
            (r#"{"credential":{"access":"a"}}"#, "the answer has no secret key"),
            (r#"{"credential":{"access":"","secret":"hunter2"}}"#, "the answer has no access key"),
            (r#"{"credential":"hunter2"}"#, "the answer is not what is documented (line 1, column 23)"),
            (
                r#"{"access":"a","secret":["hunter2"]}"#,
                "the answer is not what is documented (line 1, column 23)",
            ),
            (
                r#"{"access":"a","secret":"hunter2","expires_at":"2020-01-08T00:00:00Z"}"#,
                "the key had ended already when it came",
            ),
            (r#"{"Code":"Failed","Message":"no role"}"#, r#"the service says "Failed: no role""#),
            ("<html>hunter2", "the answer is not what is documented (line 1, column 1)"),
        ] {
            assert_eq!(parse(body).unwrap_err().to_string(), expected, "{body}");
        }
    }
}
