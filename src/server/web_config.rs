//! The web configuration: TLS, users, headers and limits of the server, in the file format of the official exporters.
//!
//! <https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md> describes the format.

mod client_certificate;
mod files;
mod headers;
mod rate_limit;
mod section;
mod tls;
mod users;
mod yaml;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Request, Response, StatusCode};
use rustls::pki_types::CertificateDer;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::body::Body;
use super::site::Site;
use crate::config::{ConfigError, Problem};
use files::Files;
use rate_limit::RateLimit;
use section::{Problems, Section};
use tls::Tls;
use users::{Admission, Users};

/// Between two looks at the files. A changed file is read at the second look that finds it the same, so that nothing
/// is read while it is being written.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

const SECTIONS: &[&str] = &["tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"];

/// A valid web configuration. The default one is plain HTTP for everybody.
#[derive(Default)]
pub struct WebConfig {
    /// How to speak TLS, if at all.
    pub(super) tls: Option<Arc<Tls>>,
    headers: Vec<(HeaderName, HeaderValue)>,
    users: Option<Users>,
    rate_limit: Option<Arc<RateLimit>>,
    protections: Vec<Protection>,
    warnings: Vec<String>,
}

/// What a client showed when its connection began, and what it was admitted by.
pub(super) struct Handshake {
    pub tls: Arc<Tls>,
    pub certificates: Vec<CertificateDer<'static>>,
}

/// Something that keeps somebody out: the key that does, and what is true without it. A re-read may add some and
/// take none away, whatever else it changes: a file that an editor has half written, or emptied, opens nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Protection {
    key: String,
    without: &'static str,
}

impl WebConfig {
    /// Reads a configuration; the files it names are relative to `directory`.
    ///
    /// Errors: every problem found, each with its key and the cure; no value is repeated in them.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, ConfigError> {
        Self::read(text, directory, &mut Files::default())
    }

    fn read(text: &str, directory: &Path, files: &mut Files) -> Result<Self, ConfigError> {
        let tree = yaml::parse(text).map_err(|problem| ConfigError { problems: vec![problem] })?;
        let problems = Problems::default();
        let root = Section::root(&tree, &problems, SECTIONS);
        let mut warnings = Vec::new();
        let http = root.section("http_server_config", &["http2", "headers"]);
        // The official exporters speak HTTP/2 unless told not to; who asks for it is told that nobody gets it.
        if http.flag("http2", false) {
            warnings.push("http_server_config.http2 is of no effect, HTTP/1.1 alone is served".to_owned());
        }
        let tls = root.section("tls_server_config", tls::KEYS);
        let mut protections = Vec::new();
        let mut config = Self {
            tls: tls::read(&tls, directory, files, &mut protections, &mut warnings),
            headers: headers::read(&http.open("headers")),
            users: Users::read(&root.open("basic_auth_users")),
            rate_limit: RateLimit::read(&root.section("rate_limit", &["interval", "burst"]), Instant::now())
                .map(Arc::new),
            protections,
            warnings,
        };
        config.note_protections();
        let problems = problems.into_inner();
        if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
    }

    /// Notes what protects beside the details of TLS.
    fn note_protections(&mut self) {
        let mut note =
            |key: &str, without| self.protections.push(Protection { key: key.to_owned(), without });
        if self.tls.is_some() {
            note(tls::SECTION, "has no certificate, so that everything would be sent and taken in the clear");
        }
        if self.users.is_some() {
            note("basic_auth_users", "names nobody, so that nobody would need a password");
        }
        if self.rate_limit.is_some() {
            note("rate_limit", "would no longer limit anything");
        }
        for (name, _) in &self.headers {
            note(&format!("http_server_config.headers.{name}"), "would no longer be sent");
        }
    }

    /// Whether this may follow on `old` while the exporter runs.
    ///
    /// Errors: each protection that would be lost; TLS that would be switched on.
    fn may_follow(&self, old: &Self) -> Result<(), ConfigError> {
        if self.tls.is_some() && old.tls.is_none() {
            return Err(problem("TLS cannot be switched on while the exporter runs; restart it"));
        }
        let tls_is_lost = self.tls.is_none();
        let lost = old.protections.iter().filter(|protection| !self.protections.contains(protection));
        // Without TLS at all its details are of no interest.
        let lost = lost
            .filter(|lost| !(tls_is_lost && lost.key.starts_with(tls::SECTION) && lost.key != tls::SECTION));
        let problems: Vec<_> = lost
            .map(|Protection { key, without }| Problem {
                key: key.clone(),
                message: format!("{without}; restart to run with less protection"),
            })
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }

    /// Goes on where the `old` configuration stops: no re-read of the file lifts the rate limit, or has every password
    /// checked anew.
    fn inherit(&mut self, old: &Self) {
        if let (Some(limit), Some(old)) = (&mut self.rate_limit, &old.rate_limit)
            && limit.is_like(old)
        {
            *limit = Arc::clone(old);
        }
        if let (Some(users), Some(old)) = (&mut self.users, &old.users) {
            users.inherit(old);
        }
    }

    /// Has `site` answer a request if it may be answered. The order of the checks is that of the official exporters;
    /// their probes too must pass the rate limit, and fail whenever a stranger uses it up.
    ///
    /// A client whose certificate is no longer accepted is sent away from a connection that is open, too; `handshake`
    /// is the connection's.
    pub(super) async fn answer<B>(
        &self,
        site: &Site,
        request: &Request<B>,
        handshake: Option<&Handshake>,
    ) -> Response<Body> {
        if handshake.is_some_and(|handshake| !self.still_admits(handshake)) {
            let text = "the certificate of this client is no longer accepted\n";
            let mut response = site.refuse(request, StatusCode::FORBIDDEN, text);
            response.headers_mut().insert(hyper::header::CONNECTION, HeaderValue::from_static("close"));
            return response;
        }
        let limit = self.rate_limit.as_ref().filter(|_| !site.is_probe(request));
        let mut response = if limit.is_some_and(|limit| !limit.allows(Instant::now())) {
            site.refuse(request, StatusCode::TOO_MANY_REQUESTS, "Too Many Requests\n")
        } else {
            match self.admit(request.headers()).await {
                Admission::Admitted => site.answer(request).await,
                Admission::Refused => {
                    let mut response = site.refuse(request, StatusCode::UNAUTHORIZED, "Unauthorized\n");
                    let basic = HeaderValue::from_static("Basic");
                    response.headers_mut().insert(hyper::header::WWW_AUTHENTICATE, basic);
                    response
                }
                Admission::Busy => {
                    let text = "too many passwords are being checked\n";
                    site.refuse(request, StatusCode::SERVICE_UNAVAILABLE, text)
                }
            }
        };
        headers::add(&self.headers, response.headers_mut());
        response
    }

    fn still_admits(&self, Handshake { tls, certificates }: &Handshake) -> bool {
        self.tls.as_ref().is_none_or(|now| Arc::ptr_eq(now, tls) || now.admits(certificates))
    }

    async fn admit(&self, headers: &HeaderMap) -> Admission {
        match &self.users {
            Some(users) => users.admit(headers).await,
            None => Admission::Admitted,
        }
    }
}

impl fmt::Debug for WebConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebConfig")
            .field("tls", &self.tls.is_some())
            .field("headers", &self.headers)
            .field("users", &self.users.is_some())
            .field("rate_limit", &self.rate_limit.is_some())
            .field("protections", &self.protections)
            .field("warnings", &self.warnings)
            .finish()
    }
}

/// The web configuration in force, and the file it came from.
pub struct WebConfigFile {
    path: Option<PathBuf>,
    current: RwLock<Arc<WebConfig>>,
    /// What was read last, be it in force or not.
    files: Mutex<Files>,
}

/// A web configuration that was read and is not in force yet.
pub struct NewWebConfig(WebConfig, Files);

impl WebConfigFile {
    /// Plain HTTP for everybody, for ever.
    pub fn none() -> Self {
        Self { path: None, current: RwLock::default(), files: Mutex::default() }
    }

    /// Reads the file at `path`; without one it is plain HTTP for everybody, for ever.
    ///
    /// Errors: as [`WebConfig::parse`], and those of reading the file.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = Self { path: path.map(Path::to_owned), ..Self::none() };
        let config = file.read_into(&mut file.files())?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        file.put(config);
        Ok(file)
    }

    /// What is in force now.
    pub fn current(&self) -> Arc<WebConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file anew.
    ///
    /// Errors: as [`WebConfigFile::load`]; TLS cannot be switched on, and nothing that protects switched off.
    pub fn read(&self) -> Result<NewWebConfig, ConfigError> {
        let mut files = Files::default();
        match self.reread(&mut files) {
            Ok(config) => Ok(NewWebConfig(config, files)),
            // It was told, which is enough; what is good and not put in force is to be read again.
            Err(error) => {
                *self.files() = files;
                Err(error)
            }
        }
    }

    /// Puts in force what was read.
    pub fn replace(&self, NewWebConfig(config, files): NewWebConfig) {
        *self.files() = files;
        self.adopt(config);
    }

    fn adopt(&self, mut config: WebConfig) {
        let old = self.current();
        config.inherit(&old);
        for warning in config.warnings.iter().filter(|warning| !old.warnings.contains(warning)) {
            tracing::warn!("{warning}");
        }
        self.put(config);
    }

    /// Reads the file, or one it names, anew whenever it changes, for ever. What is broken changes nothing.
    pub async fn watch(self: Arc<Self>) {
        if self.path.is_none() {
            return std::future::pending().await;
        }
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            looks.tick().await;
            let file = Arc::clone(&self);
            // A file system may take its time.
            let look = spawn_blocking(move || file.look(seen.as_ref())).await;
            seen = look.unwrap_or_default();
        }
    }

    /// Looks at the files once; `seen` is what changed files looked like at the look before.
    fn look(&self, seen: Option<&Files>) -> Option<Files> {
        let mut files = self.files();
        let now = files.now();
        if now == *files {
            return None;
        }
        if seen != Some(&now) {
            return Some(now);
        }
        match self.reread(&mut files) {
            Ok(config) => {
                self.adopt(config);
                tracing::info!("web configuration changed and read anew");
            }
            Err(error) => {
                let error = error.to_string();
                tracing::warn!(error, "web configuration cannot be read anew, the old one stays in force");
            }
        }
        None
    }

    fn reread(&self, files: &mut Files) -> Result<WebConfig, ConfigError> {
        let config = self.read_into(files)?;
        config.may_follow(&self.current())?;
        Ok(config)
    }

    fn read_into(&self, files: &mut Files) -> Result<WebConfig, ConfigError> {
        let Some(path) = &self.path else { return Ok(WebConfig::default()) };
        let mut read = Files::default();
        let outcome = Self::parse(path, &mut read);
        // Those of a broken file are watched as well: it may lack one of them.
        *files = read;
        outcome
    }

    fn parse(path: &Path, files: &mut Files) -> Result<WebConfig, ConfigError> {
        let content = files.read(path).map_err(|message| problem(&message))?;
        let text = String::from_utf8(content);
        let text =
            text.map_err(|_| problem(&format!("{}: is not UTF-8 text; save it as UTF-8", path.display())))?;
        WebConfig::read(&text, path.parent().unwrap_or(Path::new("")), files)
    }

    fn put(&self, config: WebConfig) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn problem(message: &str) -> ConfigError {
    ConfigError {
        problems: vec![Problem { key: "--web.config.file".to_owned(), message: message.to_owned() }],
    }
}
