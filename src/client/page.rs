//! The page walk.

/// One page of a listing.
pub struct Page<T> {
    /// Its rows.
    pub rows: Vec<T>,
    /// The number of rows of the whole listing, where the page states it.
    pub total: Option<u64>,
    /// What comes after it.
    pub next: Next,
}

/// What comes after a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the API's own end.
    End,
    /// The page at this offset, or of this number.
    At(u64),
}

/// A whole listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    /// Every row once, in the order of the API.
    pub rows: Vec<T>,
    /// Rows that the API listed again.
    pub duplicates: u64,
    /// The stated total minus the rows.
    pub mismatch: i64,
}
