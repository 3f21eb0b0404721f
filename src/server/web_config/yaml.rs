//! YAML to a tree whose leaves are the text as it is written: what a leaf means depends on the key, as in the official
//! exporters, where `X-XSS-Protection: 1` is text and `http2: yes` is true.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use crate::config::Problem;

/// Nested deeper than this is no web configuration, which has four levels.
const DEEPEST: usize = 16;
/// Most nodes, those that stand for an alias included: aliases of aliases grow without end otherwise.
const MOST_NODES: usize = 20_000;

/// A node of the tree. It may hold secrets, so it is never printed.
#[derive(Clone)]
pub(super) enum Node {
    /// A key without a value.
    Nothing,
    /// Text as written; `plain` is whether it stands without quotes.
    Text { text: String, plain: bool },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file. No key is there twice.
    Table(Vec<(String, Node)>),
}

/// Reads one document.
///
/// Errors: the first place where it is no YAML, or none that can be honoured; nothing of the text is repeated.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    let mut tree = Tree::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| problem(*e.marker(), "is not valid YAML", e.info()))?;
        tree.take(event).map_err(|message| problem(span.start, "cannot be read", message))?;
    }
    Ok(tree.root.unwrap_or(Node::Nothing))
}

fn problem(place: Marker, what: &str, message: &str) -> Problem {
    let (line, column) = (place.line(), place.col() + 1);
    Problem {
        key: format!("web configuration, line {line}, column {column}"),
        message: format!("{what}: {message}"),
    }
}

/// The tree as far as it is built.
#[derive(Default)]
struct Tree {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

/// A list or mapping whose end was not seen yet, with the number of its anchor (0 = none).
enum Open {
    List(usize, Vec<Node>),
    Table(usize, Vec<(String, Node)>, Option<String>),
}

impl Tree {
    fn take(&mut self, event: Event<'_>) -> Result<(), &'static str> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => Err("there is a second document; keep one"),
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let node = match &*text {
                    "" | "~" | "null" | "Null" | "NULL" if plain => Node::Nothing,
                    _ => Node::Text { text: text.into_owned(), plain },
                };
                self.complete(node, anchor)
            }
            Event::SequenceStart(anchor, _) => self.begin(Open::List(anchor, Vec::new())),
            Event::MappingStart(anchor, _) => self.begin(Open::Table(anchor, Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(anchor, items)) => self.complete(Node::List(items), anchor),
                Some(Open::Table(anchor, entries, _)) => {
                    let entries = merge(entries)?;
                    self.complete(Node::Table(entries), anchor)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned().ok_or("the alias stands within its anchor")?;
                self.complete(node, 0)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open) -> Result<(), &'static str> {
        if self.open.len() >= DEEPEST {
            return Err("it is nested too deep");
        }
        self.open.push(open);
        Ok(())
    }

    /// Puts a node where it belongs.
    fn complete(&mut self, node: Node, anchor: usize) -> Result<(), &'static str> {
        self.nodes += count(&node);
        if self.nodes > MOST_NODES {
            return Err("it is too large");
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Table(_, entries, key)) => match (key.take(), node) {
                (Some(key), node) => entries.push((key, node)),
                (None, Node::Text { text, .. }) => {
                    if entries.iter().any(|(other, _)| *other == text) {
                        return Err("the key is there twice; remove one");
                    }
                    *key = Some(text);
                }
                (None, _) => return Err("the key is not text"),
            },
        }
        Ok(())
    }
}

fn count(node: &Node) -> usize {
    match node {
        Node::Nothing | Node::Text { .. } => 1,
        Node::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Node::Table(entries) => 1 + entries.iter().map(|(_, node)| count(node)).sum::<usize>(),
    }
}

/// Resolves the key `<<`, which brings in the keys of other mappings unless they are there already.
fn merge(mut entries: Vec<(String, Node)>) -> Result<Vec<(String, Node)>, &'static str> {
    let Some(at) = entries.iter().position(|(key, _)| key == "<<") else { return Ok(entries) };
    let tables = match entries.remove(at).1 {
        Node::List(items) => items,
        node => vec![node],
    };
    for table in tables {
        let Node::Table(merged) = table else { return Err("<< takes a mapping") };
        for (key, node) in merged {
            if !entries.iter().any(|(other, _)| *other == key) {
                entries.push((key, node));
            }
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree on one line.
    fn write(node: &Node) -> String {
        match node {
            Node::Nothing => "-".to_owned(),
            Node::Text { text, plain: true } => text.clone(),
            Node::Text { text, .. } => format!("{text:?}"),
            Node::List(items) => format!("[{}]", items.iter().map(write).collect::<Vec<_>>().join(" ")),
            Node::Table(entries) => {
                let entries = entries.iter().map(|(key, node)| format!("{key}={}", write(node)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
            }
        }
    }

    fn tree(text: &str) -> String {
        write(&parse(text).expect("valid YAML"))
    }

    fn error(text: &str) -> String {
        parse(text).err().expect("no valid YAML").to_string()
    }

    #[test]
    fn leaves_are_text_as_written() {
        assert_eq!(tree("a: 1\nb: 'yes'\nc:\n- 0x10\n- ~\nd: {}\n"), r#"{a=1 b="yes" c=[0x10 -] d={}}"#);
        assert_eq!(tree("# nothing\n"), "-");
        assert_eq!(tree("007: on"), "{007=on}");
    }

    #[test]
    fn anchors_aliases_and_merged_mappings_are_resolved() {
        assert_eq!(
            tree("a: &x {b: 1, c: 2}\nd: *x\ne: {<<: *x, b: 3}"),
            "{a={b=1 c=2} d={b=1 c=2} e={b=3 c=2}}"
        );
    }

    #[test]
    fn what_is_no_single_plain_document_is_refused_with_its_place() {
        for (text, expected) in [
            ("a: 1\na: 2", "line 2, column 1: cannot be read: the key is there twice; remove one"),
            ("a: 1\n---\nb: 2", "line 2, column 1: cannot be read: there is a second document; keep one"),
            ("{a: 1}: 2", "line 1, column 6: cannot be read: the key is not text"),
            ("a: &x [*x]", "line 1, column 8: cannot be read: the alias stands within its anchor"),
        ] {
            assert_eq!(error(text), format!("web configuration, {expected}"));
        }
        assert!(error("a: [").contains("is not valid YAML"));
        assert!(error(&"[ ".repeat(17)).contains("nested too deep"));
    }

    #[test]
    fn aliases_of_aliases_do_not_fill_the_memory() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..20 {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            text = format!("{text}a{level}: &a{level} [{below}]\n");
        }
        assert!(error(&text).contains("too large"));
    }
}
