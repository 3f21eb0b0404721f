//! Authentication at Huawei Cloud: signed requests, or an IAM token.

use std::sync::Arc;
use std::time::SystemTime;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request};
use secrecy::{ExposeSecret as _, SecretString};
use url::{Position, Url};

use super::sign;
use super::token::Tokens;
use crate::client::{Answer, ApiClient, ApiError, Call, Cause, Guard, Guards, Poll, Signed, sensitive};
use crate::config::{Secret, SwrAuth, SwrConfig};
use crate::inventory::Timestamp;

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
}

impl Auth {
    /// Authentication as configured.
    pub fn new(config: &SwrConfig, guards: Guards) -> Self {
        let method = match config.auth.clone() {
            SwrAuth::AccessKey { access_key, secret_key, security_token } => {
                AuthMethod::AccessKey { access_key, secret_key, security_token }
            }
            SwrAuth::Token(file) => AuthMethod::TokenFile(file),
            SwrAuth::Password { account, username, password } => {
                let tokens = Tokens::new(config, &account, &username, &password, guards.clone());
                AuthMethod::Password(Box::new(tokens))
            }
        };
        let project_id = config.project_id.as_deref().and_then(|id| HeaderValue::from_str(id).ok());
        Self { method, project_id, guards }
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
                let sign = || self.signed(target, access_key, secret_key, security_token.as_ref());
                client.send(poll, call, sign).await
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
                let sign = || Ok(self.with_token(target, token.value.clone(), tokens.guard()?, false));
                match client.send(poll, call, sign).await {
                    // The token may have been revoked before its time: a new one settles whose fault it is.
                    Err(ApiError { cause: Cause::Refused { refusal, .. }, .. }) if refusal.status == 401 => {
                        let token = tokens.get(client, poll, Some(&token)).await?;
                        let sign = || Ok(self.with_token(target, token.value.clone(), tokens.guard()?, true));
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
        access_key: &Secret,
        secret_key: &Secret,
        security_token: Option<&Secret>,
    ) -> Result<Signed, Cause> {
        let (access_key, secret_key) = (read(access_key)?, read(secret_key)?);
        let security_token = security_token.map(read).transpose()?;
        let security_token = security_token.as_ref().map_or("", |token| token.expose_secret());
        let mut headers = self.headers();
        if !security_token.is_empty() {
            headers.insert(sign::SECURITY_TOKEN_HEADER, sensitive(security_token)?);
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
        let signature = sign::sign(request, access_key.expose_secret(), &secret_key, now);
        let date = HeaderValue::try_from(signature.date).expect("a date consists of digits and letters");
        headers.insert(sign::DATE_HEADER, date);
        headers.insert(AUTHORIZATION, sensitive(&signature.authorization)?);
        let guard = self.guards.of(&[access_key.expose_secret(), secret_key.expose_secret(), security_token]);
        let mut request = Request::new(Method::GET, target.url.clone());
        *request.headers_mut() = headers;
        Ok(Signed { request, guard, body_secret: None, guarded: true })
    }

    /// A request that carries an IAM token.
    fn with_token(&self, target: &Target, token: HeaderValue, guard: Arc<Guard>, guarded: bool) -> Signed {
        let mut headers = self.headers();
        headers.insert(AUTH_TOKEN, token);
        let mut request = Request::new(Method::GET, target.url.clone());
        *request.headers_mut() = headers;
        Signed { request, guard, body_secret: None, guarded }
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
