//! What a program came to, as one model's answer in the protocol of a chat, and the chat as programs read it.
//!
//! The counts are the sum of everything that was bought. Ballots, rounds and costs are read with `GET /v1/plan/{id}`.

use axum::{
    Json,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use tokenhub_domain::{Answer, AttemptId, Dialect, ModelId, Outcome, RunId};
use tokenhub_providers::convert::{self, Abilities, ConvertError, Issuer, ReplyContext, Target};

use crate::{
    dispatch::Answered,
    error::{Problem, Shape},
    protocol::Protocol,
    render,
};

/// Which model an answer names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShownModel<'a> {
    /// Whoever wrote it; where a protocol repeats what was asked for, that.
    Author {
        /// What was asked for.
        named: Option<&'a str>,
    },
    /// The version of the template.
    Template(&'a str),
}

/// The request in the form that programs work on.
pub(super) fn in_chat(dialect: Dialect, body: String) -> Result<String, Problem> {
    if dialect == Dialect::Chat {
        return Ok(body);
    }
    let body: Map<String, Value> =
        serde_json::from_str(&body).map_err(|error| Problem::ParseBody(error.to_string()))?;
    let target = Target { issuer: nobody(), max_output_tokens: None, abilities: Abilities::default() };
    let converted = convert::request(dialect, Dialect::Chat, &body, &target).map_err(|error| match error {
        ConvertError::Invalid { param, reason } => Problem::invalid(param, reason),
        ConvertError::Reply(_) => Problem::Internal,
    })?;
    Ok(Value::Object(converted.body).to_string())
}

/// Reasoning of earlier turns is signed for one model, and several are going to read the conversation.
fn nobody() -> Issuer {
    Issuer { provider: "".into(), model: "".into() }
}

/// The whole answer, or why there is none.
pub(super) fn whole(protocol: &Protocol, answered: &Answered, model: ShownModel<'_>) -> Result<Response, Problem> {
    let outcome = &answered.outcome;
    let author = outcome.negotiated_model.as_ref().map_or("", ModelId::as_str);
    let (written_by, asked_for) = match model {
        ShownModel::Author { named } => (author, named.unwrap_or(author)),
        ShownModel::Template(name) => (name, name),
    };
    let completion = completion(&answered.run_id, outcome, written_by)?;
    if protocol.shape == Shape::Native {
        return Ok(Json(render::native_around(outcome, completion)).into_response());
    }
    let context = context(&answered.run_id, asked_for);
    let reply = convert::reply(Dialect::Chat, protocol.dialect, &completion, &context);
    let body = reply.map_err(|_| Problem::Internal)?.body;
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, Value::Object(body).to_string()).into_response())
}

/// What conversions need to know of an answer.
pub(super) fn context(run_id: &RunId, model: &str) -> ReplyContext {
    ReplyContext {
        attempt: AttemptId::from(run_id.as_str()),
        model: model.to_owned(),
        created_secs: created_secs(),
        issuer: nobody(),
        tool_names: convert::ToolNames::default(),
        free_form_tools: std::collections::BTreeSet::default(),
    }
}

/// The answer of a program as one model's, or why there is none.
pub(super) fn completion(run_id: &RunId, outcome: &Outcome, model: &str) -> Result<Value, Problem> {
    let failed = || render::failed(outcome, Map::new());
    let counts = outcome.usage;
    let usage = json!({
        "prompt_tokens": counts.input_tokens,
        "completion_tokens": counts.output_tokens,
        "total_tokens": counts.input_tokens + counts.output_tokens,
    });
    let mut completion = match &outcome.answer {
        Some(Answer::Chat { .. }) => {
            let body = render::completion_body(outcome)?;
            serde_json::from_str::<Map<String, Value>>(&body).map_err(|_| Problem::Internal)?
        }
        None => return Err(failed()),
        Some(
            Answer::Adversarial(_)
            | Answer::Vote(_)
            | Answer::Refine(_)
            | Answer::BestOfN(_)
            | Answer::Cascade(_)
            | Answer::Fuse(_),
        ) => {
            let text = render::chosen_text(outcome).ok_or_else(failed)?;
            let message = json!({"role": "assistant", "content": text});
            Map::from_iter([
                ("id".to_owned(), Value::from(format!("chatcmpl-{run_id}"))),
                ("object".to_owned(), "chat.completion".into()),
                ("created".to_owned(), created_secs().into()),
                ("model".to_owned(), Value::Null),
                ("choices".to_owned(), json!([{"index": 0, "message": message, "finish_reason": "stop"}])),
            ])
        }
    };
    completion.insert("model".to_owned(), model.into());
    completion.insert("usage".to_owned(), usage);
    Ok(Value::Object(completion))
}

fn created_secs() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
