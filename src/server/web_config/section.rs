//! Reading one mapping of the file, key by key. What is wrong is noted and then treated as absent, so that the walk
//! goes on. No message repeats a value, for it might be a secret.

use std::cell::RefCell;

use super::yaml::Node;
use crate::config::Problem;

/// What is wrong with the file.
#[derive(Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(super) fn add(&self, key: impl Into<String>, message: impl Into<String>) {
        self.0.borrow_mut().push(Problem { key: key.into(), message: message.into() });
    }

    pub(super) fn into_inner(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// A mapping and its path; one that is not in the file reads as empty.
pub(super) struct Section<'a> {
    path: String,
    entries: &'a [(String, Node)],
    problems: &'a Problems,
}

impl<'a> Section<'a> {
    /// The top of the tree.
    pub(super) fn root(node: &'a Node, problems: &'a Problems, known: &[&str]) -> Self {
        let entries = match node {
            Node::Nothing => &[][..],
            Node::Table(entries) => entries,
            Node::Text { .. } | Node::List(_) => {
                problems.add("web configuration", "must be a mapping with keys such as tls_server_config");
                &[]
            }
        };
        let root = Self { path: String::new(), entries, problems };
        root.refuse_unknown(known);
        root
    }

    /// The mapping `key`, which has no keys but `known`.
    pub(super) fn section(&self, key: &str, known: &[&str]) -> Self {
        let section = self.open(key);
        section.refuse_unknown(known);
        section
    }

    /// The mapping `key`, whatever its keys.
    pub(super) fn open(&self, key: &str) -> Self {
        let entries = match self.get(key) {
            Node::Nothing => &[][..],
            Node::Table(entries) => entries,
            Node::Text { .. } | Node::List(_) => {
                self.problem(key, "must be a mapping of keys to values");
                &[]
            }
        };
        Self { path: self.path_of(key), entries, problems: self.problems }
    }

    /// Whether it has no keys.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All keys, in the order of the file.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// Text; empty text is absent.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        match self.get(key) {
            Node::Text { text, .. } if !text.is_empty() => Some(text),
            Node::Text { .. } | Node::Nothing => None,
            Node::List(_) | Node::Table(_) => {
                self.problem(key, "must be text");
                None
            }
        }
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

    /// True or false, in all the words that YAML 1.1 has for them.
    pub(super) fn flag(&self, key: &str, default: bool) -> bool {
        let word = match self.get(key) {
            Node::Nothing => return default,
            Node::Text { text, plain: true } => text.as_str(),
            _ => "",
        };
        match word {
            "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => true,
            "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => false,
            _ => {
                self.problem(key, "must be true or false");
                default
            }
        }
    }

    /// A list of texts, each with its path; an absent list is `None`.
    pub(super) fn list(&self, key: &str) -> Option<Vec<(String, &'a str)>> {
        let items = match self.get(key) {
            Node::Nothing => return None,
            Node::List(items) => items,
            Node::Text { .. } | Node::Table(_) => {
                self.problem(key, "must be a list");
                return None;
            }
        };
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(key));
            match item {
                Node::Text { text, .. } => texts.push((path, text.as_str())),
                _ => self.problems.add(path, "must be text"),
            }
        }
        Some(texts)
    }

    /// Notes a problem with `key`.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        self.problems.add(self.path_of(key), message);
    }

    /// Notes a problem with an item of a list.
    pub(super) fn problem_at(&self, path: &str, message: impl Into<String>) {
        self.problems.add(path, message);
    }

    /// The path of `key`, which is quoted if it is not a plain word.
    pub(super) fn path_of(&self, key: &str) -> String {
        let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        let key = if plain { key.to_owned() } else { format!("{key:?}") };
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    fn get(&self, key: &str) -> &'a Node {
        self.entries.iter().find(|(name, _)| name == key).map_or(&Node::Nothing, |(_, node)| node)
    }

    fn refuse_unknown(&self, known: &[&str]) {
        for name in self.names().filter(|name| !known.contains(name)) {
            self.problem(name, format!("unknown key; known here: {}", known.join(", ")));
        }
    }
}
