//! What happened: counts, concurrency and a bounded log.

use super::call::{Call, Incoming};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Headers whose values the log keeps; of all others only the names.
const KEPT: [&str; 19] = [
    "accept",
    "accept-encoding",
    "authorization",
    "content-type",
    "host",
    "user-agent",
    "x-auth-token",
    "x-idp-id",
    "x-metadata-token",
    "x-metadata-token-ttl-seconds",
    "x-ncp-apigw-signature-v2",
    "x-ncp-apigw-timestamp",
    "x-ncp-iam-access-key",
    "x-ncp-metadata-token",
    "x-ncp-metadata-token-ttl-seconds",
    "x-project-id",
    "x-sdk-date",
    "x-sdk-content-sha256",
    "x-security-token",
];

/// One request and what became of it.
#[derive(Clone)]
pub struct Exchange {
    /// The call it reached; `None` if there is no such call.
    pub call: Option<Call>,
    /// `GET`, `POST`...
    pub method: String,
    /// Path and query exactly as sent.
    pub target: String,
    /// Names in lower case, with the values of those that matter for authentication and content negotiation.
    pub headers: Vec<(String, Option<String>)>,
    /// When it had arrived.
    pub started: Instant,
    /// When the answer was ready; `None` while it is not, or if the caller went away first.
    pub ended: Option<Instant>,
    /// The status of the answer; `None` before it is ready and if there was none.
    pub status: Option<u16>,
}

impl Exchange {
    /// The kept value of a header, named in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name)?.1.as_deref()
    }
}

#[derive(Default)]
pub(super) struct Recorder(Mutex<Records>);

#[derive(Default)]
struct Records {
    by_call: BTreeMap<Option<Call>, Count>,
    all: Count,
    log: VecDeque<Exchange>,
    /// How many entries were dropped from the front of the log.
    dropped: u64,
}

#[derive(Clone, Copy, Default)]
struct Count {
    requests: u64,
    in_flight: usize,
    most_in_flight: usize,
}

impl Count {
    fn begin(&mut self) {
        self.requests += 1;
        self.in_flight += 1;
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
    }
}

/// A request in flight; ends when dropped.
pub(super) struct Running<'a> {
    recorder: &'a Recorder,
    call: Option<Call>,
    entry: Option<u64>,
    /// The status to log.
    pub status: Option<u16>,
    /// Whether an answer (or a deliberate failure) came about; else the caller went away.
    pub answered: bool,
}

impl Recorder {
    pub fn begin(&self, call: Option<Call>, request: &Incoming<'_>, log_limit: usize) -> Running<'_> {
        let mut records = self.lock();
        records.all.begin();
        records.by_call.entry(call).or_default().begin();
        let entry = (log_limit > 0).then(|| {
            while records.log.len() >= log_limit {
                records.log.pop_front();
                records.dropped += 1;
            }
            records.log.push_back(exchange(call, request));
            records.dropped + records.log.len() as u64 - 1
        });
        Running { recorder: self, call, entry, status: None, answered: false }
    }

    pub fn requests(&self, call: Option<Call>) -> u64 {
        self.lock().by_call.get(&call).map_or(0, |count| count.requests)
    }

    pub fn all_requests(&self) -> u64 {
        self.lock().all.requests
    }

    pub fn most_in_flight(&self, call: Option<Call>) -> usize {
        let records = self.lock();
        match call {
            Some(_) => records.by_call.get(&call).map_or(0, |count| count.most_in_flight),
            None => records.all.most_in_flight,
        }
    }

    pub fn log(&self) -> Vec<Exchange> {
        self.lock().log.iter().cloned().collect()
    }

    /// Forgets everything but what is in flight right now.
    pub fn clear(&self) {
        let mut records = self.lock();
        records.dropped += records.log.len() as u64;
        records.log.clear();
        let Records { by_call, all, .. } = &mut *records;
        for count in by_call.values_mut().chain([all]) {
            *count = Count { requests: 0, in_flight: count.in_flight, most_in_flight: count.in_flight };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut records = self.recorder.lock();
        records.all.in_flight -= 1;
        records.by_call.entry(self.call).or_default().in_flight -= 1;
        let place = self.entry.and_then(|entry| entry.checked_sub(records.dropped));
        let place = place.and_then(|place| usize::try_from(place).ok());
        if let Some(exchange) = place.and_then(|place| records.log.get_mut(place))
            && self.answered
        {
            exchange.ended = Some(Instant::now());
            exchange.status = self.status;
        }
    }
}

fn exchange(call: Option<Call>, request: &Incoming<'_>) -> Exchange {
    let headers = request.headers.iter().map(|(name, value)| {
        let kept =
            KEPT.contains(&name.as_str()).then(|| String::from_utf8_lossy(value.as_bytes()).into_owned());
        (name.as_str().to_owned(), kept)
    });
    Exchange {
        call,
        method: request.method.to_owned(),
        target: request.target.to_owned(),
        headers: headers.collect(),
        started: Instant::now(),
        ended: None,
        status: None,
    }
}
