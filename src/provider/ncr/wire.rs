//! What NAVER Cloud's answers look like, and what they mean.
//!
//! The vendor's tables, examples and older copies disagree about what is always there: only names are required.
//! Numbers are JSON numbers of any notation; times are milliseconds since 1970.

use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny};

use crate::client::{Refusal, Verdict};
use crate::config::Site;
use crate::inventory::{Repository, Tag, TagInfo, Timestamp};
use crate::provider::refusal::{self, ErrorFields};
use crate::provider::value::{Text, count, milliseconds, required};
use crate::telemetry::Reason;

/// One page of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In the order of the API.
    pub rows: Vec<T>,
    /// The number of rows of the whole list.
    pub count: Option<u64>,
    /// The number of the next page; `None` after the last.
    pub next: Option<u64>,
}

/// One registry of the account.
#[derive(Debug, PartialEq, Eq)]
pub struct Registry {
    /// Its name.
    pub name: Box<str>,
    /// The host that docker clients use.
    pub end_point: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Envelope<T> {
    #[serde(default, deserialize_with = "count")]
    count: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    next: Option<u64>,
    results: Option<Vec<T>>,
    error: Option<IgnoredAny>,
    #[serde(rename = "responseError")]
    response_error: Option<IgnoredAny>,
    #[serde(rename = "returnCode")]
    return_code: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct RegistryRow<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    end_point: Option<Text<'a>>,
}

/// Decodes a page of the list of registries.
///
/// <https://api.ncloud-docs.com/docs/en/containerregistry-getregistry>
pub fn registries(body: &[u8]) -> Result<Page<Registry>, serde_json::Error> {
    page(body, |row: RegistryRow| {
        Ok(Registry {
            name: required(row.name, "name")?,
            end_point: row.end_point.filter(|host| !host.0.is_empty()).map(Text::into_box),
        })
    })
}

/// The host of a registry whose own `end_point` is not known: made from its name, site and region.
///
/// <https://guide.ncloud-docs.com/docs/en/containerregistry-spec>
pub fn registry_host(registry: &str, site: Site, region: &str) -> String {
    match (site, region) {
        (Site::Government, _) => format!("{registry}.ncr.gov-ntruss.com"),
        (Site::Financial, _) => format!("{registry}.ncr.fin-ntruss.com"),
        (Site::Public, "SGN") => format!("{registry}.sg.ncr.ntruss.com"),
        (Site::Public, "JPN") => format!("{registry}.jp.ncr.ntruss.com"),
        (Site::Public, _) => format!("{registry}.kr.ncr.ntruss.com"),
    }
}

#[derive(Deserialize)]
struct ImageRow<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(default, deserialize_with = "count")]
    pull_count: Option<u64>,
    #[serde(default, deserialize_with = "milliseconds")]
    last_updated: Option<Timestamp>,
    /// The name in the vendor's table of the field that its example calls `last_updated`.
    #[serde(default, deserialize_with = "milliseconds")]
    last_update: Option<Timestamp>,
}

/// Decodes a page of the list of the images of `registry`, which docker clients reach at `host`.
///
/// <https://api.ncloud-docs.com/docs/en/containerregistry-getimages>
pub fn images(body: &[u8], registry: &str, host: &str) -> Result<Page<Repository>, serde_json::Error> {
    page(body, |row: ImageRow| {
        let name = required(row.name, "name")?;
        Ok(Repository {
            organization: registry.into(),
            downloads: row.pull_count,
            updated: row.last_updated.or(row.last_update),
            image: Some(format!("{host}/{name}").into()),
            name,
            ..Repository::default()
        })
    })
}

#[derive(Deserialize)]
struct TagRow<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    digest: Option<Text<'a>>,
    #[serde(default, deserialize_with = "count")]
    full_size: Option<u64>,
    #[serde(default, deserialize_with = "milliseconds")]
    last_updated: Option<Timestamp>,
    #[serde(default, deserialize_with = "milliseconds")]
    last_update: Option<Timestamp>,
    images: Option<Vec<PlatformRow>>,
}

/// The image behind a tag for one platform.
#[derive(Deserialize)]
struct PlatformRow {
    #[serde(default, deserialize_with = "milliseconds")]
    latest_pulled: Option<Timestamp>,
}

/// Decodes a page of the list of an image's tags, with the digest only if `info` asks for it.
///
/// <https://api.ncloud-docs.com/docs/en/containerregistry-getimagetags>
pub fn tags(body: &[u8], info: bool) -> Result<Page<Tag>, serde_json::Error> {
    page(body, |row: TagRow| {
        let digest = row.digest;
        let platforms = row.images.unwrap_or_default();
        Ok(Tag {
            name: required(row.name, "name")?,
            size_bytes: row.full_size,
            created: None,
            updated: row.last_updated.or(row.last_update),
            last_pulled: platforms.iter().filter_map(|platform| platform.latest_pulled).max(),
            info: info.then(|| Box::new(TagInfo { digest: digest.map(Text::into_box), kind: None })),
        })
    })
}

/// The gateway writes an `error` with `errorCode` (text or number), `message` and `details`; the service
/// `returnCode` and `returnMessage`, bare or in a `responseError`.
const ERROR_FIELDS: ErrorFields = ErrorFields {
    inner: &["error", "responseError"],
    codes: &["errorCode", "returnCode"],
    messages: &["message", "returnMessage", "details"],
};

/// The part of them that the service writes.
const SERVICE_FIELDS: ErrorFields =
    ErrorFields { inner: &["responseError"], codes: &["returnCode"], messages: &[] };

/// Says what an answer means whose status is no success.
///
/// <https://api-gov.ncloud-docs.com/docs/api-call-lgc-errorhandling>
pub fn classify(status: u16, body: &[u8]) -> Refusal {
    let mut refusal = refusal::from_answer(status, body, ERROR_FIELDS);
    // The gateway reports a missing permission as 401; the key itself is good.
    if status == 401 && refusal.code.as_deref() == Some("210") {
        refusal.reason = Reason::Forbidden;
        refusal.credential = Verdict::Accepted;
    }
    // Whoever hears the service itself has passed the gateway.
    if matches!(status, 400..=499)
        && refusal.credential == Verdict::Unknown
        && refusal.reason != Reason::Throttled
        && refusal::from_answer(status, body, SERVICE_FIELDS).code.is_some()
    {
        refusal.credential = Verdict::Accepted;
    }
    refusal
}

fn page<'de, Row: Deserialize<'de>, T>(
    body: &'de [u8],
    decode: impl Fn(Row) -> Result<T, serde_json::Error>,
) -> Result<Page<T>, serde_json::Error> {
    // A list would be taken for the envelope's fields in their order, and `[]` for no rows.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(serde_json::Error::custom("the answer is not a JSON object"));
    }
    let envelope: Envelope<Row> = serde_json::from_slice(body)?;
    // `results` may be missing when there are none, but not because something went wrong.
    let failed = envelope.error.or(envelope.response_error).or(envelope.return_code).is_some();
    if envelope.results.is_none() && failed {
        return Err(serde_json::Error::custom(
            "the answer reports an error although its status is a success",
        ));
    }
    let rows = envelope.results.unwrap_or_default().into_iter().map(decode).collect::<Result<_, _>>()?;
    Ok(Page { rows, count: envelope.count, next: envelope.next.filter(|&page| page != 0) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOST: &str = "ncpdocker.kr.ncr.ntruss.com";

    #[test]
    fn decodes_the_vendors_example_of_the_list_of_images() {
        let answer = include_bytes!("../../../tests/answers/ncr-list-images.json");
        let expected = Repository {
            organization: "ncpdocker".into(),
            name: "ncpdocker".into(),
            downloads: Some(0),
            updated: Timestamp::from_milliseconds(1_711_928_488_000),
            image: Some("ncpdocker.kr.ncr.ntruss.com/ncpdocker".into()),
            ..Repository::default()
        };
        let page = images(answer, "ncpdocker", HOST).unwrap();
        assert_eq!(page, Page { rows: vec![expected], count: Some(1), next: None });
    }

    #[test]
    fn decodes_a_tag_with_its_newest_pull() {
        let answer =
            br#"{"count":3,"next":2,"previous":null,"results":[{"name":"1.0","digest":"sha256:d","id":1e20,
            "full_size":1.0e3,"last_updated":1711928488000,"v2":true,"images":[{"latest_pulled":0,"size":1},
            {"latest_pulled":1711928488002.0},{"latest_pulled":1711928488001},{"latest_pulled":null},{}]}]}"#;
        let expected = Tag {
            name: "1.0".into(),
            size_bytes: Some(1000),
            created: None,
            updated: Timestamp::from_milliseconds(1_711_928_488_000),
            last_pulled: Timestamp::from_milliseconds(1_711_928_488_002),
            info: Some(Box::new(TagInfo { digest: Some("sha256:d".into()), kind: None })),
        };
        assert_eq!(tags(answer, true).unwrap(), Page { rows: vec![expected], count: Some(3), next: Some(2) });
        assert_eq!(tags(answer, false).unwrap().rows[0].info, None);
    }

    #[test]
    fn a_row_needs_nothing_but_its_name() {
        let nulls = br#"{"results":[{"name":"a/b","pull_count":null,"last_updated":null,"images":null,
            "full_size":-1,"digest":null,"end_point":""}]}"#;
        for answer in [&br#"{"results":[{"name":"a/b"}]}"#[..], nulls] {
            let image = &images(answer, "r", HOST).unwrap().rows[0];
            assert_eq!((image.downloads, image.updated), (None, None));
            let tag = &tags(answer, false).unwrap().rows[0];
            assert_eq!(tag, &Tag { name: "a/b".into(), ..Tag::default() });
            let registry = &registries(answer).unwrap().rows[0];
            assert_eq!(registry, &Registry { name: "a/b".into(), end_point: None });
        }
    }

    #[test]
    fn takes_the_time_of_the_last_update_under_either_name() {
        let answer = br#"{"results":[{"name":"n","last_update":1711928488000}]}"#;
        let expected = Timestamp::from_milliseconds(1_711_928_488_000);
        assert_eq!(images(answer, "r", HOST).unwrap().rows[0].updated, expected);
        assert_eq!(tags(answer, false).unwrap().rows[0].updated, expected);
    }

    #[test]
    fn no_results_are_no_rows() {
        for answer in ["{}", r#"{"count":0,"next":0,"results":null}"#, r#"{"results":[]}"#] {
            let page = images(answer.as_bytes(), "r", HOST).unwrap();
            assert_eq!((page.rows, page.next), (vec![], None));
        }
    }

    #[test]
    fn answers_of_another_shape_are_errors() {
        for answer in [
            "",
            "null",
            "[]",
            "<error/>",
            r#"{"results":{}}"#,
            r#"{"results":[{}]}"#,
            r#"{"results":[{"name":""}]}"#,
            r#"{"results":[{"name":"n"}"#,
            r#"{"next":"http://x/?page=2"}"#,
            r#"{"error":{"errorCode":"200"}}"#,
            r#"{"responseError":{"returnCode":"1"}}"#,
            r#"{"returnCode":"1","returnMessage":"No"}"#,
        ] {
            assert!(images(answer.as_bytes(), "r", HOST).is_err(), "{answer}");
        }
    }

    #[test]
    fn makes_the_host_of_a_registry_from_site_and_region() {
        for (site, region, host) in [
            (Site::Public, "KR", "r.kr.ncr.ntruss.com"),
            (Site::Public, "SGN", "r.sg.ncr.ntruss.com"),
            (Site::Public, "JPN", "r.jp.ncr.ntruss.com"),
            (Site::Government, "KRS", "r.ncr.gov-ntruss.com"),
            (Site::Financial, "FKR", "r.ncr.fin-ntruss.com"),
        ] {
            assert_eq!(registry_host("r", site, region), host);
        }
    }

    #[test]
    fn reads_every_documented_error_body() {
        for (body, code, message) in [
            (r#"{"error":{"errorCode":"210","message":"No"}}"#, Some("210"), Some("No")),
            (r#"{"error":{"errorCode":210,"message":"No","details":"Why"}}"#, Some("210"), Some("No: Why")),
            (r#"{"responseError":{"returnCode":"900","returnMessage":"No"}}"#, Some("900"), Some("No")),
            (r#"{"returnCode":900,"returnMessage":"No"}"#, Some("900"), Some("No")),
            ("<error><errorCode>210</errorCode></error>", None, None),
            ("<html>", None, None),
            ("", None, None),
        ] {
            let refusal = classify(500, body.as_bytes());
            assert_eq!((refusal.code.as_deref(), refusal.message.as_deref()), (code, message), "{body}");
        }
    }

    #[test]
    fn tells_a_refused_key_from_a_missing_permission() {
        let reason = |status, code| {
            let body = format!(r#"{{"error":{{"errorCode":{code},"message":"No"}}}}"#);
            classify(status, body.as_bytes()).reason
        };
        assert_eq!(reason(401, "\"200\""), Reason::Unauthorized);
        assert_eq!(reason(401, "\"210\""), Reason::Forbidden);
        assert_eq!(reason(401, "210"), Reason::Forbidden);
        assert_eq!(reason(403, "0"), Reason::Forbidden);
        assert_eq!(reason(429, "\"410\""), Reason::Throttled);
    }

    proptest! {
        #[test]
        fn no_answer_makes_a_decoder_panic(
            bytes in any::<Vec<u8>>(),
            json in r#"\{"(results|error|count|next)":(\[\{"name":"n","(images|last_updated|full_size)":(-1|1e99|\[\{\}\])\}\]|-1|"")\}"#,
            status in 100_u16..600,
        ) {
            for body in [bytes.as_slice(), json.as_bytes()] {
                let _ = registries(body);
                let _ = images(body, "r", HOST);
                let _ = tags(body, true);
                prop_assert_eq!(classify(status, body).status, status);
            }
        }
    }
}
