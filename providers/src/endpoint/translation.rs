//! One call between the caller's protocol and the upstream's: the body on its way out, the answer on its way back.
//!
//! Pure. Where both speak the same, the bytes pass with only the gateway's own fields set; elsewhere `convert` does the
//! work, and what got lost is kept for whoever asks.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value};
use tokenhub_domain::{Dialect, ErrorClass, ProviderFailure, ProviderId};

use crate::answer::read_completion;
use crate::call::{Call, Completion};
use crate::convert::{self, Abilities, ConvertError, Issuer, Loss, ReplyContext, Target};
use crate::stream::Reading;
use crate::wire::{Delivery, in_foreground, request_body, with_model};

/// A call as the upstream is to see it.
pub(super) struct Translation {
    /// The body.
    pub(super) body: String,
    /// The protocol in which it is written.
    pub(super) upstream: Dialect,
    crossing: Option<Crossing>,
}

/// What it takes to bring the answer back into another protocol.
struct Crossing {
    client: Dialect,
    context: ReplyContext,
    losses: Vec<Loss>,
}

impl Translation {
    /// `call` for `provider`, which speaks `dialects`. The caller's own protocol is preferred: it loses nothing.
    pub(super) fn of(
        call: &Call<'_>,
        provider: &ProviderId,
        dialects: &[Dialect],
        delivery: Delivery,
        now_secs: u64,
    ) -> Result<Self, ProviderFailure> {
        let body = match call.dialect {
            Dialect::Responses => in_foreground(text_of(&call.body)?).map_err(|_| no_object())?,
            Dialect::Chat | Dialect::Messages => Cow::Borrowed(text_of(&call.body)?),
        };
        let Some(upstream) = dialects.iter().find(|one| **one == call.dialect).or(dialects.first()).copied() else {
            return Err(refused(None, "the provider speaks no protocol"));
        };
        if upstream == call.dialect {
            let own = without_foreign_reasoning(upstream, &body)?;
            let body = request_body(upstream, call.model, &own, call.max_output_tokens, delivery);
            return Ok(Self { body: body.map_err(|_| no_object())?, upstream, crossing: None });
        }
        let issuer = Issuer { provider: provider.clone(), model: call.model.clone() };
        let target = Target {
            issuer: issuer.clone(),
            max_output_tokens: call.model_output_tokens,
            abilities: Abilities::default(),
        };
        let asked: Map<String, Value> = serde_json::from_str(&body).map_err(|_| no_object())?;
        let converted = convert::request(call.dialect, upstream, &asked, &target).map_err(failure_of)?;
        let body = Value::Object(converted.body).to_string();
        let body = request_body(upstream, call.model, &body, call.max_output_tokens, delivery);
        let model = asked.get("model").and_then(Value::as_str).filter(|name| !name.is_empty());
        let context = ReplyContext {
            attempt: call.attempt.clone(),
            model: model.unwrap_or(call.model.as_str()).to_owned(),
            created_secs: now_secs,
            issuer,
            tool_names: converted.tool_names,
            free_form_tools: converted.free_form_tools,
        };
        let crossing = Crossing { client: call.dialect, context, losses: converted.losses };
        Ok(Self { body: body.map_err(|_| no_object())?, upstream, crossing: Some(crossing) })
    }

    /// Reads a whole answer and brings it into the caller's protocol; the bill stays in the upstream's words.
    pub(super) fn answer(self, body: Vec<u8>, credential: Option<&str>) -> Result<Completion, ProviderFailure> {
        let mut completion = read_completion(self.upstream, body, credential)?;
        let Some(crossing) = self.crossing else { return Ok(completion) };
        let unreadable = |reason: String| ProviderFailure::of(ErrorClass::ServerError, reason);
        let answer: Value = serde_json::from_str(&completion.raw).map_err(|error| unreadable(error.to_string()))?;
        let converted =
            convert::reply(self.upstream, crossing.client, &answer, &crossing.context).map_err(failure_of)?;
        completion.raw = Value::Object(converted.body).to_string();
        completion.losses = crossing.losses;
        completion.losses.extend(converted.losses);
        Ok(completion)
    }

    /// How to read a streamed answer, and what got lost on the way out.
    pub(super) fn reading(self) -> (Reading, Vec<Loss>) {
        match self.crossing {
            None => (Reading::Same(self.upstream), Vec::new()),
            Some(crossing) => {
                let context = Box::new(crossing.context);
                (Reading::Converted { upstream: self.upstream, client: crossing.client, context }, crossing.losses)
            }
        }
    }
}

/// A conversation that was once answered through another protocol carries reasoning that only its issuer understands.
/// Every other body is forwarded as it came, and not even parsed.
fn without_foreign_reasoning(dialect: Dialect, body: &str) -> Result<Cow<'_, str>, ProviderFailure> {
    if memchr::memmem::find(body.as_bytes(), convert::TUNNEL_PREFIX.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(body));
    }
    let mut own: Map<String, Value> = serde_json::from_str(body).map_err(|_| no_object())?;
    convert::drop_foreign_reasoning(dialect, &mut own);
    Ok(Cow::Owned(Value::Object(own).to_string()))
}

/// The body of a call whose protocol has no counterpart elsewhere.
pub(super) fn own_body(call: &Call<'_>) -> Result<String, ProviderFailure> {
    let body = text_of(&call.body)?;
    with_model(body, call.model).map_err(|_| no_object())
}

fn text_of(body: &Bytes) -> Result<&str, ProviderFailure> {
    std::str::from_utf8(body).map_err(|_| no_object())
}

fn no_object() -> ProviderFailure {
    refused(None, "the request body is not a JSON object")
}

fn failure_of(error: ConvertError) -> ProviderFailure {
    match error {
        ConvertError::Invalid { param, reason } => refused(Some(param), reason),
        ConvertError::Reply(reason) => ProviderFailure::of(ErrorClass::ServerError, reason),
    }
}

/// The request is at fault, whoever would be asked.
fn refused(param: Option<String>, reason: impl Into<String>) -> ProviderFailure {
    ProviderFailure { status: Some(400), param, ..ProviderFailure::of(ErrorClass::BadRequest, reason) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use tokenhub_domain::{AttemptId, CredentialId, ModelId};

    use super::*;

    fn translated(dialect: Dialect, dialects: &[Dialect], body: &Value) -> Result<Translation, ProviderFailure> {
        let (attempt, model, credential) = (AttemptId::from("att_1"), ModelId::from("m"), CredentialId::default());
        let call = Call {
            attempt: &attempt,
            model: &model,
            credential: &credential,
            dialect,
            body: body.to_string().into(),
            forwarded: &[],
            max_output_tokens: None,
            model_output_tokens: Some(4_096),
            timeout: Duration::from_secs(1),
            first_token_timeout: None,
        };
        Translation::of(&call, &"p".into(), dialects, Delivery::Whole, 7)
    }

    #[test]
    fn the_callers_protocol_is_kept_where_the_provider_speaks_it() {
        let body = json!({"model": "alias", "input": "hi", "x": 1});
        let kept = translated(Dialect::Responses, &[Dialect::Chat, Dialect::Responses], &body).unwrap();
        assert_eq!((kept.upstream, kept.body.as_str()), (Dialect::Responses, r#"{"model":"m","input":"hi","x":1}"#));
    }

    #[test]
    fn reasoning_that_was_tunnelled_for_another_issuer_does_not_reach_a_native_provider() {
        let signature = format!("{}rest", convert::TUNNEL_PREFIX);
        let thinking = json!({"type": "thinking", "thinking": "hm", "signature": signature});
        let body = json!({"model": "a", "max_tokens": 9, "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [thinking, {"type": "text", "text": "hello"}]},
            {"role": "user", "content": "again"}]});
        let sent = translated(Dialect::Messages, &[Dialect::Messages], &body).unwrap().body;
        assert!(!sent.contains("thinking") && sent.contains("hello"), "{sent}");
    }

    #[test]
    fn another_protocol_is_converted_both_ways_and_the_client_sees_the_name_it_asked_for() {
        let body = json!({"model": "alias", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
        let crossed = translated(Dialect::Messages, &[Dialect::Chat], &body).unwrap();
        assert_eq!(crossed.upstream, Dialect::Chat);
        let sent: Value = serde_json::from_str(&crossed.body).unwrap();
        assert_eq!((&sent["model"], &sent["messages"][0]["content"]), (&json!("m"), &json!("hi")));
        let answer = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}});
        let completion = crossed.answer(answer.to_string().into_bytes(), None).unwrap();
        let shown: Value = serde_json::from_str(&completion.raw).unwrap();
        assert_eq!((&shown["type"], &shown["model"]), (&json!("message"), &json!("alias")));
        assert_eq!(shown["content"][0]["text"], "hello");
        assert_eq!((completion.text.as_str(), completion.usage.input_tokens), ("hello", 3));
        assert!(completion.usage_json.unwrap().contains("prompt_tokens"));
    }

    #[test]
    fn what_cannot_be_converted_is_the_callers_mistake_and_names_the_field() {
        let body = json!({"model": "a", "input": "hi", "previous_response_id": "resp_1"});
        let failure = translated(Dialect::Responses, &[Dialect::Chat], &body).err().unwrap();
        assert_eq!((failure.class, failure.status), (ErrorClass::BadRequest, Some(400)));
        assert_eq!(failure.param.as_deref(), Some("previous_response_id"));
    }
}
