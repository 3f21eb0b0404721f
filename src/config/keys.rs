//! Everything that can be set, and where: against this list the file's keys are checked and the environment's
//! variables are resolved. What a value must look like is up to who reads it.

/// A key of a table.
pub(super) struct Key {
    /// As written in the file.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) kind: Kind,
}

/// What a key holds, as far as layering is concerned.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Text, a number, true or false: can be set in the environment.
    Scalar,
    /// A list: cannot.
    List,
    /// A table with these keys.
    Table(&'static [Key]),
}

const fn scalar(name: &'static str) -> Key {
    Key { name, kind: Kind::Scalar }
}

const fn list(name: &'static str) -> Key {
    Key { name, kind: Kind::List }
}

const fn table(name: &'static str, keys: &'static [Key]) -> Key {
    Key { name, kind: Kind::Table(keys) }
}

/// The whole file, except that the names below `sources` are the user's.
pub(super) const ROOT: &[Key] =
    &[table("poll", POLL), table("state", STATE), table("limits", LIMITS), table("sources", &[])];

/// `[poll]` and `[sources.NAME.poll]`
pub(super) const POLL: &[Key] = &[
    scalar("interval"),
    scalar("timeout"),
    scalar("request_timeout"),
    scalar("stale_after"),
    scalar("requests_per_second"),
    scalar("max_concurrent_requests"),
];

/// `[state]`
pub(super) const STATE: &[Key] = &[scalar("path")];

/// `[limits]` and `[sources.NAME.limits]`
pub(super) const LIMITS: &[Key] = &[scalar("series_per_source")];

/// `[sources.NAME]` with `provider = "swr"`
pub(super) const SWR: &[Key] = &[
    scalar("provider"),
    scalar("region"),
    scalar("endpoint"),
    scalar("iam_endpoint"),
    scalar("project_id"),
    scalar("project_name"),
    list("organizations"),
    list("shared"),
    table("repositories", REPOSITORIES),
    list("watch"),
    table("tags", TAGS),
    table("auth", SWR_AUTH),
    table("poll", POLL),
    table("limits", LIMITS),
    table("tls", TLS),
    scalar("proxy_url"),
    scalar("allow_http"),
];

/// `[sources.NAME]` with `provider = "ncr"`
pub(super) const NCR: &[Key] = &[
    scalar("provider"),
    scalar("site"),
    scalar("region"),
    scalar("endpoint"),
    list("registries"),
    table("repositories", REPOSITORIES),
    table("tags", TAGS),
    table("auth", NCR_AUTH),
    table("poll", POLL),
    table("limits", LIMITS),
    table("tls", TLS),
    scalar("proxy_url"),
    scalar("allow_http"),
];

/// `repositories = { … }`
pub(super) const REPOSITORIES: &[Key] = &[list("include"), list("exclude")];

/// `tags = { … }`
pub(super) const TAGS: &[Key] = &[
    scalar("enabled"),
    scalar("newest"),
    list("include"),
    list("exclude"),
    scalar("info"),
    scalar("full_sweep"),
];

/// `tls = { … }`
pub(super) const TLS: &[Key] = &[scalar("ca_file"), scalar("cert_file"), scalar("key_file")];

/// `[sources.NAME.auth]` of Huawei Cloud
pub(super) const SWR_AUTH: &[Key] = &[
    scalar("method"),
    scalar("access_key"),
    scalar("access_key_file"),
    scalar("secret_key"),
    scalar("secret_key_file"),
    scalar("security_token"),
    scalar("security_token_file"),
    scalar("account"),
    scalar("username"),
    scalar("password"),
    scalar("password_file"),
    scalar("token"), // refused with a reason of its own
    scalar("token_file"),
];

/// `[sources.NAME.auth]` of NAVER Cloud Platform
pub(super) const NCR_AUTH: &[Key] =
    &[scalar("access_key"), scalar("access_key_file"), scalar("secret_key"), scalar("secret_key_file")];

/// Follows `segments`, names in upper case, down from `keys`: the key's name at each level, and what it holds.
pub(super) fn resolve(keys: &[Key], segments: &[&str]) -> Option<(Vec<&'static str>, Kind)> {
    let (first, rest) = segments.split_first()?;
    let key = keys.iter().find(|k| k.name.to_ascii_uppercase() == *first)?;
    if rest.is_empty() {
        return Some((vec![key.name], key.kind));
    }
    let Kind::Table(inner) = key.kind else { return None };
    let (mut names, kind) = resolve(inner, rest)?;
    names.insert(0, key.name);
    Some((names, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_names_every_key() {
        fn check(keys: &[Key], example: &str) {
            for key in keys {
                let name = regex::Regex::new(&format!("(^|[^a-z_]){}($|[^a-z_])", key.name)).unwrap();
                assert!(name.is_match(example), "{}", key.name);
                if let Kind::Table(inner) = key.kind {
                    check(inner, example);
                }
            }
        }
        let example = include_str!("../../config.example.toml");
        for keys in [ROOT, SWR, NCR] {
            check(keys, example);
        }
    }

    #[test]
    fn a_key_is_of_the_same_kind_in_both_clouds() {
        // So that a variable can be resolved before the provider is known.
        for key in SWR {
            if let Some(other) = NCR.iter().find(|other| other.name == key.name) {
                assert_eq!(
                    matches!(key.kind, Kind::Scalar),
                    matches!(other.kind, Kind::Scalar),
                    "{}",
                    key.name
                );
            }
        }
    }
}
