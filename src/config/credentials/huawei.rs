//! Huawei Cloud: what <https://github.com/huaweicloud/huaweicloud-sdk-python-v3> looks at, pod identity before metadata.

use std::path::PathBuf;

use super::{
    Environment, Found, FoundAddress, checked, home, metadata_service, pair, read_ini, readable, secret, set,
    token_file, value,
};
use crate::config::address;
use crate::config::key_service::{KeyService, Metadata, Oidc, container_address};
use crate::config::secret::Sort;
use crate::config::{Secret, SwrAuth};

/// The first of: `HUAWEICLOUD_SDK_*`; the section `[basic]` of `HUAWEICLOUD_SDK_CREDENTIALS_FILE` or
/// `~/.huaweicloud/credentials`; pod identity; the metadata service, of which is not known whether it exists.
///
/// Errors: half a credential, or a file or address that cannot be used; the message holds no secret.
pub(in crate::config) fn huawei(
    environment: &Environment,
    region: Option<&str>,
    allow_http: bool,
) -> Result<(SwrAuth, Found), String> {
    readable(environment, &["HUAWEICLOUD_", "HC_CONTAINER_", "HOME"])?;
    let mut found = addresses(environment, region);
    if let Some(service) = identity_provider(environment)? {
        return Ok((SwrAuth::Temporary(service), found));
    }
    if let Some(auth) = access_key(environment)? {
        return Ok((auth, found));
    }
    if let Some(auth) = file(environment, &mut found)? {
        return Ok((auth, found));
    }
    let service = match cluster(environment, region, allow_http)? {
        Some(service) => service,
        None => KeyService::Metadata(metadata(environment, true)?),
    };
    Ok((SwrAuth::Temporary(service), found))
}

/// The addresses and the project that the environment names.
pub(in crate::config) fn addresses(environment: &Environment, region: Option<&str>) -> Found {
    let variable = |name: String| {
        let address = set(environment, &name)?;
        // The SDK takes the first of a list of addresses.
        let address = address.split(',').next().unwrap_or(address).trim().to_owned();
        Some(FoundAddress { address, origin: name })
    };
    let region = region.map(|region| region.to_ascii_uppercase().replace('-', "_"));
    Found {
        endpoint: region.and_then(|region| variable(format!("HUAWEICLOUD_SDK_REGION_SWR_{region}"))),
        iam_endpoint: variable("HUAWEICLOUD_SDK_IAM_ENDPOINT".to_owned()),
        project_id: set(environment, "HUAWEICLOUD_SDK_PROJECT_ID").map(str::to_owned),
    }
}

/// The metadata service. No SDK can be told another address; the variable is named after those for IAM and STS.
pub(in crate::config) fn metadata(environment: &Environment, last_resort: bool) -> Result<Metadata, String> {
    readable(environment, &["HUAWEICLOUD_"])?;
    metadata_service(environment, &["HUAWEICLOUD_SDK_METADATA_ENDPOINT"], last_resort)
}

/// The service that gives a key to a pod, if the environment names one: `HUAWEICLOUD_OIDC_*`,
/// `HUAWEICLOUD_SDK_IDP_ID`, or `HC_CONTAINER_CREDENTIALS_FULL_URI`.
pub(in crate::config) fn pod_identity(
    environment: &Environment,
    region: Option<&str>,
    allow_http: bool,
) -> Result<Option<KeyService>, String> {
    readable(environment, &["HUAWEICLOUD_", "HC_CONTAINER_"])?;
    match identity_provider(environment)? {
        Some(service) => Ok(Some(service)),
        None => cluster(environment, region, allow_http),
    }
}

/// <https://support.huaweicloud.com/usermanual-cce/cce_10_2188.html>
fn identity_provider(environment: &Environment) -> Result<Option<KeyService>, String> {
    const ID: &str = "HUAWEICLOUD_SDK_IDP_ID";
    const TOKEN: &str = "HUAWEICLOUD_SDK_ID_TOKEN_FILE";
    let Some((id, path)) = pair((set(environment, ID), ID), (set(environment, TOKEN), TOKEN))? else {
        return Ok(None);
    };
    Ok(Some(KeyService::IdentityProvider { id: id.to_owned(), token: token_file(path, TOKEN)? }))
}

fn access_key(environment: &Environment) -> Result<Option<SwrAuth>, String> {
    const ACCESS: &str = "HUAWEICLOUD_SDK_AK";
    const SECRET: &str = "HUAWEICLOUD_SDK_SK";
    const TOKEN: &str = "HUAWEICLOUD_SDK_SECURITY_TOKEN";
    let keys = pair((set(environment, ACCESS), ACCESS), (set(environment, SECRET), SECRET))?;
    let Some((access_key, secret_key)) = keys else { return Ok(None) };
    Ok(Some(SwrAuth::AccessKey {
        access_key: secret(Sort::Key, access_key, ACCESS)?,
        secret_key: secret(Sort::Key, secret_key, SECRET)?,
        security_token: set(environment, TOKEN).map(|text| secret(Sort::Token, text, TOKEN)).transpose()?,
    }))
}

/// The credential in the file, and what else it says.
fn file(environment: &Environment, found: &mut Found) -> Result<Option<SwrAuth>, String> {
    let named = set(environment, "HUAWEICLOUD_SDK_CREDENTIALS_FILE").map(PathBuf::from);
    let required = named.is_some();
    let Some(path) = named.or_else(|| home(environment, ".huaweicloud/credentials")) else { return Ok(None) };
    let Some(ini) = read_ini(Some(&path), required)? else { return Ok(None) };
    let path = path.display();
    let key = |name: &str| value(&ini, "basic", name);
    let named = |name: &str| format!("{path}: {name}");
    let auth = if let Some((id, token)) =
        pair((key("idp_id"), &named("idp_id")), (key("id_token_file"), &named("id_token_file")))?
    {
        let token = token_file(token, &named("id_token_file"))?;
        SwrAuth::Temporary(KeyService::IdentityProvider { id: id.to_owned(), token })
    } else if let Some((access_key, secret_key)) = pair((key("ak"), &named("ak")), (key("sk"), &named("sk")))?
    {
        SwrAuth::AccessKey {
            access_key: secret(Sort::Key, access_key, &named("ak"))?,
            secret_key: secret(Sort::Key, secret_key, &named("sk"))?,
            security_token: key("security_token")
                .map(|text| secret(Sort::Token, text, &named("security_token")))
                .transpose()?,
        }
    } else if required {
        return Err(format!(
            "{path}: ak and sk are missing in its section [basic]; set them, or fill in this section"
        ));
    } else {
        return Ok(None);
    };
    found.project_id = found.project_id.take().or_else(|| key("project_id").map(str::to_owned));
    if found.iam_endpoint.is_none() {
        let origin = named("iam_endpoint");
        found.iam_endpoint =
            key("iam_endpoint").map(|address| FoundAddress { address: address.to_owned(), origin });
    }
    Ok(Some(auth))
}

/// What only pods have: `HUAWEICLOUD_OIDC_*`, then `HC_CONTAINER_CREDENTIALS_FULL_URI`.
fn cluster(
    environment: &Environment,
    region: Option<&str>,
    allow_http: bool,
) -> Result<Option<KeyService>, String> {
    const URI: &str = "HC_CONTAINER_CREDENTIALS_FULL_URI";
    const TOKEN: &str = "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE";
    if let Some(oidc) = oidc(environment, region, allow_http)? {
        return Ok(Some(KeyService::Oidc(Box::new(oidc))));
    }
    let Some((uri, path)) = pair((set(environment, URI), URI), (set(environment, TOKEN), TOKEN))? else {
        return Ok(None);
    };
    let uri = checked(URI, container_address(uri))?;
    Ok(Some(KeyService::PodIdentity { uri, token: token_file(path, TOKEN)? }))
}

fn oidc(environment: &Environment, region: Option<&str>, allow_http: bool) -> Result<Option<Oidc>, String> {
    const PROVIDER: &str = "HUAWEICLOUD_OIDC_PROVIDER_URN";
    const AGENCY: &str = "HUAWEICLOUD_OIDC_AGENCY_URN";
    const ENDPOINT: &str = "HUAWEICLOUD_SDK_STS_ENDPOINT";
    const DURATION: &str = "HUAWEICLOUD_OIDC_DURATION_SECONDS";
    let variable = |name: &str| set(environment, name);
    let Some((provider_urn, agency_urn)) = pair((variable(PROVIDER), PROVIDER), (variable(AGENCY), AGENCY))?
    else {
        return Ok(None);
    };
    let endpoint = match variable(ENDPOINT) {
        Some(endpoint) => checked(ENDPOINT, address::parse(endpoint, allow_http))?,
        None => checked("region", address::parse(&address::sts_default(region.unwrap_or("unknown")), false))?,
    };
    let duration = variable(DURATION).map_or(Some(3600), |text| text.parse().ok());
    let duration_seconds = duration.filter(|seconds| (900..=43_200).contains(seconds));
    let policy_ids = variable("HUAWEICLOUD_OIDC_POLICY_IDS").unwrap_or_default().split(',').map(str::trim);
    Ok(Some(Oidc {
        endpoint,
        provider_urn: provider_urn.to_owned(),
        agency_urn: agency_urn.to_owned(),
        // The SDK's own.
        session_name: variable("HUAWEICLOUD_OIDC_SESSION_NAME").unwrap_or("oidc-sts-session").to_owned(),
        duration_seconds: duration_seconds
            .ok_or_else(|| format!("{DURATION} must be a whole number of seconds from 900 to 43200"))?,
        policy: variable("HUAWEICLOUD_OIDC_POLICY").map(str::to_owned),
        policy_ids: policy_ids.filter(|id| !id.is_empty()).map(str::to_owned).collect(),
        token: oidc_token(environment)?,
    }))
}

fn oidc_token(environment: &Environment) -> Result<Secret, String> {
    const VALUE: &str = "HUAWEICLOUD_OIDC_ID_TOKEN";
    const FILE: &str = "HUAWEICLOUD_OIDC_TOKEN_FILE";
    match (set(environment, VALUE), set(environment, FILE)) {
        (Some(token), _) => secret(Sort::Token, token, VALUE),
        (None, Some(path)) => token_file(path, FILE),
        (None, None) => Err(format!("{FILE} is missing; set it to the file that holds the web token")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{environment, home_with, shown};
    use super::*;

    fn found(environment: &Environment) -> Result<SwrAuth, String> {
        huawei(environment, Some("cn-north-4"), false).map(|(auth, _)| auth)
    }

    /// A file with a token, and its path.
    fn web_token() -> (tempfile::TempDir, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token").to_str().unwrap().to_owned();
        std::fs::write(&path, "web token").unwrap();
        (directory, path)
    }

    #[test]
    fn each_step_comes_before_those_after_it() {
        let (_directory, token) = web_token();
        let (_home, mut environment) =
            home_with(".huaweicloud/credentials", "[basic]\nak = file\nsk = file\n");
        let steps = [
            (vec![("HOME", "/nowhere")], "Metadata"),
            (
                vec![
                    ("HC_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1/v1"),
                    ("HC_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token),
                ],
                "PodIdentity",
            ),
            (
                vec![
                    ("HUAWEICLOUD_OIDC_PROVIDER_URN", "provider"),
                    ("HUAWEICLOUD_OIDC_AGENCY_URN", "agency"),
                    ("HUAWEICLOUD_OIDC_TOKEN_FILE", &token),
                ],
                "Oidc",
            ),
            (vec![("HOME", environment["HOME"].clone().leak() as &str)], "from /"),
            (vec![("HUAWEICLOUD_SDK_AK", "a"), ("HUAWEICLOUD_SDK_SK", "s")], "from HUAWEICLOUD_SDK_AK"),
            (
                vec![("HUAWEICLOUD_SDK_IDP_ID", "i"), ("HUAWEICLOUD_SDK_ID_TOKEN_FILE", &token)],
                "IdentityProvider",
            ),
        ];
        for (variables, expected) in steps {
            environment.extend(variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
            let auth = format!("{:?}", found(&environment).unwrap());
            assert!(auth.contains(expected), "{expected}: {auth}");
        }
    }

    #[test]
    fn a_file_without_a_key_is_passed_over_unless_it_is_named() {
        let (_home, mut environment) =
            home_with(".huaweicloud/credentials", "[basic]\nak =\n[global]\nak = a\n");
        assert!(matches!(found(&environment), Ok(SwrAuth::Temporary(KeyService::Metadata(_)))));
        let path = format!("{}/.huaweicloud/credentials", environment["HOME"]);
        environment.insert("HUAWEICLOUD_SDK_CREDENTIALS_FILE".to_owned(), path.clone());
        assert_eq!(
            found(&environment),
            Err(format!(
                "{path}: ak and sk are missing in its section [basic]; set them, or fill in this section"
            ))
        );
    }

    #[test]
    fn the_file_keeps_every_character_of_a_key() {
        let text = "# mine\n[global]\nak = wrong\n[basic]\nak = A\nsk = a=b:c#d;e\nproject_id = p\n";
        let (_home, environment) = home_with(".huaweicloud/credentials", text);
        let (auth, found) = huawei(&environment, None, false).unwrap();
        assert!(matches!(auth, SwrAuth::AccessKey { secret_key, .. } if shown(&secret_key) == "a=b:c#d;e"));
        assert_eq!(found.project_id.as_deref(), Some("p"));
    }

    #[test]
    fn a_variable_that_cannot_be_read_is_refused_and_not_passed_over() {
        for name in [
            "HUAWEICLOUD_SDK_AK",
            "HUAWEICLOUD_SDK_PROJECT_ID",
            "HUAWEICLOUD_SDK_REGION_SWR_CN_NORTH_4",
            "HC_CONTAINER_CREDENTIALS_FULL_URI",
            "HOME",
        ] {
            let message = found(&environment(&[(name, "\u{fffd}")])).unwrap_err();
            assert_eq!(message, format!("{name} is not UTF-8; correct or remove it"));
        }
        let environment = environment(&[("HUAWEICLOUD_SDK_METADATA_ENDPOINT", "\u{fffd}")]);
        assert!(metadata(&environment, false).is_err() && pod_identity(&environment, None, false).is_err());
    }

    #[test]
    fn the_project_of_the_environment_counts_whichever_step_gives_the_key() {
        let (_directory, token) = web_token();
        let file = "[basic]\nak = A\nsk = S\n";
        for (home_file, more) in [
            (file.to_owned(), vec![]),
            (format!("{file}project_id = file\n"), vec![]),
            (String::new(), vec![("HUAWEICLOUD_SDK_AK", "a"), ("HUAWEICLOUD_SDK_SK", "s")]),
            (
                String::new(),
                vec![("HUAWEICLOUD_SDK_IDP_ID", "i"), ("HUAWEICLOUD_SDK_ID_TOKEN_FILE", token.as_str())],
            ),
            (String::new(), vec![]),
        ] {
            let (_home, mut environment) = home_with(".huaweicloud/credentials", &home_file);
            environment.insert("HUAWEICLOUD_SDK_PROJECT_ID".to_owned(), "variable".to_owned());
            environment.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            let (_, found) = huawei(&environment, None, false).unwrap();
            assert_eq!(found.project_id.as_deref(), Some("variable"), "{home_file} {more:?}");
        }
    }

    #[test]
    fn addresses_come_from_the_environment() {
        let environment = environment(&[
            ("HUAWEICLOUD_SDK_REGION_SWR_CN_NORTH_4", "https://one, https://two"),
            ("HUAWEICLOUD_SDK_IAM_ENDPOINT", "https://iam"),
            ("HUAWEICLOUD_SDK_METADATA_ENDPOINT", "http://10.0.0.1:8080/"),
        ]);
        let found = addresses(&environment, Some("cn-north-4"));
        let address = |address: &str, origin: &str| {
            Some(FoundAddress { address: address.to_owned(), origin: origin.to_owned() })
        };
        assert_eq!(found.endpoint, address("https://one", "HUAWEICLOUD_SDK_REGION_SWR_CN_NORTH_4"));
        assert_eq!(found.iam_endpoint, address("https://iam", "HUAWEICLOUD_SDK_IAM_ENDPOINT"));
        assert_eq!(metadata(&environment, false).unwrap().endpoint.as_str(), "http://10.0.0.1:8080/");
    }

    #[test]
    fn a_key_that_cannot_be_one_is_refused_where_it_is_read() {
        for key in ["\u{feff}a", "a b", "a\u{200b}", "a\u{a0}b"] {
            let message =
                found(&environment(&[("HUAWEICLOUD_SDK_AK", key), ("HUAWEICLOUD_SDK_SK", "s")])).unwrap_err();
            assert!(message.starts_with("HUAWEICLOUD_SDK_AK "), "{key:?}: {message}");
            let (_home, environment) =
                home_with(".huaweicloud/credentials", &format!("[basic]\nak = a\nsk = x{key}x\n"));
            assert!(found(&environment).unwrap_err().contains(".huaweicloud/credentials: sk "), "{key:?}");
        }
    }

    #[test]
    fn half_a_credential_is_a_problem_that_names_the_other_half() {
        for (set, missing) in [
            ("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK"),
            ("HUAWEICLOUD_SDK_ID_TOKEN_FILE", "HUAWEICLOUD_SDK_IDP_ID"),
            ("HUAWEICLOUD_OIDC_AGENCY_URN", "HUAWEICLOUD_OIDC_PROVIDER_URN"),
            ("HC_CONTAINER_CREDENTIALS_FULL_URI", "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        ] {
            let message = found(&environment(&[(set, "a")])).unwrap_err();
            assert_eq!(message, format!("{missing} is missing; it goes together with {set}"));
        }
    }

    #[test]
    fn sts_is_asked_as_the_environment_says() {
        let mut variables = environment(&[
            ("HUAWEICLOUD_OIDC_PROVIDER_URN", "provider"),
            ("HUAWEICLOUD_OIDC_AGENCY_URN", "agency"),
            ("HUAWEICLOUD_OIDC_ID_TOKEN", "token"),
            ("HUAWEICLOUD_OIDC_DURATION_SECONDS", "7200"),
            ("HUAWEICLOUD_OIDC_POLICY_IDS", "a, b,"),
        ]);
        let read = oidc(&variables, Some("eu-west-101"), false).unwrap().unwrap();
        assert_eq!(read.endpoint.as_str(), "https://sts.eu-west-101.myhuaweicloud.eu/");
        assert_eq!((read.duration_seconds, read.session_name.as_str()), (7200, "oidc-sts-session"));
        assert_eq!((read.policy, read.policy_ids), (None, vec!["a".to_owned(), "b".to_owned()]));
        variables.insert("HUAWEICLOUD_OIDC_DURATION_SECONDS".to_owned(), "1h".to_owned());
        let message = oidc(&variables, None, false).unwrap_err();
        assert!(message.contains("from 900 to 43200"), "{message}");
    }
}
