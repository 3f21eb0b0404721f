//! What a server finds at 169.254.169.254, in both clouds, and the agent of Huawei's pod identity.

use super::call::{Call, Incoming, Route};
use super::error_body::{ErrorBody, ErrorShape};
use super::fault::Fault;
use super::made_up::{hash, rfc3339};
use super::reply::Reply;
use super::signature::header;
use super::world::{Owner, Sessions, World};
use serde_json::json;

const NAVER_ROLES: &str = "/latest/meta-data/iam/security-credentials";
/// The path that a CCE cluster puts into `HC_CONTAINER_CREDENTIALS_FULL_URI` is not documented.
pub(super) const AGENT_PATH: &str = "/v1/credentials";

/// Finds the call of a request.
pub(super) fn route(method: &str, target: &str) -> Option<Route> {
    let (call, key) = match (method, target) {
        ("PUT", "/meta-data/latest/api/token") => (Call::MetadataToken, ""),
        ("GET", "/openstack/latest/securitykey") => (Call::MetadataKey, ""),
        ("PUT", "/latest/api/token") => (Call::RoleToken, ""),
        ("POST", AGENT_PATH) => (Call::PodIdentity, ""),
        ("GET", path) => match path.strip_prefix(NAVER_ROLES)? {
            "" | "/" => (Call::Role, ""),
            role => (Call::RoleKey, role.strip_prefix('/')?),
        },
        _ => return None,
    };
    Some(Route { call, key: key.to_owned() })
}

/// The answer for anything else. <https://api.ncloud-docs.com/docs/en/compute-vmetadata>
pub(super) fn not_found() -> Reply {
    text(404, "Path Not found.\n")
}

/// Answers a routed request.
pub(super) fn answer(
    world: &mut World,
    route: &Route,
    request: &Incoming<'_>,
    fault: Option<&Fault>,
) -> Reply {
    if let Some(reply) = fault.and_then(Reply::instead) {
        return reply;
    }
    let unauthorized = matches!(fault, Some(Fault::Unauthorized));
    let reply = match route.call {
        Call::MetadataToken => session(world, request, "x-metadata-token-ttl-seconds"),
        Call::RoleToken => session(world, request, "x-ncp-metadata-token-ttl-seconds"),
        Call::PodIdentity => pod_identity(world, request),
        Call::MetadataKey if unauthorized || !in_session(world, request, "x-metadata-token") => {
            text(401, "Unauthorized")
        }
        Call::MetadataKey => security_key(world),
        _ if unauthorized || !in_session(world, request, "x-ncp-metadata-token") => text(401, "Unauthorized"),
        Call::Role => world.services.role.as_ref().map_or_else(not_found, |role| text(200, role)),
        _ => role_key(world, &route.key),
    };
    reply.spoiled_by(fault)
}

/// <https://support.huaweicloud.com/intl/en-us/usermanual-ecs/ecs_03_0166.html> and
/// <https://api.ncloud-docs.com/docs/en/compute-vmetadata-metadatav2>: a token that lives for the seconds asked for.
fn session(world: &mut World, request: &Incoming<'_>, lifetime_header: &str) -> Reply {
    if let Sessions::Unknown(status) = world.services.sessions {
        return text(status, "");
    }
    let lifetime = header(request.headers, lifetime_header).and_then(|value| value.parse::<u32>().ok());
    if !lifetime.is_some_and(|seconds| (1..=21_600).contains(&seconds)) || !request.body.is_empty() {
        return text(400, "Bad Request");
    }
    let number = world.services.session_tokens.len();
    let token = format!("session-{number}-{:016x}==", hash(&format!("{lifetime_header}{number}")));
    world.services.session_tokens.push(token.clone());
    text(200, &token)
}

fn in_session(world: &World, request: &Incoming<'_>, session_header: &str) -> bool {
    match header(request.headers, session_header) {
        Some(token) => world.services.session_tokens.iter().any(|known| known == token),
        None => world.services.sessions != Sessions::Required,
    }
}

/// The SDKs look for these words in a 401 to tell a server without an agency.
/// <https://github.com/huaweicloud/huaweicloud-sdk-go-v3>
fn security_key(world: &mut World) -> Reply {
    if !world.services.agency {
        return text(401, "Please configure Cloud Service Agency first");
    }
    let (key, end) = world.hand_out(Owner::Huawei, world.services.key_lifetime, true);
    let credential = json!({
        "access": key.access_key,
        "secret": key.secret_key,
        "securitytoken": key.security_token,
        "expires_at": rfc3339(end),
    });
    Reply::json(200, json!({ "credential": credential }).to_string().into_bytes())
}

/// <https://support.huaweicloud.com/intl/en-us/usermanual-cce/cce_10_1110.html>; the form of its errors is not
/// documented.
fn pod_identity(world: &mut World, request: &Incoming<'_>) -> Reply {
    let content_type = header(request.headers, "content-type").unwrap_or_default();
    if !content_type.starts_with("application/json") || request.body != b"{}" {
        return gateway(400, "CCE.01400001", "Invalid request.");
    }
    let token = header(request.headers, "authorization").unwrap_or_default();
    if !world.accepts(token) {
        return gateway(401, "CCE.01401001", "Authentication failed.");
    }
    if !world.services.pod_associated {
        return gateway(404, "CCE.01404001", "Pod identity association not found.");
    }
    let (key, end) = world.hand_out(Owner::Huawei, world.services.key_lifetime, false);
    let body = json!({
        "assumedAgency": { "urn": world.services.agency_urn, "id": "made-up-agency" },
        "audience": "pods.cce",
        "credentials": {
            "accessKeyId": key.access_key,
            "secretAccessKey": key.secret_key,
            "securityToken": key.security_token,
            "expiration": rfc3339(end),
        },
        "podIdentityAssociationId": "a-made-up",
        "subject": { "namespace": "monitoring", "serviceAccount": "exporter" },
    });
    Reply::json(200, body.to_string().into_bytes())
}

/// <https://api.ncloud-docs.com/docs/en/compute-vmetadata-roledata>
fn role_key(world: &mut World, role: &str) -> Reply {
    if world.services.role.as_deref() != Some(role) {
        return not_found();
    }
    let (key, end) = world.hand_out(Owner::Naver, world.services.key_lifetime, true);
    let body = json!({
        "Code": "Success",
        "LastUpdated": end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "Type": "NCP-HMAC",
        "AccessKeyId": key.access_key,
        "SecretAccessKey": key.secret_key,
        "Token": "",
        "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    });
    Reply { content_type: Some("text/plain"), ..Reply::json(200, body.to_string().into_bytes()) }
}

fn gateway(status: u16, code: &str, message: &str) -> Reply {
    Reply::error(status, &ErrorBody::new(ErrorShape::Gateway, code, message))
}

fn text(status: u16, text: &str) -> Reply {
    Reply { content_type: Some("text/plain"), ..Reply::json(status, text.as_bytes().to_vec()) }
}
