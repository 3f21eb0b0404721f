use super::super::error_body::ErrorShape;
use super::super::made_up::{digest, hash, short_number};
use super::{AccessKey, Overrides, PastTheEnd, keys};
use std::collections::BTreeMap;

/// The simulated NCR.
#[derive(Clone)]
pub struct Ncr {
    /// Who may sign calls; temporary keys sign like permanent ones, so `security_token` is not looked at.
    pub access_keys: Vec<AccessKey>,
    /// The registries by name; listed in this order.
    pub registries: BTreeMap<String, Registry>,
    /// Rows per page when `pagesize` is not given; not documented.
    pub default_page_size: usize,
    /// A larger `pagesize` is refused with 400; not documented.
    pub page_size_refused_above: usize,
    /// A page never has more rows, whatever `pagesize` says; lower it for a server that caps silently.
    pub rows_per_page_at_most: usize,
    /// What a page beyond the last one is; not documented.
    pub past_the_end: PastTheEnd,
    /// A page that is full states a next one even where it is the last.
    pub next_after_every_full_page: bool,
    /// `count` is the number of registries in every listing, as the vendor's pages word it
    /// (<https://api.ncloud-docs.com/docs/en/containerregistry-getimages>).
    pub count_is_of_registries: bool,
    /// The HTTP status for a registry or image that does not exist; 404 is documented, 500 was seen for images.
    pub not_found_status: u16,
    /// How the gateway reports errors; both ways are in its documents.
    pub error_shape: ErrorShape,
    /// Answers are called `text/plain;charset=UTF-8` although they are JSON, as seen behind the same gateway.
    pub plain_text_content_type: bool,
}

impl Ncr {
    pub(super) fn empty() -> Self {
        Self {
            access_keys: vec![AccessKey::new(keys::NCR_ACCESS_KEY, keys::NCR_SECRET_KEY)],
            registries: BTreeMap::new(),
            default_page_size: 20,
            page_size_refused_above: 100,
            rows_per_page_at_most: 100,
            past_the_end: PastTheEnd::EmptyPage,
            next_after_every_full_page: false,
            count_is_of_registries: false,
            not_found_status: 404,
            error_shape: ErrorShape::NcrText,
            plain_text_content_type: false,
        }
    }

    /// Adds a registry, replacing one of the same name.
    pub fn add(&mut self, registry: Registry) {
        self.registries.insert(registry.name.clone(), registry);
    }
}

/// A registry of the account.
#[derive(Clone)]
pub struct Registry {
    /// `name`.
    pub name: String,
    /// `end_point`: the host that docker talks to.
    pub end_point: String,
    /// `bucket`: where the layers are kept.
    pub bucket: String,
    /// `created`, milliseconds since 1970.
    pub created_milliseconds: i64,
    /// `status`: running or disconnected.
    pub status: String,
    /// Its images by name; listed in this order.
    pub images: BTreeMap<String, Image>,
    /// Changes to its row.
    pub overrides: Overrides,
}

impl Registry {
    /// A running registry of the region KR without images, made in 2024.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            end_point: format!("{name}.kr.ncr.ntruss.com"),
            bucket: format!("{name}-bucket"),
            created_milliseconds: 1_711_900_000_000,
            status: "running".to_owned(),
            images: BTreeMap::new(),
            overrides: Overrides::new(),
        }
    }

    /// The same with one more image.
    #[must_use]
    pub fn with_image(mut self, image: Image) -> Self {
        self.images.insert(image.name.clone(), image);
        self
    }
}

/// An image of a registry.
#[derive(Clone)]
pub struct Image {
    /// `name` without the registry; may contain `/`.
    pub name: String,
    /// `pull_count`.
    pub pull_count: i64,
    /// `last_updated`, milliseconds since 1970.
    pub last_updated_milliseconds: i64,
    /// Its tags in the order of the tag list.
    pub tags: Vec<ImageTag>,
    /// Changes to its row.
    pub overrides: Overrides,
}

impl Image {
    /// An image without tags that was never pulled, changed on 2024-03-31.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            pull_count: 0,
            last_updated_milliseconds: 1_711_928_488_000,
            tags: Vec::new(),
            overrides: Overrides::new(),
        }
    }

    /// The same with one more tag.
    #[must_use]
    pub fn with_tag(mut self, tag: ImageTag) -> Self {
        self.tags.push(tag);
        self
    }
}

/// A tag of an NCR image.
#[derive(Clone)]
pub struct ImageTag {
    /// `id`.
    pub id: i64,
    /// `name`.
    pub name: String,
    /// `digest`.
    pub digest: String,
    /// `full_size`.
    pub size_bytes: i64,
    /// `last_updated`, milliseconds since 1970.
    pub last_updated_milliseconds: i64,
    /// `images`: one entry per platform.
    pub platforms: Vec<Platform>,
    /// Changes to its row.
    pub overrides: Overrides,
}

impl ImageTag {
    /// A tag for linux/amd64 that was never pulled, changed on 2024-03-31.
    pub fn new(name: &str, size_bytes: i64) -> Self {
        let seed = hash(name) ^ size_bytes.unsigned_abs();
        Self {
            id: short_number(seed),
            name: name.to_owned(),
            digest: digest(seed),
            size_bytes,
            last_updated_milliseconds: 1_711_928_488_000,
            platforms: vec![Platform {
                architecture: "amd64".to_owned(),
                size_bytes,
                latest_pulled_milliseconds: None,
            }],
            overrides: Overrides::new(),
        }
    }
}

/// One platform of a tag.
#[derive(Clone)]
pub struct Platform {
    /// `architecture`; `os` is always linux.
    pub architecture: String,
    /// `size`.
    pub size_bytes: i64,
    /// `latest_pulled`, milliseconds since 1970; null on the wire when there is none.
    pub latest_pulled_milliseconds: Option<i64>,
}
