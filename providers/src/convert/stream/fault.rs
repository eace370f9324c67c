//! The error that a client is told in the middle of a stream, in its own protocol.
//!
//! A Responses client hears only `response.failed`: the known ones ignore a bare `error` event.

use serde_json::{Value, json};
use tokenhub_domain::Dialect;

use super::OutEvent;
use crate::call::EventKind;
use crate::convert::{ReplyContext, response_object};

/// What went wrong, in the words of the client's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamFault<'a> {
    /// For people.
    pub message: &'a str,
    /// `error.type`; Responses has no such field.
    pub kind: &'a str,
    /// `error.code`; Messages has no such field. Responses requires one and gets `kind` where there is none.
    pub code: Option<&'a str>,
    /// `error.param`, which only Chat has.
    pub param: Option<&'a str>,
    /// The request's id, which only Messages repeats.
    pub request_id: Option<&'a str>,
}

/// The reply that breaks off; only Responses repeats it.
#[derive(Clone, Copy, Debug)]
pub struct ReplyPlace<'a> {
    /// What the client was told of it.
    pub context: &'a ReplyContext,
    /// The id that the client was told, where it came from the upstream and is not made from the attempt.
    pub response_id: Option<&'a str>,
    /// The number of this event: as many as events were sent.
    pub sequence_number: u64,
}

/// The last event of a stream that failed. In no protocol anything follows it, `[DONE]` included.
pub fn error_event(dialect: Dialect, fault: &StreamFault<'_>, place: &ReplyPlace<'_>) -> OutEvent {
    let (name, data) = match dialect {
        Dialect::Chat => {
            let StreamFault { message, kind, code, param, .. } = fault;
            ("", json!({"error": {"message": message, "type": kind, "param": param, "code": code}}))
        }
        Dialect::Messages => {
            let mut data = json!({"type": "error", "error": {"type": fault.kind, "message": fault.message}});
            if let Some(request_id) = fault.request_id {
                data["request_id"] = json!(request_id);
            }
            ("error", data)
        }
        Dialect::Responses => {
            let mut response = response_object(place.context, "failed");
            if let Some(id) = place.response_id {
                response.insert("id".to_owned(), json!(id));
            }
            let error = json!({"code": fault.code.unwrap_or(fault.kind), "message": fault.message});
            response.insert("error".to_owned(), error);
            let name = "response.failed";
            (name, json!({"type": name, "sequence_number": place.sequence_number, "response": response}))
        }
    };
    OutEvent { name, data: Value::to_string(&data), kind: EventKind::Done }
}
