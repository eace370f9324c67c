//! A Chat request into the neutral form: everything but the messages.

use serde_json::{Map, Value};

use super::super::ConvertError;
use super::super::open_ai;
use super::super::read::{At, Losses, invalid};
use super::super::request::{Request, Tool, ToolChoice};
use super::decode_turns::read_messages;

const KNOWN: [&str; 15] = [
    "messages",
    "tools",
    "tool_choice",
    "response_format",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "n",
    "reasoning_effort",
    "top_k",
    "verbosity",
    "functions",
    "function_call",
    "modalities",
    "store",
];

/// Reads a request.
pub(crate) fn decode(body: &Map<String, Value>, losses: &mut Losses) -> Result<Request, ConvertError> {
    refuse_what_changes_the_answer(body)?;
    let mut request = open_ai::read_shared(body)?;
    read_messages(body, &mut request, losses)?;
    read_tools(body, &mut request, losses)?;
    let limit = At::field_of(body, "max_completion_tokens").or_else(|| At::field_of(body, "max_tokens"));
    request.max_output_tokens = limit.map(|limit| limit.whole_number()).transpose()?;
    request.stop = At::field_of(body, "stop").map_or(Ok(Vec::new()), |stop| read_stop(&stop))?;
    request.sampling.top_k = open_ai::number(body, "top_k", f64::MAX)?;
    request.thinking.effort = open_ai::read_effort(At::field_of(body, "reasoning_effort"), losses)?;
    request.verbosity = At::field_of(body, "verbosity").map(|at| at.value.clone());
    request.output = At::field_of(body, "response_format")
        .map(|format| {
            let schema = if format.kind() == "json_schema" { format.need("json_schema")? } else { format.clone() };
            open_ai::output_format(&format, &schema)
        })
        .transpose()?;
    if body.get("store").and_then(Value::as_bool) == Some(true) {
        losses.add("store", "a converted reply is not stored");
    }
    let known: Vec<&str> = KNOWN.into_iter().chain(open_ai::SHARED_FIELDS).collect();
    losses.add_unknown_of(body, "", &known);
    Ok(request)
}

/// Options whose loss would give another kind of answer than the client asked for.
fn refuse_what_changes_the_answer(body: &Map<String, Value>) -> Result<(), ConvertError> {
    if let Some(n) = At::field_of(body, "n")
        && n.whole_number()? != 1
    {
        return Err(n.invalid("this model gives one answer for each request"));
    }
    for name in ["functions", "function_call"] {
        if At::field_of(body, name).is_some() {
            return Err(invalid(name, "use tools and tool_choice"));
        }
    }
    if let Some(modalities) = At::field_of(body, "modalities") {
        for modality in modalities.items()? {
            if modality.text()? != "text" {
                return Err(modality.invalid("this model answers in text only"));
            }
        }
    }
    Ok(())
}

fn read_stop(stop: &At<'_>) -> Result<Vec<String>, ConvertError> {
    if let Some(one) = stop.value.as_str() {
        return Ok(vec![one.to_owned()]);
    }
    stop.items()?.iter().map(|item| item.text().map(str::to_owned)).collect()
}

fn read_tools(body: &Map<String, Value>, request: &mut Request, losses: &mut Losses) -> Result<(), ConvertError> {
    let Some(tools) = At::field_of(body, "tools") else { return Ok(()) };
    for tool in tools.items()? {
        match tool.kind() {
            "function" => request.tools.push(Tool::Function(open_ai::function(&tool.need("function")?)?)),
            "custom" => request.tools.push(Tool::FreeForm(open_ai::free_form(&tool.need("custom")?)?)),
            other => losses.add(&*tool.path, format!("a {other:?} tool runs at a provider that has it")),
        }
    }
    if request.tools.is_empty() && !tools.items()?.is_empty() {
        return Err(tools.invalid("this model has none of these tools"));
    }
    if let Some(choice) = At::field_of(body, "tool_choice") {
        request.tool_choice = Some(read_choice(&choice)?);
    }
    Ok(())
}

fn read_choice(choice: &At<'_>) -> Result<ToolChoice, ConvertError> {
    match choice.value.as_str() {
        Some("auto") => return Ok(ToolChoice::Auto),
        Some("none") => return Ok(ToolChoice::None),
        Some("required") => return Ok(ToolChoice::Required),
        Some(other) => return Err(choice.invalid(format!("{other:?} is not a tool choice"))),
        None => {}
    }
    match choice.kind() {
        kind @ ("function" | "custom") => Ok(ToolChoice::Named(choice.need(kind)?.need_text("name")?.to_owned())),
        "allowed_tools" => {
            let allowed = choice.need("allowed_tools")?;
            let name = |tool: &At<'_>| tool.need(tool.kind())?.need_text("name").map(str::to_owned);
            Ok(ToolChoice::Allowed {
                required: allowed.text_field("mode")? == Some("required"),
                names: allowed.need("tools")?.items()?.iter().map(name).collect::<Result<_, _>>()?,
            })
        }
        other => Err(invalid(choice.path_of("type"), format!("{other:?} is not a tool choice"))),
    }
}
