//! Which pages may have payloads decoded: those of the Temporal UI, which come from another origin and bring cookies.
//!
//! Apart from the other routes: there a cookie opens nothing and any page may be let in; here it may open prompts, so
//! that only named pages are, and they are told so by name.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use tokenhub_config::CorsOrigins;

use crate::{cors, routes};

/// What the Temporal UI sends.
const HEADERS: &str = "content-type, authorization, authorization-extras, x-namespace";
const METHODS: &str = "POST, OPTIONS";

/// Whether a path has these rules and not the usual ones.
pub(crate) fn covers(path: &str) -> bool {
    path.strip_prefix(routes::CODEC_PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers what a browser asks before it sends, and marks answers to pages of `origins` as readable.
pub(crate) async fn allow<F: Future<Output = Response>>(
    origins: &CorsOrigins,
    origin: HeaderValue,
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let mut response = if cors::is_question(&request) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    } else {
        next(request).await
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if origins.allows(origin.as_bytes()) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS));
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(cors::MAX_AGE_SECS));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_codec_has_these_rules() {
        for (path, is_covered) in [
            ("/admin/v1/codec", true),
            ("/admin/v1/codec/decode", true),
            ("/admin/v1/codecs", false),
            ("/admin/v1/models", false),
            ("/v1/chat/completions", false),
        ] {
            assert_eq!(covers(path), is_covered, "{path}");
        }
    }
}
