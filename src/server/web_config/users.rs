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

/// Wrong passwords of a name that are remembered, so that a client that keeps sending one costs no bcrypt each time.
const MOST_REFUSED: usize = 64;
/// Checks of a name that may wait for their turn; each keeps a request in memory and takes some 50 ms. More would wait
/// longer than a scraper does.
const MOST_WAITING: usize = 16;
/// What the passwords of names that do not exist are compared with, at bcrypt's usual cost of 10. That it belongs to
/// some password does not matter: whoever has no account is refused.
const NOBODYS: &str = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";

/// Base64 as in bcrypt's text form. Tools differ in the bits that are left over; they do not count.
const BCRYPT_TEXT: GeneralPurpose =
    GeneralPurpose::new(&BCRYPT, NO_PAD.with_decode_allow_trailing_bits(true));

/// What is remembered of a name, a password and the hash it was compared with: their keyed hash. Without the key, which
/// exists in this process only and never leaves it, it tells nothing.
type Fingerprint = [u8; 32];

/// The users and what is known of their passwords.
pub(super) struct Users {
    accounts: BTreeMap<String, Account>,
    /// All names that do not exist.
    strangers: Arc<Lane>,
    key: [u8; 32],
    /// bcrypt uses a whole processor, so it runs once at a time, as in the official exporters.
    turn: Arc<Semaphore>,
}

struct Account {
    hash: String,
    lane: Arc<Lane>,
}

/// The checks of one name, which wait for each other before one of them waits for those of other names: a flood for
/// one name holds up another one by a single check.
struct Lane {
    turn: Semaphore,
    waiting: AtomicUsize,
    known: Mutex<Known>,
}

/// Outcomes of checks. Neither part can push out the other, nor grow.
#[derive(Default)]
struct Known {
    admitted: Option<Fingerprint>,
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
        let mut accounts = BTreeMap::new();
        for name in section.names() {
            let hash = section.text(name).unwrap_or_default();
            match canonical(hash) {
                Some(hash) => drop(accounts.insert(name.to_owned(), Account { hash, lane: Lane::new() })),
                None => section.problem(name, "must be a bcrypt hash, such as htpasswd -nBC 10 \"\" prints"),
            }
        }
        if accounts.is_empty() {
            return None;
        }
        let mut key = [0; 32];
        default_provider().secure_random.fill(&mut key).expect("the system has random numbers");
        Some(Self { accounts, strangers: Lane::new(), key, turn: Arc::new(Semaphore::new(1)) })
    }

    /// Takes over what is known and waits under the `old` configuration. An outcome is one of a name, a password and a
    /// hash, so that it counts for nothing once one of them is another.
    pub(super) fn inherit(&mut self, old: &Self) {
        for (name, account) in &mut self.accounts {
            if let Some(old) = old.accounts.get(name) {
                account.lane = Arc::clone(&old.lane);
            }
        }
        self.strangers = Arc::clone(&old.strangers);
        self.key = old.key;
        self.turn = Arc::clone(&old.turn);
    }

    /// Checks the header `Authorization`.
    pub(super) async fn admit(&self, headers: &HeaderMap) -> Admission {
        let Some(credentials) = Credentials::of(headers) else { return Admission::Refused };
        let account = str::from_utf8(credentials.name()).ok().and_then(|name| self.accounts.get(name));
        let (hash, lane) =
            account.map_or((NOBODYS, &self.strangers), |account| (account.hash.as_str(), &account.lane));
        let fingerprint = self.fingerprint(&[credentials.name(), credentials.password(), hash.as_bytes()]);
        if let Some(known) = lane.outcome(&fingerprint) {
            return known;
        }
        let Some(_waiting) = Waiting::new(&lane.waiting) else { return Admission::Busy };
        let _first = lane.turn.acquire().await.expect("it is never closed");
        let turn = Arc::clone(&self.turn).acquire_owned().await.expect("it is never closed");
        // Several requests of one client may have waited.
        if let Some(known) = lane.outcome(&fingerprint) {
            return known;
        }
        let (exists, hash, lane) = (account.is_some(), hash.to_owned(), Arc::clone(lane));
        // What it finds is kept even if the client does not wait for it.
        let check = spawn_blocking(move || {
            let _turn = turn;
            let right = bcrypt::verify(credentials.password(), &hash).unwrap_or(false) && exists;
            lane.learn(fingerprint, right);
            right
        });
        if matches!(check.await, Ok(true)) { Admission::Admitted } else { Admission::Refused }
    }

    fn fingerprint(&self, parts: &[&[u8]]) -> Fingerprint {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        for part in parts {
            mac.update(&part.len().to_le_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl Lane {
    fn new() -> Arc<Self> {
        Arc::new(Self { turn: Semaphore::new(1), waiting: AtomicUsize::new(0), known: Mutex::default() })
    }

    fn outcome(&self, fingerprint: &Fingerprint) -> Option<Admission> {
        let known = self.known();
        if known.admitted.as_ref() == Some(fingerprint) {
            return Some(Admission::Admitted);
        }
        known.refused.contains(fingerprint).then_some(Admission::Refused)
    }

    fn learn(&self, fingerprint: Fingerprint, right: bool) {
        let mut known = self.known();
        if right {
            known.admitted = Some(fingerprint);
        } else {
            known.refused.truncate(MOST_REFUSED - 1);
            known.refused.push_front(fingerprint);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing under the lock can leave a half-made value behind.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
    use std::pin::pin;

    use futures_util::future::join_all;
    use futures_util::stream::FuturesUnordered;
    use futures_util::{FutureExt as _, StreamExt as _};
    use hyper::header::HeaderValue;

    use super::super::section::Problems;
    use super::super::yaml;
    use super::*;

    /// Users called `a`, `b` and so on with the passwords given.
    fn users(passwords: &[&str]) -> Users {
        let hashes: Vec<_> = passwords.iter().map(|password| bcrypt::hash(password, 4).unwrap()).collect();
        with_hashes(&hashes)
    }

    fn with_hashes(hashes: &[String]) -> Users {
        let lines: Vec<_> = ('a'..).zip(hashes).map(|(name, hash)| format!("{name}: {hash}")).collect();
        let (tree, problems) = (yaml::parse(&lines.join("\n")), Problems::default());
        Users::read(&Section::root(&tree.unwrap(), &problems, &["a", "b", "c"])).unwrap()
    }

    fn hashes(users: &Users) -> Vec<String> {
        users.accounts.values().map(|account| account.hash.clone()).collect()
    }

    fn header(credentials: &str) -> HeaderMap {
        let value = format!("Basic {}", BASE64_STANDARD.encode(credentials));
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&value).unwrap())])
    }

    /// What is answered from memory; `None` if bcrypt would have to be asked.
    async fn remembered(users: &Users, credentials: &str) -> Option<Admission> {
        let _nobody_else = users.turn.acquire().await.unwrap();
        users.admit(&header(credentials)).now_or_never()
    }

    #[tokio::test]
    async fn names_that_do_not_exist_cost_the_usual_time_and_are_refused_whatever_the_password() {
        assert_eq!(NOBODYS.parse::<HashParts>().unwrap().get_cost(), 10);
        let mut users = users(&["rabbit"]);
        // Were its hash the one that is compared, the password would be right.
        users.accounts.get_mut("a").unwrap().hash.clear();
        assert_eq!(users.admit(&header("nobody:rabbit")).await, Admission::Refused);
        assert_eq!(users.strangers.known().refused.len(), 1);
        // Not even with the password that the hash was made of.
        let fingerprint = users.fingerprint(&[b"nobody", b"right", NOBODYS.as_bytes()]);
        users.strangers.learn(fingerprint, false);
        assert_eq!(remembered(&users, "nobody:right").await, Some(Admission::Refused));
    }

    #[tokio::test]
    async fn outcomes_are_remembered_without_the_password() {
        let users = users(&["rabbit", "hole"]);
        assert_eq!(users.admit(&header("a:rabbit")).await, Admission::Admitted);
        assert_eq!(users.admit(&header("b:wrong")).await, Admission::Refused);
        assert_eq!(remembered(&users, "a:rabbit").await, Some(Admission::Admitted));
        assert_eq!(remembered(&users, "b:wrong").await, Some(Admission::Refused));
        assert_eq!(remembered(&users, "b:rabbit").await, None);
        assert_eq!(remembered(&users, "b:hole").await, None);
    }

    #[tokio::test]
    async fn what_is_known_outlives_a_re_read_as_far_as_the_hashes_do() {
        let old = users(&["rabbit", "hole"]);
        for (credentials, outcome) in [
            ("a:rabbit", Admission::Admitted),
            ("a:wrong", Admission::Refused),
            ("b:hole", Admission::Admitted),
            ("b:tea", Admission::Refused),
        ] {
            assert_eq!(old.admit(&header(credentials)).await, outcome, "{credentials}");
        }
        let mut new = with_hashes(&[hashes(&old)[0].clone(), bcrypt::hash("tea", 4).unwrap()]);
        new.inherit(&old);
        assert_eq!(remembered(&new, "a:rabbit").await, Some(Admission::Admitted));
        assert_eq!(remembered(&new, "a:wrong").await, Some(Admission::Refused));
        // The other one has another password now: the old one is no longer right, and the new one no longer wrong.
        assert_eq!(new.admit(&header("b:hole")).await, Admission::Refused);
        assert_eq!(new.admit(&header("b:tea")).await, Admission::Admitted);
        // One user fewer is a revocation.
        let mut fewer = with_hashes(&hashes(&new)[..1]);
        fewer.inherit(&new);
        assert_eq!(fewer.admit(&header("b:tea")).await, Admission::Refused);
    }

    #[tokio::test]
    async fn wrong_passwords_neither_push_out_a_right_one_nor_grow() {
        let users = users(&["rabbit"]);
        assert_eq!(users.admit(&header("a:rabbit")).await, Admission::Admitted);
        for number in 0..2 * MOST_REFUSED {
            assert_eq!(users.admit(&header(&format!("a:{number}"))).await, Admission::Refused);
        }
        assert_eq!(users.accounts["a"].lane.known().refused.len(), MOST_REFUSED);
        assert_eq!(remembered(&users, "a:rabbit").await, Some(Admission::Admitted));
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

    #[tokio::test]
    async fn a_crowd_for_some_names_holds_up_another_one_by_a_check_of_each() {
        let users = users(&["rabbit", "hole"]);
        let turn = users.turn.acquire().await.unwrap();
        let crowd = |name| (0..MOST_WAITING).map(move |number| header(&format!("{name}:{number}")));
        let headers: Vec<_> = crowd("a").chain(crowd("nobody")).collect();
        let mut waiting: FuturesUnordered<_> = headers.iter().map(|headers| users.admit(headers)).collect();
        assert!(waiting.next().now_or_never().is_none());
        let right = header("b:hole");
        let mut right = pin!(users.admit(&right));
        assert_eq!(right.as_mut().now_or_never(), None);
        drop(turn);
        let mut before = 0;
        let admission = loop {
            tokio::select! {
                biased;
                admission = &mut right => break admission,
                Some(_) = waiting.next() => before += 1,
            }
        };
        assert_eq!(admission, Admission::Admitted);
        // One of each, and what ran between its end and its news; in one line it would be all of them.
        assert!(before < MOST_WAITING, "{before}");
    }

    #[tokio::test]
    async fn crowds_of_many_re_reads_do_not_add_up() {
        let mut users = users(&["rabbit"]);
        let turn = Arc::clone(&users.turn).acquire_owned().await.unwrap();
        let headers: Vec<_> = (0..MOST_WAITING).map(|number| header(&format!("a:{number}"))).collect();
        let old = Users { turn: Arc::clone(&users.turn), ..with_hashes(&hashes(&users)) };
        let mut crowd = Box::pin(join_all(headers.iter().map(|headers| old.admit(headers))));
        assert_eq!((&mut crowd).now_or_never(), None);
        users.inherit(&old);
        assert_eq!(users.admit(&header("a:one-more")).await, Admission::Busy);
        drop(turn);
        assert_eq!(crowd.await, [Admission::Refused; MOST_WAITING]);
    }

    #[tokio::test]
    async fn what_a_check_finds_is_kept_though_its_client_has_gone() {
        let users = users(&["rabbit"]);
        let turn = users.turn.acquire().await.unwrap();
        let headers = header("a:rabbit");
        let mut request = Box::pin(users.admit(&headers));
        assert_eq!((&mut request).now_or_never(), None);
        drop(turn);
        // The check begins, and the client leaves, unless the check is over already.
        let _ = (&mut request).now_or_never();
        drop(request);
        assert_eq!(remembered(&users, "a:rabbit").await, Some(Admission::Admitted));
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
