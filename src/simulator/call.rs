//! The calls that the simulators answer.

/// One kind of call; faults, latency and counts are kept per kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// SWR `GET /v2/manage/repos`.
    ListRepositories,
    /// SWR `GET /v2/manage/shared-repositories`.
    ListShared,
    /// SWR `GET /v2/manage/namespaces/{namespace}/repos/{repository}/tags`.
    ListTags,
    /// SWR `GET /v2/manage/namespaces/{namespace}/repos/{repository}`.
    ShowRepository,
    /// IAM `POST /v3/auth/tokens`.
    CreateToken,
    /// IAM `POST /v3.0/OS-AUTH/id-token/tokens`.
    IdToken,
    /// IAM `POST /v3.0/OS-CREDENTIAL/securitytokens`.
    SecurityToken,
    /// STS `POST /v5/agencies/assume-with-oidc`.
    AssumeAgency,
    /// Huawei's metadata service `PUT /meta-data/latest/api/token`.
    MetadataToken,
    /// Huawei's metadata service `GET /openstack/latest/securitykey`.
    MetadataKey,
    /// The agent of pod identity `POST /v1/credentials`.
    PodIdentity,
    /// NAVER's metadata service `PUT /latest/api/token`.
    RoleToken,
    /// NAVER's metadata service `GET /latest/meta-data/iam/security-credentials/`.
    Role,
    /// NAVER's metadata service `GET /latest/meta-data/iam/security-credentials/{role}`.
    RoleKey,
    /// NCR `GET /repositories`.
    ListRegistries,
    /// NCR `GET /repositories/{registry}`.
    ListImages,
    /// NCR `GET /repositories/{registry}/{imageName}/tags`.
    ListImageTags,
}

/// A request that reached one of the calls.
pub(super) struct Route {
    pub call: Call,
    /// What it is about: `organization/repository`, `registry`, `registry/image` or a role; empty for listings of everything.
    pub key: String,
}

/// The parts of a request that the services look at.
pub(super) struct Incoming<'a> {
    pub method: &'a str,
    /// Path and query exactly as sent.
    pub target: &'a str,
    pub headers: &'a hyper::HeaderMap,
    pub body: &'a [u8],
}

impl Incoming<'_> {
    /// The decoded value of a query parameter; of several with one name the first.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
    }
}
