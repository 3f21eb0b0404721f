//! The target of a request to the server: its path, and the query of `/metrics`.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use container_registry_exporter::exposition::{Source, Sources};
use container_registry_exporter::inventory::{Inventory, SourceInfo, SourceName};
use container_registry_exporter::scheduler::{SourceState, SourceStatus};
use container_registry_exporter::server::Site;
use container_registry_exporter::telemetry::Collector;
use container_registry_exporter::telemetry::self_metrics::SelfMetrics;
use futures_util::FutureExt as _;
use hyper::{Request, StatusCode};
use percent_encoding::percent_decode_str;
use tokio::sync::{mpsc, watch};

const SOURCES: [&str; 2] = ["a", "swr-prod"];

static SITE: LazyLock<Site> = LazyLock::new(|| {
    let metrics = SelfMetrics::new();
    let collectors = [Collector::Repositories];
    let sources: Sources = SOURCES
        .iter()
        .filter_map(|name| SourceName::new(name))
        .map(|name| {
            let info = SourceInfo {
                name: name.clone(),
                provider: "swr",
                cloud_region: String::new(),
                api_host: String::new(),
            };
            let inventory = Inventory {
                source: Arc::new(info),
                up: None,
                organizations_up: Vec::new(),
                repositories: None,
                shared: None,
            };
            let status = SourceStatus::new(&collectors);
            let state = SourceState { inventory: Arc::new(inventory), status };
            let metrics = metrics.source(&name, &collectors, Duration::from_mins(5));
            (name, Source { states: watch::channel(Arc::new(state)).1, series_limit: None, metrics })
        })
        .collect();
    let (_, sources) = watch::channel(sources);
    let (reload, _) = mpsc::channel(1);
    Site::new("/metrics".to_owned(), sources, Arc::default(), metrics, Instant::now(), reload)
});

/// Every source that is named must be known, other parameters do not matter, and a page that is no page of ours is
/// not found. The input is a query, or a whole target if it begins with a slash.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let target = if text.starts_with('/') { text.to_owned() } else { format!("/metrics?{text}") };
    let Ok(request) = Request::builder().uri(target).body(()) else { return };
    let status = SITE.answer(&request).now_or_never().expect("a GET waits for nothing").status();
    let expected = match request.uri().path() {
        "/metrics" if named(request.uri().query()).all(|name| SOURCES.contains(&&*name)) => StatusCode::OK,
        "/" | "/-/healthy" => StatusCode::OK,
        "/-/reload" => StatusCode::METHOD_NOT_ALLOWED,
        // Nothing was listed yet.
        "/-/ready" => {
            assert!([StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE].contains(&status));
            return;
        }
        _ => StatusCode::NOT_FOUND,
    };
    assert_eq!(status, expected);
}

/// The values of all parameters `source`.
fn named(query: Option<&str>) -> impl Iterator<Item = String> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        String::from_utf8_lossy(&percent_decode_str(&text).collect::<Vec<u8>>()).into_owned()
    };
    let parameters =
        query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    parameters.filter(move |(key, _)| decoded(key) == "source").map(move |(_, value)| decoded(value))
}
