//! Which rows of a listing one page shows, and what it says about the total.

use super::fault::Fault;

/// A stretch of row numbers. Beyond the end of the listing, which only endless pages reach, rows start over and get
/// their number as a suffix of their name.
pub(super) struct Window {
    pub first: usize,
    pub end: usize,
    /// The total as stated, in JSON; `None` for none.
    pub total: Option<String>,
    /// Whether the service should say that more rows follow.
    pub more: bool,
    offset: usize,
    length: usize,
}

impl Window {
    /// The rows `offset..offset + limit` of `length`, as distorted by the fault.
    pub fn new(length: usize, offset: usize, limit: usize, fault: Option<&Fault>) -> Self {
        let honest = |offset| Self::honest(length, offset, limit);
        match fault {
            Some(Fault::RepeatPage) => honest(0),
            Some(Fault::NoTotal) => Self { total: None, ..honest(offset) },
            Some(Fault::TotalAs(total)) => Self { total: Some(total.clone()), ..honest(offset) },
            Some(Fault::WrongTotal(by)) => {
                let total = i64::try_from(length).unwrap_or(i64::MAX).saturating_add(*by);
                Self { total: Some(total.to_string()), ..honest(offset) }
            }
            Some(Fault::NoRows) => Self { first: offset, end: offset, more: false, ..honest(offset) },
            Some(Fault::EndlessPages) if length > 0 => Self {
                first: offset,
                end: offset.saturating_add(limit),
                total: None,
                more: true,
                ..honest(offset)
            },
            _ => honest(offset),
        }
    }

    fn honest(length: usize, offset: usize, limit: usize) -> Self {
        let first = offset.min(length);
        let end = offset.saturating_add(limit).min(length);
        Self { first, end, total: Some(length.to_string()), more: end < length, offset, length }
    }

    /// There is nothing to show although something before it was asked for.
    pub fn is_past_the_end(&self) -> bool {
        self.count() == 0 && self.offset > 0 && self.offset >= self.length
    }

    /// How many rows the page has.
    pub fn count(&self) -> usize {
        self.end - self.first
    }

    /// Row numbers within the listing, with the suffix of rows that are made up.
    pub fn rows(&self) -> impl Iterator<Item = (usize, Option<usize>)> {
        let length = self.length;
        (self.first..self.end).map(move |row| (row % length.max(1), (row >= length).then_some(row)))
    }
}

/// The name of a row, with the suffix of a made-up one.
pub(super) fn suffixed(name: &str, suffix: Option<usize>) -> std::borrow::Cow<'_, str> {
    match suffix {
        None => name.into(),
        Some(number) => format!("{name}-{number}").into(),
    }
}
