//! Certificates and keys in PEM form: which of them TLS takes here, and in words what it does not take, and the cure.
//! One table for the exporter's own port and for the connections to registries.
//!
//! The limits are those of the library (`ring`): RSA of 2048 to 4096 bits (8192 for an authority), ECDSA with P-256 or
//! P-384, Ed25519; signatures with SHA-256, SHA-384 or, RSA alone, SHA-512; TLS 1.2 and 1.3 without CBC.

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, Error, InconsistentKeys, OtherError, PeerIncompatible, RootCertStore,
};
use x509_cert::certificate::{Certificate, Version};
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{Decode as _, Reader as _, SliceReader};
use x509_cert::spki::SubjectPublicKeyInfoOwned;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ECDSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// Keys that TLS does not take here, by what people call them.
const STRANGE_KEYS: [(&str, &str); 10] = [
    ("1.3.132.0.35", "of the curve P-521"),
    ("1.3.132.0.33", "of the curve P-224"),
    ("1.3.132.0.10", "of the curve secp256k1"),
    ("1.3.36.3.3.2.8.1.1.7", "of the curve brainpoolP256r1"),
    ("1.3.36.3.3.2.8.1.1.11", "of the curve brainpoolP384r1"),
    ("1.3.36.3.3.2.8.1.1.13", "of the curve brainpoolP512r1"),
    ("1.2.840.113549.1.1.10", "of RSASSA-PSS"),
    ("1.2.840.10040.4.1", "of DSA"),
    ("1.3.101.113", "of Ed448"),
    ("1.2.156.10197.1.301", "of SM2"),
];

/// The largest RSA key that can sign here, and the largest whose signatures can be verified.
const LARGEST_OWN_RSA: usize = 4096;
const LARGEST_RSA: usize = 8192;

/// What else than PEM with a certificate or a key a file may hold, by what gives it away, and the cure.
const CERTIFICATE_FORMS: [(&str, &str); 6] = [
    (
        "-----BEGIN TRUSTED CERTIFICATE",
        "is in OpenSSL's own form; convert it with openssl x509 -in FILE -out NEW",
    ),
    ("-----BEGIN PKCS7", "is in PKCS#7 form; convert it with openssl pkcs7 -print_certs -in FILE -out NEW"),
    ("CERTIFICATE REQUEST-----", "holds a request for a certificate; name what the authority made of it"),
    ("-----BEGIN CERTIFICATE-----", "is cut off or damaged; copy it anew"),
    ("PRIVATE KEY-----", "holds a private key and no certificate; perhaps the two files are interchanged"),
    ("PUBLIC KEY-----", "holds a public key and no certificate; name the certificate"),
];
const KEY_FORMS: [(&str, &str); 7] = [
    (
        "ENCRYPTED",
        "is encrypted, and there is nobody to ask for a passphrase; decrypt it with openssl pkey -in FILE -out NEW",
    ),
    (
        "-----BEGIN OPENSSH PRIVATE KEY",
        "is in OpenSSH's form; convert it with ssh-keygen -p -m PKCS8 -f FILE",
    ),
    (
        "-----BEGIN DSA PRIVATE KEY",
        "is a key of DSA, which TLS does not take; make one with openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
    ),
    ("PRIVATE KEY-----", "is cut off or damaged; copy it anew"),
    ("PUBLIC KEY-----", "holds a public key and no private one; name the private key"),
    (
        "-----BEGIN CERTIFICATE-----",
        "holds a certificate and no private key; perhaps the two files are interchanged",
    ),
    ("-----BEGIN EC PARAMETERS", "holds the parameters of a key and no key; name the key"),
];

/// Which of the two cannot be used together with the other, and why.
#[derive(Debug)]
pub enum Misfit {
    /// The certificate.
    Certificate(String),
    /// The key.
    Key(String),
}

/// The certificate to show, which comes first in `pem`, and those that lead from it to its authority.
///
/// Errors: what is wrong and the cure.
pub fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let (encoded, certificates) = certificates(pem)?;
    let own = certificates[0].tbs_certificate();
    if own.version() != Version::V3 {
        return Err("is an X.509 certificate of an old version, without extensions; have it issued as version 3, with \
                    a name in subjectAltName (openssl x509 -req takes -extfile)"
            .to_owned());
    }
    if let Some(kind) = strange(own.subject_public_key_info(), LARGEST_OWN_RSA) {
        return Err(format!(
            "has a key {kind}, which TLS does not take here; have it issued for one {}",
            keys()
        ));
    }
    Ok(encoded)
}

/// Authorities to trust.
///
/// Errors: what is wrong and the cure.
pub fn authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let (encoded, certificates) = certificates(pem)?;
    let mut roots = RootCertStore::empty();
    for (number, certificate) in (1..).zip(&encoded) {
        roots.add(certificate.clone()).map_err(|error| {
            format!("certificate {number} in it cannot be used ({error}); have it issued anew or take it out")
        })?;
    }
    // In a bundle one that nobody uses does no harm.
    let strange = certificates
        .iter()
        .map(|certificate| strange(certificate.tbs_certificate().subject_public_key_info(), LARGEST_RSA));
    match strange.collect::<Option<Vec<_>>>() {
        Some(kinds) => Err(format!(
            "has a key {}, whose signatures TLS does not verify here; have certificates issued by an authority with \
             one {}",
            kinds[0],
            keys()
        )),
        None => Ok(encoded),
    }
}

/// The private key in `pem`.
///
/// Errors: what is wrong and the cure.
pub fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    // The older form of encryption is one of the body alone.
    let encrypted = contains(pem, "Proc-Type: 4,ENCRYPTED");
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) if !encrypted => Ok(key),
        _ => Err(instead(pem, &KEY_FORMS, "holds no private key in PEM form")),
    }
}

/// Whether `chain` begins with the certificate of `key`.
///
/// Errors: which of the two is to be changed, and how.
pub fn fit(chain: &[CertificateDer<'static>], key: &PrivateKeyDer<'static>) -> Result<(), Misfit> {
    let Ok(signing) = any_supported_type(key) else {
        let message = format!("is damaged, or not a key {}; name the key of the certificate", keys());
        return Err(Misfit::Key(message));
    };
    let fits =
        |chain: &[CertificateDer<'static>]| CertifiedKey::new(chain.to_vec(), signing.clone()).keys_match();
    match fits(chain) {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(Error::InconsistentKeys(_))
            if chain.iter().skip(1).any(|one| fits(std::slice::from_ref(one)).is_ok()) =>
        {
            let message =
                "has the certificate of the key, but not first; put it before those of its authorities";
            Err(Misfit::Certificate(message.to_owned()))
        }
        Err(Error::InconsistentKeys(_)) => {
            let message = "is not the key of the certificate; name the one that it was issued for";
            Err(Misfit::Key(message.to_owned()))
        }
        Err(error) => Err(Misfit::Certificate(format!("cannot be used ({error}); have it issued anew"))),
    }
}

/// What a failed handshake means, and the cure, where the library's own words do not say.
pub fn handshake(error: &Error) -> Option<&'static str> {
    const ALGORITHM: &str = "the other side's certificate, or one that issued it, has a key or a signature that TLS \
                             does not take here; it takes RSA (2048 bits and more), ECDSA with P-256 or P-384 and SHA-256 \
                             or SHA-384, and Ed25519";
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            Some("nobody who is trusted issued the certificate; name its authority in tls.ca_file")
        }
        Error::InvalidCertificate(
            CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        )
        | Error::PeerIncompatible(PeerIncompatible::NoSignatureSchemesInCommon) => Some(ALGORITHM),
        Error::InvalidCertificate(CertificateError::Other(OtherError(error)))
            if error.to_string() == "UnsupportedCertVersion" =>
        {
            Some("the other side's certificate is one of X.509's old versions; it needs one of version 3")
        }
        Error::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity) => {
            Some(
                "the other side has no cipher suite, curve or kind of key in common with this one; it needs TLS 1.3, or TLS 1.2 \
             with ECDHE and AES-GCM or ChaCha20 (none with CBC), and a certificate with a key of RSA (2048 bits and \
             more), P-256, P-384 or Ed25519",
            )
        }
        Error::AlertReceived(AlertDescription::ProtocolVersion)
        | Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            Some("the other side speaks no TLS 1.2 or 1.3; it needs one of them")
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            Some("the other side asks for a certificate; name one in tls.cert_file, and its key")
        }
        _ => None,
    }
}

/// All certificates in `pem`, at least one; each as it is, and read.
fn certificates(pem: &[u8]) -> Result<(Vec<CertificateDer<'static>>, Vec<Certificate>), String> {
    let encoded: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let encoded = encoded.ok().filter(|certificates| !certificates.is_empty());
    let encoded =
        encoded.ok_or_else(|| instead(pem, &CERTIFICATE_FORMS, "holds no certificate in PEM form"))?;
    let mut read = Vec::new();
    for (number, certificate) in (1..).zip(&encoded) {
        let certificate = Certificate::from_der(certificate);
        read.push(certificate.map_err(|_| format!("certificate {number} in it is damaged; copy it anew"))?);
    }
    Ok((encoded, read))
}

/// What is in `pem` instead of what should be.
fn instead(pem: &[u8], forms: &[(&str, &str)], otherwise: &str) -> String {
    if pem.trim_ascii().is_empty() {
        return format!("{otherwise}: it is empty");
    }
    // A sequence in DER, which is what PKCS#12 is too.
    if pem[0] == 0x30 && !contains(pem, "-----BEGIN") {
        return "is in DER or PKCS#12 form; convert it with openssl x509, pkey or pkcs12 to PEM".to_owned();
    }
    let form = forms.iter().find(|(sign, _)| contains(pem, sign));
    form.map_or(otherwise, |(_, words)| words).to_owned()
}

fn contains(text: &[u8], part: &str) -> bool {
    text.windows(part.len()).any(|window| window == part.as_bytes())
}

/// What kind of key one is, if it is none that TLS takes here.
fn strange(key: &SubjectPublicKeyInfoOwned, largest_rsa: usize) -> Option<String> {
    let named = |oid: ObjectIdentifier| {
        let known = STRANGE_KEYS.iter().find(|(known, _)| *known == oid.to_string());
        known.map_or_else(|| format!("of the unknown kind {oid}"), |(_, name)| (*name).to_owned())
    };
    match key.algorithm.oid {
        ED25519 => None,
        RSA => match rsa_bits(key.subject_public_key.raw_bytes()) {
            Some(bits) => (!(2048..=largest_rsa).contains(&bits)).then(|| format!("of RSA with {bits} bits")),
            None => Some("of RSA that is damaged".to_owned()),
        },
        ECDSA => match key.algorithm.parameters.as_ref().and_then(|curve| curve.decode_as().ok()) {
            Some(P256 | P384) => None,
            Some(curve) => Some(named(curve)),
            None => Some("of a curve without a name".to_owned()),
        },
        other => Some(named(other)),
    }
}

/// The length of a key (RFC 8017, A.1.1), rounded up to whole bytes as the library does.
fn rsa_bits(key: &[u8]) -> Option<usize> {
    let mut reader = SliceReader::new(key).ok()?;
    let modulus = reader.sequence(|reader| {
        let modulus = UintRef::decode(reader)?;
        UintRef::decode(reader)?;
        Ok::<_, x509_cert::der::Error>(modulus)
    });
    Some(modulus.ok()?.as_bytes().len() * 8)
}

fn keys() -> String {
    format!("of RSA (2048 to {LARGEST_OWN_RSA} bits), P-256, P-384 or Ed25519")
}
