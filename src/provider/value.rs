//! JSON values as the clouds really send them, without inventing any.
//!
//! What a row is named by and what decides about the next page must be what is documented. Everything else is
//! optional: what is missing, `null` or negative is not given, and what has another type than documented is not given
//! either, but counted. So one odd value costs itself and never the row, let alone the listing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::inventory::Timestamp;
use crate::telemetry::UNREADABLE_FIELDS;

/// The longest text, in bytes, that is one: no registry has longer names, and nobody would read them.
const LONGEST_TEXT: usize = 1024;

/// Decodes JSON, before which some servers put a byte order mark.
pub fn from_json<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body))
}

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

/// `text` if it is there, not empty and no longer than names are: a row cannot be used without.
pub fn required<E: Error>(text: Option<Text<'_>>, field: &'static str) -> Result<Box<str>, E> {
    match text {
        Some(text) if text.0.len() > LONGEST_TEXT => {
            Err(E::custom(format_args!("a row's `{field}` is longer than {LONGEST_TEXT} bytes")))
        }
        Some(text) if !text.0.is_empty() => Ok(text.into_box()),
        _ => Err(E::custom(format_args!("a row lacks its `{field}`"))),
    }
}

/// An object and nothing else: a list would be taken for the fields in their order.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// An optional value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Given<T> {
    /// It is missing, `null`, or stands for "none".
    #[default]
    No,
    /// It is there.
    Yes(T),
    /// Something is there that it cannot be.
    Unreadable,
}

/// The values of an answer that could not be read: how many, by the family that they would have fed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unreadable(BTreeMap<&'static str, u64>);

impl Unreadable {
    /// `value` where it is given; counts it, for one of [`UNREADABLE_FIELDS`], where it cannot be read.
    pub fn take<T>(&mut self, field: &'static str, value: Given<T>) -> Option<T> {
        match value {
            Given::Yes(value) => return Some(value),
            Given::No => {}
            Given::Unreadable => self.add(field),
        }
        None
    }

    /// Counts one value.
    pub fn add(&mut self, field: &'static str) {
        debug_assert!(UNREADABLE_FIELDS.contains(&field), "{field}");
        *self.0.entry(field).or_default() += 1;
    }

    /// Each field with its count.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(field, count)| (*field, *count))
    }
}

/// What an optional value can be: the notations that are read; all others are unreadable.
pub trait Optional<'de>: Sized {
    /// A whole number, however it is written.
    fn number(_: u64) -> Given<Self> {
        Given::Unreadable
    }

    /// A whole number below 0.
    fn negative() -> Given<Self> {
        Given::Unreadable
    }

    /// A text.
    fn text(_: Cow<'de, str>) -> Given<Self> {
        Given::Unreadable
    }

    /// `true` or `false`.
    fn flag(_: bool) -> Given<Self> {
        Given::Unreadable
    }

    /// A list.
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Given<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Given::Unreadable)
    }

    /// An object.
    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Given<Self>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Given::Unreadable)
    }
}

/// A size or a count; one that is negative is not given.
impl Optional<'_> for u64 {
    fn number(number: u64) -> Given<Self> {
        Given::Yes(number)
    }

    fn negative() -> Given<Self> {
        Given::No
    }

    /// Huawei's services are known to write numbers as text.
    fn text(text: Cow<'_, str>) -> Given<Self> {
        let digits = text.strip_prefix('-').unwrap_or(&text);
        match text.parse() {
            _ if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) => Given::Unreadable,
            _ if digits.len() < text.len() => Given::No,
            Ok(number) => Given::Yes(number),
            Err(_) => Given::Unreadable,
        }
    }
}

impl Optional<'_> for bool {
    fn flag(flag: bool) -> Given<Self> {
        Given::Yes(flag)
    }
}

impl<'de: 'a, 'a> Optional<'de> for Text<'a> {
    fn text(text: Cow<'de, str>) -> Given<Self> {
        if text.len() > LONGEST_TEXT { Given::Unreadable } else { Given::Yes(Text(text)) }
    }
}

/// A time in milliseconds since 1970; 0 stands for "never" and is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Milliseconds(pub Timestamp);

impl Optional<'_> for Milliseconds {
    fn number(number: u64) -> Given<Self> {
        let time = i64::try_from(number).ok().and_then(Timestamp::from_milliseconds);
        match time {
            Some(time) => Given::Yes(Self(time)),
            None if number == 0 => Given::No,
            None => Given::Unreadable,
        }
    }

    fn negative() -> Given<Self> {
        Given::No
    }

    fn text(text: Cow<'_, str>) -> Given<Self> {
        match u64::text(text) {
            Given::Yes(number) => Self::number(number),
            Given::No => Given::No,
            Given::Unreadable => Given::Unreadable,
        }
    }
}

/// A time in the form of RFC 3339, with 0 to 9 digits of a second's fraction; the year 1 stands for "never".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rfc3339(pub Timestamp);

impl Optional<'_> for Rfc3339 {
    fn text(text: Cow<'_, str>) -> Given<Self> {
        match text.parse::<jiff::Timestamp>() {
            Ok(time) => Timestamp::from_nanoseconds(time.as_nanosecond())
                .map_or(Given::No, |time| Given::Yes(Self(time))),
            Err(_) if text.is_empty() => Given::No,
            Err(_) => Given::Unreadable,
        }
    }
}

/// A time in the form of RFC 3339; other text is not given, and another type an error.
pub fn rfc3339<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(match Option::<Text>::deserialize(deserializer)?.map(|text| Rfc3339::text(text.0)) {
        Some(Given::Yes(Rfc3339(time))) => Some(time),
        _ => None,
    })
}

impl<'de, T: Optional<'de>> Optional<'de> for Vec<Given<T>> {
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Given<Self>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Given::Yes(values))
    }
}

impl<'de, T: Deserialize<'de>> Optional<'de> for Object<T> {
    fn object<A: MapAccess<'de>>(object: A) -> Result<Given<Self>, A::Error> {
        Ok(Given::Yes(Object(T::deserialize(MapAccessDeserializer::new(object))?)))
    }
}

impl<'de, T: Optional<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GivenVisitor(PhantomData))
    }
}

struct GivenVisitor<T>(PhantomData<T>);

impl<'de, T: Optional<'de>> Visitor<'de> for GivenVisitor<T> {
    type Value = Given<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Given<T>, E> {
        Ok(T::number(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Given<T>, E> {
        Ok(u64::try_from(number).map_or_else(|_| T::negative(), T::number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Given<T>, E> {
        Ok(match whole(number) {
            Given::Yes(number) => T::number(number),
            Given::No => T::negative(),
            Given::Unreadable => Given::Unreadable,
        })
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Given<T>, E> {
        Ok(T::flag(flag))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Given<T>, E> {
        Ok(T::text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Given<T>, E> {
        Ok(T::text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E: Error>(self) -> Result<Given<T>, E> {
        Ok(Given::No)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Given<T>, A::Error> {
        T::list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Given<T>, A::Error> {
        T::object(object)
    }
}

/// The whole number, also one written like `1.0e3`, that a double holds exactly; none below 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the match lets only whole numbers pass that a double holds exactly"
)]
fn whole(number: f64) -> Given<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53: beyond it a double may be off by one and more
    match number {
        _ if number.fract() != 0.0 || number.abs() > EXACT => Given::Unreadable,
        _ if number < 0.0 => Given::No,
        _ => Given::Yes(number as u64),
    }
}

/// A number that decides what is read next, which is a whole number or `null`.
pub fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct Number(u64);
    impl Optional<'_> for Number {
        fn number(number: u64) -> Given<Self> {
            Given::Yes(Self(number))
        }
    }
    match Given::deserialize(deserializer)? {
        Given::Yes(Number(number)) => Ok(Some(number)),
        Given::No => Ok(None),
        Given::Unreadable => Err(D::Error::custom("not a whole number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'de, T: Optional<'de>>(json: &'de str) -> Given<T> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn counts_are_exact_in_every_notation() {
        for (json, number) in [
            ("0", 0),
            ("9007199254740993", 9_007_199_254_740_993),
            ("18446744073709551615", u64::MAX),
            ("1.0e3", 1000),
            ("1711928488002.000000", 1_711_928_488_002),
            ("9007199254740991.0", 9_007_199_254_740_991),
            ("9.007199254740991e15", 9_007_199_254_740_991),
            ("\"123\"", 123),
            ("\"18446744073709551615\"", u64::MAX),
        ] {
            assert_eq!(read::<u64>(json), Given::Yes(number), "{json}");
        }
    }

    #[test]
    fn negative_and_null_counts_are_not_given() {
        for json in ["-1", "-9223372036854775808", "-2.0", "null", "\"-1\""] {
            assert_eq!(read::<u64>(json), Given::No, "{json}");
        }
    }

    /// One value of each type that a number is not, and of each sort of number that is no count.
    const NO_COUNTS: [&str; 14] = [
        "\"\"",
        "\"12a\"",
        "\"1.5\"",
        "\"--1\"",
        "\"+1\"",
        "\" 1\"",
        "\"18446744073709551616\"",
        "true",
        "{\"a\":[1]}",
        "[1,{}]",
        "1.5",
        "-0.5",
        "18446744073709551616",
        "1e300",
    ];

    #[test]
    fn what_is_no_count_is_unreadable() {
        for json in NO_COUNTS {
            assert_eq!(read::<u64>(json), Given::Unreadable, "{json}");
            assert_eq!(read::<Milliseconds>(json), Given::Unreadable, "{json}");
            let strict = number(&mut serde_json::Deserializer::from_str(json));
            assert!(strict.is_err(), "{json}");
        }
    }

    #[test]
    fn a_number_that_decides_is_no_text() {
        let number = |json: &str| number(&mut serde_json::Deserializer::from_str(json)).ok();
        assert_eq!(number("2"), Some(Some(2)));
        assert_eq!(number("null"), Some(None));
        assert_eq!((number("\"2\""), number("-1")), (None, None));
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
            let Given::Yes(Rfc3339(time)) = read(json) else { panic!("{json}") };
            assert_eq!(time.nanoseconds(), nanoseconds, "{json}");
        }
        for json in ["1711928488002", "1711928488002.0", "\"1711928488002\""] {
            let Given::Yes(Milliseconds(time)) = read(json) else { panic!("{json}") };
            assert_eq!(time.nanoseconds(), 1_711_928_488_002_000_000, "{json}");
        }
    }

    #[test]
    fn never_is_not_given_and_what_is_no_time_is_unreadable() {
        for json in ["\"\"", "null", "\"0001-01-01T00:00:00Z\""] {
            assert_eq!(read::<Rfc3339>(json), Given::No, "{json}");
        }
        for json in ["\"forever\"", "\"2021-06-02T17:59:25\"", "1711928488000", "1.5", "{}", "[]", "false"] {
            assert_eq!(read::<Rfc3339>(json), Given::Unreadable, "{json}");
        }
        for json in ["0", "\"0\"", "-1", "null"] {
            assert_eq!(read::<Milliseconds>(json), Given::No, "{json}");
        }
    }

    #[test]
    fn texts_and_flags_are_texts_and_flags() {
        assert_eq!(read("\"a\\nb\""), Given::Yes(Text("a\nb".into())));
        let long = format!("\"{}\"", "x".repeat(LONGEST_TEXT + 1));
        for json in ["1", "true", "{}", "[]", "-1", "1.5", &long] {
            assert_eq!(read::<Text<'_>>(json), Given::Unreadable, "{json}");
        }
        assert_eq!(read("true"), Given::Yes(true));
        for json in ["1", "\"true\"", "{}", "[]"] {
            assert_eq!(read::<bool>(json), Given::Unreadable, "{json}");
        }
    }

    #[test]
    fn one_odd_element_costs_itself() {
        let read = read::<Vec<Given<Text<'_>>>>("[\"a\",null,7]");
        let expected = vec![Given::Yes(Text("a".into())), Given::No, Given::Unreadable];
        assert_eq!(read, Given::Yes(expected));
        for json in ["{}", "\"a\"", "7", "true"] {
            assert_eq!(self::read::<Vec<Given<Text<'_>>>>(json), Given::Unreadable, "{json}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert_eq!(from_json::<u64>("\u{feff}7".as_bytes()).unwrap(), 7);
        assert!(from_json::<u64>("\u{feff}\u{feff}7".as_bytes()).is_err());
    }
}
