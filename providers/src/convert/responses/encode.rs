//! The neutral form into a Responses request: everything but the input items.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use tokenhub_domain::Dialect;

use super::super::neutral::Target;
use super::super::open_ai;
use super::super::read::Losses;
use super::super::request::{OutputFormat, Request, Tool, ToolChoice};
use super::super::tool_names::map_tool_name;
use super::super::topic::Topic;
use super::super::{ConvertError, ConvertedRequest, clamp_output};
use super::encode_items::{Items, write_input};

/// The smallest output limit that the protocol takes; clients probe with less.
const OUTPUT_MIN_TOKENS: u64 = 16;

/// Writes a request. Nothing is stored at the provider: the client sends its whole history.
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
    if !request.system.is_empty() {
        body.insert("instructions".to_owned(), json!(request.system.join("\n")));
    }
    let turns = std::mem::take(&mut request.turns);
    let Items { input, has_reasoning } = write_input(turns, request.from, target, &mut converted, &mut losses)?;
    body.insert("input".to_owned(), Value::Array(input));
    write_tools(&mut request, &mut body, &mut converted);
    if let Some(asked) = request.max_output_tokens {
        let limit = clamp_output(asked, request.from, target, &mut losses).max(OUTPUT_MIN_TOKENS);
        if limit > asked {
            losses.add(Topic::OutputLimit.field(request.from), format!("the target takes at least {limit}"));
        }
        body.insert("max_output_tokens".to_owned(), json!(limit));
    }
    if !request.stop.is_empty() {
        losses.add(Topic::Stop.field(request.from), "the target's protocol has no stop sequences");
    }
    write_text(&mut request, &mut body);
    write_reasoning(&request, has_reasoning, target, &mut body, &mut losses);
    open_ai::write_shared(&request, &mut body, &mut losses);
    for (name, value) in std::mem::take(&mut request.open_ai) {
        body.insert(name.to_owned(), value);
    }
    body.insert("store".to_owned(), json!(false));
    converted.body = body;
    converted.losses = losses.0;
    Ok(converted)
}

fn write_text(request: &mut Request, body: &mut Map<String, Value>) {
    let mut text = Map::new();
    let format = match request.output.take() {
        None => None,
        Some(OutputFormat::Text) => Some(json!({"type": "text"})),
        Some(OutputFormat::AnyObject) => Some(json!({"type": "json_object"})),
        Some(schema @ OutputFormat::Schema { .. }) => open_ai::schema_fields(schema).map(|fields| {
            let mut format = json!({"type": "json_schema"});
            if let Some(format) = format.as_object_mut() {
                format.extend(fields);
            }
            format
        }),
    };
    text.extend(format.map(|format| ("format".to_owned(), format)));
    text.extend(request.verbosity.take().map(|verbosity| ("verbosity".to_owned(), verbosity)));
    if !text.is_empty() {
        body.insert("text".to_owned(), Value::Object(text));
    }
}

/// Models that do not reason refuse to include encrypted reasoning, so it is asked for only where reasoning is.
fn write_reasoning(
    request: &Request,
    has_reasoning: bool,
    target: &Target,
    body: &mut Map<String, Value>,
    losses: &mut Losses,
) {
    let mut reasoning = Map::new();
    let effort = open_ai::effort_to_ask(request, &target.abilities, losses);
    reasoning.extend(effort.map(|effort| ("effort".to_owned(), json!(effort.as_str()))));
    reasoning.extend(request.thinking.summary.clone().map(|summary| ("summary".to_owned(), summary)));
    let is_asked = !reasoning.is_empty();
    if is_asked {
        body.insert("reasoning".to_owned(), Value::Object(reasoning));
    }
    if is_asked || has_reasoning {
        body.insert("include".to_owned(), json!(["reasoning.encrypted_content"]));
    }
}

/// The protocol makes a function strict when nothing is said, so it is always said.
fn write_tools(request: &mut Request, body: &mut Map<String, Value>, converted: &mut ConvertedRequest) {
    let mut tools = Vec::with_capacity(request.tools.len());
    let mut free_form = BTreeSet::new();
    for tool in std::mem::take(&mut request.tools) {
        if let Tool::FreeForm(tool) = &tool {
            free_form.insert(tool.name.clone());
        }
        let mut fields = Map::new();
        let name = map_tool_name(Dialect::Responses, tool.name(), &mut converted.tool_names);
        let kind = match &tool {
            Tool::Function(_) => "function",
            Tool::FreeForm(_) => "custom",
        };
        fields.insert("type".to_owned(), json!(kind));
        fields.insert("name".to_owned(), json!(name));
        match tool {
            Tool::Function(function) => {
                fields.extend(function.description.map(|text| ("description".to_owned(), json!(text))));
                fields.insert("parameters".to_owned(), function.schema);
                fields.insert("strict".to_owned(), json!(function.strict.unwrap_or(false)));
            }
            Tool::FreeForm(tool) => {
                fields.extend(tool.description.map(|text| ("description".to_owned(), json!(text))));
                fields.extend(tool.format.map(|format| ("format".to_owned(), flat_format(format))));
            }
        }
        tools.push(Value::Object(fields));
    }
    if tools.is_empty() {
        return;
    }
    body.insert("tools".to_owned(), Value::Array(tools));
    if let Some(choice) = request.tool_choice.take() {
        body.insert("tool_choice".to_owned(), write_choice(choice, &free_form, converted));
    }
    if let Some(parallel) = request.parallel_tools.take() {
        body.insert("parallel_tool_calls".to_owned(), json!(parallel));
    }
}

/// Chat nests a grammar one level deeper.
fn flat_format(format: Value) -> Value {
    let Some(grammar) = format.get("grammar").and_then(Value::as_object) else { return format };
    let mut flat = Map::new();
    flat.insert("type".to_owned(), json!("grammar"));
    flat.extend(grammar.clone());
    Value::Object(flat)
}

fn write_choice(choice: ToolChoice, free_form: &BTreeSet<String>, converted: &mut ConvertedRequest) -> Value {
    let mut named = |name: &str| {
        let kind = if free_form.contains(name) { "custom" } else { "function" };
        json!({"type": kind, "name": map_tool_name(Dialect::Responses, name, &mut converted.tool_names)})
    };
    match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => named(&name),
        ToolChoice::Allowed { required, names } => {
            let tools: Vec<Value> = names.iter().map(|name| named(name)).collect();
            json!({"type": "allowed_tools", "mode": if required { "required" } else { "auto" }, "tools": tools})
        }
    }
}
