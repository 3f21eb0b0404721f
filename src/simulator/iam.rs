//! Huawei's IAM and STS: the call that makes a token from a password here, those that take web tokens beside it.

use super::call::{Call, Incoming, Route};
use super::error_body::{ErrorBody, ErrorShape};
use super::fault::Fault;
use super::federation;
use super::made_up::{hash, mix, rfc3339};
use super::reply::Reply;
use super::signature::header;
use super::world::{IamToken, Project, World};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// Tokens kept for SWR to recognise; the oldest are forgotten.
const TOKENS_KEPT: usize = 1000;

/// Finds the call of a request.
pub(super) fn route(method: &str, target: &str) -> Option<Route> {
    let path = target.split('?').next()?;
    if method == "POST" && path == "/v3/auth/tokens" {
        return Some(Route { call: Call::CreateToken, key: String::new() });
    }
    // STS has an address of its own; here it is the same.
    federation::route(method, path)
}

/// Answers a routed request: 201 with the token in `X-Subject-Token`, or what is given for a web token.
/// <https://support.huaweicloud.com/intl/en-us/api-iam/iam_30_0001.html>
pub(super) fn answer(
    world: &mut World,
    route: &Route,
    request: &Incoming<'_>,
    fault: Option<&Fault>,
) -> Reply {
    if route.call != Call::CreateToken {
        return federation::answer(world, route.call, request, fault);
    }
    if let Some(reply) = fault.and_then(Reply::instead) {
        return reply;
    }
    let refuse = matches!(fault, Some(Fault::Unauthorized));
    create_token(world, request, refuse).unwrap_or_else(|refusal| refusal).spoiled_by(fault)
}

fn create_token(world: &mut World, request: &Incoming<'_>, refuse: bool) -> Result<Reply, Reply> {
    let content_type = header(request.headers, "content-type").unwrap_or_default();
    if content_type.split(';').next() != Some("application/json") {
        return Err(bad_request("Content-Type must be application/json"));
    }
    let body: Value =
        serde_json::from_slice(request.body).map_err(|_| bad_request("Request body is invalid"))?;
    let auth = &body["auth"];
    if auth["identity"]["methods"] != json!(["password"]) {
        return Err(bad_request("identity.methods must be [\"password\"]"));
    }
    let user = &auth["identity"]["password"]["user"];
    let text = |value: &Value, what: &str| {
        value.as_str().filter(|t| !t.is_empty()).map(str::to_owned).ok_or_else(|| bad_request(what))
    };
    let account = text(&user["domain"]["name"], "user.domain.name is missing")?;
    let name = text(&user["name"], "user.name is missing")?;
    let password = text(&user["password"], "user.password is missing")?;

    let known = world.iam.users.iter_mut().find(|user| user.account == account && user.name == name);
    let Some(known) = known else { return Err(wrong_password()) };
    if known.password != password || refuse {
        known.refused_calls += 1;
        return Err(wrong_password());
    }
    let lacks_permission = known.lacks_permission;
    let project = scope(&auth["scope"], &world.iam.projects, &account)?;

    let now = world.now();
    let lifetime = SignedDuration::try_from(world.iam.token_lifetime).unwrap_or(SignedDuration::MAX);
    let expires_at = now.saturating_add(lifetime).unwrap_or(Timestamp::MAX);
    let value = token_text(world.iam.token_bytes, hash(&format!("{name} {now}")));
    world.iam.tokens.push(IamToken {
        value: value.clone(),
        expires_at,
        project_id: project.as_ref().map(|project| project.id.clone()),
        lacks_permission,
    });
    let surplus = world.iam.tokens.len().saturating_sub(TOKENS_KEPT);
    world.iam.tokens.drain(..surplus);

    let domain = json!({"id": "d78cbac186b744899480f25bd022f468", "name": account});
    let mut token = json!({
        "expires_at": rfc3339(expires_at),
        "issued_at": rfc3339(now),
        "methods": ["password"],
        "roles": [{"id": "0", "name": "te_admin"}],
        "user": {"domain": domain, "id": "7116d09f88fa41908676fdd4b039e95b", "name": name, "password_expires_at": ""},
        // The service catalogue is left out for any value of `nocatalog`.
        "catalog": if request.parameter("nocatalog").is_some_and(|v| !v.is_empty()) { json!([]) } else { json!([{
            "endpoints": [], "id": "c6db69fabbd549908adcb861c7e47ca4", "name": "swr", "type": "swr",
        }]) },
    });
    match project {
        Some(Project { id, name }) => token["project"] = json!({"domain": domain, "id": id, "name": name}),
        None => token["domain"] = domain,
    }
    let mut reply = Reply::json(201, json!({"token": token}).to_string().into_bytes());
    reply.headers.push(("x-subject-token", value));
    Ok(reply)
}

/// The project that the token is for, `None` for the whole account.
fn scope(scope: &Value, projects: &[Project], account: &str) -> Result<Option<Project>, Reply> {
    if scope.is_null() || scope["domain"]["name"] == account {
        return Ok(None);
    }
    let wanted = &scope["project"];
    let named = projects.iter().find(|project| wanted["id"] == project.id || wanted["name"] == project.name);
    match named {
        Some(project) => Ok(Some(project.clone())),
        None if wanted["id"].is_string() || wanted["name"].is_string() => {
            Err(error(401, "The request you have made requires authentication."))
        }
        None => Err(bad_request("scope is invalid")),
    }
}

/// Tokens are base64 of a signed structure, `MII...`, with `-` for `/`.
pub(super) fn token_text(bytes: usize, seed: u64) -> String {
    let mut number = seed;
    let mut raw = Vec::with_capacity(bytes);
    while raw.len() < bytes {
        number = mix(number);
        raw.extend_from_slice(&number.to_be_bytes());
    }
    let mut text = format!("MII{}", STANDARD.encode(raw).replace('/', "-"));
    text.truncate(bytes);
    text
}

fn wrong_password() -> Reply {
    error(401, "The username or password is wrong.")
}

fn bad_request(message: &str) -> Reply {
    error(400, message)
}

fn error(status: u16, message: &str) -> Reply {
    Reply::error(status, &ErrorBody::new(ErrorShape::Iam, &status.to_string(), message))
}
