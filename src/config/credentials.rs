//! Where the vendors' own tools look for a credential when the section `auth` is omitted: environment variables, a
//! file in the home directory, services that hand out keys.

mod huawei;
mod naver;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use configparser::ini::Ini;
use url::Url;

use super::key_service::Metadata;
use super::reading::read_file_within;
use super::secret::{BYTE_ORDER_MARK, Sort};
use super::{Secret, address, is_unreadable};

pub(super) use huawei::{addresses, huawei, metadata, pod_identity};
pub(super) use naver::naver;

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

/// The variables of the process.
type Environment = BTreeMap<String, String>;

/// Where both clouds have their metadata service.
const METADATA_ENDPOINT: &str = "http://169.254.169.254";

/// The metadata service, at the address that one of `variables` has or the usual one.
fn metadata_service(
    environment: &Environment,
    variables: &[&str],
    last_resort: bool,
) -> Result<Metadata, String> {
    let named = variables.iter().find_map(|name| Some((*name, set(environment, name)?)));
    let (name, text) = named.unwrap_or(("", METADATA_ENDPOINT));
    let endpoint = checked(name, address::parse(text, true))?;
    Ok(Metadata { endpoint, last_resort })
}

/// An address, or what is wrong with the one in the variable `name`.
fn checked(name: &str, address: Result<Url, &'static str>) -> Result<Url, String> {
    address.map_err(|message| format!("the address in {name} {message}"))
}

fn secret(sort: Sort, text: &str, place: &str) -> Result<Secret, String> {
    Secret::from_value(sort, text, place.to_owned()).map_err(|message| format!("{place} {message}"))
}

/// The token in a file, which must be readable now.
fn token_file(path: &str, name: &str) -> Result<Secret, String> {
    let secret = Secret::from_file(Sort::Token, Path::new(path));
    secret.read().map_err(|error| format!("the file in {name} cannot be used: {error}"))?;
    Ok(secret)
}

/// Both halves of a credential, `None` where there is neither.
fn pair<'a>(
    (first, first_name): (Option<&'a str>, &str),
    (second, second_name): (Option<&'a str>, &str),
) -> Result<Option<(&'a str, &'a str)>, String> {
    match (first, second) {
        (Some(first), Some(second)) => Ok(Some((first, second))),
        (None, Some(_)) => Err(format!("{first_name} is missing; it goes together with {second_name}")),
        (Some(_), None) => Err(format!("{second_name} is missing; it goes together with {first_name}")),
        (None, None) => Ok(None),
    }
}

/// Whether all variables that begin with one of `beginnings` can be read: nobody is to find out that one could not by
/// which other credential is used.
fn readable(environment: &Environment, beginnings: &[&str]) -> Result<(), String> {
    let ours = |name: &str| beginnings.iter().any(|beginning| name.starts_with(beginning));
    match environment.iter().find(|(name, value)| ours(name) && is_unreadable(value)) {
        Some((name, _)) => Err(format!("{name} is not UTF-8; correct or remove it")),
        None => Ok(()),
    }
}

/// A variable that is set and not empty.
fn set<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
}

fn home(environment: &Environment, file: &str) -> Option<PathBuf> {
    set(environment, "HOME").map(|home| Path::new(home).join(file))
}

/// The file, if there is one; one that is `required` must be there.
fn read_ini(path: Option<&Path>, required: bool) -> Result<Option<Ini>, String> {
    let Some(path) = path else { return Ok(None) };
    let name = path.display();
    let text = read_file_within(path);
    let text = text.and_then(|text| String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData.into()));
    let text = match text {
        Ok(text) => text,
        Err(e) if !required && matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) if e.kind() == io::ErrorKind::TimedOut => return Err(format!("{name}: {e}")),
        Err(e) => {
            return Err(format!("{name}: cannot be read ({}); check the path, its owner and mode", e.kind()));
        }
    };
    let mut ini = Ini::new();
    // A key may contain # or ; like any other character.
    ini.set_inline_comment_symbols(Some(&[]));
    // The message of the library is left out: it might repeat a line.
    ini.read(text.trim_start_matches(BYTE_ORDER_MARK).to_owned())
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
    use std::fs;

    use secrecy::ExposeSecret as _;
    use tempfile::TempDir;

    use super::*;

    /// An environment of these variables.
    pub(super) fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// A home directory with this file in it.
    pub(super) fn home_with(file: &str, text: &str) -> (TempDir, Environment) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(file);
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        let environment = environment(&[("HOME", home.path().to_str().unwrap())]);
        (home, environment)
    }

    pub(super) fn shown(secret: &Secret) -> String {
        secret.read().unwrap().expose_secret().to_owned()
    }

    #[test]
    fn a_byte_order_mark_before_a_file_hides_nothing_of_it() {
        let (_home, environment) = home_with(
            ".ncloud/configure",
            "\u{feff}[DEFAULT]\nncloud_access_key_id = A\nncloud_secret_access_key = S\n",
        );
        assert!(matches!(naver(&environment), Ok(crate::config::NcrAuth::AccessKey { .. })));
        let (_home, environment) = home_with(".huaweicloud/credentials", "\u{feff}[basic]\nak = A\nsk = S\n");
        let found = huawei(&environment, None, false).unwrap().0;
        assert!(matches!(found, crate::config::SwrAuth::AccessKey { .. }), "{found:?}");
    }

    #[test]
    fn a_broken_file_is_named_and_not_shown() {
        let (_home, environment) = home_with(".ncloud/configure", "[hunter2\n");
        let message = naver(&environment).unwrap_err();
        assert!(message.contains(".ncloud/configure: is no valid INI file"), "{message}");
        assert!(!message.contains("hunter2"));
    }
}
