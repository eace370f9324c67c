//! The protocols that clients speak: what tells their routes apart, as a table.
//!
//! Owns facts and nothing that acts on them: bodies are read in `parse`, errors are written in `error`, frames in
//! `stream`. A route that needs another difference gets another column here and no branch of its own.

use axum::http::HeaderMap;
use tokenhub_domain::{Dialect, ForwardedHeader};

use crate::error::Shape;

const OPENAI_HEADERS: &[&str] = &["openai-beta"];

/// What the routes of one protocol have in common.
#[derive(Debug)]
pub(crate) struct Protocol {
    /// How the body is written, and the answer.
    pub(crate) dialect: Dialect,
    /// How errors are written.
    pub(crate) shape: Shape,
    /// Request headers that a provider of the same protocol has to see. None that may hold a secret.
    forwarded: &'static [&'static str],
}

/// OpenAI Chat Completions.
pub(crate) static CHAT: Protocol = Protocol { dialect: Dialect::Chat, shape: Shape::OpenAi, forwarded: OPENAI_HEADERS };
/// OpenAI Responses.
pub(crate) static RESPONSES: Protocol =
    Protocol { dialect: Dialect::Responses, shape: Shape::OpenAi, forwarded: OPENAI_HEADERS };
/// Anthropic Messages.
pub(crate) static MESSAGES: Protocol = Protocol {
    dialect: Dialect::Messages,
    shape: Shape::Anthropic,
    forwarded: &["anthropic-version", "anthropic-beta"],
};
/// TokenHub's own chat: a Chat Completions body in an envelope.
pub(crate) static NATIVE: Protocol = Protocol { dialect: Dialect::Chat, shape: Shape::Native, forwarded: &[] };
/// A plan, with the same envelope.
pub(crate) static PLAN: Protocol = Protocol { dialect: Dialect::Chat, shape: Shape::Problem, forwarded: &[] };

impl Protocol {
    /// The headers of a request that go to a provider of this protocol, every value of each.
    pub(crate) fn forwarded(&self, headers: &HeaderMap) -> Vec<ForwardedHeader> {
        let values = |name: &'static str| headers.get_all(name).iter().map(move |value| (name, value));
        self.forwarded
            .iter()
            .flat_map(|name| values(name))
            .filter_map(|(name, value)| {
                Some(ForwardedHeader { name: name.to_owned(), value: value.to_str().ok()?.to_owned() })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn names_and_values(protocol: &Protocol) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "a-1,b-2"),
            ("anthropic-beta", "c-3"),
            ("openai-beta", "assistants=v2"),
            ("authorization", "Bearer sk-secret"),
            ("x-api-key", "sk-secret"),
            ("cookie", "session=secret"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        protocol.forwarded(&headers).into_iter().map(|header| (header.name, header.value)).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn each_protocol_forwards_its_own_headers_with_every_value_and_no_secret() {
        let version = pair("anthropic-version", "2023-06-01");
        let betas = [pair("anthropic-beta", "a-1,b-2"), pair("anthropic-beta", "c-3")];
        assert_eq!(names_and_values(&MESSAGES), [vec![version], betas.to_vec()].concat());
        for protocol in [&CHAT, &RESPONSES] {
            assert_eq!(names_and_values(protocol), [pair("openai-beta", "assistants=v2")]);
        }
        assert_eq!(names_and_values(&NATIVE), []);
    }
}
