//! The body of `POST /v1/messages/count_tokens`: a Messages request without an answer's limit.

use bytes::Bytes;
use tokenhub_domain::Dialect;
use tokenhub_providers::convert::estimate_input_tokens;

use super::{object, protocol, raw::RawObject};
use crate::error::Problem;

/// What is counted, and for which model.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CountRequest {
    /// The model asked for.
    pub(crate) model: Option<String>,
    /// System, tools and messages, estimated.
    pub(crate) input_tokens: u64,
}

/// Reads the body.
pub(crate) fn parse(body: Bytes) -> Result<CountRequest, Problem> {
    let text = protocol::text(body)?;
    let fields = RawObject::read(&text)?;
    protocol::check_conversation(Dialect::Messages, &fields)?;
    let model = protocol::model(&fields)?;
    // A client compacts its conversation by this number, so it gets the careful estimate and not the quick one of a chat.
    Ok(CountRequest { model, input_tokens: estimate_input_tokens(Dialect::Messages, &object(text.as_bytes())?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(more: &str) -> u64 {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}]{more}}}"#);
        parse(Bytes::from(body)).unwrap().input_tokens
    }

    #[test]
    fn tools_and_system_count_and_no_limit_is_needed() {
        let bare = tokens("");
        assert!(bare > 0);
        assert!(tokens(r#","tools":[{"name":"lookup","description":"Finds a thing","input_schema":{}}]"#) > bare + 10);
        assert!(tokens(r#","system":"You are careful and brief.""#) > bare + 5);
    }

    #[test]
    fn a_request_without_messages_is_refused() {
        let refusal = parse(Bytes::from_static(br#"{"model":"m"}"#)).unwrap_err();
        assert!(matches!(refusal, Problem::MissingField { param } if param == "messages"));
    }
}
