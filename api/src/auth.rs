//! Who is asking: one client key guards the API.
//!
//! Compares digests, so neither the content nor the length of the key shows in the time it takes.

use axum::http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokenhub_domain::{ApiKeyId, PrincipalId, TenantId};

use crate::error::Problem;

const FINGERPRINT_BYTES: usize = 8;

/// The key that clients must send.
#[derive(Clone)]
pub(crate) struct ClientKey {
    digest: [u8; 32],
    principal: PrincipalId,
    api_key_id: ApiKeyId,
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
}

impl ClientKey {
    /// Keeps the digest of `key`, not the key.
    pub(crate) fn new(key: &SecretString) -> Self {
        let digest: [u8; 32] = Sha256::digest(key.expose_secret().as_bytes()).into();
        let fingerprint = hex(&digest[..FINGERPRINT_BYTES]);
        Self {
            digest,
            principal: PrincipalId::new(format!("client_{fingerprint}")),
            api_key_id: ApiKeyId::new(format!("key_{fingerprint}")),
        }
    }

    /// The caller behind `headers`: `Authorization: Bearer` first, `x-api-key` otherwise.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let presented = presented_key(headers).ok_or(Problem::Unauthorized)?;
        if self.is_text(presented) {
            Ok(Caller {
                tenant: TenantId::default_tenant(),
                principal: self.principal.clone(),
                api_key_id: self.api_key_id.clone(),
            })
        } else {
            Err(Problem::Unauthorized)
        }
    }

    /// Whether this is the key.
    pub(crate) fn is(&self, key: &SecretString) -> bool {
        self.is_text(key.expose_secret())
    }

    /// A text that only the key leads to, another for each `purpose`.
    pub(crate) fn derived(&self, purpose: &str) -> String {
        hex(&Sha256::new().chain_update(self.digest).chain_update(purpose.as_bytes()).finalize())
    }

    fn is_text(&self, presented: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
        bool::from(digest.ct_eq(&self.digest))
    }
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

    #[test]
    fn both_header_forms_open_and_nothing_else_does() {
        let key = ClientKey::new(&SecretString::from("sk-right"));
        assert!(key.authenticate(&with("authorization", "Bearer sk-right")).is_ok());
        assert!(key.authenticate(&with("authorization", "bearer  sk-right")).is_ok());
        assert!(key.authenticate(&with("x-api-key", "sk-right")).is_ok());
        for (name, value) in [
            ("authorization", "Bearer sk-wrong"),
            ("authorization", "Basic sk-right"),
            ("authorization", "sk-right"),
            ("x-api-key", ""),
            ("x-api-key", "sk-right2"),
        ] {
            assert!(matches!(key.authenticate(&with(name, value)), Err(Problem::Unauthorized)), "{name}: {value}");
        }
        assert!(key.authenticate(&HeaderMap::new()).is_err());
    }

    #[test]
    fn the_principal_names_the_key_without_showing_it() {
        let key = ClientKey::new(&SecretString::from("sk-right"));
        let caller = key.authenticate(&with("x-api-key", "sk-right")).unwrap();
        assert!(!caller.principal.as_str().contains("right"));
        assert_ne!(caller.principal, ClientKey::new(&SecretString::from("sk-other")).principal);
    }
}
