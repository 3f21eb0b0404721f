//! What to ask SWR, page by page.

use std::io;

use async_trait::async_trait;
use reqwest::header::{CONTENT_RANGE, HeaderMap};
use tokio::time::Instant;

use super::auth::{Auth, Target};
use super::sign;
use super::wire::{self, Rows};
use crate::client::{self, ApiClient, ApiError, Call, Guards, Listing, Next, Page, PageSizes, Pages, Poll};
use crate::config::{KeyService, SourceConfig, SwrAuth, SwrConfig};
use crate::inventory::{Center, Repository, SharedRepository, Tag};
use crate::provider::value::Unreadable;
use crate::provider::{Provider, TagListing};
use crate::telemetry::self_metrics::SourceMetrics;

/// Most bytes of a page of repositories: 1000 rows, each with the names of all its tags.
const LIST_BODY_LIMIT: usize = 64 * 1024 * 1024;
/// Most bytes of any other answer: 100 tags, each with its whole manifest.
const BODY_LIMIT: usize = 16 * 1024 * 1024;

/// One account in one region.
pub struct Swr {
    config: SwrConfig,
    tag_info: bool,
    client: ApiClient,
    auth: Auth,
    repository_pages: PageSizes,
    shared_pages: PageSizes,
    tag_pages: PageSizes,
}

impl Swr {
    /// A provider for `source`, whose cloud is `config`. Sources that use the same credential share its guard.
    ///
    /// Errors: a certificate cannot be read.
    pub fn new(
        source: &SourceConfig,
        config: &SwrConfig,
        guards: Guards,
        metrics: SourceMetrics,
    ) -> io::Result<Self> {
        let mut endpoints = vec![&config.endpoint, &config.iam_endpoint];
        if let SwrAuth::Temporary(KeyService::Oidc(oidc)) = &config.auth {
            endpoints.push(&oidc.endpoint);
        }
        let http = client::connection::client(&source.connection, &endpoints)?;
        let auth = Auth::new(source, config, guards.clone(), &metrics)?;
        let client = ApiClient::new(http, wire::classify, &source.poll, metrics)
            .through(&source.connection.proxies, guards);
        Ok(Self {
            config: config.clone(),
            tag_info: source.tags.info,
            client,
            auth,
            repository_pages: PageSizes::new(&[Some(1000), Some(100), Some(10)]),
            shared_pages: PageSizes::new(&[Some(1000), Some(100), Some(10)]),
            tag_pages: PageSizes::new(&[Some(100), Some(10)]),
        })
    }

    /// Reads a whole list. Every page is decoded by `decode`, which a bad one fails.
    async fn list<T>(
        &self,
        poll: &Poll,
        list: List,
        sizes: &PageSizes,
        decode: impl Fn(&[u8]) -> Result<Rows<T>, serde_json::Error>,
        key: for<'a> fn(&'a T) -> client::page::Key<'a>,
    ) -> Result<Listing<T>, ApiError> {
        let started = Instant::now();
        let whole = Target::new(&self.config.endpoint, &list.path, list.query.clone());
        let (list, decode) = (&list, &decode);
        let fetch = move |offset: u64, size: Option<u32>| async move {
            let limit = size.unwrap_or(100);
            let mut query = list.query.clone();
            query.extend([("limit", limit.to_string()), ("offset", offset.to_string())]);
            let target = Target::new(&self.config.endpoint, &list.path, query);
            let call = list.call(&target);
            let sent = Instant::now();
            let answer = self.auth.get(&self.client, poll, call, &target).await?;
            let Rows { rows, total, unreadable } = decode(&answer.body)
                .map_err(|e| self.client.unreadable(call, sent.elapsed(), &answer, &e))?;
            self.note_unreadable(&unreadable);
            // A page beyond the end states a total of 0.
            let beyond = rows.is_empty() && offset > 0;
            let total = self.stated_total(&answer.headers).or(total).filter(|_| !beyond);
            let next = next(offset, limit, rows.len() as u64, total);
            Ok(Page { rows, total, next })
        };
        let incomplete = |cause| ApiError::new(list.call(&whole), 1, started.elapsed(), cause);
        let listing = whole.url.as_str();
        let pages = Pages { operation: list.operation, listing, sizes, start: 0, empty_total: None };
        client::walk(poll, pages, fetch, key, incomplete).await
    }

    async fn list_repositories(
        &self,
        poll: &Poll,
        organization: &str,
    ) -> Result<Listing<Repository>, ApiError> {
        let named = Some(organization).filter(|name| !name.is_empty());
        let query = named.map(|name| ("namespace", name.to_owned())).into_iter().collect();
        let path = sign::REPOSITORIES_PATH.to_owned();
        let list = List { operation: "list_repositories", path, query, body_limit: LIST_BODY_LIMIT };
        self.list(poll, list, &self.repository_pages, wire::repositories, |r| (&r.organization, &r.name))
            .await
    }

    /// One repository; `None` if it is not there.
    async fn show_repository(
        &self,
        poll: &Poll,
        organization: &str,
        name: &str,
    ) -> Result<Option<Repository>, ApiError> {
        let path = sign::repository_path(organization, name)
            .map_err(|e| ApiError::unusable("show_repository", &self.config.endpoint, &e))?;
        let list = List { operation: "show_repository", path, query: Vec::new(), body_limit: BODY_LIMIT };
        let target = Target::new(&self.config.endpoint, &list.path, Vec::new());
        let call = list.call(&target);
        let sent = Instant::now();
        let answer = match self.auth.get(&self.client, poll, call, &target).await {
            Err(error) if error.refusal_of(list.operation).is_some_and(wire::is_gone) => return Ok(None),
            outcome => outcome?,
        };
        let shown = wire::repository(&answer.body, organization, name);
        let shown = shown.map_err(|e| self.client.unreadable(call, sent.elapsed(), &answer, &e))?;
        self.note_unreadable(&shown.unreadable);
        Ok(shown.rows.into_iter().next())
    }

    fn note_unreadable(&self, unreadable: &Unreadable) {
        unreadable.counts().for_each(|(field, count)| self.client.metrics().unreadable(field, count));
    }

    /// The total in the header of a page, where there is one that can be read.
    fn stated_total(&self, headers: &HeaderMap) -> Option<u64> {
        let value = headers.get(CONTENT_RANGE)?;
        let total = value.to_str().ok().and_then(wire::content_range_total);
        if total.is_none() {
            self.client.metrics().unreadable("total", 1);
        }
        total
    }
}

/// A list to read: the same in all its pages.
struct List {
    operation: &'static str,
    path: String,
    query: Vec<(&'static str, String)>,
    body_limit: usize,
}

impl List {
    fn call<'a>(&self, target: &'a Target) -> Call<'a> {
        Call { operation: self.operation, method: "GET", url: &target.url, body_limit: self.body_limit }
    }
}

/// What comes after a page of `rows` rows at `offset`. A full page is followed by another one even where the rows make
/// the total, which a server may cap; a short one is the last only if they do.
fn next(offset: u64, limit: u32, rows: u64, total: Option<u64>) -> Next {
    let (limit, came) = (u64::from(limit), offset + rows);
    match total {
        _ if rows == 0 => Next::End,
        _ if rows >= limit => Next::At(came),
        Some(total) if offset + limit < total => Next::At(offset + limit),
        Some(total) if came <= total => Next::End,
        _ => Next::Perhaps(came),
    }
}

#[async_trait]
impl Provider for Swr {
    async fn listings(&self, _: &Poll) -> Result<Listing<Box<str>>, ApiError> {
        let SwrConfig { organizations, watch, .. } = &self.config;
        let watched = watch.iter().map(|(organization, name)| format!("{organization}/{name}").into());
        let mut names: Vec<Box<str>> = watched.collect();
        names.extend(organizations.iter().map(|name| name.as_str().into()));
        if names.is_empty() {
            names.push("".into());
        }
        Ok(Listing::of(names))
    }

    async fn repositories(&self, poll: &Poll, listing: &str) -> Result<Listing<Repository>, ApiError> {
        if !self.config.watch.is_empty() {
            let (organization, name) = listing.split_once('/').unwrap_or((listing, ""));
            let shown = self.show_repository(poll, organization, name).await?;
            return Ok(Listing::of(shown.into_iter().collect()));
        }
        let mut list = match self.list_repositories(poll, listing).await {
            Err(error)
                if !listing.is_empty()
                    && error.refusal_of("list_repositories").is_some_and(wire::is_gone) =>
            {
                Listing::of(Vec::new())
            }
            outcome => outcome?,
        };
        // The API may match more organizations than the one named.
        list.rows.retain(|row| listing.is_empty() || *row.organization == *listing);
        Ok(list)
    }

    async fn existing(&self, poll: &Poll) -> Result<Vec<Box<str>>, ApiError> {
        let rows = self.list_repositories(poll, "").await?.rows;
        let watches = !self.config.watch.is_empty();
        let name = |row: Repository| {
            if watches { format!("{}/{}", row.organization, row.name).into() } else { row.organization }
        };
        let mut names: Vec<Box<str>> = rows.into_iter().map(name).collect();
        names.dedup();
        Ok(names)
    }

    async fn shared_repositories(
        &self,
        poll: &Poll,
        center: Center,
    ) -> Result<Listing<SharedRepository>, ApiError> {
        let query = vec![("center", center.as_str().to_owned())];
        let path = sign::SHARED_REPOSITORIES_PATH.to_owned();
        let list = List { operation: "list_shared_repositories", path, query, body_limit: LIST_BODY_LIMIT };
        let decode = |body: &[u8]| wire::shared_repositories(body, center);
        self.list(poll, list, &self.shared_pages, decode, |r| (&r.organization, &r.name)).await
    }

    async fn tags(&self, poll: &Poll, repository: &Repository) -> Result<TagListing, ApiError> {
        let path = sign::tags_path(&repository.organization, &repository.name)
            .map_err(|e| ApiError::unusable("list_tags", &self.config.endpoint, &e))?;
        let list = List { operation: "list_tags", path, query: Vec::new(), body_limit: BODY_LIMIT };
        let decode = |body: &[u8]| wire::tags(body, self.tag_info);
        let listing = self.list(poll, list, &self.tag_pages, decode, |tag: &Tag| ("", &tag.name)).await?;
        Ok(TagListing { listing, images: None })
    }
}
