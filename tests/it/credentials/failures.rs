//! Each way in which no temporary key can be had, in the words that the log and the page have for it.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use container_registry_exporter::simulator::Sessions;
use expect_test::{Expect, expect};
use regex::Regex;

use super::services::Services;
use super::*;

/// What the only source says when it is polled, without what differs from run to run, since its credential is refused
/// or cannot be had.
async fn message(services: &Services, source: &str) -> String {
    message_of("unauthorized", services, source).await
}

/// The same for another reason.
async fn message_of(reason: &str, services: &Services, source: &str) -> String {
    let mut exporter = services.exporter(source);
    assert!(!exporter.poll().await);
    let failure = exporter.failure(Collector::Repositories).unwrap();
    assert_eq!(failure.reason.as_str(), reason, "{}", failure.message);
    let message = failure.message;
    services.assert_none_in(&exporter.everything_shown());
    let message = message.replace(services.token.to_str().unwrap(), "FILE");
    let message = Regex::new(r"127\.0\.0\.1:\d+").unwrap().replace_all(&message, "HOST");
    let message = Regex::new(r"\d+(\.\d+)?(ms|µs|ns|s)\b").unwrap().replace_all(&message, "TIME");
    let message = Regex::new(r"\d+ s behind").unwrap().replace_all(&message, "N s behind");
    Regex::new(r"\d{4}-\d\d-\d\dT\S+Z").unwrap().replace_all(&message, "DATE").into_owned()
}

async fn assert_message(services: &Services, expected: Expect) {
    expected.assert_eq(&message(services, &services.swr("shared = []")).await);
}

#[tokio::test]
async fn no_agency() {
    let services = Services::of(world()).await.metadata();
    services.simulator.edit(|world| world.services.agency = false);
    assert_message(&services, expect![[r#"metadata_key: GET http://HOST/openstack/latest/securitykey failed after 1 attempt(s) in TIME: no credential: status 401, "Please configure Cloud Service Agency first"; attach an agency that may read SWR to this server: ECS console, Basic Information, Agency"#]]).await;
    assert_eq!(services.simulator.requests(Call::MetadataKey), 1);
}

#[tokio::test]
async fn no_server_role() {
    let services = Services::of(world()).await.metadata();
    services.simulator.edit(|world| world.services.role = None);
    expect![[r#"metadata_role: GET http://HOST/latest/meta-data/iam/security-credentials/ failed after 1 attempt(s) in TIME: no credential: status 404, "Path Not found."; assign a server role that may view Container Registry to this server: Sub Account console, Roles"#]].assert_eq(&message(&services, &services.ncr("")).await);
}

#[tokio::test]
async fn no_metadata_service() {
    let mut services = Services::of(world()).await;
    services.environment.push(("HUAWEICLOUD_SDK_METADATA_ENDPOINT", "http://127.0.0.1:1".to_owned()));
    services.environment.push(("NCLOUD_METADATA_API_ENDPOINT", "http://127.0.0.1:1".to_owned()));
    expect!["metadata_token: PUT http://HOST/meta-data/latest/api/token failed after 2 attempt(s) in TIME: no credential: no connection: error sending request: client error (Connect): tcp connect error: Connection refused (os error 111); no other credential is configured, and a metadata service is only there on servers of Huawei Cloud: set access_key and secret_key (or access_key_file and secret_key_file) in the section auth, or HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK, or ak and sk in the section [basic] of ~/.huaweicloud/credentials"].assert_eq(&message_of("connect", &services, &services.swr("shared = []")).await);
    expect!["metadata_token: PUT http://HOST/latest/api/token failed after 2 attempt(s) in TIME: no credential: no connection: error sending request: client error (Connect): tcp connect error: Connection refused (os error 111); no other credential is configured, and a metadata service is only there on servers of NAVER Cloud Platform (VPC): set access_key and secret_key (or access_key_file and secret_key_file) in the section auth, or NCLOUD_ACCESS_KEY_ID and NCLOUD_SECRET_ACCESS_KEY, or ncloud_access_key_id and ncloud_secret_access_key in ~/.ncloud/configure"].assert_eq(&message_of("connect", &services, &services.ncr("")).await);
    let asked_for = services.swr("auth = { method = \"metadata\" }");
    expect!["metadata_token: PUT http://HOST/meta-data/latest/api/token failed after 2 attempt(s) in TIME: no credential: no connection: error sending request: client error (Connect): tcp connect error: Connection refused (os error 111); the metadata service is only there on servers of Huawei Cloud, and their security groups and network policies must allow it (169.254.169.254, TCP port 80)"].assert_eq(&message_of("connect", &services, &asked_for).await);
}

#[tokio::test]
async fn a_metadata_service_that_answers_nonsense() {
    for (call, fault, expected) in [
        (
            Call::MetadataToken,
            Fault::Redirect("http://127.0.0.1:1/".to_owned()),
            expect![
                "metadata_token: PUT http://HOST/meta-data/latest/api/token failed after 1 attempt(s) in TIME: no credential: status 307, \"it leads to 127.0.0.1/\"; no other credential is configured, and a metadata service is only there on servers of Huawei Cloud: set access_key and secret_key (or access_key_file and secret_key_file) in the section auth, or HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK, or ak and sk in the section [basic] of ~/.huaweicloud/credentials"
            ],
        ),
        (
            Call::MetadataToken,
            Fault::EmptyBody,
            expect![
                "metadata_token: PUT http://HOST/meta-data/latest/api/token failed after 1 attempt(s) in TIME: no credential: the answer is no token; no other credential is configured, and a metadata service is only there on servers of Huawei Cloud: set access_key and secret_key (or access_key_file and secret_key_file) in the section auth, or HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK, or ak and sk in the section [basic] of ~/.huaweicloud/credentials"
            ],
        ),
        (
            Call::MetadataKey,
            Fault::Html,
            expect![
                "metadata_key: GET http://HOST/openstack/latest/securitykey failed after 1 attempt(s) in TIME: no credential: the answer cannot be read: the answer is not what is documented (line 1, column 1); see what the metadata service answers: curl http://169.254.169.254/openstack/latest/securitykey"
            ],
        ),
        (
            Call::MetadataKey,
            Fault::WrongTypes,
            expect![
                "metadata_key: GET http://HOST/openstack/latest/securitykey failed after 1 attempt(s) in TIME: no credential: the answer cannot be read: the answer is not what is documented (line 1, column 25); see what the metadata service answers: curl http://169.254.169.254/openstack/latest/securitykey"
            ],
        ),
        (
            Call::MetadataKey,
            Fault::HugeBody,
            expect![
                "metadata_key: GET http://HOST/openstack/latest/securitykey failed after 1 attempt(s) in TIME: no credential: the answer is larger than 65536 bytes; see what the metadata service answers: curl http://169.254.169.254/openstack/latest/securitykey"
            ],
        ),
        (
            Call::MetadataKey,
            Fault::Unauthorized,
            expect![[
                r#"metadata_key: GET http://HOST/openstack/latest/securitykey failed after 1 attempt(s) in TIME: no credential: status 401, "Unauthorized"; see what the metadata service answers: curl http://169.254.169.254/openstack/latest/securitykey"#
            ]],
        ),
    ] {
        let services = Services::of(world()).await.metadata();
        services.simulator.fault(call, fault);
        assert_message(&services, expected).await;
    }
}

/// One poll with the fault, one without.
async fn bad_answer(call: Call, fault: Fault) {
    let services = Services::of(world()).await;
    let (services, naver) = match call {
        Call::PodIdentity => (services.pod_identity(), false),
        Call::IdToken | Call::SecurityToken => (services.identity_provider(), false),
        Call::AssumeAgency => (services.oidc(), false),
        Call::RoleToken | Call::Role | Call::RoleKey => (services.metadata(), true),
        _ => (services.metadata(), false),
    };
    let more = "shared = []\ntags = { enabled = false }";
    let mut exporter = services.exporter(&if naver {
        services.ncr("tags = { enabled = false }")
    } else {
        services.swr(more)
    });
    services.simulator.fault(call, fault.clone()).times(1);
    assert!(!exporter.poll().await, "{call:?} {fault:?}");
    let message = refusal(&exporter);
    assert!(message.contains("no credential: "), "{call:?} {fault:?}: {message}");
    assert!(exporter.poll().await, "{call:?} {fault:?}: {:?}", exporter.failure(Collector::Repositories));
    services.assert_none_in(&message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_answer_of_every_service_gives_no_key_and_the_next_good_one_does() {
    let faults = [
        Fault::status(400),
        Fault::status(403),
        Fault::Html,
        Fault::NotJson,
        Fault::EmptyBody,
        Fault::HugeBody,
        Fault::GzipBomb,
        Fault::Redirect("http://127.0.0.1:1/".to_owned()),
    ];
    let with_keys =
        [Call::MetadataKey, Call::PodIdentity, Call::SecurityToken, Call::AssumeAgency, Call::RoleKey];
    let others = [Call::MetadataToken, Call::IdToken, Call::RoleToken, Call::Role];
    let mut cases = Vec::new();
    for call in with_keys.into_iter().chain(others) {
        cases.extend(faults.iter().map(|fault| (call, fault.clone())));
    }
    cases.extend(with_keys.map(|call| (call, Fault::WrongTypes)));
    assert_eq!(cases.len(), 77);
    for (call, fault) in cases {
        bad_answer(call, fault).await;
    }
}

#[tokio::test]
async fn a_clock_that_is_ahead() {
    let services = Services::of(world()).await.metadata();
    services.simulator.edit(|world| world.clock_offset = jiff::SignedDuration::from_hours(-25));
    assert_message(&services, expect!["metadata_key: GET http://HOST/openstack/latest/securitykey failed after 1 attempt(s) in TIME: no credential: the answer cannot be read: the key had ended already when it came; set this machine's clock right"]).await;
}

#[tokio::test]
async fn a_clock_that_is_behind() {
    let services = Services::of(world()).await.metadata();
    services.simulator.edit(|world| {
        world.clock_offset = jiff::SignedDuration::from_mins(20);
        world.services.sessions = Sessions::Optional;
    });
    assert_message(&services, expect![[r#"list_repositories: GET http://HOST/v2/manage/repos failed after 1 attempt(s) in TIME: the credential was refused (status 401, code APIGW.0301, "Incorrect IAM authentication information: x-sdk-date expired; this machine's clock is N s behind the API's, set it right"); next attempt at DATE"#]]).await;
}

#[tokio::test]
async fn a_pod_without_an_association() {
    let services = Services::of(world()).await.pod_identity();
    services.simulator.edit(|world| world.services.pod_associated = false);
    assert_message(&services, expect![[r#"pod_identity: POST http://HOST/v1/credentials failed after 1 attempt(s) in TIME: no credential: status 404, code CCE.01404001, "Pod identity association not found."; associate an agency with the pod's service account (CCE console, pod identity), and see that the agent runs on the node"#]]).await;
}

#[tokio::test]
async fn an_agent_that_is_not_there() {
    let mut services = Services::of(world()).await.pod_identity();
    services.environment[0].1 = "http://127.0.0.1:1/v1/credentials".to_owned();
    expect!["pod_identity: POST http://HOST/v1/credentials failed after 4 attempt(s) in TIME: no credential: no connection: error sending request: client error (Connect): tcp connect error: Connection refused (os error 111); associate an agency with the pod's service account (CCE console, pod identity), and see that the agent runs on the node"].assert_eq(&message_of("connect", &services, &services.swr("shared = []")).await);
}

#[tokio::test]
async fn a_web_token_that_is_not_accepted() {
    for (services, expected) in [
        (
            Services::of(world()).await.pod_identity(),
            expect![[
                r#"pod_identity: POST http://HOST/v1/credentials failed after 1 attempt(s) in TIME: the credential was refused (status 401, code CCE.01401001, "Authentication failed."); associate an agency with the pod's service account (CCE console, pod identity), and see that the agent runs on the node; next attempt at DATE"#
            ]],
        ),
        (
            Services::of(world()).await.identity_provider(),
            expect![[
                r#"id_token: POST http://HOST/v3.0/OS-AUTH/id-token/tokens failed after 1 attempt(s) in TIME: the credential was refused (status 401, code 401, "The request you have made requires authentication."); the identity provider in IAM (HUAWEICLOUD_SDK_IDP_ID) must know the token's issuer, audience and signing key, and a conversion rule must fit its subject; next attempt at DATE"#
            ]],
        ),
        (
            Services::of(world()).await.oidc(),
            expect![[
                r#"assume_agency: POST http://HOST/v5/agencies/assume-with-oidc failed after 1 attempt(s) in TIME: the credential was refused (status 401, code STS.0003, "The ID token is invalid or has expired"); the agency's trust policy must name the provider and fit the token's issuer, audience and subject, and its longest session must not be shorter than HUAWEICLOUD_OIDC_DURATION_SECONDS; next attempt at DATE"#
            ]],
        ),
    ] {
        services.simulator.edit(|world| world.services.web_tokens.clear());
        assert_message(&services, expected).await;
        assert_eq!(services.simulator.all_requests(), 1);
    }
}

#[tokio::test]
async fn a_web_token_that_has_ended() {
    for (services, expected) in [
        (
            Services::of(world()).await.pod_identity(),
            expect![[
                r#"pod_identity: POST http://HOST/v1/credentials failed after 1 attempt(s) in TIME: the credential was refused (status 401, code CCE.01401001, "Authentication failed."); the web token in FILE ended at DATE: see that whoever writes it renews it (the kubelet does so for projected tokens), and that this machine's clock is right; next attempt at DATE"#
            ]],
        ),
        (
            Services::of(world()).await.oidc(),
            expect![[
                r#"assume_agency: POST http://HOST/v5/agencies/assume-with-oidc failed after 1 attempt(s) in TIME: the credential was refused (status 401, code STS.0003, "The ID token is invalid or has expired"); the web token in FILE ended at DATE: see that whoever writes it renews it (the kubelet does so for projected tokens), and that this machine's clock is right; next attempt at DATE"#
            ]],
        ),
    ] {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(r#"{"exp":1700000000}"#);
        fs::write(&services.token, format!("e30.{payload}.c2ln")).unwrap();
        assert_message(&services, expected).await;
    }
}

#[tokio::test]
async fn an_agency_that_does_not_trust_the_provider() {
    let services = Services::of(world()).await.oidc();
    services.simulator.edit(|world| world.services.provider_urn = "another".to_owned());
    assert_message(&services, expect![[r#"assume_agency: POST http://HOST/v5/agencies/assume-with-oidc failed after 1 attempt(s) in TIME: no credential: status 403, code STS.0004, "The agency does not trust the provider"; the agency's trust policy must name the provider and fit the token's issuer, audience and subject, and its longest session must not be shorter than HUAWEICLOUD_OIDC_DURATION_SECONDS"#]]).await;
}

#[tokio::test]
async fn a_token_file_that_is_gone() {
    let services = Services::of(world()).await.pod_identity();
    let mut exporter = services.exporter(&services.swr(""));
    fs::remove_file(&services.token).unwrap();
    assert!(!exporter.poll().await);
    let message = refusal(&exporter).replace(services.token.to_str().unwrap(), "FILE");
    assert!(
        message.ends_with("no credential: FILE: no such file; create it or correct the path"),
        "{message}"
    );
    assert_eq!(services.simulator.all_requests(), 0);
}

#[tokio::test]
async fn a_project_of_another_region() {
    let services = Services::of(world()).await.metadata();
    let mut exporter = services.exporter(&services.swr("project_id = \"another\""));
    assert!(!exporter.poll().await);
    let failure = exporter.failure(Collector::Repositories).unwrap();
    assert_eq!(failure.reason.as_str(), "forbidden");
    let cure = "\"The project is unavailable.\"; project_id is no project of this region";
    assert!(failure.message.contains(cure), "{}", failure.message);
}
