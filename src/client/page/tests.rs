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
