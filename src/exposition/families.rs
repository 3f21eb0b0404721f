//! The one table of inventory families: their names, help texts, labels and where the values come from.
//!
//! Rendering, counting against limits and `?source=` follow from it. All are gauges, so that the same bytes serve
//! both formats. Help texts hold no backslash, quote or newline, which the two formats escape differently.

use std::sync::LazyLock;

use super::encode::Value;
use super::totals::Totals;
use crate::inventory::{Entry, Inventory, SharedRepository, Tag};

/// A family of inventory series.
pub struct Family {
    /// Full name.
    pub name: &'static str,
    /// What it says, and as of when.
    pub help: &'static str,
    /// What has a series in it, and that series' value.
    pub rows: Rows,
}

/// What has one series each in a family, and how to get its value; no value, no series.
pub enum Rows {
    /// Labels `source`.
    Source(fn(&Inventory) -> Option<Value<'_>>),
    /// Labels `source`, `organization`.
    Organization(fn(&Totals) -> Option<Value<'_>>),
    /// Labels `source`, `organization`, `repository`.
    Repository(fn(&Entry) -> Option<Value<'_>>),
    /// Labels `source`, `center`, `organization`, `repository`.
    Shared(fn(&SharedRepository) -> Option<Value<'_>>),
    /// Labels `source`, `organization`, `repository`, `tag`.
    Tag(fn(&Tag) -> Option<Value<'_>>),
}

/// All inventory families in the order of the page.
pub static FAMILIES: [Family; 27] = [
    Family {
        name: "container_registry_up",
        help: "Whether the last finished listing of the repositories succeeded",
        rows: Rows::Source(|i| i.up.map(Value::from)),
    },
    Family {
        name: "container_registry_source_info",
        help: "What the source is; always 1",
        rows: Rows::Source(|i| {
            let source = &i.source;
            Some(Value::Info([
                ("provider", Some(source.provider)),
                ("cloud_region", Some(&source.cloud_region)),
                ("api_host", Some(&source.api_host)),
            ]))
        }),
    },
    Family {
        name: "container_registry_organization_up",
        help: "Whether the last listing of the organization succeeded",
        rows: Rows::Organization(|t| t.up.map(Value::from)),
    },
    Family {
        name: "container_registry_source_repositories",
        help: "Repositories listed, before filters and limits, as of the last poll",
        rows: Rows::Source(|i| i.repositories.as_ref()?.listed.map(Value::from)),
    },
    Family {
        name: "container_registry_organization_repositories",
        help: "Repositories of the organization, before limits, as of the last poll",
        rows: Rows::Organization(|t| t.repositories.map(Value::from)),
    },
    Family {
        name: "container_registry_organization_images",
        help: "Images in all repositories of the organization, as of the last poll",
        rows: Rows::Organization(|t| t.images.map(Value::Integer)),
    },
    Family {
        name: "container_registry_organization_size_bytes",
        help: "Size of all repositories of the organization, as of the last poll",
        rows: Rows::Organization(|t| t.size_bytes.map(Value::Integer)),
    },
    Family {
        name: "container_registry_organization_downloads",
        help: "Downloads from all repositories of the organization since each was created, as of the last poll",
        rows: Rows::Organization(|t| t.downloads.map(Value::Integer)),
    },
    Family {
        name: "container_registry_repository_size_bytes",
        help: "Size of all images of the repository, as of the last poll",
        rows: Rows::Repository(|e| e.repository.size_bytes.map(Value::from)),
    },
    Family {
        name: "container_registry_repository_images",
        help: "Images (tags) in the repository, as of the last poll; up to full_sweep old where tags are counted",
        rows: Rows::Repository(|e| e.images().map(Value::from)),
    },
    Family {
        name: "container_registry_repository_downloads",
        help: "Downloads from the repository since it was created, as of the last poll",
        rows: Rows::Repository(|e| e.repository.downloads.map(Value::from)),
    },
    Family {
        name: "container_registry_repository_created_timestamp_seconds",
        help: "When the repository was created, as of the last poll",
        rows: Rows::Repository(|e| e.repository.created.map(Value::Time)),
    },
    Family {
        name: "container_registry_repository_updated_timestamp_seconds",
        help: "When the repository last changed, as of the last poll",
        rows: Rows::Repository(|e| e.repository.updated.map(Value::Time)),
    },
    Family {
        name: "container_registry_repository_public",
        help: "Whether everybody may pull from the repository, as of the last poll",
        rows: Rows::Repository(|e| e.repository.public.map(Value::from)),
    },
    Family {
        name: "container_registry_repository_last_push_timestamp_seconds",
        help: "When a tag of the repository was last pushed, as of the last poll; up to full_sweep old",
        rows: Rows::Repository(|e| e.tags.as_ref().and_then(|t| t.last_push).map(Value::Time)),
    },
    Family {
        name: "container_registry_repository_info",
        help: "Category and pull address of the repository, as of the last poll; always 1",
        rows: Rows::Repository(|e| {
            let category = ("category", e.repository.category.as_deref());
            Some(Value::Info([category, ("image", e.repository.image.as_deref()), ("", None)]))
        }),
    },
    Family {
        name: "container_registry_shared_repository_size_bytes",
        help: "Size of all images of the shared repository, as of the last poll",
        rows: Rows::Shared(|s| s.size_bytes.map(Value::from)),
    },
    Family {
        name: "container_registry_shared_repository_images",
        help: "Images (tags) in the shared repository, as of the last poll",
        rows: Rows::Shared(|s| s.images.map(Value::from)),
    },
    Family {
        name: "container_registry_shared_repository_downloads",
        help: "Downloads from the shared repository since it was created, as of the last poll",
        rows: Rows::Shared(|s| s.downloads.map(Value::from)),
    },
    Family {
        name: "container_registry_shared_repository_updated_timestamp_seconds",
        help: "When the shared repository last changed, as of the last poll",
        rows: Rows::Shared(|s| s.updated.map(Value::Time)),
    },
    Family {
        name: "container_registry_shared_repository_valid",
        help: "Whether the share has not expired, as of the last poll",
        rows: Rows::Shared(|s| s.valid.map(Value::from)),
    },
    Family {
        name: "container_registry_shared_repository_info",
        help: "Owner and category of the shared repository, as of the last poll; always 1",
        rows: Rows::Shared(|s| {
            let owner = ("owner_account", s.owner_account.as_deref());
            Some(Value::Info([owner, ("category", s.category.as_deref()), ("", None)]))
        }),
    },
    Family {
        name: "container_registry_tag_size_bytes",
        help: "Size of the image behind the tag, as of the last poll; up to full_sweep old",
        rows: Rows::Tag(|t| t.size_bytes.map(Value::from)),
    },
    Family {
        name: "container_registry_tag_created_timestamp_seconds",
        help: "When the image behind the tag was created, as of the last poll; up to full_sweep old",
        rows: Rows::Tag(|t| t.created.map(Value::Time)),
    },
    Family {
        name: "container_registry_tag_updated_timestamp_seconds",
        help: "When the tag was last pushed, as of the last poll; up to full_sweep old",
        rows: Rows::Tag(|t| t.updated.map(Value::Time)),
    },
    Family {
        name: "container_registry_tag_last_pulled_timestamp_seconds",
        help: "When an image behind the tag was last pulled, as of the last poll; up to full_sweep old",
        rows: Rows::Tag(|t| t.last_pulled.map(Value::Time)),
    },
    Family {
        name: "container_registry_tag_info",
        help: "Digest and kind of the image behind the tag, as of the last poll; up to full_sweep old; always 1",
        rows: Rows::Tag(|t| {
            let info = t.info.as_deref()?;
            Some(Value::Info([("digest", info.digest.as_deref()), ("kind", info.kind), ("", None)]))
        }),
    },
];

/// Number of series that the source itself has.
pub fn source_series(inventory: &Inventory) -> u64 {
    count(|rows| matches!(rows, Rows::Source(value) if value(inventory).is_some()))
}

/// Number of series of one organization.
pub fn organization_series(totals: &Totals) -> u64 {
    count(|rows| matches!(rows, Rows::Organization(value) if value(totals).is_some()))
}

/// Number of series of one repository, those of its tags not counted.
pub fn repository_series(entry: &Entry) -> u64 {
    count(|rows| matches!(rows, Rows::Repository(value) if value(entry).is_some()))
}

/// Number of series of one shared repository.
pub fn shared_series(shared: &SharedRepository) -> u64 {
    count(|rows| matches!(rows, Rows::Shared(value) if value(shared).is_some()))
}

/// Number of series of one tag.
pub fn tag_series(tag: &Tag) -> u64 {
    OF_TAGS.iter().map(|value| u64::from(value(tag).is_some())).sum()
}

type OfTag = fn(&Tag) -> Option<Value<'_>>;

/// The values of tags alone: most series are theirs, and looking through all families took longer than rendering some.
static OF_TAGS: LazyLock<Vec<OfTag>> = LazyLock::new(|| {
    let value = |family: &Family| match family.rows {
        Rows::Tag(value) => Some(value),
        _ => None,
    };
    FAMILIES.iter().filter_map(value).collect()
});

fn count(has_series: impl Fn(&Rows) -> bool) -> u64 {
    FAMILIES.iter().map(|family| u64::from(has_series(&family.rows))).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_differ_and_follow_the_rules() {
        let names: BTreeSet<_> = FAMILIES.iter().map(|f| f.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
        assert!(names.iter().all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
        assert!(names.iter().all(|n| !n.starts_with("container_registry_exporter_")));
    }

    #[test]
    fn help_says_as_of_when_and_needs_no_escapes() {
        for family in &FAMILIES {
            assert!(!family.help.contains(['\\', '"', '\n']), "{}", family.name);
            let timeless = ["up", "source_info", "organization_up"]
                .iter()
                .any(|name| family.name.strip_prefix("container_registry_") == Some(name));
            assert!(timeless || family.help.contains("as of the last poll"), "{}", family.name);
            let of_tags = matches!(family.rows, Rows::Tag(_))
                || family.name.ends_with("_last_push_timestamp_seconds")
                || family.name == "container_registry_repository_images";
            assert_eq!(of_tags, family.help.contains("full_sweep"), "{}", family.name);
        }
    }
}
