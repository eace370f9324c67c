//! The last event of a stream that broke off, in each protocol.
//!
//! No end mark follows it: a client must not take a part of an answer for the whole.

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokenhub_domain::{Dialect, ProviderFailure, RequestId, StopReason};

use crate::error::{FailedRun, Problem, Report, Shape, anthropic_error, openai_error};

/// What was sent of the stream so far.
#[derive(Default)]
pub(super) struct Sent {
    first: Option<Bytes>,
    last: Option<Bytes>,
    count: u64,
}

impl Sent {
    pub(super) fn note(&mut self, frame: &Bytes) {
        self.first.get_or_insert_with(|| frame.clone());
        self.last = Some(frame.clone());
        self.count += 1;
    }

    /// The object that the stream began with, which the failure completes.
    fn response(&self) -> Map<String, Value> {
        let first = self.first.as_ref().and_then(payload);
        match first.and_then(|mut event| event.get_mut("response").map(Value::take)) {
            Some(Value::Object(response)) => response,
            Some(_) | None => Map::new(),
        }
    }

    fn next_sequence_number(&self) -> u64 {
        let last = self.last.as_ref().and_then(payload);
        let number = last.and_then(|event| event.get("sequence_number")?.as_u64());
        number.map_or(self.count, |number| number.saturating_add(1))
    }
}

/// The event that tells `failure`.
pub(super) fn frame(dialect: Dialect, failure: ProviderFailure, sent: &Sent, request_id: Option<&RequestId>) -> Bytes {
    let run = FailedRun { failure: Some(failure), stop_reason: StopReason::AllFailed, ..FailedRun::default() };
    let problem = Problem::RunFailed(Box::new(run));
    let frame = match dialect {
        Dialect::Chat => format!("data: {}\n\n", openai_error(&problem.report(Shape::OpenAi))),
        Dialect::Messages => {
            format!("event: error\ndata: {}\n\n", anthropic_error(&problem.report(Shape::Anthropic), request_id))
        }
        Dialect::Responses => {
            format!(
                "event: response.failed\ndata: {}\n\n",
                response_failed(&problem.report(Shape::OpenAi), sent, request_id)
            )
        }
    };
    frame.into()
}

/// A bare error event is overlooked by clients of Responses, so the response itself is told to have failed.
fn response_failed(report: &Report, sent: &Sent, request_id: Option<&RequestId>) -> Value {
    let mut response = sent.response();
    response.entry("id").or_insert_with(|| format!("resp_{}", request_id.map_or("", RequestId::as_str)).into());
    response.insert("object".to_owned(), "response".into());
    response.insert("status".to_owned(), "failed".into());
    let code = report.code.as_deref().unwrap_or("server_error");
    response.insert("error".to_owned(), json!({"code": code, "message": report.message}));
    response.entry("output").or_insert_with(|| json!([]));
    json!({"type": "response.failed", "sequence_number": sent.next_sequence_number(), "response": response})
}

/// The JSON in the data lines of a frame.
fn payload(frame: &Bytes) -> Option<Value> {
    let lines = frame.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data: "));
    serde_json::from_slice(&lines.collect::<Vec<_>>().join(&b'\n')).ok()
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::ErrorClass;

    use super::*;

    fn told(dialect: Dialect, frames: &[&'static str]) -> (String, Value) {
        let mut sent = Sent::default();
        for text in frames {
            sent.note(&Bytes::from_static(text.as_bytes()));
        }
        let failure = ProviderFailure::of(ErrorClass::StreamBroken, "connection reset");
        let frame = frame(dialect, failure, &sent, Some(&RequestId::from("req_1")));
        let text = String::from_utf8(frame.to_vec()).unwrap();
        assert!(text.ends_with("\n\n"));
        (text, payload(&frame).unwrap())
    }

    #[test]
    fn chat_gets_a_bare_error_object() {
        let (text, event) = told(Dialect::Chat, &[]);
        assert!(text.starts_with("data: {\"error\":"));
        assert_eq!(event["error"]["code"], "stream_broken");
    }

    #[test]
    fn messages_gets_an_error_event_with_the_request() {
        let (text, event) = told(Dialect::Messages, &[]);
        assert!(text.starts_with("event: error\ndata: "));
        assert_eq!(
            event,
            json!({"type": "error", "request_id": "req_1", "error":
                {"type": "api_error", "message": "the provider's answer broke off: connection reset"}})
        );
    }

    #[test]
    fn the_response_that_began_is_told_to_have_failed_under_the_next_number() {
        let (text, event) = told(
            Dialect::Responses,
            &[
                "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":4,\"response\":{\"id\":\"resp_9\",\"object\":\"response\",\"model\":\"m\",\"status\":\"in_progress\",\"error\":null,\"output\":[]}}\n\n",
                "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\ndata: \"sequence_number\":5}\n\n",
            ],
        );
        assert!(text.starts_with("event: response.failed\ndata: "));
        assert_eq!(
            event,
            json!({"type": "response.failed", "sequence_number": 6, "response": {
                "id": "resp_9", "object": "response", "model": "m", "status": "failed", "output": [],
                "error": {"code": "stream_broken", "message": "the provider's answer broke off: connection reset"}}})
        );
    }

    #[test]
    fn a_response_whose_beginning_is_unknown_still_fails_with_an_id_and_a_number() {
        let (_, event) = told(Dialect::Responses, &["data: {}\n\n", "data: {}\n\n"]);
        assert_eq!((&event["response"]["id"], &event["sequence_number"]), (&json!("resp_req_1"), &json!(2)));
        assert_eq!(event["response"]["status"], "failed");
    }
}
