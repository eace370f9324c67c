//! `X-TokenHub-Hedge-After-Ms`: when the next deployment is asked as well, for callers whose protocol has no field for it.

use axum::http::HeaderMap;
use tokenhub_domain::limits;

use crate::error::Problem;

const HEDGE_HEADER: &str = "x-tokenhub-hedge-after-ms";
const SHOWN: &str = "X-TokenHub-Hedge-After-Ms";

/// What the header says; 0 is never.
pub(crate) fn wish(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(HEDGE_HEADER) else { return Ok(None) };
    let millis = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    let reason = || format!("must be milliseconds, 0 to {}", limits::POLICY_LATENCY_MS_MAX);
    millis
        .filter(|millis| *millis <= limits::POLICY_LATENCY_MS_MAX)
        .map(Some)
        .ok_or_else(|| Problem::InvalidHeader { header: SHOWN, reason: reason() })
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn milliseconds_are_known_and_nothing_else() {
        let of = |value: &'static str| {
            let header = (HeaderName::from_static(HEDGE_HEADER), HeaderValue::from_static(value));
            wish(&HeaderMap::from_iter([header])).map_err(|problem| problem.to_string())
        };
        assert_eq!(wish(&HeaderMap::new()).unwrap(), None);
        assert_eq!(of("250"), Ok(Some(250)));
        for wrong in ["", "soon", "-1", "300001"] {
            assert!(of(wrong).unwrap_err().contains(SHOWN), "{wrong}");
        }
    }
}
