//! Who we are towards a provider: its keys as headers, and what of the caller's headers may come along.
//!
//! The only place where a key becomes a header. Headers of a caller pass by an allow-list of the protocol; credentials
//! and cookies of a caller never do.

use std::collections::BTreeMap;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use tokenhub_domain::{
    CredentialHeader, CredentialId, Dialect, ErrorClass, ForwardedHeader, Provider, ProviderFailure,
};

use crate::error::ProvidersError;

/// The version of Messages that is spoken when the caller names none.
const ANTHROPIC_VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");
/// What a caller may tell a provider of its own protocol.
const FORWARDED: [&str; 3] = ["anthropic-version", "anthropic-beta", "openai-beta"];

/// One key, ready to be sent, or none.
#[derive(Debug)]
pub(super) struct Account {
    secret: Option<SecretString>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Account {
    /// The key, to be masked wherever a provider repeats it.
    pub(super) fn secret(&self) -> Option<&str> {
        self.secret.as_ref().map(ExposeSecret::expose_secret)
    }

    /// The key.
    pub(super) fn credential(&self) -> Option<SecretString> {
        self.secret.clone()
    }

    /// Adds the key, and what the protocol asks of every request.
    pub(super) fn authenticate(&self, headers: &mut HeaderMap, dialect: Dialect) {
        if let Some((name, value)) = &self.header {
            headers.insert(name.clone(), value.clone());
        }
        if dialect == Dialect::Messages {
            let (name, value) = ANTHROPIC_VERSION;
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
    }
}

/// The keys of one provider.
#[derive(Debug)]
pub(super) struct Accounts {
    by_id: BTreeMap<CredentialId, Account>,
    /// The one that is used first, where several are named.
    first: CredentialId,
}

impl Accounts {
    pub(super) fn new(
        provider: &Provider,
        credentials: BTreeMap<CredentialId, SecretString>,
    ) -> Result<Self, ProvidersError> {
        let mut by_id = BTreeMap::new();
        for (id, secret) in credentials {
            let header = header_of(provider.credential_header, &secret)
                .ok_or_else(|| ProvidersError::Credential { provider: provider.id.clone() })?;
            by_id.insert(id, Account { secret: Some(secret), header: Some(header) });
        }
        if by_id.is_empty() {
            by_id.insert(CredentialId::default(), Account { secret: None, header: None });
        }
        Ok(Self { by_id, first: provider.credentials.first().cloned().unwrap_or_default() })
    }

    /// The key named `id`.
    pub(super) fn get(&self, id: &CredentialId) -> Result<&Account, ProviderFailure> {
        // A run may outlive the configuration that it was planned with.
        self.by_id.get(id).ok_or_else(|| {
            ProviderFailure::of(ErrorClass::AuthFailed, format!("the credential `{id}` is not configured any more"))
        })
    }

    /// The key that is used first.
    pub(super) fn first(&self) -> Result<&Account, ProviderFailure> {
        self.get(&self.first)
    }
}

fn header_of(style: CredentialHeader, secret: &SecretString) -> Option<(HeaderName, HeaderValue)> {
    let secret = secret.expose_secret();
    let (name, text) = match style {
        CredentialHeader::Bearer => (AUTHORIZATION, format!("Bearer {secret}")),
        CredentialHeader::XApiKey => (HeaderName::from_static("x-api-key"), secret.to_owned()),
        CredentialHeader::ApiKey => (HeaderName::from_static("api-key"), secret.to_owned()),
    };
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

/// Adds what the caller may tell a provider of its own protocol.
pub(super) fn forward(forwarded: &[ForwardedHeader], headers: &mut HeaderMap) {
    for header in forwarded {
        let Some(name) = FORWARDED.iter().find(|name| **name == header.name) else { continue };
        if let Ok(value) = HeaderValue::from_str(&header.value) {
            headers.append(*name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::ProviderKind;

    use super::*;

    fn headers_of(kind: ProviderKind, style: Option<CredentialHeader>, dialect: Dialect) -> HeaderMap {
        let mut provider = Provider::new("p", kind, "http://h");
        provider.credential_header = style.unwrap_or(provider.credential_header);
        let keys = BTreeMap::from([(CredentialId::default(), SecretString::from("k"))]);
        let mut headers = HeaderMap::new();
        Accounts::new(&provider, keys).unwrap().first().unwrap().authenticate(&mut headers, dialect);
        headers
    }

    #[test]
    fn a_key_goes_where_the_family_looks_for_it() {
        let openai = headers_of(ProviderKind::Openai, None, Dialect::Chat);
        assert_eq!((openai.len(), &openai["authorization"]), (1, &HeaderValue::from_static("Bearer k")));
        let azure = headers_of(ProviderKind::Openai, Some(CredentialHeader::ApiKey), Dialect::Responses);
        assert_eq!((azure.len(), &azure["api-key"]), (1, &HeaderValue::from_static("k")));
        let anthropic = headers_of(ProviderKind::Anthropic, None, Dialect::Messages);
        assert_eq!((anthropic.len(), &anthropic["x-api-key"]), (2, &HeaderValue::from_static("k")));
        assert_eq!(anthropic["anthropic-version"], "2023-06-01");
    }

    #[test]
    fn only_headers_of_the_protocol_are_forwarded_and_the_callers_version_stays() {
        let named = |name: &str, value: &str| ForwardedHeader { name: name.to_owned(), value: value.to_owned() };
        let mut headers = HeaderMap::new();
        let sent = [
            named("anthropic-version", "2099-01-01"),
            named("anthropic-beta", "a,b"),
            named("anthropic-beta", "c"),
            named("authorization", "Bearer stolen"),
            named("cookie", "x=1"),
        ];
        forward(&sent, &mut headers);
        Account { secret: None, header: None }.authenticate(&mut headers, Dialect::Messages);
        assert_eq!(headers["anthropic-version"], "2099-01-01");
        assert_eq!(headers.get_all("anthropic-beta").iter().collect::<Vec<_>>(), ["a,b", "c"]);
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn a_named_key_is_found_by_its_name_and_a_lost_one_is_an_authentication_failure() {
        let mut provider = Provider::new("p", ProviderKind::Openai, "http://h");
        provider.credentials = vec!["b".into(), "a".into()];
        let keys = BTreeMap::from([("a".into(), SecretString::from("1")), ("b".into(), SecretString::from("2"))]);
        let accounts = Accounts::new(&provider, keys).unwrap();
        assert_eq!(accounts.first().unwrap().secret(), Some("2"));
        assert_eq!(accounts.get(&"a".into()).unwrap().secret(), Some("1"));
        assert_eq!(accounts.get(&"gone".into()).unwrap_err().class, ErrorClass::AuthFailed);
    }
}
