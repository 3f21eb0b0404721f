//! Texts of the APIs as label values, and times as values.

use container_registry_exporter::exposition::encode::{
    MAX_LABEL_BYTES, Value, cut, label, may_collide, sample,
};
use container_registry_exporter::inventory::Timestamp;

/// A label is one line that says the text again, cut where it is too long.
pub fn run(data: &[u8]) {
    if let Some(bytes) = data.first_chunk()
        && let Some(time) = Timestamp::from_nanoseconds(i64::from_le_bytes(*bytes).into())
    {
        let mut line = Vec::new();
        sample(&mut line, "m", b"", Value::Time(time));
        assert_eq!(nanoseconds(&line), Some(time.nanoseconds()), "{}", String::from_utf8_lossy(&line));
    }
    let Ok(text) = str::from_utf8(data) else { return };
    let kept = cut(text);
    assert!(kept.len() <= MAX_LABEL_BYTES);
    assert!(kept == text || (may_collide(text) && text.starts_with(kept.trim_end_matches('…'))));
    let mut labels = Vec::new();
    label(&mut labels, "a", text);
    label(&mut labels, "b", text);
    let labels = String::from_utf8(labels).expect("what text becomes is text");
    let (first, rest) = value(labels.strip_prefix("a=\"").expect("it begins with the name"));
    let (second, rest) = value(rest.strip_prefix(",b=\"").expect("it goes on with the next"));
    assert_eq!((first.as_str(), second.as_str(), rest), (&*kept, &*kept, ""));
}

/// Reads an escaped label value, and what follows its closing quote.
fn value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next().expect("the value has an end") {
            '"' => return (value, characters.as_str()),
            '\\' => value.push(match characters.next() {
                Some('n') => '\n',
                Some(character @ ('\\' | '"')) => character,
                other => panic!("{other:?} is no escape"),
            }),
            '\n' => panic!("a label is one line"),
            other => value.push(other),
        }
    }
}

/// The value of a sample's line in nanoseconds.
fn nanoseconds(line: &[u8]) -> Option<i64> {
    let value = str::from_utf8(line).ok()?.strip_prefix("m{} ")?.strip_suffix('\n')?;
    let (seconds, fraction) = value.split_once('.').unwrap_or((value, ""));
    format!("{seconds}{fraction:0<9}").parse().ok()
}
