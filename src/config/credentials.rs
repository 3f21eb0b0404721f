//! Where the vendors' own tools look for a credential: environment variables, then a file in the home directory.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use configparser::ini::Ini;
use secrecy::SecretString;

use super::{Secret, SwrAuth};

/// What the vendor's environment and file say besides the credential.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The SWR API of the region.
    pub(super) endpoint: Option<FoundAddress>,
    /// IAM.
    pub(super) iam_endpoint: Option<FoundAddress>,
    /// The project.
    pub(super) project_id: Option<String>,
}

/// An address and the variable or file that gave it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FoundAddress {
    /// As it was found, unchecked.
    pub(super) address: String,
    /// For messages.
    pub(super) origin: String,
}

/// `HUAWEICLOUD_SDK_*`, then the section `[basic]` of `HUAWEICLOUD_SDK_CREDENTIALS_FILE` or
/// `~/.huaweicloud/credentials`, as <https://github.com/huaweicloud/huaweicloud-sdk-python-v3> does.
///
/// Errors: nothing found, half a credential, or a file that cannot be read; the message holds no secret.
pub(super) fn huawei(
    environment: &BTreeMap<String, String>,
    region: Option<&str>,
) -> Result<(SwrAuth, Found), String> {
    let variable = |name: &str| set(environment, &format!("HUAWEICLOUD_SDK_{name}"));
    let file;
    let (keys, mut found) = if variable("AK").is_some() || variable("SK").is_some() {
        let keys = pair(variable("AK"), variable("SK"), "HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK")?;
        let project_id = variable("PROJECT_ID").map(str::to_owned);
        ((keys, variable("SECURITY_TOKEN")), Found { project_id, ..Found::default() })
    } else {
        let named = variable("CREDENTIALS_FILE").map(PathBuf::from);
        let path = match &named {
            Some(path) => Some(path.clone()),
            None => home(environment, ".huaweicloud/credentials"),
        };
        file = read_ini(path.as_deref(), named.is_some())?.ok_or(NO_HUAWEI_KEY)?;
        let path = path.unwrap_or_default();
        let path = path.display();
        let key = |name: &str| value(&file, "basic", name);
        let keys = pair(key("ak"), key("sk"), &format!("{path}: ak"), &format!("{path}: sk"))?;
        let (iam_endpoint, project_id) = (key("iam_endpoint"), key("project_id"));
        let found = Found {
            iam_endpoint: iam_endpoint
                .map(|address| found_address(address, &format!("{path}: iam_endpoint"))),
            project_id: project_id.map(str::to_owned),
            ..Found::default()
        };
        ((keys, key("security_token")), found)
    };
    let ((access_key, secret_key), token) = keys;
    if let Some(region) = region {
        let name = format!("HUAWEICLOUD_SDK_REGION_SWR_{}", region.to_ascii_uppercase().replace('-', "_"));
        // The SDK takes the first of a list of addresses.
        let address = set(environment, &name).and_then(|list| list.split(',').next());
        found.endpoint = address.map(|address| found_address(address.trim(), &name));
    }
    if let Some(address) = variable("IAM_ENDPOINT") {
        found.iam_endpoint = Some(found_address(address, "HUAWEICLOUD_SDK_IAM_ENDPOINT"));
    }
    Ok((
        SwrAuth::AccessKey {
            access_key,
            secret_key,
            security_token: token.map(|token| secret(token, "the place of the key")),
        },
        found,
    ))
}

/// `NCLOUD_*`, then `~/.ncloud/configure`, as <https://github.com/NaverCloudPlatform/ncloud-sdk-go-v2> does.
///
/// Errors: as [`huawei`].
pub(super) fn naver(environment: &BTreeMap<String, String>) -> Result<(Secret, Secret), String> {
    let variable = |name: &str| set(environment, name);
    let first_set = |names: [&'static str; 2]| names.into_iter().find(|name| variable(name).is_some());
    let access_key = first_set(["NCLOUD_ACCESS_KEY_ID", "NCLOUD_ACCESS_KEY"]);
    let secret_key = first_set(["NCLOUD_SECRET_ACCESS_KEY", "NCLOUD_SECRET_KEY"]);
    if access_key.is_some() || secret_key.is_some() {
        return pair(
            access_key.and_then(variable),
            secret_key.and_then(variable),
            access_key.unwrap_or("NCLOUD_ACCESS_KEY_ID"),
            secret_key.unwrap_or("NCLOUD_SECRET_ACCESS_KEY"),
        );
    }
    let path = home(environment, ".ncloud/configure");
    let file = read_ini(path.as_deref(), false)?.ok_or(NO_NAVER_KEY)?;
    let path = path.unwrap_or_default();
    let path = path.display();
    let key = |name: &str| value(&file, "default", name);
    pair(
        key("ncloud_access_key_id"),
        key("ncloud_secret_access_key"),
        &format!("{path}: ncloud_access_key_id"),
        &format!("{path}: ncloud_secret_access_key"),
    )
}

const NO_HUAWEI_KEY: &str = "no credential found; set access_key and secret_key (or access_key_file and \
    secret_key_file) in this section, or the environment variables HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK, or ak and \
    sk in the section [basic] of ~/.huaweicloud/credentials";

const NO_NAVER_KEY: &str = "no credential found; set access_key and secret_key (or access_key_file and \
    secret_key_file) in this section, or the environment variables NCLOUD_ACCESS_KEY_ID (or NCLOUD_ACCESS_KEY) and \
    NCLOUD_SECRET_ACCESS_KEY (or NCLOUD_SECRET_KEY), or ncloud_access_key_id and ncloud_secret_access_key in \
    ~/.ncloud/configure";

fn secret(text: &str, place: &str) -> Secret {
    Secret::from_value(SecretString::from(text), place.to_owned())
}

fn found_address(address: &str, origin: &str) -> FoundAddress {
    FoundAddress { address: address.to_owned(), origin: origin.to_owned() }
}

/// Both halves of a key, or which of them is missing.
fn pair(
    access_key: Option<&str>,
    secret_key: Option<&str>,
    access_name: &str,
    secret_name: &str,
) -> Result<(Secret, Secret), String> {
    match (access_key, secret_key) {
        (Some(access_key), Some(secret_key)) => {
            Ok((secret(access_key, access_name), secret(secret_key, secret_name)))
        }
        (None, Some(_)) => Err(format!("{access_name} is missing; it goes together with {secret_name}")),
        (Some(_), None) => Err(format!("{secret_name} is missing; it goes together with {access_name}")),
        (None, None) => {
            Err(format!("{access_name} and {secret_name} are missing; set them, or fill in this section"))
        }
    }
}

/// A variable that is set and not empty.
fn set<'a>(environment: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
}

fn home(environment: &BTreeMap<String, String>, file: &str) -> Option<PathBuf> {
    set(environment, "HOME").map(|home| Path::new(home).join(file))
}

/// The file, if there is one; one that is `required` must be there.
fn read_ini(path: Option<&Path>, required: bool) -> Result<Option<Ini>, String> {
    let Some(path) = path else { return Ok(None) };
    let name = path.display();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if !required && matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => {
            return Err(format!("{name}: cannot be read ({}); check the path, its owner and mode", e.kind()));
        }
    };
    let mut ini = Ini::new();
    // A key may contain # or ; like any other character.
    ini.set_inline_comment_symbols(Some(&[]));
    // The message of the library is left out: it might repeat a line.
    ini.read(text)
        .map_err(|_| format!("{name}: is no valid INI file; correct it or set the section auth"))?;
    Ok(Some(ini))
}

/// A value that is not empty, from `section`, or from the file's only section: the vendors' tools differ in whether
/// they want one.
fn value<'a>(ini: &'a Ini, section: &str, key: &str) -> Option<&'a str> {
    let sections = ini.get_map_ref();
    let section = match sections.get(section) {
        Some(section) => section,
        None if sections.len() == 1 => sections.values().next()?,
        None => return None,
    };
    section.get(key)?.as_deref().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn home_with(file: &str, text: &str) -> (tempfile::TempDir, BTreeMap<String, String>) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(file);
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        let environment = environment(&[("HOME", home.path().to_str().unwrap())]);
        (home, environment)
    }

    fn shown(secret: &Secret) -> String {
        secret.read().unwrap().expose_secret().to_owned()
    }

    #[test]
    fn huawei_environment_wins_over_the_file() {
        let (_home, mut environment) =
            home_with(".huaweicloud/credentials", "[basic]\nak = file\nsk = file\n");
        environment.insert("HUAWEICLOUD_SDK_AK".to_owned(), "variable".to_owned());
        environment.insert("HUAWEICLOUD_SDK_SK".to_owned(), "s".to_owned());
        let (auth, _) = huawei(&environment, None).unwrap();
        assert!(matches!(auth, SwrAuth::AccessKey { access_key, .. } if shown(&access_key) == "variable"));
    }

    #[test]
    fn huawei_file_keeps_every_character_of_a_key() {
        let text = "# mine\n[global]\nak = wrong\n[basic]\nak = A\nsk = a=b:c#d;e\nproject_id = p\n";
        let (_home, environment) = home_with(".huaweicloud/credentials", text);
        let (auth, found) = huawei(&environment, None).unwrap();
        assert!(matches!(auth, SwrAuth::AccessKey { secret_key, .. } if shown(&secret_key) == "a=b:c#d;e"));
        assert_eq!(found.project_id.as_deref(), Some("p"));
    }

    #[test]
    fn huawei_addresses_come_from_the_environment() {
        let environment = environment(&[
            ("HUAWEICLOUD_SDK_AK", "a"),
            ("HUAWEICLOUD_SDK_SK", "s"),
            ("HUAWEICLOUD_SDK_REGION_SWR_CN_NORTH_4", "https://one, https://two"),
            ("HUAWEICLOUD_SDK_IAM_ENDPOINT", "https://iam"),
        ]);
        let (_, found) = huawei(&environment, Some("cn-north-4")).unwrap();
        let endpoint = found_address("https://one", "HUAWEICLOUD_SDK_REGION_SWR_CN_NORTH_4");
        assert_eq!(found.endpoint, Some(endpoint));
        assert_eq!(found.iam_endpoint, Some(found_address("https://iam", "HUAWEICLOUD_SDK_IAM_ENDPOINT")));
    }

    #[test]
    fn half_a_key_is_a_problem_that_names_the_other_half() {
        let message = huawei(&environment(&[("HUAWEICLOUD_SDK_AK", "a")]), None).unwrap_err();
        assert!(message.starts_with("HUAWEICLOUD_SDK_SK is missing"), "{message}");
    }

    #[test]
    fn naver_file_may_have_sections_or_none() {
        let keys = "ncloud_access_key_id = A\nncloud_secret_access_key = S\n";
        for section in ["", "[DEFAULT]\n", "[project]\n"] {
            let (_home, environment) = home_with(".ncloud/configure", &format!("{section}{keys}"));
            let (access_key, secret_key) = naver(&environment).unwrap();
            assert_eq!((shown(&access_key).as_str(), shown(&secret_key).as_str()), ("A", "S"), "{section}");
        }
    }

    #[test]
    fn a_broken_file_is_named_and_not_shown() {
        let (_home, environment) = home_with(".ncloud/configure", "[hunter2\n");
        let message = naver(&environment).unwrap_err();
        assert!(message.contains(".ncloud/configure: is no valid INI file"), "{message}");
        assert!(!message.contains("hunter2"));
    }

    #[test]
    fn nothing_found_tells_where_to_put_it() {
        assert_eq!(huawei(&BTreeMap::new(), None).unwrap_err(), NO_HUAWEI_KEY);
        assert_eq!(naver(&BTreeMap::new()).unwrap_err(), NO_NAVER_KEY);
    }
}
