//! Who may look after the installation: one admin token guards the admin routes.
//!
//! Kept apart from the client key: a client's key opens no admin route, and the admin token answers no prompt.

use axum::http::HeaderMap;
use secrecy::SecretString;
use subtle::ConstantTimeEq;

use crate::{auth::Secret, error::Problem};

/// The token that administrators must send, in the same headers as a client its key.
pub(crate) struct AdminToken(Secret);

impl AdminToken {
    /// Keeps the digest of `token`, not the token.
    pub(crate) fn new(token: &SecretString) -> Self {
        Self(Secret::new(token))
    }

    /// Refuses whoever does not show it.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if self.0.is_shown(headers) { Ok(()) } else { Err(Problem::NotAdmin) }
    }

    /// Whether this is the token.
    pub(crate) fn is(&self, token: &SecretString) -> bool {
        self.0.is(token)
    }

    /// What only who has shown the token can have, for one `purpose`; it tells nothing of the token and ends with it.
    pub(crate) fn proof_for(&self, purpose: &str) -> String {
        self.0.derived(purpose)
    }

    /// Whether somebody has it.
    pub(crate) fn is_proof_for(&self, purpose: &str, proof: &str) -> bool {
        bool::from(self.proof_for(purpose).as_bytes().ct_eq(proof.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_for_one_purpose_and_one_token() {
        let token = AdminToken::new(&SecretString::from("the-token"));
        let proof = token.proof_for("codec");
        assert!(token.is_proof_for("codec", &proof) && !proof.contains("the-token"));
        assert!(!token.is_proof_for("other", &proof) && !token.is_proof_for("codec", ""));
        assert!(!AdminToken::new(&SecretString::from("another")).is_proof_for("codec", &proof));
        assert!(token.is(&SecretString::from("the-token")) && !token.is(&SecretString::from("another")));
    }
}
