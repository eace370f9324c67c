//! Why a template is not changed, or there is none of this name.

use axum::http::StatusCode;
use tokenhub_domain::{TemplateName, limits};

/// A refusal that is about a template. Nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateRefusal {
    /// No template has this name, or not this version.
    #[error("there is no template `{id}`")]
    NotFound {
        /// The name, with the version that was asked for.
        id: String,
        /// The field that named it, where it was a field.
        param: Option<&'static str>,
    },
    /// It is not as its author has seen it.
    #[error("the template `{name}` has version {current}: read it again")]
    Changed {
        /// The template.
        name: TemplateName,
        /// Its version now; 0 is that of a name that is free.
        current: u64,
    },
    /// It has as many versions as one may have.
    #[error(
        "the template `{name}` has {} versions, which is the most: take another name",
        limits::TEMPLATE_VERSIONS_MAX
    )]
    TooManyVersions {
        /// The template.
        name: TemplateName,
    },
    /// There are as many templates as there may be.
    #[error("there are {} templates, which is the most: take one away first", limits::TEMPLATES_MAX)]
    TooMany,
}

impl TemplateRefusal {
    /// Status and code.
    pub(super) fn facts(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, "template_not_found"),
            Self::Changed { .. } => (StatusCode::PRECONDITION_FAILED, "version_mismatch"),
            Self::TooManyVersions { .. } | Self::TooMany => (StatusCode::CONFLICT, "too_many_templates"),
        }
    }

    /// The field at fault.
    pub(super) fn param(&self) -> Option<&'static str> {
        match self {
            Self::NotFound { param, .. } => *param,
            Self::Changed { .. } | Self::TooManyVersions { .. } | Self::TooMany => None,
        }
    }
}
