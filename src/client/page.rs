//! The page walk: a listing is whole or it is an error.
//!
//! Lists are read page by page while others push and delete. A row can move to a page that was read already, or
//! be read twice; a server may also stop early, cap its pages, repeat one for ever or state a wrong total. So a walk
//! counts as complete only if the API's own end was seen and the rows make the total that every page stated.
//! Otherwise it is repeated, and two walks in a row that found the same rows are believed against a total that
//! differs. A total proves or disproves a walk; it never ends one.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::{ApiError, Cause};
use super::poll::Poll;
use crate::telemetry::Reason;

/// Walks of one listing before it fails.
const WALKS: usize = 3;
/// How often a listing begins anew with smaller pages: once for each size that is known, and where pages are capped.
const RESTARTS: usize = 4;
/// Rows of one listing: ten times the largest account known, and what fits into memory.
const MAX_ROWS: usize = 1_000_000;
/// Pages of one listing: as many rows in pages of ten, which is the smallest size that is asked for.
const MAX_PAGES: usize = 100_000;
/// After so long the largest pages are asked for again.
const SMALL_PAGES: Duration = Duration::from_hours(1);

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
    /// Nothing, if the server does not cap its pages: the page is shorter than asked. Rows at this offset would show
    /// that it does.
    Perhaps(u64),
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

impl<T> Listing<T> {
    /// A listing that was not walked: these rows are all.
    pub fn of(rows: Vec<T>) -> Self {
        Self { rows, duplicates: 0, mismatch: 0 }
    }
}

/// The page sizes to ask for, from the best to the one that every server should take, and which listings need
/// smaller pages than the best.
pub struct PageSizes {
    sizes: &'static [Option<u32>],
    smaller: Mutex<HashMap<Box<str>, Smaller>>,
}

/// A page size below the largest.
struct Smaller {
    /// When it was first found to work.
    since: Instant,
    size: Option<u32>,
}

impl PageSizes {
    /// `sizes` from the first to try to the last; `None` = leave it to the server.
    pub fn new(sizes: &'static [Option<u32>]) -> Self {
        Self { sizes, smaller: Mutex::default() }
    }

    /// The size with which a whole walk of `listing` succeeded last, unless that is long ago; else the largest.
    fn of(&self, listing: &str) -> Option<u32> {
        let smaller = self.smaller.lock().unwrap_or_else(PoisonError::into_inner);
        match smaller.get(listing) {
            Some(Smaller { since, size }) if since.elapsed() < SMALL_PAGES => *size,
            _ => self.sizes[0],
        }
    }

    /// Notes that a whole walk of `listing` succeeded with `size`. The hour of a smaller size begins with its first
    /// success.
    fn worked(&self, listing: &str, size: Option<u32>) {
        let mut smaller = self.smaller.lock().unwrap_or_else(PoisonError::into_inner);
        smaller.retain(|_, smaller| smaller.since.elapsed() < SMALL_PAGES);
        if size == self.sizes[0] {
            smaller.remove(listing);
        } else if smaller.get(listing).is_none_or(|known| known.size != size) {
            smaller.insert(listing.into(), Smaller { since: Instant::now(), size });
        }
    }

    /// The next of the sizes below `size`.
    fn below(&self, size: Option<u32>) -> Option<&Option<u32>> {
        let size = size?;
        self.sizes.iter().find(|other| other.is_none_or(|other| other < size))
    }
}

/// What identifies a row: organization and name, or a name alone.
pub type Key<'a> = (&'a str, &'a str);

/// A listing to walk over.
#[derive(Clone, Copy)]
pub struct Pages<'a> {
    /// The operation that answers with its pages; an error of another one says nothing about them.
    pub operation: &'static str,
    /// Its name among those that share `sizes`.
    pub listing: &'a str,
    /// The page sizes to ask for.
    pub sizes: &'a PageSizes,
    /// The offset, or the number, of the first page.
    pub start: u64,
    /// A total that is known to count something else than rows: it may stand beside no rows at all.
    pub empty_total: Option<u64>,
}

/// Where a walk gives up.
#[derive(Clone, Copy)]
struct Caps {
    rows: usize,
    pages: usize,
}

/// A stated total beyond this counts as this: no registry has as many, and the differences of all listings of a source,
/// which are added up, stay within 64 bits.
const LARGEST_TOTAL: i64 = 1 << 40;

/// Reads a listing from its first page to its end, as often as it takes to get it whole.
///
/// Where `poll` wants only first pages the rest of the listing counts as mismatch.
///
/// `fetch` reads the page at an offset, or of a number, with a page size. `incomplete` makes the error for a listing
/// that did not become whole.
pub async fn walk<T, F>(
    poll: &Poll,
    pages: Pages<'_>,
    fetch: impl Fn(u64, Option<u32>) -> F,
    key: for<'a> fn(&'a T) -> Key<'a>,
    incomplete: impl Fn(Cause) -> ApiError,
) -> Result<Listing<T>, ApiError>
where
    F: Future<Output = Result<Page<T>, ApiError>>,
{
    walk_within(Caps { rows: MAX_ROWS, pages: MAX_PAGES }, poll, pages, fetch, key, incomplete).await
}

async fn walk_within<T, F>(
    caps: Caps,
    poll: &Poll,
    pages: Pages<'_>,
    fetch: impl Fn(u64, Option<u32>) -> F,
    key: for<'a> fn(&'a T) -> Key<'a>,
    incomplete: impl Fn(Cause) -> ApiError,
) -> Result<Listing<T>, ApiError>
where
    F: Future<Output = Result<Page<T>, ApiError>>,
{
    let sizes = pages.sizes;
    let mut size = sizes.of(pages.listing);
    let mut restarts = 0..RESTARTS;
    let mut last: Option<Walk<T>> = None;
    for _ in 0..WALKS {
        let walk = loop {
            let smaller = match Walk::read(caps, poll, pages, size, &fetch, key).await {
                Ok(walk) => break walk,
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::PageSize(error)) => *sizes.below(size).ok_or(error)?,
                Err(Stop::Capped(rows)) => Some(rows),
                Err(Stop::Endless) => {
                    return Err(incomplete(Cause::Incomplete("it does not end".to_owned())));
                }
            };
            if restarts.next().is_none() {
                return Err(incomplete(Cause::Incomplete("its pages become ever smaller".to_owned())));
            }
            size = smaller;
        };
        if poll.first_pages() {
            return Ok(walk.into_listing());
        }
        if walk.is_complete() {
            sizes.worked(pages.listing, size);
            return Ok(walk.into_listing());
        }
        if let Some(last) = last.filter(|last| walk.confirms(last, pages.empty_total, key)) {
            // The larger pages found the same.
            sizes.worked(pages.listing, last.size);
            return Ok(walk.into_listing());
        }
        size = walk.size_to_find_more().or(size);
        last = Some(walk);
    }
    let text = last.map(|walk| walk.describe()).unwrap_or_default();
    Err(incomplete(Cause::Incomplete(text)))
}

/// Why a walk did not come to its end.
enum Stop {
    /// The server does not take the page size; a smaller one may help.
    PageSize(ApiError),
    /// The server gives no more rows a page than these.
    Capped(u32),
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
    /// The page size asked for, and the rows of the first page.
    size: Option<u32>,
    first_page: usize,
    /// Why the walk ended before the API's own end.
    broken: Option<String>,
    /// How the API refused a page behind the first, which may be its way to say that there is none.
    refused: Option<String>,
}

impl<T> Walk<T> {
    async fn read<F>(
        caps: Caps,
        poll: &Poll,
        pages: Pages<'_>,
        size: Option<u32>,
        fetch: &impl Fn(u64, Option<u32>) -> F,
        key: for<'a> fn(&'a T) -> Key<'a>,
    ) -> Result<Self, Stop>
    where
        F: Future<Output = Result<Page<T>, ApiError>>,
    {
        let mut walk = Self {
            rows: Vec::new(),
            duplicates: 0,
            total: None,
            steady: true,
            size,
            first_page: 0,
            broken: None,
            refused: None,
        };
        let mut seen = HashSet::new();
        let mut at = pages.start;
        for number in 0.. {
            let page = match fetch(at, size).await {
                Ok(page) => page,
                Err(error) => {
                    walk.refused = Some(no_such_page(pages, number == 0, error)?);
                    break;
                }
            };
            if let Some(total) = page.total {
                walk.steady &= walk.total.is_none_or(|known| known == total);
                walk.total = Some(total);
            }
            if !page.rows.is_empty() && !seen.insert(fingerprint(&page.rows, key)) {
                // Whoever has given all rows and is asked for more may give the same again.
                if walk.distinct(key) != walk.total {
                    walk.broken = Some("a page came twice".to_owned());
                }
                break;
            }
            let rows = page.rows.len();
            walk.rows.extend(page.rows);
            if number == 0 {
                walk.first_page = rows;
            }
            match page.next {
                _ if poll.first_pages() => break,
                Next::End => break,
                Next::Perhaps(next) => {
                    walk.look_for_more(pages, next, rows, fetch, key).await?;
                    break;
                }
                Next::At(next) if next <= at => {
                    walk.broken = Some("the next page is not further on".to_owned());
                    break;
                }
                Next::At(next) => at = next,
            }
            if walk.rows.len() > caps.rows || number >= caps.pages {
                return Err(Stop::Endless);
            }
        }
        let before = walk.rows.len();
        walk.rows.sort_by(|a, b| key(a).cmp(&key(b)));
        walk.rows.dedup_by(|a, b| key(a) == key(b));
        walk.duplicates = (before - walk.rows.len()) as u64;
        Ok(walk)
    }

    /// After a page of `rows` rows, which is shorter than asked: whether there are further ones at `next`, so that the
    /// server caps its pages and this was not the last.
    async fn look_for_more<F>(
        &mut self,
        pages: Pages<'_>,
        next: u64,
        rows: usize,
        fetch: &impl Fn(u64, Option<u32>) -> F,
        key: for<'a> fn(&'a T) -> Key<'a>,
    ) -> Result<(), Stop>
    where
        F: Future<Output = Result<Page<T>, ApiError>>,
    {
        let cap = u32::try_from(rows).unwrap_or(u32::MAX);
        // An offset must be a multiple of the page size.
        let size = if next.is_multiple_of(u64::from(cap)) { cap } else { 1 };
        match fetch(next, Some(size)).await {
            Ok(page) => {
                let known: HashSet<Key<'_>> = self.rows.iter().map(key).collect();
                if page.rows.iter().any(|row| !known.contains(&key(row))) {
                    return Err(Stop::Capped(cap));
                }
            }
            Err(error) => self.refused = Some(no_such_page(pages, false, error)?),
        }
        Ok(())
    }

    /// How many different rows were found so far.
    fn distinct(&self, key: for<'a> fn(&'a T) -> Key<'a>) -> Option<u64> {
        u64::try_from(self.rows.iter().map(key).collect::<HashSet<_>>().len()).ok()
    }

    fn is_complete(&self) -> bool {
        self.broken.is_none()
            && self.steady
            && match self.total {
                Some(total) => self.rows.len() as u64 == total,
                None => self.duplicates == 0 && self.refused.is_none(),
            }
    }

    /// Whether both walks came to the end and found the same rows.
    fn confirms(&self, last: &Self, empty_total: Option<u64>, key: for<'a> fn(&'a T) -> Key<'a>) -> bool {
        let came_to_the_end =
            |walk: &Self| walk.broken.is_none() && (walk.refused.is_none() || walk.total.is_none());
        // Nothing against a number of rows is a server that lost its data, not an empty account.
        let nothing = self.rows.is_empty() && self.total.is_some_and(|total| total > 0);
        came_to_the_end(self)
            && came_to_the_end(last)
            && (!nothing || self.total == empty_total)
            && self.rows.iter().map(key).eq(last.rows.iter().map(key))
    }

    /// The page size that may find the rest, where the first page was shorter than asked: the server may cap its
    /// pages, and so have left out what the longer ones would have held.
    fn size_to_find_more(&self) -> Option<u32> {
        let first_page = u32::try_from(self.first_page).ok().filter(|&rows| rows > 0)?;
        let short = self.size.is_some_and(|size| first_page < size);
        let more = self.total.is_some_and(|total| total > self.rows.len() as u64);
        (short && more).then_some(first_page)
    }

    fn into_listing(self) -> Listing<T> {
        let rows = i64::try_from(self.rows.len()).unwrap_or(i64::MAX);
        let total = self.total.map_or(rows, |total| {
            i64::try_from(total).map_or(LARGEST_TOTAL, |total| total.min(LARGEST_TOTAL))
        });
        Listing { rows: self.rows, duplicates: self.duplicates, mismatch: total - rows }
    }

    fn describe(&self) -> String {
        let rows = self.rows.len();
        let total = match self.total {
            Some(total) if self.steady => format!("a stated total of {total}"),
            Some(total) => format!("totals that changed, at last to {total}"),
            None => "no stated total".to_owned(),
        };
        let refused = self.refused.as_ref().map(|refusal| format!("a later page was refused ({refusal})"));
        let why = self.broken.clone().or(refused).map_or_else(String::new, |why| format!(", and {why}"));
        format!("{WALKS} walks did not agree; the last found {rows} rows and {total}{why}")
    }
}

/// What an error says about the page that was asked for: an error of another step, such as fetching a token, says
/// nothing.
///
/// Errors: there is more wrong than that there is no such page.
fn no_such_page(pages: Pages<'_>, first: bool, error: ApiError) -> Result<String, Stop> {
    match &error.cause {
        _ if error.operation != pages.operation => Err(Stop::Failed(error)),
        Cause::TooLarge(_) => Err(Stop::PageSize(error)),
        Cause::Refused { refusal, .. } => match (refusal.status, refusal.reason) {
            (400 | 422, Reason::Protocol) if first => Err(Stop::PageSize(error)),
            (400 | 404 | 416, Reason::Protocol | Reason::NotFound) if !first => Ok(refusal.to_string()),
            _ => Err(Stop::Failed(error)),
        },
        _ => Err(Stop::Failed(error)),
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
