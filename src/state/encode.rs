//! A memory as the bytes of a snapshot file.
//!
//! ```text
//! "CRE-SNAP"     8 bytes
//! version        u32, VERSION; whatever follows may be different in another one
//! length         u64, of the whole file
//! identity      32 bytes, of the configuration
//! content        deflated; see the functions below
//! checksum       u32, CRC-32 of everything before it
//! ```
//!
//! Integers of fixed length are little endian. The content has numbers of seven bits per byte, the lowest first and the
//! top bit saying that more follow; text as its length and bytes; a list as its length and items; what may be missing
//! as 0, or 1 and the value; a time as nanoseconds in eight bytes. Names repeat a lot, and deflating makes that cheap.

use std::io::{self, BufWriter, Write as _};

use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::identity::Identity;
use crate::inventory::{Center, Repository, SharedRepository, Tag, TagInfo, TagSet, Timestamp};
use crate::scheduler::memory::{KnownListing, KnownRepositories, KnownRepository, KnownTags, Memory};
use crate::telemetry::Collector;

/// How a snapshot begins.
pub(super) const MAGIC: &[u8; 8] = b"CRE-SNAP";

/// To be raised with every change of the format or of what something in it means.
pub(super) const VERSION: u32 = 2;

/// Where the length stands.
pub(super) const LENGTH: std::ops::Range<usize> = 12..20;

/// Bytes before the content.
pub(super) const HEADER: usize = 52;

/// Bytes after the content.
pub(super) const CHECKSUM: usize = 4;

/// The kinds of tags by their number.
pub(super) const KINDS: [&str; 2] = ["manifest", "index"];

/// The file's bytes.
pub fn encode(memory: &Memory, identity: &Identity) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(identity);
    let deflate = DeflateEncoder::new(bytes, Compression::fast());
    let mut encoder = Encoder(BufWriter::with_capacity(64 * 1024, deflate));
    encoder.memory(memory)?;
    let deflate = encoder.0.into_inner().map_err(io::IntoInnerError::into_error)?;
    let mut bytes = deflate.finish()?;
    let length = (bytes.len() + CHECKSUM) as u64;
    bytes[LENGTH].copy_from_slice(&length.to_le_bytes());
    let checksum = crc32fast::hash(&bytes);
    bytes.extend(checksum.to_le_bytes());
    Ok(bytes)
}

struct Encoder(BufWriter<DeflateEncoder<Vec<u8>>>);

impl Encoder {
    fn memory(&mut self, memory: &Memory) -> io::Result<()> {
        let Memory { taken, repositories, shared, last_success } = memory;
        self.time(*taken)?;
        self.option(repositories.as_ref(), Self::repositories)?;
        self.option(shared.as_ref(), |encoder, (read, rows)| {
            encoder.time(*read)?;
            encoder.list(rows, Self::shared_repository)
        })?;
        self.list(last_success, |encoder, (collector, time)| {
            encoder.byte(collector_number(*collector))?;
            encoder.time(*time)
        })
    }

    fn repositories(&mut self, known: &KnownRepositories) -> io::Result<()> {
        let KnownRepositories { read, polls, listings } = known;
        self.time(*read)?;
        self.number(*polls)?;
        self.list(listings, |encoder, KnownListing { name, read, listed, rows }| {
            encoder.text(name)?;
            encoder.time(*read)?;
            encoder.number(*listed)?;
            encoder.list(rows, Self::known_repository)
        })
    }

    fn known_repository(&mut self, row: &KnownRepository) -> io::Result<()> {
        let KnownRepository { repository, due, failures, retry, tags } = row;
        self.repository(repository)?;
        self.optional_time(*due)?;
        self.number((*failures).into())?;
        self.number(*retry)?;
        self.option(tags.as_ref(), |encoder, known| {
            let KnownTags { tags, mismatch, read, fingerprint, downloads, unsettled } = known;
            encoder.tag_set(tags)?;
            encoder.byte((*mismatch < 0).into())?;
            encoder.number(mismatch.unsigned_abs())?;
            encoder.time(*read)?;
            encoder.optional_hash(*fingerprint)?;
            encoder.optional_number(*downloads)?;
            encoder.byte((*unsettled).into())
        })
    }

    fn repository(&mut self, repository: &Repository) -> io::Result<()> {
        let Repository { organization, name, size_bytes, images, downloads, created, .. } = repository;
        let Repository { updated, public, category, image, tag_names_hash, .. } = repository;
        self.text(organization)?;
        self.text(name)?;
        self.optional_number(*size_bytes)?;
        self.optional_number(*images)?;
        self.optional_number(*downloads)?;
        self.optional_time(*created)?;
        self.optional_time(*updated)?;
        self.optional_flag(*public)?;
        self.optional_text(category.as_deref())?;
        self.optional_text(image.as_deref())?;
        self.optional_hash(*tag_names_hash)
    }

    fn shared_repository(&mut self, row: &SharedRepository) -> io::Result<()> {
        let SharedRepository { center, organization, name, size_bytes, images, .. } = row;
        let SharedRepository { downloads, updated, valid, owner_account, category, .. } = row;
        self.byte(match center {
            Center::Own => 0,
            Center::ThirdParty => 1,
        })?;
        self.text(organization)?;
        self.text(name)?;
        self.optional_number(*size_bytes)?;
        self.optional_number(*images)?;
        self.optional_number(*downloads)?;
        self.optional_time(*updated)?;
        self.optional_flag(*valid)?;
        self.optional_text(owner_account.as_deref())?;
        self.optional_text(category.as_deref())
    }

    fn tag_set(&mut self, set: &TagSet) -> io::Result<()> {
        let TagSet { images, last_push, newest } = set;
        self.optional_number(*images)?;
        self.optional_time(*last_push)?;
        self.list(newest, Self::tag)
    }

    fn tag(&mut self, tag: &Tag) -> io::Result<()> {
        let Tag { name, size_bytes, created, updated, last_pulled, info } = tag;
        self.text(name)?;
        self.optional_number(*size_bytes)?;
        self.optional_time(*created)?;
        self.optional_time(*updated)?;
        self.optional_time(*last_pulled)?;
        self.option(info.as_deref(), |encoder, TagInfo { digest, kind }| {
            encoder.optional_text(digest.as_deref())?;
            let number = kind.and_then(|kind| (0..).zip(KINDS).find(|(_, known)| *known == kind));
            encoder.option(number.as_ref(), |encoder, (number, _)| encoder.byte(*number))
        })
    }

    fn option<T>(
        &mut self,
        value: Option<&T>,
        write: impl FnOnce(&mut Self, &T) -> io::Result<()>,
    ) -> io::Result<()> {
        self.byte(value.is_some().into())?;
        value.map_or(Ok(()), |value| write(self, value))
    }

    fn list<T>(
        &mut self,
        items: &[T],
        mut write: impl FnMut(&mut Self, &T) -> io::Result<()>,
    ) -> io::Result<()> {
        self.number(items.len() as u64)?;
        for item in items {
            write(self, item)?;
        }
        Ok(())
    }

    fn optional_number(&mut self, number: Option<u64>) -> io::Result<()> {
        self.option(number.as_ref(), |encoder, number| encoder.number(*number))
    }

    fn optional_hash(&mut self, hash: Option<u64>) -> io::Result<()> {
        self.option(hash.as_ref(), |encoder, hash| encoder.0.write_all(&hash.to_le_bytes()))
    }

    fn optional_time(&mut self, time: Option<Timestamp>) -> io::Result<()> {
        self.option(time.as_ref(), |encoder, time| encoder.time(*time))
    }

    fn optional_flag(&mut self, flag: Option<bool>) -> io::Result<()> {
        self.option(flag.as_ref(), |encoder, flag| encoder.byte((*flag).into()))
    }

    fn optional_text(&mut self, text: Option<&str>) -> io::Result<()> {
        self.option(text.as_ref(), |encoder, text| encoder.text(text))
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        self.number(text.len() as u64)?;
        self.0.write_all(text.as_bytes())
    }

    fn time(&mut self, time: Timestamp) -> io::Result<()> {
        self.0.write_all(&time.nanoseconds().to_le_bytes())
    }

    fn number(&mut self, mut number: u64) -> io::Result<()> {
        while number >= 0x80 {
            self.byte(number.to_le_bytes()[0] | 0x80)?;
            number >>= 7;
        }
        self.byte(number.to_le_bytes()[0])
    }

    fn byte(&mut self, byte: u8) -> io::Result<()> {
        self.0.write_all(&[byte])
    }
}

fn collector_number(collector: Collector) -> u8 {
    match collector {
        Collector::Repositories => 0,
        Collector::SharedRepositories => 1,
        Collector::Tags => 2,
    }
}
