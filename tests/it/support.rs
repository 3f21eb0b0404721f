//! What the tests of the polls share: configurations for a simulator, sources that are polled by hand through the
//! same stages as in production, and their page.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use container_registry_exporter::app::sources::source;
use container_registry_exporter::client::Guards;
use container_registry_exporter::config::Config;
use container_registry_exporter::exposition::limit::{Selection, select};
use container_registry_exporter::exposition::live::Live;
use container_registry_exporter::exposition::negotiate::Format;
use container_registry_exporter::exposition::page::Page;
use container_registry_exporter::exposition::source_page::render;
use container_registry_exporter::scheduler::{Failure, Source, SourceState};
use container_registry_exporter::simulator::{Call, Exchange, Simulator, World, keys};
use container_registry_exporter::telemetry::Collector;
use container_registry_exporter::telemetry::self_metrics::SelfMetrics;
use futures_util::future::join_all;
use tokio::sync::watch;

/// Longer than any poll here takes; only a walk that never ends reaches it.
const POLL_TIMEOUT: Duration = Duration::from_secs(120);

/// Serves `world` on free ports.
pub async fn simulator(world: World) -> Simulator {
    Simulator::start(world).await.unwrap()
}

/// Has every poll read the tags of every repository, changed or not.
pub const ALL_TAGS: &str = "tags = { full_sweep = \"5m\" }\n";

/// A source `swr` that signs with the simulator's access key; `more` is further keys of its section.
pub fn swr(simulator: &Simulator, more: &str) -> String {
    let keys =
        format!("access_key = \"{}\", secret_key = \"{}\"", keys::SWR_ACCESS_KEY, keys::SWR_SECRET_KEY);
    swr_with("swr", simulator, &keys, more)
}

/// A source `swr` that makes tokens from the simulator's IAM user.
pub fn swr_with_password(simulator: &Simulator, more: &str) -> String {
    let (account, user, password) = (keys::IAM_ACCOUNT, keys::IAM_USER, keys::IAM_PASSWORD);
    let auth = format!(
        "method = \"password\", account = \"{account}\", username = \"{user}\", password = \"{password}\""
    );
    swr_with("swr", simulator, &auth, more)
}

/// A source of SWR with any name and authentication.
pub fn swr_with(name: &str, simulator: &Simulator, auth: &str, more: &str) -> String {
    let (endpoint, iam_endpoint, region) = (simulator.swr_url(), simulator.iam_url(), keys::REGION);
    format!(
        "[sources.{name}]\nprovider = \"swr\"\nregion = \"{region}\"\nendpoint = \"{endpoint}\"\n\
         iam_endpoint = \"{iam_endpoint}\"\nauth = {{ {auth} }}\n{more}\n"
    )
}

/// A source `ncr` of the region KR; `more` is further keys of its section.
pub fn ncr(simulator: &Simulator, more: &str) -> String {
    ncr_at("ncr", &simulator.ncr_url(), keys::NCR_SECRET_KEY, more)
}

/// A source of NCR with any name and address.
pub fn ncr_at(name: &str, endpoint: &str, secret_key: &str, more: &str) -> String {
    let access_key = keys::NCR_ACCESS_KEY;
    format!(
        "[sources.{name}]\nprovider = \"ncr\"\nregion = \"KR\"\nendpoint = \"{endpoint}\"\n\
         auth = {{ access_key = \"{access_key}\", secret_key = \"{secret_key}\" }}\n{more}\n"
    )
}

/// The exporter without its clock and its server: its sources are polled when a test says so.
pub struct Exporter {
    metrics: SelfMetrics,
    sources: Vec<Polled>,
}

struct Polled {
    source: Source,
    states: watch::Receiver<Arc<SourceState>>,
    series_limit: Option<u64>,
}

impl Exporter {
    /// The sources of a configuration, without a pace.
    pub fn new(sources: &str) -> Self {
        Self::in_environment(sources, &[])
    }

    /// The same in an environment of these variables.
    pub fn in_environment(sources: &str, environment: &[(&str, &str)]) -> Self {
        let text = format!("[poll]\nrequests_per_second = 0\n{sources}");
        let environment: BTreeMap<_, _> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let config = Config::parse(&text, Path::new("."), &environment);
        let config = config.unwrap_or_else(|error| panic!("{error}\n{text}"));
        let (metrics, guards) = (SelfMetrics::new(), Guards::default());
        let mut sources = Vec::new();
        for config in config.sources {
            let series_limit = config.series_limit;
            let (source, states) = source(config, &guards, &metrics).unwrap();
            sources.push(Polled { source, states, series_limit });
        }
        Self { metrics, sources }
    }

    /// Polls all sources side by side; whether every collector succeeded.
    pub async fn poll(&mut self) -> bool {
        self.poll_within(POLL_TIMEOUT).await
    }

    /// The same with another time-out.
    pub async fn poll_within(&mut self, timeout: Duration) -> bool {
        let deadline = Some(tokio::time::Instant::now() + timeout);
        let polls = self.sources.iter_mut().map(|polled| polled.source.poll(deadline));
        join_all(polls).await.into_iter().all(|succeeded| succeeded)
    }

    /// The whole page as it is served.
    pub fn page(&self) -> String {
        let live = Live::new(self.metrics.clone()).piece(Format::Text, None, Instant::now());
        let frames = self.join().text(&live);
        let bytes: Vec<u8> = (0..).map_while(|index| frames.get(index)).flatten().copied().collect();
        String::from_utf8(bytes).unwrap()
    }

    /// The part of the page that the sources' inventories make.
    pub fn inventory(&self) -> String {
        String::from_utf8(self.join().to_vec()).unwrap()
    }

    fn join(&self) -> Page {
        let mut pages = Vec::new();
        for Polled { states, series_limit, .. } in &self.sources {
            let inventory = Arc::clone(&states.borrow().inventory);
            let selection = select(&inventory, *series_limit, &Selection::default());
            pages.push(render(&inventory, &selection, None));
        }
        Page::join(&pages.iter().collect::<Vec<_>>())
    }

    /// The value of a series of the page, named without the prefix `container_registry_`, as it is printed.
    pub fn value(&self, series: &str) -> Option<String> {
        samples(&self.page()).remove(series)
    }

    /// The same as a number; 0 if the series is not there, as counters are before their first event.
    pub fn number(&self, series: &str) -> f64 {
        self.value(series).map_or(0.0, |value| value.parse().unwrap())
    }

    /// The sum over all series of a family of the page whose labels contain `part`.
    pub fn sum(&self, family: &str, part: &str) -> f64 {
        let prefix = format!("{family}{{");
        let page = samples(&self.page());
        let wanted = page.iter().filter(|(series, _)| series.starts_with(&prefix) && series.contains(part));
        wanted.map(|(_, value)| value.parse::<f64>().unwrap()).sum()
    }

    /// How the collector of the only source failed last, unless it succeeded since.
    pub fn failure(&self, collector: Collector) -> Option<Failure> {
        let state = self.sources[0].states.borrow();
        state.status.collectors.iter().find(|status| status.collector == collector)?.failure.clone()
    }

    /// Everything that the exporter would show: its page and all that is said about its sources.
    pub fn everything_shown(&self) -> String {
        let states = self.sources.iter().map(|polled| format!("{:?}\n", polled.states.borrow()));
        self.page() + &states.collect::<String>()
    }
}

/// The samples of a page by series, without the prefix `container_registry_`. No series may be there twice.
pub fn samples(page: &str) -> BTreeMap<String, String> {
    let mut samples = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let series = series.strip_prefix("container_registry_").unwrap_or(series);
        assert_eq!(samples.insert(series.to_owned(), value.to_owned()), None, "twice: {series}");
    }
    samples
}

/// The exchanges of one call, oldest first.
pub fn exchanges(simulator: &Simulator, call: Call) -> Vec<Exchange> {
    simulator.log().into_iter().filter(|exchange| exchange.call == Some(call)).collect()
}

/// What the requests of a call asked for, oldest first.
pub fn targets(simulator: &Simulator, call: Call) -> Vec<String> {
    exchanges(simulator, call).into_iter().map(|exchange| exchange.target).collect()
}

/// Panics if `text` has a secret in it, as it is or in any notation that something between it and the reader could use.
pub fn assert_no_secret(text: &str, secrets: &[&str]) {
    // However often it was escaped, whatever the escapes were of.
    let bare = text.replace('\\', "");
    for secret in secrets {
        for form in notations(secret) {
            assert!(!text.contains(&form), "{form} is in: {text}");
            assert!(!bare.contains(&form.replace('\\', "")), "{form} is in, but for backslashes: {text}");
        }
    }
}

/// A secret as it may stand in a log, a page or a header.
fn notations(secret: &str) -> Vec<String> {
    use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD, Engine as _};
    let mut forms = vec![
        secret.to_owned(),
        secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;"),
        percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC).to_string(),
        url::form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
    ];
    let hex = |upper: bool| {
        let digits =
            secret.bytes().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") });
        digits.collect::<String>()
    };
    forms.extend([hex(true), hex(false)]);
    // Three bytes make four characters, so that it depends on what is before and after which characters a secret gets.
    for before in 0..3 {
        let bytes = [&b"xx"[..before], secret.as_bytes()].concat();
        for encoded in [BASE64_STANDARD_NO_PAD.encode(&bytes), BASE64_URL_SAFE_NO_PAD.encode(&bytes)] {
            let last = encoded.len() - usize::from(bytes.len() % 3 != 0);
            forms.push(encoded[[0, 2, 3][before]..last].to_owned());
        }
    }
    forms
}

/// Every secret of the simulated clouds' accounts.
pub const SECRETS: [&str; 3] = [keys::SWR_SECRET_KEY, keys::NCR_SECRET_KEY, keys::IAM_PASSWORD];
