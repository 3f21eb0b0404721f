//! What makes two configurations read the same things.

use regex::Regex;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::config::{Cloud, Filter, NcrConfig, SourceConfig, SwrAuth, SwrConfig};
use crate::inventory::Center;

/// A hash (SHA-256) of a source's configuration.
pub type Identity = [u8; 32];

/// The hash of everything that decides what a source reads. When and how it reads does not count, nor which of the tags
/// are shown, and neither do keys and passwords: they are to be changed often, and nothing made of a secret is to be on
/// the disk.
pub fn identity(config: &SourceConfig) -> Identity {
    let SourceConfig { name, cloud, poll: _, series_limit: _, repositories, tags: _, connection: _ } = config;
    let cloud = match cloud {
        Cloud::Swr(swr) => {
            let SwrConfig { region, endpoint, iam_endpoint: _, project_id, project_name, .. } = swr;
            let SwrConfig { organizations, shared, watch, auth, .. } = swr;
            let shared: Vec<_> = shared.iter().copied().map(Center::as_str).collect();
            let account = match auth {
                SwrAuth::Password { account, .. } => Some(account),
                SwrAuth::AccessKey { .. } | SwrAuth::Token(_) | SwrAuth::Temporary(_) => None,
            };
            let project = (project_id, project_name);
            json!(["swr", region, endpoint.as_str(), project, account, organizations, shared, watch])
        }
        Cloud::Ncr(ncr) => {
            let NcrConfig { site, region, endpoint, registries, auth: _ } = ncr;
            json!(["ncr", format!("{site:?}"), region, endpoint.as_str(), registries])
        }
    };
    let text = json!([name.as_str(), cloud, expressions(repositories)]).to_string();
    Sha256::digest(text).into()
}

fn expressions(filter: &Filter) -> [Vec<&str>; 2] {
    [&filter.include, &filter.exclude].map(|list| list.iter().map(Regex::as_str).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    /// The identity of the source in `text`, which stands for everything but the first line and the key.
    fn identity_of(text: &str) -> Identity {
        let key = if text.contains("access_key") {
            ""
        } else {
            "auth = { access_key = \"a\", secret_key = \"b\" }"
        };
        let text = format!("[sources.a]\n{key}\n{text}");
        identity(&Config::parse(&text, Path::new(""), &BTreeMap::new()).unwrap().sources[0])
    }

    const SWR: &str = "provider = \"swr\"\nregion = \"cn-north-4\"\n";

    #[test]
    fn everything_that_changes_what_is_read_changes_it() {
        let mut identities = BTreeSet::from([identity_of(SWR)]);
        let swr = [
            "endpoint = \"https://swr.example\"",
            "project_id = \"a\"",
            "project_name = \"a\"",
            "organizations = [\"a\"]",
            "organizations = [\"a\", \"b\"]",
            "shared = [\"self\"]",
            "watch = [\"a/b\"]",
            "repositories = { include = [\"a\"] }",
            "repositories = { exclude = [\"a\"] }",
        ];
        let ncr = ["KR\"", "SGN\"", "KR\"\nsite = \"gov\"", "KR\"\nregistries = [\"a\"]"];
        let texts = swr.iter().map(|line| format!("{SWR}{line}"));
        let texts = texts.chain(ncr.iter().map(|rest| format!("provider = \"ncr\"\nregion = \"{rest}")));
        for text in texts.chain([SWR.replace('4', "1")]) {
            assert!(identities.insert(identity_of(&text)), "{text}");
        }
    }

    #[test]
    fn keys_times_limits_and_the_tags_shown_do_not_change_it() {
        for line in [
            "auth = { access_key = \"c\", secret_key = \"d\" }",
            "poll = { interval = \"1m\" }",
            "limits = { series_per_source = 3 }",
            "tags = { full_sweep = \"1h\" }",
            "tags = { enabled = false }",
            "tags = { newest = 6 }",
            "tags = { newest = \"all\" }",
            "tags = { include = [\"a\"] }",
            "tags = { info = true }",
            "proxy_url = \"http://proxy.example\"",
            "allow_http = true",
        ] {
            assert_eq!(identity_of(&format!("{SWR}{line}")), identity_of(SWR), "{line}");
        }
    }
}
