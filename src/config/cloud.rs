//! What is particular to each cloud.

use super::validate::Surroundings;
use super::value::{Table, is_name};
use super::{NcrConfig, Site, SwrConfig, address, auth};
use crate::inventory::Center;

/// A source with `provider = "swr"`.
pub(super) fn swr(table: &Table, surroundings: &Surroundings) -> Option<SwrConfig> {
    let region =
        table.required_text("region", "set a region of Huawei Cloud such as \"cn-north-4\"").filter(|r| {
            let valid = address::is_region(r);
            if !valid {
                table.problem(
                    "region",
                    "must consist of lower-case letters, digits and hyphens, such as \"cn-north-4\"",
                );
            }
            valid
        });
    let allow_http = table.flag("allow_http").unwrap_or(false);
    let auth = auth::swr(table, region, allow_http, surroundings);
    // Without a region there are no defaults, but what is set is checked all the same.
    let (endpoint, iam_endpoint) = address::swr_defaults(region.unwrap_or("unknown"));
    let found = auth.as_ref().map(|(_, found)| found);
    let found_endpoint = found.and_then(|f| f.endpoint.as_ref());
    let endpoint = address::base_address(table, "endpoint", found_endpoint, &endpoint, allow_http);
    let found_iam = found.and_then(|f| f.iam_endpoint.as_ref());
    let iam_endpoint = address::base_address(table, "iam_endpoint", found_iam, &iam_endpoint, allow_http);
    let project_id = table.text("project_id").map(str::to_owned);
    let project_id = project_id.or_else(|| found.and_then(|f| f.project_id.clone()));
    // It is sent in a header.
    if project_id.as_ref().is_some_and(|id| !id.bytes().all(|b| b.is_ascii_graphic())) {
        table.problem("project_id", "must consist of visible ASCII characters; copy it from the console");
    }
    let project_name = table.text("project_name").or(region);
    let organizations = table.name_list("organizations");
    let watch = watch(table);
    let shared = shared(table, !watch.is_empty());
    if !watch.is_empty() && !organizations.is_empty() {
        table.problem(
            "watch",
            "excludes organizations: it is read instead of listing them; remove one of the two",
        );
    }
    if !watch.is_empty() && !shared.is_empty() {
        table.problem(
            "watch",
            "excludes shared: it is for accounts that may list nothing; remove one of the two",
        );
    }
    Some(SwrConfig {
        region: region?.to_owned(),
        endpoint: endpoint?,
        iam_endpoint: iam_endpoint?,
        project_id,
        project_name: project_name?.to_owned(),
        organizations,
        shared,
        watch,
        auth: auth?.0,
    })
}

/// A source with `provider = "ncr"`.
pub(super) fn ncr(table: &Table, surroundings: &Surroundings) -> Option<NcrConfig> {
    let sites = [("public", Site::Public), ("gov", Site::Government), ("fin", Site::Financial)];
    let site = table.word("site", &sites).or((!table.has("site")).then_some(Site::Public));
    let region = site.and_then(|site| ncr_region(table, site));
    let auth = auth::ncr(table, surroundings);
    let allow_http = table.flag("allow_http").unwrap_or(false);
    let default = region.map_or("https://unknown", |(_, endpoint)| endpoint);
    let endpoint = address::base_address(table, "endpoint", None, default, allow_http);
    let registries = table.name_list("registries");
    Some(NcrConfig {
        site: site?,
        region: region?.0.to_owned(),
        endpoint: endpoint?,
        registries,
        auth: auth?,
    })
}

/// The region with its address.
fn ncr_region(table: &Table, site: Site) -> Option<(&'static str, &'static str)> {
    let regions = address::ncr_regions(site);
    let names: Vec<&str> = regions.iter().map(|(name, _)| *name).collect();
    let names = names.join(", ");
    let text = table.required_text("region", &format!("set one of {names}"))?;
    let found = regions.iter().find(|(name, _)| *name == text);
    if found.is_none() {
        table.problem(
            "region",
            format!("must be one of {names}, the regions of this site; other regions belong to another site"),
        );
    }
    found.copied()
}

/// The listings of shared images to read: both, or none beside `watch`, unless set.
fn shared(table: &Table, watching: bool) -> Vec<Center> {
    let Some(items) = table.list("shared") else {
        return if watching { Vec::new() } else { vec![Center::Own, Center::ThirdParty] };
    };
    let mut centers = Vec::new();
    for (path, word) in items {
        match [Center::Own, Center::ThirdParty].into_iter().find(|c| c.as_str() == word) {
            Some(center) => centers.push(center),
            None => table.problem_at(path, "must be one of self, thirdparty"),
        }
    }
    centers
}

/// `organization/repository`, where the repository's name may contain further slashes.
fn watch(table: &Table) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (path, text) in table.list("watch").unwrap_or_default() {
        match text.split_once('/') {
            Some((organization, repository))
                if is_name(organization) && repository.split('/').all(is_name) =>
            {
                pairs.push((organization.to_owned(), repository.to_owned()));
            }
            _ => table.problem_at(path, "must be organization/repository, such as \"group/busybox\""),
        }
    }
    pairs
}
