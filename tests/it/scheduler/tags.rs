//! Tags that cannot be read: neither do they fail the collector for ever, nor do others wait for them.

use std::time::SystemTime;

use super::*;

fn failures(source: &Running, reason: &str) -> f64 {
    source.metric("poll_failures_total", &[("collector", "tags"), ("reason", reason)])
}

/// In which minutes the tags of a repository were asked for.
fn minutes(source: &Running, name: &str) -> Vec<u64> {
    let account = source.account.lock().unwrap();
    let calls = account.calls.iter().filter(|(_, call)| call.strip_prefix("tags ") == Some(name));
    calls.map(|(time, _)| time.as_secs() / 60).collect()
}

/// Lists that tell when repositories changed, which was long ago.
fn unchanged(mut account: Account) -> Account {
    let updated = Timestamp::from_milliseconds(1_600_000_000_000).unwrap();
    account.updated = account.repositories.iter().map(|name| (*name, updated)).collect();
    account
}

const FORBIDDEN: [&str; 12] =
    ["a/1", "a/2", "a/3", "a/4", "a/5", "a/6", "a/7", "a/8", "a/9", "b/10", "b/11", "b/12"];

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_tried_after_one_two_four_polls_and_so_on() {
    let account = unchanged(account(&["a", "b", "c"]));
    let source = start(Account { fail_tags: [("b", Reason::Decode)].into(), ..account });
    pass(20 * 60).await;
    assert_eq!(minutes(&source, "b"), [0, 1, 3, 7, 15]);
    assert_eq!(minutes(&source, "a"), [0]);
    assert_eq!((source.metric("tag_listings_failing", &[]), failures(&source, "decode")), (1.0, 0.0));
    source.edit(|account| account.fail_tags.clear());
    pass(11 * 60 + 1).await;
    assert_eq!(minutes(&source, "b").last(), Some(&31));
    assert_eq!(
        (source.metric("tag_listings_failing", &[]), source.repositories().as_str()),
        (0.0, "a+ b+ c+")
    );
}

#[tokio::test(start_paused = true)]
async fn two_that_fail_alone_in_their_turn_fail_nothing() {
    let account = unchanged(account(&["a", "b", "c", "d", "e"]));
    let source =
        start(Account { fail_tags: [("d", Reason::Server), ("e", Reason::Server)].into(), ..account });
    pass(10 * 60).await;
    assert_eq!(failures(&source, "server"), 0.0);
    assert_eq!(source.state.borrow().status.collectors[2].failure, None);
}

#[tokio::test(start_paused = true)]
async fn the_collector_fails_when_more_than_half_fail_that_did_not_before() {
    let source = start(account(&["a", "b", "c"]));
    source.edit(|account| account.fail_tags = [("a", Reason::NotFound), ("b", Reason::NotFound)].into());
    pass(1).await;
    assert_eq!(failures(&source, "not_found"), 1.0, "everybody's 404 is told");
    source.edit(|account| account.fail_tags = [("c", Reason::Server)].into());
    pass(60).await;
    assert_eq!(failures(&source, "server"), 0.0, "one alone is not");
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_organization_costs_three_calls_and_what_was_under_way() {
    let mut account = account(&FORBIDDEN);
    account.fail_tags =
        (1..=9).map(|n| (FORBIDDEN[n - 1].split_once('/').unwrap().1, Reason::Forbidden)).collect();
    let source = start(account);
    pass(1).await;
    let calls = source.tag_calls();
    assert!(calls.starts_with("1 2 3") && calls.ends_with("10 11 12"), "{calls}");
    let of_forbidden = |calls: &str| calls.split(' ').filter(|name| name.len() == 1).count();
    assert!(of_forbidden(&calls) <= 4, "{calls}");
    assert_eq!(source.repositories(), "1 2 3 4 5 6 7 8 9 10+ 11+ 12+");
    let before = calls.len();
    let first = failures(&source, "forbidden");
    pass(60).await;
    let later = source.tag_calls()[before..].to_owned();
    assert!(of_forbidden(later.trim()) <= 4 && later.ends_with("10 11 12"), "{later}");
    assert_eq!(failures(&source, "forbidden"), first, "what is known to be forbidden fails nothing more");
    source.edit(|account| account.fail_tags.clear());
    pass(240).await;
    assert_eq!(source.repositories(), "1+ 2+ 3+ 4+ 5+ 6+ 7+ 8+ 9+ 10+ 11+ 12+");
}

#[tokio::test(start_paused = true)]
async fn the_collector_fails_as_long_as_everything_is_forbidden() {
    let mut account = account(&FORBIDDEN);
    let names = FORBIDDEN.map(|name| name.split_once('/').unwrap().1);
    account.fail_tags = names.map(|name| (name, Reason::Forbidden)).into();
    let source = start(account);
    pass(1).await;
    assert_eq!(failures(&source, "forbidden"), 1.0);
    pass(60).await;
    assert_eq!(failures(&source, "forbidden"), 2.0, "{}", source.tag_calls());
}

#[tokio::test(start_paused = true)]
async fn running_out_of_time_succeeds_and_ends_a_failure() {
    let source = start(account(&["a", "b", "c", "d", "e", "f", "g"]));
    source.edit(|account| {
        account.fail_tags = ["a", "b", "c", "d", "e", "f", "g"].map(|n| (n, Reason::Server)).into();
    });
    pass(1).await;
    assert!(source.state.borrow().status.collectors[2].failure.is_some());
    source.edit(|account| {
        account.fail_tags.clear();
        account.tags_take = Duration::from_secs(20);
    });
    pass(118).await;
    assert!(source.metric("tag_listings_pending", &[]) > 0.0);
    let state = source.state.borrow().clone();
    assert_eq!(state.status.collectors[2].failure, None);
    assert!(state.status.collectors[2].last_success.is_some());
    assert!(source.metric("poll_last_success_timestamp_seconds", &[("collector", "tags")]) > 1e9);
}

#[tokio::test(start_paused = true)]
async fn a_credential_refused_while_tags_are_read_fails_them() {
    let source = start(account(&["a", "b", "c", "d", "e"]));
    source.edit(|account| _ = account.fail_tags.insert("b", Reason::Unauthorized));
    pass(1).await;
    assert_eq!(failures(&source, "unauthorized"), 1.0);
    assert_eq!(source.metric("tag_listings_failing", &[]), 0.0, "it says nothing of the repository");
    assert!(source.repositories().starts_with("a+"), "what was read before counts");
}

#[tokio::test(start_paused = true)]
async fn what_changed_just_before_its_tags_were_read_is_read_once_more() {
    let ago = |seconds| Timestamp::from(SystemTime::now() - Duration::from_secs(seconds));
    let source = start(Account {
        updated: [("now", ago(0)), ("just", ago(50)), ("before", ago(70)), ("ahead", ago(0))].into(),
        ..account(&["now", "just", "before", "ahead"])
    });
    // A cloud whose clock is fast.
    source.edit(|account| {
        _ = account.updated.insert("ahead", Timestamp::from(SystemTime::now() + Duration::from_hours(1)));
    });
    pass(4 * 60 + 1).await;
    let all = |source: &Running| ["now", "just", "before", "ahead"].map(|name| minutes(source, name));
    assert_eq!(all(&source), [vec![0, 1], vec![0, 1], vec![0], vec![0, 1]]);
    source.edit(|account| _ = account.updated.insert("now", ago(1)));
    pass(4 * 60).await;
    assert_eq!(minutes(&source, "now"), [0, 1, 5, 6], "it changed again");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_states_no_image_has_no_tags_and_costs_no_call() {
    let updated = unchanged(account(&["a", "b"])).updated;
    let source = start(Account { images: [("a", 0), ("b", 1)].into(), updated, ..account(&["a", "b"]) });
    let tags = |source: &Running| {
        let state = source.state.borrow();
        let entries = &state.inventory.repositories.as_ref().unwrap().entries;
        entries.iter().map(|entry| entry.tags.as_ref().unwrap().newest.len()).collect::<Vec<_>>()
    };
    pass(1).await;
    assert_eq!((tags(&source), source.tag_calls().as_str()), (vec![0, 1], "b"));
    source.edit(|account| account.images = [("a", 1), ("b", 0)].into());
    pass(60).await;
    assert_eq!((tags(&source), source.tag_calls().as_str()), (vec![1, 0], "b a"), "at once, not at its turn");
    // It could not be read before; now there is nothing to read, and nothing that fails.
    source.edit(|account| {
        account.fail_tags = [("a", Reason::Server)].into();
        account.images.insert("a", 2);
    });
    pass(60).await;
    assert_eq!((tags(&source), source.metric("tag_listings_failing", &[])), (vec![1, 0], 1.0));
    source.edit(|account| _ = account.images.insert("a", 0));
    pass(60).await;
    assert_eq!((tags(&source), source.metric("tag_listings_failing", &[])), (vec![0, 0], 0.0));
    assert_eq!(source.tag_calls(), "b a a");
}

#[tokio::test(start_paused = true)]
async fn totals_that_do_not_match_count_for_all_tags_whichever_a_poll_reads() {
    let account = unchanged(account(&["a", "b", "c"]));
    let source = start(Account { mismatches: [("a", 2), ("b", -1)].into(), ..account });
    let mismatch = || source.metric("listing_total_mismatch", &[("collector", "tags")]);
    pass(1).await;
    assert_eq!(mismatch(), 1.0);
    // No tags are read, then those of one that matches, then those of one that did not.
    pass(60).await;
    assert_eq!((mismatch(), source.tag_calls().as_str()), (1.0, "a b c"));
    source.edit(|account| _ = account.images.insert("c", 3));
    pass(60).await;
    assert_eq!((mismatch(), source.tag_calls().as_str()), (1.0, "a b c c"));
    source.edit(|account| {
        account.mismatches.remove("a");
        account.images.insert("a", 3);
    });
    pass(60).await;
    assert_eq!(mismatch(), -1.0);
    source.edit(|account| account.repositories = vec!["a", "c"]);
    pass(60).await;
    assert_eq!(mismatch(), 0.0, "it went with its repository");
}
