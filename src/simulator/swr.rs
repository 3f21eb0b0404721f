//! Huawei SWR's four read calls.

use super::call::{Call, Incoming, Route};
use super::error_body::ErrorBody;
use super::fault::Fault;
use super::gateway;
use super::made_up::hash;
use super::page::{Window, suffixed};
use super::reply::Reply;
use super::row::Row;
use super::world::{PastTheEnd, Repository, Swr, Tag, World};
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;

/// Finds the call of a request. The gateway decodes the path before it splits it, so `a%2Fb` is one segment too many;
/// a repository called `a/b` is addressed as `a$b`. <https://support.huaweicloud.com/eu/swr_faq/swr_faq_2006.html>
pub(super) fn route(method: &str, target: &str) -> Option<Route> {
    let path = target.split('?').next().unwrap_or_default();
    let path = percent_decode_str(path).decode_utf8().ok()?;
    let segments: Vec<&str> = path.strip_prefix("/v2/manage/")?.split('/').collect();
    if method != "GET" || segments.iter().any(|segment| segment.is_empty()) {
        return None;
    }
    let key =
        |organization: &str, repository: &str| format!("{organization}/{}", repository.replace('$', "/"));
    let (call, key) = match segments[..] {
        ["repos"] => (Call::ListRepositories, String::new()),
        ["shared-repositories"] => (Call::ListShared, String::new()),
        ["namespaces", o, "repos", r] => (Call::ShowRepository, key(o, r)),
        ["namespaces", o, "repos", r, "tags"] => (Call::ListTags, key(o, r)),
        _ => return None,
    };
    Some(Route { call, key })
}

/// Answers a routed request.
pub(super) fn answer(
    world: &mut World,
    route: &Route,
    request: &Incoming<'_>,
    fault: Option<&Fault>,
) -> Reply {
    let now = world.now();
    let refuse = matches!(fault, Some(Fault::Unauthorized));
    let admitted = gateway::check_size(request)
        .and_then(|()| gateway::authenticate(&mut world.swr, &world.iam, request, now, refuse));
    if let Err(refusal) = admitted {
        return refusal;
    }
    if let Some(reply) = fault.and_then(Reply::instead) {
        return reply;
    }
    let reply = match route.call {
        Call::ShowRepository => show_repository(&world.swr, &route.key),
        Call::ListTags => Query::read(request, &world.swr)
            .and_then(|query| list_tags(&mut world.swr, &route.key, &query, fault)),
        call => Query::read(request, &world.swr)
            .and_then(|query| list_repositories(&mut world.swr, call, &query, fault)),
    };
    reply.unwrap_or_else(|refusal| refusal).spoiled_by(fault)
}

/// The query of a list call; `filter=name::value|name::value` replaces all plain parameters, as the SDK's
/// documentation of list repositories says.
struct Query {
    parameters: BTreeMap<String, String>,
    limit: usize,
    offset: usize,
    /// `limit` and `offset` were sent: `Content-Range` is answered.
    paged: bool,
}

impl Query {
    fn read(request: &Incoming<'_>, swr: &Swr) -> Result<Self, Reply> {
        let mut parameters = BTreeMap::new();
        if let Some(filter) = request.parameter("filter") {
            for pair in filter.split('|') {
                let (name, value) = pair.split_once("::").ok_or_else(|| bad_parameter(swr, "filter"))?;
                parameters.insert(name.to_owned(), value.to_owned());
            }
        } else {
            let names = ["namespace", "name", "category", "center", "limit", "offset", "tag"];
            for name in names.into_iter().chain(["order_column", "order_type"]) {
                parameters.extend(request.parameter(name).map(|value| (name.to_owned(), value)));
            }
        }
        // Both or neither: <https://support.huaweicloud.com/intl/en-us/api-swr/swr_02_0034.html>
        for (one, other) in [("limit", "offset"), ("order_column", "order_type")] {
            if parameters.contains_key(one) != parameters.contains_key(other) {
                return Err(bad_parameter(swr, &format!("{one} and {other} must be used together")));
            }
        }
        let number = |name: &str, default: usize| match parameters.get(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| bad_parameter(swr, name)),
        };
        // Without them: the first 100 rows.
        let (limit, offset) = (number("limit", 100)?, number("offset", 0)?);
        if limit == 0 || limit > swr.limit_refused_above {
            return Err(bad_parameter(swr, "limit"));
        }
        if swr.offset_must_be_multiple_of_limit && offset % limit != 0 {
            return Err(bad_parameter(swr, "offset"));
        }
        let paged = parameters.contains_key("limit");
        Ok(Self { parameters, limit: limit.min(swr.rows_per_page_at_most), offset, paged })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// `Content-Range: offset-count/total`: the second number counts the records of this page, and a page beyond the
    /// end has total 0. <https://support.huaweicloud.com/intl/en-us/api-swr/swr_02_0034.html>
    fn finish(&self, swr: &Swr, window: &Window, body: Vec<u8>) -> Reply {
        match swr.past_the_end {
            PastTheEnd::Status(404) if window.is_past_the_end() => {
                let message = "Image resource not found";
                return Reply::error(404, &ErrorBody::new(swr.error_shape, "SVCSTG.SWR.4040113", message));
            }
            PastTheEnd::Status(status) if window.is_past_the_end() => {
                return Reply { status, ..bad_parameter(swr, "offset") };
            }
            _ => {}
        }
        let mut reply = Reply::json(200, body);
        if let Some(total) = window.total.as_deref().filter(|_| self.paged) {
            let total = if window.is_past_the_end() { "0" } else { total };
            let first = if window.count() == 0 { self.offset } else { window.first };
            reply.headers.push(("content-range", format!("{first}-{}/{total}", window.count())));
        }
        reply
    }
}

fn list_repositories(
    swr: &mut Swr,
    call: Call,
    query: &Query,
    fault: Option<&Fault>,
) -> Result<Reply, Reply> {
    // `center` is mandatory for the shared listing and has two values; the other listing does not look at it.
    // <https://support.huaweicloud.com/api-swr/swr_02_0075.html>
    let center = match (call, query.get("center")) {
        (Call::ListShared, Some(center @ ("self" | "thirdparty"))) => Some(center),
        (Call::ListShared, _) => return Err(bad_parameter(swr, "center")),
        _ => None,
    };
    let name = query.get("name").map(|name| name.replace('$', "/"));
    let listed = |repository: &Repository| {
        let in_organization = query.get("namespace").is_none_or(|wanted| {
            if swr.namespace_is_fuzzy {
                repository.organization.contains(wanted)
            } else {
                repository.organization == wanted
            }
        });
        in_organization
            && (center != Some("self") || repository.shared_by_me)
            && name.as_deref().is_none_or(|name| repository.name.contains(name))
            && query.get("category").is_none_or(|category| repository.category == category)
    };
    let all = if center == Some("thirdparty") { &swr.shared_with_me } else { &swr.repositories };
    let mut rows: Vec<&Repository> = all.values().filter(|repository| listed(repository)).collect();
    match query.get("order_column") {
        None => {} // no order is documented
        Some("updated_at" | "updated_time") => rows.sort_by(|a, b| a.updated.cmp(&b.updated)),
        Some("name") => rows.sort_by(|a, b| a.name.cmp(&b.name)),
        Some("tag_count") => rows.sort_by_key(|repository| repository.tags.len()),
        Some(_) => return Err(bad_parameter(swr, "order_column")),
    }
    if query.get("order_type") == Some("desc") {
        rows.reverse();
    }
    let window = Window::new(rows.len(), query.offset, query.limit, fault);
    let mut body = Vec::with_capacity(2 + window.count() * 768);
    body.push(b'[');
    for (row, suffix) in window.rows() {
        separate(&mut body);
        let status = center == Some("thirdparty") && rows[row].share_is_valid;
        write_repository(&mut body, rows[row], suffix, status, window.total.as_deref(), &swr.region);
    }
    body.push(b']');
    let reply = query.finish(swr, &window, body);
    if matches!(fault, Some(Fault::ShiftWhilePaging | Fault::ShiftByLuck)) && query.offset == 0 && window.more
    {
        let first = key(rows[0]);
        let mut added = rows[rows.len() - 1].clone();
        added.name.push_str("-more");
        let all = if center == Some("thirdparty") { &mut swr.shared_with_me } else { &mut swr.repositories };
        all.remove(&first);
        if matches!(fault, Some(Fault::ShiftByLuck)) {
            all.insert(key(&added), added);
        }
    }
    Ok(reply)
}

fn write_repository(
    body: &mut Vec<u8>,
    repository: &Repository,
    suffix: Option<usize>,
    status: bool,
    total: Option<&str>,
    region: &str,
) {
    let Repository { organization, name, .. } = repository;
    let name = suffixed(name, suffix);
    let tags: Vec<&str> = repository.tags.iter().map(|tag| tag.name.as_str()).collect();
    let mut row = Row::new(body, &repository.overrides);
    row.field("name", &*name)
        .field("category", &repository.category)
        .field("description", &repository.description)
        .field("size", &repository.size_bytes())
        .field("is_public", &repository.public)
        .field("num_images", &tags.len())
        .field("num_download", &repository.downloads)
        .field("created_at", &repository.created)
        .field("updated_at", &repository.updated)
        .field("logo", "")
        .field("url", "")
        .field("path", &path(region, organization, &name))
        .field("internal_path", &format!("100.125.0.198:20202/{organization}/{name}"))
        .field("domain_name", &repository.account)
        .field("namespace", organization)
        .field("tags", &tags)
        .field("status", &status);
    if let Some(total) = total {
        row.json("total_range", total.as_bytes());
    }
    row.end();
}

/// One object whose field names differ from the listing's (`created`, not `created_at`).
/// <https://support.huaweicloud.com/intl/en-us/api-swr/swr_02_0033.html>
fn show_repository(swr: &Swr, key: &str) -> Result<Reply, Reply> {
    let repository = swr.repositories.get(key).ok_or_else(|| not_found(swr, key))?;
    let Repository { organization, name, .. } = repository;
    let mut body = Vec::new();
    Row::new(&mut body, &repository.show_overrides)
        .field("id", &repository.id)
        .field("ns_id", &(hash(organization) % 10_000_000))
        .field("name", name)
        .field("category", &repository.category)
        .field("description", &repository.description)
        .field("creator_id", "050b12577f00269a1fcfc01f65239697")
        .field("creator_name", "admin")
        .field("size", &repository.size_bytes())
        .field("is_public", &repository.public)
        .field("num_images", &repository.tags.len())
        .field("num_download", &repository.downloads)
        .field("url", "")
        .field("path", &path(&swr.region, organization, name))
        .field("internal_path", &path(&swr.region, organization, name))
        .field("created", &repository.created)
        .field("updated", &repository.updated)
        .field("domain_id", "da44776c316c4a99b3683bb174f8821b")
        .field("priority", &0)
        .end();
    Ok(Reply::json(200, body))
}

/// The body has no total, only `Content-Range` does.
/// <https://support.huaweicloud.com/intl/en-us/api-swr/swr_02_0035.html>
fn list_tags(swr: &mut Swr, key: &str, query: &Query, fault: Option<&Fault>) -> Result<Reply, Reply> {
    let repository = swr.repositories.get(key).ok_or_else(|| not_found(swr, key))?;
    let wanted = |tag: &&Tag| query.get("tag").is_none_or(|name| tag.name == name);
    let mut rows: Vec<&Tag> = repository.tags.iter().filter(wanted).collect();
    match query.get("order_column") {
        None => {}
        Some("updated_at") => rows.sort_by(|a, b| a.updated.cmp(&b.updated)),
        Some(_) => return Err(bad_parameter(swr, "order_column")),
    }
    if query.get("order_type") == Some("desc") {
        rows.reverse();
    }
    let window = Window::new(rows.len(), query.offset, query.limit, fault);
    let room: usize = window.rows().map(|(row, _)| rows[row].manifest.json().len() + 768).sum();
    let mut body = Vec::with_capacity(room);
    body.push(b'[');
    for (row, suffix) in window.rows() {
        separate(&mut body);
        write_tag(&mut body, swr, repository, rows[row], suffix);
    }
    body.push(b']');
    let reply = query.finish(swr, &window, body);
    if matches!(fault, Some(Fault::ShiftWhilePaging | Fault::ShiftByLuck))
        && query.offset == 0
        && window.more
        && let Some(repository) = swr.repositories.get_mut(key)
    {
        let first = repository.tags.remove(0);
        if matches!(fault, Some(Fault::ShiftByLuck)) {
            repository.tags.push(Tag { name: format!("{}-more", first.name), ..first });
        }
    }
    Ok(reply)
}

fn write_tag(body: &mut Vec<u8>, swr: &Swr, repository: &Repository, tag: &Tag, suffix: Option<usize>) {
    let name = suffixed(&tag.name, suffix);
    let path = format!("{}:{name}", path(&swr.region, &repository.organization, &repository.name));
    Row::new(body, &tag.overrides)
        .field("id", &tag.id)
        .field("repo_id", &repository.id)
        .field(if swr.lower_case_tag { "tag" } else { "Tag" }, &*name)
        .field("image_id", tag.digest.strip_prefix("sha256:").unwrap_or(&tag.digest))
        .json("manifest", tag.manifest.json())
        .field("digest", &tag.digest)
        .field("schema", &2)
        .field("path", &path)
        .field("internal_path", &path)
        .field("size", &tag.size_bytes)
        .field("is_trusted", &false)
        .field("created", &tag.created)
        .field("updated", &tag.updated)
        .field("deleted", &())
        .field("domain_id", "da44776c316c4a99b3683bb174f8821b")
        .field("scanned", &false)
        .field("tag_type", &tag.tag_type)
        .end();
}

fn separate(body: &mut Vec<u8>) {
    if body.len() > 1 {
        body.push(b',');
    }
}

fn key(repository: &Repository) -> String {
    format!("{}/{}", repository.organization, repository.name)
}

fn path(region: &str, organization: &str, name: &str) -> String {
    format!("swr.{region}.myhuaweicloud.com/{organization}/{name}")
}

/// <https://support.huaweicloud.com/api-swr/ErrorCode.html>
fn bad_parameter(swr: &Swr, what: &str) -> Reply {
    let error =
        ErrorBody::new(swr.error_shape, "SVCSTG.SWR.4001072", &format!("Invalid request parameter: {what}"));
    Reply::error(400, &error)
}

/// 404 is documented for list tags and show repository; Terraform's provider meets 400 for what is not found.
fn not_found(swr: &Swr, key: &str) -> Reply {
    let organization = key.split('/').next().unwrap_or_default();
    let known = swr.repositories.values().any(|repository| repository.organization == organization);
    let status = if swr.not_found_is_400 { 400 } else { 404 };
    let (code, message) = if known {
        ("SVCSTG.SWR.4040113", "Image resource not found")
    } else {
        ("SVCSTG.SWR.4040058", "Namespace not found")
    };
    Reply::error(status, &ErrorBody::new(swr.error_shape, code, message))
}
