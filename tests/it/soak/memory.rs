//! The API of an account in memory, which tells the rules of every call as it happens.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use container_registry_exporter::client::{ApiError, Call, Cause, Listing, Poll, Refusal, Verdict};
use container_registry_exporter::inventory::{Center, Repository, SharedRepository};
use container_registry_exporter::provider::{Provider, TagListing};
use container_registry_exporter::telemetry::Reason;
use tokio::time::{Instant, sleep_until};

use super::account::Account;
use super::random::Random;
use super::rules::{Rules, key};
use super::weather::{Answers, Season, Weather};

/// Simulated time passes in these steps.
pub const STEP: Duration = Duration::from_millis(1);

/// The account, how its API fares, and what the exporter must make of it.
pub struct Cloud {
    pub account: Account,
    pub random: Random,
    pub season: Season,
    pub weather: Weather,
    pub rules: Rules,
    /// When answers come: no two at the same time, so that their order is known.
    pub ends: BTreeSet<Instant>,
    /// When the poll must end.
    pub deadline: Instant,
    /// The first call that should not have been made.
    pub disagreement: Option<String>,
}

/// The provider that reads it.
pub struct InMemory(pub Arc<Mutex<Cloud>>);

impl InMemory {
    fn cloud(&self) -> MutexGuard<'_, Cloud> {
        self.0.lock().expect("nobody panics with it")
    }

    /// Waits for the next answer of a kind; a request has no more time than the poll.
    async fn answer(&self, answers: Answers) -> Result<(), Reason> {
        let (end, outcome) = {
            let mut cloud = self.cloud();
            let (take, outcome) = answers.next(&mut cloud.random);
            let mut end = take.map_or(cloud.deadline, |take| Instant::now() + take);
            while !cloud.ends.insert(end) {
                end += STEP;
            }
            if end < cloud.deadline { (end, outcome) } else { (cloud.deadline, Err(Reason::Timeout)) }
        };
        sleep_until(end).await;
        outcome
    }
}

#[async_trait]
impl Provider for InMemory {
    async fn listings(&self, poll: &Poll) -> Result<Listing<Box<str>>, ApiError> {
        let cloud = &mut *self.cloud();
        cloud.weather = cloud.season.next(&mut cloud.random);
        cloud.account.live(&mut cloud.random);
        cloud.rules.begin();
        cloud.ends.clear();
        cloud.deadline = poll.deadline().expect("every poll has one");
        Ok(Listing::of(vec!["".into()]))
    }

    async fn repositories(&self, _: &Poll, _: &str) -> Result<Listing<Repository>, ApiError> {
        let answers = self.cloud().weather.list;
        let outcome = self.answer(answers).await;
        let cloud = &mut *self.cloud();
        let list = cloud.account.list();
        cloud.rules.listed(Instant::now(), outcome.map(|()| list.clone()));
        let duplicates = cloud.random.below(3) / 2;
        if outcome.is_ok() {
            cloud.rules.counts.duplicates += duplicates;
        }
        outcome.map_err(error)?;
        Ok(Listing { rows: list.rows, duplicates, mismatch: 0 })
    }

    async fn shared_repositories(
        &self,
        _: &Poll,
        center: Center,
    ) -> Result<Listing<SharedRepository>, ApiError> {
        let answers = self.cloud().weather.shared;
        let outcome = self.answer(answers).await;
        let cloud = &mut *self.cloud();
        // Pushes and deletions while the poll is under way.
        cloud.account.happen(&mut cloud.random);
        let rows = cloud.account.shared(center);
        cloud.rules.shared(Instant::now(), center, outcome.map(|()| rows.clone()));
        outcome.map_err(error)?;
        Ok(Listing::of(rows))
    }

    async fn tags(&self, _: &Poll, repository: &Repository) -> Result<TagListing, ApiError> {
        let key = key(repository);
        let answers = {
            let cloud = &mut *self.cloud();
            let expected = cloud.rules.next_read();
            if expected.as_ref() != Some(&key) {
                let disagreement = format!("the tags of {key:?} are read instead of those of {expected:?}");
                cloud.disagreement.get_or_insert(disagreement);
            }
            cloud.weather.tags
        };
        let outcome = self.answer(answers).await;
        if Instant::now() >= self.cloud().deadline {
            // What the end of the poll cuts off has no outcome.
            pending::<()>().await;
        }
        let cloud = &mut *self.cloud();
        let tags = cloud.account.tags(&key).ok_or(Reason::NotFound);
        let outcome = outcome.and_then(|()| tags.cloned());
        cloud.rules.read(&key, Instant::now(), outcome.clone());
        let rows = outcome.map_err(error)?;
        let images = cloud.rules.settings.ncr.then_some(rows.len() as u64);
        Ok(TagListing { listing: Listing::of(rows), images })
    }
}

fn error(reason: Reason) -> ApiError {
    let url = "https://registry.example/list".parse().expect("it is an address");
    let call = Call { operation: "list", method: "GET", url: &url, body_limit: 0 };
    let credential = Verdict::Unknown;
    let refusal =
        Refusal { status: 418, reason, code: None, message: None, cure: None, retry: false, credential };
    ApiError::new(call, 1, Duration::ZERO, Cause::Refused { refusal, retry_after: None })
}
