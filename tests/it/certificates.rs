//! Certificates and keys that TLS cannot take: the same words for the exporter's own port and for connections to
//! registries, with the file, the key of the configuration and the cure. All of them are made by OpenSSL.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use container_registry_exporter::client::connection::{cause, client};
use container_registry_exporter::config::{Config, ConnectionConfig};
use container_registry_exporter::server::WebConfigFile;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;
use url::Url;

use crate::program::PATIENCE;

/// Makes everything that the tests name.
const MAKE: &str = r"
set -e
certificate() { # name, arguments for the key
  name=$1; shift
  openssl req -x509 -nodes -days 9 -subj /CN=$name -addext subjectAltName=IP:127.0.0.1 \
    -keyout $name.key -out $name.pem $@
}
certificate good -newkey ec -pkeyopt ec_paramgen_curve:P-256
certificate other -newkey ec -pkeyopt ec_paramgen_curve:P-256
certificate p384 -newkey ec -pkeyopt ec_paramgen_curve:P-384
certificate ed25519 -newkey ed25519
certificate rsa -newkey rsa:2048
certificate p521 -newkey ec -pkeyopt ec_paramgen_curve:P-521
certificate secp256k1 -newkey ec -pkeyopt ec_paramgen_curve:secp256k1
certificate ed448 -newkey ed448
certificate rsa1024 -newkey rsa:1024
openssl req -new -key good.key -subj /CN=v1 -out request.pem
openssl x509 -req -in request.pem -signkey good.key -days 9 -out v1.pem
echo subjectAltName=IP:127.0.0.1 > names
openssl x509 -req -in request.pem -CA p384.pem -CAkey p384.key -CAcreateserial -sha512 -extfile names -days 9 \
  -out sha512.pem
openssl x509 -req -in request.pem -CA good.pem -CAkey good.key -CAcreateserial -extfile names -days 9 -out leaf.pem
openssl pkey -in good.key -aes256 -passout pass:x -out encrypted.key
openssl rsa -in rsa.key -aes128 -traditional -passout pass:x -out encrypted-body.key
openssl x509 -in good.pem -outform der -out der.pem
openssl pkey -in good.key -outform der -out der.key
openssl pkcs12 -export -in good.pem -inkey good.key -passout pass: -out pkcs12.pem
openssl pkey -in good.key -pubout -out public.key
openssl crl2pkcs7 -nocrl -certfile good.pem -out pkcs7.pem
openssl x509 -in good.pem -trustout -out trusted.pem
openssl ecparam -name prime256v1 -out parameters.key
openssl ec -in good.key -out sec1.key
cat parameters.key sec1.key > with-parameters.key
cat other.pem good.pem > order.pem
cat p521.pem good.pem > bundle.pem
head -n 5 good.pem > cut.pem
cat good.pem cut.pem > cut-chain.pem
head -n 2 good.key > cut.key
: > empty
echo nothing > text
printf -- '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n' > damaged.pem
cat good.pem damaged.pem > damaged-chain.pem
printf -- '-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n' > openssh.key
";

fn workshop() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let made = Command::new("sh").args(["-c", MAKE]).current_dir(directory.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    directory
}

/// What the port says to a section of TLS.
fn port(directory: &Path, section: &str) -> Result<(), String> {
    let path = directory.join("web.yml");
    fs::write(&path, format!("tls_server_config:\n{section}")).unwrap();
    WebConfigFile::load(Some(&path)).map(|_| ()).map_err(|error| error.to_string())
}

/// A source's table `tls`, read.
fn source(directory: &Path, tls: &str) -> Result<ConnectionConfig, String> {
    let text = format!(
        "[sources.a]\nprovider = \"swr\"\nregion = \"cn-north-4\"\ntls = {{ {tls} }}\n\
         auth = {{ access_key = \"AK\", secret_key = \"SK\" }}\n"
    );
    let config = Config::parse(&text, directory, &BTreeMap::new()).map_err(|error| error.to_string())?;
    let connection = config.sources[0].connection.clone();
    // What the configuration takes must be what the client takes.
    client(&connection, &[]).map(|_| connection).map_err(|error| format!("client: {error}"))
}

#[test]
fn certificates_and_keys_that_tls_cannot_take_are_told_in_the_same_words_for_port_and_sources() {
    let directory = workshop();
    let directory = directory.path();
    for (certificate, key, problem) in [
        ("good.pem", "good.key", None),
        ("good.pem", "sec1.key", None),
        ("good.pem", "with-parameters.key", None),
        ("p384.pem", "p384.key", None),
        ("ed25519.pem", "ed25519.key", None),
        ("rsa.pem", "rsa.key", None),
        (
            "p521.pem",
            "p521.key",
            Some(("cert", "has a key of the curve P-521, which TLS does not take here; have it")),
        ),
        ("secp256k1.pem", "secp256k1.key", Some(("cert", "has a key of the curve secp256k1"))),
        ("ed448.pem", "ed448.key", Some(("cert", "has a key of Ed448"))),
        ("rsa1024.pem", "rsa1024.key", Some(("cert", "has a key of RSA with 1024 bits"))),
        ("v1.pem", "good.key", Some(("cert", "is an X.509 certificate of an old version"))),
        ("empty", "good.key", Some(("cert", "holds no certificate in PEM form: it is empty"))),
        ("text", "good.key", Some(("cert", "holds no certificate in PEM form"))),
        ("der.pem", "good.key", Some(("cert", "is in DER or PKCS#12 form; convert it"))),
        ("pkcs12.pem", "good.key", Some(("cert", "is in DER or PKCS#12 form; convert it"))),
        ("pkcs7.pem", "good.key", Some(("cert", "is in PKCS#7 form; convert it"))),
        ("trusted.pem", "good.key", Some(("cert", "is in OpenSSL's own form; convert it"))),
        ("request.pem", "good.key", Some(("cert", "holds a request for a certificate"))),
        ("good.key", "good.key", Some(("cert", "holds a private key and no certificate"))),
        ("cut.pem", "good.key", Some(("cert", "is cut off or damaged"))),
        ("cut-chain.pem", "good.key", Some(("cert", "is cut off or damaged"))),
        ("damaged.pem", "good.key", Some(("cert", "certificate 1 in it is damaged"))),
        ("damaged-chain.pem", "good.key", Some(("cert", "certificate 2 in it is damaged"))),
        ("order.pem", "good.key", Some(("cert", "has the certificate of the key, but not first"))),
        ("good.pem", "other.key", Some(("key", "is not the key of the certificate"))),
        ("good.pem", "rsa.key", Some(("key", "is not the key of the certificate"))),
        ("good.pem", "p521.key", Some(("key", "is damaged, or not a key of RSA (2048 to 4096 bits), P-256"))),
        ("good.pem", "encrypted.key", Some(("key", "is encrypted, and there is nobody to ask"))),
        ("rsa.pem", "encrypted-body.key", Some(("key", "is encrypted, and there is nobody to ask"))),
        ("good.pem", "empty", Some(("key", "holds no private key in PEM form: it is empty"))),
        ("good.pem", "text", Some(("key", "holds no private key in PEM form"))),
        ("good.pem", "der.key", Some(("key", "is in DER or PKCS#12 form; convert it"))),
        ("good.pem", "public.key", Some(("key", "holds a public key and no private one"))),
        ("good.pem", "good.pem", Some(("key", "holds a certificate and no private key"))),
        ("good.pem", "parameters.key", Some(("key", "holds the parameters of a key and no key"))),
        ("good.pem", "openssh.key", Some(("key", "is in OpenSSH's form; convert it"))),
        ("good.pem", "cut.key", Some(("key", "is cut off or damaged"))),
    ] {
        let at = format!("{certificate} {key}");
        let at_port = port(directory, &format!("  cert_file: {certificate}\n  key_file: {key}\n"));
        let tls = format!("cert_file = \"{certificate}\", key_file = \"{key}\"");
        let at_source = source(directory, &tls).map(|_| ());
        let Some((which, words)) = problem else {
            assert_eq!((at_port, at_source), (Ok(()), Ok(())), "{at}");
            continue;
        };
        let file = directory.join(if which == "cert" { certificate } else { key });
        let expected = format!("{which}_file: {}: {words}", file.display());
        let (at_port, at_source) = (at_port.expect_err(&at), at_source.expect_err(&at));
        assert!(at_port.starts_with(&format!("tls_server_config.{expected}")), "{at}: {at_port}");
        assert!(at_source.starts_with(&format!("sources.a.tls.{expected}")), "{at}: {at_source}");
        assert_eq!(at_port.lines().count(), 1, "{at}: {at_port}");
        let bare = |text: &str| text.split_once(": ").unwrap().1.to_owned();
        assert_eq!(bare(&at_port), bare(&at_source));
    }
}

#[test]
fn authorities_that_tls_cannot_take_are_told_in_the_same_words_for_port_and_sources() {
    let directory = workshop();
    let directory = directory.path();
    for (file, problem) in [
        ("good.pem", None),
        // A root's own version does not matter, nor does one in a bundle that nobody uses.
        ("v1.pem", None),
        ("bundle.pem", None),
        ("rsa.pem", None),
        ("p521.pem", Some("has a key of the curve P-521, whose signatures TLS does not verify here; have")),
        ("rsa1024.pem", Some("has a key of RSA with 1024 bits")),
        ("empty", Some("holds no certificate in PEM form: it is empty")),
        ("good.key", Some("holds a private key and no certificate")),
        ("cut-chain.pem", Some("is cut off or damaged")),
        ("damaged-chain.pem", Some("certificate 2 in it is damaged")),
        ("der.pem", Some("is in DER or PKCS#12 form")),
    ] {
        let section = format!(
            "  cert_file: good.pem\n  key_file: good.key\n  client_auth_type: RequireAndVerifyClientCert\n  \
             client_ca_file: {file}\n"
        );
        let at_port = port(directory, &section);
        let at_source = source(directory, &format!("ca_file = \"{file}\"")).map(|_| ());
        let Some(words) = problem else {
            assert_eq!((at_port, at_source), (Ok(()), Ok(())), "{file}");
            continue;
        };
        let expected = format!("ca_file: {}: {words}", directory.join(file).display());
        let (at_port, at_source) = (at_port.expect_err(file), at_source.expect_err(file));
        assert!(at_port.starts_with(&format!("tls_server_config.client_{expected}")), "{file}: {at_port}");
        assert!(at_source.starts_with(&format!("sources.a.tls.{expected}")), "{file}: {at_source}");
    }
}

#[tokio::test]
async fn a_handshake_that_fails_over_what_a_server_shows_says_so_in_words() {
    let directory = workshop();
    let directory = directory.path();
    for (arguments, authority, words) in [
        (&["-cert", "p521.pem", "-key", "p521.key"][..], "bundle.pem", "kind of key in common"),
        (
            &["-cert", "sha512.pem", "-key", "good.key"],
            "p384.pem",
            "has a key or a signature that TLS does not take",
        ),
        (&["-cert", "v1.pem", "-key", "good.key"], "v1.pem", "is one of X.509's old versions"),
        (&["-cert", "leaf.pem", "-key", "good.key"], "other.pem", "name its authority in tls.ca_file"),
        (
            &["-cert", "good.pem", "-key", "good.key", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"],
            "good.pem",
            "no cipher suite, curve or kind of key in common",
        ),
    ] {
        let mut server = tokio::process::Command::new("openssl")
            .args(["s_server", "-www", "-accept", "127.0.0.1:0"])
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let address = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it listens");
                if let Some(address) = line.strip_prefix("ACCEPT ") {
                    break Url::parse(&format!("https://{address}")).unwrap();
                }
            }
        };
        let address = timeout(PATIENCE, address).await.expect("it listens");
        let config = source(directory, &format!("ca_file = \"{authority}\"")).unwrap();
        let client = client(&config, &[&address]).unwrap();
        let error = timeout(PATIENCE, client.get(address).send()).await.unwrap().unwrap_err();
        let message = cause(error).to_string();
        assert!(message.starts_with("TLS failed: ") && message.contains(words), "{arguments:?}: {message}");
    }
}
