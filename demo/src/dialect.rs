//! The wire forms that the provider speaks and the paths on which it speaks them.
//!
//! The path of a request alone decides about the dialect of its answer.

use hyper::Method;
use serde::{Deserialize, Serialize};

/// A wire form for requests and answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// `OpenAI` Chat Completions.
    #[default]
    Chat,
    /// `OpenAI` Responses.
    Responses,
    /// Anthropic Messages.
    Messages,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/messages/count_tokens`
    CountTokens,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `GET /v1/models` and `GET /v1/models/{id}`
    Models,
}

impl Route {
    /// The route of a request, whatever stands before the part of the path that matters.
    pub(crate) fn of(method: &Method, path: &str) -> Option<Self> {
        if method == Method::POST {
            const POSTS: [(&str, Route); 5] = [
                ("/chat/completions", Route::ChatCompletions),
                ("/responses", Route::Responses),
                ("/messages", Route::Messages),
                ("/messages/count_tokens", Route::CountTokens),
                ("/embeddings", Route::Embeddings),
            ];
            return POSTS.into_iter().find(|(end, _)| path.ends_with(end)).map(|(_, route)| route);
        }
        let lists = path.ends_with("/models") || path.contains("/models/");
        (method == Method::GET && lists).then_some(Self::Models)
    }

    /// Whether a model is asked to say something.
    pub(crate) fn generates(self) -> bool {
        match self {
            Self::ChatCompletions | Self::Responses | Self::Messages => true,
            Self::CountTokens | Self::Embeddings | Self::Models => false,
        }
    }

    /// The wire form of its answers; of lists when the request does not say otherwise.
    pub(crate) fn dialect(self) -> Dialect {
        match self {
            Self::ChatCompletions | Self::Embeddings | Self::Models => Dialect::Chat,
            Self::Responses => Dialect::Responses,
            Self::Messages | Self::CountTokens => Dialect::Messages,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_route() {
        let post = |path: &str| Route::of(&Method::POST, path);
        assert_eq!(post("/v1/chat/completions"), Some(Route::ChatCompletions));
        assert_eq!(post("/openai/v1/responses"), Some(Route::Responses));
        assert_eq!(post("/v1/messages"), Some(Route::Messages));
        assert_eq!(post("/v1/messages/count_tokens"), Some(Route::CountTokens));
        assert_eq!(post("/v1/models"), None);
        assert_eq!(Route::of(&Method::GET, "/v1/models/m"), Some(Route::Models));
        assert_eq!(Route::of(&Method::GET, "/v1/messages"), None);
    }
}
