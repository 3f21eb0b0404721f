use super::super::error_body::ErrorShape;
use super::super::made_up::{digest, hash, short_number};
use super::{AccessKey, Overrides, PastTheEnd, keys};
use bytes::Bytes;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The simulated SWR.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is one oddity of its own")]
pub struct Swr {
    /// The region it serves; a token or project of another region is refused.
    pub region: String,
    /// Who may sign calls.
    pub access_keys: Vec<AccessKey>,
    /// The account's repositories by `organization/repository`; listed in this order.
    pub repositories: BTreeMap<String, Repository>,
    /// What other accounts share with this one, by `organization/repository`.
    pub shared_with_me: BTreeMap<String, Repository>,
    /// The filter `namespace` matches any part of the name (documented for `filter`, open for the plain parameter:
    /// <https://support.huaweicloud.com/intl/en-us/api-swr/swr_02_0034.html>). Exact if false.
    pub namespace_is_fuzzy: bool,
    /// An `offset` that is no multiple of `limit` is refused, as the older page of list repositories words it; newer
    /// ones take any number.
    pub offset_must_be_multiple_of_limit: bool,
    /// A larger `limit` is refused with 400; 1000 is the documented maximum
    /// (<https://support.huaweicloud.com/api-swr/swr_02_0034.html>).
    pub limit_refused_above: usize,
    /// A page never has more rows, whatever `limit` says; lower it for a server that caps silently.
    pub rows_per_page_at_most: usize,
    /// What a page beyond the last one is; an empty one, as the documents of list repositories word it.
    pub past_the_end: PastTheEnd,
    /// A repository that does not exist is answered with 400 instead of 404, as Terraform's provider meets it.
    pub not_found_is_400: bool,
    /// Tag rows call the name `tag` (as the show-tag call does) instead of `Tag` (as the page of list tags says,
    /// <https://support.huaweicloud.com/intl/en-us/api-swr/swr_02_0035.html>).
    pub lower_case_tag: bool,
    /// How the service itself reports errors; the gateway before it has a shape of its own.
    pub error_shape: ErrorShape,
}

impl Swr {
    pub(super) fn empty() -> Self {
        Self {
            region: keys::REGION.to_owned(),
            access_keys: vec![AccessKey::new(keys::SWR_ACCESS_KEY, keys::SWR_SECRET_KEY)],
            repositories: BTreeMap::new(),
            shared_with_me: BTreeMap::new(),
            namespace_is_fuzzy: true,
            offset_must_be_multiple_of_limit: true,
            limit_refused_above: 1000,
            rows_per_page_at_most: 1000,
            past_the_end: PastTheEnd::EmptyPage,
            not_found_is_400: false,
            lower_case_tag: false,
            error_shape: ErrorShape::SwrErrorsAndCode,
        }
    }

    /// Adds one of the account's repositories, replacing one of the same name.
    pub fn add(&mut self, repository: Repository) {
        self.repositories.insert(format!("{}/{}", repository.organization, repository.name), repository);
    }

    /// Adds a repository that another account shares with this one.
    pub fn add_shared_with_me(&mut self, repository: Repository) {
        self.shared_with_me.insert(format!("{}/{}", repository.organization, repository.name), repository);
    }
}

/// A repository; the wire fields `size`, `num_images` and `tags` are derived from its tags unless overridden.
#[derive(Clone)]
pub struct Repository {
    /// `id` of the show-repository call, `repo_id` of tag rows.
    pub id: i64,
    /// `namespace`.
    pub organization: String,
    /// `name`; may contain `/`.
    pub name: String,
    /// `category`: `app_server`, `linux`, `framework_app`, `database`, `lang`, `other`, `windows` or `arm`.
    pub category: String,
    /// `description`.
    pub description: String,
    /// `is_public`.
    pub public: bool,
    /// `num_download`.
    pub downloads: i64,
    /// `created_at`, `created`; RFC 3339 with 0 to 9 fraction digits and `Z`.
    pub created: String,
    /// `updated_at`, `updated`.
    pub updated: String,
    /// `domain_name`: the account that owns it.
    pub account: String,
    /// It is shared with other accounts: the listing for `center=self` shows it.
    pub shared_by_me: bool,
    /// `status` in the listing for `center=thirdparty`: true while the share is valid, false once it has expired.
    pub share_is_valid: bool,
    /// Its tags in the order of the tag list.
    pub tags: Vec<Tag>,
    /// Changes to its rows in the two listings.
    pub overrides: Overrides,
    /// Changes to the answer of the show-repository call, whose field names differ.
    pub show_overrides: Overrides,
}

impl Repository {
    /// A private repository of category `other` without tags, made and changed in 2021.
    pub fn new(organization: &str, name: &str) -> Self {
        Self {
            id: short_number(hash(&format!("{organization}/{name}"))),
            organization: organization.to_owned(),
            name: name.to_owned(),
            category: "other".to_owned(),
            description: String::new(),
            public: false,
            downloads: 0,
            created: "2021-06-10T03:24:44.784402Z".to_owned(),
            updated: "2021-06-10T03:40:59.199352Z".to_owned(),
            account: keys::IAM_ACCOUNT.to_owned(),
            shared_by_me: false,
            share_is_valid: true,
            tags: Vec::new(),
            overrides: Overrides::new(),
            show_overrides: Overrides::new(),
        }
    }

    /// The same with one more tag.
    #[must_use]
    pub fn with_tag(mut self, tag: Tag) -> Self {
        self.tags.push(tag);
        self
    }

    /// The sum of its tags' sizes in bytes.
    pub fn size_bytes(&self) -> i64 {
        self.tags.iter().map(|tag| tag.size_bytes).sum()
    }
}

/// A tag of an SWR repository.
#[derive(Clone)]
pub struct Tag {
    /// `id`.
    pub id: i64,
    /// `Tag` or `tag`.
    pub name: String,
    /// `digest`.
    pub digest: String,
    /// `size`.
    pub size_bytes: i64,
    /// `created`.
    pub created: String,
    /// `updated`.
    pub updated: String,
    /// `tag_type`: 0 a manifest, 1 a list of manifests.
    pub tag_type: i64,
    /// `manifest`: the whole manifest as a string.
    pub manifest: Manifest,
    /// Changes to its row.
    pub overrides: Overrides,
}

impl Tag {
    /// A tag of `size_bytes` with a small manifest, made and changed in 2021.
    pub fn new(name: &str, size_bytes: i64) -> Self {
        let seed = hash(name) ^ size_bytes.unsigned_abs();
        Self {
            id: short_number(seed),
            name: name.to_owned(),
            digest: digest(seed),
            size_bytes,
            created: "2021-06-10T03:24:44Z".to_owned(),
            updated: "2021-06-10T03:40:59.19935Z".to_owned(),
            tag_type: 0,
            manifest: Manifest::of_bytes(1024, seed),
            overrides: Overrides::new(),
        }
    }
}

/// An image manifest, kept as the JSON string that goes over the wire and shared between copies.
#[derive(Clone)]
pub struct Manifest(Bytes);

impl Manifest {
    /// Any text as the manifest.
    pub fn new(text: &str) -> Self {
        Self(Bytes::from(json!(text).to_string()))
    }

    /// A made-up manifest that takes about `bytes` on the wire, a layer more at most.
    pub fn of_bytes(bytes: usize, seed: u64) -> Self {
        const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let mut text = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","size":1862,"digest":"{}"}},"layers":["#,
            digest(seed)
        );
        let escaped_layer_bytes = 175; // its own length and one backslash for each of its 14 quotes, give or take
        let layers = 1 + bytes.saturating_sub(text.len() + 40) / escaped_layer_bytes;
        for layer in 0..layers as u64 {
            let separator = if layer == 0 { "" } else { "," };
            let layer_digest = digest(seed.wrapping_add(layer + 1));
            write!(
                text,
                r#"{separator}{{"mediaType":"{LAYER}","size":{},"digest":"{layer_digest}"}}"#,
                10_240 + layer
            )
            .expect("writing to a String cannot fail");
        }
        text += "]}";
        Self::new(&text)
    }

    /// The JSON string, quotes included.
    pub(in super::super) fn json(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_has_the_wanted_size_and_is_a_json_text_in_a_json_string() {
        for wanted in [2048, 4096, 8192] {
            let manifest = Manifest::of_bytes(wanted, 7);
            let difference = manifest.json().len().abs_diff(wanted);
            assert!(difference < 300, "{wanted}: {}", manifest.json().len());
            let text: String = serde_json::from_slice(manifest.json()).unwrap();
            let inner: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(inner["schemaVersion"], 2);
        }
    }
}
