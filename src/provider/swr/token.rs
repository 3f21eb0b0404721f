//! IAM tokens made from a user's password.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::wire;
use crate::client::{ApiClient, ApiError, Call, Cause, Guard, Guards, Poll, Signed};
use crate::config::{Secret, SwrConfig};
use crate::inventory::Timestamp;

/// Where IAM puts a new token.
const SUBJECT_TOKEN: HeaderName = HeaderName::from_static("x-subject-token");
/// A token's description without its catalog is some kilobytes.
const BODY_LIMIT: usize = 1024 * 1024;
/// Tokens live for 24 hours; a new one is made when a tenth of its life is left, and at most this much.
const LONGEST_REST: Duration = Duration::from_hours(1);

/// Makes tokens from a password, one at a time, and keeps the last one.
pub struct Tokens {
    account: String,
    username: String,
    password: Secret,
    scope: serde_json::Value,
    url: Url,
    guards: Guards,
    /// Locked while a new token is made, so that only one request makes it.
    current: Mutex<Option<Arc<Token>>>,
}

/// A token, with no `Debug` since it is as good as the password for a day.
pub struct Token {
    /// Its value as a header.
    pub value: HeaderValue,
    expires: Option<Timestamp>,
    renew_at: Option<Timestamp>,
}

impl Tokens {
    /// Tokens for a user of `config`'s account, with its project as their scope: SWR takes no other.
    pub fn new(config: &SwrConfig, account: &str, username: &str, password: &Secret, guards: Guards) -> Self {
        let project = match &config.project_id {
            Some(id) => json!({ "id": id }),
            None => json!({ "name": config.project_name }),
        };
        let mut url = config.iam_endpoint.clone();
        url.set_path(&format!("{}/v3/auth/tokens", url.path().trim_end_matches('/')));
        url.set_query(Some("nocatalog=true"));
        Self {
            account: account.to_owned(),
            username: username.to_owned(),
            password: password.clone(),
            scope: json!({ "project": project }),
            url,
            guards,
            current: Mutex::new(None),
        }
    }

    /// The token in use, or a new one if that was `refused` or ends soon.
    ///
    /// Errors: IAM gave none, and there is no other that is still good.
    pub async fn get(
        &self,
        client: &ApiClient,
        poll: &Poll,
        refused: Option<&Arc<Token>>,
    ) -> Result<Arc<Token>, ApiError> {
        let mut current = self.current.lock().await;
        // Another request may have renewed it already.
        if refused.is_some_and(|refused| current.as_ref().is_some_and(|token| Arc::ptr_eq(token, refused))) {
            *current = None;
        }
        let now = Timestamp::from(SystemTime::now());
        if let Some(token) = &*current
            && token.renew_at.is_none_or(|time| now < time)
        {
            return Ok(Arc::clone(token));
        }
        match self.create(client, poll, now).await {
            Ok(token) => {
                client.metrics().credentials_expiry(token.expires);
                Ok(Arc::clone(current.insert(Arc::new(token))))
            }
            Err(error) => match &*current {
                Some(token) if token.expires.is_none_or(|time| now < time) => Ok(Arc::clone(token)),
                _ => Err(error),
            },
        }
    }

    /// Watches over the password.
    pub fn guard(&self) -> Result<Arc<Guard>, Cause> {
        Ok(self.guard_of(&self.password.read().map_err(Cause::Credential)?))
    }

    fn guard_of(&self, password: &SecretString) -> Arc<Guard> {
        self.guards.of(&[&self.account, &self.username, password.expose_secret()])
    }

    /// <https://support.huaweicloud.com/intl/en-us/api-iam/iam_30_0001.html>
    async fn create(&self, client: &ApiClient, poll: &Poll, now: Timestamp) -> Result<Token, ApiError> {
        let call = Call { operation: "create_token", method: "POST", url: &self.url, body_limit: BODY_LIMIT };
        let started = Instant::now();
        let answer = client.send(poll, call, || self.request()).await?;
        let fail = |cause| ApiError::new(call, 1, started.elapsed(), cause);
        // First the body: a page of some proxy has neither.
        let expires = wire::token_expiry(&answer.body).map_err(|e| fail(Cause::Decode(e.into())))?;
        let Some(value) = answer.headers.get(SUBJECT_TOKEN) else {
            return Err(fail(Cause::Protocol("the answer has no X-Subject-Token".to_owned())));
        };
        let mut value = value.clone();
        value.set_sensitive(true);
        Ok(Token { value, expires, renew_at: expires.and_then(|end| renew_at(now, end)) })
    }

    fn request(&self) -> Result<Signed, Cause> {
        let password = self.password.read().map_err(Cause::Credential)?;
        let user = json!({
            "domain": { "name": self.account },
            "name": self.username,
            "password": password.expose_secret(),
        });
        let identity = json!({ "methods": ["password"], "password": { "user": user } });
        let body = json!({ "auth": { "identity": identity, "scope": self.scope } });
        let mut request = Request::new(Method::POST, self.url.clone());
        let content_type = HeaderValue::from_static("application/json;charset=utf8");
        request.headers_mut().insert(CONTENT_TYPE, content_type);
        *request.body_mut() = Some(body.to_string().into());
        let guard = self.guard_of(&password);
        Ok(Signed { request, guard, body_secret: Some(password), guarded: true })
    }
}

/// When to renew a token that was made at `now` and ends at `end`.
fn renew_at(now: Timestamp, end: Timestamp) -> Option<Timestamp> {
    let life = i128::from(end.nanoseconds()) - i128::from(now.nanoseconds());
    let longest_rest = i128::try_from(LONGEST_REST.as_nanos()).unwrap_or(i128::MAX);
    Timestamp::from_nanoseconds(i128::from(end.nanoseconds()) - (life / 10).clamp(0, longest_rest))
}
