//! A Responses request into the neutral form: everything but the input items.

use serde_json::{Map, Value};

use super::super::ConvertError;
use super::super::open_ai;
use super::super::read::{At, Losses, invalid};
use super::super::request::{Request, Tool, ToolChoice};
use super::decode_items::read_input;

const KNOWN: [&str; 15] = [
    "input",
    "instructions",
    "max_output_tokens",
    "tools",
    "tool_choice",
    "text",
    "reasoning",
    "store",
    "include",
    "truncation",
    "background",
    "previous_response_id",
    "conversation",
    "prompt",
    // What a coding client says about itself.
    "client_metadata",
];
/// State that only the protocol's own servers keep: an answer without it would be an answer to another question.
const STATE: [&str; 3] = ["previous_response_id", "conversation", "prompt"];

/// Reads a request.
pub(crate) fn decode(body: &Map<String, Value>, losses: &mut Losses) -> Result<Request, ConvertError> {
    for name in STATE {
        if At::field_of(body, name).is_some() {
            return Err(invalid(name, "this model keeps no state: send the whole input"));
        }
    }
    if At::field_of(body, "background").is_some_and(|background| background.value != &Value::Bool(false)) {
        return Err(invalid("background", "this model does not answer in the background"));
    }
    let mut request = open_ai::read_shared(body)?;
    if let Some(instructions) = At::field_of(body, "instructions")
        && !instructions.text()?.is_empty()
    {
        request.system.push(instructions.text()?.to_owned());
    }
    read_input(body, &mut request, losses)?;
    read_tools(body, &mut request, losses)?;
    request.max_output_tokens =
        At::field_of(body, "max_output_tokens").map(|limit| limit.whole_number()).transpose()?;
    if let Some(text) = At::field_of(body, "text") {
        losses.add_unknown(&text, &["format", "verbosity"]);
        request.output = text.get("format").map(|format| open_ai::output_format(&format, &format)).transpose()?;
        request.verbosity = text.get("verbosity").map(|at| at.value.clone());
    }
    if let Some(reasoning) = At::field_of(body, "reasoning") {
        losses.add_unknown(&reasoning, &["effort", "summary", "generate_summary"]);
        request.thinking.effort = open_ai::read_effort(reasoning.get("effort"), losses)?;
        request.thinking.summary = reasoning.get("summary").map(|at| at.value.clone());
    }
    read_storage(body, losses)?;
    let known: Vec<&str> = KNOWN.into_iter().chain(open_ai::SHARED_FIELDS).collect();
    losses.add_unknown_of(body, "", &known);
    Ok(request)
}

/// Encrypted reasoning is always included, because nothing is stored.
fn read_storage(body: &Map<String, Value>, losses: &mut Losses) -> Result<(), ConvertError> {
    if body.get("store").and_then(Value::as_bool) == Some(true) {
        losses.add("store", "a converted reply is not stored");
    }
    if At::field_of(body, "truncation").is_some_and(|truncation| truncation.value != "disabled") {
        losses.add("truncation", "the input is never cut");
    }
    for wanted in At::field_of(body, "include").map_or(Ok(Vec::new()), |include| include.items())? {
        if wanted.text()? != "reasoning.encrypted_content" {
            losses.add(&*wanted.path, "the target cannot include it");
        }
    }
    Ok(())
}

fn read_tools(body: &Map<String, Value>, request: &mut Request, losses: &mut Losses) -> Result<(), ConvertError> {
    let Some(tools) = At::field_of(body, "tools") else { return Ok(()) };
    for tool in tools.items()? {
        match tool.kind() {
            "function" => request.tools.push(Tool::Function(open_ai::function(&tool)?)),
            "custom" => request.tools.push(Tool::FreeForm(open_ai::free_form(&tool)?)),
            other => losses.add(&*tool.path, format!("a {other:?} tool runs at a provider that has it")),
        }
    }
    if request.tools.is_empty() && !tools.items()?.is_empty() {
        return Err(tools.invalid("this model has none of these tools"));
    }
    if let Some(choice) = At::field_of(body, "tool_choice") {
        request.tool_choice = read_choice(&choice, losses)?;
    }
    Ok(())
}

fn read_choice(choice: &At<'_>, losses: &mut Losses) -> Result<Option<ToolChoice>, ConvertError> {
    match choice.value.as_str() {
        Some("auto") => return Ok(Some(ToolChoice::Auto)),
        Some("none") => return Ok(Some(ToolChoice::None)),
        Some("required") => return Ok(Some(ToolChoice::Required)),
        Some(other) => return Err(choice.invalid(format!("{other:?} is not a tool choice"))),
        None => {}
    }
    match choice.need_text("type")? {
        "function" | "custom" => Ok(Some(ToolChoice::Named(choice.need_text("name")?.to_owned()))),
        "allowed_tools" => {
            let tools = choice.need("tools")?.items()?;
            let name = |tool: &At<'_>| tool.text_field("name").transpose().map(|name| name.map(str::to_owned));
            Ok(Some(ToolChoice::Allowed {
                required: choice.text_field("mode")? == Some("required"),
                names: tools.iter().filter_map(name).collect::<Result<_, _>>()?,
            }))
        }
        other => {
            losses.add(&*choice.path, format!("a {other:?} tool cannot be chosen at the target"));
            Ok(None)
        }
    }
}
