//! The whole page, joined from pieces, ready to be written as it is.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use crc32fast::Hasher;

use super::families::FAMILIES;
use super::piece::{Deflater, Piece};
use super::source_page::SourcePage;
use crate::inventory::SourceName;

/// Pieces below this length are copied together, so that many small families do not become many small writes.
const SMALL_BYTES: usize = 16 * 1024;
/// Length from which a copy of small pieces is closed: few, and few system calls.
const FRAME_BYTES: usize = 256 * 1024;
/// The fixed header of a gzip member: deflate, no name, no time, fastest compression, system unknown.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff];
/// An empty final block of deflate.
const FINAL_BLOCK: [u8; 2] = [3, 0];

/// HELP and TYPE of every family.
static HEADS: LazyLock<Vec<Piece>> = LazyLock::new(|| {
    let mut deflater = Deflater::new();
    let head = |name, help| format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
    FAMILIES.iter().map(|f| Piece::new(head(f.name, f.help).as_bytes(), &mut deflater)).collect()
});

/// The sources' pages and the page that they make together. One task writes, everybody reads.
#[derive(Default)]
pub struct Pages {
    current: Mutex<Current>,
}

#[derive(Clone, Default)]
struct Current {
    sources: BTreeMap<SourceName, Arc<SourcePage>>,
    page: Arc<Page>,
}

impl Pages {
    /// Puts one source's page in place of its old one, or takes it away.
    ///
    /// Joins the whole page anew: not for an async worker. Only one task may call it, else changes get lost.
    pub fn set(&self, source: &SourceName, page: Option<Arc<SourcePage>>) {
        let mut current = self.current();
        match page {
            Some(page) => drop(current.sources.insert(source.clone(), page)),
            None => drop(current.sources.remove(source)),
        }
        let sources: Vec<_> = current.sources.values().map(|page| &**page).collect();
        current.page = Arc::new(Page::join(&sources));
        // The old page is freed after the lock is released.
        let _old = std::mem::replace(&mut *self.lock(), current);
    }

    /// The page of all sources.
    pub fn whole(&self) -> Arc<Page> {
        Arc::clone(&self.lock().page)
    }

    /// The page of some sources; one that has none yet adds nothing.
    pub fn of(&self, sources: &[SourceName]) -> Page {
        let current = self.current();
        let wanted = current.sources.iter().filter(|(name, _)| sources.contains(name));
        Page::join(&wanted.map(|(_, page)| &**page).collect::<Vec<_>>())
    }

    /// One source's page, once there is one.
    pub fn source(&self, name: &SourceName) -> Option<Arc<SourcePage>> {
        self.lock().sources.get(name).cloned()
    }

    /// The sources that have a page.
    pub fn sources(&self) -> Vec<SourceName> {
        self.lock().sources.keys().cloned().collect()
    }

    fn current(&self) -> Current {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        // Nothing under the lock can leave a half-made value behind.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All inventory families of some sources.
#[derive(Clone, Debug)]
pub struct Page {
    text: Arc<[Bytes]>,
    gzip: Arc<[Bytes]>,
    checksum: Hasher,
}

impl Default for Page {
    /// The page of no source.
    fn default() -> Self {
        Self::join(&[])
    }
}

/// A page to write: frames that all answers share, and a tail of this answer's own.
#[derive(Clone, Debug)]
pub struct Frames {
    shared: Arc<[Bytes]>,
    tail: [Bytes; 2],
}

impl Page {
    /// Joins the pages of sources that are given in order of their names. A family without series is left out.
    pub fn join(sources: &[&SourcePage]) -> Self {
        let mut text = Joiner::default();
        let mut gzip = Joiner::default();
        gzip.push(&Bytes::from_static(&GZIP_HEADER));
        let mut checksum = Hasher::new();
        for (family, head) in HEADS.iter().enumerate() {
            let mut pieces = sources.iter().flat_map(|source| source.family(family)).peekable();
            let head = pieces.peek().is_some().then_some(head);
            for piece in head.into_iter().chain(pieces.map(|piece| &**piece)) {
                text.push(&piece.text);
                gzip.push(&piece.deflated);
                checksum.combine(&piece.checksum);
            }
        }
        Self { text: text.finish(), gzip: gzip.finish(), checksum }
    }

    /// The page alone, as text.
    pub fn to_vec(&self) -> Vec<u8> {
        self.text.concat()
    }

    /// The page with `live` at its end, as text.
    pub fn text(&self, live: &Piece) -> Frames {
        Frames { shared: Arc::clone(&self.text), tail: [live.text.clone(), Bytes::new()] }
    }

    /// The page with `live` at its end, as one gzip member.
    pub fn gzip(&self, live: &Piece) -> Frames {
        let mut checksum = self.checksum.clone();
        checksum.combine(&live.checksum);
        #[expect(clippy::cast_possible_truncation, reason = "the format wants the length modulo 2^32")]
        let length = checksum.total_len() as u32;
        let mut end = FINAL_BLOCK.to_vec();
        end.extend(checksum.finalize().to_le_bytes());
        end.extend(length.to_le_bytes());
        Frames { shared: Arc::clone(&self.gzip), tail: [live.deflated.clone(), end.into()] }
    }
}

impl Frames {
    /// The frame at `index`, in order; `None` after the last.
    pub fn get(&self, index: usize) -> Option<&Bytes> {
        self.shared.get(index).or_else(|| self.tail.get(index - self.shared.len()))
    }

    /// Length of all frames.
    pub fn length(&self) -> u64 {
        self.shared.iter().chain(&self.tail).map(|frame| frame.len() as u64).sum()
    }
}

impl From<String> for Frames {
    fn from(text: String) -> Self {
        Self { shared: Arc::default(), tail: [text.into(), Bytes::new()] }
    }
}

/// Frames in the making.
#[derive(Default)]
struct Joiner {
    frames: Vec<Bytes>,
    small: Vec<u8>,
}

impl Joiner {
    fn push(&mut self, piece: &Bytes) {
        if piece.len() < SMALL_BYTES {
            self.small.extend_from_slice(piece);
            if self.small.len() >= FRAME_BYTES {
                self.flush();
            }
        } else {
            self.flush();
            self.frames.push(piece.clone());
        }
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.frames.push(Bytes::copy_from_slice(&self.small));
            self.small.clear();
        }
    }

    fn finish(mut self) -> Arc<[Bytes]> {
        self.flush();
        self.frames.into()
    }
}
