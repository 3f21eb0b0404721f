//! How Huawei's IAM and STS give keys for the web tokens of others.

use super::call::{Call, Incoming, Route};
use super::error_body::{ErrorBody, ErrorShape};
use super::fault::Fault;
use super::iam::token_text;
use super::made_up::{hash, rfc3339};
use super::reply::Reply;
use super::signature::header;
use super::world::{Owner, World};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

/// Finds the call of a request.
pub(super) fn route(method: &str, path: &str) -> Option<Route> {
    let call = match (method, path) {
        ("POST", "/v3.0/OS-AUTH/id-token/tokens") => Call::IdToken,
        ("POST", "/v3.0/OS-CREDENTIAL/securitytokens") => Call::SecurityToken,
        ("POST", "/v5/agencies/assume-with-oidc") => Call::AssumeAgency,
        _ => return None,
    };
    Some(Route { call, key: String::new() })
}

/// Answers a routed request.
pub(super) fn answer(world: &mut World, call: Call, request: &Incoming<'_>, fault: Option<&Fault>) -> Reply {
    if let Some(reply) = fault.and_then(Reply::instead) {
        return reply;
    }
    let refuse = matches!(fault, Some(Fault::Unauthorized));
    let body: Value = serde_json::from_slice(request.body).unwrap_or_default();
    let content_type = header(request.headers, "content-type").unwrap_or_default();
    let outcome = if content_type.split(';').next() != Some("application/json") || !body.is_object() {
        Err(error(400, "Request body is invalid"))
    } else {
        match call {
            Call::IdToken => id_token(world, request, &body, refuse),
            Call::SecurityToken => security_token(world, &body, refuse),
            _ => assume_agency(world, &body, refuse),
        }
    };
    outcome.unwrap_or_else(|refusal| refusal).spoiled_by(fault)
}

/// <https://support.huaweicloud.com/api-iam/iam_13_0605.html>: without a scope the token is good for keys only.
fn id_token(world: &mut World, request: &Incoming<'_>, body: &Value, refuse: bool) -> Result<Reply, Reply> {
    let provider = header(request.headers, "x-idp-id").unwrap_or_default();
    let token = body["auth"]["id_token"]["id"].as_str().ok_or_else(|| error(400, "id_token is missing"))?;
    if provider != world.services.identity_provider || !world.accepts(token) || refuse {
        return Err(error(401, "The request you have made requires authentication."));
    }
    let now = world.now();
    let value = token_text(world.iam.token_bytes, hash(&format!("unscoped {now}")));
    world.services.unscoped_tokens.push(value.clone());
    let token = json!({
        "expires_at": rfc3339(now + Duration::from_hours(24)),
        "issued_at": rfc3339(now),
        "methods": ["mapped"],
        "user": { "OS-FEDERATION": { "identity_provider": { "id": provider } }, "name": "FederationUser" },
    });
    let mut reply = Reply::json(201, json!({ "token": token }).to_string().into_bytes());
    reply.headers.push(("x-subject-token", value));
    Ok(reply)
}

/// <https://support.huaweicloud.com/api-iam/iam_04_0002.html>: 15 minutes to 24 hours.
fn security_token(world: &mut World, body: &Value, refuse: bool) -> Result<Reply, Reply> {
    let identity = &body["auth"]["identity"];
    if identity["methods"] != json!(["token"]) {
        return Err(error(400, "identity.methods must be [\"token\"]"));
    }
    let token = identity["token"]["id"].as_str().unwrap_or_default();
    if !world.services.unscoped_tokens.iter().any(|known| known == token) || refuse {
        return Err(error(401, "The token must be updated."));
    }
    let seconds = identity["token"]["duration_seconds"].as_u64().unwrap_or(900);
    if !(900..=86_400).contains(&seconds) {
        return Err(error(400, "duration_seconds is invalid"));
    }
    let lifetime = Duration::from_secs(seconds).min(world.services.key_lifetime);
    let (key, end) = world.hand_out(Owner::Huawei, lifetime, false);
    let credential = json!({
        "access": key.access_key,
        "secret": key.secret_key,
        "securitytoken": key.security_token,
        "expires_at": rfc3339(end),
    });
    Ok(Reply::json(201, json!({ "credential": credential }).to_string().into_bytes()))
}

/// <https://support.huaweicloud.com/api-iam5/AssumeAgencyWithOIDC.html>: 15 minutes to 12 hours.
fn assume_agency(world: &mut World, body: &Value, refuse: bool) -> Result<Reply, Reply> {
    let text = |field: &str| {
        let text = body[field].as_str().filter(|text| !text.is_empty());
        text.ok_or_else(|| sts(400, "STS.0001", &format!("{field} is missing")))
    };
    let (provider, agency, token) = (text("provider_urn")?, text("agency_urn")?, text("id_token")?);
    text("agency_session_name")?;
    let seconds = body["duration_seconds"].as_u64().unwrap_or(3600);
    if !(900..=43_200).contains(&seconds) {
        return Err(sts(400, "STS.0002", "duration_seconds is out of range"));
    }
    if !world.accepts(token) || refuse {
        return Err(sts(401, "STS.0003", "The ID token is invalid or has expired"));
    }
    if provider != world.services.provider_urn || agency != world.services.agency_urn {
        return Err(sts(403, "STS.0004", "The agency does not trust the provider"));
    }
    let lifetime = Duration::from_secs(seconds).min(world.services.key_lifetime);
    let (key, end): (_, Timestamp) = world.hand_out(Owner::Huawei, lifetime, false);
    let credentials = json!({
        "access_key_id": key.access_key,
        "secret_access_key": key.secret_key,
        "security_token": key.security_token,
        "expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    });
    let assumed = json!({ "urn": agency, "id": "made-up-agency:session" });
    let body = json!({ "assumed_agency": assumed, "credentials": credentials });
    Ok(Reply::json(200, body.to_string().into_bytes()))
}

fn error(status: u16, message: &str) -> Reply {
    Reply::error(status, &ErrorBody::new(ErrorShape::Iam, &status.to_string(), message))
}

fn sts(status: u16, code: &str, message: &str) -> Reply {
    Reply::error(status, &ErrorBody::new(ErrorShape::Gateway, code, message))
}
