//! What hands out temporary keys: metadata services, the agent of pod identity, IAM and STS for web tokens.

use super::{AccessKey, World};
use crate::simulator::made_up::{hash, mix};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// The services that hand out keys, and what they demand.
#[derive(Clone)]
pub struct KeyServices {
    /// Whether the metadata services of both clouds want session tokens.
    pub sessions: Sessions,
    /// The server has an agency; else Huawei's metadata service has no key.
    pub agency: bool,
    /// The id of the server's role at NAVER; without one its metadata service has no key.
    pub role: Option<String>,
    /// The pod's service account is associated with an agency.
    pub pod_associated: bool,
    /// The web tokens that the agent, IAM and STS accept.
    pub web_tokens: Vec<WebToken>,
    /// The name of the identity provider in IAM.
    pub identity_provider: String,
    /// The OIDC provider that the agency trusts.
    pub provider_urn: String,
    /// The agency that trusts it.
    pub agency_urn: String,
    /// How long a key lives.
    pub key_lifetime: Duration,
    /// Metadata services hand out one key until this much of its life is left; the others always make a new one.
    pub same_key_until: Duration,
    /// The keys are of no use: the APIs do not know them.
    pub bad_keys: bool,
    /// The keys handed out, with their ends; the last one is the newest.
    pub handed_out: Vec<(AccessKey, Timestamp)>,
    pub(in crate::simulator) session_tokens: Vec<String>,
    pub(in crate::simulator) unscoped_tokens: Vec<String>,
}

/// What a metadata service says to a request for a session token, and to one without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// A request without a token of a session is refused.
    Required,
    /// Tokens are made but not needed.
    Optional,
    /// There are none: the request for one is answered with this status.
    Unknown(u16),
}

/// A web token (JWT) that somebody accepts.
#[derive(Clone)]
pub struct WebToken {
    /// The token.
    pub value: String,
    /// It is refused from then on.
    pub expires_at: Timestamp,
}

impl KeyServices {
    pub(super) fn new() -> Self {
        Self {
            sessions: Sessions::Required,
            agency: true,
            role: Some("5c2f0e9a-made-up-role".to_owned()),
            pod_associated: true,
            web_tokens: Vec::new(),
            identity_provider: "made-up-idp".to_owned(),
            provider_urn: "iam::made-up:oidc-provider:cce".to_owned(),
            agency_urn: "iam::made-up:agency:swr-reader".to_owned(),
            key_lifetime: Duration::from_hours(24),
            same_key_until: Duration::from_hours(6),
            bad_keys: false,
            handed_out: Vec::new(),
            session_tokens: Vec::new(),
            unscoped_tokens: Vec::new(),
        }
    }
}

/// Whose key it is to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::simulator) enum Owner {
    Huawei,
    Naver,
}

impl World {
    /// Hands out a key that the API of `owner` accepts until its end; `again` allows one that was handed out before.
    pub(in crate::simulator) fn hand_out(
        &mut self,
        owner: Owner,
        lifetime: Duration,
        again: bool,
    ) -> (AccessKey, Timestamp) {
        let now = self.now();
        let services = &mut self.services;
        let rest = SignedDuration::try_from(services.same_key_until).unwrap_or(SignedDuration::MAX);
        let theirs =
            |(key, _): &&(AccessKey, Timestamp)| key.security_token.is_some() == (owner == Owner::Huawei);
        if let Some(last) = services.handed_out.iter().rfind(theirs)
            && again
            && last.1.duration_since(now) > rest
        {
            return last.clone();
        }
        let seed = hash("temporary key") ^ services.handed_out.len() as u64;
        let text = |part: u64| format!("{:016X}{:016x}", mix(seed ^ part), mix(seed ^ (part << 8)));
        let mut key = AccessKey::new(&text(1)[..20], &format!("made-up/{}", text(2)));
        if owner == Owner::Huawei {
            key.security_token = Some(format!("gQpjbi1ub3J0aC00{}", text(3).repeat(20)));
        }
        let lifetime = SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::MAX);
        let end = now.saturating_add(lifetime).unwrap_or(Timestamp::MAX);
        key.expires_at = Some(end);
        services.handed_out.push((key.clone(), end));
        if !services.bad_keys {
            match owner {
                Owner::Huawei => self.swr.access_keys.push(key.clone()),
                Owner::Naver => self.ncr.access_keys.push(key.clone()),
            }
        }
        (key, end)
    }

    /// Whether a web token is accepted now.
    pub(in crate::simulator) fn accepts(&self, token: &str) -> bool {
        let now = self.now();
        self.services.web_tokens.iter().any(|known| known.value == token && now < known.expires_at)
    }
}
