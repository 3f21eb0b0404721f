//! An answer before it is put on the wire, and what faults make of it.

use super::error_body::ErrorBody;
use super::fault::Fault;
use serde_json::{Value, json};
use std::time::Duration;

/// Status, headers and body of an answer.
pub(super) struct Reply {
    pub status: u16,
    pub content_type: Option<&'static str>,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub delivery: Delivery,
}

/// How an answer travels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    Whole,
    Hang,
    Reset,
    Truncate,
    SlowDrip(Duration),
    HugeBody,
    GzipBomb,
}

impl Reply {
    pub fn json(status: u16, body: Vec<u8>) -> Self {
        let content_type = Some("application/json");
        Self { status, content_type, headers: Vec::new(), body, delivery: Delivery::Whole }
    }

    pub fn error(status: u16, error: &ErrorBody) -> Self {
        let (content_type, body) = error.encode();
        Self { content_type, ..Self::json(status, body) }
    }

    /// The answer that a fault gives in place of the service's own; `None` if the service has to make one.
    pub fn instead(fault: &Fault) -> Option<Self> {
        let json = |body: &[u8]| Self::json(200, body.to_vec());
        let delivered = |delivery| Self { delivery, ..json(b"") };
        Some(match fault {
            Fault::Status { code, retry_after, body } => {
                let mut reply = Self::error(*code, body);
                reply.headers.extend(retry_after.iter().map(|value| ("retry-after", value.clone())));
                reply
            }
            Fault::Hang => delivered(Delivery::Hang),
            Fault::Reset => delivered(Delivery::Reset),
            Fault::HugeBody => delivered(Delivery::HugeBody),
            Fault::GzipBomb => delivered(Delivery::GzipBomb),
            Fault::Html => Self::error(200, &ErrorBody::html()),
            Fault::NotJson => json(br#"[{"name": "half a docu"#),
            Fault::Json(body) => json(body.as_bytes()),
            Fault::EmptyBody => json(b""),
            Fault::Redirect(url) => {
                let mut reply = Self { status: 307, ..json(b"") };
                reply.headers.push(("location", url.clone()));
                reply
            }
            _ => return None,
        })
    }

    /// Spoils the service's own answer.
    #[must_use]
    pub fn spoiled_by(mut self, fault: Option<&Fault>) -> Self {
        match fault {
            Some(Fault::Truncate) => self.delivery = Delivery::Truncate,
            Some(Fault::SlowDrip(pause)) => self.delivery = Delivery::SlowDrip(*pause),
            Some(Fault::ByteOrderMark) => self.body.splice(..0, *b"\xEF\xBB\xBF").for_each(drop),
            Some(Fault::WrongTypes) => {
                if let Ok(mut value) = serde_json::from_slice(&self.body) {
                    confuse(&mut value);
                    self.body = value.to_string().into_bytes();
                }
            }
            _ => {}
        }
        self
    }
}

fn confuse(value: &mut Value) {
    match value {
        Value::Null => {}
        Value::Bool(_) => *value = json!("perhaps"),
        Value::Number(_) => *value = json!("many"),
        Value::String(_) => *value = json!(7),
        Value::Array(items) => items.iter_mut().for_each(confuse),
        Value::Object(fields) => fields.values_mut().for_each(confuse),
    }
}
