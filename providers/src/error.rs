//! What can be wrong with the set-up of the upstreams; a failed call is a `ProviderFailure`, not one of these.

use tokenhub_domain::ProviderId;

/// Providers that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ProvidersError {
    /// Reading the base URL.
    #[error("provider {provider}: the base url cannot be used")]
    BaseUrl {
        /// Whose.
        provider: ProviderId,
        /// Why.
        #[source]
        source: BaseUrlError,
    },
    /// Putting the credential into a header.
    #[error("provider {provider}: the credential contains characters that no http header may carry")]
    Credential {
        /// Whose.
        provider: ProviderId,
    },
    /// Adding a provider whose id is taken.
    #[error("provider {provider} is configured twice")]
    Duplicate {
        /// Which.
        provider: ProviderId,
    },
    /// Building the HTTP client.
    #[error("provider {provider}: the http client could not be built")]
    Client {
        /// Whose.
        provider: ProviderId,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
}

/// A base URL that is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// It does not parse.
    #[error("it is not a url")]
    Syntax,
    /// Its scheme is neither `http` nor `https`.
    #[error("its scheme is not http or https")]
    Scheme,
    /// It has a user, a password, a query or a fragment.
    #[error("it must not contain a user, a password, a query or a fragment")]
    Extras,
    /// It points at a link-local address or a cloud's metadata service.
    #[error("it points at a link-local address or a metadata service")]
    LinkLocal,
}
