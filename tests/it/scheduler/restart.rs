//! A source that goes on with what another one, in a process before, knew.

use std::time::SystemTime;

use container_registry_exporter::scheduler::Memory;

use super::*;

/// An account whose list tells when each repository changed, so that unchanged ones need not be read again.
fn dated(repositories: &[&'static str]) -> Account {
    let updated = Timestamp::from_milliseconds(1_600_000_000_000).unwrap();
    Account { updated: repositories.iter().map(|name| (*name, updated)).collect(), ..account(repositories) }
}

/// Lets a source poll, changes its account and lets it poll `polls - 1` times more: what it knows by then.
pub async fn memory_of(account: Account, polls: u64, edit: impl FnOnce(&mut Account)) -> Memory {
    let mut memories = None;
    let source = start_with(Arc::new(Mutex::new(account)), |source| memories = Some(source.memories()));
    let mut memories = memories.unwrap();
    let mut memory = memories.recv().await.unwrap();
    source.edit(edit);
    for _ in 1..polls {
        memory = memories.recv().await.unwrap();
    }
    memory
}

/// A source of this account that goes on with `memory`, `later` after it was taken; it polls once time passes.
pub fn restart(memory: &Memory, account: Account, later: Duration) -> Running {
    start_with(Arc::new(Mutex::new(account)), |source| {
        source.restore(memory.clone(), SystemTime::now() + later);
    })
}

fn last_success(source: &Running) -> Vec<Option<Timestamp>> {
    source.state.borrow().status.collectors.iter().map(|c| c.last_success).collect()
}

#[tokio::test(start_paused = true)]
async fn shows_at_once_what_was_known_and_nothing_of_up() {
    let memory = memory_of(dated(&["a", "b"]), 1, |_| ()).await;
    let source = restart(&memory, dated(&["a", "b"]), Duration::from_mins(9));
    assert_eq!((source.repositories().as_str(), source.shared(), source.up()), ("a+ b+", Some(2), None));
    assert!(source.state.borrow().status.tried);
    pass(1).await;
    assert_eq!(source.up(), Some(true));
}

#[tokio::test(start_paused = true)]
async fn reads_no_tags_of_repositories_that_did_not_change_meanwhile() {
    let memory = memory_of(dated(&["a", "b", "c"]), 1, |_| ()).await;
    let mut account = dated(&["a", "b", "c", "d"]);
    account.updated.insert("b", Timestamp::from_milliseconds(1_700_000_000_000).unwrap());
    let source = restart(&memory, account, Duration::from_mins(1));
    pass(1).await;
    assert_eq!((source.tag_calls().as_str(), source.repositories().as_str()), ("b d", "a+ b+ c+ d+"));
}

#[tokio::test(start_paused = true)]
async fn shows_nothing_of_what_is_too_old_but_need_not_read_it_again() {
    let memory = memory_of(dated(&["a", "b"]), 1, |_| ()).await;
    let source = restart(&memory, dated(&["a", "b"]), Duration::from_mins(10));
    assert_eq!((source.repositories().as_str(), source.shared(), source.up()), ("unknown", None, None));
    assert!(!source.state.borrow().status.tried, "there is nothing to show yet");
    pass(1).await;
    assert_eq!((source.repositories().as_str(), source.tag_calls().as_str()), ("a+ b+", ""));
}

#[tokio::test(start_paused = true)]
async fn ages_count_on() {
    let memory = memory_of(dated(&["a"]), 1, |_| ()).await;
    let source = restart(
        &memory,
        Account {
            fail_repositories: Some(Reason::Connect),
            fail_shared: Some(Reason::Connect),
            ..dated(&["a"])
        },
        Duration::from_mins(7),
    );
    pass(179).await;
    assert_eq!((source.repositories().as_str(), source.shared()), ("a+", Some(2)));
    pass(2).await;
    assert_eq!((source.repositories().as_str(), source.shared()), ("unknown", None));
}

#[tokio::test(start_paused = true)]
async fn the_last_success_is_that_of_before() {
    let memory = memory_of(dated(&["a"]), 1, |_| ()).await;
    let source = restart(
        &memory,
        Account { fail_repositories: Some(Reason::Connect), ..dated(&["a"]) },
        Duration::from_mins(7),
    );
    pass(1).await;
    let restored: Vec<_> = memory.last_success.iter().map(|(_, time)| *time).collect();
    assert_eq!(restored.len(), 3);
    assert_eq!(last_success(&source)[0], Some(restored[0]));
    let metric = source.metric("poll_last_success_timestamp_seconds", &[("collector", "repositories")]);
    #[expect(clippy::cast_precision_loss, reason = "the difference is far below a second")]
    let expected = restored[0].nanoseconds() as f64 / 1e9;
    assert!((metric - expected).abs() < 0.001, "{metric} {expected}");
}

#[tokio::test(start_paused = true)]
async fn what_comes_from_the_future_is_as_good_as_new() {
    let memory = memory_of(dated(&["a"]), 1, |_| ()).await;
    let source = start_with(Arc::new(Mutex::new(dated(&["a"]))), |source| {
        source.restore(memory.clone(), SystemTime::now() - Duration::from_hours(100));
    });
    assert_eq!(source.repositories(), "a+");
    assert!(last_success(&source)[0] < Some(memory.taken), "no success is later than now");
    source.edit(|account| account.fail_repositories = Some(Reason::Connect));
    pass(599).await;
    assert_eq!(source.repositories(), "a+");
    pass(2).await;
    assert_eq!(source.repositories(), "unknown");
}

#[tokio::test(start_paused = true)]
async fn a_repository_whose_tags_failed_before_is_the_first_after() {
    let memory = memory_of(dated(&["a", "b", "c"]), 2, |account| {
        account.fail_tags.insert("c", Reason::Server);
        account.updated.insert("c", Timestamp::from_milliseconds(1_700_000_000_000).unwrap());
    })
    .await;
    let mut account = dated(&["a", "b", "c"]);
    account.updated =
        ["a", "b", "c"].map(|name| (name, Timestamp::from_milliseconds(1_700_000_000_001).unwrap())).into();
    let source = restart(&memory, account, Duration::from_mins(1));
    assert_eq!(source.metric("tag_listings_pending", &[]), 1.0);
    pass(1).await;
    assert_eq!(source.tag_calls(), "c a b");
}

#[tokio::test(start_paused = true)]
async fn hands_out_what_a_failed_list_leaves_only_where_another_succeeded() {
    let mut memories = None;
    let account = Account { fail_repositories: Some(Reason::Server), ..dated(&["a"]) };
    let source = start_with(Arc::new(Mutex::new(account)), |source| memories = Some(source.memories()));
    let mut memories = memories.unwrap();
    let memory = memories.recv().await.unwrap();
    assert!(memory.repositories.is_none() && memory.shared.is_some());
    source.edit(|account| account.fail_shared = Some(Reason::Server));
    pass(600).await;
    assert!(memories.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_poll_does_not_wait_for_whoever_takes_what_is_known() {
    let mut memories = None;
    let account = Arc::new(Mutex::new(dated(&["a"])));
    let source = start_with(account, |source| memories = Some(source.memories()));
    pass(301).await;
    assert_eq!(source.metric("polls_total", &[("collector", "repositories")]), 6.0);
    let memories = memories.as_mut().unwrap();
    assert!(memories.try_recv().is_ok() && memories.try_recv().is_err());
    pass(60).await;
    assert!(memories.try_recv().is_ok());
}
