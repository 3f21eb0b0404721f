//! What to ask NCR, page by page.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request};
use secrecy::ExposeSecret as _;
use tokio::time::Instant;
use url::{Position, Url};

use super::keys::Keys;
use super::sign;
use super::wire::{self, Registry};
use crate::client::{
    self, Answer, ApiClient, ApiError, Call, Cause, Guard, Guards, Listing, Next, Page, PageSizes, Pages,
    Poll, Signed,
};
use crate::config::{NcrAuth, NcrConfig, Secret, SourceConfig};
use crate::inventory::{Center, Repository, SharedRepository, Tag, Timestamp};
use crate::provider::temporary::AccessKey;
use crate::provider::{Provider, TagListing};
use crate::telemetry::self_metrics::SourceMetrics;

/// Most bytes of a page of registries or images.
const LIST_BODY_LIMIT: usize = 64 * 1024 * 1024;
/// Most bytes of a page of tags.
const TAGS_BODY_LIMIT: usize = 16 * 1024 * 1024;
/// The page sizes to try; the documentation states neither the largest nor the one that holds without asking.
const PAGE_SIZES: [Option<u32>; 3] = [Some(100), Some(10), None];

/// One account at one site, in one region.
pub struct Ncr {
    config: NcrConfig,
    tag_info: bool,
    /// The hosts that the list of registries states.
    hosts: Mutex<HashMap<Box<str>, Box<str>>>,
    client: ApiClient,
    guards: Guards,
    auth: Auth,
    /// The number of registries of the account, where they were listed.
    registries_known: Mutex<Option<u64>>,
    registry_pages: PageSizes,
    image_pages: PageSizes,
    tag_pages: PageSizes,
}

/// How one source authenticates.
enum Auth {
    AccessKey { access_key: Secret, secret_key: Secret },
    ServerRole(Box<Keys>),
}

impl Ncr {
    /// A provider for `source`, whose cloud is `config`. Sources that use the same credential share its guard.
    ///
    /// Errors: a certificate cannot be read.
    pub fn new(
        source: &SourceConfig,
        config: &NcrConfig,
        guards: Guards,
        metrics: SourceMetrics,
    ) -> io::Result<Self> {
        let http = client::connection::client(&source.connection, &[&config.endpoint])?;
        let auth = match config.auth.clone() {
            NcrAuth::AccessKey { access_key, secret_key } => Auth::AccessKey { access_key, secret_key },
            NcrAuth::ServerRole(metadata) => {
                Auth::ServerRole(Box::new(Keys::new(&metadata, source, &guards, &metrics)?))
            }
        };
        Ok(Self {
            config: config.clone(),
            tag_info: source.tags.info,
            hosts: Mutex::default(),
            client: ApiClient::new(http, wire::classify, &source.poll, metrics)
                .through(&source.connection.proxies, guards.clone()),
            guards,
            auth,
            registries_known: Mutex::new(None),
            registry_pages: PageSizes::new(&PAGE_SIZES),
            image_pages: PageSizes::new(&PAGE_SIZES),
            tag_pages: PageSizes::new(&PAGE_SIZES),
        })
    }

    /// Reads a whole list. Every page is decoded by `decode`, which a bad one fails.
    async fn list<T>(
        &self,
        poll: &Poll,
        list: List,
        sizes: &PageSizes,
        decode: impl Fn(&[u8]) -> Result<wire::Page<T>, serde_json::Error>,
        key: for<'a> fn(&'a T) -> client::page::Key<'a>,
    ) -> Result<Listing<T>, ApiError> {
        let started = Instant::now();
        let whole = self.url(&list.path, None);
        let (list, decode) = (&list, &decode);
        let fetch = move |number: u64, size: Option<u32>| async move {
            let size = size.map_or_else(String::new, |size| format!("&pagesize={size}"));
            let url = self.url(&list.path, Some(&format!("page={number}{size}")));
            let call = list.call(&url);
            let sent = Instant::now();
            let answer = self.get(poll, call, &url).await?;
            let page = decode(&answer.body)
                .map_err(|e| self.client.unreadable(call, sent.elapsed(), &answer, &e))?;
            page.unreadable
                .counts()
                .for_each(|(field, count)| self.client.metrics().unreadable(field, count));
            let next = match page.next {
                Some(next) if !page.rows.is_empty() && next > 0 => Next::At(next),
                _ => Next::End,
            };
            Ok(Page { rows: page.rows, total: page.count, next })
        };
        let incomplete = |cause| ApiError::new(list.call(&whole), 1, started.elapsed(), cause);
        let pages = Pages {
            operation: list.operation,
            listing: &list.path,
            sizes,
            start: 1,
            empty_total: list.empty_total,
        };
        client::walk(poll, pages, fetch, key, incomplete).await
    }

    /// The address of `path` below the endpoint.
    fn url(&self, path: &str, query: Option<&str>) -> Url {
        let mut url = self.config.endpoint.clone();
        url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        url.set_query(query);
        url
    }

    /// One authenticated GET.
    async fn get(&self, poll: &Poll, call: Call<'_>, url: &Url) -> Result<Answer, ApiError> {
        match &self.auth {
            Auth::AccessKey { access_key, secret_key } => {
                let sign = || {
                    let access_key = access_key.read().map_err(Cause::Credential)?;
                    let secret_key = secret_key.read().map_err(Cause::Credential)?;
                    let key = AccessKey { access_key, secret_key, security_token: None };
                    signed(url, &key, self.guards.of(&key.parts()), true)
                };
                self.client.send(poll, call, sign).await
            }
            Auth::ServerRole(keys) => {
                let fetch = || keys.fetch(poll);
                let sign = |key: &AccessKey, guard, guarded| signed(url, key, guard, guarded);
                keys.handed_out.send(&self.client, poll, call, fetch, sign).await
            }
        }
    }

    /// The registries of the account.
    async fn registries(&self, poll: &Poll) -> Result<Listing<Registry>, ApiError> {
        let list = List {
            operation: "list_registries",
            path: sign::REGISTRIES_PATH.to_owned(),
            body_limit: LIST_BODY_LIMIT,
            empty_total: None,
        };
        let listing =
            self.list(poll, list, &self.registry_pages, wire::registries, |r| ("", &r.name)).await?;
        if !poll.first_pages() {
            let known = listing.rows.len() as u64;
            *self.registries_known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        }
        Ok(listing)
    }

    /// The host that docker clients use for a registry.
    fn host(&self, registry: &str) -> String {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || wire::registry_host(registry, self.config.site, &self.config.region);
        hosts.get(registry).map_or_else(made, ToString::to_string)
    }

    fn registries_known(&self) -> Option<u64> {
        *self.registries_known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The images of a registry.
    async fn images(&self, poll: &Poll, registry: &str) -> Result<Listing<Repository>, ApiError> {
        match self.list_images(poll, registry).await {
            // An empty registry whose `count` is that of registries, which nobody has listed where they are named.
            Err(error)
                if matches!(error.cause, Cause::Incomplete(_))
                    && !self.config.registries.is_empty()
                    && self.registries(poll).await.is_ok() =>
            {
                self.list_images(poll, registry).await
            }
            outcome => outcome,
        }
    }

    async fn list_images(&self, poll: &Poll, registry: &str) -> Result<Listing<Repository>, ApiError> {
        let host = self.host(registry);
        let path = sign::images_path(registry)
            .map_err(|e| ApiError::unusable("list_images", &self.config.endpoint, &e))?;
        let empty_total = self.registries_known();
        let list = List { operation: "list_images", path, body_limit: LIST_BODY_LIMIT, empty_total };
        let decode = |body: &[u8]| wire::images(body, registry, &host);
        self.list(poll, list, &self.image_pages, decode, |r| (&r.organization, &r.name)).await
    }
}

/// A signed request.
fn signed(url: &Url, key: &AccessKey, guard: Arc<Guard>, guarded: bool) -> Result<Signed, Cause> {
    let access_key = key.access_key.expose_secret();
    let target = &url[Position::BeforePath..Position::AfterQuery];
    let now = Timestamp::from(SystemTime::now());
    let signature = sign::sign("GET", target, access_key, &key.secret_key, now);
    let mut request = Request::new(Method::GET, url.clone());
    let headers = request.headers_mut();
    // The gateway also speaks XML, and its documentation asks for the content type of a GET.
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in [
        (sign::TIMESTAMP_HEADER, signature.timestamp.as_str()),
        (sign::ACCESS_KEY_HEADER, access_key),
        (sign::SIGNATURE_HEADER, &signature.signature),
    ] {
        headers.insert(name, client::sensitive(value)?);
    }
    Ok(Signed { request, guard: Some(guard), body_secret: None, guarded })
}

/// A list to read: the same in all its pages.
struct List {
    operation: &'static str,
    path: String,
    body_limit: usize,
    /// The vendor's pages say of every list's `count` that it is the number of registries.
    empty_total: Option<u64>,
}

impl List {
    fn call<'a>(&self, url: &'a Url) -> Call<'a> {
        Call { operation: self.operation, method: "GET", url, body_limit: self.body_limit }
    }
}

#[async_trait]
impl Provider for Ncr {
    async fn listings(&self, poll: &Poll) -> Result<Listing<Box<str>>, ApiError> {
        if !self.config.registries.is_empty() {
            let names = self.config.registries.iter().map(|name| name.as_str().into());
            return Ok(Listing::of(names.collect()));
        }
        let Listing { rows, duplicates, mismatch } = self.registries(poll).await?;
        let names = rows.iter().map(|registry| registry.name.clone()).collect();
        let host = |registry: Registry| Some((registry.name, registry.end_point?));
        let hosts = rows.into_iter().filter_map(host).collect();
        *self.hosts.lock().unwrap_or_else(PoisonError::into_inner) = hosts;
        Ok(Listing { rows: names, duplicates, mismatch })
    }

    async fn repositories(&self, poll: &Poll, listing: &str) -> Result<Listing<Repository>, ApiError> {
        match self.images(poll, listing).await {
            // Where registries are listed, that list says which there are.
            Err(error) if !self.config.registries.is_empty() && error.is_absence() => {
                Ok(Listing::of(Vec::new()))
            }
            outcome => outcome,
        }
    }

    async fn existing(&self, poll: &Poll) -> Result<Vec<Box<str>>, ApiError> {
        Ok(self.registries(poll).await?.rows.into_iter().map(|registry| registry.name).collect())
    }

    /// NCR has no list of shared images.
    async fn shared_repositories(&self, _: &Poll, _: Center) -> Result<Listing<SharedRepository>, ApiError> {
        Ok(Listing::of(Vec::new()))
    }

    async fn tags(&self, poll: &Poll, repository: &Repository) -> Result<TagListing, ApiError> {
        let path = sign::tags_path(&repository.organization, &repository.name)
            .map_err(|e| ApiError::unusable("list_tags", &self.config.endpoint, &e))?;
        let empty_total = self.registries_known();
        let list = List { operation: "list_tags", path, body_limit: TAGS_BODY_LIMIT, empty_total };
        let decode = |body: &[u8]| wire::tags(body, self.tag_info);
        let listing = self.list(poll, list, &self.tag_pages, decode, |tag: &Tag| ("", &tag.name)).await?;
        Ok(TagListing { images: Some(listing.rows.len() as u64), listing })
    }
}
