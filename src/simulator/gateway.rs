//! Huawei's API gateway before SWR: size limits, signatures, tokens, the lock on keys that guess.

use super::call::Incoming;
use super::error_body::{ErrorBody, ErrorShape};
use super::reply::Reply;
use super::signature::{SdkAuthorization, header};
use super::world::{Iam, Project, Swr};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// <https://github.com/huaweicloudDocs/apig>: one header up to 32 KB, all of them up to 128 KB, the URI up to 32 KB.
const HEADER_BYTES: usize = 32 * 1024;
const ALL_HEADERS_BYTES: usize = 128 * 1024;
const TARGET_BYTES: usize = 32 * 1024;

/// <https://github.com/huaweicloudDocs/apig>: `X-Sdk-Date` may be 15 minutes off.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(15);

/// API signing guide, FAQ "Incorrect IAM authentication information": five failures in a row lock the key for five
/// minutes. <https://support.huaweicloud.com/intl/en-us/devg-apisign/api-sign-errorcode.html>
const REFUSALS_BEFORE_LOCK: u32 = 5;
const LOCK_TIME: SignedDuration = SignedDuration::from_mins(5);

/// The gateway's answer for a path or method that no API has, a name with `%2F` included.
/// <https://support.huaweicloud.com/eu/swr_faq/swr_faq_2006.html>
pub(super) fn no_such_api() -> Reply {
    refusal(404, "APIGW.0101", "The API does not exist or has not been published in the environment.")
}

/// Refuses oversized requests before anything else looks at them.
pub(super) fn check_size(request: &Incoming<'_>) -> Result<(), Reply> {
    if request.target.len() > TARGET_BYTES {
        return Err(refusal(414, "APIGW.0201", "Request URI too long."));
    }
    let mut all = 0;
    for (name, value) in request.headers {
        all += name.as_str().len() + value.len();
        if value.len() > HEADER_BYTES || all > ALL_HEADERS_BYTES {
            return Err(refusal(494, "APIGW.0201", "Request headers too large."));
        }
    }
    Ok(())
}

/// Lets a caller in by signature or token; `refuse` turns it away although it is right.
pub(super) fn authenticate(
    swr: &mut Swr,
    iam: &Iam,
    request: &Incoming<'_>,
    now: Timestamp,
    refuse: bool,
) -> Result<(), Reply> {
    match (header(request.headers, "authorization"), header(request.headers, "x-auth-token")) {
        (Some(authorization), _) => signed(swr, iam, request, authorization, now, refuse),
        (None, Some(token)) => with_token(swr, iam, token, now, refuse),
        (None, None) => Err(unauthorized("x-auth-token not found")),
    }
}

fn signed(
    swr: &mut Swr,
    iam: &Iam,
    request: &Incoming<'_>,
    authorization: &str,
    now: Timestamp,
    refuse: bool,
) -> Result<(), Reply> {
    let Some(authorization) = SdkAuthorization::parse(authorization) else {
        return Err(unauthorized("Authorization format is incorrect"));
    };
    let Some(key) = swr.access_keys.iter_mut().find(|key| key.access_key == authorization.access_key) else {
        let words = format!("Get secretKey failed,ak:{},err:ak not exist", authorization.access_key);
        return Err(unauthorized(&words));
    };
    if key.locked_until.is_some_and(|until| now < until) {
        key.refused_calls += 1;
        return Err(unauthorized("AK access failed to reach the limit,forbidden"));
    }
    let sent_token = header(request.headers, "x-security-token");
    let verdict = if refuse {
        Err("verify aksk signature fail".to_owned())
    } else if !is_fresh(header(request.headers, "x-sdk-date"), now) {
        Err("x-sdk-date expired".to_owned())
    } else if key.expires_at.is_some_and(|end| end <= now) {
        Err("securitytoken expired".to_owned())
    } else if sent_token != key.security_token.as_deref() {
        Err("verify securitytoken fail".to_owned())
    } else {
        authorization.verify(request.method, request.target, request.headers, request.body, &key.secret_key)
    };
    if let Err(words) = verdict {
        key.refused_calls += 1;
        key.refused_in_a_row += 1;
        if key.refused_in_a_row >= REFUSALS_BEFORE_LOCK {
            key.locked_until = Some(now + LOCK_TIME);
            key.refused_in_a_row = 0;
        }
        return Err(unauthorized(&words));
    }
    key.refused_in_a_row = 0;
    let lacks_permission = key.lacks_permission;
    if let Some(id) = header(request.headers, "x-project-id") {
        let project = iam.projects.iter().find(|project| project.id == id);
        if !project.is_some_and(|project| belongs_to(project, &swr.region)) {
            return Err(refusal(403, "APIGW.0310", "The project is unavailable."));
        }
    }
    permitted(swr, lacks_permission)
}

fn with_token(swr: &Swr, iam: &Iam, value: &str, now: Timestamp, refuse: bool) -> Result<(), Reply> {
    let Some(token) = iam.tokens.iter().find(|token| token.value == value && !refuse) else {
        return Err(unauthorized("decrypt token fail"));
    };
    if token.expires_at <= now {
        return Err(unauthorized("token expires"));
    }
    // SWR needs a token scoped to a project.
    // <https://github.com/huaweicloudDocs/swr>
    let Some(id) = &token.project_id else {
        let error = ErrorBody::new(swr.error_shape, "SVCSTG.SWR.4010000", "Authentication failed");
        return Err(Reply::error(401, &error));
    };
    let project = iam.projects.iter().find(|project| project.id == *id);
    if !project.is_some_and(|project| belongs_to(project, &swr.region)) {
        return Err(refusal(401, "APIGW.0307", "The token must be updated."));
    }
    permitted(swr, token.lacks_permission)
}

fn permitted(swr: &Swr, lacks_permission: bool) -> Result<(), Reply> {
    if lacks_permission {
        let error = ErrorBody::new(swr.error_shape, "SVCSTG.SWR.4030170", "Insufficient permissions");
        return Err(Reply::error(403, &error));
    }
    Ok(())
}

fn belongs_to(project: &Project, region: &str) -> bool {
    project.name.strip_prefix(region).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

fn is_fresh(date: Option<&str>, now: Timestamp) -> bool {
    let date = date.filter(|date| date.len() == "YYYYMMDDTHHMMSSZ".len());
    let time = date
        .and_then(|date| DateTime::strptime("%Y%m%dT%H%M%SZ", date).ok())
        .and_then(|time| TimeZone::UTC.to_timestamp(time).ok());
    time.is_some_and(|time| time.duration_since(now).abs() <= CLOCK_TOLERANCE)
}

fn unauthorized(words: &str) -> Reply {
    refusal(401, "APIGW.0301", &format!("Incorrect IAM authentication information: {words}"))
}

fn refusal(status: u16, code: &str, message: &str) -> Reply {
    Reply::error(status, &ErrorBody::new(ErrorShape::Gateway, code, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_may_be_fifteen_minutes_off_and_must_have_the_basic_form() {
        let now: Timestamp = "2024-01-02T03:04:05Z".parse().unwrap();
        for (date, fresh) in [
            ("20240102T030405Z", true),
            ("20240102T031905Z", true),
            ("20240102T031906Z", false),
            ("20240102T024905Z", true),
            ("20240102T024904Z", false),
            ("2024-01-02T03:04:05Z", false),
            ("", false),
        ] {
            assert_eq!(is_fresh(Some(date), now), fresh, "{date}");
        }
    }
}
