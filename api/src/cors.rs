//! Who may call from a browser: every page, unless the operator lists some. A page has no key unless its user gives it
//! one, and no cookie opens anything.
//!
//! Only requests that come from a page pay for the headers.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    response::Response,
};
use tokenhub_config::{CorsOrigins, Live};

use crate::codec_cors;

/// How long a browser keeps the answer to its question.
pub(crate) const MAX_AGE_SECS: &str = "600";
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

/// What a page may read beside the body.
const EXPOSED: [&str; 36] = [
    "request-id",
    "x-request-id",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "openai-processing-ms",
    "idempotent-replayed",
    "x-alias-from",
    "x-negotiated-model",
    "x-tokenhub-request-id",
    "x-tokenhub-run-id",
    "x-tokenhub-workflow-id",
    "x-tokenhub-durability",
    "x-tokenhub-model",
    "x-tokenhub-provider",
    "x-tokenhub-cost-usd",
    "x-tokenhub-losses",
    "x-tokenhub-schema",
    "x-tokenhub-plan-status",
    "etag",
    "x-tokenhub-trace",
    "x-tokenhub-estimate",
    "x-tokenhub-error-code",
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-tokens-remaining",
];

/// Answers what a browser asks before it sends, without a key, and marks every answer to a page as readable.
///
/// A page that may not call gets no such mark, which is how its browser learns it.
pub(crate) async fn allow<F: Future<Output = Response>>(
    live: &Live,
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let Some(origin) = request.headers().get(header::ORIGIN).cloned() else { return next(request).await };
    let settings = live.settings();
    if codec_cors::covers(request.uri().path()) {
        return codec_cors::allow(&settings.codec_cors_origins, origin, request, next).await;
    }
    let permitted = match &settings.cors_origins {
        CorsOrigins::Any => Some(HeaderValue::from_static("*")),
        listed @ CorsOrigins::Listed(_) => Some(origin).filter(|origin| listed.allows(origin.as_bytes())),
    };
    let mut response = if is_question(&request) {
        permission(request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned())
    } else {
        let mut response = next(request).await;
        if let Ok(exposed) = HeaderValue::from_str(&EXPOSED.join(", ")) {
            response.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
        response
    };
    if let Some(permitted) = permitted {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, permitted);
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
    response
}

/// Whether a browser asks what it may send.
pub(crate) fn is_question(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Every header that is asked for: a wildcard would not cover Authorization.
fn permission(headers_asked_for: Option<HeaderValue>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_SECS));
    if let Some(asked_for) = headers_asked_for {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked_for);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::{Router, extract, middleware, routing::post};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    async fn answer(head: &str) -> String {
        answer_of("*", head).await
    }

    async fn answer_of(origins: &str, head: &str) -> String {
        let environment = [("TOKENHUB_CORS_ORIGINS", origins)].into_iter().collect();
        let (live, _) = Live::load(tokenhub_config::Flags::new(), environment).unwrap();
        let layer = middleware::from_fn_with_state(
            live,
            async |extract::State(live): extract::State<std::sync::Arc<Live>>, request, next: middleware::Next| {
                allow(&live, request, |request| next.run(request)).await
            },
        );
        let router = Router::new().route("/", post(|| async { "done" })).layer(layer);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut connection = TcpStream::connect(address).await.unwrap();
        let request = format!("{head}host: x\r\nconnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_question_is_answered_with_every_header_that_it_names() {
        let answer = answer(
            "OPTIONS / HTTP/1.1\r\norigin: https://a\r\naccess-control-request-method: POST\r\n\
             access-control-request-headers: authorization,x-any\r\n",
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
        assert!(answer.contains("access-control-allow-headers: authorization,x-any"), "{answer}");
        assert!(answer.contains("access-control-allow-origin: *"), "{answer}");
    }

    #[tokio::test]
    async fn a_page_may_read_the_answer_and_other_clients_are_spared_the_headers() {
        let page = answer("POST / HTTP/1.1\r\norigin: https://a\r\n").await;
        assert!(page.contains("access-control-allow-origin: *") && page.contains("x-tokenhub-run-id"), "{page}");
        let program = answer("POST / HTTP/1.1\r\n").await;
        assert!(program.starts_with("HTTP/1.1 200") && !program.contains("access-control"), "{program}");
        let plain = answer("OPTIONS / HTTP/1.1\r\norigin: https://a\r\n").await;
        assert!(plain.starts_with("HTTP/1.1 405"), "{plain}");
    }

    #[tokio::test]
    async fn a_page_that_is_not_listed_is_not_told_that_it_may_read() {
        let question = "OPTIONS / HTTP/1.1\r\naccess-control-request-method: POST\r\norigin: ";
        for (origin, may) in [("https://a.example", true), ("https://b.example", false), ("null", false)] {
            for head in [question, "POST / HTTP/1.1\r\norigin: "] {
                let answer = answer_of("https://a.example", &format!("{head}{origin}\r\n")).await;
                let told = answer.contains("access-control-allow-origin: https://a.example\r\n");
                assert_eq!(told, may, "{answer}");
                assert!(!answer.contains("allow-origin: *") && answer.contains("vary: origin"), "{answer}");
            }
        }
    }
}
