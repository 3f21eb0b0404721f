//! What NAVER Cloud's answers look like, and what they mean.
//!
//! The vendor's tables, examples and older copies disagree about what is always there: only names are required, and
//! `results`, the sign of a list. Numbers are JSON numbers of any notation; times are milliseconds since 1970.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny};

use crate::client::{Refusal, Verdict};
use crate::config::Site;
use crate::inventory::{Repository, Tag, TagInfo, Timestamp};
use crate::provider::refusal::{self, ErrorFields};
use crate::provider::value::{Given, Milliseconds, Object, Text, Unreadable, from_json, number, required};
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
    /// What could not be read.
    pub unreadable: Unreadable,
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
    #[serde(default)]
    count: Given<u64>,
    #[serde(default, deserialize_with = "number")]
    next: Option<u64>,
    #[serde(default = "Field::missing")]
    results: Field<Option<Vec<Object<T>>>>,
    error: Option<IgnoredAny>,
    #[serde(rename = "responseError")]
    response_error: Option<IgnoredAny>,
    #[serde(rename = "returnCode")]
    return_code: Option<IgnoredAny>,
}

/// A field whose absence is another thing than `null`.
struct Field<T>(Option<T>);

impl<T> Field<T> {
    fn missing() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|value| Self(Some(value)))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RegistryRow<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    end_point: Given<Text<'a>>,
}

/// Decodes a page of the list of registries.
///
/// <https://api.ncloud-docs.com/docs/en/containerregistry-getregistry>
pub fn registries(body: &[u8]) -> Result<Page<Registry>, serde_json::Error> {
    page(body, |row: RegistryRow, odd| {
        let end_point = odd.take("repository_info", row.end_point).filter(|host| !host.0.is_empty());
        Ok(Registry { name: required(row.name, "name")?, end_point: end_point.map(Text::into_box) })
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

#[derive(Default, Deserialize)]
#[serde(default)]
struct ImageRow<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    pull_count: Given<u64>,
    last_updated: Given<Milliseconds>,
    /// The name in the vendor's table of the field that its example calls `last_updated`.
    last_update: Given<Milliseconds>,
}

/// Decodes a page of the list of the images of `registry`, which docker clients reach at `host`.
///
/// <https://api.ncloud-docs.com/docs/en/containerregistry-getimages>
pub fn images(body: &[u8], registry: &str, host: &str) -> Result<Page<Repository>, serde_json::Error> {
    page(body, |row: ImageRow, odd| {
        let name = required(row.name, "name")?;
        let updated = "repository_updated_timestamp_seconds";
        Ok(Repository {
            organization: registry.into(),
            downloads: odd.take("repository_downloads", row.pull_count),
            updated: either(odd.take(updated, row.last_updated), odd.take(updated, row.last_update)),
            image: Some(format!("{host}/{name}").into()),
            name,
            ..Repository::default()
        })
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TagRow<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    digest: Given<Text<'a>>,
    full_size: Given<u64>,
    last_updated: Given<Milliseconds>,
    last_update: Given<Milliseconds>,
    images: Given<Vec<Given<Object<PlatformRow>>>>,
}

/// The image behind a tag for one platform.
#[derive(Default, Deserialize)]
#[serde(default)]
struct PlatformRow {
    latest_pulled: Given<Milliseconds>,
}

/// Decodes a page of the list of an image's tags, with the digest only if `info` asks for it.
///
/// <https://api.ncloud-docs.com/docs/en/containerregistry-getimagetags>
pub fn tags(body: &[u8], info: bool) -> Result<Page<Tag>, serde_json::Error> {
    page(body, |row: TagRow, odd| {
        let updated = "tag_updated_timestamp_seconds";
        let digest = odd.take("tag_info", row.digest);
        Ok(Tag {
            name: required(row.name, "name")?,
            size_bytes: odd.take("tag_size_bytes", row.full_size),
            created: None,
            updated: either(odd.take(updated, row.last_updated), odd.take(updated, row.last_update)),
            last_pulled: last_pulled(row.images, odd),
            info: info.then(|| Box::new(TagInfo { digest: digest.map(Text::into_box), kind: None })),
        })
    })
}

/// When the image of any platform was last pulled.
fn last_pulled(platforms: Given<Vec<Given<Object<PlatformRow>>>>, odd: &mut Unreadable) -> Option<Timestamp> {
    let field = "tag_last_pulled_timestamp_seconds";
    let platforms = odd.take(field, platforms)?;
    let mut newest = None;
    for platform in platforms {
        let Some(Object(platform)) = odd.take(field, platform) else { continue };
        let Some(Milliseconds(pulled)) = odd.take(field, platform.latest_pulled) else { continue };
        newest = newest.max(Some(pulled));
    }
    newest
}

/// The time of a field that the vendor spells in two ways.
fn either(time: Option<Milliseconds>, other: Option<Milliseconds>) -> Option<Timestamp> {
    time.or(other).map(|Milliseconds(time)| time)
}

/// The gateway writes an `error` with `errorCode` (text or number), `message` and `details`; the service
/// `returnCode` and `returnMessage`, or `responseCode` and `responseMessage`, bare or in a `responseError`.
const ERROR_FIELDS: ErrorFields = ErrorFields {
    inner: &["error", "responseError"],
    codes: &["errorCode", "returnCode", "responseCode"],
    messages: &["message", "returnMessage", "responseMessage", "details"],
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
    decode: impl Fn(Row, &mut Unreadable) -> Result<T, serde_json::Error>,
) -> Result<Page<T>, serde_json::Error> {
    let Object(envelope) = from_json::<Object<Envelope<Row>>>(body)?;
    let failed = envelope.error.or(envelope.response_error).or(envelope.return_code).is_some();
    let rows = match envelope.results.0 {
        Some(Some(rows)) => rows,
        Some(None) if !failed => Vec::new(),
        Some(None) => {
            return Err(serde_json::Error::custom("the answer reports an error and has no `results`"));
        }
        None => return Err(serde_json::Error::custom("the answer has no `results`")),
    };
    let mut odd = Unreadable::default();
    let count = odd.take("total", envelope.count);
    let rows = rows.into_iter().map(|Object(row)| decode(row, &mut odd)).collect::<Result<_, _>>()?;
    Ok(Page { rows, count, next: envelope.next.filter(|&page| page != 0), unreadable: odd })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOST: &str = "ncpdocker.kr.ncr.ntruss.com";

    /// A page on which everything could be read.
    fn plain<T>(rows: Vec<T>, count: Option<u64>, next: Option<u64>) -> Page<T> {
        Page { rows, count, next, unreadable: Unreadable::default() }
    }

    /// What could not be read of a page whose first row has the name `n`.
    fn odd<T>(
        page: Result<Page<T>, serde_json::Error>,
        name: impl Fn(&T) -> &str,
    ) -> Vec<(&'static str, u64)> {
        let page = page.unwrap();
        assert_eq!(name(&page.rows[0]), "n");
        page.unreadable.counts().collect()
    }

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
        assert_eq!(page, plain(vec![expected], Some(1), None));
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
        assert_eq!(tags(answer, true).unwrap(), plain(vec![expected], Some(3), Some(2)));
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
        for answer in
            [r#"{"count":0,"next":0,"results":null}"#, r#"{"results":[]}"#, "\u{feff}{\"results\":[]}"]
        {
            let page = images(answer.as_bytes(), "r", HOST).unwrap();
            assert_eq!((page.rows, page.next), (vec![], None));
        }
    }

    #[test]
    fn answers_without_the_sign_of_a_list_are_errors() {
        for answer in [
            "",
            "null",
            "[]",
            "{}",
            "<error/>",
            r#"{"success":false,"message":"No"}"#,
            r#"{"count":0,"next":null,"previous":null}"#,
            r#"{"errorCode":"200","message":"No"}"#,
            r#"{"error":{"errorCode":"200"}}"#,
            r#"{"error":{"errorCode":"200"},"results":null}"#,
            r#"{"responseError":{"returnCode":"1"}}"#,
            r#"{"returnCode":"1","returnMessage":"No"}"#,
            r#"{"items":[{"name":"n"}]}"#,
            r#"{"result":[]}"#,
            r#"{"Results":[]}"#,
            r#"{"repositories":["n"]}"#,
            r#"{"results":{}}"#,
            r#"{"results":""}"#,
            r#"{"results":false}"#,
            r#"{"results":[{}]}"#,
            r#"{"results":[null]}"#,
            r#"{"results":[["n"]]}"#,
            r#"{"results":[{"name":""}]}"#,
            r#"{"results":[{"name":7}]}"#,
            r#"{"results":[{"name":"n"}"#,
            r#"{"next":"http://x/?page=2","results":[]}"#,
            r#"{"next":"2","results":[]}"#,
            r#"[null,null,[{"name":"n"}]]"#,
        ] {
            assert!(registries(answer.as_bytes()).is_err(), "{answer}");
            assert!(images(answer.as_bytes(), "r", HOST).is_err(), "{answer}");
            assert!(tags(answer.as_bytes(), true).is_err(), "{answer}");
        }
        let long = format!(r#"{{"results":[{{"name":"{}"}}]}}"#, "n".repeat(1025));
        assert!(images(long.as_bytes(), "r", HOST).is_err());
    }

    #[test]
    fn an_odd_value_costs_itself_and_is_counted() {
        let row = |field: &str, value: &str| format!(r#"{{"results":[{{"name":"n","{field}":{value}}}]}}"#);
        let of_image = |body: &str| odd(images(body.as_bytes(), "r", HOST), |image| &image.name);
        let of_tag = |body: &str| odd(tags(body.as_bytes(), true), |tag| &tag.name);
        for value in ["true", "{}", "[1]", "\"a lot\"", "1.5", "1e300", "\"\""] {
            assert_eq!(of_image(&row("pull_count", value)), [("repository_downloads", 1)], "{value}");
            let updated = [("repository_updated_timestamp_seconds", 1)];
            assert_eq!(of_image(&row("last_updated", value)), updated, "{value}");
            assert_eq!(of_image(&row("last_update", value)), updated, "{value}");
            assert_eq!(of_tag(&row("full_size", value)), [("tag_size_bytes", 1)], "{value}");
            assert_eq!(of_tag(&row("last_updated", value)), [("tag_updated_timestamp_seconds", 1)]);
            let pulled = [("tag_last_pulled_timestamp_seconds", 1)];
            assert_eq!(
                of_tag(&row("images", &format!(r#"[{{"latest_pulled":{value}}}]"#))),
                pulled,
                "{value}"
            );
            let total = format!(r#"{{"count":{value},"results":[{{"name":"n"}}]}}"#);
            assert_eq!(of_image(&total), [("total", 1)], "{value}");
        }
        for value in ["{}", "7", "\"x\"", "[7]", "[[]]", "[\"x\"]"] {
            assert_eq!(of_tag(&row("images", value)), [("tag_last_pulled_timestamp_seconds", 1)], "{value}");
        }
        assert_eq!(of_tag(&row("digest", "7")), [("tag_info", 1)]);
        let endpoint = odd(registries(row("end_point", "7").as_bytes()), |registry| &registry.name);
        assert_eq!(endpoint, [("repository_info", 1)]);
        // A number is the same number as text, and what stands beside an odd value is read.
        let page = tags(
            br#"{"count":"1","results":[{"name":"n","full_size":"123","last_updated":"1711928488000",
            "images":[7,{"latest_pulled":"1711928488000"}]}]}"#,
            false,
        )
        .unwrap();
        let time = Timestamp::from_milliseconds(1_711_928_488_000);
        assert_eq!((page.count, page.rows[0].size_bytes), (Some(1), Some(123)));
        assert_eq!((page.rows[0].updated, page.rows[0].last_pulled), (time, time));
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
            (r#"{"responseError":{"responseCode":"900","responseMessage":"No"}}"#, Some("900"), Some("No")),
            (r#"{"responseCode":900,"responseMessage":"No"}"#, Some("900"), Some("No")),
            ("<error><errorCode>210</errorCode><message>No</message></error>", Some("210"), Some("No")),
            ("<html>", None, Some("<html>")),
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
