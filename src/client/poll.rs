//! The poll that a call belongs to.

use tokio::time::{Instant, timeout_at};

/// One poll: when it began, and how long it may take.
pub struct Poll {
    started: Instant,
    deadline: Option<Instant>,
    first_pages: bool,
}

impl Poll {
    /// A poll that begins now and must end by `deadline`.
    pub fn new(deadline: Option<Instant>) -> Self {
        Self { started: Instant::now(), deadline, first_pages: false }
    }

    /// A poll that reads only the first page of every listing.
    pub fn of_first_pages(deadline: Option<Instant>) -> Self {
        Self { first_pages: true, ..Self::new(deadline) }
    }

    /// Whether only the first page of every listing is wanted.
    pub fn first_pages(&self) -> bool {
        self.first_pages
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// When it must end.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether its time is up.
    pub fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// `future`, or `None` when the poll must end before it does.
    pub async fn within<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        match self.deadline {
            Some(deadline) => timeout_at(deadline, future).await.ok(),
            None => Some(future.await),
        }
    }
}
