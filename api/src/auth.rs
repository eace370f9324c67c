//! Who is asking: client keys guard the API, and each is of one tenant.
//!
//! Compares digests, and with every key whichever it is, so neither the content nor the length of a key shows in the time
//! it takes, nor which of them somebody is near to.

use axum::http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokenhub_config::{ClientKey, ClientKeys};
use tokenhub_domain::{ApiKeyId, PrincipalId, Share, TenantId};

use crate::error::Problem;

const FINGERPRINT_BYTES: usize = 8;

/// A secret that callers must show, of which only the digest is kept.
#[derive(Clone)]
pub(crate) struct Secret {
    digest: [u8; 32],
}

/// A caller that has shown its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Whose data it sees.
    pub(crate) tenant: TenantId,
    /// Who it is.
    pub(crate) principal: PrincipalId,
    /// With which key.
    pub(crate) api_key_id: ApiKeyId,
    /// The place of its runs among others.
    pub(crate) share: Share,
    /// Runs of its tenant that may be unfinished when it begins another one.
    pub(crate) unfinished_runs_max: Option<u64>,
}

impl Secret {
    /// Keeps the digest of `text`, not the text.
    pub(crate) fn new(text: &SecretString) -> Self {
        Self { digest: digest_of(text.expose_secret()) }
    }

    /// Whether `headers` show it.
    pub(crate) fn is_shown(&self, headers: &HeaderMap) -> bool {
        presented_key(headers).is_some_and(|presented| self.is_digest(&digest_of(presented)))
    }

    /// Whether this is the secret.
    pub(crate) fn is(&self, text: &SecretString) -> bool {
        self.is_digest(&digest_of(text.expose_secret()))
    }

    /// A text that only the secret leads to, another for each `purpose`.
    pub(crate) fn derived(&self, purpose: &str) -> String {
        hex(&Sha256::new().chain_update(self.digest).chain_update(purpose.as_bytes()).finalize())
    }

    fn is_digest(&self, digest: &[u8; 32]) -> bool {
        bool::from(digest.ct_eq(&self.digest))
    }
}

/// The keys that let clients in, each with its caller.
pub(crate) struct Gatekeeper(Vec<(Secret, Caller)>);

/// Two names for one key: nobody could tell whose request it is.
#[derive(Debug, thiserror::Error)]
#[error("the client key `{0}` is the one of the data directory")]
pub(crate) struct SameKey(String);

impl Gatekeeper {
    /// Lets in whoever shows `own`, the key of every installation, or one of `further`.
    pub(crate) fn new(own: &SecretString, further: &ClientKeys) -> Result<Self, SameKey> {
        let own = Secret::new(own);
        if let Some(same) = further.iter().find(|key| own.is_digest(&key.digest)) {
            return Err(SameKey(same.name.clone()));
        }
        let fingerprint = fingerprint_of(&own.digest);
        let first = Caller {
            tenant: TenantId::default_tenant(),
            principal: PrincipalId::new(format!("client_{fingerprint}")),
            api_key_id: ApiKeyId::new(format!("key_{fingerprint}")),
            share: Share::default(),
            unfinished_runs_max: None,
        };
        let further = further.iter().map(|key| (Secret { digest: key.digest }, caller_of(key)));
        Ok(Self(std::iter::once((own, first)).chain(further).collect()))
    }

    /// The caller behind `headers`: `Authorization: Bearer` first, `x-api-key` otherwise.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let presented = digest_of(presented_key(headers).ok_or(Problem::Unauthorized)?);
        let mut found = None;
        for (secret, caller) in &self.0 {
            if secret.is_digest(&presented) {
                found = Some(caller);
            }
        }
        found.cloned().ok_or(Problem::Unauthorized)
    }
}

/// Its name stays when the key is replaced, and with it what belongs to whoever asks.
fn caller_of(key: &ClientKey) -> Caller {
    Caller {
        tenant: key.tenant.clone(),
        principal: PrincipalId::new(format!("client:{}", key.name)),
        api_key_id: ApiKeyId::new(format!("key_{}", fingerprint_of(&key.digest))),
        share: key.share,
        unfinished_runs_max: key.unfinished_runs_max,
    }
}

fn digest_of(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn fingerprint_of(digest: &[u8; 32]) -> String {
    hex(&digest[..FINGERPRINT_BYTES])
}

fn presented_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| headers.get("x-api-key").and_then(|value| value.to_str().ok())).filter(|key| !key.is_empty())
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn with(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    fn gate(own: &str) -> Gatekeeper {
        Gatekeeper::new(&SecretString::from(own), &ClientKeys::default()).unwrap()
    }

    #[test]
    fn both_header_forms_open_and_nothing_else_does() {
        let gate = gate("sk-right");
        assert!(gate.authenticate(&with("authorization", "Bearer sk-right")).is_ok());
        assert!(gate.authenticate(&with("authorization", "bearer  sk-right")).is_ok());
        assert!(gate.authenticate(&with("x-api-key", "sk-right")).is_ok());
        for (name, value) in [
            ("authorization", "Bearer sk-wrong"),
            ("authorization", "Basic sk-right"),
            ("authorization", "sk-right"),
            ("x-api-key", ""),
            ("x-api-key", "sk-right2"),
        ] {
            assert!(matches!(gate.authenticate(&with(name, value)), Err(Problem::Unauthorized)), "{name}: {value}");
        }
        assert!(gate.authenticate(&HeaderMap::new()).is_err());
    }

    #[test]
    fn the_principal_names_the_key_without_showing_it() {
        let shown = with("x-api-key", "sk-right");
        let caller = gate("sk-right").authenticate(&shown).unwrap();
        assert!(!caller.principal.as_str().contains("right") && caller.tenant == TenantId::default_tenant());
        let other = gate("sk-other").authenticate(&with("x-api-key", "sk-other")).unwrap();
        assert_ne!(caller.principal, other.principal);
    }
}
