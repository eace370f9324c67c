//! Who may look after the installation: one admin token guards the admin routes.
//!
//! Kept apart from the client key: a client's key opens no admin route, and the admin token answers no prompt.

use axum::http::HeaderMap;
use secrecy::SecretString;

use crate::{auth::ClientKey, error::Problem};

/// The token that administrators must send, in the same headers as a client its key.
pub(crate) struct AdminToken(ClientKey);

impl AdminToken {
    /// Keeps the digest of `token`, not the token.
    pub(crate) fn new(token: &SecretString) -> Self {
        Self(ClientKey::new(token))
    }

    /// Refuses whoever does not show it.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        self.0.authenticate(headers).map(|_| ()).map_err(|_| Problem::NotAdmin)
    }
}
