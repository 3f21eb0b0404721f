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
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::client::{Call, Refusal};

    const SIZES: [Option<u32>; 3] = [Some(4), Some(2), Some(1)];

    fn error(cause: Cause) -> ApiError {
        let url = "https://registry.example/list".parse().unwrap();
        ApiError::new(
            Call { operation: "list", method: "GET", url: &url, body_limit: 0 },
            1,
            Duration::ZERO,
            cause,
        )
    }

    fn refused(status: u16) -> ApiError {
        let refusal = Refusal { status, reason: Reason::Protocol, code: None, message: None, retry: false };
        error(Cause::Refused { refusal, retry_after: None })
    }

    fn page(rows: &[&str], total: Option<u64>, next: Next) -> Page<String> {
        Page { rows: rows.iter().map(|&row| row.to_owned()).collect(), total, next }
    }

    /// Walks over what the server answers, one answer after the other; says what was asked for too.
    async fn walk_over(
        answers: impl IntoIterator<Item = Result<Page<String>, ApiError>>,
    ) -> (Result<Listing<String>, ApiError>, Vec<(u64, Option<u32>)>) {
        let answers = RefCell::new(VecDeque::from_iter(answers));
        let asked = RefCell::new(Vec::new());
        let sizes = PageSizes::new(&SIZES);
        let fetch = async |at, size| {
            asked.borrow_mut().push((at, size));
            answers.borrow_mut().pop_front().expect("one request too many")
        };
        let listing = walk(&Poll::new(None), &sizes, 0, fetch, |row: &String| ("", row), error).await;
        assert!(answers.borrow().is_empty(), "one request too few");
        (listing, asked.into_inner())
    }

    fn rows(listing: Result<Listing<String>, ApiError>) -> String {
        listing.unwrap().rows.concat()
    }

    fn whole() -> [Result<Page<String>, ApiError>; 2] {
        [Ok(page(&["d", "a", "c", "b"], Some(5), Next::At(4))), Ok(page(&["e"], Some(5), Next::End))]
    }

    #[tokio::test]
    async fn takes_a_listing_whose_rows_make_its_total() {
        let (listing, asked) = walk_over(whole()).await;
        assert_eq!(rows(listing), "abcde");
        assert_eq!(asked, [(0, Some(4)), (4, Some(4))]);
    }

    #[tokio::test]
    async fn reads_no_more_than_the_first_page_where_that_is_all_that_is_wanted() {
        let sizes = PageSizes::new(&SIZES);
        let fetch = async |_, _| Ok(page(&["b", "a", "d", "c"], Some(9), Next::At(4)));
        let poll = Poll::of_first_pages(None);
        let listing = walk(&poll, &sizes, 0, fetch, |row: &String| ("", row), error).await.unwrap();
        assert_eq!((listing.rows.concat().as_str(), listing.mismatch), ("abcd", 5));
    }

    #[tokio::test]
    async fn repeats_a_walk_in_which_a_row_was_lost() {
        let lost =
            [Ok(page(&["a", "b", "c", "d"], Some(6), Next::At(4))), Ok(page(&["f"], Some(6), Next::End))];
        let (listing, asked) = walk_over(lost.into_iter().chain(whole())).await;
        assert_eq!(rows(listing), "abcde");
        assert_eq!(asked.len(), 4);
    }

    #[tokio::test]
    async fn repeats_a_walk_during_which_the_total_changed() {
        let shifted =
            [Ok(page(&["a", "b", "c", "d"], Some(6), Next::At(4))), Ok(page(&["e"], Some(5), Next::End))];
        let (listing, _) = walk_over(shifted.into_iter().chain(whole())).await;
        assert_eq!(rows(listing), "abcde");
    }

    #[tokio::test]
    async fn believes_two_walks_that_agree_against_the_stated_total() {
        let lying = || Ok(page(&["a", "b", "b", "c"], Some(4), Next::End));
        let (listing, _) = walk_over([lying(), lying()]).await;
        let listing = listing.unwrap();
        assert_eq!((listing.rows.concat().as_str(), listing.duplicates, listing.mismatch), ("abc", 1, 1));
    }

    #[tokio::test]
    async fn fails_when_three_walks_disagree() {
        let answer = |row| Ok(page(&["a", "b", "c", row], Some(9), Next::End));
        let (listing, _) = walk_over([answer("d"), answer("e"), answer("f")]).await;
        let error = listing.unwrap_err();
        assert_eq!(error.reason(), Reason::Incomplete);
        assert_eq!(
            error.cause.to_string(),
            "the listing is incomplete: 3 walks did not agree; the last found 4 rows and a stated total of 9"
        );
    }

    #[tokio::test]
    async fn without_a_total_a_duplicate_repeats_the_walk() {
        let twice = [Ok(page(&["a", "b", "c", "d"], None, Next::At(4))), Ok(page(&["d"], None, Next::End))];
        let once = [Ok(page(&["a", "b", "c", "d"], None, Next::At(4))), Ok(page(&["e"], None, Next::End))];
        let (listing, _) = walk_over(twice.into_iter().chain(once)).await;
        assert_eq!(rows(listing), "abcde");
    }

    #[tokio::test]
    async fn a_page_that_comes_twice_ends_the_walk() {
        let stuck = || {
            [
                Ok(page(&["a", "b", "c", "d"], None, Next::At(4))),
                Ok(page(&["a", "b", "c", "d"], None, Next::At(8))),
            ]
        };
        let (listing, _) = walk_over(stuck().into_iter().chain(stuck()).chain(stuck())).await;
        let message = listing.unwrap_err().cause.to_string();
        assert!(message.ends_with("and a page came twice"), "{message}");
    }

    #[tokio::test]
    async fn a_next_page_that_is_not_further_on_ends_the_walk() {
        let stuck = || Ok(page(&["a", "b", "c", "d"], None, Next::At(0)));
        let (listing, _) = walk_over([stuck(), stuck(), stuck()]).await;
        assert_eq!(listing.unwrap_err().reason(), Reason::Incomplete);
    }

    #[tokio::test]
    async fn a_listing_without_end_fails_at_once() {
        let fetch = async |at: u64, _| Ok(Page { rows: vec![at], total: Some(4), next: Next::At(at + 1) });
        let listing =
            walk(&Poll::new(None), &PageSizes::new(&[Some(1)]), 0, fetch, |_: &u64| ("", ""), error).await;
        assert_eq!(listing.unwrap_err().reason(), Reason::Incomplete);
    }

    #[tokio::test]
    async fn asks_for_smaller_pages_when_the_size_is_refused_or_too_large_or_not_given() {
        let answers = [
            Err(refused(400)),
            Err(error(Cause::TooLarge(7))),
            Ok(page(&["a"], Some(2), Next::At(1))),
            Ok(page(&["b"], Some(2), Next::End)),
        ];
        let (listing, asked) = walk_over(answers).await;
        assert_eq!(rows(listing), "ab");
        assert_eq!(asked, [(0, Some(4)), (0, Some(2)), (0, Some(1)), (1, Some(1))]);
        let answers = [
            Ok(page(&["a", "b"], Some(3), Next::At(4))),
            Ok(page(&["a", "b"], Some(3), Next::At(2))),
            Ok(page(&["c"], Some(3), Next::End)),
        ];
        let (listing, asked) = walk_over(answers).await;
        assert_eq!(rows(listing), "abc");
        assert_eq!(asked, [(0, Some(4)), (0, Some(2)), (2, Some(2))]);
    }

    #[tokio::test]
    async fn other_refusals_end_the_walk() {
        let (listing, _) = walk_over([Err(refused(405))]).await;
        assert_eq!(listing.unwrap_err().reason(), Reason::Protocol);
        let second_page = [Ok(page(&["a", "b", "c", "d"], Some(5), Next::At(4))), Err(refused(400))];
        let (listing, _) = walk_over(second_page).await;
        assert_eq!(listing.unwrap_err().reason(), Reason::Protocol);
    }

    proptest! {
        #[test]
        fn any_split_into_pages_gives_the_same_listing(count in 0_usize..60, size in 1_u32..20) {
            let names: Vec<String> = (0..count).map(|n| format!("{n:03}")).collect();
            let sizes: &'static [Option<u32>] = Box::leak(Box::new([Some(size)]));
            let fetch = async |at: u64, size: Option<u32>| {
                let (start, size) = (usize::try_from(at).unwrap(), size.unwrap() as usize);
                let end = (start + size).min(count);
                let next = if end < count { Next::At(end as u64) } else { Next::End };
                Ok(Page { rows: names[start..end].to_vec(), total: Some(count as u64), next })
            };
            let (poll, sizes) = (Poll::new(None), PageSizes::new(sizes));
            let walk = walk(&poll, &sizes, 0, fetch, |row: &String| ("", row), error);
            let listing = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(walk).unwrap();
            prop_assert_eq!(listing, Listing { rows: names.clone(), duplicates: 0, mismatch: 0 });
        }
    }
}
