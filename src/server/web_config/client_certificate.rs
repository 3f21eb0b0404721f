//! Which client certificates are accepted: Go's five policies and the list of allowed names.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectAltName};

use super::Protection;

/// What a certificate may be used for: to authenticate a client, or for anything (RFC 5280, section 4.2.1.12).
const CLIENT_USAGES: [ObjectIdentifier; 2] =
    [ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2"), ObjectIdentifier::new_unwrap("2.5.29.37.0")];

/// What a client must show, see <https://pkg.go.dev/crypto/tls#ClientAuthType>.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    /// A client without a certificate is sent away.
    pub mandatory: bool,
    /// A certificate must have been issued by one of the authorities.
    pub verified: bool,
}

/// The policies by their names in the file; `None` asks for no certificate. Go's `RequireAnyClientCert` was called
/// otherwise in old versions of the official exporters.
pub(super) const POLICIES: [(&str, Option<Policy>); 6] = [
    ("NoClientCert", None),
    ("RequestClientCert", Some(Policy { mandatory: false, verified: false })),
    ("RequireAnyClientCert", Some(Policy { mandatory: true, verified: false })),
    ("VerifyClientCertIfGiven", Some(Policy { mandatory: false, verified: true })),
    ("RequireAndVerifyClientCert", Some(Policy { mandatory: true, verified: true })),
    ("RequireClientCert", Some(Policy { mandatory: true, verified: false })),
];

/// Decides on the certificate of a client.
pub(super) struct ClientCertificates {
    /// Checks the chain, unless any certificate will do.
    chain: Option<Arc<dyn ClientCertVerifier>>,
    mandatory: bool,
    authorities: Vec<CertificateDer<'static>>,
    subjects: Vec<DistinguishedName>,
    allowed_names: Option<Vec<String>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertificates {
    /// A certificate must bear one of `allowed_names`, if there is such a list; nobody comes in without one then.
    ///
    /// Errors: none of the `authorities` is readable.
    pub(super) fn new(
        policy: Policy,
        authorities: Vec<CertificateDer<'static>>,
        allowed_names: Option<Vec<String>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.iter().cloned());
        let subjects = roots.subjects();
        let chain = if policy.verified {
            let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(provider));
            Some(builder.build().map_err(|e| e.to_string())?)
        } else {
            None
        };
        let mandatory = policy.mandatory || allowed_names.is_some();
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { chain, mandatory, authorities, subjects, allowed_names, algorithms })
    }

    /// Whether a client may come in that showed these certificates in a handshake, none maybe.
    pub(super) fn admit(&self, shown: &[CertificateDer<'_>]) -> bool {
        match shown.split_first() {
            Some((own, intermediates)) => {
                self.verify_client_cert(own, intermediates, UnixTime::now()).is_ok()
            }
            None => !self.mandatory,
        }
    }

    /// Notes what a re-read must not take away; `named` is whether the authorities are in the file, and not those that
    /// the system trusts. Other authorities and other names are a matter of the file, as other users are.
    pub(super) fn note_protections(&self, named: bool, protections: &mut Vec<Protection>) {
        let mut note = |key: &str, without| {
            protections.push(Protection { key: format!("{}.{key}", super::tls::SECTION), without });
        };
        if self.mandatory {
            note("client_auth_type", "would no longer demand a certificate");
        }
        if self.chain.is_some() {
            note("client_auth_type", "would no longer have certificates verified");
            if named {
                note("client_ca_file", "is missing, so that all authorities that the system trusts would do");
            }
        }
        if self.allowed_names.is_some() {
            note("client_allowed_sans", "is missing, so that a certificate of any name would do");
        }
    }
}

impl fmt::Debug for ClientCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificates").field("mandatory", &self.mandatory).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for ClientCertificates {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(chain) = &self.chain
            && let Err(error) = chain.verify_client_cert(end_entity, intermediates, now)
        {
            // A self-signed certificate that is listed itself, as `openssl req -x509` makes it: Go takes it, while
            // the library takes no authority's certificate for a client's.
            if !self.authorities.contains(end_entity) || !may_authenticate(&parse(end_entity)?, now) {
                return Err(error);
            }
        }
        if let Some(allowed) = &self.allowed_names
            && !names(&parse(end_entity)?)?.iter().any(|name| allowed.contains(name))
        {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn parse(certificate: &CertificateDer<'_>) -> Result<Certificate, Error> {
    Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding.into())
}

/// Whether a certificate is valid now, and for a client.
fn may_authenticate(certificate: &Certificate, now: UnixTime) -> bool {
    let certificate = certificate.tbs_certificate();
    let (validity, now) = (certificate.validity(), now.as_secs());
    let valid = (validity.not_before.to_unix_duration().as_secs()
        ..=validity.not_after.to_unix_duration().as_secs())
        .contains(&now);
    let usage = match certificate.get_extension::<ExtendedKeyUsage>() {
        Ok(None) => true,
        Ok(Some((_, usages))) => usages.0.iter().any(|usage| CLIENT_USAGES.contains(usage)),
        Err(_) => false,
    };
    valid && usage
}

/// The subject's alternative names: host names, e-mail addresses, IP addresses and URIs as text.
fn names(certificate: &Certificate) -> Result<Vec<String>, Error> {
    let extension = certificate.tbs_certificate().get_extension::<SubjectAltName>();
    let names = match extension.map_err(|_| CertificateError::BadEncoding)? {
        Some((_, SubjectAltName(names))) => names,
        None => Vec::new(),
    };
    let text = |name: &GeneralName| match name {
        GeneralName::DnsName(text)
        | GeneralName::Rfc822Name(text)
        | GeneralName::UniformResourceIdentifier(text) => Some(text.as_str().to_owned()),
        GeneralName::IpAddress(octets) => {
            let octets = octets.as_bytes();
            let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
            let ip = v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()?;
            Some(ip.to_canonical().to_string())
        }
        _ => None,
    };
    Ok(names.iter().filter_map(text).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    fn certificate(pem: &[u8]) -> Certificate {
        parse(&CertificateDer::from_pem_slice(pem).unwrap()).unwrap()
    }

    #[test]
    fn a_certificate_authenticates_while_it_is_valid_and_for_clients_only() {
        let client = certificate(include_bytes!("../../../tests/tls/web/client.pem"));
        let start = client.tbs_certificate().validity().not_before.to_unix_duration();
        let at = |time| may_authenticate(&client, UnixTime::since_unix_epoch(time));
        assert!(at(start) && at(start + Duration::from_hours(1)));
        assert!(!at(start.saturating_sub(Duration::from_secs(1))));
        assert!(!at(start + Duration::from_hours(200 * 365 * 24)));
    }

    #[test]
    fn all_names_that_are_text_are_found() {
        let client = certificate(include_bytes!("../../../tests/tls/web/client.pem"));
        let expected =
            ["prometheus.example", "10.0.0.1", "fd00::1", "p@monitoring.example", "spiffe://example/p"];
        assert_eq!(names(&client).unwrap(), expected);
        let stranger = certificate(include_bytes!("../../../tests/tls/web/stranger.pem"));
        assert_eq!(names(&stranger).unwrap(), [""; 0]);
    }
}
