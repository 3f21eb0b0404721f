//! The reading of tags in one poll: which repository is next, and what all of it comes to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::listings::names_of;
use super::{Source, tag_cache};
use crate::client::ApiError;
use crate::inventory::Repository;
use crate::provider::TagListing;
use crate::telemetry::logging::chain;
use crate::telemetry::{Collector, Reason};

/// After so many refusals in a row and no success an organization's tags are left alone until the next poll.
const FORBIDDEN_IN_A_ROW: u32 = 3;

/// A repository: the index of its list, and its own in there.
pub(super) type Place = (usize, usize);

/// What one poll has read and is still to read.
pub(super) struct Reading {
    /// When the first list was there.
    pub start: Instant,
    /// Those that wait longest come first.
    queue: BTreeSet<(Instant, Place)>,
    /// How many are being read.
    pub under_way: usize,
    /// Nothing more is to be begun.
    pub stopped: bool,
    /// Those to tell of: they failed, and had not at their last reading.
    new_failures: Vec<Arc<Repository>>,
    /// What the first of these failed for.
    first_failure: Option<(Reason, String)>,
    /// The refusal of the credential.
    refused: Option<ApiError>,
    /// How many have ended.
    ended: u64,
    organizations: BTreeMap<Box<str>, Tally>,
}

/// How the repositories of an organization fared.
#[derive(Default)]
struct Tally {
    /// Those whose last reading, in a poll before, had not failed: tried, and failed now.
    tried: u64,
    failed: u64,
    succeeded: bool,
    forbidden_in_a_row: u32,
    /// What the last one failed for, and how many of all had ended then.
    failure: Option<(u64, ApiError)>,
}

impl Tally {
    fn is_forbidden(&self) -> bool {
        !self.succeeded && self.forbidden_in_a_row >= FORBIDDEN_IN_A_ROW
    }
}

impl Reading {
    /// Nothing to read yet.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            queue: BTreeSet::new(),
            under_way: 0,
            stopped: false,
            new_failures: Vec::new(),
            first_failure: None,
            refused: None,
            ended: 0,
            organizations: BTreeMap::new(),
        }
    }

    /// Adds what is due of the list at `list`.
    pub fn add(&mut self, list: usize, due: impl Iterator<Item = (Instant, usize)>) {
        self.queue.extend(due.map(|(since, index)| (since, (list, index))));
    }

    /// The next repository to read; `organization` says to which one it belongs.
    pub fn next<'a>(&mut self, organization: impl Fn(Place) -> &'a str) -> Option<Place> {
        while !self.stopped
            && let Some((_, place)) = self.queue.pop_first()
        {
            if !self.organizations.get(organization(place)).is_some_and(Tally::is_forbidden) {
                self.under_way += 1;
                return Some(place);
            }
        }
        None
    }

    /// Notes how a repository's tags were read; `fresh`: their last reading had not failed.
    pub fn note(&mut self, organization: &str, fresh: bool, outcome: Result<(), ApiError>) {
        self.ended += 1;
        let tally = self.organizations.entry(organization.into()).or_default();
        tally.tried += u64::from(fresh);
        let Err(error) = outcome else {
            tally.succeeded = true;
            return;
        };
        tally.failed += u64::from(fresh);
        if error.reason() == Reason::Forbidden {
            tally.forbidden_in_a_row += 1;
        } else if !tally.is_forbidden() {
            tally.forbidden_in_a_row = 0;
        }
        tally.failure = Some((self.ended, error));
    }

    /// Notes that the credential was refused, whatever repository was to be read with it.
    pub fn refuse(&mut self, error: ApiError) {
        self.stopped = true;
        self.refused.get_or_insert(error);
    }

    /// What it all comes to. `forbidden` are the organizations that were so at their last try, and is brought up to
    /// date: one of which that is known already spoils nothing, unless there is no other.
    pub fn verdict(self, forbidden: &mut BTreeSet<Box<str>>) -> Result<(), ApiError> {
        let before = forbidden.clone();
        for (name, tally) in &self.organizations {
            if tally.succeeded {
                forbidden.remove(name);
            } else if tally.is_forbidden() {
                forbidden.insert(name.clone());
            }
        }
        if let Some(error) = self.refused {
            return Err(error);
        }
        let all_known = self.organizations.keys().all(|name| before.contains(name));
        let counted = self.organizations.into_iter().filter(|(name, _)| all_known || !before.contains(name));
        let tallies: Vec<Tally> = counted.map(|(_, tally)| tally).collect();
        let all_forbidden = tallies.iter().all(Tally::is_forbidden);
        let tried: u64 = tallies.iter().map(|tally| tally.tried).sum();
        let failed: u64 = tallies.iter().map(|tally| tally.failed).sum();
        let last = tallies.into_iter().filter_map(|tally| tally.failure).max_by_key(|(ended, _)| *ended);
        match last {
            Some((_, error)) if all_forbidden || (failed >= 2 && failed > tried - failed) => Err(error),
            _ => Ok(()),
        }
    }
}

impl Source {
    /// Takes what came of reading a repository's tags; `None`: the poll's time was up.
    pub(super) fn learn_tags(
        &mut self,
        reading: &mut Reading,
        (list, index): Place,
        outcome: Option<Result<TagListing, ApiError>>,
    ) {
        reading.under_way -= 1;
        let Some(outcome) = outcome else {
            reading.stopped = true;
            return;
        };
        let tags = &mut self.listings[list].tags;
        let (repository, fresh) = (Arc::clone(tags.repository(index)), !tags.is_failing(index));
        match outcome {
            Ok(TagListing { listing, images }) => {
                let set = tag_cache::tag_set(listing.rows, images, &self.config.tags);
                tags.learn(index, set, listing.mismatch, Instant::now());
                self.metrics.duplicates(listing.duplicates);
                self.metrics.tag_listing(Ok(()));
                reading.note(&repository.organization, fresh, Ok(()));
            }
            // It says nothing of this repository.
            Err(error) if error.reason() == Reason::Unauthorized => {
                // What was not even sent only waited behind what was.
                if error.attempts > 0 || !reading.stopped {
                    self.note_tag_failure(&error);
                }
                reading.refuse(error);
            }
            Err(error) => {
                tags.failed(index, self.polls);
                self.note_tag_failure(&error);
                // Of an organization that is forbidden that was told, and more of it is tried in every poll.
                if fresh && !self.forbidden.contains(&repository.organization) {
                    reading.first_failure.get_or_insert_with(|| (error.reason(), chain(&error)));
                    reading.new_failures.push(Arc::clone(&repository));
                }
                reading.note(&repository.organization, fresh, Err(error));
            }
        }
        self.changed = true;
    }

    pub(super) fn end_tags(&mut self, mut reading: Reading) -> bool {
        let all = self.listings.iter().map(|list| list.tags.mismatch());
        self.note_mismatch(Collector::Tags, all.fold(0, i64::saturating_add));
        let start = reading.start;
        let (failed, first) = (std::mem::take(&mut reading.new_failures), reading.first_failure.take());
        let outcome = reading.verdict(&mut self.forbidden);
        // A few fail nothing but themselves, and are tried more and more seldom.
        if outcome.is_ok()
            && let Some((reason, error)) = first
        {
            let names: Vec<String> =
                failed.iter().map(|row| format!("{}/{}", row.organization, row.name)).collect();
            tracing::warn!(
                source = self.config.name.as_str(),
                repositories = names_of(names.iter().map(String::as_str)),
                reason = reason.as_str(),
                error,
                "tags not read, those known before stay"
            );
        }
        self.finish(Collector::Tags, start, outcome, "")
    }

    fn note_tag_failure(&self, error: &ApiError) {
        let (source, reason) = (self.config.name.as_str(), error.reason());
        self.metrics.tag_listing(Err(reason));
        tracing::debug!(
            source,
            reason = reason.as_str(),
            error = chain(error),
            "tags of a repository not read"
        );
    }

    pub(super) fn note_pending(&mut self) {
        self.status.tags_pending = self.listings.iter().map(|list| list.tags.pending(self.polls)).sum();
        self.status.tags_failing = self.listings.iter().map(|list| list.tags.failing()).sum();
        self.metrics.tag_listings_waiting(self.status.tags_pending, self.status.tags_failing);
    }
}
