//! The command line: commands and flags, and the environment variable of each flag.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use tracing::Level;

use crate::config::{duration, is_unreadable};
use crate::server::{AddressError, ListenAddress};
use crate::telemetry::logging::Format;

/// What the user asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Cli {
    /// What to do.
    pub command: Command,
    /// The configuration file.
    pub config_file: PathBuf,
    /// Where to listen; at least one.
    pub listen_addresses: Vec<ListenAddress>,
    /// Whether to listen on the sockets that systemd hands over instead.
    pub systemd_socket: bool,
    /// The file with TLS, users and limits of the server.
    pub web_config_file: Option<PathBuf>,
    /// Path of the metrics; collides with no other path of the server.
    pub telemetry_path: String,
    /// Least important events to log.
    pub log_level: Level,
    /// Form of the log.
    pub log_format: Format,
}

/// The commands.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the exporter (what happens without a command, too)
    Serve,
    /// Load and validate the configuration; print ok or every problem
    Check {
        /// Also read the first page of every listing of every source, and say what polling it will cost
        #[arg(long)]
        live: bool,
    },
    /// Poll every source once and print the metrics
    Once {
        /// Write the metrics to FILE instead of stdout, atomically if it is a regular file
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Give up after this time, such as 90s or 5m; no limit unless set
        #[arg(long, value_name = "DURATION", value_parser = duration_flag)]
        timeout: Option<Duration>,
    },
    /// Run the exporter against built-in simulated registries; needs no configuration, account or network
    Demo,
}

/// Reads the command line; `arguments` begin with the program's name. A flag that is not given is looked up in
/// `environment`; an empty value of either is "not set".
///
/// Errors: what clap would print and how to exit, `--help` and `--version` included: see [`clap::Error::print`] and
/// [`clap::Error::exit_code`] (2 for bad flags).
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &BTreeMap<String, String>,
) -> Result<Cli, clap::Error> {
    let Arguments { flags, command } = Arguments::try_parse_from(arguments)?;
    let path = |flag, given: Option<PathBuf>| {
        let variable = variable(flag, environment)?;
        Ok::<_, clap::Error>(
            given.filter(|path| !path.as_os_str().is_empty()).or(variable.map(PathBuf::from)),
        )
    };
    let mut addresses = flags.listen_addresses;
    addresses.retain(|address| !address.is_empty());
    Ok(Cli {
        command: command.unwrap_or(Command::Serve),
        config_file: path("config.file", flags.config_file)?.unwrap_or_else(|| PathBuf::from("config.toml")),
        listen_addresses: setting(
            "web.listen-address",
            Some(addresses.join(",")),
            environment,
            ":10190",
            listen_addresses,
        )?,
        systemd_socket: setting(
            "web.systemd-socket",
            flags.systemd_socket.then(|| "true".to_owned()),
            environment,
            "false",
            switch,
        )?,
        web_config_file: path("web.config.file", flags.web_config_file)?,
        telemetry_path: setting(
            "web.telemetry-path",
            flags.telemetry_path,
            environment,
            "/metrics",
            telemetry_path,
        )?,
        log_level: setting("log.level", flags.log_level, environment, "info", log_level)?,
        log_format: setting("log.format", flags.log_format, environment, "logfmt", log_format)?,
    })
}

/// Reads what `flag` was `given`, or its variable, or the `default`, whichever is the first that is not empty.
fn setting<T>(
    flag: &str,
    given: Option<String>,
    environment: &BTreeMap<String, String>,
    default: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, clap::Error> {
    let variable = variable(flag, environment)?;
    match given.filter(|text| !text.is_empty()) {
        Some(text) => read(&text).map_err(|problem| bad(&format!("--{flag}"), &problem)),
        None => read(variable.unwrap_or(default)).map_err(|problem| bad(&variable_of(flag), &problem)),
    }
}

/// The variable of `flag`, unless it is empty.
///
/// Errors: it cannot be read, which nobody is to find out by what the exporter does without it, such as serving
/// everybody because it has not seen the name of the web configuration.
fn variable<'a>(
    flag: &str,
    environment: &'a BTreeMap<String, String>,
) -> Result<Option<&'a str>, clap::Error> {
    let name = variable_of(flag);
    let value = environment.get(&name).filter(|value| !value.is_empty());
    if value.is_some_and(|value| is_unreadable(value)) {
        return Err(bad(&name, "is not UTF-8; correct or remove it"));
    }
    Ok(value.map(String::as_str))
}

/// `CRE_CONFIG_FILE` for `config.file`.
fn variable_of(flag: &str) -> String {
    format!("CRE_{}", flag.to_ascii_uppercase().replace(['.', '-'], "_"))
}

/// Prometheus exporter for cloud container registries: Huawei Cloud SWR and NAVER Cloud Container Registry
#[derive(Parser)]
#[command(
    name = "container-registry-exporter",
    version = concat!(env!("CARGO_PKG_VERSION"), " (revision ", env!("CRE_REVISION"), ", rustc ", env!("CRE_RUSTC"), ")"),
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

// Defaults and variables are filled in by `parse`, which gets the environment as an argument; the texts name them.
#[derive(Args)]
struct Flags {
    #[arg(help = "Configuration file, always read as TOML [default: config.toml] [env: CRE_CONFIG_FILE]")]
    #[arg(long = "config.file", value_name = "PATH", global = true, value_parser = path())]
    config_file: Option<PathBuf>,
    #[arg(
        help = "Address to listen on, :PORT, host:PORT, [IP]:PORT or [IPv6%zone]:PORT; repeatable [default: :10190] \
        [env: CRE_WEB_LISTEN_ADDRESS, separated by commas]"
    )]
    #[arg(long = "web.listen-address", value_name = "ADDRESS", global = true)]
    listen_addresses: Vec<String>,
    #[arg(
        help = "Listen on the sockets that systemd hands over instead of addresses [env: CRE_WEB_SYSTEMD_SOCKET]"
    )]
    #[arg(long = "web.systemd-socket", global = true)]
    systemd_socket: bool,
    #[arg(help = "File with TLS, users and limits of the server, in the official exporters' format \
        [env: CRE_WEB_CONFIG_FILE]")]
    #[arg(long = "web.config.file", value_name = "PATH", global = true, value_parser = path())]
    web_config_file: Option<PathBuf>,
    #[arg(help = "Path of the metrics [default: /metrics] [env: CRE_WEB_TELEMETRY_PATH]")]
    #[arg(long = "web.telemetry-path", value_name = "PATH", global = true)]
    telemetry_path: Option<String>,
    #[arg(
        help = "Least important events to log: error, warn, info, debug, trace [default: info] [env: CRE_LOG_LEVEL]"
    )]
    #[arg(long = "log.level", value_name = "LEVEL", global = true)]
    log_level: Option<String>,
    #[arg(help = "Form of the log: logfmt or json [default: logfmt] [env: CRE_LOG_FORMAT]")]
    #[arg(long = "log.format", value_name = "FORMAT", global = true)]
    log_format: Option<String>,
}

fn bad(place: &str, problem: &str) -> clap::Error {
    Arguments::command().error(ErrorKind::ValueValidation, format!("{place}: {problem}"))
}

/// As clap's own, which does not take an empty one.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// Addresses between commas, of which an empty one, such as after a comma at the end, is none.
fn listen_addresses(text: &str) -> Result<Vec<ListenAddress>, String> {
    let addresses = text.split(',').map(str::trim).filter(|address| !address.is_empty());
    let parsed = addresses.map(|address| address.parse().map_err(|e: AddressError| e.to_string()));
    let addresses: Vec<_> = parsed.collect::<Result<_, _>>()?;
    if addresses.is_empty() { Err("must have at least one address".to_owned()) } else { Ok(addresses) }
}

fn duration_flag(text: &str) -> Result<Duration, &'static str> {
    let duration = duration::parse(text).filter(|d| !d.is_zero());
    duration.ok_or("must be one whole number above 0 with ms, s, m, h or d, such as 90s")
}

fn telemetry_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err("must start with /".to_owned());
    }
    if ["/", "/-", "/status.json"].contains(&text) || text.starts_with("/-/") {
        let message = "belongs to the server itself, as do /, /status.json, /-/healthy, /-/ready and /-/reload; \
                       choose another";
        return Err(message.to_owned());
    }
    if text.bytes().any(|b| !b.is_ascii_graphic() || b"?#%".contains(&b)) {
        return Err("must consist of visible ASCII characters without ?, # and %".to_owned());
    }
    Ok(text.to_owned())
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

fn log_level(text: &str) -> Result<Level, String> {
    match text {
        "error" => Ok(Level::ERROR),
        "warn" => Ok(Level::WARN),
        "info" => Ok(Level::INFO),
        "debug" => Ok(Level::DEBUG),
        "trace" => Ok(Level::TRACE),
        _ => Err("must be one of error, warn, info, debug, trace".to_owned()),
    }
}

fn log_format(text: &str) -> Result<Format, String> {
    match text {
        "logfmt" => Ok(Format::Logfmt),
        "json" => Ok(Format::Json),
        _ => Err("must be one of logfmt, json".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Cli, clap::Error> {
        let arguments = ["container-registry-exporter"].iter().chain(arguments).map(OsString::from);
        let environment =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        parse(arguments, &environment)
    }

    #[test]
    fn no_arguments_mean_serve_with_the_defaults() {
        let cli = parse_with(&[], &[]).unwrap();
        let expected = Cli {
            command: Command::Serve,
            config_file: PathBuf::from("config.toml"),
            listen_addresses: vec![ListenAddress::All(10190)],
            systemd_socket: false,
            web_config_file: None,
            telemetry_path: "/metrics".to_owned(),
            log_level: Level::INFO,
            log_format: Format::Logfmt,
        };
        assert_eq!(cli, expected);
    }

    #[test]
    fn flags_stand_before_or_after_the_command() {
        for arguments in [["--log.level", "debug", "check"], ["check", "--log.level", "debug"]] {
            let cli = parse_with(&arguments, &[]).unwrap();
            assert_eq!((cli.command, cli.log_level), (Command::Check { live: false }, Level::DEBUG));
        }
    }

    #[test]
    fn a_flag_wins_over_its_variable() {
        let variables =
            [("CRE_WEB_LISTEN_ADDRESS", ":1, [::1]:2"), ("CRE_CONFIG_FILE", "a"), ("CRE_LOG_FORMAT", "json")];
        let cli = parse_with(&["--web.listen-address=:3", "--config.file=b"], &variables).unwrap();
        assert_eq!(cli.listen_addresses, [ListenAddress::All(3)]);
        assert_eq!((cli.config_file, cli.log_format), (PathBuf::from("b"), Format::Json));
        let cli = parse_with(&[], &variables).unwrap();
        assert_eq!(cli.listen_addresses.len(), 2);
    }

    #[test]
    fn the_web_side_is_set_by_flags_or_variables() {
        let variables = [("CRE_WEB_CONFIG_FILE", "a.yml"), ("CRE_WEB_SYSTEMD_SOCKET", "true")];
        let cli = parse_with(&[], &variables).unwrap();
        assert_eq!((cli.web_config_file, cli.systemd_socket), (Some(PathBuf::from("a.yml")), true));
        let arguments = ["--web.config.file=b.yml", "--web.systemd-socket"];
        let cli = parse_with(&arguments, &variables[..1]).unwrap();
        assert_eq!((cli.web_config_file, cli.systemd_socket), (Some(PathBuf::from("b.yml")), true));
        assert!(parse_with(&[], &[("CRE_WEB_SYSTEMD_SOCKET", "maybe")]).is_err());
    }

    #[test]
    fn listen_addresses_repeat() {
        let cli = parse_with(&["--web.listen-address=:1", "--web.listen-address", "[::1]:2"], &[]).unwrap();
        assert_eq!(cli.listen_addresses.len(), 2);
    }

    #[test]
    fn other_variables_are_ignored_and_empty_ones_not_set() {
        let cli = parse_with(&[], &[("CRE_PORT", "tcp://10.0.0.1:80"), ("CRE_LOG_LEVEL", "")]).unwrap();
        assert_eq!(cli.log_level, Level::INFO);
    }

    #[test]
    fn an_empty_flag_is_not_set() {
        let variables = [
            ("CRE_CONFIG_FILE", "a"),
            ("CRE_WEB_CONFIG_FILE", "b"),
            ("CRE_WEB_LISTEN_ADDRESS", ":1"),
            ("CRE_WEB_TELEMETRY_PATH", "/m"),
            ("CRE_LOG_LEVEL", "debug"),
            ("CRE_LOG_FORMAT", "json"),
        ];
        let flags = [
            "--config.file",
            "--web.config.file",
            "--web.listen-address",
            "--web.telemetry-path",
            "--log.level",
            "--log.format",
        ];
        for variables in [&[][..], &variables] {
            let without = parse_with(&[], variables).unwrap();
            for flag in flags {
                let with = parse_with(&[flag, ""], variables).unwrap_or_else(|e| panic!("{flag}: {e}"));
                assert_eq!(with, without, "{flag}");
                assert_eq!(parse_with(&[&format!("{flag}=")], variables).unwrap(), without, "{flag}");
            }
        }
    }

    #[test]
    fn an_empty_address_of_several_is_none() {
        for list in [":1,", ",:1", ":1, ,,"] {
            let cli = parse_with(&[], &[("CRE_WEB_LISTEN_ADDRESS", list)]).unwrap();
            assert_eq!(cli.listen_addresses, [ListenAddress::All(1)], "{list}");
        }
        let cli = parse_with(&["--web.listen-address=", "--web.listen-address=:1"], &[]).unwrap();
        assert_eq!(cli.listen_addresses, [ListenAddress::All(1)]);
        assert!(parse_with(&[], &[("CRE_WEB_LISTEN_ADDRESS", ",")]).is_err());
    }

    #[test]
    fn a_variable_that_cannot_be_read_is_refused_whatever_the_flag_says() {
        for (name, flag) in [
            ("CRE_WEB_CONFIG_FILE", "--web.config.file=a"),
            ("CRE_CONFIG_FILE", "--config.file=a"),
            ("CRE_WEB_LISTEN_ADDRESS", "--web.listen-address=:1"),
            ("CRE_WEB_SYSTEMD_SOCKET", "--web.systemd-socket"),
            ("CRE_WEB_TELEMETRY_PATH", "--web.telemetry-path=/m"),
            ("CRE_LOG_LEVEL", "--log.level=info"),
            ("CRE_LOG_FORMAT", "--log.format=json"),
        ] {
            for arguments in [vec![], vec![flag]] {
                let error = parse_with(&arguments, &[(name, "web\u{fffd}.yml")]).unwrap_err();
                assert_eq!(error.exit_code(), 2);
                assert!(error.to_string().contains(&format!("{name}: is not UTF-8")), "{error}");
            }
        }
    }

    #[test]
    fn once_takes_a_file_and_a_time() {
        let cli = parse_with(&["once", "--output", "f.prom", "--timeout", "90s"], &[]).unwrap();
        let expected =
            Command::Once { output: Some(PathBuf::from("f.prom")), timeout: Some(Duration::from_secs(90)) };
        assert_eq!(cli.command, expected);
    }

    #[test]
    fn bad_flags_exit_with_2() {
        for arguments in [
            vec!["--web.listen-address=10190"],
            vec!["--web.telemetry-path=metrics"],
            vec!["--web.telemetry-path=/-/ready"],
            vec!["--web.telemetry-path=/"],
            vec!["--log.level=loud"],
            vec!["once", "--timeout=0s"],
            vec!["check", "--output=x"],
            vec!["unknown"],
        ] {
            assert_eq!(parse_with(&arguments, &[]).unwrap_err().exit_code(), 2, "{arguments:?}");
        }
    }

    #[test]
    fn a_bad_variable_is_named() {
        for name in ["CRE_LOG_LEVEL", "CRE_LOG_FORMAT", "CRE_WEB_LISTEN_ADDRESS", "CRE_WEB_TELEMETRY_PATH"] {
            let error = parse_with(&[], &[(name, "?")]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn version_names_what_the_program_is_built_from() {
        let version = parse_with(&["--version"], &[]).unwrap_err();
        assert_eq!(version.exit_code(), 0);
        assert!(version.to_string().contains(env!("CRE_REVISION")), "{version}");
        assert!(version.to_string().contains(env!("CRE_RUSTC")), "{version}");
    }

    #[test]
    fn help_exits_with_0() {
        assert_eq!(parse_with(&["--help"], &[]).unwrap_err().exit_code(), 0);
        Arguments::command().debug_assert();
    }
}
