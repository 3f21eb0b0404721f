//! The names of the calls that a source can make: the label `operation`.

use crate::config::{Cloud, KeyService, NcrAuth, SourceConfig, SwrAuth};

/// Every call of the source, so that its counters can begin at 0.
pub fn operations(source: &SourceConfig) -> Vec<&'static str> {
    let (listings, credential): (Vec<_>, &[_]) = match &source.cloud {
        Cloud::Swr(swr) => {
            let listing = if swr.watch.is_empty() { "list_repositories" } else { "show_repository" };
            let shared = (!swr.shared.is_empty()).then_some("list_shared_repositories");
            let credential: &[_] = match &swr.auth {
                SwrAuth::AccessKey { .. } | SwrAuth::Token(_) => &[],
                SwrAuth::Password { .. } => &["create_token"],
                SwrAuth::Temporary(KeyService::Metadata(_)) => &["metadata_token", "metadata_key"],
                SwrAuth::Temporary(KeyService::PodIdentity { .. }) => &["pod_identity"],
                SwrAuth::Temporary(KeyService::IdentityProvider { .. }) => &["id_token", "security_token"],
                SwrAuth::Temporary(KeyService::Oidc(_)) => &["assume_agency"],
            };
            (std::iter::once(listing).chain(shared).collect(), credential)
        }
        Cloud::Ncr(ncr) => {
            let registries = ncr.registries.is_empty().then_some("list_registries");
            let credential: &[_] = match &ncr.auth {
                NcrAuth::AccessKey { .. } => &[],
                NcrAuth::ServerRole(_) => &["metadata_token", "metadata_role", "metadata_key"],
            };
            (registries.into_iter().chain(["list_images"]).collect(), credential)
        }
    };
    let tags = source.tags.enabled.then_some("list_tags");
    listings.into_iter().chain(tags).chain(credential.iter().copied()).collect()
}
