//! What Huawei Cloud's answers look like, and what they mean.
//!
//! Every field is optional, since documented examples omit some and `null` others; only the fields that are used
//! are named, so that a tag's manifest, which is most of its row, is skipped and not decoded. A list of no rows may
//! be `[]` or `null`.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::Deserialize;

use crate::client::{Refusal, Verdict};
use crate::inventory::{Center, Repository, SharedRepository, Tag, TagInfo, Timestamp};
use crate::provider::refusal::{self, ErrorFields};
use crate::provider::value::{Text, count, flag, required, rfc3339};
use crate::telemetry::Reason;

/// The rows of one answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Rows<T> {
    /// In the order of the API.
    pub rows: Vec<T>,
    /// `total_range`, the number of rows of the whole list; `None` unless the rows that state it agree.
    pub total: Option<u64>,
}

#[derive(Deserialize)]
struct RepositoryRow<'a> {
    #[serde(borrow)]
    namespace: Option<Text<'a>>,
    name: Option<Text<'a>>,
    category: Option<Text<'a>>,
    #[serde(default, deserialize_with = "count")]
    size: Option<u64>,
    is_public: Option<bool>,
    #[serde(default, deserialize_with = "count")]
    num_images: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    num_download: Option<u64>,
    #[serde(default, deserialize_with = "rfc3339")]
    created_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "rfc3339")]
    updated_at: Option<Timestamp>,
    path: Option<Text<'a>>,
    tags: Option<Vec<Text<'a>>>,
    #[serde(default, deserialize_with = "count")]
    total_range: Option<u64>,
}

/// Decodes a page of the list of repositories.
///
/// <https://support.huaweicloud.com/api-swr/swr_02_0034.html>
pub fn repositories(body: &[u8]) -> Result<Rows<Repository>, serde_json::Error> {
    let rows: Vec<RepositoryRow> = list(body)?;
    let total = agreed(rows.iter().map(|row| row.total_range));
    let mut repositories = Vec::with_capacity(rows.len());
    for row in rows {
        repositories.push(Repository {
            organization: required(row.namespace, "namespace")?,
            name: required(row.name, "name")?,
            size_bytes: row.size,
            images: row.num_images,
            downloads: row.num_download,
            created: row.created_at,
            updated: row.updated_at,
            public: row.is_public,
            category: row.category.map(Text::into_box),
            image: row.path.map(Text::into_box),
            tag_names_hash: row.tags.map(|tags| hash(&tags)),
        });
    }
    Ok(Rows { rows: repositories, total })
}

#[derive(Deserialize)]
struct SharedRepositoryRow<'a> {
    #[serde(borrow)]
    namespace: Option<Text<'a>>,
    name: Option<Text<'a>>,
    domain_name: Option<Text<'a>>,
    category: Option<Text<'a>>,
    #[serde(default, deserialize_with = "count")]
    size: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    num_images: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    num_download: Option<u64>,
    #[serde(default, deserialize_with = "rfc3339")]
    updated_at: Option<Timestamp>,
    /// One of the vendor's examples has a text here.
    #[serde(default, deserialize_with = "flag")]
    status: Option<bool>,
    #[serde(default, deserialize_with = "count")]
    total_range: Option<u64>,
}

/// Decodes a page of the list of shared repositories that was asked for with `center`.
///
/// <https://support.huaweicloud.com/api-swr/swr_02_0075.html>
pub fn shared_repositories(body: &[u8], center: Center) -> Result<Rows<SharedRepository>, serde_json::Error> {
    let rows: Vec<SharedRepositoryRow> = list(body)?;
    let total = agreed(rows.iter().map(|row| row.total_range));
    let mut repositories = Vec::with_capacity(rows.len());
    for row in rows {
        repositories.push(SharedRepository {
            center,
            organization: required(row.namespace, "namespace")?,
            name: required(row.name, "name")?,
            size_bytes: row.size,
            images: row.num_images,
            downloads: row.num_download,
            updated: row.updated_at,
            // Of its own shares the account is always told `false`.
            valid: row.status.filter(|_| center == Center::ThirdParty),
            owner_account: row.domain_name.map(Text::into_box),
            category: row.category.map(Text::into_box),
        });
    }
    Ok(Rows { rows: repositories, total })
}

#[derive(Deserialize)]
struct TagRow<'a> {
    /// The list writes it with a capital, the description of a single tag without.
    #[serde(borrow, rename = "Tag")]
    capital_tag: Option<Text<'a>>,
    tag: Option<Text<'a>>,
    digest: Option<Text<'a>>,
    #[serde(default, deserialize_with = "count")]
    size: Option<u64>,
    #[serde(default, deserialize_with = "rfc3339")]
    created: Option<Timestamp>,
    #[serde(default, deserialize_with = "rfc3339")]
    updated: Option<Timestamp>,
    #[serde(default, deserialize_with = "count")]
    tag_type: Option<u64>,
}

/// Decodes a page of the list of a repository's tags, with digest and kind only if `info` asks for them.
///
/// <https://support.huaweicloud.com/api-swr/swr_02_0035.html>
pub fn tags(body: &[u8], info: bool) -> Result<Vec<Tag>, serde_json::Error> {
    let rows: Vec<TagRow> = list(body)?;
    let mut tags = Vec::with_capacity(rows.len());
    for row in rows {
        let kind = match row.tag_type {
            Some(0) => Some("manifest"),
            Some(1) => Some("index"),
            _ => None,
        };
        let digest = row.digest;
        tags.push(Tag {
            name: required(row.capital_tag.or(row.tag), "Tag")?,
            size_bytes: row.size,
            created: row.created,
            updated: row.updated,
            last_pulled: None,
            info: info.then(|| Box::new(TagInfo { digest: digest.map(Text::into_box), kind })),
        });
    }
    Ok(tags)
}

#[derive(Deserialize)]
struct ShownRepository<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    category: Option<Text<'a>>,
    #[serde(default, deserialize_with = "count")]
    size: Option<u64>,
    is_public: Option<bool>,
    #[serde(default, deserialize_with = "count")]
    num_images: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    num_download: Option<u64>,
    #[serde(default, deserialize_with = "rfc3339")]
    created: Option<Timestamp>,
    #[serde(default, deserialize_with = "rfc3339")]
    updated: Option<Timestamp>,
    path: Option<Text<'a>>,
}

/// Decodes the description of the single repository that was asked for as `organization` and `name`: the answer
/// does not repeat the organization.
///
/// <https://support.huaweicloud.com/api-swr/swr_02_0033.html>
pub fn repository(body: &[u8], organization: &str, name: &str) -> Result<Repository, serde_json::Error> {
    let shown: ShownRepository = serde_json::from_slice(body)?;
    required::<serde_json::Error>(shown.name, "name")?;
    Ok(Repository {
        organization: organization.into(),
        name: name.into(),
        size_bytes: shown.size,
        images: shown.num_images,
        downloads: shown.num_download,
        created: shown.created,
        updated: shown.updated,
        public: shown.is_public,
        category: shown.category.map(Text::into_box),
        image: shown.path.map(Text::into_box),
        tag_names_hash: None,
    })
}

/// Reads when an IAM token expires from the answer to `POST /v3/auth/tokens`; the token itself is in a header.
pub fn token_expiry(body: &[u8]) -> Result<Option<Timestamp>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<Token>,
    }
    #[derive(Deserialize)]
    struct Token {
        #[serde(default, deserialize_with = "rfc3339")]
        expires_at: Option<Timestamp>,
    }
    let answer: Answer = serde_json::from_slice(body)?;
    Ok(answer.token.and_then(|token| token.expires_at))
}

/// Reads the number of rows of a whole list from the header `Content-Range`.
///
/// Its form is `offset-count/total`, where HTTP would have `unit first-last/total`: only the total can be trusted.
pub fn content_range_total(value: &str) -> Option<u64> {
    let (_, total) = value.rsplit_once('/')?;
    total.bytes().all(|b| b.is_ascii_digit()).then(|| total.parse().ok())?
}

/// The API writes `error_code` and `error_msg`, older regions a bare list of `errorCode` and `errorMessage`, newer
/// ones both; the gateway the first form, IAM an `error` with `code` and `message`.
const ERROR_FIELDS: ErrorFields = ErrorFields {
    inner: &["error", "errors", "details"],
    codes: &["error_code", "errorCode", "code"],
    messages: &["error_msg", "errorMessage", "errorMsg", "message", "detail"],
};

/// Says what an answer means whose status is no success.
///
/// <https://support.huaweicloud.com/intl/en-us/api-swr/ErrorCode.html>
pub fn classify(status: u16, body: &[u8]) -> Refusal {
    let mut refusal = refusal::from_answer(status, body, ERROR_FIELDS);
    let code = refusal.code.as_deref().unwrap_or_default();
    // The number alone, since the gateway's prefix is APIGW or APIG.
    match code.rsplit(|c: char| !c.is_ascii_digit()).next() {
        // Too many requests: the gateway's code, and two of SWR's own that come as 403.
        Some("0308" | "4031032" | "4031042") => {
            refusal.reason = Reason::Throttled;
            refusal.retry = true;
        }
        // No such synchronization, retention rule, share: not found, reported as 400.
        Some("4001158" | "4000306" | "4001090") if status == 400 => refusal.reason = Reason::NotFound,
        number => {
            let cure = CURES.iter().find(|(known, _)| Some(*known) == number);
            refusal.cure = cure.map(|(_, cure)| *cure);
            if status == 401 && number.is_some_and(|number| REFUSED_HERE.contains(&number)) {
                refusal.credential = Verdict::RefusedHere;
            }
            // The codes of the API itself have seven digits, those of the gateway before it and of IAM fewer.
            let own = number.is_some_and(|number| number.len() >= 7);
            if own && matches!(status, 400..=428 | 430..=499) && refusal.credential == Verdict::Unknown {
                refusal.credential = Verdict::Accepted;
            }
        }
    }
    refusal
}

/// The gateway's codes for a token or a project of another region or project: another host may take them.
const REFUSED_HERE: [&str; 2] = ["0307", "0310"];

/// What to do about refusals whose words do not tell.
const CURES: [(&str, &str); 3] = [
    (
        "4010000",
        "the token has ended, or was not made for the project of this region but for the whole account",
    ),
    (
        "0307",
        "the credential is for another region or project, check region, endpoint, project_id and project_name",
    ),
    ("0310", "project_id is no project of this region"),
];

fn list<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<Vec<T>, serde_json::Error> {
    let rows: Option<Vec<T>> = serde_json::from_slice(body)?;
    Ok(rows.unwrap_or_default())
}

/// The same names in any order give the same number.
fn hash(names: &[Text<'_>]) -> u64 {
    let mut names: Vec<&str> = names.iter().map(|name| &*name.0).collect();
    names.sort_unstable();
    let mut hasher = DefaultHasher::new();
    names.hash(&mut hasher);
    hasher.finish()
}

/// The total that the rows of a page state, unless they contradict each other.
fn agreed(totals: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    let mut totals = totals.flatten();
    let first = totals.next()?;
    totals.all(|total| total == first).then_some(first)
}

#[cfg(test)]
mod tests;
