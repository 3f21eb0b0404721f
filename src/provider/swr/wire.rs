//! What Huawei Cloud's answers look like, and what they mean.
//!
//! Every field but the names is optional, since documented examples omit some and `null` others, and these services
//! are known to write values of other types than documented; only the fields that are used are named, so that a tag's
//! manifest, which is most of its row, is skipped and not decoded. A list of no rows may be `[]` or `null`.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::Deserialize;

use crate::client::{Refusal, Verdict};
use crate::inventory::{Center, Repository, SharedRepository, Tag, TagInfo, Timestamp};
use crate::provider::refusal::{self, ErrorFields};
use crate::provider::value::{Given, Object, Rfc3339, Text, Unreadable, from_json, required};
use crate::telemetry::Reason;

/// The rows of one answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Rows<T> {
    /// In the order of the API.
    pub rows: Vec<T>,
    /// `total_range`, the number of rows of the whole list; `None` unless the rows that state it agree.
    pub total: Option<u64>,
    /// What could not be read.
    pub unreadable: Unreadable,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RepositoryRow<'a> {
    #[serde(borrow)]
    namespace: Option<Text<'a>>,
    name: Option<Text<'a>>,
    category: Given<Text<'a>>,
    size: Given<u64>,
    is_public: Given<bool>,
    num_images: Given<u64>,
    num_download: Given<u64>,
    created_at: Given<Rfc3339>,
    updated_at: Given<Rfc3339>,
    path: Given<Text<'a>>,
    tags: Given<Vec<Given<Text<'a>>>>,
    total_range: Given<u64>,
}

/// Decodes a page of the list of repositories.
///
/// <https://support.huaweicloud.com/api-swr/swr_02_0034.html>
pub fn repositories(body: &[u8]) -> Result<Rows<Repository>, serde_json::Error> {
    let rows: Vec<RepositoryRow> = list(body)?;
    let mut odd = Unreadable::default();
    let total = agreed(rows.iter().map(|row| odd.take("total", row.total_range)));
    let mut repositories = Vec::with_capacity(rows.len());
    for row in rows {
        repositories.push(Repository {
            organization: required(row.namespace, "namespace")?,
            name: required(row.name, "name")?,
            size_bytes: odd.take("repository_size_bytes", row.size),
            images: odd.take("repository_images", row.num_images),
            downloads: odd.take("repository_downloads", row.num_download),
            created: time(odd.take("repository_created_timestamp_seconds", row.created_at)),
            updated: time(odd.take("repository_updated_timestamp_seconds", row.updated_at)),
            public: odd.take("repository_public", row.is_public),
            category: odd.take("repository_info", row.category).map(Text::into_box),
            image: odd.take("repository_info", row.path).map(Text::into_box),
            tag_names_hash: tag_names(row.tags, &mut odd),
        });
    }
    Ok(Rows { rows: repositories, total, unreadable: odd })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SharedRepositoryRow<'a> {
    #[serde(borrow)]
    namespace: Option<Text<'a>>,
    name: Option<Text<'a>>,
    domain_name: Given<Text<'a>>,
    category: Given<Text<'a>>,
    size: Given<u64>,
    num_images: Given<u64>,
    num_download: Given<u64>,
    updated_at: Given<Rfc3339>,
    /// One of the vendor's examples has a text here.
    status: Given<bool>,
    total_range: Given<u64>,
}

/// Decodes a page of the list of shared repositories that was asked for with `center`.
///
/// <https://support.huaweicloud.com/api-swr/swr_02_0075.html>
pub fn shared_repositories(body: &[u8], center: Center) -> Result<Rows<SharedRepository>, serde_json::Error> {
    let rows: Vec<SharedRepositoryRow> = list(body)?;
    let mut odd = Unreadable::default();
    let total = agreed(rows.iter().map(|row| odd.take("total", row.total_range)));
    let mut repositories = Vec::with_capacity(rows.len());
    for row in rows {
        let valid = odd.take("shared_repository_valid", row.status);
        let updated = odd.take("shared_repository_updated_timestamp_seconds", row.updated_at);
        repositories.push(SharedRepository {
            center,
            organization: required(row.namespace, "namespace")?,
            name: required(row.name, "name")?,
            size_bytes: odd.take("shared_repository_size_bytes", row.size),
            images: odd.take("shared_repository_images", row.num_images),
            downloads: odd.take("shared_repository_downloads", row.num_download),
            updated: time(updated),
            // Of its own shares the account is always told `false`.
            valid: valid.filter(|_| center == Center::ThirdParty),
            owner_account: odd.take("shared_repository_info", row.domain_name).map(Text::into_box),
            category: odd.take("shared_repository_info", row.category).map(Text::into_box),
        });
    }
    Ok(Rows { rows: repositories, total, unreadable: odd })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TagRow<'a> {
    /// The list writes it with a capital, the description of a single tag without.
    #[serde(borrow, rename = "Tag")]
    capital_tag: Option<Text<'a>>,
    tag: Option<Text<'a>>,
    digest: Given<Text<'a>>,
    size: Given<u64>,
    created: Given<Rfc3339>,
    updated: Given<Rfc3339>,
    tag_type: Given<u64>,
}

/// Decodes a page of the list of a repository's tags, with digest and kind only if `info` asks for them.
///
/// <https://support.huaweicloud.com/api-swr/swr_02_0035.html>
pub fn tags(body: &[u8], info: bool) -> Result<Rows<Tag>, serde_json::Error> {
    let rows: Vec<TagRow> = list(body)?;
    let mut odd = Unreadable::default();
    let mut tags = Vec::with_capacity(rows.len());
    for row in rows {
        let kind = match odd.take("tag_info", row.tag_type) {
            Some(0) => Some("manifest"),
            Some(1) => Some("index"),
            _ => None,
        };
        let digest = odd.take("tag_info", row.digest);
        tags.push(Tag {
            name: required(row.capital_tag.or(row.tag), "Tag")?,
            size_bytes: odd.take("tag_size_bytes", row.size),
            created: time(odd.take("tag_created_timestamp_seconds", row.created)),
            updated: time(odd.take("tag_updated_timestamp_seconds", row.updated)),
            last_pulled: None,
            info: info.then(|| Box::new(TagInfo { digest: digest.map(Text::into_box), kind })),
        });
    }
    Ok(Rows { rows: tags, total: None, unreadable: odd })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ShownRepository<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    category: Given<Text<'a>>,
    size: Given<u64>,
    is_public: Given<bool>,
    num_images: Given<u64>,
    num_download: Given<u64>,
    created: Given<Rfc3339>,
    updated: Given<Rfc3339>,
    path: Given<Text<'a>>,
}

/// Decodes the description of the single repository that was asked for as `organization` and `name`: the answer
/// does not repeat the organization. It is the one row.
///
/// <https://support.huaweicloud.com/api-swr/swr_02_0033.html>
pub fn repository(
    body: &[u8],
    organization: &str,
    name: &str,
) -> Result<Rows<Repository>, serde_json::Error> {
    let Object(shown) = from_json::<Object<ShownRepository>>(body)?;
    required::<serde_json::Error>(shown.name, "name")?;
    let mut odd = Unreadable::default();
    let repository = Repository {
        organization: organization.into(),
        name: name.into(),
        size_bytes: odd.take("repository_size_bytes", shown.size),
        images: odd.take("repository_images", shown.num_images),
        downloads: odd.take("repository_downloads", shown.num_download),
        created: time(odd.take("repository_created_timestamp_seconds", shown.created)),
        updated: time(odd.take("repository_updated_timestamp_seconds", shown.updated)),
        public: odd.take("repository_public", shown.is_public),
        category: odd.take("repository_info", shown.category).map(Text::into_box),
        image: odd.take("repository_info", shown.path).map(Text::into_box),
        tag_names_hash: None,
    };
    Ok(Rows { rows: vec![repository], total: None, unreadable: odd })
}

/// Reads when an IAM token expires from the answer to `POST /v3/auth/tokens`; the token itself is in a header.
pub fn token_expiry(body: &[u8]) -> Result<Option<Timestamp>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<Object<Token>>,
    }
    #[derive(Deserialize)]
    struct Token {
        #[serde(default)]
        expires_at: Given<Rfc3339>,
    }
    let Object(answer) = from_json::<Object<Answer>>(body)?;
    Ok(match answer.token.map(|Object(token)| token.expires_at) {
        Some(Given::Yes(Rfc3339(time))) => Some(time),
        _ => None,
    })
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
        Some(number) if status == 400 && GONE.contains(&number) => {
            refusal.reason = Reason::NotFound;
            refusal.credential = Verdict::Accepted;
        }
        number => {
            let cure = CURES.iter().find(|(known, _)| Some(*known) == number);
            refusal.cure = cure.map(|(_, cure)| *cure).or(refusal.cure);
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

/// No such image, tag or organization. Not among them: no such URL (4040083), nor what the gateway does not know.
const GONE: [&str; 6] = ["4040113", "4040010", "4040058", "4041061", "4040115", "4040048"];

/// Whether the API itself says that what was asked for does not exist: a load balancer, the gateway and a wrong
/// endpoint answer 404 too.
pub fn is_gone(refusal: &Refusal) -> bool {
    let code = refusal.code.as_deref().unwrap_or_default();
    let number = code.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    matches!(refusal.status, 400 | 404) && !code.starts_with("APIG") && GONE.contains(&number)
}

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
    let rows: Option<Vec<Object<T>>> = from_json(body)?;
    Ok(rows.unwrap_or_default().into_iter().map(|Object(row)| row).collect())
}

fn time(time: Option<Rfc3339>) -> Option<Timestamp> {
    time.map(|Rfc3339(time)| time)
}

/// A number for the names of a repository's tags: the same in any order. What is no name counts for none.
fn tag_names(names: Given<Vec<Given<Text<'_>>>>, odd: &mut Unreadable) -> Option<u64> {
    let names = odd.take("tag_names", names)?;
    let mut read = Vec::with_capacity(names.len());
    for name in names {
        match name {
            Given::Yes(name) => read.push(name.0),
            Given::No | Given::Unreadable => odd.add("tag_names"),
        }
    }
    read.sort_unstable();
    let mut hasher = DefaultHasher::new();
    read.hash(&mut hasher);
    Some(hasher.finish())
}

/// The total that the rows of a page state, unless they contradict each other.
fn agreed(totals: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    let mut totals = totals.flatten();
    let first = totals.next()?;
    totals.all(|total| total == first).then_some(first)
}

#[cfg(test)]
mod tests;
