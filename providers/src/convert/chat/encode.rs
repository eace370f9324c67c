//! The neutral form into a Chat request: everything but the messages.

use serde_json::{Map, Value, json};
use tokenhub_domain::Dialect;

use super::super::neutral::{OutputLimit, Target};
use super::super::open_ai;
use super::super::read::Losses;
use super::super::request::{OutputFormat, Request, Tool, ToolChoice};
use super::super::tool_names::map_tool_name;
use super::super::topic::Topic;
use super::super::{ConvertError, ConvertedRequest};
use super::encode_turns::write_messages;

/// How many stop sequences the protocol takes.
const STOP_MAX: usize = 4;

/// Writes a request.
pub(crate) fn encode(
    mut request: Request,
    target: &Target,
    mut losses: Losses,
) -> Result<ConvertedRequest, ConvertError> {
    let mut converted = ConvertedRequest::default();
    let mut body = Map::new();
    if let Some(model) = request.model.take() {
        body.insert("model".to_owned(), model);
    }
    let messages = write_messages(&mut request, target, &mut converted, &mut losses)?;
    body.insert("messages".to_owned(), Value::Array(messages));
    write_tools(&mut request, &mut body, &mut converted, &mut losses);
    if let Some(limit) = request.max_output_tokens {
        let limit = super::super::clamp_output(limit, request.from, target, &mut losses);
        let field = match target.abilities.output_limit {
            OutputLimit::MaxCompletionTokens => "max_completion_tokens",
            OutputLimit::MaxTokens => "max_tokens",
        };
        body.insert(field.to_owned(), json!(limit));
    }
    if request.stop.len() > STOP_MAX {
        losses.add(Topic::Stop.field(request.from), format!("only the first {STOP_MAX} can be sent"));
        request.stop.truncate(STOP_MAX);
    }
    if !request.stop.is_empty() {
        body.insert("stop".to_owned(), json!(request.stop));
    }
    if let Some(effort) = open_ai::effort_to_ask(&request, &target.abilities, &mut losses) {
        body.insert("reasoning_effort".to_owned(), json!(effort.as_str()));
    }
    if request.thinking.summary.is_some() {
        losses.add("reasoning.summary", "the target's protocol has no reasoning summaries");
    }
    write_output(&mut request, &mut body);
    open_ai::write_shared(&request, &mut body, &mut losses);
    for (name, value) in std::mem::take(&mut request.open_ai) {
        if name == "metadata" {
            losses.add(name, "the target keeps metadata only with stored replies");
        } else {
            body.insert(name.to_owned(), value);
        }
    }
    if request.stream == Some(Value::Bool(true)) {
        body.insert("stream_options".to_owned(), json!({"include_usage": true}));
    }
    converted.body = body;
    converted.losses = losses.0;
    Ok(converted)
}

fn write_output(request: &mut Request, body: &mut Map<String, Value>) {
    let format = match request.output.take() {
        None => None,
        Some(OutputFormat::Text) => Some(json!({"type": "text"})),
        Some(OutputFormat::AnyObject) => Some(json!({"type": "json_object"})),
        Some(schema @ OutputFormat::Schema { .. }) => {
            open_ai::schema_fields(schema).map(|fields| json!({"type": "json_schema", "json_schema": fields}))
        }
    };
    if let Some(format) = format {
        body.insert("response_format".to_owned(), format);
    }
    if let Some(verbosity) = request.verbosity.take() {
        body.insert("verbosity".to_owned(), verbosity);
    }
}

/// Free-form tools are wrapped: the protocol has them, most of its servers do not.
fn write_tools(
    request: &mut Request,
    body: &mut Map<String, Value>,
    converted: &mut ConvertedRequest,
    losses: &mut Losses,
) {
    let mut tools = Vec::with_capacity(request.tools.len());
    for tool in std::mem::take(&mut request.tools) {
        let function = match tool {
            Tool::Function(function) => function,
            Tool::FreeForm(tool) => {
                converted.free_form_tools.insert(tool.name.clone());
                open_ai::wrapped(tool, losses)
            }
        };
        let mut fields = Map::new();
        let name = map_tool_name(Dialect::Chat, &function.name, &mut converted.tool_names);
        fields.insert("name".to_owned(), json!(name));
        if let Some(description) = function.description {
            fields.insert("description".to_owned(), json!(description));
        }
        fields.insert("parameters".to_owned(), function.schema);
        if let Some(strict) = function.strict {
            fields.insert("strict".to_owned(), json!(strict));
        }
        tools.push(json!({"type": "function", "function": fields}));
    }
    if tools.is_empty() {
        request.parallel_tools = None;
        return;
    }
    body.insert("tools".to_owned(), Value::Array(tools));
    if let Some(choice) = request.tool_choice.take() {
        body.insert("tool_choice".to_owned(), write_choice(choice, converted));
    }
    if let Some(parallel) = request.parallel_tools.take() {
        body.insert("parallel_tool_calls".to_owned(), json!(parallel));
    }
}

fn write_choice(choice: ToolChoice, converted: &mut ConvertedRequest) -> Value {
    let mut named = |name: &str| {
        let name = map_tool_name(Dialect::Chat, name, &mut converted.tool_names);
        json!({"type": "function", "function": {"name": name}})
    };
    match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => named(&name),
        ToolChoice::Allowed { required, names } => {
            let tools: Vec<Value> = names.iter().map(|name| named(name)).collect();
            let mode = if required { "required" } else { "auto" };
            json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}})
        }
    }
}
