//! Variables and flags as a start script gives them: empty, or in an encoding that is not UTF-8.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Output;

use crate::program::{command, text};

/// `check` of a file with this text, in an environment of these variables.
async fn check(config: &str, flags: &[&str], variables: &[(&str, &[u8])]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    fs::write(&path, config).unwrap();
    let mut command = command(&["check", "--config.file", path.to_str().unwrap()]);
    command.args(flags);
    for (name, value) in variables {
        command.env(name, OsStr::from_bytes(value));
    }
    command.output().await.unwrap()
}

const SWR: &str = "[sources.swr]\nprovider = \"swr\"\nregion = \"cn-north-4\"\n";
const NCR: &str = "[sources.ncr]\nprovider = \"ncr\"\nregion = \"KR\"\n";
const KEY: &str = "auth = { access_key = \"a\", secret_key = \"s\" }\n";

#[tokio::test]
async fn a_variable_that_is_not_utf8_is_refused_by_its_name() {
    for (config, name, variables) in [
        (SWR.to_owned() + KEY, "CRE_WEB_CONFIG_FILE", &[][..]),
        (SWR.to_owned() + KEY, "CRE_CONFIG_FILE", &[]),
        (SWR.to_owned() + KEY, "CRE__POLL__INTERVAL", &[]),
        (SWR.to_owned() + KEY, "CRE__SOURCES__SWR__ENDPOINT", &[]),
        (SWR.to_owned(), "HUAWEICLOUD_SDK_SK", &[("HUAWEICLOUD_SDK_AK", &b"a"[..])]),
        (SWR.to_owned(), "HUAWEICLOUD_SDK_CREDENTIALS_FILE", &[]),
        (NCR.to_owned(), "NCLOUD_ACCESS_KEY", &[]),
    ] {
        let bad: &[u8] = b"/etc/caf\xe9.yml";
        let output = check(&config, &[], &[variables, &[(name, bad)]].concat()).await;
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(
            said.contains(&format!("{name}: is not UTF-8")) || said.contains(&format!("{name} is not UTF-8")),
            "{said}"
        );
    }
}

#[tokio::test]
async fn variables_of_others_may_be_in_any_encoding() {
    let others: [(&str, &[u8]); 3] =
        [("CRE_COLOUR", b"\xff"), ("LANG", b"\xff"), ("HUAWEICLOUD_SDK_AK", b"\xff")];
    let output = check(&(SWR.to_owned() + KEY), &[], &others).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[tokio::test]
async fn an_empty_web_configuration_is_none() {
    for flags in [&["--web.config.file="][..], &["--web.config.file", ""]] {
        let output = check(&(SWR.to_owned() + KEY), flags, &[("CRE_WEB_CONFIG_FILE", b"")]).await;
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(0), "ok\n"),
            "{}",
            text(&output.stderr)
        );
    }
    // A flag without a value does not hide what the variable says.
    let output =
        check(&(SWR.to_owned() + KEY), &["--web.config.file="], &[("CRE_WEB_CONFIG_FILE", b"/no/such")])
            .await;
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn check_says_where_only_the_metadata_service_is_left() {
    for (config, place, holder) in [(SWR, "sources.swr.auth", "agency"), (NCR, "sources.ncr.auth", "role")] {
        let output = check(config, &[], &[]).await;
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "ok\n"));
        let said = text(&output.stderr);
        let parts =
            [place, "no credential is configured", holder, "metadata service at http://169.254.169.254"];
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        let output = check(&(config.to_owned() + KEY), &[], &[]).await;
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    }
    // Who asks for it knows.
    let output = check(&(SWR.to_owned() + "auth = { method = \"metadata\" }\n"), &[], &[]).await;
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}
