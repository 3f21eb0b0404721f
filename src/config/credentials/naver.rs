//! NAVER Cloud Platform: what <https://github.com/NaverCloudPlatform/ncloud-sdk-go-v2> looks at.

use super::{Environment, home, metadata_service, pair, read_ini, readable, secret, set, value};
use crate::config::NcrAuth;
use crate::config::secret::Sort;

/// The first of: `NCLOUD_*`; the profile that `NCLOUD_PROFILE` names, or `DEFAULT`, in `~/.ncloud/configure`; the
/// metadata service, of which is not known whether it exists.
///
/// Errors: half a credential, or a file or address that cannot be used; the message holds no secret.
pub(in crate::config) fn naver(environment: &Environment) -> Result<NcrAuth, String> {
    readable(environment, &["NCLOUD_", "HOME"])?;
    let first_set =
        |names: [&'static str; 2]| names.into_iter().find(|name| set(environment, name).is_some());
    let access_name =
        first_set(["NCLOUD_ACCESS_KEY_ID", "NCLOUD_ACCESS_KEY"]).unwrap_or("NCLOUD_ACCESS_KEY_ID");
    let secret_name =
        first_set(["NCLOUD_SECRET_ACCESS_KEY", "NCLOUD_SECRET_KEY"]).unwrap_or("NCLOUD_SECRET_ACCESS_KEY");
    let keys =
        pair((set(environment, access_name), access_name), (set(environment, secret_name), secret_name))?;
    if let Some((access_key, secret_key)) = keys {
        return Ok(NcrAuth::AccessKey {
            access_key: secret(Sort::Key, access_key, access_name)?,
            secret_key: secret(Sort::Key, secret_key, secret_name)?,
        });
    }
    if let Some(auth) = file(environment)? {
        return Ok(auth);
    }
    // The SDKs disagree about the variable's name.
    let variables = ["NCLOUD_METADATA_ENDPOINT", "NCLOUD_METADATA_API_ENDPOINT"];
    Ok(NcrAuth::ServerRole(metadata_service(environment, &variables, true)?))
}

fn file(environment: &Environment) -> Result<Option<NcrAuth>, String> {
    let Some(path) = home(environment, ".ncloud/configure") else { return Ok(None) };
    let Some(ini) = read_ini(Some(&path), false)? else { return Ok(None) };
    let path = path.display();
    let profile = set(environment, "NCLOUD_PROFILE");
    // The parser reads names in lower case.
    let section = profile.unwrap_or("default").to_lowercase();
    if let Some(profile) = profile
        && !ini.get_map_ref().contains_key(&section)
    {
        return Err(format!(
            "{path}: has no profile [{profile}], which NCLOUD_PROFILE names; correct one of the two"
        ));
    }
    let (access_name, secret_name) = ("ncloud_access_key_id", "ncloud_secret_access_key");
    let named = |name: &str| format!("{path}: {name}");
    let keys = pair(
        (value(&ini, &section, access_name), &named(access_name)),
        (value(&ini, &section, secret_name), &named(secret_name)),
    )?;
    let Some((access_key, secret_key)) = keys else { return Ok(None) };
    Ok(Some(NcrAuth::AccessKey {
        access_key: secret(Sort::Key, access_key, &named(access_name))?,
        secret_key: secret(Sort::Key, secret_key, &named(secret_name))?,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{environment, home_with, shown};
    use super::*;

    fn keys(auth: NcrAuth) -> (String, String) {
        match auth {
            NcrAuth::AccessKey { access_key, secret_key } => (shown(&access_key), shown(&secret_key)),
            NcrAuth::ServerRole(metadata) => (metadata.endpoint.to_string(), "metadata".to_owned()),
        }
    }

    fn found(environment: &Environment) -> (String, String) {
        keys(naver(environment).unwrap())
    }

    fn two(first: &str, second: &str) -> (String, String) {
        (first.to_owned(), second.to_owned())
    }

    const KEYS: &str = "ncloud_access_key_id = A\nncloud_secret_access_key = S\n";

    #[test]
    fn the_file_may_have_sections_or_none() {
        for section in ["", "[DEFAULT]\n", "[project]\n"] {
            let (_home, environment) = home_with(".ncloud/configure", &format!("{section}{KEYS}"));
            assert_eq!(found(&environment), two("A", "S"), "{section}");
        }
    }

    #[test]
    fn a_variable_names_the_profile() {
        let text = format!("[DEFAULT]\n{KEYS}[Team]\n{}", KEYS.replace("= ", "= T"));
        let (_home, mut environment) = home_with(".ncloud/configure", &text);
        assert_eq!(found(&environment), two("A", "S"));
        environment.insert("NCLOUD_PROFILE".to_owned(), "Team".to_owned());
        assert_eq!(found(&environment), two("TA", "TS"));
        environment.insert("NCLOUD_PROFILE".to_owned(), "other".to_owned());
        let message = naver(&environment).unwrap_err();
        assert!(
            message.ends_with("has no profile [other], which NCLOUD_PROFILE names; correct one of the two")
        );
    }

    #[test]
    fn the_environment_comes_before_the_file_and_the_metadata_service_after_it() {
        let (_home, mut environment) = home_with(".ncloud/configure", KEYS);
        environment.insert("NCLOUD_ACCESS_KEY".to_owned(), "variable".to_owned());
        environment.insert("NCLOUD_SECRET_KEY".to_owned(), "s".to_owned());
        assert_eq!(found(&environment), two("variable", "s"));
        let (_home, environment) = home_with(".ncloud/configure", "[a]\nncloud_api_url = https://a\n[b]\n");
        assert_eq!(found(&environment), two("http://169.254.169.254/", "metadata"));
    }

    #[test]
    fn a_variable_that_cannot_be_read_is_refused_and_not_passed_over() {
        for name in ["NCLOUD_ACCESS_KEY", "NCLOUD_SECRET_KEY", "NCLOUD_PROFILE", "HOME"] {
            let message = naver(&environment(&[(name, "\u{fffd}")])).unwrap_err();
            assert_eq!(message, format!("{name} is not UTF-8; correct or remove it"));
        }
    }

    #[test]
    fn the_metadata_service_may_be_elsewhere() {
        for name in ["NCLOUD_METADATA_ENDPOINT", "NCLOUD_METADATA_API_ENDPOINT"] {
            assert_eq!(
                found(&environment(&[(name, "http://10.0.0.1")])),
                two("http://10.0.0.1/", "metadata")
            );
        }
        let message = naver(&environment(&[("NCLOUD_METADATA_ENDPOINT", "nonsense")])).unwrap_err();
        assert!(
            message.starts_with("the address in NCLOUD_METADATA_ENDPOINT must be an address"),
            "{message}"
        );
    }
}
