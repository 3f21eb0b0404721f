//! `demo`: the exporter against simulated clouds on this machine, with numbers that move.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::time::{MissedTickBehavior, interval};

use super::signals::Signals;
use super::{AppError, serve};
use crate::cli::Cli;
use crate::config::Config;
use crate::server::WebConfigFile;
use crate::simulator::{Simulator, demo, keys};

/// How often the simulated clouds move on.
const TICK: Duration = Duration::from_secs(1);

/// Starts the simulators and serves what they hold, until a signal ends it. Needs no file, account or network.
pub async fn run(
    cli: &Cli,
    web: Arc<WebConfigFile>,
    started: Instant,
    signals: Signals,
) -> Result<(), AppError> {
    let simulator = Simulator::start(demo::world(SystemTime::now())).await;
    let what = "cannot start the simulated registries".to_owned();
    let simulator = simulator.map_err(|source| AppError::System { what, source })?;
    tracing::info!(
        endpoint = simulator.swr_url(),
        iam_endpoint = simulator.iam_url(),
        region = keys::REGION,
        project_id = keys::PROJECT_ID,
        access_key = keys::SWR_ACCESS_KEY,
        secret_key = keys::SWR_SECRET_KEY,
        account = keys::IAM_ACCOUNT,
        username = keys::IAM_USER,
        password = keys::IAM_PASSWORD,
        "simulated SWR and IAM, with made-up keys"
    );
    tracing::info!(
        endpoint = simulator.ncr_url(),
        access_key = keys::NCR_ACCESS_KEY,
        secret_key = keys::NCR_SECRET_KEY,
        "simulated NCR, with made-up keys"
    );
    let config = Config::parse(&config_text(&simulator), Path::new("."), &BTreeMap::new())
        .expect("the text below is a valid configuration, which the demo's test loads");
    let again = config.clone();
    let load = move || Ok(again.clone());
    serve(config, load, cli, web, started, signals, move_on(simulator)).await
}

/// Lets time pass in the simulated clouds.
async fn move_on(simulator: Simulator) {
    let start = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        simulator.edit(|world| demo::advance(world, start.elapsed()));
    }
}

/// A configuration as a user would write it.
fn config_text(simulator: &Simulator) -> String {
    format!(
        r#"
[poll]
interval = "5s"
requests_per_second = 0

[sources.swr-demo]
provider = "swr"
region = "{region}"
endpoint = "{swr}"
iam_endpoint = "{iam}"
auth = {{ access_key = "{swr_access_key}", secret_key = "{swr_secret_key}" }}

[sources.ncr-demo]
provider = "ncr"
region = "KR"
endpoint = "{ncr}"
auth = {{ access_key = "{ncr_access_key}", secret_key = "{ncr_secret_key}" }}
"#,
        region = keys::REGION,
        swr = simulator.swr_url(),
        iam = simulator.iam_url(),
        ncr = simulator.ncr_url(),
        swr_access_key = keys::SWR_ACCESS_KEY,
        swr_secret_key = keys::SWR_SECRET_KEY,
        ncr_access_key = keys::NCR_ACCESS_KEY,
        ncr_secret_key = keys::NCR_SECRET_KEY,
    )
}
