//! The neutral form into a Messages request: everything but the messages.

use serde_json::{Map, Number, Value, json};
use tokenhub_domain::Dialect;

use super::super::ids::hash_digits;
use super::super::neutral::Target;
use super::super::open_ai;
use super::super::read::Losses;
use super::super::request::{OutputFormat, Request, Tool, ToolChoice};
use super::super::tool_names::map_tool_name;
use super::super::topic::Topic;
use super::super::{ConvertError, ConvertedRequest, UNKNOWN_OUTPUT_LIMIT_TOKENS, clamp_output};
use super::encode_turns::write_messages;
use super::thinking;

/// The longest `metadata.user_id`.
const USER_CHARS_MAX: usize = 256;
/// Asks in words for what the protocol cannot enforce without a schema.
const ANY_OBJECT_HINT: &str = "Answer with one JSON object and nothing else.";
const SCHEMA_HINT: &str = "Answer with JSON only, without a word around it, that matches this JSON Schema:";

/// Writes a request.
pub(crate) fn encode(
    mut request: Request,
    target: &Target,
    mut losses: Losses,
) -> Result<ConvertedRequest, ConvertError> {
    let mut converted = ConvertedRequest::default();
    let max_tokens = match request.max_output_tokens {
        Some(asked) => clamp_output(asked, request.from, target, &mut losses),
        None => target.max_output_tokens.unwrap_or(UNKNOWN_OUTPUT_LIMIT_TOKENS),
    };
    let mut body = Map::new();
    if let Some(model) = request.model.take() {
        body.insert("model".to_owned(), model);
    }
    body.insert("max_tokens".to_owned(), json!(max_tokens));
    let output_config = write_output(&mut request, &mut losses);
    let system: Vec<&str> = request.system.iter().map(String::as_str).filter(|text| !text.trim().is_empty()).collect();
    if !system.is_empty() {
        body.insert("system".to_owned(), json!(system.join("\n")));
    }
    let messages = write_messages(&mut request, target, &mut converted, &mut losses)?;
    body.insert("messages".to_owned(), Value::Array(messages));
    write_tools(&mut request, &mut body, &mut converted, &mut losses);
    if let Some(config) = output_config {
        body.insert("output_config".to_owned(), config);
    }
    write_sampling(&mut request, &mut body, &mut losses);
    write_identity(&mut request, &mut body, &mut losses);
    if let Some(stream) = request.stream.take() {
        body.insert("stream".to_owned(), stream);
    }
    let plan = thinking::plan(&request.thinking, max_tokens, target);
    thinking::apply(plan, request.from, &mut body, &mut losses);
    converted.body = body;
    converted.losses = losses.0;
    Ok(converted)
}

/// A strict schema is enforced; for another one and for any object there is only a request in words.
fn write_output(request: &mut Request, losses: &mut Losses) -> Option<Value> {
    if request.verbosity.take().is_some() {
        losses.add(Topic::Verbosity.field(request.from), "the target's protocol has no verbosity");
    }
    match request.output.take()? {
        OutputFormat::Text => None,
        OutputFormat::AnyObject => {
            request.system.push(ANY_OBJECT_HINT.to_owned());
            losses
                .add(Topic::OutputFormat.field(request.from), "any JSON object is asked for in words and not enforced");
            None
        }
        // The target's schemas are strict, and it refuses those that are not.
        OutputFormat::Schema { schema, strict: Some(false), .. } => {
            request.system.push(format!("{SCHEMA_HINT}\n{schema}"));
            let reason = "a schema that is not strict is shown in words and not enforced";
            losses.add(Topic::OutputFormat.field(request.from), reason);
            None
        }
        OutputFormat::Schema { schema, .. } => Some(json!({"format": {"type": "json_schema", "schema": schema}})),
    }
}

fn write_sampling(request: &mut Request, body: &mut Map<String, Value>, losses: &mut Losses) {
    let sampling = std::mem::take(&mut request.sampling);
    if let Some(temperature) = sampling.temperature {
        let is_high = temperature.as_f64().is_some_and(|value| value > 1.0);
        if is_high {
            losses.add("temperature", "the target takes at most 1");
        }
        body.insert("temperature".to_owned(), Value::Number(if is_high { Number::from(1) } else { temperature }));
    }
    for (name, value) in [("top_p", sampling.top_p), ("top_k", sampling.top_k)] {
        if let Some(value) = value {
            body.insert(name.to_owned(), Value::Number(value));
        }
    }
    let (stops, blank): (Vec<_>, Vec<_>) = request.stop.drain(..).partition(|stop| !stop.trim().is_empty());
    if !blank.is_empty() {
        losses.add(Topic::Stop.field(request.from), "the target does not stop at white space");
    }
    if !stops.is_empty() {
        body.insert("stop_sequences".to_owned(), json!(stops));
    }
}

/// Cache keys are hints for another protocol's cache and go without a word; whatever else is left out is told.
fn write_identity(request: &mut Request, body: &mut Map<String, Value>, losses: &mut Losses) {
    let mut user = request.user.take();
    for (name, value) in std::mem::take(&mut request.open_ai) {
        match name {
            "safety_identifier" => user = value.as_str().map(str::to_owned).or(user),
            "metadata" => losses.add(name, "the target keeps no metadata"),
            _ => {}
        }
    }
    if let Some(user) = user {
        let is_long = user.chars().count() > USER_CHARS_MAX;
        let user = if is_long { hash_digits(&user, USER_CHARS_MAX) } else { user };
        body.insert("metadata".to_owned(), json!({"user_id": user}));
    }
    match request.service_tier.as_deref() {
        None => {}
        Some("auto") => {
            body.insert("service_tier".to_owned(), json!("auto"));
        }
        Some(other) => losses.add("service_tier", format!("the target has no tier {other:?}")),
    }
}

fn write_tools(
    request: &mut Request,
    body: &mut Map<String, Value>,
    converted: &mut ConvertedRequest,
    losses: &mut Losses,
) {
    let mut tools = std::mem::take(&mut request.tools);
    if let Some(ToolChoice::Allowed { names, .. }) = &request.tool_choice
        && tools.iter().any(|tool| names.iter().any(|name| name == tool.name()))
    {
        tools.retain(|tool| names.iter().any(|name| name == tool.name()));
    }
    let tools: Vec<Value> = tools.into_iter().map(|tool| write_tool(tool, converted, losses)).collect();
    if tools.is_empty() {
        return;
    }
    body.insert("tools".to_owned(), Value::Array(tools));
    if let Some(choice) = write_choice(request, converted) {
        body.insert("tool_choice".to_owned(), choice);
    }
}

fn write_tool(tool: Tool, converted: &mut ConvertedRequest, losses: &mut Losses) -> Value {
    let function = match tool {
        Tool::Function(function) => function,
        Tool::FreeForm(tool) => {
            converted.free_form_tools.insert(tool.name.clone());
            open_ai::wrapped(tool, losses)
        }
    };
    let mut fields = Map::new();
    let name = map_tool_name(Dialect::Messages, &function.name, &mut converted.tool_names);
    fields.insert("name".to_owned(), json!(name));
    if let Some(description) = function.description {
        fields.insert("description".to_owned(), json!(description));
    }
    fields.insert("input_schema".to_owned(), function.schema);
    if function.strict == Some(true) {
        fields.insert("strict".to_owned(), json!(true));
    }
    Value::Object(fields)
}

/// The choice with the negated parallel flag, which `none` cannot carry.
fn write_choice(request: &mut Request, converted: &mut ConvertedRequest) -> Option<Value> {
    let is_serial = request.parallel_tools == Some(false);
    let choice = match request.tool_choice.take() {
        None if is_serial => ToolChoice::Auto,
        None => return None,
        Some(choice) => choice,
    };
    let mut choice = match choice {
        ToolChoice::None => return Some(json!({"type": "none"})),
        ToolChoice::Auto | ToolChoice::Allowed { required: false, .. } => json!({"type": "auto"}),
        ToolChoice::Required | ToolChoice::Allowed { required: true, .. } => json!({"type": "any"}),
        ToolChoice::Named(name) => {
            json!({"type": "tool", "name": map_tool_name(Dialect::Messages, &name, &mut converted.tool_names)})
        }
    };
    if is_serial {
        choice["disable_parallel_tool_use"] = json!(true);
    }
    Some(choice)
}
