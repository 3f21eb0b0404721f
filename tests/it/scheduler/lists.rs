//! Sources whose repositories come in several lists: each stands for itself.

use super::restart::{memory_of, restart};
use super::*;

/// An account of the organizations `a`, `b` and `c` with a list each.
fn three(repositories: &[&'static str]) -> Account {
    Account { lists: vec!["a", "b", "c"], ..account(repositories) }
}

/// The organizations' states as the page tells them, `a1 b0`.
fn ups(source: &Running) -> String {
    let state = source.state.borrow();
    let up = |(name, up): &(Box<str>, bool)| format!("{name}{}", u8::from(*up));
    state.inventory.organizations_up.iter().map(up).collect::<Vec<_>>().join(" ")
}

fn listed(source: &Running) -> Option<u64> {
    source.state.borrow().inventory.repositories.as_ref()?.listed
}

fn down(source: &Running) -> Vec<String> {
    let state = source.state.borrow();
    state
        .status
        .lists_down
        .iter()
        .map(|list| format!("{} {}", list.name, list.failure.reason.as_str()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_keeps_its_rows_and_the_others_are_published_fresh() {
    let source = start(three(&["a/x", "b/x", "c/x"]));
    pass(1).await;
    assert_eq!((ups(&source).as_str(), source.up(), listed(&source)), ("a1 b1 c1", Some(true), Some(3)));
    source.edit(|account| {
        account.repositories = vec!["a/y", "b/y", "c/y"];
        account.fail_lists = [("b", Reason::Server), ("c", Reason::Connect)].into();
    });
    pass(60).await;
    assert_eq!(source.repositories(), "y+ x+ x+");
    assert_eq!((ups(&source).as_str(), source.up(), listed(&source)), ("a1 b0 c0", Some(false), Some(3)));
    assert_eq!(down(&source), ["b server", "c connect"]);
    assert_eq!(source.tag_calls(), "x x x y", "tags are read of what was listed");
    let of = |reason| [("collector", "repositories"), ("reason", reason)];
    assert_eq!(source.metric("poll_failures_total", &of("server")), 1.0, "that of the first by name");
    assert_eq!(source.metric("poll_failures_total", &of("connect")), 0.0);
    source.edit(|account| account.fail_lists.clear());
    pass(60).await;
    assert_eq!((source.repositories().as_str(), ups(&source).as_str()), ("y+ y+ y+", "a1 b1 c1"));
    assert!(down(&source).is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_becomes_too_old_alone() {
    let source = start(three(&["a/x", "b/x", "c/x"]));
    pass(1).await;
    source.edit(|account| _ = account.fail_lists.insert("b", Reason::Server));
    pass(598).await;
    assert_eq!((source.repositories().as_str(), listed(&source)), ("x+ x+ x+", Some(3)));
    pass(2).await;
    assert_eq!((source.repositories().as_str(), listed(&source)), ("x+ x+", Some(2)));
    assert_eq!(ups(&source), "a1 b0 c1", "its own state stays");
    let organizations = source.state.borrow().inventory.repositories.as_ref().unwrap().organizations.clone();
    assert_eq!(organizations.unwrap().join(" "), "a c");
    source.edit(|account| account.fail_repositories = Some(Reason::Server));
    pass(700).await;
    assert_eq!((source.repositories().as_str(), ups(&source).as_str()), ("unknown", "a0 b0 c0"));
}

#[tokio::test(start_paused = true)]
async fn what_was_never_listed_keeps_the_sum_unknown() {
    let source = start(Account { fail_lists: [("b", Reason::Forbidden)].into(), ..three(&["a/x", "b/x"]) });
    pass(1).await;
    assert_eq!((source.repositories().as_str(), listed(&source)), ("x+", None));
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_long_holds_up_neither_the_others_nor_their_tags() {
    let source = start(Account {
        lists_take: [("a", Duration::from_secs(40))].into(),
        ..three(&["a/x", "b/x", "c/x"])
    });
    pass(2).await;
    assert_eq!((source.repositories().as_str(), source.shared()), ("x+ x+", Some(2)));
    assert_eq!((source.up(), ups(&source).as_str()), (None, "b1 c1"));
    pass(39).await;
    assert_eq!((source.repositories().as_str(), source.up()), ("x+ x+ x+", Some(true)));
}

#[tokio::test(start_paused = true)]
async fn an_organization_that_is_gone_is_gone_with_all_that_was_said_of_it() {
    let source = start(three(&["a/x", "b/x", "c/x"]));
    pass(1).await;
    let success =
        |name| source.metric("organization_last_success_timestamp_seconds", &[("organization", name)]);
    assert!(success("b") > 1e9);
    source.edit(|account| account.lists = vec!["a", "c"]);
    pass(60).await;
    assert_eq!((source.repositories().as_str(), ups(&source).as_str()), ("x+ x+", "a1 c1"));
    let families = source.metrics.gather();
    let family = families.iter().find(|family| family.name().contains("organization_last_success")).unwrap();
    assert_eq!(family.get_metric().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_brings_all_down_and_another_failure_of_the_names_none() {
    let source = start(three(&["a/x", "b/x", "c/x"]));
    pass(1).await;
    source.edit(|account| account.fail_names = Some(Reason::Server));
    pass(60).await;
    assert_eq!((ups(&source).as_str(), source.up()), ("a1 b1 c1", Some(false)));
    assert_eq!(source.repositories(), "x+ x+ x+");
    source.edit(|account| account.fail_names = Some(Reason::Unauthorized));
    pass(60).await;
    assert_eq!((ups(&source).as_str(), source.up()), ("a0 b0 c0", Some(false)));
}

#[tokio::test(start_paused = true)]
async fn each_is_as_old_after_a_restart_as_it_was() {
    let old = three(&["a/x", "b/x", "c/x"]);
    let memory = memory_of(old, 4, |account| _ = account.fail_lists.insert("b", Reason::Server)).await;
    let lists = &memory.repositories.as_ref().unwrap().listings;
    assert!(lists[1].read < lists[0].read && lists[0].read <= lists[2].read);
    let fails = Account { fail_repositories: Some(Reason::Connect), ..three(&["a/x", "b/x", "c/x"]) };
    let source = restart(&memory, fails, Duration::from_mins(6));
    assert_eq!((source.repositories().as_str(), ups(&source).as_str()), ("x+ x+ x+", ""));
    let success =
        |name| source.metric("organization_last_success_timestamp_seconds", &[("organization", name)]);
    assert!(success("b") <= success("a"));
    pass(62).await;
    assert_eq!((source.repositories().as_str(), ups(&source).as_str()), ("x+ x+", "a0 b0 c0"));
    pass(180).await;
    assert_eq!(source.repositories(), "unknown");
}
