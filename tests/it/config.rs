//! Configurations as users write them: what loads, what is refused, and in which words.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use container_registry_exporter::config::{Cloud, Config, SourceConfig};
use container_registry_exporter::inventory::Center;
use expect_test::expect_file;
use proptest::prelude::*;

/// What every secret in the files is: it must never be printed.
const SECRET: &str = "hunter2";

/// The `.toml` files in `tests/config/KIND`, sorted.
fn files(kind: &str) -> Vec<PathBuf> {
    let directory = Path::new("tests/config").join(kind);
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files
}

/// The environment in the file beside it, `NAME=value` line by line; empty if there is none.
fn environment(path: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path.with_extension("env")).unwrap_or_default();
    text.lines().filter_map(|line| line.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

fn load(name: &str) -> Config {
    let path = Path::new("tests/config/ok").join(name).with_extension("toml");
    Config::load(&path, &environment(&path)).unwrap()
}

fn source(name: &str) -> SourceConfig {
    load(name).sources.remove(0)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn every_good_file_loads() {
    let files = files("ok");
    for path in &files {
        let config = Config::load(path, &environment(path));
        let config = config.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(!config.sources.is_empty());
        assert!(!format!("{config:?}").contains(SECRET), "{}", path.display());
    }
    assert!(files.len() >= 12, "{}", files.len());
}

#[test]
fn every_bad_file_is_refused_with_its_exact_message() {
    let files = files("bad");
    for path in &files {
        let error = Config::load(path, &environment(path)).expect_err(&path.display().to_string());
        let message = error.to_string();
        assert!(!message.contains(SECRET), "{}: {message}", path.display());
        assert!(!format!("{error:?}").contains(SECRET), "{}", path.display());
        let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join(path).with_extension("txt");
        expect_file![expected].assert_eq(&format!("{message}\n"));
        // Tables are unordered inside: the order must come from us.
        assert_eq!(Config::load(path, &environment(path)).unwrap_err(), error);
    }
    let beside = fs::read_dir("tests/config/bad").unwrap();
    let messages =
        beside.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "txt"));
    assert_eq!(files.len(), messages.count());
    assert!(files.len() >= 49, "{}", files.len());
}

#[test]
fn the_example_loads_as_shipped() {
    let environment = [
        ("HUAWEICLOUD_SDK_AK", "AK"),
        ("HUAWEICLOUD_SDK_SK", SECRET),
        ("NCLOUD_ACCESS_KEY_ID", "AK"),
        ("NCLOUD_SECRET_ACCESS_KEY", SECRET),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let config = Config::load(Path::new("config.example.toml"), &environment).unwrap();
    let names: Vec<&str> = config.sources.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["ncr", "swr-prod"]);

    // What it shows is what an empty section means.
    let text = "[sources.ncr]\nprovider = \"ncr\"\nregion = \"KR\"\n\
                [sources.swr-prod]\nprovider = \"swr\"\nregion = \"cn-north-4\"\n";
    let defaults = Config::parse(text, Path::new(""), &environment).unwrap();
    assert_eq!(format!("{config:#?}"), format!("{defaults:#?}"));
}

#[test]
fn the_example_loads_with_every_line_uncommented() {
    let example = fs::read_to_string("config.example.toml").unwrap();
    let mut text = String::new();
    for line in example.lines() {
        let setting = line
            .strip_prefix('#')
            .filter(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '['));
        text.push_str(setting.unwrap_or(line));
        text.push('\n');
    }
    let directory = tempfile::tempdir().unwrap();
    for (from, to) in
        [("authority.pem", "ca.pem"), ("client.pem", "client.pem"), ("client.key", "client-key.pem")]
    {
        fs::copy(Path::new("tests/tls/web").join(from), directory.path().join(to)).unwrap();
    }
    for file in [
        "swr-secret-key",
        "swr-security-token",
        "swr-password",
        "swr-token",
        "swr-access-key",
        "ncr-secret-key",
    ] {
        fs::write(directory.path().join(file), SECRET).unwrap();
    }
    let config = Config::parse(&text, directory.path(), &BTreeMap::new()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.sources.len(), 5);
    assert_eq!(config.state, Some(directory.path().join("state")));
}

#[test]
fn a_missing_file_is_named_with_the_ways_out() {
    let error = Config::load(Path::new("no/such/config.toml"), &BTreeMap::new()).unwrap_err().to_string();
    for part in ["no/such/config.toml", "--config.file", "demo"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(
        Config::load(Path::new("tests"), &BTreeMap::new())
            .unwrap_err()
            .to_string()
            .contains("is a directory")
    );
}

#[test]
fn a_source_inherits_what_it_does_not_set() {
    let sources = load("poll").sources;
    let (own, inherited) = (&sources[0].poll, &sources[1].poll);
    assert_eq!((own.interval, own.timeout, own.stale_after), (seconds(3600), seconds(540), seconds(10_800)));
    assert_eq!((own.requests_per_second, sources[0].series_limit), (Some(2.5), Some(1000)));
    assert_eq!((inherited.interval, inherited.timeout), (seconds(600), seconds(540)));
    assert_eq!(inherited.stale_after, seconds(1800));
    assert_eq!((inherited.requests_per_second, sources[1].series_limit), (None, None));
    assert_eq!((sources[1].tags.newest, sources[1].tags.full_sweep), (None, seconds(3600)));
}

#[test]
fn the_environment_wins_over_the_file() {
    let source = source("environment");
    assert_eq!((source.poll.interval, source.poll.timeout), (seconds(60), seconds(48)));
    assert_eq!((source.poll.requests_per_second, source.tags.newest), (Some(0.5), Some(7)));
    let Cloud::Swr(swr) = source.cloud else { panic!("{:?}", source.cloud) };
    assert_eq!(swr.endpoint.as_str(), "https://swr-api.eu-west-101.myhuaweicloud.eu/");
    assert_eq!(swr.iam_endpoint.as_str(), "https://iam.eu-west-101.myhuaweicloud.eu/");
    assert_eq!(swr.project_name, "eu-west-101");
}

#[test]
fn a_secret_of_the_environment_is_told_as_coming_from_there() {
    let environment =
        ["ACCESS_KEY", "SECRET_KEY"].map(|key| (format!("CRE__SOURCES__A__AUTH__{key}"), SECRET.to_owned()));
    for (provider, region) in [("swr", "cn-north-4"), ("ncr", "KR")] {
        let text = format!(
            "[sources.a]\nprovider = \"{provider}\"\nregion = \"{region}\"\nauth.access_key = \"a\"\n"
        );
        let config = Config::parse(&text, Path::new(""), &environment.clone().into()).unwrap();
        let credential = config.sources[0].cloud.credential();
        assert_eq!(credential, "access key from CRE__SOURCES__A__AUTH__ACCESS_KEY");
    }
    let text = "[sources.a]\nprovider = \"swr\"\nregion = \"r\"\n\
                auth = { method = \"password\", account = \"a\", username = \"u\" }\n";
    let environment = BTreeMap::from([("CRE__SOURCES__A__AUTH__PASSWORD".to_owned(), SECRET.to_owned())]);
    let credential = Config::parse(text, Path::new(""), &environment).unwrap().sources[0].cloud.credential();
    assert_eq!(credential, "password of u in account a, from CRE__SOURCES__A__AUTH__PASSWORD");
}

#[test]
fn snapshots_are_kept_beside_the_file_where_the_section_names_a_directory() {
    assert_eq!(load("state").state, Some(PathBuf::from("tests/config/ok/snapshots")));
    assert_eq!(load("environment").state, Some(PathBuf::from("/var/lib/cre")));
    assert_eq!(load("swr").state, None);
}

#[test]
fn watch_replaces_the_listings() {
    let Cloud::Swr(swr) = source("swr-watch").cloud else { panic!() };
    let pair = |organization: &str, repository: &str| (organization.to_owned(), repository.to_owned());
    assert_eq!(swr.watch, [pair("group", "busybox"), pair("group", "team/app")]);
    assert!(swr.shared.is_empty());
    let Cloud::Swr(swr) = source("swr-watch-none").cloud else { panic!() };
    assert_eq!(swr.shared, [Center::Own, Center::ThirdParty]);
}

#[test]
fn each_site_and_region_has_its_address() {
    let addresses = load("ncr-sites").sources.into_iter().map(|s| match s.cloud {
        Cloud::Ncr(ncr) => format!("{} {}", s.name, ncr.endpoint),
        Cloud::Swr(_) => panic!(),
    });
    let expected = [
        "fin-fkr https://ncr.apigw.fin-ntruss.com/ncr/api/v2",
        "gov-kr https://gov-ncr.apigw.gov-ntruss.com/ncr/kr/v2",
        "gov-krs https://gov-ncr.apigw.gov-ntruss.com/ncr/krs/v2",
        "public-jpn https://ncr.apigw.ntruss.com/ncr/jpn-api/v2",
        "public-kr https://ncr.apigw.ntruss.com/ncr/api/v2",
        "public-sgn https://ncr.apigw.ntruss.com/ncr/sgn-api/v2",
    ];
    assert_eq!(addresses.collect::<Vec<_>>(), expected);
}

#[test]
fn deep_nesting_is_refused() {
    for text in ["a.".repeat(100_000) + "a = 1", "a = ".to_owned() + &"[".repeat(100_000)] {
        assert!(Config::parse(&text, Path::new(""), &BTreeMap::new()).is_err());
    }
}

/// Every good file, read once.
fn good_texts() -> Vec<String> {
    files("ok").iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

proptest! {
    #[test]
    fn any_bytes_load_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &bytes).unwrap();
        let _ = Config::load(file.path(), &BTreeMap::new());
    }

    /// Good files, of which a piece is replaced by what TOML is made of, come closer to the walk than noise does.
    #[test]
    fn a_damaged_file_never_shows_a_secret(
        text in proptest::sample::select(good_texts()),
        start in any::<proptest::sample::Index>(),
        length in 0_usize..40,
        piece in "[\\[\\]{}=\"'.,#\n a-z0-9_-]{0,12}",
    ) {
        let start = start.index(text.len());
        let end = (start + length).min(text.len());
        let mut damaged = text.clone();
        damaged.replace_range(start..end, &piece);
        if let Err(error) = Config::parse(&damaged, Path::new("tests/config/ok"), &BTreeMap::new()) {
            prop_assert!(!error.to_string().contains(SECRET), "{}\n---\n{}", error, damaged);
        }
    }

    /// As the value of any key: of the wrong type, unterminated, or simply wrong there.
    #[test]
    fn a_secret_as_any_value_is_never_shown(
        text in proptest::sample::select(good_texts()),
        line in any::<proptest::sample::Index>(),
        form in proptest::sample::select(vec!["\"S\"", "[\"S\"]", "{ a = \"S\" }", "\"S", "S", "'''S", "\"\\S\"", "{ \"S\"", "3 S"]),
    ) {
        let lines: Vec<&str> = text.lines().collect();
        let chosen = line.index(lines.len());
        let mut broken = String::new();
        for (index, line) in lines.iter().enumerate() {
            match line.split_once('=') {
                // A path is shown, so that the user can find the file.
                Some((key, _)) if index == chosen && !line.contains("_file") => {
                    broken.extend([key, "= ", &form.replace('S', SECRET)]);
                }
                _ => broken.push_str(line),
            }
            broken.push('\n');
        }
        if let Err(error) = Config::parse(&broken, Path::new("tests/config/ok"), &BTreeMap::new()) {
            prop_assert!(!error.to_string().contains(SECRET), "{}\n---\n{}", error, broken);
        }
    }
}
