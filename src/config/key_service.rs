//! Services that hand out keys for some hours, so that none has to stand in a file.

use url::Url;

use super::Secret;
use super::address;

/// A metadata service: what a cloud tells its own servers about themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// Base address, without a slash at the end of a path.
    pub endpoint: Url,
    /// Nothing says that there is one, but no other credential was found.
    pub last_resort: bool,
}

/// Huawei Cloud's services that hand out keys.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyService {
    /// The agency of the server (ECS, BMS) that the exporter runs on.
    Metadata(Metadata),
    /// The agency that is associated with the pod's service account, through an agent in the CCE cluster.
    PodIdentity {
        /// The agent's address, path included: HTTPS, or on this machine.
        uri: Url,
        /// The service account's token.
        token: Secret,
    },
    /// A federated user of an identity provider (OIDC), through IAM.
    IdentityProvider {
        /// The identity provider's name.
        id: String,
        /// The web token.
        token: Secret,
    },
    /// An agency that trusts an OIDC provider, through STS.
    Oidc(Box<Oidc>),
}

/// What STS needs to know to give an agency's key for a web token.
/// <https://support.huaweicloud.com/api-iam5/AssumeAgencyWithOIDC.html>
#[derive(Clone, Debug, PartialEq)]
pub struct Oidc {
    /// Base address of STS.
    pub endpoint: Url,
    /// The OIDC provider.
    pub provider_urn: String,
    /// The agency that trusts it.
    pub agency_urn: String,
    /// What the session is called in the audit log.
    pub session_name: String,
    /// How long a key is to live, in seconds.
    pub duration_seconds: u32,
    /// Restricts what the key may do.
    pub policy: Option<String>,
    /// The same, by the names of policies.
    pub policy_ids: Vec<String>,
    /// The web token.
    pub token: Secret,
}

impl KeyService {
    /// What it gives and how, for people.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Metadata(metadata) => metadata.describe("agency"),
            Self::PodIdentity { token, .. } => {
                format!("temporary access key of the pod's identity, with the token from {}", token.place())
            }
            Self::IdentityProvider { id, token } => format!(
                "temporary access key for identity provider {id}, with the web token from {}",
                token.place()
            ),
            Self::Oidc(oidc) => format!(
                "temporary access key of agency {}, with the web token from {}",
                oidc.agency_urn,
                oidc.token.place()
            ),
        }
    }
}

impl Metadata {
    /// What it gives and how; `holder` is what the cloud calls a server's identity.
    pub(super) fn describe(&self, holder: &str) -> String {
        let endpoint = address::shown(&self.endpoint);
        let reason = if self.last_resort { ", since nothing else is configured" } else { "" };
        format!(
            "temporary access key of the server's {holder}, from the metadata service at {endpoint}{reason}"
        )
    }
}

/// Reads the address to which a service account's token is sent: HTTPS, or a host that is on this machine.
pub(super) fn container_address(text: &str) -> Result<Url, &'static str> {
    let url = address::parse_http(text)?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("must contain neither a user nor #");
    }
    if url.scheme() == "http" && !address::is_local(&url) {
        return Err(
            "must begin with https://, or have a loopback or link-local host: the token sent to it is a credential",
        );
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_to_this_machine_or_over_https() {
        for address in [
            "http://127.0.0.1:8080/v1/credentials?a=b",
            "http://localhost/v1",
            "http://[::1]/v1",
            "http://169.254.170.23/v1/credentials",
            "http://[fe80::1]/v1",
            "http://[::ffff:169.254.1.1]/v1",
            "https://agent.example/v1",
        ] {
            assert!(container_address(address).is_ok(), "{address}");
        }
        for address in [
            "http://10.0.0.1/v1",
            "http://169.254.169.254.example.com/v1",
            "http://[2001:db8::1]/v1",
            "http://agent.example/v1",
            "https://user:password@agent.example/v1",
            "ftp://127.0.0.1/v1",
            "/v1/credentials",
        ] {
            assert!(container_address(address).is_err(), "{address}");
        }
    }
}
