//! The durability headers: what a caller may ask for and what it is told.

use axum::http::HeaderMap;
use tokenhub_domain::DurabilityWish;

use crate::error::Problem;

/// Asked in a request, answered in a response.
pub(crate) const DURABILITY_HEADER: &str = "x-tokenhub-durability";
const SHOWN: &str = "X-TokenHub-Durability";

/// How the answer is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// As one JSON document.
    Whole,
    /// As one JSON document that the client comes back for.
    Background,
    /// As server-sent events.
    Stream,
}

/// What the caller asks for; anything but the three words is refused, because a typing error must not cost durability.
pub(crate) fn wish(headers: &HeaderMap, delivery: Delivery) -> Result<DurabilityWish, Problem> {
    let refuse = |reason: &str| Problem::InvalidHeader { header: SHOWN, reason: reason.to_owned() };
    let Some(value) = headers.get(DURABILITY_HEADER) else { return Ok(DurabilityWish::default()) };
    let wish = value
        .to_str()
        .ok()
        .and_then(DurabilityWish::parse)
        .ok_or_else(|| refuse("must be required, preferred or none"))?;
    match (wish, delivery) {
        (DurabilityWish::Required, Delivery::Stream) => Err(refuse("a streamed answer cannot be durable")),
        (DurabilityWish::Required, Delivery::Whole | Delivery::Background)
        | (DurabilityWish::Preferred | DurabilityWish::None, _) => Ok(wish),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &'static str, delivery: Delivery) -> Result<DurabilityWish, String> {
        let headers = HeaderMap::from_iter([(
            axum::http::HeaderName::from_static(DURABILITY_HEADER),
            axum::http::HeaderValue::from_static(value),
        )]);
        wish(&headers, delivery).map_err(|problem| problem.to_string())
    }

    #[test]
    fn absent_means_preferred_and_the_three_words_are_known() {
        assert_eq!(wish(&HeaderMap::new(), Delivery::Whole).unwrap(), DurabilityWish::Preferred);
        assert_eq!(of("required", Delivery::Whole), Ok(DurabilityWish::Required));
        assert_eq!(of("preferred", Delivery::Whole), Ok(DurabilityWish::Preferred));
        assert_eq!(of("none", Delivery::Stream), Ok(DurabilityWish::None));
    }

    #[test]
    fn other_words_and_a_required_stream_are_refused() {
        for word in ["", "Required", "durable", "none "] {
            assert!(of(word, Delivery::Whole).unwrap_err().contains(SHOWN), "{word}");
        }
        assert!(of("required", Delivery::Stream).unwrap_err().contains("streamed"));
    }
}
