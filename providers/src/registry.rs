//! All upstreams by name, each with its own pooled HTTP client.
//!
//! One client per provider, so that a slow one cannot use up the connections of another. Immutable: a change of
//! configuration makes a new registry, and calls in flight finish on the old one.

use std::collections::HashMap;
use std::sync::Arc;

use tokenhub_domain::{ErrorClass, ProviderFailure, ProviderId, ProviderResponseId};

use crate::base_url::LinkLocal;
use crate::call::{Begun, Call, Completion, ListedModel, Reported, Sight, Streaming, Upstream};
use crate::endpoint::Endpoint;
use crate::error::ProvidersError;

/// Makes ring the process's TLS implementation; further calls change nothing.
pub fn install_tls() {
    // Fails only when one is installed already, and that one serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The upstreams of this process.
#[derive(Clone, Debug)]
pub struct Providers {
    endpoints: Arc<HashMap<ProviderId, Arc<Endpoint>>>,
}

impl Providers {
    /// Sets up a client for each upstream. Link-local base URLs are refused.
    pub fn new(upstreams: Vec<Upstream>) -> Result<Self, ProvidersError> {
        Self::with_link_local(upstreams, LinkLocal::Refused)
    }

    /// Like [`Self::new`], with the operator's word on link-local base URLs.
    pub fn with_link_local(upstreams: Vec<Upstream>, link_local: LinkLocal) -> Result<Self, ProvidersError> {
        install_tls();
        let mut endpoints = HashMap::with_capacity(upstreams.len());
        for upstream in upstreams {
            let id = upstream.provider.id.clone();
            let endpoint = Endpoint::new(upstream, link_local)?;
            if endpoints.insert(id.clone(), Arc::new(endpoint)).is_some() {
                return Err(ProvidersError::Duplicate { provider: id });
            }
        }
        Ok(Self { endpoints: Arc::new(endpoints) })
    }

    /// Sets up a client for each of `changed` and takes over those of `unchanged` with their connections.
    pub fn renewed(&self, changed: Vec<Upstream>, unchanged: &[ProviderId]) -> Result<Self, ProvidersError> {
        let mut endpoints = HashMap::clone(&*Self::new(changed)?.endpoints);
        for id in unchanged {
            if let Some(endpoint) = self.endpoints.get(id) {
                endpoints.insert(id.clone(), Arc::clone(endpoint));
            }
        }
        Ok(Self { endpoints: Arc::new(endpoints) })
    }

    /// Sends one request and waits for the whole answer.
    pub async fn complete(&self, provider: &ProviderId, call: Call<'_>) -> Result<Completion, ProviderFailure> {
        self.endpoint(provider)?.complete(call).await
    }

    /// Like [`Self::complete`], with the text told to `on_text` while it is written, where the call is in Chat Completions.
    /// What was told of a call that fails is part of no answer, and what the provider had counted of it until then, or until
    /// the caller let it fall, is `reported`.
    pub async fn complete_streamed(
        &self,
        provider: &ProviderId,
        call: Call<'_>,
        on_text: &mut (dyn FnMut(&str) + Send),
        reported: &mut Option<Reported>,
    ) -> Result<Completion, ProviderFailure> {
        self.endpoint(provider)?.complete_streamed(call, on_text, reported).await
    }

    /// Whether [`Self::begin`] may carry out `call`, and [`Self::complete`] is not the only way.
    pub fn takes_in_background(&self, provider: &ProviderId, call: &Call<'_>) -> bool {
        self.endpoint(provider).is_ok_and(|endpoint| endpoint.takes_in_background(call))
    }

    /// Begins a response in the background.
    pub async fn begin(&self, provider: &ProviderId, call: &Call<'_>) -> Result<Begun, ProviderFailure> {
        self.endpoint(provider)?.begin(call).await
    }

    /// Looks how far a response is that `call` has begun. An error says nothing about the response.
    pub async fn look(
        &self,
        provider: &ProviderId,
        call: &Call<'_>,
        response: &ProviderResponseId,
    ) -> Result<Sight, ProviderFailure> {
        self.endpoint(provider)?.look(call, response).await
    }

    /// Tells the provider that nobody wants a response any more.
    pub async fn withdraw(
        &self,
        provider: &ProviderId,
        call: &Call<'_>,
        response: &ProviderResponseId,
    ) -> Result<(), ProviderFailure> {
        self.endpoint(provider)?.withdraw(call, response).await
    }

    /// Sends one request and returns when the stream's headers have come.
    pub async fn stream(&self, provider: &ProviderId, call: Call<'_>) -> Result<Streaming, ProviderFailure> {
        self.endpoint(provider)?.stream(call).await
    }

    /// Has texts made into vectors, in the form of OpenAI's embeddings; the text of the completion is empty.
    pub async fn embed(&self, provider: &ProviderId, call: Call<'_>) -> Result<Completion, ProviderFailure> {
        self.endpoint(provider)?.embed(call).await
    }

    /// Asks for the models that the provider serves.
    pub async fn list_models(&self, provider: &ProviderId) -> Result<Vec<ListedModel>, ProviderFailure> {
        self.endpoint(provider)?.list_models().await
    }

    fn endpoint(&self, provider: &ProviderId) -> Result<&Endpoint, ProviderFailure> {
        // As good as a missing credential: of no use here, and another deployment may be.
        self.endpoints.get(provider).map(|endpoint| &**endpoint).ok_or_else(|| {
            ProviderFailure::of(
                ErrorClass::AuthFailed,
                format!("provider {provider} is not configured in this process"),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokenhub_domain::{CredentialId, Provider, ProviderKind};

    use super::*;
    use crate::call::Timeouts;

    fn upstream(id: &str, base_url: &str, key: &str) -> Upstream {
        Upstream {
            provider: Provider::new(id, ProviderKind::Openai, base_url),
            credentials: BTreeMap::from([(CredentialId::default(), key.into())]),
            timeouts: Timeouts::default(),
            quirks: BTreeMap::new(),
        }
    }

    #[test]
    fn a_client_serves_as_long_as_address_and_key_are_the_same() {
        let one = upstream("p", "http://a", "key");
        assert!(one.is_same(&upstream("p", "http://a", "key")));
        for other in [
            upstream("q", "http://a", "key"),
            upstream("p", "http://b", "key"),
            upstream("p", "http://a", "another"),
            Upstream { credentials: BTreeMap::new(), ..one.clone() },
        ] {
            assert!(!one.is_same(&other), "{other:?}");
        }
    }

    #[test]
    fn what_did_not_change_keeps_its_client_and_who_went_is_gone() {
        let of = |id: &str| upstream(id, "http://a", "key");
        let before = Providers::new(vec![of("kept"), of("moved"), of("gone")]).unwrap();
        let after = before.renewed(vec![upstream("moved", "http://b", "key")], &["kept".into()]).unwrap();
        let is_same = |id: &str| {
            let id = ProviderId::from(id);
            Arc::ptr_eq(&before.endpoints[&id], &after.endpoints[&id])
        };
        assert!(is_same("kept") && !is_same("moved"));
        assert_eq!(after.endpoints.len(), 2);
    }
}
