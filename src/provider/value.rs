//! JSON values as the clouds really send them, without inventing any: what is missing, `null` or outside of the
//! documented range is not given; what has another type than documented is an error.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

use crate::inventory::Timestamp;

/// Text borrowed from the answer unless it contains escapes.
#[derive(Debug, PartialEq, Eq)]
pub struct Text<'a>(pub Cow<'a, str>);

impl Text<'_> {
    /// An own copy without room to spare.
    pub fn into_box(self) -> Box<str> {
        self.0.into()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// `text` if it is there and not empty: a name, without which a row cannot be used.
pub fn required<E: Error>(text: Option<Text<'_>>, field: &'static str) -> Result<Box<str>, E> {
    match text {
        Some(text) if !text.0.is_empty() => Ok(text.into_box()),
        _ => Err(E::custom(format_args!("a row lacks its `{field}`"))),
    }
}

/// A size or a count: a whole number, also written like `1.0e3`. A negative one is not given.
pub fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    deserializer.deserialize_any(CountVisitor)
}

struct CountVisitor;

impl Visitor<'_> for CountVisitor {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Option<u64>, E> {
        Ok(Some(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Option<u64>, E> {
        Ok(u64::try_from(number).ok())
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the match lets only whole numbers pass that a double holds exactly"
    )]
    fn visit_f64<E: Error>(self, number: f64) -> Result<Option<u64>, E> {
        const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53: beyond it a double may be off by one and more
        match number {
            _ if number.fract() != 0.0 || number.abs() > EXACT => {
                Err(E::invalid_value(Unexpected::Float(number), &self))
            }
            _ if number < 0.0 => Ok(None),
            _ => Ok(Some(number as u64)),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<Option<u64>, E> {
        Ok(None)
    }
}

/// A time in milliseconds since 1970; 0 stands for "never" and is not given.
pub fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let count = count(deserializer)?;
    Ok(count.and_then(|ms| i64::try_from(ms).ok()).and_then(Timestamp::from_milliseconds))
}

/// A time in the form of RFC 3339, with 0 to 9 digits of a second's fraction; other text is not given.
pub fn rfc3339<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<Text>::deserialize(deserializer)?;
    Ok(text
        .and_then(|text| text.0.parse::<jiff::Timestamp>().ok())
        .and_then(|time| Timestamp::from_nanoseconds(time.as_nanosecond())))
}

/// A flag, which vendors' own examples also print as text: then it is not given.
pub fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    struct FlagVisitor;
    impl Visitor<'_> for FlagVisitor {
        type Value = Option<bool>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a flag")
        }

        fn visit_bool<E: Error>(self, flag: bool) -> Result<Option<bool>, E> {
            Ok(Some(flag))
        }

        fn visit_str<E: Error>(self, _: &str) -> Result<Option<bool>, E> {
            Ok(None)
        }

        fn visit_unit<E: Error>(self) -> Result<Option<bool>, E> {
            Ok(None)
        }
    }
    deserializer.deserialize_any(FlagVisitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_of(json: &str) -> Result<Option<u64>, serde_json::Error> {
        count(&mut serde_json::Deserializer::from_str(json))
    }

    fn nanoseconds_of(json: &str) -> Result<Option<i64>, serde_json::Error> {
        let time = rfc3339(&mut serde_json::Deserializer::from_str(json))?;
        Ok(time.map(Timestamp::nanoseconds))
    }

    #[test]
    fn counts_are_whole_numbers() {
        assert_eq!(count_of("0").unwrap(), Some(0));
        assert_eq!(count_of("9007199254740993").unwrap(), Some(9_007_199_254_740_993));
        assert_eq!(count_of("18446744073709551615").unwrap(), Some(u64::MAX));
        assert_eq!(count_of("1.0e3").unwrap(), Some(1000));
    }

    #[test]
    fn counts_are_exact_in_every_notation() {
        for (json, number) in [
            ("1711928488002.000000", 1_711_928_488_002),
            ("9007199254740991.0", 9_007_199_254_740_991),
            ("9.007199254740991e15", 9_007_199_254_740_991),
        ] {
            assert_eq!(count_of(json).unwrap(), Some(number), "{json}");
        }
    }

    #[test]
    fn negative_and_null_counts_are_not_given() {
        for json in ["-1", "-9223372036854775808", "-2.0", "null"] {
            assert_eq!(count_of(json).unwrap(), None, "{json}");
        }
    }

    #[test]
    fn counts_of_another_type_are_errors() {
        for json in ["\"123\"", "true", "{}", "[1]", "1.5", "-0.5", "18446744073709551616", "1e300"] {
            assert!(count_of(json).is_err(), "{json}");
        }
    }

    #[test]
    fn times_keep_every_digit() {
        for (json, nanoseconds) in [
            ("\"2018-07-06T06:18:55Z\"", 1_530_857_935_000_000_000),
            ("\"2021-06-02T09:59:25.51307Z\"", 1_622_627_965_513_070_000),
            ("\"2021-06-02T17:59:25.538056Z\"", 1_622_656_765_538_056_000),
            ("\"2017-09-11T03:00:02.542841141Z\"", 1_505_098_802_542_841_141),
            ("\"2021-06-02T17:59:25\\u002b08:00\"", 1_622_627_965_000_000_000),
        ] {
            assert_eq!(nanoseconds_of(json).unwrap(), Some(nanoseconds), "{json}");
        }
    }

    #[test]
    fn text_that_is_no_time_is_not_given() {
        for json in ["\"\"", "\"forever\"", "null", "\"0001-01-01T00:00:00Z\"", "\"2021-06-02T17:59:25\""] {
            assert_eq!(nanoseconds_of(json).unwrap(), None, "{json}");
        }
    }

    #[test]
    fn times_of_another_type_are_errors() {
        for json in ["1711928488000", "{}", "[]", "false"] {
            assert!(nanoseconds_of(json).is_err(), "{json}");
        }
    }
}
