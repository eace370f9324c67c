//! Why the catalogue is not changed, or has no such entry.

use axum::http::StatusCode;

/// A change of the catalogue that is refused. Nothing of it was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CatalogueRefusal {
    /// No entry has this name.
    #[error("there is no {kind} `{id}`")]
    NotFound {
        /// What was asked for.
        kind: &'static str,
        /// Its name.
        id: String,
    },
    /// The name is taken.
    #[error("there is a {kind} `{id}` already, in {place}: change it with PATCH")]
    AlreadyThere {
        /// What was to be made.
        kind: &'static str,
        /// Its name.
        id: String,
        /// Who has it.
        place: String,
    },
    /// Several providers serve the model.
    #[error("the model `{id}` is served by {providers}: name one as ?provider=")]
    Ambiguous {
        /// The model.
        id: String,
        /// Who.
        providers: String,
    },
    /// The entry stands elsewhere and cannot be taken away here.
    #[error("the {kind} `{id}` stands in {place}: take it away there, or switch it off with PATCH enabled=false")]
    Elsewhere {
        /// What was to be taken away.
        kind: &'static str,
        /// Its name.
        id: String,
        /// Where it stands.
        place: String,
    },
    /// Somebody else has changed the entry.
    #[error("the {kind} `{id}` has version {current}: read it again")]
    Changed {
        /// What was to be changed.
        kind: &'static str,
        /// Its name.
        id: String,
        /// Its version now.
        current: u64,
    },
}

impl CatalogueRefusal {
    /// Status and code.
    pub(super) fn facts(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotFound { kind: "provider", .. } => (StatusCode::NOT_FOUND, "provider_not_found"),
            Self::NotFound { kind: "model", .. } => (StatusCode::NOT_FOUND, "model_not_found"),
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, "alias_not_found"),
            Self::AlreadyThere { .. } => (StatusCode::CONFLICT, "already_exists"),
            Self::Ambiguous { .. } => (StatusCode::BAD_REQUEST, "ambiguous_model"),
            Self::Elsewhere { .. } => (StatusCode::CONFLICT, "defined_elsewhere"),
            Self::Changed { .. } => (StatusCode::PRECONDITION_FAILED, "version_mismatch"),
        }
    }

    /// The field or parameter at fault.
    pub(super) fn param(&self) -> Option<&'static str> {
        match self {
            Self::AlreadyThere { kind: "alias", .. } => Some("name"),
            Self::AlreadyThere { .. } => Some("id"),
            Self::Ambiguous { .. } => Some("provider"),
            Self::NotFound { .. } | Self::Elsewhere { .. } | Self::Changed { .. } => None,
        }
    }
}
