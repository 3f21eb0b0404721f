//! `tls_server_config`: what rustls makes of it, or why it cannot.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{NamedGroup, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use super::Protection;
use super::client_certificate::{ClientCertificates, POLICIES};
use super::files::Files;
use super::section::Section;
use crate::config::certificate::{self, Misfit};

/// How to speak TLS.
pub(in super::super) struct Tls {
    /// For handshakes.
    pub(in super::super) server: Arc<ServerConfig>,
    clients: Option<Arc<ClientCertificates>>,
}

impl Tls {
    /// Whether a client that showed these certificates, under another configuration maybe, may come in under this one.
    pub(super) fn admits(&self, shown: &[CertificateDer<'static>]) -> bool {
        self.clients.as_ref().is_none_or(|clients| clients.admit(shown))
    }
}

/// The section.
pub(super) const SECTION: &str = "tls_server_config";
/// The keys of the section.
pub(super) const KEYS: &[&str] = &[
    "cert",
    "key",
    "client_ca",
    "cert_file",
    "key_file",
    "client_auth_type",
    "client_ca_file",
    "client_allowed_sans",
    "min_version",
    "max_version",
    "cipher_suites",
    "prefer_server_cipher_suites",
    "curve_preferences",
];

const VERSIONS: [(&str, u8); 4] = [("TLS10", 10), ("TLS11", 11), ("TLS12", 12), ("TLS13", 13)];
/// The oldest that the library speaks.
const OLDEST: u8 = 12;

const CURVES: [(&str, NamedGroup); 3] = [
    ("X25519", NamedGroup::X25519),
    ("CurveP256", NamedGroup::secp256r1),
    ("CurveP384", NamedGroup::secp384r1),
];

/// Reads the section and the files it names, relative to `directory`. `None` if it asks for no TLS, or if something
/// is wrong, which is noted in the section then.
pub(super) fn read(
    section: &Section<'_>,
    directory: &Path,
    files: &mut Files,
    protections: &mut Vec<Protection>,
    warnings: &mut Vec<String>,
) -> Option<Arc<Tls>> {
    let versions = versions(section, warnings);
    let suites = cipher_suites(section, versions);
    let provider =
        CryptoProvider { cipher_suites: suites, kx_groups: curves(section), ..ring::default_provider() };
    let provider = Arc::new(provider);
    let mut pem = |key| pem(section, key, directory, files);
    let (certificate, key, authorities) = (pem("cert"), pem("key"), pem("client_ca"));
    let clients = client_certificates(section, authorities.as_ref(), &provider).map(Arc::new);
    if let Some(clients) = &clients {
        clients.note_protections(authorities.is_some(), protections);
    }
    let mut note = |key: &str, without| {
        protections.push(Protection { key: section.path_of(key), without });
    };
    if versions.0 > OLDEST {
        note("min_version", "would let in TLS 1.2 again");
    }
    if provider.cipher_suites.len() < ring::ALL_CIPHER_SUITES.len() {
        note("cipher_suites", "would no longer limit the cipher suites");
    }
    if provider.kx_groups.len() < ring::ALL_KX_GROUPS.len() {
        note("curve_preferences", "would no longer limit the curves");
    }
    let wanted = [&certificate, &key, &authorities].iter().any(|pem| pem.is_some())
        || section.text("client_auth_type").is_some();
    if !wanted {
        if !section.is_empty() {
            warnings.push("tls_server_config names no certificate, so TLS is off".to_owned());
        }
        return None;
    }
    if certificate.is_none() {
        section.problem("cert_file", "is missing; name the server's certificate, or put it into cert");
    }
    if key.is_none() {
        section
            .problem("key_file", "is missing; name the key of the server's certificate, or put it into key");
    }
    let pair = match (&certificate, &key) {
        (Some(certificate), Some(key)) => pair(section, certificate, key),
        _ => None,
    };
    let prefer_server = section.flag("prefer_server_cipher_suites", true);
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&supported(versions));
    // Noted where the suites were read.
    let builder = builder.ok()?;
    let verifier = clients.clone();
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = pair?;
    let config = builder.with_single_cert(chain, key);
    let mut config = config
        .inspect_err(|error| {
            section.problem("key_file", format!("cannot be used with the certificate: {error}"));
        })
        .ok()?;
    config.ignore_client_order = prefer_server;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(Arc::new(Tls { server: Arc::new(config), clients }))
}

/// Text in PEM form, with the key that gives it.
struct Pem {
    key: String,
    file: Option<PathBuf>,
    /// `None` if the file cannot be read.
    content: Option<Vec<u8>>,
}

/// What is in the file that `KEY_file` names, or else in `KEY` itself.
fn pem(section: &Section<'_>, key: &str, directory: &Path, files: &mut Files) -> Option<Pem> {
    let file_key = format!("{key}_file");
    if let Some(file) = section.text(&file_key) {
        let file = directory.join(file);
        let content = files.read(&file).inspect_err(|message| section.problem(&file_key, message)).ok();
        return Some(Pem { key: file_key, file: Some(file), content });
    }
    let content = section.text(key)?.as_bytes().to_vec();
    Some(Pem { key: key.to_owned(), file: None, content: Some(content) })
}

impl Pem {
    /// What `read` makes of it. A problem of a file names the file; one that could not be read was noted then.
    fn read<T>(&self, section: &Section<'_>, read: impl Fn(&[u8]) -> Result<T, String>) -> Option<T> {
        let content = self.content.as_ref()?;
        read(content).inspect_err(|message| self.problem(section, message)).ok()
    }

    fn problem(&self, section: &Section<'_>, message: &str) {
        let file = self.file.as_ref().map(|file| format!("{}: ", file.display())).unwrap_or_default();
        section.problem(&self.key, format!("{file}{message}"));
    }
}

/// The server's certificate with its chain, and its key.
fn pair(
    section: &Section<'_>,
    chain_pem: &Pem,
    key_pem: &Pem,
) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let (chain, key) = (chain_pem.read(section, certificate::chain), key_pem.read(section, certificate::key));
    let (chain, key) = (chain?, key?);
    match certificate::fit(&chain, &key) {
        Ok(()) => return Some((chain, key)),
        Err(Misfit::Certificate(message)) => chain_pem.problem(section, &message),
        Err(Misfit::Key(message)) => key_pem.problem(section, &message),
    }
    None
}

/// The oldest and the newest version to speak.
fn versions(section: &Section<'_>, warnings: &mut Vec<String>) -> (u8, u8) {
    let oldest = section.word("min_version", &VERSIONS).unwrap_or(OLDEST);
    let newest = section.word("max_version", &VERSIONS).unwrap_or(13);
    if oldest < OLDEST || newest < OLDEST {
        warnings.push("TLS versions below 1.2 are not supported, clients need TLS 1.2".to_owned());
    }
    let (oldest, newest) = (oldest.max(OLDEST), newest.max(OLDEST));
    if newest < oldest {
        section.problem("max_version", "must not be below min_version");
    }
    (oldest, newest)
}

fn supported((oldest, newest): (u8, u8)) -> Vec<&'static SupportedProtocolVersion> {
    let versions = [(12, &TLS12), (13, &TLS13)];
    let spoken = versions.into_iter().filter(|(version, _)| (oldest..=newest).contains(version));
    spoken.map(|(_, version)| version).collect()
}

/// The cipher suites by Go's names. As in Go the list is one for TLS 1.2: all suites of TLS 1.3 stay.
fn cipher_suites(section: &Section<'_>, versions: (u8, u8)) -> Vec<SupportedCipherSuite> {
    let all = ring::ALL_CIPHER_SUITES;
    let Some(names) = section.list("cipher_suites").filter(|names| !names.is_empty()) else {
        return all.to_vec();
    };
    let (mut suites, mut unknown) = (Vec::new(), false);
    for (path, name) in names {
        if let Some(suite) = all.iter().find(|suite| go_name(suite) == name) {
            suites.push(*suite);
        } else {
            unknown = true;
            let known: Vec<_> = all.iter().map(go_name).collect();
            section.problem_at(&path, not_supported(name, "TLS_", &known));
        }
    }
    suites.retain(|suite| suite.tls13().is_none());
    if !unknown && suites.is_empty() && versions.1 < 13 {
        section.problem("cipher_suites", "has no suite of TLS 1.2, while max_version allows nothing newer");
    }
    suites.extend(all.iter().filter(|suite| suite.tls13().is_some()));
    suites
}

fn go_name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

/// The curves for the key exchange, by Go's names.
fn curves(section: &Section<'_>) -> Vec<&'static dyn SupportedKxGroup> {
    let all = ring::ALL_KX_GROUPS;
    let Some(names) = section.list("curve_preferences").filter(|names| !names.is_empty()) else {
        return all.to_vec();
    };
    let mut curves = Vec::new();
    for (path, name) in names {
        let group = CURVES.iter().find(|(curve, _)| *curve == name).map(|(_, group)| *group);
        if let Some(curve) = all.iter().find(|curve| Some(curve.name()) == group) {
            curves.push(*curve);
        } else {
            let known: Vec<_> = CURVES.iter().map(|(curve, _)| (*curve).to_owned()).collect();
            section.problem_at(&path, not_supported(name, "Curve", &known));
        }
    }
    curves
}

/// A name is repeated if it looks like one: a misplaced secret must not be shown.
fn not_supported(name: &str, prefix: &str, known: &[String]) -> String {
    let like_one = name.starts_with(prefix)
        && name.len() < 50
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let name = if like_one { name } else { "this" };
    let why =
        if like_one && name.contains("_CBC_") { ": suites with CBC have been broken too often" } else { "" };
    format!("{name} is not supported{why}; use some of {}", known.join(", "))
}

fn client_certificates(
    section: &Section<'_>,
    authorities: Option<&Pem>,
    provider: &Arc<CryptoProvider>,
) -> Option<ClientCertificates> {
    let names = section.list("client_allowed_sans");
    let names: Option<Vec<String>> =
        names.map(|names| names.into_iter().map(|(_, name)| name.to_owned()).collect());
    if names.as_ref().is_some_and(Vec::is_empty) {
        section.problem(
            "client_allowed_sans",
            "is empty, so that nobody could connect; remove it or name somebody",
        );
    }
    // A word that is wrong is noted once, here.
    let given = section.text("client_auth_type").is_some();
    let policy = section.word("client_auth_type", &POLICIES);
    let Some(policy) = policy.flatten() else {
        if policy.is_some() || !given {
            let cure = "has no effect without client_auth_type; set that to RequireAndVerifyClientCert";
            if let Some(authorities) = authorities {
                section.problem(&authorities.key, cure);
            }
            if names.is_some() {
                section.problem("client_allowed_sans", cure);
            }
        }
        return None;
    };
    let authorities = match authorities {
        Some(pem) => pem.read(section, certificate::authorities)?,
        // As in Go: those that the system trusts.
        None if policy.verified => rustls_native_certs::load_native_certs().certs,
        None => Vec::new(),
    };
    if policy.verified && authorities.is_empty() {
        section.problem("client_ca_file", "is missing, and the system trusts no authority; name a file");
        return None;
    }
    let clients = ClientCertificates::new(policy, authorities, names, provider);
    clients.inspect_err(|error| section.problem("client_ca_file", format!("cannot be used: {error}"))).ok()
}
