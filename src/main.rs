//! The program: reads the command line, starts the log and the runtime, and turns the outcome into an exit code.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use container_registry_exporter::app::signals::{Signals, StopSignals};
use container_registry_exporter::app::{self, AppError, check, demo, once};
use container_registry_exporter::cli::{self, Cli, Command};
use container_registry_exporter::config::{Config, ConfigError};
use container_registry_exporter::exposition::trim::share_one_heap;
use container_registry_exporter::server::WebConfigFile;
use container_registry_exporter::telemetry::logging;
use tokio_util::sync::CancellationToken;

/// The work waits for networks; more threads than this would only cost memory.
const MAX_THREADS: usize = 4;

fn main() -> ExitCode {
    let started = Instant::now();
    share_one_heap();
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_THREADS));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let code = match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(program(started));
            // A name being looked up must not hold up the end, nor a file that does not answer.
            runtime.shutdown_background();
            code
        }
        Err(source) => failed(&AppError::System { what: "cannot start".to_owned(), source }),
    };
    logging::finish();
    code
}

/// From the first line on a signal ends it, whatever stands still.
async fn program(started: Instant) -> ExitCode {
    let mut signals = match StopSignals::new() {
        Ok(signals) => signals,
        Err(error) => return failed(&error),
    };
    let stop = CancellationToken::new();
    let environment = app::environment();
    match cli::parse(std::env::args_os(), &environment) {
        Ok(cli) => {
            logging::start(cli.log_level, cli.log_format);
            let stopped_well = matches!(cli.command, Command::Serve | Command::Demo);
            let work = tokio::spawn(run(cli, environment, stop.clone(), started));
            let work = async {
                let outcome = work.await.unwrap_or_else(|error| Err(AppError::Ended(Some(error))));
                outcome.unwrap_or_else(|error| Some(failed(&error)))
            };
            signals.run(&stop, stopped_well, work).await
        }
        Err(error) => {
            let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
            let text = error.render().to_string();
            if error.use_stderr() {
                logging::say(&text);
                return code;
            }
            signals.run(&stop, false, print(text, code)).await
        }
    }
}

/// Does what `cli` says; `None` if `stop` came before the end.
async fn run(
    cli: Cli,
    environment: BTreeMap<String, String>,
    stop: CancellationToken,
    started: Instant,
) -> Result<Option<ExitCode>, AppError> {
    let signals = match cli.command {
        Command::Serve | Command::Demo => Some(Signals::new(stop.clone())?),
        // Another signal ends these as it ends any program.
        Command::Check { .. } | Command::Once { .. } => None,
    };
    let cli = Arc::new(cli);
    let environment = Arc::new(environment);
    let loading = {
        let (cli, environment) = (Arc::clone(&cli), Arc::clone(&environment));
        app::blocking(move || load(&cli, &environment))
    };
    let Some(loaded) = stop.run_until_cancelled(loading).await else { return Ok(None) };
    let (config, web) = match loaded? {
        Ok(both) => both,
        Err(error) => {
            logging::say(&error.to_string());
            return Ok(Some(ExitCode::from(2)));
        }
    };
    let web = Arc::new(web);
    match (&cli.command, config, signals) {
        (Command::Check { live }, Some(config), _) => check(config, *live, &stop).await,
        (Command::Once { output, timeout }, Some(config), _) => {
            once::run(config, output.clone(), *timeout, &stop).await
        }
        (Command::Serve, Some(config), Some(signals)) => {
            let file = cli.config_file.clone();
            let load = move || Config::load(&file, &environment);
            let company = std::future::pending();
            app::serve(config, load, &cli, web, started, signals, company).await?;
            Ok(Some(ExitCode::SUCCESS))
        }
        (_, _, signals) => {
            demo::run(&cli, web, started, signals.expect("the demo has them")).await?;
            Ok(Some(ExitCode::SUCCESS))
        }
    }
}

/// The configuration and what protects the server, where the command needs them.
fn load(
    cli: &Cli,
    environment: &BTreeMap<String, String>,
) -> Result<(Option<Config>, WebConfigFile), ConfigError> {
    // The demo brings its own configuration.
    let config = match &cli.command {
        Command::Demo => Ok(None),
        Command::Check { .. } => {
            Config::load(&cli.config_file, environment).and_then(check::set_up).map(Some)
        }
        _ => Config::load(&cli.config_file, environment).map(Some),
    };
    // What `once` prints goes to nobody else.
    let web = match &cli.command {
        Command::Once { .. } => Ok(WebConfigFile::none()),
        _ => WebConfigFile::load(cli.web_config_file.as_deref()),
    };
    app::both(config, web)
}

async fn check(config: Config, live: bool, stop: &CancellationToken) -> Result<Option<ExitCode>, AppError> {
    for source in config.sources.iter().filter(|source| source.cloud.is_last_resort()) {
        let (name, credential) = (&source.name, source.cloud.credential());
        logging::say(&format!(
            "sources.{name}.auth: no credential is configured; what is left is a {credential}"
        ));
    }
    if !live {
        return Ok(print("ok".to_owned(), ExitCode::SUCCESS).await);
    }
    let Some(report) = stop.run_until_cancelled(check::live(&config)).await else { return Ok(None) };
    let (report, good) = report?;
    Ok(print(report, if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }).await)
}

/// Prints a text on stdout and ends with `code`. A reader that has gone is no reason to fail.
async fn print(text: String, code: ExitCode) -> Option<ExitCode> {
    let _ = app::blocking(move || writeln!(io::stdout(), "{}", text.trim_end())).await;
    Some(code)
}

fn failed(error: &AppError) -> ExitCode {
    if let AppError::Config(error) = error {
        logging::say(&error.to_string());
        return ExitCode::from(2);
    }
    tracing::error!(error = logging::chain(error), "giving up");
    if matches!(error, AppError::Output { .. }) { ExitCode::from(2) } else { ExitCode::FAILURE }
}
