//! Authentication at Huawei Cloud: signed requests, or an IAM token.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request};
use secrecy::{ExposeSecret as _, SecretString};
use url::{Position, Url};

use super::keys::Keys;
use super::sign;
use super::token::Tokens;
use crate::client::{Answer, ApiClient, ApiError, Call, Cause, Guard, Guards, Poll, Signed, sensitive};
use crate::config::{Secret, SourceConfig, SwrAuth, SwrConfig};
use crate::inventory::Timestamp;
use crate::provider::temporary::AccessKey;
use crate::telemetry::self_metrics::SourceMetrics;

/// Where SWR looks for a token.
const AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// An address to GET, with its query in the form that is signed too.
pub struct Target {
    /// The whole address.
    pub url: Url,
    query: Vec<(&'static str, String)>,
}

impl Target {
    /// `path` below `endpoint`, with `query`.
    pub fn new(endpoint: &Url, path: &str, query: Vec<(&'static str, String)>) -> Self {
        let mut target = Self { url: endpoint.clone(), query };
        target.url.set_path(&format!("{}{path}", endpoint.path().trim_end_matches('/')));
        let query = sign::query_string(&target.query());
        target.url.set_query((!query.is_empty()).then_some(&query));
        target
    }

    fn query(&self) -> Vec<(&str, &str)> {
        self.query.iter().map(|(key, value)| (*key, value.as_str())).collect()
    }
}

/// How one source authenticates.
pub struct Auth {
    method: AuthMethod,
    project_id: Option<HeaderValue>,
    guards: Guards,
}

enum AuthMethod {
    AccessKey { access_key: Secret, secret_key: Secret, security_token: Option<Secret> },
    TokenFile(Secret),
    Password(Box<Tokens>),
    Temporary(Box<Keys>),
}

impl Auth {
    /// Authentication as configured for `source`, whose cloud is `config`.
    ///
    /// Errors: no client for a service that hands out keys can be made.
    pub fn new(
        source: &SourceConfig,
        config: &SwrConfig,
        guards: Guards,
        metrics: &SourceMetrics,
    ) -> io::Result<Self> {
        let method = match config.auth.clone() {
            SwrAuth::AccessKey { access_key, secret_key, security_token } => {
                AuthMethod::AccessKey { access_key, secret_key, security_token }
            }
            SwrAuth::Token(file) => AuthMethod::TokenFile(file),
            SwrAuth::Password { account, username, password } => {
                let (guards, metrics) = (guards.clone(), metrics.clone());
                let tokens = Tokens::new(config, &account, &username, &password, guards, metrics);
                AuthMethod::Password(Box::new(tokens))
            }
            SwrAuth::Temporary(service) => {
                AuthMethod::Temporary(Box::new(Keys::new(&service, source, config, &guards, metrics)?))
            }
        };
        let project_id = config.project_id.as_deref().and_then(|id| HeaderValue::from_str(id).ok());
        Ok(Self { method, project_id, guards })
    }

    /// One authenticated GET.
    pub async fn get(
        &self,
        client: &ApiClient,
        poll: &Poll,
        call: Call<'_>,
        target: &Target,
    ) -> Result<Answer, ApiError> {
        match &self.method {
            AuthMethod::AccessKey { access_key, secret_key, security_token } => {
                let sign = || {
                    let key = AccessKey {
                        access_key: read(access_key)?,
                        secret_key: read(secret_key)?,
                        security_token: security_token.as_ref().map(read).transpose()?,
                    };
                    self.signed(target, &key, self.guards.of(&key.parts()), true)
                };
                client.send(poll, call, sign).await
            }
            AuthMethod::Temporary(keys) => {
                let fetch = || keys.fetch(client, poll);
                let sign = |key: &AccessKey, guard, guarded| self.signed(target, key, guard, guarded);
                // Larger than all others together, and nobody's who has a key.
                Box::pin(keys.handed_out.send(client, poll, call, fetch, sign)).await
            }
            AuthMethod::TokenFile(file) => {
                let sign = || {
                    let token = read(file)?;
                    let guard = self.guards.of(&[token.expose_secret()]);
                    Ok(self.with_token(target, sensitive(token.expose_secret())?, guard, true))
                };
                client.send(poll, call, sign).await
            }
            AuthMethod::Password(tokens) => {
                let token = tokens.get(client, poll, None).await?;
                let sign = || Ok(self.with_token(target, (*token).clone(), tokens.guard()?, false));
                match client.send(poll, call, sign).await {
                    // The token may have been revoked before its time: a new one settles whose fault it is.
                    Err(ApiError { cause: Cause::Refused { refusal, .. }, .. }) if refusal.status == 401 => {
                        let token = tokens.get(client, poll, Some(&token)).await?;
                        let sign = || Ok(self.with_token(target, (*token).clone(), tokens.guard()?, true));
                        client.send(poll, call, sign).await
                    }
                    outcome => outcome,
                }
            }
        }
    }

    /// A request signed with an access key, permanent or temporary.
    fn signed(
        &self,
        target: &Target,
        key: &AccessKey,
        guard: Arc<Guard>,
        guarded: bool,
    ) -> Result<Signed, Cause> {
        let mut headers = self.headers();
        if !key.token().is_empty() {
            headers.insert(sign::SECURITY_TOKEN_HEADER, sensitive(key.token())?);
        }
        let signed_headers: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default())).collect();
        let request = sign::Request {
            method: "GET",
            host: &target.url[Position::BeforeHost..Position::AfterPort],
            path: target.url.path(),
            query: &target.query(),
            headers: &signed_headers,
            body_hash: sign::EMPTY_BODY_HASH,
        };
        let now = Timestamp::from(SystemTime::now());
        let signature = sign::sign(request, key.access_key.expose_secret(), &key.secret_key, now);
        let date = HeaderValue::try_from(signature.date).expect("a date consists of digits and letters");
        headers.insert(sign::DATE_HEADER, date);
        headers.insert(AUTHORIZATION, sensitive(&signature.authorization)?);
        let mut request = Request::new(Method::GET, target.url.clone());
        *request.headers_mut() = headers;
        Ok(Signed { request, guard: Some(guard), body_secret: None, guarded })
    }

    /// A request that carries an IAM token.
    fn with_token(&self, target: &Target, token: HeaderValue, guard: Arc<Guard>, guarded: bool) -> Signed {
        let mut headers = self.headers();
        headers.insert(AUTH_TOKEN, token);
        let mut request = Request::new(Method::GET, target.url.clone());
        *request.headers_mut() = headers;
        Signed { request, guard: Some(guard), body_secret: None, guarded }
    }

    /// The headers of every request; the documentation asks for the content type of a GET too.
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(id) = &self.project_id {
            headers.insert(sign::PROJECT_ID_HEADER, id.clone());
        }
        headers
    }
}

fn read(secret: &Secret) -> Result<SecretString, Cause> {
    secret.read().map_err(Cause::Credential)
}
