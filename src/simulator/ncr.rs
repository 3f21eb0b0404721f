//! NAVER NCR's three listings behind its API gateway.

use super::call::{Call, Incoming, Route};
use super::error_body::ErrorBody;
use super::fault::Fault;
use super::page::{Window, suffixed};
use super::reply::Reply;
use super::row::{Row, write};
use super::signature::{header, ncp_signature};
use super::world::{Image, ImageTag, Ncr, PastTheEnd, Platform, Registry, World};
use percent_encoding::percent_decode_str;
use serde_json::json;

/// The public regions KR, SGN and JPN, then the government's KR and KRS; all show the same registries here.
/// <https://api.ncloud-docs.com/docs/en/containerregistry-getimages>
pub(super) const BASE_PATHS: [&str; 5] =
    ["/ncr/api/v2", "/ncr/sgn-api/v2", "/ncr/jpn-api/v2", "/ncr/kr/v2", "/ncr/krs/v2"];

/// A signature is good for five minutes before and after the gateway's time.
/// <https://api.ncloud-docs.com/docs/en/common-ncpapi>
const CLOCK_TOLERANCE_MILLISECONDS: u64 = 5 * 60 * 1000;

/// Finds the call of a request. Segments are split before they are decoded, so an image called `a/b` is `a%2Fb`;
/// with a bare slash it is another route. <https://api.ncloud-docs.com/docs/en/containerregistry-getimagetags>
pub(super) fn route(method: &str, target: &str) -> Option<Route> {
    let path = target.split('?').next().unwrap_or_default();
    let below = BASE_PATHS.iter().find_map(|base| path.strip_prefix(base))?;
    let segments: Vec<String> = below
        .strip_prefix("/repositories")?
        .split('/')
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .collect();
    if method != "GET" || segments.iter().skip(1).any(String::is_empty) {
        return None;
    }
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (call, key) = match segments[..] {
        [""] => (Call::ListRegistries, String::new()),
        ["", registry] => (Call::ListImages, registry.to_owned()),
        ["", registry, image, "tags"] => (Call::ListImageTags, format!("{registry}/{image}")),
        _ => return None,
    };
    Some(Route { call, key })
}

/// The gateway's answer for a path or method that no API has.
pub(super) fn no_such_api(ncr: &Ncr) -> Reply {
    error(ncr, 404, "300", "Not Found Exception|URL not found.")
}

/// Answers a routed request.
pub(super) fn answer(
    world: &mut World,
    route: &Route,
    request: &Incoming<'_>,
    fault: Option<&Fault>,
) -> Reply {
    let now = world.now().as_millisecond();
    let ncr = &mut world.ncr;
    if let Err(refusal) = authenticate(ncr, request, now, matches!(fault, Some(Fault::Unauthorized))) {
        return refusal;
    }
    if let Some(reply) = fault.and_then(Reply::instead) {
        return reply;
    }
    let mut reply = list(ncr, route, request, fault).unwrap_or_else(|refusal| refusal).spoiled_by(fault);
    if ncr.plain_text_content_type && reply.status == 200 {
        reply.content_type = Some("text/plain;charset=UTF-8");
    }
    reply
}

/// The codes are in <https://api-gov.ncloud-docs.com/docs/api-call-lgc-errorhandling>; a missing permission is
/// reported as 401 with code 210.
fn authenticate(ncr: &mut Ncr, request: &Incoming<'_>, now: i64, refuse: bool) -> Result<(), Reply> {
    let value = |name: &str| header(request.headers, name);
    let (Some(timestamp), Some(access_key), Some(signature)) =
        (value("x-ncp-apigw-timestamp"), value("x-ncp-iam-access-key"), value("x-ncp-apigw-signature-v2"))
    else {
        return Err(unauthorized(ncr, "Authentication information are missing."));
    };
    let fresh = timestamp
        .parse::<i64>()
        .is_ok_and(|timestamp| timestamp.abs_diff(now) <= CLOCK_TOLERANCE_MILLISECONDS);
    let Some(key) = ncr.access_keys.iter_mut().find(|key| key.access_key == access_key) else {
        return Err(unauthorized(ncr, "Invalid authentication information."));
    };
    let right = ncp_signature(request.method, request.target, timestamp, access_key, &key.secret_key);
    let ended = key.expires_at.is_some_and(|end| end.as_millisecond() <= now);
    if refuse || !fresh || ended || signature != right {
        key.refused_calls += 1;
        key.refused_in_a_row += 1;
        return Err(unauthorized(ncr, "Invalid authentication information."));
    }
    key.refused_in_a_row = 0;
    if key.lacks_permission {
        return Err(error(ncr, 401, "210", "Permission Denied|A subscription to the API is required."));
    }
    Ok(())
}

fn list(ncr: &mut Ncr, route: &Route, request: &Incoming<'_>, fault: Option<&Fault>) -> Result<Reply, Reply> {
    let positive = |name: &str, default: usize| match request.parameter(name) {
        None => Ok(default),
        Some(text) => text
            .parse()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| error(ncr, 400, "100", "Bad Request Exception")),
    };
    let page = positive("page", 1)?;
    let page_size = positive("pagesize", ncr.default_page_size)?;
    if page_size > ncr.page_size_refused_above {
        return Err(error(ncr, 400, "100", "Bad Request Exception"));
    }
    let asked = Asked { page, page_size: page_size.min(ncr.rows_per_page_at_most) };
    let shift = matches!(fault, Some(Fault::ShiftWhilePaging | Fault::ShiftByLuck));
    let luck = matches!(fault, Some(Fault::ShiftByLuck));
    match route.call {
        Call::ListRegistries => {
            let (reply, more) = asked.page(ncr, ncr.registries.len(), fault, |body, rows| {
                let all: Vec<&Registry> = ncr.registries.values().collect();
                for (row, suffix) in rows {
                    write_registry(body, all[row], suffix);
                }
            })?;
            if shift && page == 1 && more {
                shift_map(&mut ncr.registries, luck, |registry| {
                    registry.name.push_str("-more");
                    registry.name.clone()
                });
            }
            Ok(reply)
        }
        Call::ListImages => {
            let registry = ncr.registries.get(&route.key).ok_or_else(|| not_found(ncr))?;
            let (reply, more) = asked.page(ncr, registry.images.len(), fault, |body, rows| {
                let all: Vec<&Image> = registry.images.values().collect();
                for (row, suffix) in rows {
                    write_image(body, &registry.name, all[row], suffix);
                }
            })?;
            if shift
                && page == 1
                && more
                && let Some(registry) = ncr.registries.get_mut(&route.key)
            {
                shift_map(&mut registry.images, luck, |image| {
                    image.name.push_str("-more");
                    image.name.clone()
                });
            }
            Ok(reply)
        }
        _ => {
            let (registry, name) = route.key.split_once('/').ok_or_else(|| not_found(ncr))?;
            let image = ncr.registries.get(registry).and_then(|registry| registry.images.get(name));
            let image = image.ok_or_else(|| not_found(ncr))?;
            let (reply, more) = asked.page(ncr, image.tags.len(), fault, |body, rows| {
                for (row, suffix) in rows {
                    write_tag(body, &image.tags[row], suffix);
                }
            })?;
            if shift
                && page == 1
                && more
                && let Some(image) = ncr.registries.get_mut(registry).and_then(|r| r.images.get_mut(name))
            {
                let first = image.tags.remove(0);
                if luck {
                    image.tags.push(ImageTag { name: format!("{}-more", first.name), ..first });
                }
            }
            Ok(reply)
        }
    }
}

/// The page that a request asks for.
struct Asked {
    page: usize,
    page_size: usize,
}

impl Asked {
    /// The envelope around a page of rows: `next` and `previous` are page numbers or null, `count` is the total.
    /// Tells too whether there are more pages.
    fn page(
        &self,
        ncr: &Ncr,
        length: usize,
        fault: Option<&Fault>,
        write_rows: impl FnOnce(&mut Vec<u8>, &mut dyn Iterator<Item = (usize, Option<usize>)>),
    ) -> Result<(Reply, bool), Reply> {
        let page = if matches!(fault, Some(Fault::RepeatPage)) { 1 } else { self.page };
        let window = Window::new(length, (page - 1).saturating_mul(self.page_size), self.page_size, fault);
        if let PastTheEnd::Status(status) = ncr.past_the_end
            && window.is_past_the_end()
        {
            return Err(Reply::error(status, &ErrorBody::empty()));
        }
        let registries = ncr.count_is_of_registries.then(|| ncr.registries.len().to_string());
        let mut body = b"{".to_vec();
        if let Some(total) = window.total.as_ref().map(|total| registries.as_ref().unwrap_or(total)) {
            body.extend_from_slice(b"\"count\":");
            body.extend_from_slice(total.as_bytes());
            body.push(b',');
        }
        body.extend_from_slice(b"\"next\":");
        let full = ncr.next_after_every_full_page && window.count() == self.page_size;
        write(&mut body, &(window.more || full).then_some(page + 1));
        body.extend_from_slice(b",\"previous\":");
        write(&mut body, &(page > 1).then(|| page - 1));
        body.extend_from_slice(b",\"results\":[");
        write_rows(&mut body, &mut window.rows());
        body.extend_from_slice(b"]}");
        Ok((Reply::json(200, body), window.more))
    }
}

/// Takes the first entry out and, by luck, puts a copy of the last one behind it.
fn shift_map<T: Clone>(
    map: &mut std::collections::BTreeMap<String, T>,
    luck: bool,
    rename: impl FnOnce(&mut T) -> String,
) {
    let last = map.values().next_back().cloned();
    map.pop_first();
    if let Some(mut added) = last.filter(|_| luck) {
        map.insert(rename(&mut added), added);
    }
}

fn separate(body: &mut Vec<u8>) {
    if !body.ends_with(b"[") {
        body.push(b',');
    }
}

/// <https://api.ncloud-docs.com/docs/en/containerregistry-getregistry>
fn write_registry(body: &mut Vec<u8>, registry: &Registry, suffix: Option<usize>) {
    separate(body);
    Row::new(body, &registry.overrides)
        .field("bucket", &registry.bucket)
        .field("created", &registry.created_milliseconds)
        .field("end_point", &registry.end_point)
        .field("end_point_enabled", &true)
        .field("name", &*suffixed(&registry.name, suffix))
        .field("private_end_point", "")
        .field("private_id", "")
        .field("public_reg_status", &false)
        .field("scan_on_push_enabled", &false)
        .field("status", &registry.status)
        .field("storage_type", "objectStorage")
        .end();
}

/// <https://api.ncloud-docs.com/docs/en/containerregistry-getimages>
fn write_image(body: &mut Vec<u8>, registry: &str, image: &Image, suffix: Option<usize>) {
    separate(body);
    Row::new(body, &image.overrides)
        .field("can_edit", &true)
        .field("description", &())
        .field("is_automated", &())
        .field("is_private", &())
        .field("last_updated", &image.last_updated_milliseconds)
        .field("name", &*suffixed(&image.name, suffix))
        .field("namespace", registry)
        .field("pull_count", &image.pull_count)
        .field("repository_type", "image")
        .field("star_count", &())
        .field("status", &0)
        .field("user", &())
        .end();
}

/// <https://api.ncloud-docs.com/docs/en/containerregistry-getimagetags>
fn write_tag(body: &mut Vec<u8>, tag: &ImageTag, suffix: Option<usize>) {
    separate(body);
    let platforms = tag.platforms.iter().map(|Platform { architecture, size_bytes, latest_pulled_milliseconds }| {
        json!({
            "architecture": architecture, "os": "linux", "variant": null, "features": null, "os_version": null,
            "os_features": null, "digest": tag.digest, "size": size_bytes,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "created": tag.last_updated_milliseconds, "updated": tag.last_updated_milliseconds,
            "latest_pulled": latest_pulled_milliseconds,
        })
    });
    Row::new(body, &tag.overrides)
        .field("name", &*suffixed(&tag.name, suffix))
        .field("digest", &tag.digest)
        .field("full_size", &tag.size_bytes)
        .field("id", &tag.id)
        .field("repository", &1)
        .field("image_id", &tag.id)
        .field("creator", "1")
        .field("last_updater", "1")
        .field("last_updated", &tag.last_updated_milliseconds)
        .field("v2", &true)
        .field("images", &platforms.collect::<Vec<_>>())
        .end();
}

fn unauthorized(ncr: &Ncr, details: &str) -> Reply {
    error(ncr, 401, "200", &format!("Authentication Failed|{details}"))
}

/// NCR's own statuses have no documented body.
fn not_found(ncr: &Ncr) -> Reply {
    Reply::error(ncr.not_found_status, &ErrorBody::empty())
}

fn error(ncr: &Ncr, status: u16, code: &str, message: &str) -> Reply {
    Reply::error(status, &ErrorBody::new(ncr.error_shape, code, message))
}
