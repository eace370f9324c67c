//! `X-TokenHub-Validate`: whether an answer is checked against the schema of its request, and what becomes of one that
//! does not match.
//!
//! Without the header a schema in a protocol's own field is the provider's business and the request passes untouched; one
//! in a field or a directive of TokenHub's is checked.

use axum::http::HeaderMap;
use tokenhub_domain::OnMismatch;

use crate::error::Problem;

const VALIDATION_HEADER: &str = "x-tokenhub-validate";
const SHOWN: &str = "X-TokenHub-Validate";

/// What the caller says about the check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Validation {
    /// Nothing.
    #[default]
    Unsaid,
    /// The schema is shown to the model and not checked.
    Off,
    /// Checked, whoever asked for the schema.
    On(OnMismatch),
}

/// What the header says.
pub(crate) fn wish(headers: &HeaderMap) -> Result<Validation, Problem> {
    let Some(value) = headers.get(VALIDATION_HEADER) else { return Ok(Validation::Unsaid) };
    match value.as_bytes() {
        b"false" => Ok(Validation::Off),
        b"true" => Ok(Validation::On(OnMismatch::Fail)),
        b"keep" => Ok(Validation::On(OnMismatch::Keep)),
        _ => Err(refused("must be true, keep or false")),
    }
}

/// A refusal of the header.
pub(crate) fn refused(reason: &str) -> Problem {
    Problem::InvalidHeader { header: SHOWN, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn the_three_words_are_known_and_no_other() {
        let of = |value: &'static str| {
            let header = (HeaderName::from_static(VALIDATION_HEADER), HeaderValue::from_static(value));
            wish(&HeaderMap::from_iter([header])).ok()
        };
        assert_eq!(wish(&HeaderMap::new()).ok(), Some(Validation::Unsaid));
        assert_eq!(of("true"), Some(Validation::On(OnMismatch::Fail)));
        assert_eq!(of("keep"), Some(Validation::On(OnMismatch::Keep)));
        assert_eq!(of("false"), Some(Validation::Off));
        assert_eq!(of("yes"), None);
    }
}
