//! Keys that services hand out: how they are asked for, used, renewed and replaced.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;

use container_registry_exporter::app::check;
use container_registry_exporter::config::Config;
use container_registry_exporter::simulator::{AccessKey, ErrorBody, Sessions, WebToken};
use futures_util::future::join_all;
use tempfile::TempDir;

use super::*;

const WEB_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.made-up-web-token.c2lnbmF0dXJl";

/// A simulator that accepts the web token in a file, and an environment of variables.
pub struct Services {
    pub simulator: Simulator,
    pub token: PathBuf,
    pub environment: Vec<(&'static str, String)>,
    _directory: TempDir,
}

impl Services {
    /// The services of `world`, none of which the environment names yet.
    pub async fn of(mut world: World) -> Self {
        let (directory, token) = secret_file(WEB_TOKEN);
        let value = WEB_TOKEN.to_owned();
        world.services.web_tokens.push(WebToken { value, expires_at: jiff::Timestamp::MAX });
        let simulator = simulator(world).await;
        Self { simulator, token, environment: Vec::new(), _directory: directory }
    }

    fn set(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    pub fn metadata(self) -> Self {
        let url = self.simulator.metadata_url();
        self.set("HUAWEICLOUD_SDK_METADATA_ENDPOINT", &url).set("NCLOUD_METADATA_ENDPOINT", &url)
    }

    pub fn pod_identity(self) -> Self {
        let (url, token) = (self.simulator.agent_url(), self.token.display().to_string());
        self.set("HC_CONTAINER_CREDENTIALS_FULL_URI", &url)
            .set("HC_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token)
    }

    pub fn identity_provider(self) -> Self {
        let token = self.token.display().to_string();
        self.set("HUAWEICLOUD_SDK_IDP_ID", "made-up-idp").set("HUAWEICLOUD_SDK_ID_TOKEN_FILE", &token)
    }

    pub fn oidc(self) -> Self {
        let (url, token) = (self.simulator.iam_url(), self.token.display().to_string());
        self.set("HUAWEICLOUD_OIDC_PROVIDER_URN", "iam::made-up:oidc-provider:cce")
            .set("HUAWEICLOUD_OIDC_AGENCY_URN", "iam::made-up:agency:swr-reader")
            .set("HUAWEICLOUD_OIDC_TOKEN_FILE", &token)
            .set("HUAWEICLOUD_SDK_STS_ENDPOINT", &url)
    }

    /// A source of SWR without a section `auth`; `more` is further keys.
    pub fn swr(&self, more: &str) -> String {
        let (swr, iam) = (self.simulator.swr_url(), self.simulator.iam_url());
        format!(
            "[sources.swr]\nprovider = \"swr\"\nregion = \"{}\"\nendpoint = \"{swr}\"\niam_endpoint = \"{iam}\"\n\
             {more}\n",
            keys::REGION
        )
    }

    /// The same of NCR.
    pub fn ncr(&self, more: &str) -> String {
        let ncr = self.simulator.ncr_url();
        format!("[sources.ncr]\nprovider = \"ncr\"\nregion = \"KR\"\nendpoint = \"{ncr}\"\n{more}\n")
    }

    pub fn exporter(&self, sources: &str) -> Exporter {
        let environment: Vec<_> =
            self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Exporter::in_environment(sources, &environment)
    }

    /// The keys handed out so far.
    pub fn keys(&self) -> Vec<AccessKey> {
        self.simulator.edit(|world| world.services.handed_out.iter().map(|(key, _)| key.clone()).collect())
    }

    /// Nothing that came from a service or went to one is in `text`.
    pub fn assert_none_in(&self, text: &str) {
        assert_no_secret(text, &[WEB_TOKEN]);
        for key in self.keys() {
            let token = key.security_token.unwrap_or_else(|| key.secret_key.clone());
            assert_no_secret(text, &[&key.secret_key, &token, &token[token.len() - 30..]]);
        }
        for exchange in self.simulator.log() {
            for header in ["x-metadata-token", "x-ncp-metadata-token"] {
                if let Some(token) = exchange.header(header) {
                    assert_no_secret(text, &[token]);
                }
            }
        }
    }
}

/// The calls in which a service hands out a key.
const HANDING_OUT: [Call; 5] =
    [Call::MetadataKey, Call::PodIdentity, Call::SecurityToken, Call::AssumeAgency, Call::RoleKey];

fn handed_out(simulator: &Simulator) -> u64 {
    HANDING_OUT.map(|call| simulator.requests(call)).iter().sum()
}

#[tokio::test]
async fn every_service_of_huawei_gives_one_key_that_signs_every_call() {
    for (services, call) in [
        (Services::of(world()).await.metadata(), Call::MetadataKey),
        (Services::of(world()).await.metadata().pod_identity(), Call::PodIdentity),
        (Services::of(world()).await.metadata().pod_identity().oidc(), Call::AssumeAgency),
        (Services::of(world()).await.metadata().oidc().identity_provider(), Call::SecurityToken),
    ] {
        let mut exporter = services.exporter(&services.swr(""));
        assert!(exporter.poll().await, "{call:?}");
        assert!(exporter.poll().await, "{call:?}");
        assert_eq!((services.simulator.requests(call), handed_out(&services.simulator)), (1, 1), "{call:?}");
        let keys = services.keys();
        for call in [Call::ListRepositories, Call::ListShared, Call::ListTags] {
            for exchange in exchanges(&services.simulator, call) {
                assert_eq!(exchange.header("x-security-token"), keys[0].security_token.as_deref());
                assert!(exchange.header("authorization").unwrap().contains(&keys[0].access_key));
            }
        }
        let end = services.simulator.edit(|world| world.services.handed_out[0].1);
        let shown = exporter.number("exporter_credentials_expiry_timestamp_seconds{source=\"swr\"}");
        #[expect(
            clippy::cast_precision_loss,
            reason = "a double holds today's time to less than a microsecond"
        )]
        let expected = end.as_millisecond() as f64 / 1000.0;
        assert!((shown - expected).abs() <= 1.0, "{call:?}: {shown} {expected}");
        services.assert_none_in(&exporter.everything_shown());
    }
}

#[tokio::test]
async fn a_server_role_of_naver_gives_one_key_to_calls_side_by_side() {
    let mut world = world();
    let names: Vec<String> = (0..32).map(|number| format!("registry-{number}")).collect();
    for name in &names {
        world.ncr.add(Registry::new(name));
    }
    let services = Services::of(world).await.metadata();
    let config =
        services.ncr(&format!("registries = {names:?}\npoll = {{ max_concurrent_requests = 32 }}\n"));
    let mut exporter = services.exporter(&config);
    assert!(exporter.poll().await);
    assert!(exporter.poll().await);
    assert_eq!(services.simulator.requests(Call::RoleToken), 1);
    assert_eq!(services.simulator.requests(Call::Role), 1);
    assert_eq!(services.simulator.requests(Call::RoleKey), 1);
    assert!(exporter.number("exporter_credentials_expiry_timestamp_seconds{source=\"ncr\"}") > 0.0);
    let key = services.keys().remove(0);
    for exchange in exchanges(&services.simulator, Call::ListImages) {
        assert_eq!(exchange.header("x-ncp-iam-access-key"), Some(key.access_key.as_str()));
    }
    services.assert_none_in(&exporter.everything_shown());
}

#[tokio::test]
async fn services_are_asked_as_their_documents_say() {
    let services = Services::of(world()).await.metadata();
    let mut exporter =
        services.exporter(&(services.swr("auth = { method = \"metadata\" }") + &services.ncr("")));
    assert!(exporter.poll().await);
    for (call, lifetime, session, uses) in [
        (Call::MetadataToken, "x-metadata-token-ttl-seconds", "x-metadata-token", Call::MetadataKey),
        (Call::RoleToken, "x-ncp-metadata-token-ttl-seconds", "x-ncp-metadata-token", Call::RoleKey),
    ] {
        assert_eq!(exchanges(&services.simulator, call)[0].header(lifetime), Some("21600"));
        assert!(exchanges(&services.simulator, uses)[0].header(session).unwrap().starts_with("session-"));
    }

    let services = Services::of(world()).await.pod_identity();
    assert!(services.exporter(&services.swr("auth = { method = \"pod_identity\" }")).poll().await);
    let asked = exchanges(&services.simulator, Call::PodIdentity).remove(0);
    assert_eq!(asked.header("authorization"), Some(WEB_TOKEN));

    let services = Services::of(world()).await.identity_provider();
    assert!(services.exporter(&services.swr("auth = { method = \"pod_identity\" }")).poll().await);
    let asked = exchanges(&services.simulator, Call::IdToken).remove(0);
    assert_eq!(asked.header("x-idp-id"), Some("made-up-idp"));
    assert_eq!(asked.header("authorization"), None);
}

#[tokio::test]
async fn a_metadata_service_without_sessions_is_asked_without() {
    for status in [404, 405, 503] {
        let mut world = world();
        world.services.sessions = Sessions::Unknown(status);
        let services = Services::of(world).await.metadata();
        let mut exporter = services.exporter(&(services.swr("") + &services.ncr("")));
        assert!(exporter.poll().await, "{status}");
        for call in [Call::MetadataKey, Call::Role, Call::RoleKey] {
            let asked = exchanges(&services.simulator, call);
            assert_eq!(asked.len(), 1, "{status}");
            assert!(asked[0].headers.iter().all(|(name, _)| !name.ends_with("metadata-token")), "{status}");
        }
    }
}

#[tokio::test]
async fn a_key_is_renewed_before_it_ends() {
    let mut world = world();
    world.services.key_lifetime = Duration::from_secs(1);
    let services = Services::of(world).await.pod_identity();
    let mut exporter = services.exporter(&services.swr("shared = []\ntags = { enabled = false }"));
    assert!(exporter.poll().await);
    // For the cloud, later keys live long, so that a refusal would show one that was used too long.
    services.simulator.edit(|world| world.services.key_lifetime = Duration::from_hours(1));
    let start = std::time::Instant::now();
    while services.keys().len() < 2 {
        assert!(exporter.poll().await);
        assert!(start.elapsed() < Duration::from_secs(60), "the key is not renewed");
    }
    assert!(start.elapsed() > Duration::from_millis(500), "{:?}", start.elapsed());
    let last = exchanges(&services.simulator, Call::ListRepositories).pop().unwrap();
    assert_eq!(last.header("x-security-token"), services.keys()[1].security_token.as_deref());
}

#[tokio::test]
async fn no_attempt_carries_a_key_that_has_ended() {
    let later = Fault::Status { code: 429, retry_after: Some("3".to_owned()), body: ErrorBody::empty() };
    let plain = "tags = { enabled = false }";
    let runs = [Call::MetadataKey, Call::PodIdentity, Call::AssumeAgency, Call::RoleKey];
    let runs = runs.map(async |call| {
        let mut world = world();
        world.services.key_lifetime = Duration::from_secs(2);
        let services = Services::of(world).await;
        let services = match call {
            Call::PodIdentity => services.pod_identity(),
            Call::AssumeAgency => services.oidc(),
            _ => services.metadata(),
        };
        let (source, listed, key) = match call {
            Call::RoleKey => (services.ncr(plain), Call::ListRegistries, "x-ncp-iam-access-key"),
            _ => (services.swr(&format!("shared = []\n{plain}")), Call::ListRepositories, "x-security-token"),
        };
        services.simulator.fault(listed, later.clone()).times(1);
        let mut exporter = services.exporter(&source);
        assert!(exporter.poll_within(Duration::from_secs(20)).await, "{call:?}");
        let sent = exchanges(&services.simulator, listed);
        let statuses: Vec<_> = sent.iter().filter_map(|exchange| exchange.status).collect();
        assert_eq!(statuses, [429, 200], "{call:?}");
        assert!(sent[0].header(key).is_some() && sent[0].header(key) != sent[1].header(key), "{call:?}");
    });
    join_all(runs).await;
}

#[tokio::test]
async fn a_refused_key_is_replaced_once() {
    for services in [
        Services::of(world()).await.pod_identity(),
        Services::of(world()).await.identity_provider(),
        Services::of(world()).await.oidc(),
    ] {
        let mut exporter = services.exporter(&services.swr(""));
        services.simulator.fault(Call::ListRepositories, Fault::Unauthorized).times(1);
        assert!(exporter.poll().await);
        assert_eq!(services.keys().len(), 2);
        assert_eq!(answers(&services.simulator, Call::ListRepositories, 401), 1);
        assert!(exporter.poll().await);
        assert_eq!(services.keys().len(), 2);
    }
}

#[tokio::test]
async fn a_service_that_hands_out_one_bad_key_after_another_is_not_followed() {
    let mut world = world();
    world.services.bad_keys = true;
    let services = Services::of(world).await.pod_identity();
    let mut exporter = services.exporter(&services.swr(""));
    assert!(!exporter.poll().await);
    assert_eq!((services.keys().len(), answers(&services.simulator, Call::ListRepositories, 401)), (2, 2));
    assert_waits(&mut exporter, &services.simulator).await;
    assert_waits(&mut exporter, &services.simulator).await;
}

#[tokio::test]
async fn renewals_of_bad_keys_do_not_end_the_wait() {
    let mut world = world();
    world.services.bad_keys = true;
    world.services.key_lifetime = Duration::from_secs(1);
    let services = Services::of(world).await.pod_identity();
    let mut exporter = services.exporter(&services.swr("shared = []"));
    let start = std::time::Instant::now();
    while services.keys().len() < 4 {
        assert!(!exporter.poll().await);
        assert!(start.elapsed() < Duration::from_secs(60), "the keys are not renewed");
    }
    assert_eq!(services.simulator.requests(Call::ListRepositories), 2);
}

#[tokio::test]
async fn a_refused_key_that_the_service_hands_out_again_is_not_tried_again() {
    let mut world = world();
    world.services.bad_keys = true;
    let services = Services::of(world).await.metadata();
    let mut exporter = services.exporter(&services.swr(""));
    assert!(!exporter.poll().await);
    assert_eq!((services.keys().len(), services.simulator.requests(Call::MetadataKey)), (1, 2));
    assert_eq!(services.simulator.requests(Call::ListRepositories), 1);
    assert_waits(&mut exporter, &services.simulator).await;
}

#[tokio::test]
async fn a_key_that_is_renewed_ends_the_wait_for_the_refused_one() {
    let mut world = world();
    world.services.bad_keys = true;
    world.services.key_lifetime = Duration::from_secs(2);
    world.services.same_key_until = Duration::ZERO;
    let services = Services::of(world).await.metadata();
    let mut exporter = services.exporter(&services.swr("shared = []\ntags = { enabled = false }"));
    assert!(!exporter.poll().await);
    assert_waits(&mut exporter, &services.simulator).await;
    services.simulator.edit(|world| {
        world.services.bad_keys = false;
        world.services.key_lifetime = Duration::from_hours(1);
        world.services.same_key_until = Duration::from_secs(60);
    });
    let start = std::time::Instant::now();
    while !exporter.poll().await {
        assert!(start.elapsed() < Duration::from_secs(60), "the wait does not end");
    }
    assert_eq!(services.simulator.requests(Call::ListRepositories), 2, "none in vain");
}

#[tokio::test]
async fn a_renewed_web_token_takes_effect_at_once() {
    let services = Services::of(world()).await.pod_identity();
    let mut exporter = services.exporter(&services.swr(""));
    assert!(exporter.poll().await);
    services.simulator.edit(|world| world.services.web_tokens[0].value = "the next token".to_owned());
    services.simulator.fault(Call::ListRepositories, Fault::Unauthorized).times(1);
    assert!(!exporter.poll().await, "the old token gives no key");
    fs::write(&services.token, "the next token").unwrap();
    services.simulator.clear_log();
    assert!(exporter.poll().await);
    let asked = exchanges(&services.simulator, Call::PodIdentity).remove(0);
    assert_eq!(asked.header("authorization"), Some("the next token"));
}

#[tokio::test]
async fn an_address_without_a_metadata_service_is_tried_once_and_waited_for_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let connections = || std::iter::from_fn(|| listener.accept().ok()).count();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let mut services = Services::of(world()).await;
    services.environment.push(("HUAWEICLOUD_SDK_METADATA_ENDPOINT", address.clone()));
    let mut exporter = services.exporter(&services.swr("poll = { request_timeout = \"50ms\" }"));
    assert!(!exporter.poll().await);
    assert_eq!(connections(), 1);
    assert!(!exporter.poll().await);
    assert_eq!(connections(), 0);
    assert_eq!(services.simulator.all_requests(), 0);
    let failure = exporter.failure(Collector::Repositories).unwrap();
    assert_eq!(failure.reason.as_str(), "timeout", "{}", failure.message);
    let message = failure.message;
    assert!(message.contains("no other credential is configured"), "{message}");
    assert!(message.contains("; next attempt at "), "{message}");
}

#[tokio::test]
async fn the_live_check_says_which_step_gave_the_credential() {
    for (services, expected) in [
        (
            Services::of(world()).await.metadata(),
            "temporary access key of the server's agency, from the metadata service at HOST, since nothing else is \
             configured",
        ),
        (
            Services::of(world()).await.metadata().pod_identity(),
            "temporary access key of the pod's identity, with the token from FILE",
        ),
        (
            Services::of(world()).await.identity_provider(),
            "temporary access key for identity provider made-up-idp, with the web token from FILE",
        ),
        (
            Services::of(world()).await.oidc(),
            "temporary access key of agency iam::made-up:agency:swr-reader, with the web token from FILE",
        ),
    ] {
        let environment: BTreeMap<_, _> =
            services.environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let config = Config::parse(&services.swr(""), Path::new("."), &environment).unwrap();
        let (report, good) = check::live(&config).await.unwrap();
        assert!(good, "{report}");
        let shown = report
            .replace(&services.simulator.metadata_url(), "HOST")
            .replace(services.token.to_str().unwrap(), "FILE");
        assert!(shown.ends_with(&format!("\n  credential: {expected}\n")), "{shown}");
        services.assert_none_in(&report);
    }
}
