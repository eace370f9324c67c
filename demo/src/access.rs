//! What the provider demands of every request: a credential, and a body that a real provider would take.

use hyper::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::reply::ErrorBody;
use crate::request::{api_key_in, bearer_in};

/// What is demanded; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Demands {
    /// One of these, in its own header; any caller is welcome when there is none.
    pub credentials: Vec<Credential>,
    /// Whether bodies are looked at.
    pub validation: Validation,
}

/// A credential and the header that it belongs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// `authorization: Bearer`
    Bearer(String),
    /// `x-api-key`
    ApiKey(String),
    /// Either of them: official clients differ, and so do their versions.
    Either(String),
}

/// Whether requests are checked as the real providers check them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Validation {
    /// Every body is taken.
    #[default]
    Lenient,
    /// A body that breaks the dialect's rules is answered with 400.
    Strict,
}

impl Demands {
    /// The reason why a request with these headers is turned away, with status 401.
    pub(crate) fn turned_away(&self, headers: &HeaderMap) -> Option<ErrorBody> {
        let matches = |credential: &Credential| match credential {
            Credential::Bearer(token) => bearer_in(headers) == Some(token),
            Credential::ApiKey(key) => api_key_in(headers) == Some(key),
            Credential::Either(secret) => [bearer_in(headers), api_key_in(headers)].contains(&Some(secret.as_str())),
        };
        if self.credentials.is_empty() || self.credentials.iter().any(matches) {
            return None;
        }
        let presented = bearer_in(headers).is_some() || api_key_in(headers).is_some();
        let message = if presented { "the credential is not valid" } else { "no credential was presented" };
        Some(ErrorBody { message: message.to_owned(), ..ErrorBody::default() })
    }
}
