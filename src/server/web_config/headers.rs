//! `http_server_config.headers`: headers that every answer bears.

use hyper::HeaderMap;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderName, HeaderValue};

use super::section::Section;

/// The only headers that can be set, and their values where only some make sense.
const ALLOWED: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// Reads the section. A header with an empty value is not sent.
pub(super) fn read(section: &Section<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for key in section.names() {
        let Some((_, values)) = ALLOWED.iter().find(|(allowed, _)| *allowed == key) else {
            let known: Vec<_> = ALLOWED.iter().map(|(name, _)| *name).collect();
            section.problem(key, format!("cannot be set; known here: {}", known.join(", ")));
            continue;
        };
        let Some(text) = section.text(key) else { continue };
        if !values.is_empty() && !values.contains(&text) {
            section.problem(key, format!("must be {}", values.join(" or ")));
            continue;
        }
        // YAML's block texts have line breaks, which are spaces here, as in Go.
        let text = text.replace(['\r', '\n'], " ");
        match (HeaderName::from_bytes(key.as_bytes()), HeaderValue::from_str(text.trim())) {
            (Ok(name), Ok(value)) => headers.push((name, value)),
            _ => section.problem(key, "must be visible ASCII text"),
        }
    }
    headers
}

/// Adds the headers to those of an answer.
pub(super) fn add(extra: &[(HeaderName, HeaderValue)], headers: &mut HeaderMap) {
    for (name, value) in extra {
        // The page's own policy stays in force beside another one: browsers obey both.
        if name == CONTENT_SECURITY_POLICY {
            headers.append(name, value.clone());
        } else {
            headers.insert(name, value.clone());
        }
    }
}
