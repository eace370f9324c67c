//! Reasoning of another protocol's model in a same-protocol request.
//!
//! A client keeps in one history what several models thought. When a request is forwarded without conversion, what we
//! tunnelled for another issuer is still in it and would be refused, as would thinking that nobody signed.

use serde_json::{Map, Value};
use tokenhub_domain::Dialect;

use super::{Loss, TUNNEL_PREFIX};

/// Takes tunnelled and unsigned reasoning out of a request that is not converted. No losses: the body is as it was.
pub fn drop_foreign_reasoning(dialect: Dialect, body: &mut Map<String, Value>) -> Vec<Loss> {
    let mut losses = Vec::new();
    let lost =
        |field: String| Loss { field, reason: "reasoning is sent back only to the model that issued it".to_owned() };
    match dialect {
        // Its reasoning is plain text, and a server that wants it takes any.
        Dialect::Chat => {}
        Dialect::Responses => {
            if let Some(items) = body.get_mut("input").and_then(Value::as_array_mut) {
                let mut index = 0;
                items.retain(|item| {
                    let is_foreign = begins_tunnelled(item, "reasoning", "encrypted_content");
                    losses.extend(is_foreign.then(|| lost(format!("input[{index}]"))));
                    index += 1;
                    !is_foreign
                });
            }
        }
        Dialect::Messages => {
            let messages = body.get_mut("messages").and_then(Value::as_array_mut).into_iter().flatten();
            for (at, message) in messages.enumerate() {
                let Some(blocks) = message.get_mut("content").and_then(Value::as_array_mut) else { continue };
                let mut index = 0;
                blocks.retain(|block| {
                    let is_foreign = is_foreign_thinking(block);
                    losses.extend(is_foreign.then(|| lost(format!("messages[{at}].content[{index}]"))));
                    index += 1;
                    !is_foreign
                });
            }
        }
    }
    losses
}

fn begins_tunnelled(value: &Value, kind: &str, field: &str) -> bool {
    let text = value.get(field).and_then(Value::as_str);
    value.get("type").is_some_and(|found| found == kind) && text.is_some_and(|text| text.starts_with(TUNNEL_PREFIX))
}

fn is_foreign_thinking(block: &Value) -> bool {
    let is_unsigned = block.get("type").is_some_and(|kind| kind == "thinking")
        && block.get("signature").and_then(Value::as_str).is_none_or(str::is_empty);
    is_unsigned
        || begins_tunnelled(block, "thinking", "signature")
        || begins_tunnelled(block, "redacted_thinking", "data")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dropped(dialect: Dialect, body: &Value) -> (Value, Vec<String>) {
        let mut body = body.as_object().unwrap().clone();
        let losses = drop_foreign_reasoning(dialect, &mut body);
        (Value::Object(body), losses.into_iter().map(|loss| loss.field).collect())
    }

    #[test]
    fn what_the_protocol_s_own_models_signed_stays_as_it_is() {
        let messages = json!({"messages": [{"role": "assistant", "content": [
            {"type": "thinking", "thinking": "a", "signature": "c2ln"}, {"type": "redacted_thinking", "data": "ZA=="},
            {"type": "text", "text": "b"}]}, {"role": "user", "content": "c"}]});
        assert_eq!(dropped(Dialect::Messages, &messages), (messages.clone(), Vec::new()));
        let responses = json!({"input": [{"type": "reasoning", "encrypted_content": "Z0FB"}, {"role": "user"}]});
        assert_eq!(dropped(Dialect::Responses, &responses), (responses.clone(), Vec::new()));
        assert!(dropped(Dialect::Responses, &json!({"input": "text"})).1.is_empty());
    }

    #[test]
    fn tunnelled_and_unsigned_reasoning_goes_and_is_named() {
        let tunnelled = format!("{TUNNEL_PREFIX}0.s.x");
        let messages = json!({"messages": [{"role": "assistant", "content": [
            {"type": "thinking", "thinking": "a", "signature": tunnelled}, {"type": "thinking", "thinking": "a", "signature": ""},
            {"type": "redacted_thinking", "data": tunnelled}, {"type": "text", "text": "b"}]}]});
        let (body, losses) = dropped(Dialect::Messages, &messages);
        assert_eq!(body["messages"][0]["content"], json!([{"type": "text", "text": "b"}]));
        assert_eq!(losses, ["messages[0].content[0]", "messages[0].content[1]", "messages[0].content[2]"]);
        let responses = json!({"input": [{"type": "reasoning", "encrypted_content": tunnelled}, {"role": "user"}]});
        assert_eq!(dropped(Dialect::Responses, &responses).0, json!({"input": [{"role": "user"}]}));
    }
}
