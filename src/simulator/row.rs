//! Writing one JSON object field by field into the page's buffer.

use super::world::Overrides;
use serde::Serialize;

/// An object under construction. Each field may be replaced or left out by the overrides; those that match no field
/// are added at the end.
pub(super) struct Row<'a> {
    out: &'a mut Vec<u8>,
    overrides: &'a Overrides,
    written: Vec<&'static str>,
    empty: bool,
}

impl<'a> Row<'a> {
    pub fn new(out: &'a mut Vec<u8>, overrides: &'a Overrides) -> Self {
        out.push(b'{');
        Self { out, overrides, written: Vec::new(), empty: true }
    }

    /// A field with anything serde can write.
    pub fn field(&mut self, name: &'static str, value: &(impl Serialize + ?Sized)) -> &mut Self {
        if self.begin(name) {
            write(self.out, value);
        }
        self
    }

    /// A field whose value is JSON already.
    pub fn json(&mut self, name: &'static str, value: &[u8]) -> &mut Self {
        if self.begin(name) {
            self.out.extend_from_slice(value);
        }
        self
    }

    /// Writes the field's name; false if the overrides gave the value or left the field out.
    fn begin(&mut self, name: &'static str) -> bool {
        // The usual row has no overrides and allocates nothing here.
        if !self.overrides.is_empty() {
            self.written.push(name);
            match self.overrides.get(name) {
                Some(Some(value)) => {
                    self.name(name);
                    write(self.out, value);
                    return false;
                }
                Some(None) => return false,
                None => {}
            }
        }
        self.name(name);
        true
    }

    fn name(&mut self, name: &str) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        write(self.out, name);
        self.out.push(b':');
    }

    pub fn end(&mut self) {
        for (name, value) in self.overrides {
            if let Some(value) = value
                && !self.written.contains(&name.as_str())
            {
                self.name(name);
                write(self.out, value);
            }
        }
        self.out.push(b'}');
    }
}

/// Appends a value as JSON.
pub(super) fn write(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("plain values are JSON and a Vec takes all");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn overrides_replace_remove_and_add_fields() {
        let overrides: Overrides = [
            ("size".to_owned(), Some(json!("large"))),
            ("name".to_owned(), None),
            ("surprise".to_owned(), Some(json!(null))),
        ]
        .into();
        let mut out = Vec::new();
        Row::new(&mut out, &overrides).field("name", "a").field("size", &1).field("tags", &["x\""]).end();
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"size":"large","tags":["x\""],"surprise":null}"#);
    }
}
