//! The bytes of a snapshot file as a memory: believed only after they have proved to be whole, and even then not
//! trusted with more memory than a real one takes.

use std::io::{BufReader, Read as _};
use std::sync::Arc;

use flate2::bufread::DeflateDecoder;

use super::encode::{CHECKSUM, HEADER, KINDS, LENGTH, MAGIC, VERSION};
use super::identity::Identity;
use crate::inventory::{Center, Repository, SharedRepository, Tag, TagInfo, TagSet, Timestamp};
use crate::scheduler::memory::{KnownListing, KnownRepositories, KnownRepository, KnownTags, Memory};
use crate::telemetry::Collector;

/// Why a file's content is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It begins otherwise.
    #[error("is no snapshot")]
    Foreign,
    /// An older or newer version of the exporter made it.
    #[error("has the format {0}, and this version of the exporter reads {VERSION}")]
    Version(u32),
    /// Its length or checksum is wrong.
    #[error("is torn or damaged")]
    Damaged,
    /// The source was configured to read other things.
    #[error("was made with another configuration of the source")]
    OtherConfiguration,
    /// Whole, but what it says cannot be.
    #[error("makes no sense: {0}")]
    Senseless(&'static str),
}

/// What is decoded may take so many bytes of memory, and so many more for every byte of the file: the times and sizes
/// of real content keep it from shrinking to a sixty-fourth.
const BUDGET: (u64, u64) = (64 << 20, 64);

/// Long texts make room as they come, piece by piece.
const PIECE: usize = 4096;

/// What a file says if `identity` is that of the configuration that it was made with.
pub fn decode(bytes: &[u8], identity: &Identity) -> Result<Memory, DecodeError> {
    if !bytes.starts_with(MAGIC) {
        return Err(DecodeError::Foreign);
    }
    let fixed = |range: std::ops::Range<usize>| bytes.get(range).ok_or(DecodeError::Damaged);
    let version = fixed(MAGIC.len()..LENGTH.start)?.try_into().map(u32::from_le_bytes);
    let version = version.map_err(|_| DecodeError::Damaged)?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let length = (bytes.len() as u64).to_le_bytes();
    let (whole, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(DecodeError::Damaged)?;
    if fixed(LENGTH)? != length || crc32fast::hash(whole) != u32::from_le_bytes(*checksum) {
        return Err(DecodeError::Damaged);
    }
    let (header, content) = whole.split_at_checked(HEADER).ok_or(DecodeError::Damaged)?;
    if header[LENGTH.end..] != *identity {
        return Err(DecodeError::OtherConfiguration);
    }
    let input = BufReader::with_capacity(64 * 1024, DeflateDecoder::new(content));
    let mut decoder = Decoder { input, budget: BUDGET.0 + BUDGET.1 * bytes.len() as u64 };
    let memory = decoder.memory()?;
    // Also proves that the deflated content is whole.
    let mut rest = [0];
    match decoder.input.read(&mut rest) {
        Ok(0) => Ok(memory),
        _ => Err(DecodeError::Senseless("it does not end where it should")),
    }
}

struct Decoder<'a> {
    input: BufReader<DeflateDecoder<&'a [u8]>>,
    /// How much memory may still be taken.
    budget: u64,
}

impl Decoder<'_> {
    fn memory(&mut self) -> Result<Memory, DecodeError> {
        Ok(Memory {
            taken: self.time()?,
            repositories: self.option(Self::repositories)?,
            shared: self.option(|decoder| {
                let read = decoder.time()?;
                let rows = decoder.list(Self::shared_repository)?;
                ascending(rows.is_sorted_by(|a, b| shared_key(a) < shared_key(b)))?;
                Ok((read, rows.into()))
            })?,
            last_success: self.list(|decoder| Ok((decoder.collector()?, decoder.time()?)))?,
        })
    }

    fn repositories(&mut self) -> Result<KnownRepositories, DecodeError> {
        let known = KnownRepositories {
            read: self.time()?,
            polls: self.number()?,
            listings: self.list(Self::known_listing)?,
        };
        ascending(known.listings.is_sorted_by(|a, b| a.name < b.name))?;
        Ok(known)
    }

    fn known_listing(&mut self) -> Result<KnownListing, DecodeError> {
        let known = KnownListing {
            name: self.text()?,
            read: self.time()?,
            listed: self.number()?,
            rows: self.list(Self::known_repository)?,
        };
        ascending(known.rows.is_sorted_by(|a, b| key(a) < key(b)))?;
        Ok(known)
    }

    fn known_repository(&mut self) -> Result<KnownRepository, DecodeError> {
        Ok(KnownRepository {
            repository: Arc::new(self.repository()?),
            due: self.option(Self::time)?,
            failures: u32::try_from(self.number()?).unwrap_or(u32::MAX),
            retry: self.number()?,
            tags: self.option(|decoder| {
                Ok(KnownTags {
                    tags: Arc::new(decoder.tag_set()?),
                    mismatch: decoder.signed()?,
                    read: decoder.time()?,
                    fingerprint: decoder.option(Self::hash)?,
                    downloads: decoder.option(Self::number)?,
                    unsettled: decoder.flag()?,
                })
            })?,
        })
    }

    fn repository(&mut self) -> Result<Repository, DecodeError> {
        self.charge(size_of::<Repository>() as u64)?;
        Ok(Repository {
            organization: self.text()?,
            name: self.text()?,
            size_bytes: self.option(Self::number)?,
            images: self.option(Self::number)?,
            downloads: self.option(Self::number)?,
            created: self.option(Self::time)?,
            updated: self.option(Self::time)?,
            public: self.option(Self::flag)?,
            category: self.option(Self::text)?,
            image: self.option(Self::text)?,
            tag_names_hash: self.option(Self::hash)?,
        })
    }

    fn shared_repository(&mut self) -> Result<SharedRepository, DecodeError> {
        Ok(SharedRepository {
            center: if self.flag()? { Center::ThirdParty } else { Center::Own },
            organization: self.text()?,
            name: self.text()?,
            size_bytes: self.option(Self::number)?,
            images: self.option(Self::number)?,
            downloads: self.option(Self::number)?,
            updated: self.option(Self::time)?,
            valid: self.option(Self::flag)?,
            owner_account: self.option(Self::text)?,
            category: self.option(Self::text)?,
        })
    }

    fn tag_set(&mut self) -> Result<TagSet, DecodeError> {
        self.charge(size_of::<TagSet>() as u64)?;
        let images = self.option(Self::number)?;
        let last_push = self.option(Self::time)?;
        let newest = self.list(Self::tag)?;
        let mut names: Vec<&str> = newest.iter().map(|tag| &*tag.name).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(DecodeError::Senseless("a tag is there twice"));
        }
        Ok(TagSet { images, last_push, newest: newest.into() })
    }

    fn tag(&mut self) -> Result<Tag, DecodeError> {
        Ok(Tag {
            name: self.text()?,
            size_bytes: self.option(Self::number)?,
            created: self.option(Self::time)?,
            updated: self.option(Self::time)?,
            last_pulled: self.option(Self::time)?,
            info: self.option(|decoder| {
                decoder.charge(size_of::<TagInfo>() as u64)?;
                let digest = decoder.option(Self::text)?;
                Ok(Box::new(TagInfo { digest, kind: decoder.option(Self::kind)? }))
            })?,
        })
    }

    fn kind(&mut self) -> Result<&'static str, DecodeError> {
        let kind = KINDS.get(usize::from(self.byte()?));
        kind.copied().ok_or(DecodeError::Senseless("an unknown kind of tag"))
    }

    fn collector(&mut self) -> Result<Collector, DecodeError> {
        match self.byte()? {
            0 => Ok(Collector::Repositories),
            1 => Ok(Collector::SharedRepositories),
            2 => Ok(Collector::Tags),
            _ => Err(DecodeError::Senseless("an unknown collector")),
        }
    }

    fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    /// The stated length makes no room: the items do, as they come.
    fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let length = self.number()?;
        let mut items = Vec::new();
        for _ in 0..length {
            self.charge(size_of::<T>() as u64)?;
            items.push(read(self)?);
        }
        items.shrink_to_fit();
        Ok(items)
    }

    fn text(&mut self) -> Result<Box<str>, DecodeError> {
        let length = self.number()?;
        self.charge(length)?;
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < length {
            let start = bytes.len();
            let piece = usize::try_from(length).map_or(PIECE, |length| PIECE.min(length - start));
            bytes.resize(start + piece, 0);
            self.input.read_exact(&mut bytes[start..]).map_err(unreadable)?;
        }
        let text = String::from_utf8(bytes).map_err(|_| DecodeError::Senseless("a text is not UTF-8"))?;
        Ok(text.into_boxed_str())
    }

    fn time(&mut self) -> Result<Timestamp, DecodeError> {
        let nanoseconds = i64::from_le_bytes(self.fixed()?);
        let time = Timestamp::from_nanoseconds(nanoseconds.into());
        time.ok_or(DecodeError::Senseless("a time is the epoch"))
    }

    fn hash(&mut self) -> Result<u64, DecodeError> {
        self.fixed().map(u64::from_le_bytes)
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(DecodeError::Senseless("a number is too long"))
    }

    fn signed(&mut self) -> Result<i64, DecodeError> {
        let (negative, number) = (self.flag()?, self.number()?);
        let signed = if negative { 0_i64.checked_sub_unsigned(number) } else { i64::try_from(number).ok() };
        signed.ok_or(DecodeError::Senseless("a number is too large"))
    }

    fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Senseless("a flag is neither 0 nor 1")),
        }
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.fixed().map(|[byte]| byte)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(unreadable)?;
        Ok(bytes)
    }

    fn charge(&mut self, bytes: u64) -> Result<(), DecodeError> {
        self.budget = self.budget.checked_sub(bytes).ok_or(DecodeError::Senseless("it is too large"))?;
        Ok(())
    }
}

fn unreadable(_: std::io::Error) -> DecodeError {
    DecodeError::Senseless("it cannot be inflated, or ends too early")
}

/// The page relies on it: one series appears once.
fn ascending(ordered: bool) -> Result<(), DecodeError> {
    if ordered { Ok(()) } else { Err(DecodeError::Senseless("something is out of order or there twice")) }
}

fn key(row: &KnownRepository) -> (&str, &str) {
    (&row.repository.organization, &row.repository.name)
}

fn shared_key(row: &SharedRepository) -> (Center, &str, &str) {
    (row.center, &row.organization, &row.name)
}
