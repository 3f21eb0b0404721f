//! The program: reads the command line, starts the log and the runtime, and turns the outcome into an exit code.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use container_registry_exporter::app::{self, AppError, check, demo, once};
use container_registry_exporter::cli::{self, Cli, Command};
use container_registry_exporter::config::Config;
use container_registry_exporter::exposition::trim::share_one_heap;
use container_registry_exporter::server::WebConfigFile;
use container_registry_exporter::telemetry::logging;

/// The work waits for networks; more threads than this would only cost memory.
const MAX_THREADS: usize = 4;

fn main() -> ExitCode {
    let started = Instant::now();
    share_one_heap();
    let environment = app::environment();
    let cli = match cli::parse(std::env::args_os(), &environment) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell if this fails too.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    logging::start(cli.log_level, cli.log_format);
    // The demo brings its own configuration.
    let config = match &cli.command {
        Command::Demo => Ok(None),
        _ => Config::load(&cli.config_file, &environment).map(Some),
    };
    // What `once` prints goes to nobody else.
    let web = match &cli.command {
        Command::Once { .. } => Ok(WebConfigFile::none()),
        _ => WebConfigFile::load(cli.web_config_file.as_deref()),
    };
    let (config, web) = match app::both(config, web) {
        Ok(both) => both,
        Err(error) => {
            say(io::stderr(), &error.to_string());
            return ExitCode::from(2);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_THREADS));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(&cli, config, web, &environment, started));
            // A name being looked up must not hold up the end.
            runtime.shutdown_background();
            outcome
        }
        Err(source) => Err(AppError::System { what: "cannot start".to_owned(), source }),
    };
    outcome.unwrap_or_else(|error| {
        tracing::error!(error = logging::chain(&error), "giving up");
        // A certificate that is none is a matter of the configuration.
        if matches!(error, AppError::Source { .. }) { ExitCode::from(2) } else { ExitCode::FAILURE }
    })
}

async fn run(
    cli: &Cli,
    config: Option<Config>,
    web: WebConfigFile,
    environment: &BTreeMap<String, String>,
    started: Instant,
) -> Result<ExitCode, AppError> {
    match (&cli.command, config) {
        (Command::Check { live }, Some(config)) => {
            if let Err(error) = check::set_up(&config) {
                say(io::stderr(), &logging::chain(&error));
                return Ok(ExitCode::from(2));
            }
            for source in config.sources.iter().filter(|source| source.cloud.is_last_resort()) {
                let (name, credential) = (&source.name, source.cloud.credential());
                say(
                    io::stderr(),
                    &format!(
                        "sources.{name}.auth: no credential is configured; what is left is a {credential}"
                    ),
                );
            }
            if !live {
                say(io::stdout(), "ok");
                return Ok(ExitCode::SUCCESS);
            }
            let (report, good) = check::live(&config).await?;
            say(io::stdout(), report.trim_end());
            return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        (Command::Once { output, timeout }, Some(config)) => {
            if once::run(config, output.clone(), *timeout).await? == once::Outcome::Failed {
                return Ok(ExitCode::FAILURE);
            }
        }
        (Command::Demo, _) | (_, None) => demo::run(cli, Arc::new(web), started).await?,
        (Command::Serve, Some(config)) => {
            let load = || Config::load(&cli.config_file, environment);
            app::serve(config, load, cli, Arc::new(web), started, std::future::pending()).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a line. A reader that has gone is no reason to fail.
fn say(mut to: impl Write, text: &str) {
    let _ = writeln!(to, "{text}");
}
