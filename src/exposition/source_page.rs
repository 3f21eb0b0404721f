//! Renders one source's series, family by family.

use std::sync::Arc;

use super::distinct;
use super::encode::{Value, label, sample};
use super::families::{FAMILIES, Family, Rows};
use super::limit::{Counts, Selection};
use super::piece::{Cutter, Deflater, Piece};
use crate::inventory::{Inventory, Tag};

/// All series of one source, rendered and compressed.
#[derive(Clone, Debug)]
pub struct SourcePage {
    /// For each of [`FAMILIES`], its series.
    pub(super) families: Vec<Vec<Arc<Piece>>>,
    /// How many series there are, and how many the limit keeps off.
    pub counts: Counts,
}

/// Renders what `selection`, chosen for this very `inventory`, serves. Pieces that were the same in `previous` are
/// shared with it.
///
/// Takes about 30 ns per series and 250 ns more for each that must be compressed: not for an async worker.
pub fn render(inventory: &Inventory, selection: &Selection, previous: Option<&SourcePage>) -> SourcePage {
    let mut renderer = Renderer::new(previous);
    let mut of_source = Vec::new();
    label(&mut of_source, "source", inventory.source.name.as_str());
    renderer.append(&of_source, |family, text| {
        if let Rows::Source(value) = family.rows {
            series(text, family, &of_source, value(inventory));
        }
    });
    let mut labels = Vec::new();
    for (organization, totals) in inventory.repositories.iter().flat_map(|r| distinct::organizations(r)) {
        labels.clone_from(&of_source);
        label(&mut labels, "organization", organization);
        renderer.append(&labels, |family, text| {
            if let Rows::Organization(value) = family.rows {
                series(text, family, &labels, value(&totals));
            }
        });
    }
    let mut tags: Vec<(Vec<u8>, &Tag)> = Vec::new();
    for entry in selection.repositories() {
        labels.clone_from(&of_source);
        label(&mut labels, "organization", &entry.repository.organization);
        label(&mut labels, "repository", &entry.repository.name);
        tags.clear();
        tags.extend(selection.tags(entry).map(|tag| {
            let mut labels = labels.clone();
            label(&mut labels, "tag", &tag.name);
            (labels, tag)
        }));
        renderer.append(&labels, |family, text| match family.rows {
            Rows::Repository(value) => series(text, family, &labels, value(entry)),
            Rows::Tag(value) => {
                for (labels, tag) in &tags {
                    series(text, family, labels, value(tag));
                }
            }
            Rows::Source(_) | Rows::Organization(_) | Rows::Shared(_) => {}
        });
    }
    for shared in selection.shared() {
        labels.clone_from(&of_source);
        label(&mut labels, "center", shared.center.as_str());
        label(&mut labels, "organization", &shared.organization);
        label(&mut labels, "repository", &shared.name);
        renderer.append(&labels, |family, text| {
            if let Rows::Shared(value) = family.rows {
                series(text, family, &labels, value(shared));
            }
        });
    }
    SourcePage { families: renderer.finish(), counts: selection.counts() }
}

/// Appends a series, if there is a value.
fn series(text: &mut Vec<u8>, family: &Family, labels: &[u8], value: Option<Value<'_>>) {
    if let Some(value) = value {
        sample(text, family.name, labels, value);
    }
}

/// Every family's text in the making: one pass over the inventory writes them all.
struct Renderer<'a> {
    deflater: Deflater,
    cutters: Vec<Cutter<'a>>,
}

impl<'a> Renderer<'a> {
    fn new(previous: Option<&'a SourcePage>) -> Self {
        let previous = |family: usize| previous.map_or(&[][..], |page| &page.families[family]);
        let cutters = (0..FAMILIES.len()).map(|family| Cutter::new(previous(family))).collect();
        Self { deflater: Deflater::new(), cutters }
    }

    /// Appends to every family what `write` writes of the thing that has `labels`.
    fn append(&mut self, labels: &[u8], write: impl Fn(&Family, &mut Vec<u8>)) {
        let hash = crc32fast::hash(labels);
        for (cutter, family) in self.cutters.iter_mut().zip(&FAMILIES) {
            cutter.append(hash, &mut self.deflater, |text| write(family, text));
        }
    }

    fn finish(mut self) -> Vec<Vec<Arc<Piece>>> {
        self.cutters.into_iter().map(|cutter| cutter.finish(&mut self.deflater)).collect()
    }
}
