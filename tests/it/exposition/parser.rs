//! A strict reader of a page, written from the format's description.

use std::collections::BTreeMap;

/// Labels by name.
pub type Labels = BTreeMap<String, String>;

/// Reads a page of families, each with HELP, TYPE and at least one sample, and nothing else; panics at the first
/// mistake, a repeated family, series or label included. Gives every sample's text by name and labels.
pub fn parse(page: &str) -> BTreeMap<(String, Labels), String> {
    let mut samples = BTreeMap::new();
    let mut families: Vec<&str> = Vec::new();
    let mut lines = page.split_terminator('\n').peekable();
    assert!(page.is_empty() || page.ends_with('\n'));
    while let Some(help) = lines.next() {
        let (family, _) =
            help.strip_prefix("# HELP ").expect("a HELP line").split_once(' ').expect("a help text");
        let kind = lines.next().expect("a TYPE line");
        let (typed, kind) =
            kind.strip_prefix("# TYPE ").expect("a TYPE line").split_once(' ').expect("a type");
        assert_eq!(typed, family);
        assert!(matches!(kind, "gauge" | "counter" | "histogram"), "{kind}");
        assert!(!families.contains(&family), "{family} comes twice");
        families.push(family);
        assert!(lines.peek().is_some_and(|line| !line.starts_with('#')), "{family} has no sample");
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (name, labels, value) = sample(line);
            let of_family = name.strip_prefix(family).is_some_and(|suffix| match kind {
                "histogram" => matches!(suffix, "_bucket" | "_sum" | "_count"),
                // OpenMetrics names the family without it.
                "counter" => matches!(suffix, "" | "_total"),
                _ => suffix.is_empty(),
            });
            assert!(of_family, "{name} under {family}");
            assert!(samples.insert((name, labels), value).is_none(), "this series comes twice: {line}");
        }
    }
    samples
}

fn sample(line: &str) -> (String, Labels, String) {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).expect("an end of the name");
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").expect("a label");
            assert!(
                label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && !label.is_empty(),
                "{label}"
            );
            let (value, after) = quoted(after);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{label} comes twice: {line}");
            match after.split_at(1) {
                (",", more) => rest = more,
                ("}", more) => {
                    rest = more;
                    break;
                }
                _ => panic!("neither comma nor brace: {line}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').expect("a space before the value");
    assert!(!value.is_empty() && !value.contains(' '), "{line}");
    (name.to_owned(), labels, value.to_owned())
}

/// Reads up to the closing quote; gives the value and what follows the quote.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next().expect("a closing quote") {
            '"' => return (value, characters.as_str()),
            '\\' => value.push(match characters.next() {
                Some('\\') => '\\',
                Some('"') => '"',
                Some('n') => '\n',
                other => panic!("no such escape: {other:?}"),
            }),
            other => value.push(other),
        }
    }
}
