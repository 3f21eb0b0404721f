//! Keys of the role of a NAVER Cloud server.

use std::io;
use std::time::SystemTime;

use reqwest::header::HeaderName;

use crate::client::{ApiError, Cause, Guards, Poll};
use crate::config::{Metadata, SourceConfig};
use crate::inventory::Timestamp;
use crate::provider::encode::segment;
use crate::provider::fresh::Leased;
use crate::provider::temporary::answer::{self, NoKey};
use crate::provider::temporary::metadata::{Dialect, MetadataService};
use crate::provider::temporary::{AccessKey, TemporaryKeys};
use crate::telemetry::self_metrics::SourceMetrics;

/// <https://api.ncloud-docs.com/docs/en/compute-vmetadata-metadatav2>
const METADATA: Dialect = Dialect {
    session_path: "/latest/api/token",
    lifetime_header: HeaderName::from_static("x-ncp-metadata-token-ttl-seconds"),
    session_header: HeaderName::from_static("x-ncp-metadata-token"),
    cloud: "NAVER Cloud Platform (VPC)",
    alternatives: "set access_key and secret_key (or access_key_file and secret_key_file) in the section auth, or \
                   NCLOUD_ACCESS_KEY_ID and NCLOUD_SECRET_ACCESS_KEY, or ncloud_access_key_id and \
                   ncloud_secret_access_key in ~/.ncloud/configure",
};
/// With the slash at its end, as all SDKs ask for it.
const ROLES_PATH: &str = "/latest/meta-data/iam/security-credentials/";
const NO_ROLE: &str =
    "assign a server role that may view Container Registry to this server: Sub Account console, Roles";
const LOOK: &str = "see what the metadata service answers: curl http://169.254.169.254/latest/meta-data/iam/security-credentials";

/// The metadata service of the server that the exporter runs on.
pub struct Keys {
    service: MetadataService,
    /// The keys it handed out.
    pub handed_out: TemporaryKeys,
}

impl Keys {
    /// The service as configured for `source`.
    ///
    /// Errors: no client can be made.
    pub fn new(
        metadata: &Metadata,
        source: &SourceConfig,
        guards: &Guards,
        metrics: &SourceMetrics,
    ) -> io::Result<Self> {
        let service = MetadataService::new(metadata, METADATA, &source.poll, metrics)?;
        let origin = format!("server role {}", metadata.endpoint);
        Ok(Self { service, handed_out: TemporaryKeys::new(origin, guards.clone(), metrics.clone()) })
    }

    /// Gets a key of the server's role. <https://api.ncloud-docs.com/docs/en/compute-vmetadata-roledata>
    pub async fn fetch(&self, poll: &Poll) -> Result<Leased<AccessKey>, ApiError> {
        let service = &self.service;
        let session = service.begin(poll).await?;
        let cure = |status, _: &str| match status {
            404 => NO_ROLE,
            _ => LOOK,
        };
        let answer = service.get(poll, &session, "metadata_role", ROLES_PATH, cure).await?;
        let roles = String::from_utf8(answer.body).unwrap_or_default();
        let role = roles.lines().next().map(str::trim).unwrap_or_default();
        let role = segment(role).map_err(|_| {
            let cause = Cause::Protocol("the answer names no role".to_owned());
            service.useless("metadata_role", ROLES_PATH, cause, NO_ROLE)
        })?;
        let path = format!("{ROLES_PATH}{role}");
        let answer = service.get(poll, &session, "metadata_key", &path, cure).await?;
        answer::key(answer.body, Timestamp::from(SystemTime::now())).map_err(|error| {
            let cure = match error {
                NoKey::Expired => "set this machine's clock right",
                NoKey::Malformed { .. } => LOOK,
                NoKey::Lacks(_) | NoKey::Failed(_) => NO_ROLE,
            };
            service.useless("metadata_key", &path, Cause::Decode(error.into()), cure)
        })
    }
}
