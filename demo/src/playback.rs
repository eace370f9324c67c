//! Plays one reply on the wire.
//!
//! Finds out what is said, in which form, and hands it to the show, which knows about pauses, cuts and silence. Knows no
//! wire form itself.

mod score;
pub(crate) mod show;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response};
use serde_json::{Map, Value, json};

use crate::calls::Finished;
use crate::dialect::{Dialect, Route};
use crate::held_stream::Hold;
use crate::judging::{Verdict, answers_in, verdict, verdict_asked};
use crate::models;
use crate::playback::score::{Act, Matter, Score};
use crate::playback::show::{Body, CallGuard, Cut, answer, body_of};
use crate::reply::{Content, Ending, Omission, Part, Reply};
use crate::request::{Delivery, Message, Request};
use crate::script::Prepared;
use crate::speech::{Speech, Usage, ended, parts_of, tokens_in, tokens_of};
use crate::wire::sse::{Role, Sentence, scripted_event};
use crate::wire::{self, embeddings, errors};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
/// What both newer dialects call it.
const EVENT_STREAM_UTF8: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");

/// Plays `prepared` to the client.
pub(crate) async fn play(
    prepared: Arc<Prepared>,
    request: Request,
    guard: CallGuard,
    hold: &Hold,
) -> Result<Response<Body>, Cut> {
    let reply = &prepared.reply;
    if reply.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(reply.delay_ms)).await;
    }
    match reply.ending {
        Ending::Hang => std::future::pending::<()>().await,
        Ending::HangInHeaders => hold.engage(),
        Ending::CutBeforeBytes => {
            guard.finish(Finished::Cut);
            return Err(Cut);
        }
        Ending::Whole
        | Ending::CutAfterBytes(_)
        | Ending::CutAfterTokens(_)
        | Ending::StallAfterBytes(_)
        | Ending::StallAfterTokens(_)
        | Ending::KeepAliveAfterBytes(_)
        | Ending::KeepAliveAfterTokens(_) => {}
    }
    let dialect = request.dialect();
    let end = if reply.status >= 400 { Finished::Failed(reply.status) } else { Finished::Answered };
    let (content_type, score, request_id) = if let Some(fast) = &prepared.fast {
        let bytes = fast.body(dialect, request.delivery);
        let score = score::of(reply, dialect, Matter::Body(bytes));
        (speech_type(dialect, request.delivery), score, HeaderValue::from_static("req_fast"))
    } else {
        let request_id = next_request_id();
        // A script with an illegal status or header shows as a closed connection.
        let (content_type, score) = compose(reply, &request, &request_id).ok_or(Cut)?;
        (content_type, score, HeaderValue::try_from(request_id).map_err(|_| Cut)?)
    };
    let body = body_of(reply, score, guard, end);
    let mut response = Response::builder().status(reply.status).body(body).map_err(|_| Cut)?;
    *response.headers_mut() = headers(reply, dialect, content_type, request_id)?;
    Ok(response)
}

/// The whole answer that `reply` is to `request`; nothing when it is no JSON.
pub(crate) fn whole_json(reply: &Reply, request: &Request) -> Option<Value> {
    let (_, score) = compose(reply, request, &next_request_id())?;
    let written = score.acts.iter().flat_map(|act| match act {
        Act::Write(bytes) => bytes.to_vec(),
        Act::PauseMs(_) => Vec::new(),
    });
    serde_json::from_slice(&written.collect::<Vec<u8>>()).ok().filter(Value::is_object)
}

/// The answer to a request that is turned away: an error with this status in the dialect's form.
pub(crate) fn refusal(dialect: Dialect, status: u16, error: &crate::reply::ErrorBody) -> Response<Body> {
    let request_id = next_request_id();
    let body = errors::body(dialect, status, error, &request_id);
    let mut response = answer(status, "application/json", Bytes::from(body.to_string()));
    if let Ok(value) = HeaderValue::try_from(request_id) {
        response.headers_mut().insert(request_id_header(dialect), value);
    }
    response
}

fn next_request_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("req_{:032x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn request_id_header(dialect: Dialect) -> HeaderName {
    HeaderName::from_static(match dialect {
        Dialect::Chat | Dialect::Responses => "x-request-id",
        Dialect::Messages => "request-id",
    })
}

/// What the script says about headers goes before what is usual.
fn headers(
    reply: &Reply,
    dialect: Dialect,
    content_type: HeaderValue,
    request_id: HeaderValue,
) -> Result<HeaderMap, Cut> {
    let mut headers = HeaderMap::with_capacity(4 + reply.headers.len());
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(request_id_header(dialect), request_id);
    if let Some(limits) = reply.rate_limits {
        limits.write(dialect, &mut headers);
    }
    if reply.headers.is_empty() {
        return Ok(headers);
    }
    let usual = headers.clone();
    for (name, value) in &reply.headers {
        let name = HeaderName::try_from(name).map_err(|_| Cut)?;
        let value = HeaderValue::try_from(value).map_err(|_| Cut)?;
        if usual.contains_key(&name) {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
    }
    Ok(headers)
}

fn speech_type(dialect: Dialect, delivery: Delivery) -> HeaderValue {
    match (delivery, dialect) {
        (Delivery::Whole, _) => JSON,
        (Delivery::Streamed | Delivery::StreamedWithUsage, Dialect::Chat) => EVENT_STREAM,
        (Delivery::Streamed | Delivery::StreamedWithUsage, Dialect::Responses | Dialect::Messages) => EVENT_STREAM_UTF8,
    }
}

/// Media type and score; nothing when the scripted media type is none, or a demo model that there is not is to speak.
fn compose(reply: &Reply, request: &Request, request_id: &str) -> Option<(HeaderValue, Score)> {
    let dialect = request.dialect();
    let body = |text: String| score::of(reply, dialect, Matter::Body(Bytes::from(text)));
    let said = match for_dialect(&reply.content, dialect) {
        Content::Json(value) => return Some((JSON, body(value.to_string()))),
        Content::Error(error) => {
            return Some((JSON, body(errors::body(dialect, reply.status, error, request_id).to_string())));
        }
        Content::Raw { content_type, body: text } => {
            return Some((HeaderValue::try_from(content_type).ok()?, body(text.clone())));
        }
        Content::Events(payloads) => {
            let sentence = |payload: &String| Sentence { bytes: scripted_event(dialect, payload), role: Role::Token };
            let sentences = payloads.iter().map(sentence).collect();
            let content_type = speech_type(dialect, Delivery::Streamed);
            let speech = speech(reply, request, Said { parts: Cow::Borrowed(&[]), message: None });
            return Some((content_type, score::of(reply, dialect, Matter::Stream(sentences, &speech))));
        }
        Content::Message(message) => Said { parts: Cow::Owned(parts_of(message)), message: Some(message) },
        Content::Parts(parts) => Said { parts: Cow::Borrowed(parts), message: None },
        Content::Text(text) | Content::Fast(text) => Said::text(text.clone()),
        Content::Big(bytes) => Said::text(big_text(*bytes)),
        Content::Echo | Content::ByDialect(_) => Said::text(last_text(&request.messages())),
        Content::JudgeBy(text) => Said::text(judged_by(text, &request.messages())),
        Content::DemoModel => Said::text(models::words(&request.model, &request.messages())?),
    };
    let natural = match request.route {
        Route::ChatCompletions | Route::Responses | Route::Messages => return Some(speak(reply, request, said)),
        Route::CountTokens => {
            json!({"input_tokens": reply.usage.map_or_else(|| prompt_tokens(request), |usage| usage.0)})
        }
        Route::Embeddings => embeddings::answer(&request.model, &request.fields()),
        // The list is the server's to answer; a rule for it can only get in its way.
        Route::Models => Value::Null,
    };
    Some((JSON, body(natural.to_string())))
}

fn for_dialect(mut content: &Content, dialect: Dialect) -> &Content {
    while let Content::ByDialect(contents) = content {
        content = match dialect {
            Dialect::Chat => &contents.chat,
            Dialect::Responses => &contents.responses,
            Dialect::Messages => &contents.messages,
        };
    }
    content
}

/// What is said, and the message that says it as it is.
struct Said<'a> {
    parts: Cow<'a, [Part]>,
    message: Option<&'a Value>,
}

impl Said<'_> {
    fn text(text: String) -> Self {
        Self { parts: Cow::Owned(vec![Part::Text(text)]), message: None }
    }

    fn tokens(&self) -> u64 {
        let Some(message) = self.message else { return tokens_of(&self.parts) };
        let said = message.get("content").and_then(Value::as_str).map_or_else(|| message.to_string(), str::to_owned);
        tokens_in(&said)
    }
}

fn speak(reply: &Reply, request: &Request, said: Said<'_>) -> (HeaderValue, Score) {
    let dialect = request.dialect();
    let speech = speech(reply, request, said);
    let matter = match request.delivery {
        Delivery::Whole => Matter::Body(wire::whole(dialect, &speech)),
        Delivery::Streamed | Delivery::StreamedWithUsage => {
            Matter::Stream(wire::stream(dialect, &speech, request.delivery), &speech)
        }
    };
    (speech_type(dialect, request.delivery), score::of(reply, dialect, matter))
}

fn speech<'a>(reply: &'a Reply, request: &'a Request, said: Said<'a>) -> Speech<'a> {
    let (prompt_tokens, completion_tokens) = reply.usage.unwrap_or_else(|| (prompt_tokens(request), said.tokens()));
    let usage = Usage { prompt_tokens, completion_tokens, details: reply.token_details };
    Speech {
        id: reply.id.as_deref(),
        model: &request.model,
        ended: ended(reply, &said.parts),
        parts: said.parts,
        message: said.message,
        usage: (!reply.omit.contains(&Omission::Usage)).then_some(usage),
        tool_order: reply.tool_order,
        asked: if request.dialect() == Dialect::Responses { request.fields() } else { Map::new() },
    }
}

/// Tools count as well where tokens are counted for their own sake.
fn prompt_tokens(request: &Request) -> u64 {
    let said: u64 = request.messages().iter().map(|message| tokens_in(&message.text)).sum();
    match request.route {
        Route::CountTokens => said + request.fields().get("tools").map_or(0, |tools| tokens_in(&tools.to_string())),
        Route::ChatCompletions | Route::Responses | Route::Messages | Route::Embeddings | Route::Models => said,
    }
}

fn big_text(bytes: usize) -> String {
    const LINE: &str = "A long answer, line after line of it, so that its size matters.\n";
    let mut text = LINE.repeat(bytes / LINE.len() + 1);
    text.truncate(bytes);
    text
}

fn last_text(messages: &[Message]) -> String {
    messages.last().map_or_else(String::new, |message| message.text.clone())
}

fn judged_by(text: &str, messages: &[Message]) -> String {
    let asked = verdict_asked(messages).unwrap_or(Verdict::Winner);
    let lying_before = last_text(messages);
    verdict(asked, &answers_in(&lying_before), |answer| if answer.contains(text) { 90 } else { 10 }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_big_text_has_exactly_its_size() {
        for bytes in [0, 1, 64, 100_000] {
            assert_eq!(big_text(bytes).len(), bytes);
        }
    }

    #[test]
    fn a_judge_finds_the_answer_that_contains_the_text() {
        let messages = [
            Message { role: "system".into(), text: "{\"winner\": k}".into() },
            Message { role: "user".into(), text: "Answer 1:\nred\nAnswer 2:\nblue\n".into() },
        ];
        assert_eq!(judged_by("blue", &messages), r#"{"winner":2}"#);
        let scores = [Message { text: "{\"scores\": [..]}".into(), ..messages[0].clone() }, messages[1].clone()];
        assert_eq!(judged_by("blue", &scores), r#"{"scores":[10,90]}"#);
    }
}
