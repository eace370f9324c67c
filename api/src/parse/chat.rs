//! The native form of a chat request; the plan route shares its `request` object.

use serde_json::{Map, Value};
use tokenhub_domain::{Capability, Dialect};
use tokenhub_formats::Program;

use super::{
    Ask, Fields, ask, check_messages, model_name, object, policy,
    wishes::{self, Manner, OutputFields},
};
use crate::{durability::Delivery, error::Problem, validation::Validation};

/// Fields that a provider body never takes from `parameters`.
const PROTECTED: [&str; 4] = ["model", "messages", "stream", "stream_options"];
const HINT: &str = "request.model_hint";
const SCHEMA: &str = "request.output_schema";
/// The field that asks for a stream.
pub(crate) const STREAM: &str = "request.stream";

/// A chat request in the native form.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NativeRequest {
    /// The model asked for; routing chooses without it.
    pub(crate) model: Option<String>,
    /// The rest.
    pub(crate) ask: Ask,
    /// How the answer goes out.
    pub(crate) delivery: Delivery,
    /// The program that a directive asks for.
    pub(crate) program: Option<Program>,
}

/// Reads the body of `POST /v1/chat`.
pub(crate) fn parse(bytes: &[u8], validation: Validation) -> Result<NativeRequest, Problem> {
    of_object(&object(bytes)?, validation, Ok)
}

/// Reads the parts that chat and plan share: `policy`, `output_format` and `request`. A plan adds to what is wanted of the
/// answer.
pub(super) fn of_object(
    body: &Map<String, Value>,
    validation: Validation,
    add: impl FnOnce(OutputFields) -> Result<OutputFields, Problem>,
) -> Result<NativeRequest, Problem> {
    let policy = policy::parse(body)?;
    let output = OutputFields::parse(body)?;
    if body.get("request").is_none_or(Value::is_null) {
        return Err(Problem::MissingField { param: "request".to_owned() });
    }
    let request = Fields::of(body, "request")?;
    check_messages(request.get("messages"), "request.messages")?;
    let output = add(output.with_schema(request.get("output_schema"), SCHEMA)?)?;
    let model = model_name(request.get("model_hint"), HINT)?;
    let delivery = if request.flag("stream")? { Delivery::Stream } else { Delivery::Whole };
    let mut ask = ask(&provider_body(request)?, policy)?;
    if delivery == Delivery::Stream {
        ask.demands.needs.push(Capability::Streaming);
    }
    if let Some(tokens) = request.whole("estimated_input_tokens", u64::from(u32::MAX))?.filter(|tokens| *tokens > 0) {
        ask.estimated_input_tokens = tokens;
    }
    let manner = Manner { dialect: Dialect::Chat, delivery, stream_param: STREAM, validation };
    let program = wishes::apply(&mut ask, output, manner)?;
    Ok(NativeRequest { model, ask, delivery, program })
}

fn provider_body(request: Fields<'_>) -> Result<Map<String, Value>, Problem> {
    let mut body = Map::new();
    if let Some(messages) = request.get("messages") {
        body.insert("messages".to_owned(), messages.clone());
    }
    match request.get("parameters") {
        None => {}
        Some(Value::Object(parameters)) => {
            for (name, value) in parameters.iter().filter(|(name, _)| !PROTECTED.contains(&name.as_str())) {
                body.insert(name.clone(), value.clone());
            }
        }
        Some(_) => return Err(Problem::invalid(request.path("parameters"), "must be an object")),
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokenhub_domain::{NanoDollars, RoutingProfile};

    use super::*;

    fn of(body: &Value) -> Result<NativeRequest, Problem> {
        parse(body.to_string().as_bytes(), Validation::Unsaid)
    }

    #[test]
    fn parameters_are_merged_and_cannot_replace_what_is_ours() {
        let request = of(&json!({
            "capabilities": {"x": 1},
            "policy": {"mode": "cheap", "max_budget_usd": 0.5, "max_latency_ms": 2000, "min_weight": 3},
            "request": {"messages": [{"role": "user", "content": "hi"}], "model_hint": "m", "meta": {"a": 1},
                "estimated_input_tokens": 77,
                "parameters": {"temperature": 0.1, "model": "other", "messages": [], "stream": true}},
        }))
        .unwrap();
        assert_eq!(request.ask.original, r#"{"messages":[{"role":"user","content":"hi"}],"temperature":0.1}"#);
        assert_eq!((request.model.as_deref(), request.delivery), (Some("m"), Delivery::Whole));
        assert_eq!(request.ask.estimated_input_tokens, 77);
        assert_eq!(request.ask.policy.profile, Some(RoutingProfile::Cheap));
        assert_eq!(request.ask.policy.max_budget, NanoDollars::from_usd(0.5));
        assert_eq!((request.ask.policy.max_latency_ms, request.ask.policy.min_weight), (Some(2000), 3));
    }

    #[test]
    fn limits_of_the_policy_are_checked_and_named() {
        let with = |policy: Value| {
            let problem = of(&json!({"policy": policy, "request": {"messages": [{}]}})).unwrap_err();
            problem.report(crate::error::Shape::Native).param.unwrap()
        };
        assert_eq!(with(json!({"mode": "bogus"})), "policy.mode");
        assert_eq!(with(json!({"max_budget_usd": 100.5})), "policy.max_budget_usd");
        assert_eq!(with(json!({"max_budget_usd": -1})), "policy.max_budget_usd");
        assert_eq!(with(json!({"max_latency_ms": 300_001})), "policy.max_latency_ms");
        assert_eq!(with(json!({"min_weight": 11})), "policy.min_weight");
        assert_eq!(with(json!({"typo": 1})), "policy.typo");
        assert_eq!(with(json!([])), "policy");
    }

    #[test]
    fn a_schema_may_be_in_two_fields_as_json_or_as_text_and_is_named_when_it_is_none() {
        let schema = json!({"type": "object"});
        for body in [
            json!({"request": {"messages": [{}], "output_schema": schema}}),
            json!({"request": {"messages": [{}], "output_schema": schema.to_string()}}),
            json!({"output_format": {"schema": schema}, "request": {"messages": [{}]}}),
        ] {
            let request = of(&body).unwrap();
            assert_eq!(request.ask.output.schema.unwrap().as_inline(), Some(r#"{"type":"object"}"#), "{body}");
            assert!(request.ask.original.contains("response_format"), "{body}");
        }
        let problem = of(&json!({"request": {"messages": [{}], "output_schema": {"type": "objekt"}}})).unwrap_err();
        assert!(matches!(problem, Problem::InvalidField { param, .. } if param == "request.output_schema"));
        let empty = of(&json!({"output_format": {}, "request": {"messages": [{}], "output_schema": ""}})).unwrap();
        assert!(empty.ask.output.is_empty());
    }

    #[test]
    fn missing_parts_are_named() {
        assert!(matches!(of(&json!({})), Err(Problem::MissingField { param }) if param == "request"));
        assert!(
            matches!(of(&json!({"request": {}})), Err(Problem::MissingField { param }) if param == "request.messages")
        );
    }
}
