//! The shapes in which the two clouds report errors.

use serde_json::{Value, json};

/// Who formats an error body, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorShape {
    /// SWR, older documents: `[{"errorCode", "errorMessage", "detail"}]`.
    /// <https://support.huaweicloud.com/intl/en-us/api-swr/ErrorCode.html>
    SwrArray,
    /// SWR, newest documents: `errors` and `error_code`, `error_msg`, `details` at once.
    /// <https://support.huaweicloud.com/api-swr/ErrorCode.html>
    SwrErrorsAndCode,
    /// SWR: `{"errors": [{"errorCode", "errorMessage", "detail"}]}` only, as clients in the field expect it.
    SwrErrors,
    /// SWR: `{"errorCode", "errorMessage"}` at the top, as clients in the field expect it.
    SwrFlat,
    /// Huawei's API gateway: `{"error_msg", "error_code", "request_id"}`.
    /// <https://support.huaweicloud.com/intl/en-us/devg-apisign/api-sign-errorcode.html>
    Gateway,
    /// Huawei IAM: `{"error": {"code": NUMBER, "message", "title"}}`; the code is the HTTP status.
    Iam,
    /// NAVER's API gateway with `errorCode` as text: `{"error": {"errorCode", "message", "details"}}`.
    /// <https://api-gov.ncloud-docs.com/docs/api-call-lgc-errorhandling>
    NcrText,
    /// The same with `errorCode` as a number, as the table of that page types it.
    NcrNumber,
    /// No body at all.
    Empty,
    /// A page of some proxy between us and the service.
    Html,
    /// The message as it is.
    Text,
}

/// An error body: a shape and what to put in.
#[derive(Clone, Debug)]
pub struct ErrorBody {
    /// How it is formatted.
    pub shape: ErrorShape,
    /// The vendor's code, such as `SVCSTG.SWR.4010000`, `APIGW.0308` or `410`.
    pub code: String,
    /// The vendor's words; for NAVER `message` and, after a `|`, `details`.
    pub message: String,
}

impl ErrorBody {
    /// A body of `shape` with this code and message.
    pub fn new(shape: ErrorShape, code: &str, message: &str) -> Self {
        Self { shape, code: code.to_owned(), message: message.to_owned() }
    }

    /// An answer without a body.
    pub fn empty() -> Self {
        Self::new(ErrorShape::Empty, "", "")
    }

    /// Any text.
    pub fn text(text: &str) -> Self {
        Self::new(ErrorShape::Text, "", text)
    }

    /// A proxy's page.
    pub fn html() -> Self {
        Self::new(ErrorShape::Html, "", "")
    }

    /// The `Content-Type` and the bytes.
    pub(super) fn encode(&self) -> (Option<&'static str>, Vec<u8>) {
        let (code, message) = (self.code.as_str(), self.message.as_str());
        let entry = json!({"errorCode": code, "errorMessage": message, "detail": ""});
        let value = match self.shape {
            ErrorShape::SwrArray => json!([entry]),
            ErrorShape::SwrErrorsAndCode => json!({
                "errors": [entry], "error_code": code, "error_msg": message,
                "details": [{"error_code": code, "error_msg": message}],
            }),
            ErrorShape::SwrErrors => json!({"errors": [entry]}),
            ErrorShape::SwrFlat => json!({"errorCode": code, "errorMessage": message}),
            ErrorShape::Gateway => json!({
                "error_msg": message, "error_code": code, "request_id": "c0ffee00c0ffee00c0ffee00c0ffee00",
            }),
            ErrorShape::Iam => {
                let title = if code == "401" { "Unauthorized" } else { "Bad Request" };
                json!({"error": {"code": number(code), "message": message, "title": title}})
            }
            ErrorShape::NcrText => ncr(&json!(code), message),
            ErrorShape::NcrNumber => ncr(&number(code), message),
            ErrorShape::Empty => return (None, Vec::new()),
            ErrorShape::Text => return (Some("text/plain"), self.message.clone().into_bytes()),
            ErrorShape::Html => {
                return (Some("text/html"), b"<html><body><h1>Bad Gateway</h1></body></html>\n".to_vec());
            }
        };
        (Some("application/json"), value.to_string().into_bytes())
    }
}

fn ncr(code: &Value, message: &str) -> Value {
    match message.split_once('|') {
        Some((message, details)) => {
            json!({"error": {"errorCode": code, "message": message, "details": details}})
        }
        None => json!({"error": {"errorCode": code, "message": message}}),
    }
}

fn number(code: &str) -> Value {
    code.parse::<u64>().map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(shape: ErrorShape, code: &str, message: &str) -> String {
        String::from_utf8(ErrorBody::new(shape, code, message).encode().1).unwrap()
    }

    #[test]
    fn formats_the_documented_shapes() {
        assert_eq!(
            text(ErrorShape::SwrArray, "SVCSTG.SWR.4001048", "bad"),
            r#"[{"detail":"","errorCode":"SVCSTG.SWR.4001048","errorMessage":"bad"}]"#
        );
        assert_eq!(
            text(ErrorShape::Iam, "401", "The username or password is wrong."),
            r#"{"error":{"code":401,"message":"The username or password is wrong.","title":"Unauthorized"}}"#
        );
        assert_eq!(
            text(ErrorShape::NcrText, "210", "Permission Denied|A subscription to the API is required."),
            r#"{"error":{"details":"A subscription to the API is required.","errorCode":"210","message":"Permission Denied"}}"#
        );
        assert_eq!(text(ErrorShape::NcrNumber, "300", "x"), r#"{"error":{"errorCode":300,"message":"x"}}"#);
    }
}
