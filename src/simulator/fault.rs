//! What can go wrong, as data.

use super::call::Call;
use super::error_body::ErrorBody;
use std::time::Duration;

/// One way in which a call misbehaves.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers with a status, perhaps `Retry-After`, and an error body.
    Status {
        /// HTTP status.
        code: u16,
        /// Value of `Retry-After`: seconds or a date.
        retry_after: Option<String>,
        /// The body.
        body: ErrorBody,
    },
    /// Refuses the credential although it is right, with the service's own 401; counts as refused.
    Unauthorized,
    /// Never answers; ends when the caller goes away or the simulator stops.
    Hang,
    /// Resets the TCP connection instead of answering.
    Reset,
    /// Announces the whole body, sends half of it and closes the connection.
    Truncate,
    /// 200 with an HTML page.
    Html,
    /// 200 with `Content-Type: application/json` and half a JSON document, complete as HTTP.
    NotJson,
    /// 200 with this JSON, whatever was asked for.
    Json(String),
    /// The right answer behind a byte order mark.
    ByteOrderMark,
    /// States this JSON in place of every total, in `Content-Range` too.
    TotalAs(String),
    /// 200 without a body.
    EmptyBody,
    /// The right answer with every number as text, every text as number and every boolean as text.
    WrongTypes,
    /// 200 with 256 MiB of JSON white space before anything else.
    HugeBody,
    /// 200 with about 1 MB of valid gzip that unpacks to 1 GiB, accepted by the caller or not.
    GzipBomb,
    /// 307 to this address.
    Redirect(String),
    /// The right answer, one byte after each pause.
    SlowDrip(Duration),
    /// The first page, whatever page is asked for.
    RepeatPage,
    /// After each first page of several the first row disappears for good: the row that moves into it is on no page,
    /// and later pages state a total that is one less.
    ShiftWhilePaging,
    /// The same, and a row is added at the end, so the total stays the same: only the keys tell.
    ShiftByLuck,
    /// States a total that is this much larger than the truth.
    WrongTotal(i64),
    /// States no total: no `Content-Range`, no `total_range`, no `count`.
    NoTotal,
    /// No rows, and the right total beside them.
    NoRows,
    /// Every page is full of further made-up rows, whatever page is asked for; no total.
    EndlessPages,
}

impl Fault {
    /// A bare status without a body.
    pub fn status(code: u16) -> Self {
        Self::Status { code, retry_after: None, body: ErrorBody::empty() }
    }
}

/// The faults in force.
#[derive(Default)]
pub(super) struct Faults {
    rules: Vec<Rule>,
    next_id: u64,
}

struct Rule {
    id: u64,
    call: Call,
    fault: Fault,
    key: Option<String>,
    from: u64,
    times: Option<u64>,
    seen: u64,
}

impl Faults {
    /// Adds a fault that hits every request of the call from now on.
    pub fn add(&mut self, call: Call, fault: Fault) -> u64 {
        self.next_id += 1;
        self.rules.push(Rule { id: self.next_id, call, fault, key: None, from: 1, times: None, seen: 0 });
        self.next_id
    }

    pub fn set_key(&mut self, id: u64, key: &str) {
        self.change(id, |rule| rule.key = Some(key.to_owned()));
    }

    pub fn set_from(&mut self, id: u64, number: u64) {
        self.change(id, |rule| rule.from = number);
    }

    pub fn set_times(&mut self, id: u64, times: u64) {
        self.change(id, |rule| rule.times = Some(times));
    }

    fn change(&mut self, id: u64, change: impl FnOnce(&mut Rule)) {
        if let Some(rule) = self.rules.iter_mut().find(|rule| rule.id == id) {
            change(rule);
        }
    }

    pub fn remove(&mut self, id: u64) {
        self.rules.retain(|rule| rule.id != id);
    }

    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// Counts the request at every rule it matches; the oldest rule that is due decides.
    pub fn pick(&mut self, call: Call, key: &str) -> Option<Fault> {
        let mut due = None;
        for rule in &mut self.rules {
            if rule.call != call || rule.key.as_deref().is_some_and(|wanted| wanted != key) {
                continue;
            }
            rule.seen += 1;
            let after = rule.seen.checked_sub(rule.from);
            let hit = after.is_some_and(|after| rule.times.is_none_or(|times| after < times));
            if hit && due.is_none() {
                due = Some(rule.fault.clone());
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_hits_from_its_request_for_its_times() {
        let mut faults = Faults::default();
        let id = faults.add(Call::ListTags, Fault::Hang);
        faults.set_key(id, "a/b");
        faults.set_from(id, 2);
        faults.set_times(id, 2);
        assert!(faults.pick(Call::ListRepositories, "").is_none());
        let hits: Vec<bool> = (0..5).map(|_| faults.pick(Call::ListTags, "a/b").is_some()).collect();
        assert_eq!(hits, [false, true, true, false, false]);
        assert!(faults.pick(Call::ListTags, "a/c").is_none());
    }
}
