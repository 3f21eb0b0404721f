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
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim();
    match serde_json::from_str(text) {
        Ok(body) => read(&body, fields, &mut refusal),
        Err(_) if text.starts_with('<') && page(text).is_none() => read_markup(text, fields, &mut refusal),
        Err(_) => {}
    }
    if refusal.code.is_none() && refusal.message.is_none() {
        // Not the API's own form: of a page its title, of anything else what it says.
        if status == 403 && !text.is_empty() {
            refusal.reason = Reason::Protocol;
        }
        refusal.message = page(text).or_else(|| (!text.is_empty()).then(|| text.to_owned()));
    }
    if is_docker_registry(text) {
        refusal.reason = Reason::Protocol;
        refusal.retry = false;
        refusal.credential = Verdict::Unknown;
        refusal.cure =
            Some("this is the answer of a Docker registry, not of the management API: correct endpoint");
    }
    refusal
}

/// Whether it is an error in the form of Docker registries, which the hosts that docker clients use give.
///
/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes>
fn is_docker_registry(text: &str) -> bool {
    let body: Option<Value> = serde_json::from_str(text).ok();
    let code = body.as_ref().and_then(|body| body.get("errors")?.get(0)?.get("code")?.as_str());
    code.is_some_and(|code| !code.is_empty() && code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
}

/// Code and message in XML, whose elements have the names of the JSON's fields, or the same in capitals.
fn read_markup(text: &str, fields: ErrorFields, refusal: &mut Refusal) {
    let content = |field: &&str| {
        let mut capital = (*field).to_owned();
        capital[..1].make_ascii_uppercase();
        element(text, field).or_else(|| element(text, &capital))
    };
    let messages: Vec<String> = fields.messages.iter().filter_map(content).collect();
    refusal.code = fields.codes.iter().find_map(content);
    refusal.message = (!messages.is_empty()).then(|| messages.join(": "));
}

/// What stands in the first element of this name that has no attributes and no elements inside.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, behind) = text.split_once(&format!("<{name}>"))?;
    let (content, _) = behind.split_once(&format!("</{name}>"))?;
    let content = content.trim();
    (!content.is_empty() && !content.contains('<')).then(|| content.to_owned())
}

/// The title of a page of HTML and, where it names one, the number by which whoever runs it finds the request.
fn page(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let begin = lower.find("<title")?;
    let begin = begin + lower[begin..].find('>')? + 1;
    let end = begin + lower[begin..].find("</title")?;
    let title = text[begin..end].trim();
    let number = ["request id", "request-id", "requestid", "event id", "trace id", "ray id"]
        .iter()
        .find_map(|words| lower.rfind(words))
        .map(|at| without_tags(&text[at..]));
    match number {
        _ if title.is_empty() => None,
        Some(number) => Some(format!("{title}; {number}")),
        None => Some(title.to_owned()),
    }
}

/// The first words of HTML, as they are seen: as many as name a number.
fn without_tags(html: &str) -> String {
    let mut words = String::new();
    for piece in html.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text)) {
        words.push_str(piece);
        words.push(' ');
    }
    words.split_whitespace().take(4).collect::<Vec<_>>().join(" ")
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

    const NUMBERED: &str = "<!DOCTYPE html><html><head><title>\n Access Denied </title></head>\
        <body><p>Blocked.</p><p>Request ID: <b>4f2a-77</b></p></body></html>";

    #[test]
    fn says_what_the_other_side_said_in_whatever_form() {
        for (body, code, message) in [
            (r#"{"code":"7","message":"No"}"#, Some("7"), Some("No")),
            ("\u{feff}{\"code\":\"7\"}", Some("7"), None),
            (r#"{"error":{"code":7,"message":"No"}}"#, Some("7"), Some("No")),
            ("<error><code>7</code><message>No</message></error>", Some("7"), Some("No")),
            (
                "<?xml version=\"1.0\"?><Error><Code>7</Code><Message>No</Message></Error>",
                Some("7"),
                Some("No"),
            ),
            (
                "<html><head><TITLE lang=en>Bad Gateway</TITLE></head><body>x</body></html>",
                None,
                Some("Bad Gateway"),
            ),
            (NUMBERED, None, Some("Access Denied; Request ID: 4f2a-77")),
            ("<html><title></title>No</html>", None, Some("<html><title></title>No</html>")),
            ("RBAC: access denied\n", None, Some("RBAC: access denied")),
            (r#"{"status":404,"error":"Not Found"}"#, None, Some(r#"{"status":404,"error":"Not Found"}"#)),
            ("{\"message\":", None, Some("{\"message\":")),
            ("", None, None),
            (" \n ", None, None),
        ] {
            for status in [403, 418, 500] {
                let refusal = from_answer(status, body.as_bytes(), FIELDS);
                assert_eq!((refusal.code.as_deref(), refusal.message.as_deref()), (code, message), "{body}");
            }
        }
    }

    #[test]
    fn a_403_that_is_not_the_apis_own_breaks_the_protocol() {
        let reason = |body: &str| from_answer(403, body.as_bytes(), FIELDS).reason;
        assert_eq!(reason(r#"{"code":7}"#), Reason::Forbidden);
        assert_eq!(reason(r#"{"error":{"message":"No"}}"#), Reason::Forbidden);
        assert_eq!(reason(""), Reason::Forbidden, "the service may say no more than the status");
        for body in [NUMBERED, "RBAC: access denied", "<html></html>", r#"{"status":403}"#, "[]"] {
            assert_eq!(reason(body), Reason::Protocol, "{body}");
        }
    }

    #[test]
    fn a_docker_registry_is_the_wrong_endpoint_and_no_wrong_key() {
        for (status, code) in
            [(401, "UNAUTHORIZED"), (403, "DENIED"), (404, "NAME_UNKNOWN"), (429, "TOOMANYREQUESTS")]
        {
            let body = format!(r#"{{"errors":[{{"code":"{code}","message":"No","detail":null}}]}}"#);
            let refusal = from_answer(status, body.as_bytes(), FIELDS);
            assert_eq!((refusal.reason, refusal.retry), (Reason::Protocol, false), "{status}");
            assert_eq!(refusal.credential, Verdict::Unknown);
            assert!(refusal.message.unwrap().contains(code));
            assert!(refusal.cure.unwrap().contains("endpoint"));
        }
        let own = br#"{"errors":[{"code":"SVCSTG.SWR.4010000","message":"No"}]}"#;
        assert_eq!(from_answer(401, own, FIELDS).reason, Reason::Unauthorized);
    }

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
