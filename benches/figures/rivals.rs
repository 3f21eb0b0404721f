//! What users write instead: the same series behind the `prometheus` crate and behind Python's client, each served as
//! its documentation shows, in a process of its own.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder as _, GaugeVec, Opts, Registry, TextEncoder};
use tokio::net::TcpListener;

use super::model::is_inventory;

/// The argument that makes this program one of these servers.
pub const ROLE: &str = "serve-rival";

/// The environment that `tests/tools` makes.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/python/bin/python");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/figures/rival.py");

/// A running server; dropping it ends its process.
pub struct Rival {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Rival {
    /// Starts a server of the inventory on `page`: `gauge-vec`, `collector` or `python`.
    pub fn start(kind: &str, page: &Path) -> Result<Self> {
        let mut command = if kind == "python" {
            let mut python = Command::new(PYTHON);
            python.args([Path::new(SCRIPT), page]);
            python
        } else {
            let mut rust = Command::new(std::env::current_exe()?);
            rust.args([Path::new(ROLE), Path::new(kind), page]);
            rust
        };
        let spawned = command.stdout(Stdio::piped()).spawn();
        let mut child = spawned.with_context(|| format!("cannot start {kind}; is tests/tools run?"))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut line)?;
        let address = line.trim().parse().with_context(|| format!("{kind} says {line:?}"))?;
        Ok(Self { child, address })
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is such a server, for ever.
pub fn serve(arguments: &[&str]) -> Result<()> {
    let [kind, page] = arguments else { bail!("a kind and a file are needed") };
    let registry = Registry::new();
    let page = std::fs::read_to_string(page)?;
    let families = families(&page)?;
    match *kind {
        "gauge-vec" => {
            for family in families {
                let names: Vec<_> = family.labels.iter().map(String::as_str).collect();
                let gauges = GaugeVec::new(Opts::new(family.name, family.help), &names)?;
                for (labels, value) in &family.rows {
                    gauges.get_metric_with_label_values(labels)?.set(*value);
                }
                registry.register(Box::new(gauges))?;
            }
        }
        "collector" => {
            for family in families {
                registry.register(Box::new(Snapshot::new(family)?))?;
            }
        }
        other => bail!("there is no rival {other:?}"),
    }
    drop(page);
    let threads = std::thread::available_parallelism()?.get().min(4);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let registry = registry.clone();
            let service = service_fn(move |request| {
                std::future::ready(Ok::<_, Infallible>(answer(&registry, &request)))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}

/// As in the crate's example for hyper, and compressed as users do it.
fn answer<B>(registry: &Registry, request: &Request<B>) -> Response<Full<Bytes>> {
    let encoder = TextEncoder::new();
    let mut body = Vec::new();
    encoder.encode(&registry.gather(), &mut body).expect("a Vec takes it");
    let response = Response::builder().header(CONTENT_TYPE, encoder.format_type());
    let compressed = request.headers().get(ACCEPT_ENCODING).is_some_and(|value| value == "gzip");
    let response = if compressed {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&body).expect("a Vec takes it");
        body = gzip.finish().expect("a Vec takes it");
        response.header(CONTENT_ENCODING, "gzip")
    } else {
        response
    };
    response.body(Full::new(body.into())).expect("the headers are constant")
}

/// A family of a page.
struct Family {
    name: String,
    help: String,
    labels: Vec<String>,
    rows: Vec<(Vec<String>, f64)>,
}

/// The inventory's families on a page whose label values need no escapes.
fn families(page: &str) -> Result<Vec<Family>> {
    let mut families: Vec<Family> = Vec::new();
    let mut help = String::new();
    for line in page.lines() {
        if let Some(said) = line.strip_prefix("# HELP ") {
            said.split_once(' ').context("a help text")?.1.clone_into(&mut help);
        } else if is_inventory(line) {
            let (name, rest) = line.split_once('{').context("labels")?;
            let (labels, value) = rest.rsplit_once("} ").context("a value")?;
            let labels = labels.trim_end_matches('"').split("\",").map(|label| label.split_once("=\""));
            let labels: Option<Vec<_>> = labels.collect();
            let labels = labels.with_context(|| format!("odd labels: {line}"))?;
            if families.last().is_none_or(|family| family.name != name) {
                let names = labels.iter().map(|(name, _)| (*name).to_owned()).collect();
                let (name, help) = (name.to_owned(), help.clone());
                families.push(Family { name, help, labels: names, rows: Vec::new() });
            }
            let family = families.last_mut().context("it was just pushed")?;
            family.rows.push((labels.iter().map(|(_, value)| (*value).to_owned()).collect(), value.parse()?));
        }
    }
    Ok(families)
}

/// A collector over figures that somebody else keeps: the way the crate offers to whoever has a snapshot.
struct Snapshot {
    description: Desc,
    family: Family,
}

impl Snapshot {
    fn new(family: Family) -> Result<Self> {
        let (name, help) = (family.name.clone(), family.help.clone());
        let description = Desc::new(name, help, family.labels.clone(), std::collections::HashMap::new())?;
        Ok(Self { description, family })
    }

    fn metric(&self, labels: &[String], value: f64) -> Metric {
        let pair = |(name, value): (&String, &String)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.clone());
            pair.set_value(value.clone());
            pair
        };
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = Metric::default();
        metric.set_label(self.family.labels.iter().zip(labels).map(pair).collect());
        metric.set_gauge(gauge);
        metric
    }
}

impl Collector for Snapshot {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut family = MetricFamily::default();
        family.set_name(self.family.name.clone());
        family.set_help(self.family.help.clone());
        family.set_field_type(MetricType::GAUGE);
        family.set_metric(self.family.rows.iter().map(|(l, value)| self.metric(l, *value)).collect());
        vec![family]
    }
}
