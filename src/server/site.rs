//! The routes: what is answered to which request.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use url::Url;

use super::body::Body;
use super::landing;
use super::ready::Readiness;
use super::status::Status;
use crate::exposition::Sources;
use crate::exposition::live::Live;
use crate::exposition::negotiate::{Format, accepts_gzip};
use crate::exposition::page::{Frames, Pages};
use crate::inventory::SourceName;
use crate::telemetry::self_metrics::SelfMetrics;

/// The answer to the scrape that finds the exporter's own figures due goes out before they are gathered.
const RENEWAL_DELAY: Duration = Duration::from_millis(10);

/// Tells whose page a browser's request is for, see <https://www.w3.org/TR/fetch-metadata/>.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Longest wait for a reload, which reads files: they may be on a disk that does not answer.
const RELOAD_PATIENCE: Duration = Duration::from_secs(30);

/// All that the server shows.
pub struct Site {
    telemetry_path: String,
    sources: watch::Receiver<Sources>,
    pages: Arc<Pages>,
    metrics: SelfMetrics,
    live: Arc<Live>,
    started: Instant,
    readiness: Readiness,
    reload: mpsc::Sender<ReloadRequest>,
}

/// Asks for the configuration to be loaded anew; the answer is all that is wrong with it.
pub type ReloadRequest = oneshot::Sender<Result<(), String>>;

impl Site {
    /// `telemetry_path` begins with a slash; `started` is when the process started.
    pub fn new(
        telemetry_path: String,
        sources: watch::Receiver<Sources>,
        pages: Arc<Pages>,
        metrics: SelfMetrics,
        started: Instant,
        reload: mpsc::Sender<ReloadRequest>,
    ) -> Self {
        let live = Arc::new(Live::new(metrics.clone()));
        let readiness = Readiness::new(started);
        Self { telemetry_path, sources, pages, metrics, live, started, readiness, reload }
    }

    /// Answers one request, whose body is not read, and counts it.
    pub async fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        let handler = self.handler(request);
        let response = match (handler, request.method()) {
            ("other", _) => text(StatusCode::NOT_FOUND, "no such page; the front page is /\n"),
            ("reload", &Method::POST) if is_cross_site(request) => {
                text(StatusCode::FORBIDDEN, "a page of another site may not reload the configuration\n")
            }
            ("reload", &Method::POST) => self.reload().await,
            ("reload", _) => not_allowed("POST"),
            ("metrics", &Method::GET | &Method::HEAD) => self.metrics(request),
            ("landing", &Method::GET | &Method::HEAD) => self.landing(),
            ("status", &Method::GET | &Method::HEAD) => self.status_json(),
            ("ready", &Method::GET | &Method::HEAD) => self.ready(),
            (_, &Method::GET | &Method::HEAD) => text(StatusCode::OK, "healthy\n"),
            _ => not_allowed("GET, HEAD"),
        };
        self.finish(handler, request, response)
    }

    /// Answers a request that may not be answered, and counts it.
    pub(super) fn refuse<B>(
        &self,
        request: &Request<B>,
        status: StatusCode,
        message: &str,
    ) -> Response<Body> {
        self.finish(self.handler(request), request, text(status, message))
    }

    /// Whether a request asks how the process is, as orchestrators do.
    pub(super) fn is_probe<B>(&self, request: &Request<B>) -> bool {
        matches!(self.handler(request), "healthy" | "ready")
    }

    fn handler<B>(&self, request: &Request<B>) -> &'static str {
        match request.uri().path() {
            path if path == self.telemetry_path => "metrics",
            "/" => "landing",
            "/status.json" => "status",
            "/-/healthy" => "healthy",
            "/-/ready" => "ready",
            "/-/reload" => "reload",
            _ => "other",
        }
    }

    /// What all answers have in common.
    fn finish<B>(
        &self,
        handler: &'static str,
        request: &Request<B>,
        mut response: Response<Body>,
    ) -> Response<Body> {
        set(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
        // Every answer is about this moment.
        set(&mut response, CACHE_CONTROL, "no-store");
        let length = hyper::body::Body::size_hint(response.body()).lower();
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        if request.method() == Method::HEAD {
            *response.body_mut() = Frames::from(String::new()).into();
        }
        self.metrics.http_request(handler, response.status().as_u16());
        response
    }

    fn metrics<B>(&self, request: &Request<B>) -> Response<Body> {
        let wanted = match self.wanted_sources(request.uri().query().unwrap_or_default()) {
            Ok(wanted) => wanted,
            Err(message) => return text(StatusCode::NOT_FOUND, message),
        };
        let format = Format::negotiate(&joined(request.headers(), ACCEPT));
        let now = Instant::now();
        let live = self.live.piece(format, wanted.as_deref(), now);
        if self.live.is_due(now) {
            let live = Arc::clone(&self.live);
            tokio::spawn(async move {
                sleep(RENEWAL_DELAY).await;
                spawn_blocking(move || live.renew(Instant::now())).await
            });
        }
        let page = match &wanted {
            Some(sources) => Arc::new(self.pages.of(sources)),
            None => self.pages.whole(),
        };
        let gzip = accepts_gzip(&joined(request.headers(), ACCEPT_ENCODING));
        let frames = if gzip { page.gzip(&live) } else { page.text(&live) };
        let mut response = Response::new(frames.into());
        set(&mut response, CONTENT_TYPE, format.content_type());
        set(&mut response, VARY, "Accept, Accept-Encoding");
        if gzip {
            set(&mut response, CONTENT_ENCODING, "gzip");
        }
        response
    }

    /// The sources that `?source=` names; `None` if there is no such parameter.
    fn wanted_sources(&self, query: &str) -> Result<Option<Vec<SourceName>>, String> {
        let mut wanted = Vec::new();
        let sources = self.sources.borrow();
        for (_, name) in url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "source") {
            let known = SourceName::new(&name).filter(|name| sources.contains_key(name));
            wanted.push(known.ok_or_else(|| {
                let known: Vec<_> = sources.keys().map(SourceName::as_str).collect();
                format!("no source is called {name:?}; the sources are {}\n", known.join(", "))
            })?);
        }
        Ok((!wanted.is_empty()).then_some(wanted))
    }

    fn landing(&self) -> Response<Body> {
        let mut response = Response::new(Frames::from(landing::html(&self.status())).into());
        set(&mut response, CONTENT_TYPE, "text/html; charset=utf-8");
        set(&mut response, CONTENT_SECURITY_POLICY, &landing::POLICY);
        set(&mut response, REFERRER_POLICY, "no-referrer");
        response
    }

    fn status_json(&self) -> Response<Body> {
        let mut response = Response::new(Frames::from(self.status().json()).into());
        set(&mut response, CONTENT_TYPE, "application/json");
        set(&mut response, REFERRER_POLICY, "no-referrer");
        response
    }

    fn status(&self) -> Status {
        let sources = self.sources.borrow().clone();
        let (now, uptime) = (SystemTime::now().into(), self.started.elapsed());
        Status::new(&sources, &self.pages, &self.metrics, &self.telemetry_path, now, uptime)
    }

    async fn reload(&self) -> Response<Body> {
        let (request, answer) = oneshot::channel();
        let outcome = match self.reload.try_send(request) {
            Ok(()) => match timeout(RELOAD_PATIENCE, answer).await {
                Ok(answer) => answer.unwrap_or_else(|_| Err("the exporter is stopping".to_owned())),
                Err(_) => Err("the files take long to read; what comes of the reload is logged".to_owned()),
            },
            Err(_) => Err("another reload is under way".to_owned()),
        };
        match outcome {
            Ok(()) => text(StatusCode::OK, "reloaded\n"),
            Err(problems) => text(StatusCode::INTERNAL_SERVER_ERROR, problems + "\n"),
        }
    }

    fn ready(&self) -> Response<Body> {
        let awaited = self.readiness.awaited(&self.sources.borrow(), Instant::now());
        if awaited.is_empty() {
            return text(StatusCode::OK, "ready\n");
        }
        let awaited: Vec<_> = awaited.iter().map(SourceName::as_str).collect();
        text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for the first listing of repositories of {}\n", awaited.join(", ")),
        )
    }
}

/// Whether a browser sent the request for a page of another site. Other clients send none of these headers.
///
/// `Sec-Fetch-Site` decides where it is sent: it is right behind a proxy too. Over plain HTTP browsers send `Origin`
/// alone, which must then be where the request went.
fn is_cross_site<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    if headers.contains_key(SEC_FETCH_SITE) {
        return !matches!(joined(headers, SEC_FETCH_SITE).as_str(), "same-origin" | "none");
    }
    if !headers.contains_key(ORIGIN) {
        return false;
    }
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let host = authority.unwrap_or_else(|| joined(headers, HOST));
    // `null` and whatever else is no address is nobody's.
    let Ok(origin) = Url::parse(&joined(headers, ORIGIN)) else { return true };
    let target = Url::parse(&format!("{}://{host}", origin.scheme()));
    !origin.has_host() || !target.is_ok_and(|target| target.origin() == origin.origin())
}

fn not_allowed(methods: &str) -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("only {methods} work here\n"));
    set(&mut response, ALLOW, methods);
    response
}

fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Frames::from(text.into()).into());
    *response.status_mut() = status;
    set(&mut response, CONTENT_TYPE, "text/plain; charset=utf-8");
    response
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    let value = HeaderValue::from_str(value).expect("our header values are printable ASCII");
    response.headers_mut().insert(name, value);
}

/// A header's value, which may be spread over several lines; unreadable ones do not count.
fn joined(headers: &HeaderMap, name: HeaderName) -> String {
    let values: Vec<_> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}
