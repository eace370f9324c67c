//! Signatures and encrypted reasoning on their way through a client of another protocol.
//!
//! They are opaque and valid only at their issuer, so towards a client they carry the issuer's mark. When they come back,
//! the mark decides: the same issuer gets its bytes unchanged, any other gets nothing. The mark is a hash, so that a client
//! is not told which provider answers.

use super::Issuer;
use super::ids::hash_digits;

/// Every tunnelled value begins with it; nothing that an upstream issues does.
pub const TUNNEL_PREFIX: &str = "tokenhub-r1.";
/// Hex digits of the issuer's mark.
const ISSUER_DIGITS: usize = 16;

/// An opaque piece of reasoning, as its issuer gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opaque {
    /// The signature of a thinking block, or a Responses item's encrypted content.
    Signature(String),
    /// The data of a redacted thinking block.
    Redacted(String),
}

/// The tunnelled form of `opaque`.
pub fn wrap(issuer: &Issuer, opaque: &Opaque) -> String {
    let (kind, raw) = match opaque {
        Opaque::Signature(raw) => ('s', raw),
        Opaque::Redacted(raw) => ('d', raw),
    };
    format!("{TUNNEL_PREFIX}{}.{kind}.{raw}", mark(issuer))
}

/// What `target` issued; `None` when it is another's, or was never tunnelled.
pub fn unwrap(target: &Issuer, tunnelled: &str) -> Option<Opaque> {
    let rest = tunnelled.strip_prefix(TUNNEL_PREFIX)?.strip_prefix(mark(target).as_str())?;
    let signature = rest.strip_prefix(".s.").map(|raw| Opaque::Signature(raw.to_owned()));
    signature.or_else(|| rest.strip_prefix(".d.").map(|raw| Opaque::Redacted(raw.to_owned())))
}

/// The tunnelled form of a signature or of encrypted content.
pub fn wrap_signature(issuer: &Issuer, raw: &str) -> String {
    wrap(issuer, &Opaque::Signature(raw.to_owned()))
}

/// The signature that `target` issued; `None` when it is another's, was never tunnelled, or is redacted data.
pub fn unwrap_signature(target: &Issuer, tunnelled: &str) -> Option<String> {
    match unwrap(target, tunnelled)? {
        Opaque::Signature(raw) => Some(raw),
        Opaque::Redacted(_) => None,
    }
}

fn mark(issuer: &Issuer) -> String {
    hash_digits(&format!("{}\n{}", issuer.provider, issuer.model), ISSUER_DIGITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(provider: &str, model: &str) -> Issuer {
        Issuer { provider: provider.into(), model: model.into() }
    }

    #[test]
    fn only_the_issuer_gets_its_reasoning_back_and_unchanged() {
        let tunnelled = wrap_signature(&issuer("p", "m"), "EqQB+/=.s.x");
        assert_eq!(unwrap_signature(&issuer("p", "m"), &tunnelled).as_deref(), Some("EqQB+/=.s.x"));
        assert_eq!(unwrap_signature(&issuer("q", "m"), &tunnelled), None);
        assert_eq!(unwrap_signature(&issuer("p", "n"), &tunnelled), None);
        assert_eq!(unwrap_signature(&issuer("p", "m"), "EqQB+/=.s.x"), None);
        assert!(!tunnelled.contains("p\nm"));
    }

    #[test]
    fn redacted_data_is_no_signature() {
        let target = issuer("p", "m");
        let tunnelled = wrap(&target, &Opaque::Redacted("zzz".to_owned()));
        assert_eq!(unwrap(&target, &tunnelled), Some(Opaque::Redacted("zzz".to_owned())));
        assert_eq!(unwrap_signature(&target, &tunnelled), None);
    }
}
