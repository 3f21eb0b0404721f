//! The page of what a source published, made as the exporter makes it.

use std::collections::HashSet;
use std::sync::Arc;

use container_registry_exporter::exposition::limit::{Selection, select};
use container_registry_exporter::exposition::page::Pages;
use container_registry_exporter::exposition::source_page::render;
use container_registry_exporter::inventory::Inventory;

/// What is on the page now, and how it came about.
#[derive(Default)]
pub struct Shown {
    inventory: Option<Arc<Inventory>>,
    selection: Selection,
    pages: Pages,
    text: String,
    /// The same with room for fewer series.
    limited: Selection,
}

impl Shown {
    /// Renders `inventory` on top of the page before, unless it is what the page shows. Whether it was new.
    pub fn render(&mut self, inventory: &Arc<Inventory>) -> bool {
        if self.inventory.as_ref().is_some_and(|shown| Arc::ptr_eq(shown, inventory)) {
            return false;
        }
        let source = &inventory.source.name;
        self.selection = select(inventory, None, &self.selection);
        let page = render(inventory, &self.selection, self.pages.source(source).as_deref());
        self.pages.set(source, Some(Arc::new(page)));
        self.text = String::from_utf8(self.pages.whole().to_vec()).expect("a page is text");
        self.inventory = Some(Arc::clone(inventory));
        true
    }

    /// Compares the page's series with `expected`, sorted lines.
    pub fn compare(&self, expected: &[String]) -> Result<(), String> {
        let mut shown: Vec<&str> = self.text.lines().filter(|line| !line.starts_with('#')).collect();
        shown.sort_unstable();
        if shown.iter().eq(expected) {
            return Ok(());
        }
        let wrong = shown.iter().filter(|line| expected.binary_search_by(|e| e.as_str().cmp(line)).is_err());
        let missing = expected.iter().filter(|line| shown.binary_search(&line.as_str()).is_err());
        let some = |lines: Vec<&str>| format!("{} such as {:#?}", lines.len(), &lines[..lines.len().min(5)]);
        Err(format!(
            "the page has {} lines instead of {}; wrong: {}; missing: {}",
            shown.len(),
            expected.len(),
            some(wrong.copied().collect()),
            some(missing.map(String::as_str).collect()),
        ))
    }

    /// Checks what a limit of `limit` series leaves of the page: no line more than that but those that nothing
    /// withholds, none that the whole page does not have, and what is withheld counted exactly.
    pub fn check_limit(&mut self, limit: u64) -> Result<(), String> {
        let Some(inventory) = &self.inventory else { return Ok(()) };
        self.limited = select(inventory, Some(limit), &self.limited);
        let pages = Pages::default();
        pages.set(&inventory.source.name, Some(Arc::new(render(inventory, &self.limited, None))));
        let text = String::from_utf8(pages.whole().to_vec()).expect("a page is text");
        let whole: HashSet<&str> = self.text.lines().collect();
        if let Some(line) = text.lines().find(|line| !whole.contains(line)) {
            return Err(format!("with a limit there is {line}"));
        }
        let always = |line: &&str| {
            ["up{", "source_", "organization_"].iter().any(|name| {
                line.strip_prefix("container_registry_").is_some_and(|rest| rest.starts_with(name))
            })
        };
        let series = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count() as u64;
        let least = |text: &str| text.lines().filter(always).count() as u64;
        let counts = self.limited.counts();
        let (served, withheld) = (series(&text), series(&self.text) - series(&text));
        if served > limit.max(least(&self.text)) || least(&text) != least(&self.text) {
            return Err(format!("with a limit of {limit} there are {served} series"));
        }
        if (counts.served.iter().sum(), counts.withheld.iter().sum()) != (served, withheld) {
            return Err(format!("{counts:?} are counted of {served} series and {withheld} withheld ones"));
        }
        Ok(())
    }

    /// The number of lines on the page.
    pub fn lines(&self) -> u64 {
        self.text.lines().count() as u64
    }
}
