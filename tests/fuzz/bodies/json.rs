//! The same JSON in other words.

use std::fmt::Debug;

use serde_json::Value;

/// `body` spread over many lines, and with every character of every text escaped; nothing if it is no JSON that can
/// be kept as a value.
pub fn rewritten(body: &[u8]) -> Vec<Vec<u8>> {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let mut escaped = String::new();
    escape(&value, &mut escaped);
    vec![format!("{value:#}").into_bytes(), escaped.into_bytes()]
}

/// The value in `body`, before which there may be a byte order mark; `None` also where it is a document that no value
/// can keep: too deep, or with numbers beyond all range.
pub fn value(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body)).ok()
}

/// What `decoder` reads in `body`, and must read in the `rewritten` bodies too.
pub fn decode<T: Debug + PartialEq>(
    body: &[u8],
    rewritten: &[Vec<u8>],
    decoder: impl Fn(&[u8]) -> Option<T>,
) -> Option<T> {
    let read = decoder(body);
    if read.is_some() {
        for body in rewritten {
            assert_eq!(decoder(body), read, "{}", String::from_utf8_lossy(body));
        }
    }
    read
}

fn escape(value: &Value, out: &mut String) {
    let mut separator = "";
    match value {
        Value::String(text) => escape_text(text, out),
        Value::Array(values) => {
            out.push('[');
            for value in values {
                out.push_str(separator);
                separator = ",";
                escape(value, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (name, value) in fields {
                out.push_str(separator);
                separator = ",";
                escape_text(name, out);
                out.push(':');
                escape(value, out);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

fn escape_text(text: &str, out: &mut String) {
    out.push('"');
    for unit in text.encode_utf16() {
        out.extend(["\\u", &format!("{unit:04x}")]);
    }
    out.push('"');
}
