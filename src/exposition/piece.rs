//! A stretch of page text together with its compressed form, and the cutting of a family's text into such.
//!
//! A gzip member may consist of a header, any number of raw deflate streams that end in a full flush (they end at
//! a byte and refer to nothing before them), a final block, and the checksum of the whole. So each piece is
//! compressed once, and a page is joined from pieces at the cost of copying.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress};

/// No piece of a family that goes on is shorter: shorter ones compress worse and cost more to write.
const MIN_BYTES: usize = 64 * 1024;
/// No piece is longer, but by one repository: the memory to build one in.
const MAX_BYTES: usize = 192 * 1024;
/// After the shortest length, the mean length to the next cut.
const MEAN_REST_BYTES: u64 = 64 * 1024;

/// A stretch of the page, in both forms.
#[derive(Clone, Debug)]
pub struct Piece {
    /// As text.
    pub text: Bytes,
    /// As raw deflate that ends in a full flush.
    pub deflated: Bytes,
    /// Checksum and length of the text.
    pub checksum: Hasher,
}

impl Piece {
    /// Compresses `text`.
    pub fn new(text: &[u8], deflater: &mut Deflater) -> Self {
        let mut checksum = Hasher::new();
        checksum.update(text);
        Self::with_checksum(text, checksum, deflater)
    }

    fn with_checksum(text: &[u8], checksum: Hasher, deflater: &mut Deflater) -> Self {
        Self {
            text: Bytes::copy_from_slice(text),
            deflated: Bytes::copy_from_slice(deflater.deflate(text)),
            checksum,
        }
    }
}

/// A compressor that is used again for piece after piece, as making one costs more than a small piece does.
pub struct Deflater {
    compress: Compress,
    output: Vec<u8>,
}

impl Deflater {
    /// Compresses at level 1: a tenth of the size at a fifth of the time of level 6.
    pub fn new() -> Self {
        Self { compress: Compress::new(Compression::fast(), false), output: Vec::new() }
    }

    fn deflate(&mut self, text: &[u8]) -> &[u8] {
        // It goes on where the text before ended: a full flush has forgotten that text.
        let start = self.compress.total_in();
        self.output.clear();
        self.output.reserve(text.len() / 8 + 64);
        loop {
            let consumed = self.compress.total_in() - start;
            let consumed = usize::try_from(consumed).expect("it is no longer than the text");
            self.compress
                .compress_vec(&text[consumed..], &mut self.output, FlushCompress::Full)
                .expect("compressing has no errors");
            // The flush is complete only if the output was not filled.
            if self.compress.total_in() - start == text.len() as u64
                && self.output.len() < self.output.capacity()
            {
                return &self.output;
            }
            self.output.reserve(self.output.len());
        }
    }
}

impl Default for Deflater {
    fn default() -> Self {
        Self::new()
    }
}

/// A family's text.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    /// In order.
    pub all: Vec<Arc<Piece>>,
    /// How many repositories each is about, those without series in it included.
    repositories: Vec<usize>,
}

/// Where a repository stood on the page before, and how many from it on followed each other there as they do now, all
/// unchanged; `length` is 0 for one that changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Its place among the repositories of the page before.
    pub at: usize,
    /// The repositories, itself included.
    pub length: usize,
    /// Whether the last of them is the last on the page.
    pub to_end: bool,
}

/// Cuts one family's text into pieces, at ends of repositories that their names choose: a repository that comes or
/// goes moves the cuts near it only, and all other pieces are those of the page before.
pub struct Cutter<'a> {
    text: Vec<u8>,
    pieces: Pieces,
    /// Repositories since the last cut.
    repositories: usize,
    /// Repositories that a piece taken over is still about.
    covered: usize,
    previous: &'a Pieces,
    by_checksum: HashMap<u32, &'a Arc<Piece>>,
    /// With which repository each of the previous pieces begins, and from which one on there was no text any more.
    starts: Vec<usize>,
    textless: usize,
}

impl<'a> Cutter<'a> {
    /// Starts a family that had the pieces `previous` on the page before.
    pub fn new(previous: &'a Pieces) -> Self {
        let by_checksum =
            previous.all.iter().map(|piece| (piece.checksum.clone().finalize(), piece)).collect();
        let mut textless = 0;
        let mut starts = Vec::with_capacity(previous.repositories.len());
        for repositories in &previous.repositories {
            starts.push(textless);
            textless += repositories;
        }
        let (text, pieces) = (Vec::new(), Pieces::default());
        Self { text, pieces, repositories: 0, covered: 0, previous, by_checksum, starts, textless }
    }

    /// Goes on to the next repository, and says whether there is nothing to append for it: the cutter is at the beginning
    /// of a previous piece all of whose repositories follow unchanged, or within it, or nothing was written before.
    pub fn takes_over(&mut self, run: Run) -> bool {
        if self.covered == 0 && run.length > 0 && run.at >= self.textless {
            self.repositories += 1;
            return true;
        }
        if self.covered == 0 && self.repositories == 0 && run.length > 0 {
            self.covered = self.take_piece(run).unwrap_or(0);
        }
        let covered = self.covered > 0;
        if covered {
            self.covered -= 1;
        } else {
            self.repositories += 1;
        }
        covered
    }

    fn take_piece(&mut self, run: Run) -> Option<usize> {
        let index = self.starts.binary_search(&run.at).ok()?;
        let repositories = self.previous.repositories[index];
        // The end of the page, and not a repository, cut the last one.
        let last = index + 1 == self.starts.len();
        let fits = if last { run.to_end && repositories == run.length } else { repositories <= run.length };
        fits.then(|| {
            self.pieces.all.push(Arc::clone(&self.previous.all[index]));
            self.pieces.repositories.push(repositories);
            repositories
        })
    }

    /// Appends what `write` writes of one repository, `hash` being a hash of the repository's name.
    pub fn append(&mut self, hash: u32, deflater: &mut Deflater, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        write(&mut self.text);
        let added = (self.text.len() - start) as u64;
        // The chance of a cut is in proportion to what the repository adds, and so does not depend on what came
        // before it.
        let chosen = u64::from(hash) * MEAN_REST_BYTES < added << 32;
        if self.text.len() >= MAX_BYTES || self.text.len() >= MIN_BYTES && chosen {
            self.cut(deflater);
        }
    }

    /// The pieces.
    pub fn finish(mut self, deflater: &mut Deflater) -> Pieces {
        if !self.text.is_empty() {
            self.cut(deflater);
        }
        self.pieces
    }

    fn cut(&mut self, deflater: &mut Deflater) {
        let text = &self.text;
        let mut checksum = Hasher::new();
        checksum.update(text);
        let known = self.by_checksum.get(&checksum.clone().finalize()).filter(|known| known.text == *text);
        let piece = match known {
            Some(known) => Arc::clone(known),
            None => Arc::new(Piece::with_checksum(text, checksum, deflater)),
        };
        self.pieces.all.push(piece);
        self.pieces.repositories.push(std::mem::take(&mut self.repositories));
        self.text.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::DeflateDecoder;

    use super::*;

    fn inflated(deflated: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        DeflateDecoder::new([deflated, &[3, 0]].concat().as_slice()).read_to_end(&mut text).unwrap();
        text
    }

    /// Bytes that do not compress.
    fn noise(length: u32) -> Vec<u8> {
        (0..length).map(|n| crc32fast::hash(&n.to_le_bytes()).to_le_bytes()[1]).collect()
    }

    #[test]
    fn compressed_text_ends_in_a_flush_and_reads_back() {
        let mut deflater = Deflater::new();
        for text in [b"x".to_vec(), b"same ".repeat(30_000), noise(100_000), noise(63), noise(64), noise(65)]
        {
            let piece = Piece::new(&text, &mut deflater);
            assert!(piece.deflated.ends_with(&[0, 0, 0xff, 0xff]));
            assert_eq!(inflated(&piece.deflated), text);
        }
    }

    /// The pieces of rows `name 0`, `name 1`, ... of about 1 KB each.
    fn cut(rows: &[String], previous: &[Arc<Piece>]) -> Vec<Arc<Piece>> {
        let mut deflater = Deflater::new();
        let previous = Pieces { all: previous.to_vec(), ..Pieces::default() };
        let mut cutter = Cutter::new(&previous);
        for row in rows {
            let hash = crc32fast::hash(row.as_bytes());
            cutter.append(hash, &mut deflater, |text| text.extend(format!("{row:>1023}\n").bytes()));
        }
        cutter.finish(&mut deflater).all
    }

    fn rows() -> Vec<String> {
        (0..3000).map(|n| format!("repository-{n}")).collect()
    }

    #[test]
    fn pieces_join_to_the_text_and_keep_to_their_sizes() {
        let pieces = cut(&rows(), &[]);
        let lengths: Vec<_> = pieces.iter().map(|p| p.text.len()).collect();
        assert_eq!(lengths.iter().sum::<usize>(), 3000 * 1024);
        let (_, all_but_last) = lengths.split_last().unwrap();
        assert!(all_but_last.iter().all(|l| (MIN_BYTES..=MAX_BYTES).contains(l)), "{lengths:?}");
    }

    #[test]
    fn shares_all_unchanged_pieces_when_a_repository_is_inserted() {
        let before = cut(&rows(), &[]);
        let mut rows = rows();
        rows.insert(1500, "new".to_owned());
        let after = cut(&rows, &before);
        let new = after.iter().filter(|piece| !before.iter().any(|old| Arc::ptr_eq(old, piece))).count();
        assert!(new <= 4, "{new} of {} pieces are new", after.len());
    }
}
