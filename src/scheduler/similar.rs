//! Names that are spelled much like another: what was meant where a name matches nothing.

/// The most names to offer for one.
const MOST: usize = 3;

/// Those of `existing` that differ from `name` by a slip or two, the nearest first; none if it is there itself.
pub(super) fn similar<'a>(name: &str, existing: &'a [Box<str>]) -> Vec<&'a str> {
    if existing.iter().any(|other| **other == *name) {
        return Vec::new();
    }
    let wanted = name.to_lowercase();
    // A short name has few letters to get wrong.
    let slips = (1 + wanted.chars().count() / 5).min(3);
    let near = |other: &'a str| {
        let distance = strsim::osa_distance(&wanted, &other.to_lowercase());
        (distance <= slips).then_some((distance, other))
    };
    let mut near: Vec<_> = existing.iter().map(AsRef::as_ref).filter_map(near).collect();
    near.sort_unstable();
    near.into_iter().map(|(_, other)| other).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_what_is_a_slip_away_and_nothing_else() {
        let existing = ["prod", "group", "Library", "team/application-1", "x"].map(Into::into);
        for (name, expected) in [
            ("prd", vec!["prod"]),
            ("gruop", vec!["group"]),
            ("library", vec!["Library"]),
            ("team/aplication-1", vec!["team/application-1"]),
            ("y", vec!["x"]),
            ("staging", vec![]),
            ("prod", vec![]),
        ] {
            assert_eq!(similar(name, &existing), expected, "{name}");
        }
    }

    #[test]
    fn offers_the_nearest_of_many() {
        let existing: Vec<Box<str>> = (0..9).map(|n| format!("organization-{n}").into()).collect();
        assert_eq!(similar("organization", &existing).len(), MOST);
    }
}
