//! `basic_auth_users`: who may come in, checked with bcrypt once and remembered without the password.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::alphabet::BCRYPT;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::NO_PAD;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bcrypt::HashParts;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use rustls::crypto::ring::default_provider;
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::Sha256;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::section::Section;

/// Wrong passwords that are remembered, so that a client that keeps sending one costs no bcrypt each time.
const MOST_REFUSED: usize = 64;
/// Checks that may wait for their turn; each keeps a request in memory and takes some 50 ms. More would wait longer
/// than any scraper does.
const MOST_WAITING: usize = 64;

/// Base64 as in bcrypt's text form. Tools differ in the bits that are left over; they do not count.
const BCRYPT_TEXT: GeneralPurpose =
    GeneralPurpose::new(&BCRYPT, NO_PAD.with_decode_allow_trailing_bits(true));

/// What is remembered of a name and a password: their keyed hash. Without the key, which exists in this process only
/// and never leaves it, the hash tells nothing.
type Fingerprint = [u8; 32];

/// The users and what is known of their passwords.
pub(super) struct Users {
    hashes: BTreeMap<String, String>,
    key: [u8; 32],
    known: Mutex<Known>,
    /// bcrypt uses a whole processor, so it runs once at a time, as in the official exporters.
    turn: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Outcomes of checks. Neither part can push out the other, nor grow.
#[derive(Default)]
struct Known {
    /// One for each user at most.
    admitted: BTreeMap<String, Fingerprint>,
    /// The latest ones.
    refused: VecDeque<Fingerprint>,
}

/// What became of a request's name and password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// They are right.
    Admitted,
    /// They are wrong or missing.
    Refused,
    /// Too many others are being checked.
    Busy,
}

impl Users {
    /// Reads the section; `None` if it names nobody, so that everybody may come in.
    pub(super) fn read(section: &Section<'_>) -> Option<Self> {
        let mut hashes = BTreeMap::new();
        for name in section.names() {
            let hash = section.text(name).unwrap_or_default();
            match canonical(hash) {
                Some(hash) => drop(hashes.insert(name.to_owned(), hash)),
                None => section.problem(name, "must be a bcrypt hash, such as htpasswd -nBC 10 \"\" prints"),
            }
        }
        if hashes.is_empty() {
            return None;
        }
        let mut key = [0; 32];
        default_provider().secure_random.fill(&mut key).expect("the system has random numbers");
        Some(Self {
            hashes,
            key,
            known: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Checks the header `Authorization`.
    pub(super) async fn admit(&self, headers: &HeaderMap) -> Admission {
        let Some(credentials) = Credentials::of(headers) else { return Admission::Refused };
        let fingerprint = self.fingerprint(&[credentials.name(), credentials.password()]);
        let known = || self.known().outcome(credentials.name(), &fingerprint);
        if let Some(known) = known() {
            return known;
        }
        let Some(_waiting) = Waiting::new(&self.waiting) else { return Admission::Busy };
        let turn = Arc::clone(&self.turn).acquire_owned().await.expect("it is never closed");
        // Several requests of one client may have waited.
        if let Some(known) = known() {
            return known;
        }
        let user = str::from_utf8(credentials.name()).ok().and_then(|name| self.hashes.get_key_value(name));
        // Of a user that does not exist the password is compared with somebody else's hash, always the same one:
        // that takes the same time, and tells nobody which users there are.
        let hash = user.map_or_else(|| self.somebody(credentials.name()), |(_, hash)| hash).clone();
        let right = spawn_blocking(move || {
            let _turn = turn;
            bcrypt::verify(credentials.password(), &hash).unwrap_or(false)
        });
        let right = matches!(right.await, Ok(true));
        let mut known = self.known();
        if let Some((name, _)) = user.filter(|_| right) {
            known.admitted.insert(name.clone(), fingerprint);
            return Admission::Admitted;
        }
        known.refused.truncate(MOST_REFUSED - 1);
        known.refused.push_front(fingerprint);
        Admission::Refused
    }

    fn somebody(&self, name: &[u8]) -> &String {
        let number = usize::from(self.fingerprint(&[name])[0]) % self.hashes.len();
        self.hashes.values().nth(number).expect("the number is less than their number")
    }

    fn fingerprint(&self, parts: &[&[u8]]) -> Fingerprint {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        for part in parts {
            mac.update(&part.len().to_le_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing under the lock can leave a half-made value behind.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn outcome(&self, name: &[u8], fingerprint: &Fingerprint) -> Option<Admission> {
        let admitted = str::from_utf8(name).ok().and_then(|name| self.admitted.get(name));
        if admitted == Some(fingerprint) {
            return Some(Admission::Admitted);
        }
        self.refused.contains(fingerprint).then_some(Admission::Refused)
    }
}

/// A check that waits or is under way.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(number: &'a AtomicUsize) -> Option<Self> {
        let waiting = Self(number);
        (number.fetch_add(1, Ordering::Relaxed) < MOST_WAITING).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A name and a password as sent.
struct Credentials {
    text: SecretSlice<u8>,
    colon: usize,
}

impl Credentials {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(AUTHORIZATION)?.as_bytes();
        let (scheme, text) = value.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"Basic ") {
            return None;
        }
        let text = BASE64_STANDARD.decode(text).ok()?;
        let colon = text.iter().position(|byte| *byte == b':')?;
        Some(Self { text: text.into(), colon })
    }

    fn name(&self) -> &[u8] {
        &self.text.expose_secret()[..self.colon]
    }

    fn password(&self) -> &[u8] {
        &self.text.expose_secret()[self.colon + 1..]
    }
}

/// A hash in the one form that is compared; `None` if it is none of bcrypt.
fn canonical(hash: &str) -> Option<String> {
    if hash.len() != 60 || !hash.is_ascii() {
        return None;
    }
    let (head, text) = hash.split_at(7);
    let (salt, digest) = text.split_at(22);
    let text = |part: &str| Some(BCRYPT_TEXT.encode(BCRYPT_TEXT.decode(part).ok()?));
    let hash = format!("{head}{}{}", text(salt)?, text(digest)?);
    let parts: HashParts = hash.parse().ok()?;
    (4..=31).contains(&parts.get_cost()).then_some(hash)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use hyper::header::HeaderValue;

    use super::super::section::Problems;
    use super::super::yaml;
    use super::*;

    /// Users called `a`, `b` and so on with the passwords given.
    fn users(passwords: &[&str]) -> Users {
        let lines = ('a'..).zip(passwords).map(|(name, password)| {
            let hash = bcrypt::hash(password, 4).unwrap();
            format!("{name}: {hash}\n")
        });
        let (tree, problems) = (yaml::parse(&lines.collect::<String>()), Problems::default());
        Users::read(&Section::root(&tree.unwrap(), &problems, &["a", "b", "c"])).unwrap()
    }

    fn header(credentials: &str) -> HeaderMap {
        let value = format!("Basic {}", BASE64_STANDARD.encode(credentials));
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&value).unwrap())])
    }

    #[tokio::test]
    async fn the_password_of_the_compared_hash_lets_no_unknown_user_in() {
        let users = users(&["rabbit"]);
        assert_eq!(users.somebody(b"nobody"), &users.hashes["a"]);
        assert_eq!(users.admit(&header("nobody:rabbit")).await, Admission::Refused);
        assert_eq!(users.admit(&header("a:rabbit")).await, Admission::Admitted);
    }

    #[tokio::test]
    async fn outcomes_are_remembered_without_the_password() {
        let mut users = users(&["rabbit", "hole"]);
        assert_eq!(users.admit(&header("a:rabbit")).await, Admission::Admitted);
        assert_eq!(users.admit(&header("b:wrong")).await, Admission::Refused);
        // From now on nothing can be compared.
        users.hashes.values_mut().for_each(String::clear);
        assert_eq!(users.admit(&header("a:rabbit")).await, Admission::Admitted);
        assert_eq!(users.admit(&header("b:wrong")).await, Admission::Refused);
        assert_eq!(users.admit(&header("b:rabbit")).await, Admission::Refused);
        assert_eq!(users.admit(&header("b:hole")).await, Admission::Refused);
    }

    #[tokio::test]
    async fn wrong_passwords_neither_push_out_a_right_one_nor_grow() {
        let mut users = users(&["rabbit"]);
        assert_eq!(users.admit(&header("a:rabbit")).await, Admission::Admitted);
        for number in 0..2 * MOST_REFUSED {
            assert_eq!(users.admit(&header(&format!("a:{number}"))).await, Admission::Refused);
        }
        assert_eq!(users.known().refused.len(), MOST_REFUSED);
        users.hashes.values_mut().for_each(String::clear);
        assert_eq!(users.admit(&header("a:rabbit")).await, Admission::Admitted);
    }

    #[tokio::test]
    async fn a_crowd_does_not_wait_without_end_and_keeps_out_nobody_who_is_known() {
        let users = users(&["rabbit"]);
        assert_eq!(users.admit(&header("a:rabbit")).await, Admission::Admitted);
        let turn = users.turn.acquire().await.unwrap();
        let headers: Vec<_> = (0..MOST_WAITING).map(|number| header(&format!("a:{number}"))).collect();
        let mut crowd = Box::pin(join_all(headers.iter().map(|headers| users.admit(headers))));
        assert_eq!((&mut crowd).now_or_never(), None);
        assert_eq!(users.admit(&header("a:one-more")).await, Admission::Busy);
        assert_eq!(users.admit(&header("a:rabbit")).await, Admission::Admitted);
        drop(turn);
        assert_eq!(crowd.await, [Admission::Refused; MOST_WAITING]);
        assert_eq!(users.admit(&header("a:one-more")).await, Admission::Refused);
    }

    #[test]
    fn hashes_of_all_tools_are_read() {
        let text = "N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";
        for version in ["2a", "2b", "2y"] {
            assert!(canonical(&format!("${version}$10${text}")).is_some(), "{version}");
        }
        // Bits that are left over after the salt and after the digest.
        let sloppy = text.replacen("yeI", "yfI", 1).replace("hWy", "hWz");
        assert_eq!(canonical(&format!("$2a$10${sloppy}")), Some(format!("$2a$10${text}")));
        for bad in ["", "$2a$10$.", "$2a$99$", "$2c$10$", "$2a$1x$"] {
            assert_eq!(canonical(&format!("{bad}{text}")), None, "{bad}");
        }
    }
}
