//! Idempotency keys: which requests are the same one.
//!
//! The scope is principal, method and path; the body's hash tells a repetition from a misuse. What happens with a
//! repetition is the dispatcher's business.

use axum::http::HeaderMap;
use sha2::{Digest, Sha256};
use tokenhub_domain::{PrincipalId, limits};

use crate::{auth::hex, error::Problem};

const NAMES: [&str; 2] = ["idempotency-key", "x-idempotency-key"];
const SHOWN: &str = "Idempotency-Key";

/// A request that says which one it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Hash of principal, method, path and key, in hex.
    pub(crate) scope_hash: String,
    /// Hash of the body, in hex.
    pub(crate) body_hash: String,
}

/// The value of the header, bare or quoted.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let refuse = |reason: &str| Problem::InvalidHeader { header: SHOWN, reason: reason.to_owned() };
    let Some(value) = NAMES.iter().find_map(|name| headers.get(*name)) else { return Ok(None) };
    let text = value.to_str().map_err(|_| refuse("must be printable ASCII"))?.trim();
    let key = text.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(text);
    if key.is_empty() {
        return Err(refuse("must not be empty"));
    }
    if key.len() > limits::IDEMPOTENCY_KEY_BYTES {
        return Err(refuse(&format!("must not be longer than {} characters", limits::IDEMPOTENCY_KEY_BYTES)));
    }
    Ok(Some(key.to_owned()))
}

/// A stream cannot be replayed, so its key is refused instead of being ignored.
pub(crate) fn refuse_for_stream(headers: &HeaderMap) -> Result<(), Problem> {
    match key(headers)? {
        None => Ok(()),
        Some(_) => Err(Problem::InvalidHeader {
            header: SHOWN,
            reason: "a streamed answer cannot be replayed; leave the key out or the stream".to_owned(),
        }),
    }
}

impl Identity {
    /// The identity of a request.
    pub(crate) fn of(principal: &PrincipalId, method: &str, path: &str, key: &str, body: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        for part in [principal.as_str(), method, path, key] {
            // Length first, so that no two lists of parts read alike.
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        Self { scope_hash: hex(&hasher.finalize()), body_hash: hex(&Sha256::digest(body)) }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn the_key_is_read_bare_or_quoted_under_both_names() {
        assert_eq!(key(&HeaderMap::new()).unwrap(), None);
        assert_eq!(key(&with("idempotency-key", "abc")).unwrap().as_deref(), Some("abc"));
        assert_eq!(key(&with("idempotency-key", "\"abc\"")).unwrap().as_deref(), Some("abc"));
        assert_eq!(key(&with("x-idempotency-key", "abc")).unwrap().as_deref(), Some("abc"));
        assert!(key(&with("idempotency-key", "\"\"")).is_err());
        assert!(key(&with("idempotency-key", &"k".repeat(255))).is_ok());
        assert!(key(&with("idempotency-key", &"k".repeat(256))).is_err());
        assert!(refuse_for_stream(&with("idempotency-key", "abc")).is_err());
    }

    #[test]
    fn each_part_of_the_scope_counts_and_the_body_does_not_belong_to_it() {
        let base = Identity::of(&"p".into(), "POST", "/v1/plan", "k", b"1");
        let other_body = Identity::of(&"p".into(), "POST", "/v1/plan", "k", b"2");
        assert_eq!(base.scope_hash, other_body.scope_hash);
        assert_ne!(base.body_hash, other_body.body_hash);
        for other in [
            Identity::of(&"q".into(), "POST", "/v1/plan", "k", b"1"),
            Identity::of(&"p".into(), "PUT", "/v1/plan", "k", b"1"),
            Identity::of(&"p".into(), "POST", "/v1/chat", "k", b"1"),
            Identity::of(&"p".into(), "POST", "/v1/plan", "j", b"1"),
            Identity::of(&"pP".into(), "OST", "/v1/plan", "k", b"1"),
        ] {
            assert_ne!(base.scope_hash, other.scope_hash);
        }
    }
}
