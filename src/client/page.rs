//! The page walk: a listing is whole or it is an error.
//!
//! Lists are read page by page while others push and delete. A row can move to a page that was read already, or
//! be read twice; a server may also stop early, repeat a page for ever or state a wrong total. So a walk counts as
//! complete only if the API's own end was seen and the rows make the total that every page stated. Otherwise it is
//! repeated, and two walks in a row that found the same rows are believed against a total that differs.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::error::{ApiError, Cause};
use super::guard::Poll;
use crate::telemetry::Reason;

/// Walks of one listing before it fails.
const WALKS: usize = 3;
/// Rows of one listing: ten times the largest account known, and what fits into memory.
const MAX_ROWS: usize = 1_000_000;

/// One page of a listing.
#[derive(Debug)]
pub struct Page<T> {
    /// Its rows.
    pub rows: Vec<T>,
    /// The number of rows of the whole listing, where the page states it.
    pub total: Option<u64>,
    /// What comes after it.
    pub next: Next,
}

/// What comes after a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the API's own end.
    End,
    /// The page at this offset, or of this number.
    At(u64),
}

/// A whole listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    /// Every row once, sorted by key.
    pub rows: Vec<T>,
    /// Rows that the API listed again.
    pub duplicates: u64,
    /// The stated total minus the rows.
    pub mismatch: i64,
}

/// The page sizes to ask for, from the best to the one that every server should take.
pub struct PageSizes {
    sizes: &'static [Option<u32>],
    current: AtomicUsize,
}

impl PageSizes {
    /// `sizes` from the first to try to the last; `None` = leave it to the server.
    pub const fn new(sizes: &'static [Option<u32>]) -> Self {
        Self { sizes, current: AtomicUsize::new(0) }
    }

    /// The size that worked last.
    pub fn current(&self) -> Option<u32> {
        self.sizes[self.current.load(Ordering::Relaxed)]
    }

    /// The index of the size after `size`.
    fn smaller(&self, size: Option<u32>) -> Option<usize> {
        let index = self.sizes.iter().position(|s| *s == size)?;
        (index + 1 < self.sizes.len()).then_some(index + 1)
    }
}

/// What identifies a row: organization and name, or a name alone.
pub type Key<'a> = (&'a str, &'a str);

/// Reads a listing from its page at `start` to its end, as often as it takes to get it whole.
///
/// Where `poll` wants only first pages the rest of the listing counts as mismatch.
///
/// `fetch` reads the page at an offset, or of a number, with a page size. `incomplete` makes the error for a listing
/// that did not become whole.
pub async fn walk<T, F>(
    poll: &Poll,
    sizes: &PageSizes,
    start: u64,
    fetch: impl Fn(u64, Option<u32>) -> F,
    key: for<'a> fn(&'a T) -> Key<'a>,
    incomplete: impl Fn(Cause) -> ApiError,
) -> Result<Listing<T>, ApiError>
where
    F: Future<Output = Result<Page<T>, ApiError>>,
{
    let mut last: Option<Walk<T>> = None;
    for _ in 0..WALKS {
        let walk = loop {
            let size = sizes.current();
            let smaller = sizes.smaller(size);
            match Walk::read(poll, size, smaller.is_some(), start, &fetch, key).await {
                Ok(walk) => break walk,
                // Walks that run side by side and fail alike take one step together.
                Err(Stop::PageSize(_) | Stop::Short) if let Some(smaller) = smaller => {
                    sizes.current.fetch_max(smaller, Ordering::Relaxed);
                }
                Err(Stop::Failed(error) | Stop::PageSize(error)) => return Err(error),
                Err(Stop::Endless | Stop::Short) => {
                    return Err(incomplete(Cause::Incomplete("it does not end".to_owned())));
                }
            }
        };
        if walk.is_complete() || poll.first_pages() || last.is_some_and(|last| walk.confirms(&last, key)) {
            return Ok(walk.into_listing());
        }
        last = Some(walk);
    }
    let text = last.map(|walk| walk.describe()).unwrap_or_default();
    Err(incomplete(Cause::Incomplete(text)))
}

/// Why a walk did not come to its end.
enum Stop {
    /// The server does not take the page size; a smaller one may help.
    PageSize(ApiError),
    /// The first page was shorter than asked, and it states that there are more rows.
    Short,
    Failed(ApiError),
    Endless,
}

/// What one walk found.
struct Walk<T> {
    rows: Vec<T>,
    duplicates: u64,
    /// The totals that the pages stated: the last one, and whether all were the same.
    total: Option<u64>,
    steady: bool,
    /// Why the walk ended before the API's own end.
    broken: Option<&'static str>,
}

impl<T> Walk<T> {
    async fn read<F>(
        poll: &Poll,
        size: Option<u32>,
        smaller: bool,
        start: u64,
        fetch: &impl Fn(u64, Option<u32>) -> F,
        key: for<'a> fn(&'a T) -> Key<'a>,
    ) -> Result<Self, Stop>
    where
        F: Future<Output = Result<Page<T>, ApiError>>,
    {
        let mut walk = Self::default();
        let mut seen = HashSet::new();
        let mut at = start;
        loop {
            let first = at == start;
            let page = fetch(at, size).await.map_err(|error| match &error.cause {
                Cause::TooLarge(_) => Stop::PageSize(error),
                Cause::Refused { refusal, .. }
                    if first && refusal.status == 400 && refusal.reason == Reason::Protocol =>
                {
                    Stop::PageSize(error)
                }
                _ => Stop::Failed(error),
            })?;
            let rows = page.rows.len() as u64;
            let short = size.is_some_and(|size| rows < u64::from(size));
            if first && smaller && short && page.total.is_some_and(|total| total > rows) {
                return Err(Stop::Short);
            }
            if let Some(total) = page.total {
                walk.steady &= walk.total.is_none_or(|known| known == total);
                walk.total = Some(total);
            }
            if rows > 0 && !seen.insert(fingerprint(&page.rows, key)) {
                walk.broken = Some("a page came twice");
            }
            walk.rows.extend(page.rows);
            match page.next {
                _ if poll.first_pages() => break,
                Next::End => break,
                Next::At(next) if next <= at => walk.broken = Some("the next page is not further on"),
                Next::At(next) => at = next,
            }
            let most = page.total.map_or(MAX_ROWS, |total| {
                MAX_ROWS
                    .min(usize::try_from(total).unwrap_or(MAX_ROWS).saturating_mul(2).saturating_add(1000))
            });
            if walk.rows.len() > most {
                return Err(Stop::Endless);
            }
            if walk.broken.is_some() {
                break;
            }
        }
        let before = walk.rows.len();
        walk.rows.sort_by(|a, b| key(a).cmp(&key(b)));
        walk.rows.dedup_by(|a, b| key(a) == key(b));
        walk.duplicates = (before - walk.rows.len()) as u64;
        Ok(walk)
    }

    fn is_complete(&self) -> bool {
        self.broken.is_none()
            && self.steady
            && match self.total {
                Some(total) => self.rows.len() as u64 == total,
                None => self.duplicates == 0,
            }
    }

    /// Whether both walks came to the end and found the same rows.
    fn confirms(&self, last: &Self, key: for<'a> fn(&'a T) -> Key<'a>) -> bool {
        self.broken.is_none()
            && last.broken.is_none()
            && self.rows.iter().map(key).eq(last.rows.iter().map(key))
    }

    fn into_listing(self) -> Listing<T> {
        let rows = i64::try_from(self.rows.len()).unwrap_or(i64::MAX);
        let total = self.total.map_or(rows, |total| i64::try_from(total).unwrap_or(i64::MAX));
        Listing { rows: self.rows, duplicates: self.duplicates, mismatch: total - rows }
    }

    fn describe(&self) -> String {
        let rows = self.rows.len();
        let total = match self.total {
            Some(total) if self.steady => format!("a stated total of {total}"),
            Some(total) => format!("totals that changed, at last to {total}"),
            None => "no stated total".to_owned(),
        };
        let broken = self.broken.map_or_else(String::new, |broken| format!(", and {broken}"));
        format!("{WALKS} walks did not agree; the last found {rows} rows and {total}{broken}")
    }
}

impl<T> Default for Walk<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), duplicates: 0, total: None, steady: true, broken: None }
    }
}

/// Tells a page from another by its keys.
fn fingerprint<T>(rows: &[T], key: for<'a> fn(&'a T) -> Key<'a>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for row in rows {
        key(row).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
