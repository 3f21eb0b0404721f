//! The services of Huawei Cloud that hand out temporary keys, and how to ask them.

use std::io;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use url::Url;

use super::token::SUBJECT_TOKEN;
use crate::client::{Answer, ApiClient, ApiError, Call, Cause, Guards, Poll, Signed, connection, sensitive};
use crate::config::{KeyService, Oidc, Secret, SourceConfig, SwrConfig};
use crate::inventory::Timestamp;
use crate::provider::fresh::Leased;
use crate::provider::temporary::answer::{self, NoKey};
use crate::provider::temporary::metadata::{self, Dialect, MetadataService, local_client};
use crate::provider::temporary::{AccessKey, BODY_LIMIT, TemporaryKeys, no_key};
use crate::telemetry::self_metrics::SourceMetrics;

/// <https://support.huaweicloud.com/intl/en-us/usermanual-ecs/ecs_03_0166.html>
const METADATA: Dialect = Dialect {
    session_path: "/meta-data/latest/api/token",
    lifetime_header: HeaderName::from_static("x-metadata-token-ttl-seconds"),
    session_header: HeaderName::from_static("x-metadata-token"),
    cloud: "Huawei Cloud",
    alternatives: "set access_key and secret_key (or access_key_file and secret_key_file) in the section auth, or \
                   HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK, or ak and sk in the section [basic] of \
                   ~/.huaweicloud/credentials",
};
const SECURITY_KEY_PATH: &str = "/openstack/latest/securitykey";
/// The agent asks the cloud; the SDKs wait as long.
const POD_IDENTITY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a key of IAM is to live, in seconds, as the SDKs ask for; 15 minutes to 24 hours are allowed.
const IAM_KEY_SECONDS: u32 = 21_600;
const IDP_ID: HeaderName = HeaderName::from_static("x-idp-id");

const NO_AGENCY: &str =
    "attach an agency that may read SWR to this server: ECS console, Basic Information, Agency";
const LOOK: &str =
    "see what the metadata service answers: curl http://169.254.169.254/openstack/latest/securitykey";
const CLOCK: &str = "set this machine's clock right";

/// One source's service.
pub struct Keys {
    service: Service,
    iam_endpoint: Url,
    guards: Guards,
    /// The keys it handed out.
    pub handed_out: TemporaryKeys,
}

enum Service {
    Metadata(Box<MetadataService>),
    PodIdentity { client: Box<ApiClient>, uri: Url, token: Secret },
    IdentityProvider { id: HeaderValue, token: Secret },
    Oidc(Box<Oidc>),
}

impl Keys {
    /// The `service` as configured for `source`, whose cloud is `config`.
    ///
    /// Errors: no client can be made, or a name cannot be sent.
    pub fn new(
        service: &KeyService,
        source: &SourceConfig,
        config: &SwrConfig,
        guards: &Guards,
        metrics: &SourceMetrics,
    ) -> io::Result<Self> {
        let (service, origin) = match service {
            KeyService::Metadata(metadata) => {
                let service = MetadataService::new(metadata, METADATA, &source.poll, metrics)?;
                (Service::Metadata(Box::new(service)), format!("metadata {}", metadata.endpoint))
            }
            KeyService::PodIdentity { uri, token } => {
                let client = if uri.scheme() == "http" {
                    local_client(uri, &source.poll, POD_IDENTITY_TIMEOUT, metrics)?
                } else {
                    let http = connection::client(&source.connection, &[uri])?;
                    ApiClient::new(http, metadata::classify, &source.poll, metrics.clone())
                        .through(&source.connection.proxies, guards.clone())
                };
                let client = Box::new(client);
                let service = Service::PodIdentity { client, uri: uri.clone(), token: token.clone() };
                (service, format!("pod identity {uri} {}", token.place()))
            }
            KeyService::IdentityProvider { id, token } => {
                let header = HeaderValue::from_str(id).map_err(io::Error::other)?;
                let service = Service::IdentityProvider { id: header, token: token.clone() };
                (service, format!("identity provider {} {id} {}", config.iam_endpoint, token.place()))
            }
            KeyService::Oidc(oidc) => {
                let origin = format!("oidc {} {} {}", oidc.endpoint, oidc.agency_urn, oidc.token.place());
                (Service::Oidc(oidc.clone()), origin)
            }
        };
        let handed_out = TemporaryKeys::new(origin, guards.clone(), metrics.clone());
        Ok(Self { service, iam_endpoint: config.iam_endpoint.clone(), guards: guards.clone(), handed_out })
    }

    /// Gets a key; `client` is the one for the source's other addresses.
    pub async fn fetch(&self, client: &ApiClient, poll: &Poll) -> Result<Leased<AccessKey>, ApiError> {
        match &self.service {
            Service::Metadata(service) => key_of_server(service, poll).await,
            Service::PodIdentity { client, uri, token } => self.key_of_pod(client, poll, uri, token).await,
            Service::IdentityProvider { id, token } => {
                self.key_of_federated_user(client, poll, id, token).await
            }
            Service::Oidc(oidc) => self.key_of_agency(client, poll, oidc).await,
        }
    }

    /// <https://support.huaweicloud.com/intl/en-us/usermanual-cce/cce_10_1110.html>
    async fn key_of_pod(
        &self,
        client: &ApiClient,
        poll: &Poll,
        uri: &Url,
        token: &Secret,
    ) -> Result<Leased<AccessKey>, ApiError> {
        let request = || {
            let token = token.read().map_err(Cause::Credential)?;
            let mut request = post(uri, &json!({}));
            // The bare token, without the word Bearer.
            request.headers_mut().insert(AUTHORIZATION, sensitive(token.expose_secret())?);
            Ok(self.signed(request, &token))
        };
        let call = Call { operation: "pod_identity", method: "POST", url: uri, body_limit: BODY_LIMIT };
        let answer = client.send(poll, call, request).await.map_err(|error| {
            let cure = "associate an agency with the pod's service account (CCE console, pod identity), and see that \
                        the agent runs on the node";
            explained(error, token, cure)
        })?;
        key(call, answer)
    }

    /// <https://support.huaweicloud.com/api-iam/iam_13_0605.html>, then
    /// <https://support.huaweicloud.com/api-iam/iam_04_0002.html>
    async fn key_of_federated_user(
        &self,
        client: &ApiClient,
        poll: &Poll,
        id: &HeaderValue,
        token: &Secret,
    ) -> Result<Leased<AccessKey>, ApiError> {
        let url = below(&self.iam_endpoint, "/v3.0/OS-AUTH/id-token/tokens");
        let request = || {
            let token = token.read().map_err(Cause::Credential)?;
            let body = json!({ "auth": { "id_token": { "id": token.expose_secret() } } });
            let mut request = post(&url, &body);
            request.headers_mut().insert(IDP_ID, id.clone());
            Ok(self.signed(request, &token))
        };
        let call = Call { operation: "id_token", method: "POST", url: &url, body_limit: 1024 * 1024 };
        let answer = client.send(poll, call, request).await.map_err(|error| {
            let cure = "the identity provider in IAM (HUAWEICLOUD_SDK_IDP_ID) must know the token's issuer, audience \
                        and signing key, and a conversion rule must fit its subject";
            explained(error, token, cure)
        })?;
        let Some(unscoped) = answer.headers.get(SUBJECT_TOKEN).and_then(|value| value.to_str().ok()) else {
            let cause = Cause::Protocol("the answer has no X-Subject-Token".to_owned());
            return Err(no_key(ApiError::new(call, 1, Duration::ZERO, cause), "check iam_endpoint"));
        };
        let unscoped = SecretString::from(unscoped);

        let url = below(&self.iam_endpoint, "/v3.0/OS-CREDENTIAL/securitytokens");
        let request = || {
            let token = json!({ "id": unscoped.expose_secret(), "duration_seconds": IAM_KEY_SECONDS });
            let body = json!({ "auth": { "identity": { "methods": ["token"], "token": token } } });
            // It was made a moment ago, for nothing else.
            let body_secret = Some(unscoped.clone());
            Ok(Signed { request: post(&url, &body), guard: None, body_secret, guarded: false })
        };
        let call = Call { operation: "security_token", method: "POST", url: &url, body_limit: BODY_LIMIT };
        let answer = client.send(poll, call, request).await;
        let cure = "the group to which the identity provider's conversion rule assigns the user must have \
                    permissions, SWR's among them";
        key(call, answer.map_err(|error| no_key(error, cure))?)
    }

    /// <https://support.huaweicloud.com/api-iam5/AssumeAgencyWithOIDC.html>
    async fn key_of_agency(
        &self,
        client: &ApiClient,
        poll: &Poll,
        oidc: &Oidc,
    ) -> Result<Leased<AccessKey>, ApiError> {
        let url = below(&oidc.endpoint, "/v5/agencies/assume-with-oidc");
        let request = || {
            let token = oidc.token.read().map_err(Cause::Credential)?;
            let mut body = json!({
                "provider_urn": oidc.provider_urn,
                "agency_urn": oidc.agency_urn,
                "agency_session_name": oidc.session_name,
                "id_token": token.expose_secret(),
                "duration_seconds": oidc.duration_seconds,
            });
            if let Some(policy) = &oidc.policy {
                body["policy"] = json!(policy);
            }
            if !oidc.policy_ids.is_empty() {
                body["policy_ids"] = json!(oidc.policy_ids);
            }
            Ok(self.signed(post(&url, &body), &token))
        };
        let call = Call { operation: "assume_agency", method: "POST", url: &url, body_limit: BODY_LIMIT };
        let answer = client.send(poll, call, request).await.map_err(|error| {
            let cure = "the agency's trust policy must name the provider and fit the token's issuer, audience and \
                        subject, and its longest session must not be shorter than HUAWEICLOUD_OIDC_DURATION_SECONDS";
            explained(error, &oidc.token, cure)
        })?;
        key(call, answer)
    }

    /// A request that proves who we are by `token`, which must not come back in an error.
    fn signed(&self, request: Request, token: &SecretString) -> Signed {
        let guard = Some(self.guards.of(&["web token", token.expose_secret()]));
        Signed { request, guard, body_secret: Some(token.clone()), guarded: true }
    }
}

/// <https://support.huaweicloud.com/intl/en-us/usermanual-ecs/ecs_03_0166.html>
async fn key_of_server(service: &MetadataService, poll: &Poll) -> Result<Leased<AccessKey>, ApiError> {
    let session = service.begin(poll).await?;
    let operation = "metadata_key";
    let cure = |status, message: &str| match status {
        // The service says "Please configure Cloud Service Agency first".
        _ if message.contains("Agency") => NO_AGENCY,
        404 => NO_AGENCY,
        _ => {
            "see what the metadata service answers: curl http://169.254.169.254/openstack/latest/securitykey"
        }
    };
    let answer = service.get(poll, &session, operation, SECURITY_KEY_PATH, cure).await?;
    answer::key(answer.body, Timestamp::from(SystemTime::now())).map_err(|error| {
        let cure = match error {
            NoKey::Expired => CLOCK,
            NoKey::Malformed { .. } => LOOK,
            NoKey::Lacks(_) | NoKey::Failed(_) => NO_AGENCY,
        };
        service.useless(operation, SECURITY_KEY_PATH, Cause::Decode(error.into()), cure)
    })
}

/// The key in an answer of one of the other services.
fn key(call: Call<'_>, answer: Answer) -> Result<Leased<AccessKey>, ApiError> {
    answer::key(answer.body, Timestamp::from(SystemTime::now())).map_err(|error| {
        let cure = if error == NoKey::Expired { CLOCK } else { "check the address" };
        no_key(ApiError::new(call, 1, Duration::ZERO, Cause::Decode(error.into())), cure)
    })
}

/// An error with its cure; where the web token has ended, that is what is to be cured first.
fn explained(error: ApiError, token: &Secret, cure: &str) -> ApiError {
    let end = token.read().ok().and_then(|token| end_of_web_token(token.expose_secret()));
    match end.filter(|end| *end <= Timestamp::from(SystemTime::now())) {
        Some(end) => {
            let cure = format!(
                "the web token in {} ended at {}: see that whoever writes it renews it (the kubelet does so for \
                 projected tokens), and that this machine's clock is right",
                token.place(),
                end,
            );
            no_key(error, &cure)
        }
        None => no_key(error, cure),
    }
}

/// When a JSON web token ends, if it is one and says so. It is not verified: this is for messages.
fn end_of_web_token(token: &str) -> Option<Timestamp> {
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let payload: Value = serde_json::from_slice(&payload).ok()?;
    Timestamp::from_milliseconds(payload["exp"].as_i64()?.checked_mul(1000)?)
}

fn below(endpoint: &Url, path: &str) -> Url {
    let mut url = endpoint.clone();
    url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
    url
}

fn post(url: &Url, body: &Value) -> Request {
    let mut request = Request::new(Method::POST, url.clone());
    let content_type = HeaderValue::from_static("application/json;charset=utf8");
    request.headers_mut().insert(CONTENT_TYPE, content_type);
    *request.body_mut() = Some(body.to_string().into());
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_end_of_a_web_token_and_nothing_from_other_tokens() {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(r#"{"sub":"a","exp":1700000000}"#);
        let end = end_of_web_token(&format!("e30.{payload}.c2ln"));
        assert_eq!(end, Timestamp::from_milliseconds(1_700_000_000_000));
        for token in ["", "a.b.c", "opaque", "e30.e30.e30"] {
            assert_eq!(end_of_web_token(token), None, "{token}");
        }
    }
}
