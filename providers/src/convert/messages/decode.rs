//! A Messages request into the neutral form: everything but the messages.

use serde_json::{Map, Value};

use super::super::ConvertError;
use super::super::open_ai::{number, object_schema, read_effort};
use super::super::read::{At, Losses, invalid};
use super::super::request::{Function, OutputFormat, Request, Sampling, Thinking, ThinkingAsk, Tool, ToolChoice};
use super::decode_turns::{read_messages, read_system};

const KNOWN: [&str; 17] = [
    "model",
    "messages",
    "system",
    "max_tokens",
    "tools",
    "tool_choice",
    "stop_sequences",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "thinking",
    "output_config",
    "output_format",
    "metadata",
    "service_tier",
    // A mark for a cache that only this protocol has: leaving it out changes no answer.
    "cache_control",
];
const TOOL_FIELDS: [&str; 6] = ["type", "name", "description", "input_schema", "strict", "cache_control"];

/// Reads a request.
pub(crate) fn decode(body: &Map<String, Value>, losses: &mut Losses) -> Result<Request, ConvertError> {
    let whole = |name| At::field_of(body, name).map(|at| at.whole_number()).transpose();
    let mut request = Request {
        model: body.get("model").cloned(),
        max_output_tokens: whole("max_tokens")?,
        stream: At::field_of(body, "stream").map(|at| at.flag().map(Value::Bool)).transpose()?,
        sampling: Sampling {
            temperature: number(body, "temperature", 1.0)?,
            top_p: number(body, "top_p", 1.0)?,
            top_k: number(body, "top_k", f64::MAX)?,
        },
        ..Request::default()
    };
    read_system(body, &mut request, losses)?;
    read_messages(body, &mut request, losses)?;
    read_tools(body, &mut request, losses)?;
    for stop in At::field_of(body, "stop_sequences").map_or(Ok(Vec::new()), |stops| stops.items())? {
        request.stop.push(stop.text()?.to_owned());
    }
    read_output(body, &mut request, losses)?;
    request.thinking = read_thinking(body, losses)?;
    read_user_and_tier(body, &mut request, losses)?;
    losses.add_unknown_of(body, "", &KNOWN);
    Ok(request)
}

fn read_user_and_tier(
    body: &Map<String, Value>,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), ConvertError> {
    if let Some(metadata) = At::field_of(body, "metadata") {
        request.user = metadata.text_field("user_id")?.map(str::to_owned);
        losses.add_unknown(&metadata, &["user_id"]);
    }
    match At::field_of(body, "service_tier").map(|tier| tier.text()).transpose()? {
        None => {}
        Some("auto") => request.service_tier = Some("auto".to_owned()),
        Some(other) => losses.add("service_tier", format!("{other:?} is not known to the target's protocol")),
    }
    Ok(())
}

fn read_tools(body: &Map<String, Value>, request: &mut Request, losses: &mut Losses) -> Result<(), ConvertError> {
    let Some(tools) = At::field_of(body, "tools") else { return Ok(()) };
    for tool in tools.items()? {
        match tool.kind() {
            "" | "custom" => {
                losses.add_unknown(&tool, &TOOL_FIELDS);
                request.tools.push(Tool::Function(Function {
                    name: tool.need_text("name")?.to_owned(),
                    description: tool.text_field("description")?.map(str::to_owned),
                    schema: object_schema(tool.get("input_schema").as_ref())?,
                    strict: tool.get("strict").map(|strict| strict.flag()).transpose()?,
                }));
            }
            other => losses.add(&*tool.path, format!("a {other:?} tool belongs to providers that have it")),
        }
    }
    if request.tools.is_empty() && !tools.items()?.is_empty() {
        return Err(tools.invalid("this model has none of these tools"));
    }
    let Some(choice) = At::field_of(body, "tool_choice") else { return Ok(()) };
    request.tool_choice = Some(match choice.need_text("type")? {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(choice.need_text("name")?.to_owned()),
        other => return Err(invalid("tool_choice.type", format!("{other:?} is not a tool choice"))),
    });
    let disabled = choice.get("disable_parallel_tool_use").map(|flag| flag.flag()).transpose()?;
    request.parallel_tools = (disabled == Some(true)).then_some(false);
    Ok(())
}

/// `output_config.format`, or the older `output_format`.
fn read_output(body: &Map<String, Value>, request: &mut Request, losses: &mut Losses) -> Result<(), ConvertError> {
    let config = At::field_of(body, "output_config");
    if let Some(config) = &config {
        losses.add_unknown(config, &["format", "effort"]);
    }
    let format = config.and_then(|config| config.get("format")).or_else(|| At::field_of(body, "output_format"));
    let Some(format) = format else { return Ok(()) };
    match format.need_text("type")? {
        "json_schema" => {
            let schema = Value::Object(format.need("schema")?.object()?.clone());
            request.output = Some(OutputFormat::Schema { name: None, description: None, schema, strict: Some(true) });
            Ok(())
        }
        other => Err(invalid(format.path_of("type"), format!("{other:?} is not an output format"))),
    }
}

fn read_thinking(body: &Map<String, Value>, losses: &mut Losses) -> Result<Thinking, ConvertError> {
    let effort = At::field_of(body, "output_config").and_then(|config| config.get("effort"));
    let mut thinking = Thinking { effort: read_effort(effort, losses)?, ..Thinking::default() };
    let Some(asked) = At::field_of(body, "thinking") else { return Ok(thinking) };
    thinking.ask = Some(match asked.need_text("type")? {
        "enabled" => ThinkingAsk::Budget(asked.need("budget_tokens")?.whole_number()?),
        "adaptive" => ThinkingAsk::Adaptive,
        "disabled" => ThinkingAsk::Off,
        other => return Err(invalid("thinking.type", format!("{other:?} is not a way to think"))),
    });
    Ok(thinking)
}
