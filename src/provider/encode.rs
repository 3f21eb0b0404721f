//! What requests and signatures are made of: percent-encoding and HMAC-SHA256.

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// What is encoded in a path segment and in a query: all but RFC 3986's unreserved characters.
pub const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A name that no path can carry: empty, `.` or `..`.
///
/// An empty one addresses the list above; URL parsers resolve the others, even percent-encoded, so that the
/// request would go to another resource than the one that was signed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name {0:?} cannot be part of an address")]
pub struct UnusableName(pub String);

/// `name` percent-encoded as one segment of a path.
pub fn segment(name: &str) -> Result<Cow<'_, str>, UnusableName> {
    match name {
        "" | "." | ".." => Err(UnusableName(name.to_owned())),
        _ => Ok(utf8_percent_encode(name, RESERVED).into()),
    }
}

/// HMAC-SHA256 of `text`, keyed with the bytes of `secret`.
#[expect(clippy::missing_panics_doc, reason = "it cannot happen")]
pub fn hmac_sha256(secret: &SecretString, text: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

/// `bytes` in lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [b >> 4, b & 15])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_names_that_no_path_can_carry() {
        for name in ["", ".", ".."] {
            assert_eq!(segment(name), Err(UnusableName(name.to_owned())));
        }
    }

    #[test]
    fn keeps_dots_that_are_only_part_of_a_name() {
        assert_eq!(segment("...").as_deref(), Ok("..."));
        assert_eq!(segment("%2e%2E").as_deref(), Ok("%252e%252E"));
        assert_eq!(segment("a/../b").as_deref(), Ok("a%2F..%2Fb"));
    }

    proptest! {
        #[test]
        fn url_parser_leaves_an_encoded_segment_as_it_is(name in ".*") {
            if let Ok(segment) = segment(&name) {
                let path = format!("/repositories/{segment}/tags");
                let url = url::Url::parse(&format!("https://registry.example{path}")).unwrap();
                prop_assert_eq!(url.path(), path);
            }
        }
    }
}
