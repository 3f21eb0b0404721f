use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::client::{Call, Refusal, Verdict};

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
    let reason = if status == 404 { Reason::NotFound } else { Reason::Protocol };
    let credential = Verdict::Unknown;
    let refusal = Refusal { status, reason, code: None, message: None, cure: None, retry: false, credential };
    error(Cause::Refused { refusal, retry_after: None })
}

fn pages(sizes: &PageSizes) -> Pages<'_> {
    Pages { operation: "list", listing: "all", sizes, start: 0, empty_total: None }
}

fn page(rows: &[&str], total: Option<u64>, next: Next) -> Page<String> {
    Page { rows: rows.iter().map(|&row| row.to_owned()).collect(), total, next }
}

/// Walks over what the server answers, one answer after the other; says what was asked for too.
async fn walk_over(
    answers: impl IntoIterator<Item = Result<Page<String>, ApiError>>,
) -> (Result<Listing<String>, ApiError>, Vec<(u64, Option<u32>)>) {
    walk_with(pages(&PageSizes::new(&SIZES)), answers).await
}

async fn walk_with(
    pages: Pages<'_>,
    answers: impl IntoIterator<Item = Result<Page<String>, ApiError>>,
) -> (Result<Listing<String>, ApiError>, Vec<(u64, Option<u32>)>) {
    let answers = RefCell::new(VecDeque::from_iter(answers));
    let asked = RefCell::new(Vec::new());
    let fetch = async |at, size| {
        asked.borrow_mut().push((at, size));
        answers.borrow_mut().pop_front().expect("one request too many")
    };
    let listing = walk(&Poll::new(None), pages, fetch, |row: &String| ("", row), error).await;
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
    let listing = walk(&poll, pages(&sizes), fetch, |row: &String| ("", row), error).await.unwrap();
    assert_eq!((listing.rows.concat().as_str(), listing.mismatch), ("abcd", 5));
}

#[tokio::test]
async fn repeats_a_walk_in_which_a_row_was_lost() {
    let lost = [Ok(page(&["a", "b", "c", "d"], Some(6), Next::At(4))), Ok(page(&["f"], Some(6), Next::End))];
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
async fn repeats_a_walk_in_which_one_row_came_twice_and_another_not_at_all() {
    let by_luck =
        [Ok(page(&["a", "b", "c", "d"], Some(6), Next::At(4))), Ok(page(&["d", "f"], Some(6), Next::End))];
    let (listing, asked) = walk_over(by_luck.into_iter().chain(whole())).await;
    assert_eq!(rows(listing), "abcde");
    assert_eq!(asked.len(), 4);
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
async fn a_listing_without_end_fails_at_the_cap_of_rows_or_of_pages() {
    for (rows, caps, calls) in [
        (4, Caps { rows: 100, pages: 1000 }, 26),
        (1, Caps { rows: 100, pages: 20 }, 21),
        // A page that is full of what was read already.
        (0, Caps { rows: 100, pages: 20 }, 21),
    ] {
        for total in [None, Some(3), Some(u64::MAX)] {
            let asked = RefCell::new(0);
            let fetch = async |at: u64, _| {
                *asked.borrow_mut() += 1;
                Ok(Page { rows: (at..at + rows).collect(), total, next: Next::At(at + rows.max(1)) })
            };
            let sizes = PageSizes::new(&[Some(4)]);
            let key: fn(&u64) -> Key<'_> = |row| (Box::leak(row.to_string().into_boxed_str()), "");
            let listing = walk_within(caps, &Poll::new(None), pages(&sizes), fetch, key, error).await;
            let error = listing.unwrap_err();
            assert_eq!(error.reason(), Reason::Incomplete);
            assert!(error.cause.to_string().ends_with("it does not end"), "{error:?}");
            assert_eq!(asked.into_inner(), calls, "{rows} {total:?}");
        }
    }
}

#[test]
fn the_differences_of_all_listings_of_a_source_can_be_added_up() {
    for total in [u64::MAX, u64::MAX / 2, 1 << 50] {
        let walk = Walk::<String> {
            rows: Vec::new(),
            duplicates: 0,
            total: Some(total),
            steady: true,
            size: None,
            first_page: 0,
            broken: None,
            refused: None,
        };
        let of_one = walk.into_listing().mismatch;
        assert!(of_one > 1_000_000 && of_one.checked_mul(1_000_000).is_some(), "{of_one}");
    }
}

#[tokio::test]
async fn a_total_that_is_too_low_ends_no_walk() {
    for total in [0, 1, 4, 5, 8] {
        let low = || {
            [
                Ok(page(&["a", "b", "c", "d"], Some(total), Next::At(4))),
                Ok(page(&["e", "f", "g", "h"], Some(total), Next::At(8))),
                Ok(page(&["i"], Some(total), Next::End)),
            ]
        };
        let (listing, asked) = walk_over(low().into_iter().chain(low())).await;
        let listing = listing.unwrap();
        assert_eq!(listing.rows.concat(), "abcdefghi");
        assert_eq!(listing.mismatch, i64::try_from(total).unwrap() - 9);
        assert!(asked.iter().all(|(_, size)| *size == Some(4)), "{asked:?}");
    }
}

#[tokio::test]
async fn asks_for_smaller_pages_when_the_size_is_refused_or_too_large() {
    for refusal in [400, 422] {
        let answers = [
            Err(refused(refusal)),
            Err(error(Cause::TooLarge(7))),
            Ok(page(&["a"], Some(2), Next::At(1))),
            Ok(page(&["b"], Some(2), Next::End)),
        ];
        let (listing, asked) = walk_over(answers).await;
        assert_eq!(rows(listing), "ab");
        assert_eq!(asked, [(0, Some(4)), (0, Some(2)), (0, Some(1)), (1, Some(1))]);
    }
    // A later page may be the one that is too large.
    let answers = [Ok(page(&["a", "b", "c", "d"], Some(5), Next::At(4))), Err(error(Cause::TooLarge(7)))];
    let smaller = [Ok(page(&["a", "b"], Some(3), Next::At(2))), Ok(page(&["c"], Some(3), Next::End))];
    let (listing, asked) = walk_over(answers.into_iter().chain(smaller)).await;
    assert_eq!((rows(listing).as_str(), asked[2]), ("abc", (0, Some(2))));
}

#[tokio::test]
async fn a_short_first_page_is_finished_before_smaller_pages_are_asked_for() {
    // The server caps its pages, and numbers them accordingly.
    let answers = [
        Ok(page(&["a", "b"], Some(5), Next::At(4))),
        Ok(page(&["c", "d"], Some(5), Next::At(8))),
        Ok(page(&["e"], Some(5), Next::End)),
    ];
    let (listing, asked) = walk_over(answers).await;
    assert_eq!((rows(listing).as_str(), asked.len()), ("abcde", 3));
    // It counts rows as if it did not.
    let answers = [
        Ok(page(&["a", "b", "c"], Some(5), Next::At(4))),
        Ok(page(&["e"], Some(5), Next::End)),
        Ok(page(&["a", "b", "c"], Some(5), Next::At(3))),
        Ok(page(&["d", "e"], Some(5), Next::End)),
    ];
    let (listing, asked) = walk_over(answers).await;
    assert_eq!(rows(listing), "abcde");
    assert_eq!(asked, [(0, Some(4)), (4, Some(4)), (0, Some(3)), (3, Some(3))]);
}

#[tokio::test]
async fn a_short_page_without_a_total_ends_a_listing_only_if_nothing_follows() {
    let answers = [Ok(page(&["a", "b", "c"], None, Next::Perhaps(3))), Ok(page(&[], None, Next::End))];
    let (listing, asked) = walk_over(answers).await;
    assert_eq!((rows(listing).as_str(), &*asked), ("abc", &[(0, Some(4)), (3, Some(3))][..]));
    // The server caps its pages.
    let answers = [
        Ok(page(&["a", "b", "c"], None, Next::Perhaps(3))),
        Ok(page(&["d"], None, Next::Perhaps(4))),
        Ok(page(&["a", "b", "c"], None, Next::At(3))),
        Ok(page(&["d"], None, Next::Perhaps(4))),
        Ok(page(&[], None, Next::End)),
    ];
    let (listing, asked) = walk_over(answers).await;
    assert_eq!(rows(listing), "abcd");
    assert_eq!(asked[2..], [(0, Some(3)), (3, Some(3)), (4, Some(1))]);
    // It does not look at offsets and gives the same again.
    let answers = || Ok(page(&["a", "b", "c"], None, Next::Perhaps(3)));
    let (listing, _) = walk_over([answers(), answers()]).await;
    assert_eq!(rows(listing), "abc");
    // An offset that is no multiple of the page size is asked for with the smallest.
    let answers = [
        Ok(page(&["a", "b", "c", "d"], None, Next::At(4))),
        Ok(page(&["e", "f", "g"], None, Next::Perhaps(7))),
        Ok(page(&[], None, Next::End)),
    ];
    assert_eq!(walk_over(answers).await.1[2], (7, Some(1)));
}

#[tokio::test]
async fn pages_that_become_ever_smaller_end_the_walk() {
    let fetch = async |at: u64, size: Option<u32>| {
        let rows = size.unwrap() - 1;
        let row = |n| format!("{:06}", at + u64::from(n));
        Ok(Page {
            rows: (0..rows).map(row).collect(),
            total: None,
            next: Next::Perhaps(at + u64::from(rows)),
        })
    };
    let sizes = PageSizes::new(&[Some(1000)]);
    let listing = walk(&Poll::new(None), pages(&sizes), fetch, |row: &String| ("", row), error).await;
    assert_eq!(listing.unwrap_err().reason(), Reason::Incomplete);
}

#[tokio::test]
async fn a_full_last_page_may_be_followed_by_a_refusal() {
    let full = |total| Ok(page(&["a", "b", "c", "d"], total, Next::At(4)));
    for status in [400, 404, 416] {
        // The rows make the total.
        let (listing, asked) = walk_over([full(Some(4)), Err(refused(status))]).await;
        assert_eq!((rows(listing).as_str(), asked.len()), ("abcd", 2), "{status}");
        // No total: a second walk must find the same.
        let answers = [full(None), Err(refused(status)), full(None), Err(refused(status))];
        assert_eq!(rows(walk_over(answers).await.0), "abcd", "{status}");
        let changes = [full(None), Err(refused(status))].into_iter().chain(whole());
        assert_eq!(rows(walk_over(changes).await.0), "abcde", "{status}");
        // The total says that there is more.
        let answers = (0..3).flat_map(|_| [full(Some(9)), Err(refused(status))]);
        let message = walk_over(answers).await.0.unwrap_err().cause.to_string();
        assert!(message.ends_with(&format!("a later page was refused (status {status})")), "{message}");
    }
    // Given once more, the same page is no other one.
    assert_eq!(rows(walk_over([full(Some(4)), full(Some(4))]).await.0), "abcd");
}

#[tokio::test]
async fn other_refusals_end_the_walk() {
    let full = || Ok(page(&["a", "b", "c", "d"], Some(5), Next::At(4)));
    let throttled = || {
        let refusal = Refusal {
            reason: Reason::Throttled,
            ..match refused(400).cause {
                Cause::Refused { refusal, .. } => refusal,
                _ => unreachable!(),
            }
        };
        error(Cause::Refused { refusal, retry_after: None })
    };
    for answers in [
        vec![Err(refused(405))],
        vec![Err(refused(404))],
        vec![Err(throttled())],
        vec![full(), Err(refused(405))],
        vec![full(), Err(throttled())],
        // Of another step: where the token is made, say.
        vec![Err(ApiError { operation: "create_token", ..refused(400) })],
        vec![Err(ApiError { operation: "create_token", ..error(Cause::TooLarge(7)) })],
        vec![full(), Err(ApiError { operation: "create_token", ..refused(404) })],
    ] {
        let calls = answers.len();
        let (listing, asked) = walk_over(answers).await;
        assert_ne!(listing.unwrap_err().reason(), Reason::Incomplete);
        assert_eq!(asked.len(), calls);
    }
}

#[tokio::test]
async fn no_rows_against_a_total_are_never_believed_unless_the_total_counts_something_else() {
    let nothing = || Ok(page(&[], Some(30), Next::End));
    let (listing, _) = walk_over([nothing(), nothing(), nothing()]).await;
    assert_eq!(listing.unwrap_err().reason(), Reason::Incomplete);
    let sizes = PageSizes::new(&SIZES);
    let registries = Pages { empty_total: Some(30), ..pages(&sizes) };
    let (listing, _) = walk_with(registries, [nothing(), nothing()]).await;
    assert_eq!(listing.unwrap(), Listing { rows: vec![], duplicates: 0, mismatch: 30 });
    let others = Pages { empty_total: Some(29), ..pages(&sizes) };
    let (listing, _) = walk_with(others, [nothing(), nothing(), nothing()]).await;
    assert_eq!(listing.unwrap_err().reason(), Reason::Incomplete);
    assert_eq!(rows(walk_over([Ok(page(&[], Some(0), Next::End))]).await.0), "");
}

/// The size of the first page asked for.
async fn first_size(
    sizes: &PageSizes,
    listing: &str,
    answers: impl IntoIterator<Item = Result<Page<String>, ApiError>>,
) -> Option<u32> {
    walk_with(Pages { listing, ..pages(sizes) }, answers).await.1[0].1
}

#[tokio::test(start_paused = true)]
async fn remembers_a_smaller_size_for_its_listing_for_an_hour_after_a_whole_walk() {
    let sizes = PageSizes::new(&SIZES);
    let whole = || Ok(page(&["a"], Some(1), Next::End));
    // Four bad seconds: nothing was read with any size.
    for _ in 0..4 {
        let refused = [Err(refused(400)), Err(refused(400)), Err(refused(400))];
        assert_eq!(first_size(&sizes, "all", refused).await, Some(4));
    }
    let smaller = || [Err(refused(400)), whole()];
    assert_eq!(first_size(&sizes, "all", smaller()).await, Some(4));
    assert_eq!(first_size(&sizes, "all", [whole()]).await, Some(2));
    assert_eq!(first_size(&sizes, "another", [whole()]).await, Some(4));
    tokio::time::advance(SMALL_PAGES / 2).await;
    assert_eq!(first_size(&sizes, "all", [whole()]).await, Some(2));
    tokio::time::advance(SMALL_PAGES / 2).await;
    assert_eq!(first_size(&sizes, "all", [whole()]).await, Some(4));
    assert_eq!(first_size(&sizes, "all", [whole()]).await, Some(4));
    assert!(sizes.smaller.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_total_that_is_off_by_one_shrinks_no_pages() {
    let sizes = PageSizes::new(&SIZES);
    for _ in 0..3 {
        let short = || Ok(page(&["a", "b", "c"], Some(4), Next::End));
        assert_eq!(first_size(&sizes, "all", [short(), short()]).await, Some(4));
        let full = || [Ok(page(&["a", "b", "c", "d"], Some(5), Next::At(4))), Ok(page(&[], None, Next::End))];
        let answers = full().into_iter().chain(full());
        assert_eq!(first_size(&sizes, "all", answers).await, Some(4));
    }
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
        let walk = walk(&poll, pages(&sizes), fetch, |row: &String| ("", row), error);
        let listing = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(walk).unwrap();
        prop_assert_eq!(listing, Listing { rows: names.clone(), duplicates: 0, mismatch: 0 });
    }
}
