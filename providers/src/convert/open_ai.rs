//! What Chat and Responses have in common: sampling, tools, schemas and identifiers with the same names and meanings.
//!
//! Owns the reading and writing of these once for both. Where the two nest them differently, the caller passes the object
//! that holds the fields.

use serde_json::{Map, Number, Value, json};

use super::ConvertError;
use super::data_url::{data_url, source_of};
use super::effort::{effort_of, fit};
use super::ids::hash_digits;
use super::neutral::{Abilities, Effort};
use super::read::{At, Losses, invalid};
use super::request::{
    Audio, Document, FreeForm, Function, Image, OutputFormat, Part, Request, Sampling, Source, ThinkingAsk,
};
use super::topic::Topic;

/// The longest `user` that both take.
const USER_CHARS_MAX: usize = 64;

/// Fields that [`read_shared`] reads.
pub(crate) const SHARED_FIELDS: [&str; 12] = [
    "model",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "parallel_tool_calls",
    "user",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "metadata",
];
/// Those of them that are carried between the two as they are.
const CARRIED_FIELDS: [&str; 4] = ["safety_identifier", "prompt_cache_key", "prompt_cache_retention", "metadata"];

/// Reads the fields that both protocols have at the top of a request.
pub(crate) fn read_shared(body: &Map<String, Value>) -> Result<Request, ConvertError> {
    let text = |name| At::field_of(body, name).map(|at| at.text().map(str::to_owned)).transpose();
    let flag = |name| At::field_of(body, name).map(|at| at.flag()).transpose();
    flag("stream")?;
    let carried = CARRIED_FIELDS.into_iter();
    Ok(Request {
        model: body.get("model").cloned(),
        stream: body.get("stream").filter(|stream| !stream.is_null()).cloned(),
        sampling: Sampling {
            temperature: number(body, "temperature", 2.0)?,
            top_p: number(body, "top_p", 1.0)?,
            top_k: None,
        },
        parallel_tools: flag("parallel_tool_calls")?,
        user: text("user")?,
        service_tier: text("service_tier")?,
        open_ai: carried.filter_map(|name| At::field_of(body, name).map(|at| (name, at.value.clone()))).collect(),
        ..Request::default()
    })
}

/// A number between 0 and `max`.
pub(crate) fn number(body: &Map<String, Value>, name: &str, max: f64) -> Result<Option<Number>, ConvertError> {
    let Some(at) = At::field_of(body, name) else { return Ok(None) };
    if !(0.0..=max).contains(&at.number()?) {
        return Err(at.invalid(format!("must be between 0 and {max}")));
    }
    Ok(at.value.as_number().cloned())
}

/// Writes the sampling, user and tier that both protocols have.
pub(crate) fn write_shared(request: &Request, body: &mut Map<String, Value>, losses: &mut Losses) {
    let sampling = &request.sampling;
    let numbers = [("temperature", &sampling.temperature), ("top_p", &sampling.top_p)];
    for (name, value) in numbers {
        if let Some(value) = value {
            body.insert(name.to_owned(), Value::Number(value.clone()));
        }
    }
    if sampling.top_k.is_some() {
        losses.add("top_k", "the target's protocol has no top_k");
    }
    if let Some(user) = &request.user {
        let user = if user.chars().count() > USER_CHARS_MAX { hash_digits(user, USER_CHARS_MAX) } else { user.clone() };
        body.insert("user".to_owned(), json!(user));
    }
    if let Some(tier) = &request.service_tier {
        body.insert("service_tier".to_owned(), json!(tier));
    }
    if let Some(stream) = &request.stream {
        body.insert("stream".to_owned(), stream.clone());
    }
}

/// A function from the object that holds its name.
pub(crate) fn function(at: &At<'_>) -> Result<Function, ConvertError> {
    Ok(Function {
        name: at.need_text("name")?.to_owned(),
        description: at.text_field("description")?.map(str::to_owned),
        schema: object_schema(at.get("parameters").as_ref())?,
        strict: at.get("strict").map(|strict| strict.flag()).transpose()?,
    })
}

/// A free-form tool from the object that holds its name.
pub(crate) fn free_form(at: &At<'_>) -> Result<FreeForm, ConvertError> {
    Ok(FreeForm {
        name: at.need_text("name")?.to_owned(),
        description: at.text_field("description")?.map(str::to_owned),
        format: at.get("format").map(|format| format.value.clone()),
        path: at.path.clone(),
    })
}

/// A tool's schema; an absent or empty one takes no fields.
pub(crate) fn object_schema(schema: Option<&At<'_>>) -> Result<Value, ConvertError> {
    let empty = Map::new();
    let fields = schema.map_or(Ok(&empty), At::object)?;
    if fields.contains_key("type") {
        return Ok(Value::Object(fields.clone()));
    }
    let mut whole = Map::new();
    whole.insert("type".to_owned(), json!("object"));
    whole.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
    whole.entry("properties").or_insert_with(|| json!({}));
    Ok(Value::Object(whole))
}

/// The function that stands for a free-form tool where there are none. A grammar goes into the description, because
/// nothing else can tell the model.
pub(crate) fn wrapped(tool: FreeForm, losses: &mut Losses) -> Function {
    let grammar = tool.format.as_ref().and_then(grammar_of);
    if grammar.is_some() {
        losses.add(format!("{}.format", tool.path), "the grammar is told to the model and not enforced");
    }
    let told = grammar.map(|(syntax, definition)| format!("The input follows this {syntax} grammar:\n{definition}"));
    let description: Vec<String> = tool.description.into_iter().chain(told).collect();
    Function {
        name: tool.name,
        description: (!description.is_empty()).then(|| description.join("\n\n")),
        schema: json!({
            "type": "object",
            "properties": {super::tool_names::FREE_FORM_FIELD: {"type": "string"}},
            "required": [super::tool_names::FREE_FORM_FIELD],
            "additionalProperties": false,
        }),
        strict: None,
    }
}

/// Syntax and definition; Chat nests them one level deeper.
fn grammar_of(format: &Value) -> Option<(&str, &str)> {
    let grammar = format.get("grammar").unwrap_or(format);
    let definition = grammar.get("definition").and_then(Value::as_str)?;
    Some((grammar.get("syntax").and_then(Value::as_str).unwrap_or("formal"), definition))
}

/// `format` is the object with `type`; `schema` the one with `name` and `schema`.
pub(crate) fn output_format(format: &At<'_>, schema: &At<'_>) -> Result<OutputFormat, ConvertError> {
    match format.need_text("type")? {
        "text" => Ok(OutputFormat::Text),
        "json_object" => Ok(OutputFormat::AnyObject),
        "json_schema" => Ok(OutputFormat::Schema {
            name: schema.text_field("name")?.map(str::to_owned),
            description: schema.text_field("description")?.map(str::to_owned),
            schema: Value::Object(schema.need("schema")?.object()?.clone()),
            strict: schema.get("strict").map(|strict| strict.flag()).transpose()?,
        }),
        other => Err(invalid(format.path_of("type"), format!("{other:?} is not a response format"))),
    }
}

/// The named fields of a schema format.
pub(crate) fn schema_fields(format: OutputFormat) -> Option<Map<String, Value>> {
    let OutputFormat::Schema { name, description, schema, strict } = format else { return None };
    let mut fields = Map::new();
    fields.insert("name".to_owned(), json!(name.as_deref().unwrap_or(super::request::SCHEMA_NAME)));
    if let Some(description) = description {
        fields.insert("description".to_owned(), json!(description));
    }
    fields.insert("schema".to_owned(), schema);
    if let Some(strict) = strict {
        fields.insert("strict".to_owned(), json!(strict));
    }
    Some(fields)
}

/// An effort word; an unknown one is lost rather than refused, because models gain new ones.
pub(crate) fn read_effort(at: Option<At<'_>>, losses: &mut Losses) -> Result<Option<Effort>, ConvertError> {
    let Some(at) = at else { return Ok(None) };
    let effort = Effort::parse(at.text()?);
    if effort.is_none() {
        losses.add(at.path, "an unknown effort");
    }
    Ok(effort)
}

/// The effort to ask for, as far as the target takes it. Neither protocol has `max`.
pub(crate) fn effort_to_ask(request: &Request, abilities: &Abilities, losses: &mut Losses) -> Option<Effort> {
    let thinking = &request.thinking;
    let known = abilities.efforts.as_slice();
    let (wanted, is_translated) = match (thinking.ask, thinking.effort) {
        (Some(ThinkingAsk::Off), _) => (Effort::None, true),
        (Some(ThinkingAsk::Budget(tokens)), None) => (effort_of(tokens), true),
        (_, Some(effort)) => (effort, effort == Effort::Max),
        (Some(ThinkingAsk::Adaptive) | None, None) => return None,
    };
    let asked = if is_translated || !known.is_empty() { fit(known, wanted) } else { Some(wanted) };
    if asked.is_none() {
        losses.add(
            Topic::Thinking.field(request.from),
            "whether the model can answer without thinking is not known, so it is not asked to",
        );
    } else if wanted == Effort::Max && asked != Some(Effort::Max) {
        losses.add("output_config.effort", "the target's model has no such effort");
    }
    asked
}

/// An image of either protocol: `url` is its address or data URL.
pub(crate) fn image(url: &At<'_>, detail: Option<&str>) -> Result<Part, ConvertError> {
    let source = source_of(url)?;
    Ok(Part::Image(Image { source, detail: detail.map(str::to_owned), path: url.path.clone() }))
}

/// A file of either protocol, from the object with `file_data`, `file_url` or `file_id`.
pub(crate) fn document(at: &At<'_>) -> Result<Part, ConvertError> {
    let source = if let Some(data) = at.get("file_data").or_else(|| at.get("file_url")) {
        source_of(&data)?
    } else if at.get("file_id").is_some() {
        Source::FileId
    } else {
        return Err(at.invalid("needs file_data"));
    };
    let name = at.text_field("filename")?.map(str::to_owned);
    Ok(Part::Document(Document { source, name, path: at.path.clone() }))
}

/// Audio of either protocol, from the part that holds `input_audio`.
pub(crate) fn audio(part: &At<'_>) -> Result<Part, ConvertError> {
    let audio = part.need("input_audio")?;
    audio.need_text("data")?;
    audio.need_text("format")?;
    Ok(Part::Audio(Audio { input: audio.value.clone(), path: audio.path }))
}

/// The address or data URL of an image.
pub(crate) fn image_url(image: &Image) -> Result<String, ConvertError> {
    match &image.source {
        Source::Data { media_type, base64 } => Ok(data_url(media_type, base64)),
        Source::Url(url) => Ok(url.clone()),
        Source::FileId => Err(foreign_file(&image.path)),
    }
}

/// A refusal of a file id.
pub(crate) fn foreign_file(path: &str) -> ConvertError {
    invalid(path, "a file id is known only to the provider that issued it: send the data")
}

/// The name of a document, which data needs.
pub(crate) fn document_name(document: &Document, media_type: &str) -> String {
    let extension = if media_type == "application/pdf" { "pdf" } else { "bin" };
    document.name.clone().unwrap_or_else(|| format!("document.{extension}"))
}
