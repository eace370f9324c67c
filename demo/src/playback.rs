//! Plays one reply on the wire: pauses, pieces, cuts and silence.
//!
//! Also decides how the call ended. As long as the guard lives and nothing was decided, dropping it means that the client
//! went away: the HTTP server drops the answer when the connection closes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};
use http_body_util::{Either, Full, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use hyper::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::calls::{Finished, Ticket};
use crate::judging::{Verdict, answers_in, verdict, verdict_asked};
use crate::reply::{Content, Ending, Reply};
use crate::script::{Prepared, Script};
use crate::wire::{ChatRequest, Delivery, Message, Speech, event, tokens_in, usage};

/// The connection is to be closed, as scripted.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("cut, as scripted")]
pub(crate) struct Cut;

/// The body of an answer.
pub(crate) type Body = Either<Full<Bytes>, StreamBody<BoxStream<'static, Result<Frame<Bytes>, Cut>>>>;

const JSON: &str = "application/json";
const EVENT_STREAM: &str = "text/event-stream";

/// An answer whose body is `bytes`.
pub(crate) fn answer(status: u16, content_type: &str, bytes: Bytes) -> Response<Body> {
    let builder = Response::builder().status(status).header(CONTENT_TYPE, content_type);
    let body = Either::Left(Full::new(bytes));
    builder.body(body).unwrap_or_else(|_| Response::new(Either::Left(Full::new(Bytes::new()))))
}

/// Decides how a call ended; the first decision counts.
#[derive(Debug)]
pub(crate) struct CallGuard {
    entered: Option<(Script, Ticket)>,
}

impl CallGuard {
    /// For a call in `script`'s list.
    pub(crate) fn of(script: &Script, ticket: Ticket) -> Self {
        Self { entered: Some((script.clone(), ticket)) }
    }

    /// For a call that nobody lists.
    pub(crate) fn none() -> Self {
        Self { entered: None }
    }

    fn finish(&self, finished: Finished) {
        if let Some((script, ticket)) = &self.entered {
            script.log().finish(*ticket, finished);
        }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.finish(Finished::Aborted);
    }
}

/// Plays `prepared` to the client.
pub(crate) async fn play(
    prepared: Arc<Prepared>,
    request: ChatRequest,
    guard: CallGuard,
) -> Result<Response<Body>, Cut> {
    let reply = &prepared.reply;
    if reply.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(reply.delay_ms)).await;
    }
    match reply.ending {
        Ending::Hang => std::future::pending::<()>().await,
        Ending::CutBeforeBytes => {
            guard.finish(Finished::Cut);
            return Err(Cut);
        }
        Ending::Whole | Ending::CutAfterBytes(_) | Ending::StallAfterBytes(_) => {}
    }
    let (content_type, pieces) = compose(&prepared, &request);
    let end = if reply.status >= 400 { Finished::Failed(reply.status) } else { Finished::Answered };
    let body = body_of(reply, pieces, guard, end);
    let mut builder = Response::builder().status(reply.status).header(CONTENT_TYPE, content_type);
    for (name, value) in &reply.headers {
        builder = builder.header(name, value);
    }
    // A script with an illegal status or header shows as a closed connection.
    builder.body(body).map_err(|_| Cut)
}

fn body_of(reply: &Reply, mut pieces: Vec<Bytes>, guard: CallGuard, end: Finished) -> Body {
    let limit = match reply.ending {
        Ending::CutAfterBytes(limit) | Ending::StallAfterBytes(limit) => Some(limit),
        Ending::Whole | Ending::Hang | Ending::CutBeforeBytes => None,
    };
    if limit.is_none() && reply.split_bytes.is_none() && pieces.len() == 1 {
        guard.finish(end);
        return Either::Left(Full::new(pieces.swap_remove(0)));
    }
    if let Some(limit) = limit {
        pieces = truncated(pieces, limit);
    }
    if let Some(size) = reply.split_bytes {
        pieces = split(&pieces, size.max(1));
    }
    let show = Show {
        pieces: pieces.into(),
        position: 0,
        gap: Duration::from_millis(reply.gap_ms),
        pace: if reply.split_bytes.is_some() { Pace::EachByItself } else { Pace::AsReady },
        ending: reply.ending,
        guard,
        end,
    };
    let frames = unfold(show, |mut show| async move {
        let item = show.next().await?;
        Some((item, show))
    });
    Either::Right(StreamBody::new(frames.boxed()))
}

#[derive(Clone, Copy, Debug)]
enum Pace {
    AsReady,
    /// Gives the connection a chance to flush before each piece.
    EachByItself,
}

struct Show {
    pieces: Arc<[Bytes]>,
    position: usize,
    gap: Duration,
    pace: Pace,
    ending: Ending,
    guard: CallGuard,
    end: Finished,
}

impl Show {
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, Cut>> {
        if self.position > 0 && self.position < self.pieces.len() {
            if !self.gap.is_zero() {
                tokio::time::sleep(self.gap).await;
            }
            match self.pace {
                Pace::AsReady => {}
                Pace::EachByItself => tokio::task::yield_now().await,
            }
        }
        if let Some(piece) = self.pieces.get(self.position).cloned() {
            self.position += 1;
            if self.position == self.pieces.len() && self.ending == Ending::Whole {
                self.guard.finish(self.end);
            }
            return Some(Ok(Frame::data(piece)));
        }
        match self.ending {
            Ending::Whole | Ending::Hang | Ending::CutBeforeBytes => {
                self.guard.finish(self.end);
                None
            }
            Ending::CutAfterBytes(_) => {
                // What was written must reach the client before the connection closes.
                tokio::time::sleep(FLUSH_WAIT).await;
                self.guard.finish(Finished::Cut);
                Some(Err(Cut))
            }
            Ending::StallAfterBytes(_) => std::future::pending().await,
        }
    }
}

/// Between the last byte before a cut and the cut.
const FLUSH_WAIT: Duration = Duration::from_millis(5);

fn truncated(pieces: Vec<Bytes>, limit: usize) -> Vec<Bytes> {
    let mut left = limit;
    let mut kept = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let size = piece.len().min(left);
        left -= size;
        if size > 0 {
            kept.push(piece.slice(..size));
        }
    }
    kept
}

fn split(pieces: &[Bytes], size: usize) -> Vec<Bytes> {
    let whole = Bytes::from(pieces.concat());
    (0..whole.len()).step_by(size).map(|start| whole.slice(start..whole.len().min(start + size))).collect()
}

fn compose(prepared: &Prepared, request: &ChatRequest) -> (String, Vec<Bytes>) {
    let speech_type = match request.delivery {
        Delivery::Whole => JSON,
        Delivery::Streamed | Delivery::StreamedWithUsage => EVENT_STREAM,
    };
    if let Some(fast) = &prepared.fast {
        return (speech_type.to_owned(), vec![fast.for_delivery(request.delivery)]);
    }
    let reply = &prepared.reply;
    let message = match &reply.content {
        Content::Json(body) => return (JSON.to_owned(), vec![Bytes::from(body.to_string())]),
        Content::Raw { content_type, body } => return (content_type.clone(), vec![Bytes::from(body.clone())]),
        Content::Events(payloads) => {
            return (EVENT_STREAM.to_owned(), payloads.iter().map(|payload| event(payload)).collect());
        }
        Content::Message(message) => message.clone(),
        Content::Text(text) | Content::Fast(text) => json!({ "content": text }),
        Content::Big(bytes) => json!({ "content": big_text(*bytes) }),
        Content::Echo => json!({ "content": last_text(&request.messages()) }),
        Content::JudgeBy(text) => json!({ "content": judged_by(text, &request.messages()) }),
    };
    (speech_type.to_owned(), speak(reply, request, &message))
}

fn speak(reply: &Reply, request: &ChatRequest, message: &Value) -> Vec<Bytes> {
    let (prompt_tokens, completion_tokens) = reply.usage.unwrap_or_else(|| {
        let prompt: u64 = request.messages().iter().map(|message| tokens_in(&message.text)).sum();
        let said = message.get("content").and_then(Value::as_str).map_or_else(|| message.to_string(), str::to_owned);
        (prompt, tokens_in(&said))
    });
    let calls_tools = message.get("tool_calls").is_some_and(Value::is_array);
    let natural_reason = if calls_tools { "tool_calls" } else { "stop" };
    let speech = Speech {
        id: "chatcmpl-scripted",
        model: &request.model,
        message,
        finish_reason: reply.finish_reason.as_deref().unwrap_or(natural_reason),
        usage: usage(prompt_tokens, completion_tokens),
    };
    match request.delivery {
        Delivery::Whole => vec![speech.whole()],
        Delivery::Streamed | Delivery::StreamedWithUsage => speech.events(request.delivery),
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

    fn joined(pieces: &[Bytes]) -> String {
        String::from_utf8(pieces.concat()).unwrap()
    }

    #[test]
    fn pieces_are_cut_to_a_length_and_into_parts() {
        let pieces = vec![Bytes::from_static(b"abc"), Bytes::from_static(b"def")];
        assert_eq!(joined(&truncated(pieces.clone(), 4)), "abcd");
        assert_eq!(truncated(pieces.clone(), 3).len(), 1);
        let parts = split(&pieces, 4);
        assert_eq!((joined(&parts), parts.len()), ("abcdef".to_owned(), 2));
    }

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
