//! Whole answers and model lists: what the gateway must know of them.
//!
//! Pure. The body itself goes on byte for byte.

mod assembled;
mod plain;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokenhub_domain::{Dialect, ErrorClass, ModelId, ProviderFailure, TokenUsage};

use crate::call::{Completion, ListedModel};
use crate::classify::{ErrorEvidence, classify};
use crate::convert::{Finish, facts};
use crate::usage::usage_of;

pub(crate) use assembled::Assembled;

/// Reads the body of a 2xx answer.
pub(crate) fn read_completion(
    dialect: Dialect,
    body: Vec<u8>,
    credential: Option<&str>,
) -> Result<Completion, ProviderFailure> {
    let unreadable = || ProviderFailure::of(ErrorClass::ServerError, "the provider's answer is not JSON");
    let raw = String::from_utf8(body).map_err(|_| unreadable())?;
    if dialect == Dialect::Chat
        && let Some(completion) = plain::read(&raw)
    {
        return Ok(Completion { raw, ..completion });
    }
    read_tree(dialect, raw, credential)
}

/// Reads any answer.
fn read_tree(dialect: Dialect, raw: String, credential: Option<&str>) -> Result<Completion, ProviderFailure> {
    let unreadable = || ProviderFailure::of(ErrorClass::ServerError, "the provider's answer is not JSON");
    let answer: Value = serde_json::from_str(&raw).map_err(|_| unreadable())?;
    if answer.get("error").is_some_and(|error| !error.is_null()) {
        return Err(classify(&ErrorEvidence::inside_answer(raw.as_bytes(), credential)));
    }
    let (content, what) = match dialect {
        Dialect::Chat => ("/choices/0", "choice"),
        Dialect::Responses => ("/output", "output"),
        Dialect::Messages => ("/content", "content"),
    };
    if answer.pointer(content).is_none() {
        return Err(ProviderFailure::of(ErrorClass::ServerError, format!("the provider's answer has no {what}")));
    }
    let facts = facts(dialect, &answer);
    let usage = facts.usage.unwrap_or_default();
    Ok(Completion {
        text: facts.text,
        refusal: facts.refusal.map(|refusal| refused(refusal, facts.finish.as_ref())),
        usage: TokenUsage { input_tokens: usage.input, output_tokens: usage.output },
        usage_json: facts.usage_json,
        finish_reason: facts.finish_raw,
        model_reported: facts.model,
        losses: Vec::new(),
        raw,
    })
}

/// An answer that is nothing but a refusal.
fn refused(refusal: String, finish: Option<&Finish>) -> ProviderFailure {
    let code = if finish == Some(&Finish::ContentFilter) { "content_filter" } else { "refusal" };
    let message = if refusal.is_empty() { "the provider filtered the answer".to_owned() } else { refusal };
    ProviderFailure {
        code: Some(code.to_owned()),
        status: Some(200),
        ..ProviderFailure::of(ErrorClass::ContentFiltered, message)
    }
}

/// Reads the body of a 2xx answer that holds vectors: only the bill is of interest.
pub(crate) fn read_embeddings(body: Vec<u8>, credential: Option<&str>) -> Result<Completion, ProviderFailure> {
    #[derive(Deserialize)]
    struct Embeddings<'a> {
        #[serde(borrow)]
        data: Option<&'a RawValue>,
        #[serde(borrow)]
        error: Option<&'a RawValue>,
        #[serde(borrow)]
        usage: Option<&'a RawValue>,
        model: Option<String>,
    }
    let unreadable = || ProviderFailure::of(ErrorClass::ServerError, "the provider's answer holds no embeddings");
    let raw = String::from_utf8(body).map_err(|_| unreadable())?;
    let answer: Embeddings<'_> = serde_json::from_str(&raw).map_err(|_| unreadable())?;
    if answer.error.is_some() {
        return Err(classify(&ErrorEvidence::inside_answer(raw.as_bytes(), credential)));
    }
    if answer.data.is_none() {
        return Err(unreadable());
    }
    let usage_json = answer.usage.map(|usage| usage.get().to_owned());
    let usage = usage_json.as_deref().and_then(|usage| serde_json::from_str(usage).ok());
    Ok(Completion {
        text: String::new(),
        refusal: None,
        // Nothing is written, and some providers count the prompt as the total.
        usage: TokenUsage { output_tokens: 0, ..usage.as_ref().map(usage_of).unwrap_or_default() },
        usage_json,
        finish_reason: None,
        losses: Vec::new(),
        model_reported: answer.model,
        raw,
    })
}

/// Reads a model list; entries without an id are left out.
pub(crate) fn read_models(body: &[u8]) -> Result<Vec<ListedModel>, ProviderFailure> {
    const WINDOW_FIELDS: [&str; 4] = ["context_length", "max_model_len", "context_window", "max_context_length"];
    let list: Value = serde_json::from_slice(body)
        .map_err(|_| ProviderFailure::of(ErrorClass::ServerError, "the provider's model list is not JSON"))?;
    let entries = list
        .get("data")
        .unwrap_or(&list)
        .as_array()
        .ok_or_else(|| ProviderFailure::of(ErrorClass::ServerError, "the provider's model list has no data"))?;
    let models = entries.iter().filter_map(|entry| {
        let id = entry.get("id").and_then(Value::as_str).filter(|id| !id.is_empty())?;
        let context_length = WINDOW_FIELDS.iter().find_map(|field| entry.get(field).and_then(Value::as_u64));
        Some(ListedModel { id: ModelId::new(id), context_length })
    });
    Ok(models.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(answer: &Value) -> Result<Completion, ErrorClass> {
        read_completion(Dialect::Chat, answer.to_string().into_bytes(), None).map_err(|failure| failure.class)
    }

    #[test]
    fn an_answer_keeps_its_bytes_and_gives_text_usage_reason_and_model() {
        let raw = r#"{ "model":"m-2024", "x_new": [1],  "choices":[{"message":{"content":"hi"},"finish_reason":"length"}],
            "usage":{"prompt_tokens":3,"completion_tokens":2,"z":{}} }"#;
        let completion = read_completion(Dialect::Chat, raw.as_bytes().to_vec(), None).unwrap();
        assert_eq!(completion.raw, raw);
        assert_eq!(completion.text, "hi");
        assert_eq!((completion.usage.input_tokens, completion.usage.output_tokens), (3, 2));
        assert_eq!(completion.usage_json.as_deref(), Some(r#"{"prompt_tokens":3,"completion_tokens":2,"z":{}}"#));
        assert_eq!(completion.finish_reason.as_deref(), Some("length"));
        assert_eq!(completion.model_reported.as_deref(), Some("m-2024"));
    }

    #[test]
    fn a_plain_answer_comes_to_the_same_in_both_ways_and_any_other_is_not_plain() {
        let message = |message: Value| json!({"choices": [{"message": message, "finish_reason": "stop"}]});
        let text = || json!({"role": "assistant", "content": "a\u{1F600}\n\"b\""});
        let mut plain = vec![message(text())];
        for (field, value) in [
            (
                "usage",
                json!({"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}),
            ),
            ("usage", json!(null)),
            ("usage", json!(7)),
            ("model", json!("m")),
            ("model", json!(null)),
            ("error", json!(null)),
        ] {
            let mut answer = message(text());
            answer[field] = value;
            plain.push(answer);
        }
        for finish in [json!(null), json!("length"), json!("new")] {
            plain
                .push(json!({"choices": [{"index": 0, "message": text(), "logprobs": null, "finish_reason": finish}]}));
        }
        plain.push(message(json!({"role": "assistant", "content": "a", "refusal": null, "annotations": []})));
        for answer in plain {
            let raw = answer.to_string();
            let read = plain::read(&raw).map(|it| Completion { raw: raw.clone(), ..it });
            assert_eq!(read, read_tree(Dialect::Chat, raw.clone(), None).ok(), "{raw}");
        }
        for answer in [
            json!({"error": {"message": "x"}, "choices": [{"message": text()}]}),
            json!({"choices": []}),
            json!({"choices": [{"message": text()}, {"message": text()}]}),
            json!({"model": 7, "choices": [{"message": text()}]}),
            message(json!({"role": "assistant", "content": ""})),
            message(json!({"role": "assistant", "content": null, "tool_calls": []})),
            message(json!({"role": "assistant", "content": "a", "reasoning_content": "b"})),
            message(json!({"role": "assistant", "content": "a", "refusal": "no"})),
            message(json!({"role": "assistant", "content": [{"type": "text", "text": "a"}]})),
        ] {
            assert_eq!(plain::read(&answer.to_string()), None, "{answer}");
        }
    }

    #[test]
    fn a_success_that_is_an_error_or_no_answer_is_a_failure() {
        assert_eq!(read(&json!({"error": {"message": "x"}})), Err(ErrorClass::ServerError));
        assert_eq!(read(&json!({"error": {"code": "insufficient_quota"}})), Err(ErrorClass::QuotaExhausted));
        assert_eq!(read(&json!({})), Err(ErrorClass::ServerError));
        assert_eq!(read(&json!({"choices": []})), Err(ErrorClass::ServerError));
        assert!(read_completion(Dialect::Chat, b"<html>".to_vec(), None).is_err());
        assert!(read_completion(Dialect::Chat, vec![b'"', 0xFF, b'"'], None).is_err());
        assert!(read(&json!({"error": null, "choices": [{"message": {"content": "a"}}]})).is_ok());
    }

    #[test]
    fn only_an_answer_without_content_is_filtered() {
        let answer = |message: Value, reason: &str| {
            let completion = read(&json!({"choices": [{"message": message, "finish_reason": reason}]})).unwrap();
            completion.refusal.map_or(Ok(completion.text), |refusal| Err(refusal.class))
        };
        let filtered = Err(ErrorClass::ContentFiltered);
        assert_eq!(answer(json!({"content": null, "refusal": "I cannot"}), "stop"), filtered);
        assert_eq!(answer(json!({"content": ""}), "content_filter"), filtered);
        assert_eq!(answer(json!({"content": "partly"}), "content_filter").as_deref(), Ok("partly"));
        assert_eq!(
            answer(json!({"content": null, "tool_calls": [{"id": "c"}]}), "tool_calls").as_deref(),
            Ok(r#"[{"id":"c"}]"#)
        );
        assert_eq!(answer(json!({"content": ""}), "stop").as_deref(), Ok(""));
    }

    #[test]
    fn a_model_list_gives_ids_and_windows() {
        let body = br#"{"object":"list","data":[{"id":"a","context_length":8192},{"id":"b:1/x+y@z","max_model_len":4096},{"id":"c"},{"x":1}]}"#;
        let models = read_models(body).unwrap();
        let seen: Vec<_> = models.iter().map(|model| (model.id.as_str(), model.context_length)).collect();
        assert_eq!(seen, [("a", Some(8192)), ("b:1/x+y@z", Some(4096)), ("c", None)]);
        assert!(read_models(b"{}").is_err());
        assert!(read_models(b"no").is_err());
    }
}
