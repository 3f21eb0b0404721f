//! What the simulated clouds hold and how they behave: plain data that a test edits.

mod ncr;
mod services;
mod swr;
mod uniform;

pub use ncr::{Image, ImageTag, Ncr, Platform, Registry};
pub(super) use services::Owner;
pub use services::{KeyServices, Sessions, WebToken};
pub use swr::{Manifest, Repository, Swr, Tag};

use super::call::Call;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// The made-up accounts of every world; they open nothing but a simulator.
pub mod keys {
    /// Access key of the simulated SWR.
    pub const SWR_ACCESS_KEY: &str = "MADEUPSWRACCESSKEY01";
    /// Its secret key.
    pub const SWR_SECRET_KEY: &str = "made-up-swr-secret-key-for-the-simulator";
    /// The account that owns the IAM user.
    pub const IAM_ACCOUNT: &str = "made-up-account";
    /// The IAM user.
    pub const IAM_USER: &str = "made-up-user";
    /// Its password.
    pub const IAM_PASSWORD: &str = "made-up-password";
    /// The project of the simulated region.
    pub const PROJECT_ID: &str = "00000000000000000000000000madeup";
    /// The simulated region, and the name of its project.
    pub const REGION: &str = "cn-north-4";
    /// Access key of the simulated NCR.
    pub const NCR_ACCESS_KEY: &str = "MADEUPNCRACCESSKEY01";
    /// Its secret key.
    pub const NCR_SECRET_KEY: &str = "made-up-ncr-secret-key-for-the-simulator";
}

/// Changes to the fields of one row as it goes over the wire: a value replaces or adds the field, `None` leaves it
/// out.
pub type Overrides = BTreeMap<String, Option<Value>>;

/// How a server answers a page beyond the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastTheEnd {
    /// 200 without rows.
    EmptyPage,
    /// This status.
    Status(u16),
}

/// Everything that the simulated services know.
#[derive(Clone)]
pub struct World {
    /// Huawei Cloud SWR.
    pub swr: Swr,
    /// Huawei Cloud IAM; SWR asks it for tokens and projects.
    pub iam: Iam,
    /// NAVER Cloud Platform Container Registry.
    pub ncr: Ncr,
    /// What hands out temporary keys in both clouds.
    pub services: KeyServices,
    /// How far the clouds' clock is ahead of this machine's: it makes the `Date` headers and judges signatures.
    pub clock_offset: SignedDuration,
    /// How long every answer takes.
    pub latency: Duration,
    /// How long answers to single calls take, instead of `latency`.
    pub latency_of: BTreeMap<Call, Duration>,
    /// Whether answers are compressed for callers that accept gzip.
    pub gzip: bool,
    /// How many exchanges the log keeps; the oldest go first, 0 switches it off.
    pub log_limit: usize,
    /// When this world began: the demo's dates count from here.
    pub started: SystemTime,
}

impl World {
    /// Clouds without content in which the made-up accounts of [`keys`] exist.
    pub fn empty() -> Self {
        Self {
            swr: Swr::empty(),
            iam: Iam::empty(),
            ncr: Ncr::empty(),
            services: KeyServices::new(),
            clock_offset: SignedDuration::ZERO,
            latency: Duration::ZERO,
            latency_of: BTreeMap::new(),
            gzip: true,
            log_limit: 10_000,
            started: SystemTime::UNIX_EPOCH,
        }
    }

    /// The time on the clouds' clock.
    pub fn now(&self) -> Timestamp {
        Timestamp::now() + self.clock_offset
    }
}

/// A pair of keys that may call SWR or NCR, and how it fared.
#[derive(Clone)]
pub struct AccessKey {
    /// Its public half.
    pub access_key: String,
    /// Its secret half.
    pub secret_key: String,
    /// Temporary Huawei keys are refused without this token (`X-Security-Token`).
    pub security_token: Option<String>,
    /// Temporary keys are refused from then on.
    pub expires_at: Option<Timestamp>,
    /// The key is right but may not do anything.
    pub lacks_permission: bool,
    /// How many calls with this key were refused so far, those during a lock included.
    pub refused_calls: u64,
    /// How many of the latest calls in a row were refused; the fifth locks a Huawei key.
    pub refused_in_a_row: u32,
    /// Until when a Huawei key is locked: every call is refused, rightly signed or not.
    pub locked_until: Option<Timestamp>,
}

impl AccessKey {
    /// A permanent key without history.
    pub fn new(access_key: &str, secret_key: &str) -> Self {
        Self {
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            security_token: None,
            expires_at: None,
            lacks_permission: false,
            refused_calls: 0,
            refused_in_a_row: 0,
            locked_until: None,
        }
    }
}

/// The simulated IAM: users, projects and the tokens given out.
#[derive(Clone)]
pub struct Iam {
    /// Who may ask for a token.
    pub users: Vec<IamUser>,
    /// The projects a token may be scoped to.
    pub projects: Vec<Project>,
    /// Tokens that SWR accepts; a test may add its own.
    pub tokens: Vec<IamToken>,
    /// How long a new token lives; 24 hours at the real service.
    pub token_lifetime: Duration,
    /// Length of a new token in bytes; the documented samples are 5 to 9 KB.
    pub token_bytes: usize,
}

impl Iam {
    fn empty() -> Self {
        Self {
            users: vec![IamUser {
                account: keys::IAM_ACCOUNT.to_owned(),
                name: keys::IAM_USER.to_owned(),
                password: keys::IAM_PASSWORD.to_owned(),
                lacks_permission: false,
                refused_calls: 0,
            }],
            projects: vec![Project { id: keys::PROJECT_ID.to_owned(), name: keys::REGION.to_owned() }],
            tokens: Vec::new(),
            token_lifetime: Duration::from_hours(24),
            token_bytes: 7 * 1024,
        }
    }
}

/// An IAM user with programmatic access.
#[derive(Clone)]
pub struct IamUser {
    /// The account (domain) it belongs to.
    pub account: String,
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
    /// It gets tokens, but SWR refuses them with 403.
    pub lacks_permission: bool,
    /// How many wrong passwords were given for it.
    pub refused_calls: u64,
}

/// A project; one whose name is a region, or begins with the region and `_`, belongs to that region.
#[derive(Clone)]
pub struct Project {
    /// What `X-Project-Id` and the scope of a token name.
    pub id: String,
    /// Usually the region.
    pub name: String,
}

/// A token that was given out.
#[derive(Clone)]
pub struct IamToken {
    /// What `X-Auth-Token` carries.
    pub value: String,
    /// SWR refuses it from then on.
    pub expires_at: Timestamp,
    /// The project it is scoped to; a token of the whole account has none and SWR refuses it.
    pub project_id: Option<String>,
    /// It is right but may not do anything.
    pub lacks_permission: bool,
}
