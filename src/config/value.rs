//! Reading one table of the tree, key by key. A value of the wrong type is noted as a problem and then treated as
//! absent, so that the walk goes on. No message repeats a value.

use std::ops::RangeInclusive;
use std::time::Duration;

use ::config::{Value, ValueKind};
use regex::Regex;

use super::Filter;
use super::duration;
use super::keys::Key;
use super::layers::Entries;
use super::problem::Problems;

/// A table and its path; one that is not in the file reads as empty.
pub(super) struct Table<'a> {
    path: String,
    entries: Option<&'a Entries>,
    problems: &'a Problems,
}

impl<'a> Table<'a> {
    /// The top of the tree.
    pub(super) fn root(entries: &'a Entries, problems: &'a Problems) -> Self {
        Self { path: String::new(), entries: Some(entries), problems }
    }

    /// Whether the table is in the file.
    pub(super) fn is_present(&self) -> bool {
        self.entries.is_some()
    }

    /// Whether `key` is set; empty text counts as not set.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some_and(|v| !matches!(&v.kind, ValueKind::String(text) if text.is_empty()))
    }

    /// All keys, sorted.
    pub(super) fn names(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> =
            self.entries.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// The variable that set `key`, if one did.
    pub(super) fn variable_of(&self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(Value::origin)
    }

    /// Notes a problem with `key`, naming the variable that set it, if one did.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        let mut path = self.path_of(key);
        if let Some(variable) = self.variable_of(key) {
            path = format!("{path} ({variable})");
        }
        self.problems.add(path, message);
    }

    /// Notes every key that is not among `known`.
    pub(super) fn refuse_unknown(&self, known: &[Key]) {
        for name in self.names() {
            if !known.iter().any(|key| key.name == name) {
                let known: Vec<&str> = known.iter().map(|key| key.name).collect();
                self.problem(name, format!("unknown key; known here: {}", known.join(", ")));
            }
        }
    }

    /// A table within this one. Its keys are checked by [`Table::refuse_unknown`] against `known`.
    pub(super) fn table(&self, key: &str, known: &[Key]) -> Table<'a> {
        let table = self.open(key);
        table.refuse_unknown(known);
        table
    }

    /// A table within this one, whatever its keys.
    pub(super) fn open(&self, key: &str) -> Table<'a> {
        let entries = match self.get(key).map(|v| &v.kind) {
            None => None,
            Some(ValueKind::Table(entries)) => Some(entries),
            Some(other) => {
                self.wrong_type(key, "a table", other);
                None
            }
        };
        Table { path: self.path_of(key), entries, problems: self.problems }
    }

    /// Text in one line; empty text is absent.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        match &self.get(key)?.kind {
            ValueKind::String(text) if text.is_empty() => None,
            ValueKind::String(text) if text.chars().any(char::is_control) => {
                self.problem(key, "must not contain line breaks or other control characters");
                None
            }
            ValueKind::String(text) => Some(text),
            other => {
                self.wrong_type(key, "text in quotes", other);
                None
            }
        }
    }

    /// Text that must be there: if it is absent, that is a problem, of which `cure` tells the way out.
    pub(super) fn required_text(&self, key: &str, cure: &str) -> Option<&'a str> {
        if !self.has(key) {
            self.problem(key, format!("is missing; {cure}"));
            return None;
        }
        self.text(key)
    }

    /// Whether `key` is exactly the text `word`.
    pub(super) fn is_word(&self, key: &str, word: &str) -> bool {
        self.get(key).is_some_and(|v| matches!(&v.kind, ValueKind::String(text) if text == word))
    }

    /// One of `words`, which come with what they mean.
    pub(super) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.problem(key, format!("must be one of {}", words.join(", ")));
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        let value = self.get(key)?;
        let flag = match &value.kind {
            ValueKind::Boolean(flag) => Some(*flag),
            ValueKind::String(text) if value.origin().is_some() => text.parse().ok(),
            _ => None,
        };
        if flag.is_none() {
            self.wrong_type(key, "true or false", &value.kind);
        }
        flag
    }

    /// A whole number within `range`.
    pub(super) fn integer(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        self.integer_called(key, range, "a whole number")
    }

    /// As [`Table::integer`]; `expected` says what else the key takes.
    pub(super) fn integer_called(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
        expected: &str,
    ) -> Option<u64> {
        let value = self.get(key)?;
        let number = match &value.kind {
            ValueKind::I64(number) => Some(*number),
            ValueKind::String(text) if value.origin().is_some() => text.parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            self.wrong_type(key, expected, &value.kind);
            return None;
        };
        let number = u64::try_from(number).ok().filter(|n| range.contains(n));
        if number.is_none() {
            let (least, most) = range.into_inner();
            let most = if most == u64::MAX { "up".to_owned() } else { format!("to {most}") };
            self.problem(key, format!("must be a whole number from {least} {most}"));
        }
        number
    }

    /// A number, whole or not.
    pub(super) fn number(&self, key: &str) -> Option<f64> {
        let value = self.get(key)?;
        let number = match &value.kind {
            ValueKind::Float(number) => Some(*number),
            #[expect(clippy::cast_precision_loss, reason = "no limit on a rate needs 53 bits")]
            ValueKind::I64(number) => Some(*number as f64),
            ValueKind::String(text) if value.origin().is_some() => text.parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.wrong_type(key, "a number", &value.kind);
        }
        number
    }

    /// A duration of at least `least`.
    pub(super) fn duration(&self, key: &str, least: Duration) -> Option<Duration> {
        let value = self.get(key)?;
        let ValueKind::String(text) = &value.kind else {
            self.wrong_type(key, "a duration such as \"30s\"", &value.kind);
            return None;
        };
        let Some(duration) = duration::parse(text) else {
            self.problem(
                key,
                "must be one whole number with ms, s, m, h or d, such as \"30s\", at most 3650d",
            );
            return None;
        };
        if duration < least {
            self.problem(key, format!("must be at least {}", duration::write(least)));
            return None;
        }
        Some(duration)
    }

    /// A list of texts, none of them empty or there twice, each with its path; an absent list is `None`.
    pub(super) fn list(&self, key: &str) -> Option<Vec<(String, &'a str)>> {
        let items = match &self.get(key)?.kind {
            ValueKind::Array(items) => items,
            other => {
                self.wrong_type(key, "a list of texts such as [\"a\", \"b\"]", other);
                return None;
            }
        };
        let mut texts: Vec<(String, &str)> = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(key));
            match &item.kind {
                ValueKind::String(text) if text.is_empty() => self.problems.add(path, "is empty; remove it"),
                ValueKind::String(text) if texts.iter().any(|(_, other)| other == text) => {
                    self.problems.add(path, "is in the list twice; remove it");
                }
                ValueKind::String(text) => texts.push((path, text)),
                other => self.problems.add(path, format!("must be text in quotes, not {}", describe(other))),
            }
        }
        Some(texts)
    }

    /// Names, each to be used as one segment of an address.
    pub(super) fn name_list(&self, key: &str) -> Vec<String> {
        let mut names = Vec::new();
        for (path, name) in self.list(key).unwrap_or_default() {
            if is_name(name) {
                names.push(name.to_owned());
            } else {
                self.problems.add(path, "is no valid name: it must not contain / or spaces");
            }
        }
        names
    }

    /// The regular expressions `include` and `exclude`, each anchored at both ends.
    pub(super) fn filter(&self) -> Filter {
        let read = |key| {
            let mut expressions = Vec::new();
            for (path, pattern) in self.list(key).unwrap_or_default() {
                match anchored(pattern) {
                    Ok(expression) => expressions.push(expression),
                    Err(message) => self.problems.add(path, message),
                }
            }
            expressions
        };
        Filter { include: read("include"), exclude: read("exclude") }
    }

    /// The path of `key`; names that TOML would quote are quoted.
    pub(super) fn path_of(&self, key: &str) -> String {
        let bare =
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        let key = if bare { key.to_owned() } else { format!("{key:?}") };
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    /// Notes a problem with an item of a list or another path that is not simply a key of this table.
    pub(super) fn problem_at(&self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.add(path, message);
    }

    /// The value of `key` as it is.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.entries?.get(key)
    }

    fn wrong_type(&self, key: &str, expected: &str, found: &ValueKind) {
        // The environment has no types: there the text just does not read as one.
        if self.get(key).and_then(Value::origin).is_some() {
            self.problem(key, format!("must be {expected}"));
        } else {
            self.problem(key, format!("must be {expected}, not {}", describe(found)));
        }
    }
}

/// Whether `name` can be one segment of an address: `.` and `..` would be resolved there.
pub(super) fn is_name(name: &str) -> bool {
    let forbidden = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    !name.is_empty() && name != "." && name != ".." && !name.contains(forbidden)
}

fn describe(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "a whole number",
        ValueKind::Float(_) => "a number with decimals",
        ValueKind::String(_) => "text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    }
}

fn anchored(pattern: &str) -> Result<Regex, String> {
    // By itself first: `a)|(b` would be valid only because of what is put around it.
    let compiled = Regex::new(pattern).and_then(|_| Regex::new(&format!("^(?:{pattern})$")));
    compiled.map_err(|e| {
        // The full message repeats the expression, over several lines.
        let text = e.to_string();
        let reason = text.rsplit("error: ").next().filter(|_| text.contains("error: "));
        format!("is no valid regular expression: {}", reason.unwrap_or("it is too large").trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_match_whole_names() {
        let expression = anchored("a|b").unwrap();
        assert!(expression.is_match("a") && expression.is_match("b"));
        assert!(!expression.is_match("ab") && !expression.is_match("a\n"));
    }

    #[test]
    fn an_expression_cannot_escape_its_anchors() {
        assert!(anchored("a)|(?:b").is_err());
        assert!(anchored("(?x) a # comment").is_err());
    }

    #[test]
    fn a_bad_expression_is_not_repeated() {
        assert_eq!(anchored("hunter2(").unwrap_err(), "is no valid regular expression: unclosed group");
    }

    #[test]
    fn names_are_single_segments() {
        assert!(is_name("group") && is_name("a.b_c-d"));
        for name in ["", ".", "..", "a/b", "a b", "a\n"] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
