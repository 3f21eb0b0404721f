//! Texts, numbers and times as HTML for people.

use std::fmt::{self, Display, Write};

use crate::inventory::Timestamp;

/// Text as HTML, in elements and in quoted attributes.
pub struct Escaped<T>(pub T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.to_string().chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Browsers drop or replace these; a text that has them should show it.
                other if other.is_control() && other != '\n' => f.write_char('\u{fffd}')?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Text from outside as HTML, kept apart from what is written in the other direction around it, and cut at `most`
/// characters.
pub fn foreign(text: &str, most: usize) -> String {
    let end = text.char_indices().nth(most).map(|(end, _)| end);
    let (text, mark) = end.map_or((text, ""), |end| (&text[..end], "…"));
    format!("<bdi>{}{mark}</bdi>", Escaped(text))
}

/// A time as its distance from `now` and in UTC.
pub fn time(time: Timestamp, now: Timestamp) -> String {
    format!("{} {}", distance(seconds(time) - seconds(now)), clock(time, now))
}

/// A time in UTC, with the date unless it is that of `now`.
pub fn clock(time: Timestamp, now: Timestamp) -> String {
    let (date, today, text) = (time.to_string(), now.to_string(), spelled(time));
    let text = if date.get(..DATE) == today.get(..DATE) { &text[DATE + 1..] } else { &text };
    format!("<time datetime=\"{date}\">{text}</time>")
}

/// The length of a date, `2026-01-02`, in every year that a [`Timestamp`] knows.
const DATE: usize = 10;

/// A time in UTC, date and clock.
pub fn spelled(time: Timestamp) -> String {
    time.to_string().replace('T', " ").replace('Z', " UTC")
}

fn seconds(time: Timestamp) -> i64 {
    time.nanoseconds().div_euclid(1_000_000_000)
}

/// How far away a time is: `5 min ago`, `in 2 h`.
fn distance(seconds: i64) -> String {
    let amount = amount(seconds.unsigned_abs());
    match seconds {
        0 => "now".to_owned(),
        ..0 => format!("{amount} ago"),
        1.. => format!("in {amount}"),
    }
}

/// A span of time in the unit that people would use.
pub fn amount(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", (seconds + 30) / 60),
        7200..172_800 => format!("{} h", (seconds + 1800) / 3600),
        _ => format!("{} days", seconds.saturating_add(43_200) / 86_400),
    }
}

/// A number with its digits in groups of three.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and what it counts, whose plural ends in `s` or, after `y`, in `ies`.
pub fn counted(count: u64, noun: &str) -> String {
    let number = number(count);
    match noun.strip_suffix('y') {
        _ if count == 1 => format!("{number} {noun}"),
        Some(stem) => format!("{number} {stem}ies"),
        None => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_html_gives_a_meaning() {
        assert_eq!(
            Escaped("<a href='x'>&\"é\0").to_string(),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;é\u{fffd}"
        );
    }

    #[test]
    fn keeps_what_comes_from_outside_apart_and_short() {
        assert_eq!(foreign("\u{202e}ab<", 3), "<bdi>\u{202e}ab…</bdi>");
        assert_eq!(foreign("é<", 2), "<bdi>é&lt;</bdi>");
    }

    #[test]
    fn tells_distances_in_the_unit_that_people_would_use() {
        for (seconds, text) in [
            (0, "now"),
            (-1, "1 s ago"),
            (119, "in 119 s"),
            (-120, "2 min ago"),
            (299, "in 5 min"),
            (7200, "in 2 h"),
            (-172_800, "2 days ago"),
        ] {
            assert_eq!(distance(seconds), text);
        }
    }

    #[test]
    fn tells_the_date_only_of_another_day() {
        let at = |seconds| Timestamp::from_milliseconds(seconds * 1000).unwrap();
        let noon = at(1_700_000_000 / 86_400 * 86_400 + 43_200);
        let html = "1 s ago <time datetime=\"2023-11-14T11:59:59Z\">11:59:59 UTC</time>";
        assert_eq!(time(at(seconds(noon) - 1), noon), html);
        let html = "24 h ago <time datetime=\"2023-11-13T12:00:00Z\">2023-11-13 12:00:00 UTC</time>";
        assert_eq!(time(at(seconds(noon) - 86_400), noon), html);
    }

    #[test]
    fn groups_digits() {
        assert_eq!([0, 999, 1000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(counted(1, "repository") + &counted(2000, "repository"), "1 repository2,000 repositories");
    }
}
