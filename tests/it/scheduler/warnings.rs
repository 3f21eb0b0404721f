//! What is told in the log: every change to bad once, and nothing that repeats.

use std::io;

use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// The lines of the log of this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The warnings since the last time.
    fn warnings(&self) -> Vec<String> {
        self.lines(" WARN ")
    }

    /// The lines with `part` so far; none is there the next time.
    fn lines(&self, part: &str) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_turns_bad_is_one_warning_with_its_reason_and_the_next_attempt() {
    for reason in [Reason::Connect, Reason::Timeout, Reason::Unauthorized, Reason::Decode] {
        let (log, _guard) = Log::start();
        let source = start(account(&["a"]));
        pass(1).await;
        assert_eq!(log.warnings(), Vec::<String>::new());
        // As when another source was refused, or the poll's time was up before the first turn: nothing was sent.
        source.edit(|account| (account.fail_repositories, account.attempts) = (Some(reason), 0));
        pass(180).await;
        let warnings = log.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:#?}");
        for part in [format!("reason=\"{}\"", reason.as_str()), "next_attempt=2".to_owned()] {
            assert!(warnings[0].contains(&part), "{part} is not in: {}", warnings[0]);
        }
        source.edit(|account| account.fail_repositories = None);
        pass(60).await;
        source.edit(|account| account.fail_repositories = Some(reason));
        pass(60).await;
        assert_eq!(log.warnings().len(), 1, "it turned bad again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_revoked_while_tags_are_read_is_one_warning() {
    let (log, _guard) = Log::start();
    let source = start(account(&["a", "b", "c"]));
    pass(1).await;
    source.edit(|account| _ = account.fail_tags.insert("b", Reason::Unauthorized));
    pass(60).await;
    // From now on nothing is sent: the guard waits.
    source.edit(|account| {
        account.attempts = 0;
        account.fail_repositories = Some(Reason::Unauthorized);
        account.fail_shared = Some(Reason::Unauthorized);
    });
    pass(120).await;
    let warnings = log.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains("collector=\"tags\""), "{}", warnings[0]);
}

#[tokio::test(start_paused = true)]
async fn each_list_that_turns_bad_is_told_by_name_those_of_one_poll_together() {
    let (log, _guard) = Log::start();
    let source = start(Account { lists: vec!["a", "b", "c"], ..account(&["a/x", "b/x", "c/x"]) });
    pass(1).await;
    for (failing, told) in [(&["a", "b"][..], "lists=\"a, b\""), (&["a", "b", "c"], "lists=\"c\"")] {
        source.edit(|account| {
            account.fail_lists = failing.iter().map(|name| (*name, Reason::Server)).collect();
        });
        pass(120).await;
        let warnings = log.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains(told), "{warnings:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_list_that_turns_good_or_too_old_is_told_by_name() {
    let (log, _guard) = Log::start();
    let source = start(Account { lists: vec!["a", "b", "c"], ..account(&["a/x", "b/x", "c/x"]) });
    pass(1).await;
    source.edit(|account| account.fail_lists = [("a", Reason::Server), ("b", Reason::Server)].into());
    pass(120).await;
    _ = log.warnings();
    source.edit(|account| _ = account.fail_lists.remove("a"));
    pass(120).await;
    let lines = log.lines("again");
    assert!(lines.len() == 1 && lines[0].contains("lists=\"a\""), "{lines:#?}");
    pass(600).await;
    let lines = log.warnings();
    assert!(lines.len() == 1 && lines[0].contains("lists=\"b\""), "{lines:#?}");
    assert!(lines[0].contains("too old"), "{lines:#?}");
    source.edit(|account| account.fail_lists.clear());
    pass(60).await;
    assert_eq!(log.lines("poll succeeded").len(), 1, "that says all");
    source.edit(|account| account.fail_repositories = Some(Reason::Connect));
    pass(720).await;
    assert_eq!(log.lines("too old").len(), 1, "all together are told as one");
}

#[tokio::test(start_paused = true)]
async fn a_list_and_the_shared_ones_that_become_too_old_together_are_both_told() {
    let (log, _guard) = Log::start();
    let source = start(Account { lists: vec!["a", "b"], ..account(&["a/x", "b/x"]) });
    pass(1).await;
    source.edit(|account| {
        account.fail_lists.insert("b", Reason::Server);
        account.fail_shared = Some(Reason::Server);
    });
    pass(660).await;
    assert_eq!(log.lines("too old").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn repositories_whose_tags_cannot_be_read_are_told_by_name_when_they_turn_bad() {
    let (log, _guard) = Log::start();
    let source = start(account(&["a", "b", "c", "d"]));
    pass(1).await;
    source.edit(|account| _ = account.fail_tags.insert("b", Reason::Decode));
    pass(10 * 60).await;
    let warnings = log.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    for part in ["repositories=\"group/b\"", "reason=\"decode\"", "tags not read"] {
        assert!(warnings[0].contains(part), "{part} is not in: {}", warnings[0]);
    }
    source.edit(|account| account.fail_tags.clear());
    pass(10 * 60).await;
    source.edit(|account| _ = account.fail_tags.insert("b", Reason::Server));
    pass(60).await;
    assert_eq!(log.warnings().len(), 1, "it turned bad again");
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_organization_is_told_once() {
    let (log, _guard) = Log::start();
    let names = ["a/1", "a/2", "a/3", "a/4", "a/5", "a/6", "a/7", "a/8", "a/9", "b/10", "b/11"];
    let forbidden = names[..9].iter().map(|name| (&name[2..], Reason::Forbidden));
    let source = start(Account { fail_tags: forbidden.collect(), ..account(&names) });
    pass(61).await;
    assert_eq!(log.warnings().len(), 1);
    // Another repository's failure is told with its own reason, though more of the organization fails before it.
    source.edit(|account| _ = account.fail_tags.insert("10", Reason::Decode));
    pass(60).await;
    let warnings = log.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("repositories=\"b/10\""), "{warnings:#?}");
    assert!(warnings[0].contains("reason=\"decode\""), "{warnings:#?}");
    pass(10 * 60).await;
    assert_eq!(log.warnings(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn names_that_match_nothing_are_warned_of_once_with_those_spelled_alike() {
    let (log, _guard) = Log::start();
    let named = vec!["prd", "prod", "zzz"];
    let source = start(Account { lists: named, existing: vec!["prod", "stage"], ..account(&["prod/x"]) });
    pass(180).await;
    let warnings = log.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    for part in ["names=\"prd, zzz\"", "similar=\"prod\""] {
        assert!(warnings[0].contains(part), "{part} is not in: {}", warnings[0]);
    }
    let asked = || source.account.lock().unwrap().calls.iter().filter(|(_, call)| call == "existing").count();
    assert_eq!(asked(), 1);
    source.edit(|account| account.repositories = vec!["prd/x"]);
    pass(60).await;
    assert!(log.warnings()[0].contains("names=\"prod\""), "it became empty");
}
