//! Tags that cannot be read: neither do they fail the collector for ever, nor do others wait for them.

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
