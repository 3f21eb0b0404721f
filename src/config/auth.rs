//! The section `auth` of a source. Where it is omitted, `credentials` looks where the vendors' own tools do.

use super::credentials::{self, Found};
use super::keys;
use super::secret::Sort;
use super::validate::Surroundings;
use super::value::Table;
use super::{KeyService, NcrAuth, Secret, SwrAuth};

/// The credential for Huawei Cloud, and what else was found with it if the section is omitted.
pub(super) fn swr(
    source: &Table,
    region: Option<&str>,
    allow_http: bool,
    surroundings: &Surroundings,
) -> Option<(SwrAuth, Found)> {
    let table = source.open("auth");
    if !table.is_present() {
        if source.has("auth") {
            return None; // of the wrong type, which is noted
        }
        return match credentials::huawei(surroundings.environment, region, allow_http) {
            Ok((auth, found)) => Some((auth, found)),
            Err(message) => {
                source.problem("auth", message);
                None
            }
        };
    }
    if table.has("token") {
        table.problem(
            "token",
            "a token ends within a day; write it to a file that is renewed and set token_file",
        );
    }
    table.refuse_unknown(keys::SWR_AUTH);
    let method = if table.has("method") { table.word("method", &METHODS)? } else { Method::AccessKey };
    let used: &[&str] = match method {
        Method::AccessKey => &["access_key", "secret_key", "security_token"],
        Method::Password => &["account", "username", "password"],
        Method::Token => &["token"],
        Method::Metadata | Method::PodIdentity => &[],
    };
    for name in table.names() {
        let base = name.strip_suffix("_file").unwrap_or(name);
        let known = keys::SWR_AUTH.iter().any(|key| key.name == name);
        if known && name != "method" && !used.contains(&base) {
            let used = if used.is_empty() { "no other key".to_owned() } else { used.join(", ") };
            table.problem(name, format!("is not used with this method, which takes {used}; remove it"));
        }
    }
    let auth = match method {
        Method::AccessKey => {
            let access_key = required_secret(&table, "access_key", Sort::Key, surroundings);
            let secret_key = required_secret(&table, "secret_key", Sort::Key, surroundings);
            let security_token = secret(&table, "security_token", Sort::Token, surroundings);
            SwrAuth::AccessKey { access_key: access_key?, secret_key: secret_key?, security_token }
        }
        Method::Password => {
            let account =
                table.required_text("account", "set the name of the account that the user belongs to");
            let username = table.required_text("username", "set the name of an IAM user");
            let password = required_secret(&table, "password", Sort::Password, surroundings);
            SwrAuth::Password {
                account: account?.to_owned(),
                username: username?.to_owned(),
                password: password?,
            }
        }
        Method::Metadata | Method::PodIdentity => {
            let service = key_service(method, region, allow_http, surroundings);
            let service = service.map_err(|message| table.problem("method", message)).ok()?;
            let found = credentials::addresses(surroundings.environment, region);
            return Some((SwrAuth::Temporary(service), found));
        }
        Method::Token => {
            if !table.has("token_file") && !table.has("token") {
                table.problem(
                    "token_file",
                    "is missing; name a file that holds a token and is renewed by somebody",
                );
            }
            SwrAuth::Token(secret(&table, "token", Sort::Token, surroundings)?)
        }
    };
    Some((auth, Found::default()))
}

/// The service that the environment names for a method without keys of its own.
fn key_service(
    method: Method,
    region: Option<&str>,
    allow_http: bool,
    surroundings: &Surroundings,
) -> Result<KeyService, String> {
    if matches!(method, Method::Metadata) {
        return credentials::metadata(surroundings.environment, false).map(KeyService::Metadata);
    }
    credentials::pod_identity(surroundings.environment, region, allow_http)?.ok_or_else(|| {
        "finds no identity in the environment: a pod with an agency associated has HC_CONTAINER_CREDENTIALS_FULL_URI \
         and HC_CONTAINER_AUTHORIZATION_TOKEN_FILE; or set HUAWEICLOUD_SDK_IDP_ID and \
         HUAWEICLOUD_SDK_ID_TOKEN_FILE, or HUAWEICLOUD_OIDC_PROVIDER_URN, HUAWEICLOUD_OIDC_AGENCY_URN and \
         HUAWEICLOUD_OIDC_TOKEN_FILE"
            .to_owned()
    })
}

/// The credential for NAVER Cloud Platform.
pub(super) fn ncr(source: &Table, surroundings: &Surroundings) -> Option<NcrAuth> {
    let table = source.table("auth", keys::NCR_AUTH);
    if table.is_present() {
        let access_key = required_secret(&table, "access_key", Sort::Key, surroundings);
        let secret_key = required_secret(&table, "secret_key", Sort::Key, surroundings);
        return Some(NcrAuth::AccessKey { access_key: access_key?, secret_key: secret_key? });
    }
    if source.has("auth") {
        return None; // of the wrong type, which is noted
    }
    match credentials::naver(surroundings.environment) {
        Ok(auth) => Some(auth),
        Err(message) => {
            source.problem("auth", message);
            None
        }
    }
}

#[derive(Clone, Copy)]
enum Method {
    AccessKey,
    Password,
    Token,
    Metadata,
    PodIdentity,
}

const METHODS: [(&str, Method); 5] = [
    ("ak_sk", Method::AccessKey),
    ("password", Method::Password),
    ("token", Method::Token),
    ("metadata", Method::Metadata),
    ("pod_identity", Method::PodIdentity),
];

/// A secret under `name`, or in the file that `name` with `_file` names.
fn secret(table: &Table, name: &str, sort: Sort, surroundings: &Surroundings) -> Option<Secret> {
    let name_file = format!("{name}_file");
    if table.has(name) && table.has(&name_file) {
        table.problem(&name_file, format!("{name} is set too; remove one of the two"));
        return None;
    }
    if table.has(name) {
        let place = table.variable_of(name).map_or_else(|| table.path_of(name), str::to_owned);
        let secret = Secret::from_value(sort, table.text(name)?, place);
        return secret.map_err(|message| table.problem(name, message)).ok();
    }
    let path = surroundings.directory.join(table.text(&name_file)?);
    let secret = Secret::from_file(sort, &path);
    match secret.read() {
        Ok(_) => Some(secret),
        Err(error) => {
            table.problem(&name_file, error.to_string());
            None
        }
    }
}

fn required_secret(table: &Table, name: &str, sort: Sort, surroundings: &Surroundings) -> Option<Secret> {
    if !table.has(name) && !table.has(&format!("{name}_file")) {
        table.problem(name, format!("is missing; set {name}, or {name}_file to a file that holds it"));
    }
    secret(table, name, sort, surroundings)
}
