//! Writes samples in the form that the text format 0.0.4 and OpenMetrics 1.0.0 share.

use std::borrow::Cow;

use crate::inventory::Timestamp;

/// Longest label value in bytes; a longer one is cut at a character and ends with `…` within this length.
/// Prometheus can be told to drop a whole scrape over one long value, and nobody reads more.
pub const MAX_LABEL_BYTES: usize = 1024;

/// What a label value that was cut ends with.
const CUT: &str = "…";

/// The value of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Printed exactly.
    Integer(u128),
    /// Printed as seconds since the epoch with the fraction's own digits.
    Time(Timestamp),
    /// The value 1 with more labels; one without a value is left out.
    Info([(&'static str, Option<&'a str>); 3]),
}

impl From<u64> for Value<'_> {
    fn from(value: u64) -> Self {
        Self::Integer(value.into())
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Integer(value.into())
    }
}

/// Appends one sample's line; `labels` is what [`label`] wrote.
pub fn sample(line: &mut Vec<u8>, name: &str, labels: &[u8], value: Value<'_>) {
    line.extend_from_slice(name.as_bytes());
    line.push(b'{');
    line.extend_from_slice(labels);
    match value {
        Value::Integer(integer) => {
            line.extend_from_slice(b"} ");
            // Most fit into 64 bits, which are written in a fraction of the time.
            match u64::try_from(integer) {
                Ok(integer) => line.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes()),
                Err(_) => line.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes()),
            }
        }
        Value::Time(time) => {
            line.extend_from_slice(b"} ");
            seconds(line, time);
        }
        Value::Info(more) => {
            for (name, value) in more {
                if let Some(value) = value {
                    label(line, name, value);
                }
            }
            line.extend_from_slice(b"} 1");
        }
    }
    line.push(b'\n');
}

/// Appends `name="value"`, with a comma before it unless `labels` is empty or an opening brace precedes.
pub fn label(labels: &mut Vec<u8>, name: &str, value: &str) {
    if !matches!(labels.last(), None | Some(b'{')) {
        labels.push(b',');
    }
    labels.extend_from_slice(name.as_bytes());
    labels.extend_from_slice(b"=\"");
    let value = cut(value);
    let mut rest = value.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        labels.extend_from_slice(&rest[..at]);
        labels.extend_from_slice(match rest[at] {
            b'\\' => br"\\",
            b'"' => br#"\""#,
            _ => br"\n",
        });
        rest = &rest[at + 1..];
    }
    labels.extend_from_slice(rest);
    labels.push(b'"');
}

/// The label value that stands for `value`: itself unless it is too long.
pub fn cut(value: &str) -> Cow<'_, str> {
    if value.len() <= MAX_LABEL_BYTES {
        return Cow::Borrowed(value);
    }
    let end = value.floor_char_boundary(MAX_LABEL_BYTES - CUT.len());
    Cow::Owned(format!("{}{CUT}", &value[..end]))
}

/// Whether another value may be cut to the same label value, or this one be what another is cut to.
pub fn may_collide(value: &str) -> bool {
    // The cut itself takes up to three bytes more where a character of four bytes crosses it.
    value.len() > MAX_LABEL_BYTES - 4
}

/// Appends `time` as decimal seconds: no exponent, no trailing zeros.
fn seconds(line: &mut Vec<u8>, time: Timestamp) {
    const PER_SECOND: u64 = 1_000_000_000;
    let nanoseconds = time.nanoseconds();
    if nanoseconds < 0 {
        line.push(b'-');
    }
    let nanoseconds = nanoseconds.unsigned_abs();
    line.extend_from_slice(itoa::Buffer::new().format(nanoseconds / PER_SECOND).as_bytes());
    let fraction = nanoseconds % PER_SECOND;
    if fraction != 0 {
        // The second added keeps the zeros at the front.
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(PER_SECOND + fraction).trim_end_matches('0');
        line.push(b'.');
        line.extend_from_slice(&digits.as_bytes()[1..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(value: &str) -> String {
        let mut labels = Vec::new();
        label(&mut labels, "tag", value);
        String::from_utf8(labels).unwrap()
    }

    fn printed(value: Value<'_>) -> String {
        let mut line = Vec::new();
        sample(&mut line, "m", br#"a="b""#, value);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn escapes_backslash_quote_and_newline_and_nothing_else() {
        assert_eq!(labelled("a\\b\"c\nd\te\u{7f}\0é"), "tag=\"a\\\\b\\\"c\\nd\te\u{7f}\0é\"");
    }

    #[test]
    fn keeps_a_value_of_the_longest_length() {
        let value = "x".repeat(MAX_LABEL_BYTES);
        assert_eq!(cut(&value), value);
    }

    #[test]
    fn cuts_a_longer_value_at_a_character() {
        let value = format!("{}{}", "x".repeat(1020), "é".repeat(3));
        assert_eq!(cut(&value), format!("{}…", "x".repeat(1020)));
    }

    #[test]
    fn prints_integers_beyond_doubles_exactly() {
        assert_eq!(printed(9_007_199_254_740_993_u64.into()), "m{a=\"b\"} 9007199254740993\n");
        assert_eq!(printed(Value::Integer(u128::MAX)), format!("m{{a=\"b\"}} {}\n", u128::MAX));
    }

    #[test]
    fn prints_seconds_with_the_digits_of_the_source() {
        for (nanoseconds, seconds) in [
            (1_700_000_000_000_000_000, "1700000000"),
            (1_700_000_000_123_000_000, "1700000000.123"),
            (1_700_000_000_000_000_001, "1700000000.000000001"),
            (-1_500_000_000, "-1.5"),
            (-1, "-0.000000001"),
        ] {
            let time = Timestamp::from_nanoseconds(nanoseconds).unwrap();
            assert_eq!(printed(Value::Time(time)), format!("m{{a=\"b\"}} {seconds}\n"));
        }
    }

    #[test]
    fn leaves_out_a_label_without_value() {
        let info = Value::Info([("digest", Some("d")), ("kind", None), ("", None)]);
        assert_eq!(printed(info), "m{a=\"b\",digest=\"d\"} 1\n");
    }
}
