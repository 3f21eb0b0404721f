//! IAM tokens made from a user's password.

use std::sync::Arc;

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::time::Instant;
use url::Url;

use super::wire;
use crate::client::{ApiClient, ApiError, Call, Cause, Guard, Guards, Poll, Signed};
use crate::config::{Secret, SwrConfig};
use crate::provider::fresh::{Fresh, Leased};
use crate::telemetry::self_metrics::SourceMetrics;

/// Where IAM puts a new token.
pub const SUBJECT_TOKEN: HeaderName = HeaderName::from_static("x-subject-token");
/// A token's description without its catalog is some kilobytes.
const BODY_LIMIT: usize = 1024 * 1024;

/// Makes tokens from a password, and keeps the last one, which is as good as the password for a day.
pub struct Tokens {
    account: String,
    username: String,
    password: Secret,
    scope: serde_json::Value,
    url: Url,
    guards: Guards,
    current: Fresh<HeaderValue>,
}

impl Tokens {
    /// Tokens for a user of `config`'s account, with its project as their scope: SWR takes no other.
    pub fn new(
        config: &SwrConfig,
        account: &str,
        username: &str,
        password: &Secret,
        guards: Guards,
        metrics: SourceMetrics,
    ) -> Self {
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
            current: Fresh::new(metrics),
        }
    }

    /// The token in use, or a new one if that was `refused` or ends soon.
    ///
    /// Errors: IAM gave none, and there is no other that is still good.
    pub async fn get(
        &self,
        client: &ApiClient,
        poll: &Poll,
        refused: Option<&Arc<HeaderValue>>,
    ) -> Result<Arc<HeaderValue>, ApiError> {
        self.current.get(poll, || client.now(), refused, self.create(client, poll)).await
    }

    /// Watches over the password.
    pub fn guard(&self) -> Result<Arc<Guard>, Cause> {
        Ok(self.guard_of(&self.password.read().map_err(Cause::Credential)?))
    }

    fn guard_of(&self, password: &SecretString) -> Arc<Guard> {
        self.guards.of(&[&self.account, &self.username, password.expose_secret()])
    }

    /// <https://support.huaweicloud.com/intl/en-us/api-iam/iam_30_0001.html>
    async fn create(&self, client: &ApiClient, poll: &Poll) -> Result<Leased<HeaderValue>, ApiError> {
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
        Ok(Leased { value, expires })
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
        let guard = Some(self.guard_of(&password));
        Ok(Signed { request, guard, body_secret: Some(password), guarded: true })
    }
}
