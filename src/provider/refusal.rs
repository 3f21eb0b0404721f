//! What an answer that is no success means.

use serde_json::Value;

use crate::client::{Refusal, Verdict};
use crate::telemetry::Reason;

/// Where a vendor's error bodies keep what they say.
#[derive(Clone, Copy, Debug)]
pub struct ErrorFields {
    /// Fields with an error, or a list of errors, inside.
    pub inner: &'static [&'static str],
    /// Fields with a code, text or number; the first one found counts.
    pub codes: &'static [&'static str],
    /// Fields with a text for people; all that are found are joined.
    pub messages: &'static [&'static str],
}

/// What HTTP alone says about `status`, with the code and message of `body` added: any bytes will do.
///
/// The codes of a vendor may mean something else than the status; that is for the caller to set right, and to tell
/// what comes from behind the authentication. The texts are the API's own: [`Refusal::clean`] makes them fit to be shown.
pub fn from_answer(status: u16, body: &[u8], fields: ErrorFields) -> Refusal {
    let (reason, retry) = match status {
        401 => (Reason::Unauthorized, false),
        403 => (Reason::Forbidden, false),
        404 => (Reason::NotFound, false),
        408 => (Reason::Timeout, false),
        429 => (Reason::Throttled, true),
        500 | 502 | 503 | 504 => (Reason::Server, true),
        501 | 505.. => (Reason::Server, false),
        _ => (Reason::Protocol, false),
    };
    let credential = if status == 401 { Verdict::Refused } else { Verdict::Unknown };
    let mut refusal = Refusal { status, reason, code: None, message: None, cure: None, retry, credential };
    if let Ok(body) = serde_json::from_slice(body) {
        read(&body, fields, &mut refusal);
    }
    refusal
}

/// Takes code and message from the outermost object that has any, the first in a list.
fn read(value: &Value, fields: ErrorFields, refusal: &mut Refusal) {
    if let Value::Array(values) = value {
        return values.first().into_iter().for_each(|first| read(first, fields, refusal));
    }
    let text = |field: &&str| match value.get(*field)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let messages: Vec<String> = fields.messages.iter().filter_map(text).collect();
    refusal.code = fields.codes.iter().find_map(text);
    refusal.message = (!messages.is_empty()).then(|| messages.join(": "));
    for inner in fields.inner.iter().filter_map(|field| value.get(*field)) {
        if refusal.code.is_some() || refusal.message.is_some() {
            return;
        }
        read(inner, fields, refusal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: ErrorFields = ErrorFields { inner: &["error"], codes: &["code"], messages: &["message"] };

    #[test]
    fn retries_what_may_pass_and_nothing_else() {
        let retried: Vec<u16> = (300..600).filter(|&s| from_answer(s, b"", FIELDS).retry).collect();
        assert_eq!(retried, [429, 500, 502, 503, 504]);
    }

    #[test]
    fn every_status_from_500_on_is_the_servers_fault() {
        for status in [500, 501, 504, 505, 520, 599] {
            assert_eq!(from_answer(status, b"", FIELDS).reason, Reason::Server, "{status}");
        }
    }

    #[test]
    fn redirects_and_unknown_refusals_break_the_protocol() {
        for status in [100, 301, 307, 400, 405, 409, 418, 431] {
            assert_eq!(from_answer(status, b"", FIELDS).reason, Reason::Protocol, "{status}");
        }
    }
}
