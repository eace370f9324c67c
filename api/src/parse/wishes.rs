//! What a request wants beyond its body: directives in its messages, the form of the answer, a schema.
//!
//! Owns how these come together: a directive wins over a field, and what TokenHub is asked for is put into the body by the
//! means of its protocol. A body without any of it stays as it came, for the price of one search.

use serde_json::{Map, Value};
use tokenhub_domain::{Capability, Dialect, NanoDollars, OnMismatch, OutputWish, Text, TextFormat, limits};
use tokenhub_formats::{
    ConversationError, DirectiveError, Directives, MARKER, Program, Schema, SchemaField, find_schema, limit_output,
    place_schema, strip,
};

use super::{Ask, BYTES_PER_TOKEN, Fields};
use crate::{
    durability::Delivery,
    error::Problem,
    validation::{self, Validation},
};

const FORMAT: &str = "output_format";
const SCHEMA_DIRECTIVE: &str = "@@tokenhub output_schema";

/// What fields of TokenHub's own say about the answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OutputFields {
    format: Option<TextFormat>,
    strip_think: bool,
    max_tokens: Option<u64>,
    schema: Option<SchemaField>,
}

/// Where and how a request is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// The protocol of the body.
    pub(crate) dialect: Dialect,
    /// How the answer goes out.
    pub(crate) delivery: Delivery,
    /// The field that asks for a stream.
    pub(crate) stream_param: &'static str,
    /// What the header says about a schema.
    pub(crate) validation: Validation,
}

impl OutputFields {
    /// The `output_format` of a native body.
    pub(crate) fn parse(body: &Map<String, Value>) -> Result<Self, Problem> {
        let fields = Fields::of(body, FORMAT)?;
        fields.only(&["type", "schema", "max_tokens", "strip_think"])?;
        let format = match fields.text("type")? {
            "" => None,
            name => Some(
                TextFormat::parse(name)
                    .ok_or_else(|| Problem::invalid(fields.path("type"), "must be json, markdown, text or xml"))?,
            ),
        };
        Ok(Self {
            format,
            strip_think: fields.flag("strip_think")?,
            max_tokens: fields.whole("max_tokens", u64::from(u32::MAX))?.filter(|tokens| *tokens > 0),
            schema: schema_in(fields.get("schema"), "output_format.schema")?,
        })
    }

    /// The same with a schema from another field, when there is one; it wins.
    pub(crate) fn with_schema(mut self, value: Option<&Value>, param: &'static str) -> Result<Self, Problem> {
        self.schema = schema_in(value, param)?.or(self.schema);
        Ok(self)
    }
}

/// A schema, or a text that holds one; empty means none.
fn schema_in(value: Option<&Value>, param: &'static str) -> Result<Option<SchemaField>, Problem> {
    let schema = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => {
            serde_json::from_str(text).map_err(|error| Problem::invalid(param, format!("is no JSON: {error}")))?
        }
        Some(schema) => schema.clone(),
    };
    Ok(Some(SchemaField { param, schema }))
}

/// Takes the directives out of `ask` and writes into it what they and `fields` want; a program is the caller's to run.
pub(crate) fn apply(ask: &mut Ask, mut fields: OutputFields, manner: Manner) -> Result<Option<Program>, Problem> {
    let stripped = strip(manner.dialect, &ask.original).map_err(refusal)?;
    let said = stripped.map_or_else(Directives::default, |(body, said)| {
        ask.original = body;
        said
    });
    let program = said.program;
    follow(ask, &mut fields, said);
    if let Some(tokens) = fields.max_tokens {
        ask.original = limit_output(manner.dialect, &ask.original, tokens).ok_or(Problem::Internal)?;
        let is_unlimited = ask.estimated_output_tokens == limits::ESTIMATED_OUTPUT_TOKENS;
        ask.estimated_output_tokens = if is_unlimited { tokens } else { ask.estimated_output_tokens.min(tokens) };
    }
    let (schema, on_mismatch) = schema_to_check(ask, fields.schema, manner)?;
    ask.output =
        OutputWish { format: fields.format, strip_think: fields.strip_think, schema, pattern: None, on_mismatch };
    if manner.delivery == Delivery::Stream && !ask.output.is_empty() {
        let reason = "an answer that is brought into a form or checked against a schema cannot be streamed";
        return Err(Problem::invalid(manner.stream_param, reason));
    }
    Ok(program)
}

/// A directive wins over what the body's fields say, key by key. The application's limits it can only make narrower: the
/// text of a message is often somebody else's.
fn follow(ask: &mut Ask, fields: &mut OutputFields, said: Directives) {
    let policy = &mut ask.policy;
    policy.profile = said.profile.or(policy.profile);
    policy.max_budget = narrower(said.budget_usd.and_then(NanoDollars::from_usd), policy.max_budget);
    policy.max_latency_ms = narrower(said.latency_ms, policy.max_latency_ms);
    policy.min_weight = policy.min_weight.max(said.min_weight.unwrap_or_default());
    fields.format = said.output_format.or(fields.format);
    fields.strip_think = said.strip_think.unwrap_or(fields.strip_think);
    fields.max_tokens = said.max_tokens.or(fields.max_tokens);
    if let Some(schema) = said.output_schema {
        fields.schema = Some(SchemaField { param: SCHEMA_DIRECTIVE, schema });
    }
}

fn narrower<T: Ord>(said: Option<T>, known: Option<T>) -> Option<T> {
    match (said, known) {
        (Some(said), Some(known)) => Some(said.min(known)),
        (said, known) => said.or(known),
    }
}

/// Shows a schema of TokenHub's own to the model; the schema that the answer is to be checked against.
fn schema_to_check(
    ask: &mut Ask,
    own: Option<SchemaField>,
    manner: Manner,
) -> Result<(Option<Text>, OnMismatch), Problem> {
    let on_mismatch = match manner.validation {
        Validation::On(on_mismatch) => on_mismatch,
        Validation::Unsaid | Validation::Off => OnMismatch::default(),
    };
    if let Some(own) = &own {
        check(own)?;
        let before = ask.original.len();
        ask.original = place_schema(manner.dialect, &ask.original, &own.schema).ok_or(Problem::Internal)?;
        ask.estimated_input_tokens += (ask.original.len().saturating_sub(before) as u64).div_ceil(BYTES_PER_TOKEN);
        if !ask.demands.needs.contains(&Capability::JsonSchema) {
            ask.demands.needs.push(Capability::JsonSchema);
        }
    }
    let checked = match (manner.validation, own) {
        (Validation::Off, _) | (Validation::Unsaid, None) => None,
        (Validation::Unsaid | Validation::On(_), Some(own)) => Some(own),
        (Validation::On(_), None) => {
            let found = find_schema(manner.dialect, &ask.original);
            let found = found.ok_or_else(|| validation::refused("there is no schema in the request"))?;
            check(&found)?;
            Some(found)
        }
    };
    Ok((checked.map(|field| Text::Inline(field.schema.to_string())), on_mismatch))
}

fn check(field: &SchemaField) -> Result<(), Problem> {
    Schema::new(&field.schema).map(|_| ()).map_err(|error| Problem::invalid(field.param, error.to_string()))
}

fn refusal(error: ConversationError) -> Problem {
    match error {
        ConversationError::Directive(DirectiveError { key, reason }) if key.is_empty() => {
            Problem::invalid(MARKER, reason)
        }
        ConversationError::Directive(DirectiveError { key, reason }) => {
            Problem::invalid(format!("{MARKER} {key}"), reason)
        }
        ConversationError::NothingLeft { param } => Problem::invalid(param, "hold nothing but directives"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokenhub_domain::RoutingProfile;

    use super::*;
    use crate::{
        error::Shape,
        parse::{Demands, PolicyWish},
    };

    const MANNER: Manner = Manner {
        dialect: Dialect::Chat,
        delivery: Delivery::Whole,
        stream_param: "stream",
        validation: Validation::Unsaid,
    };

    fn ask(content: &str) -> Ask {
        Ask {
            original: json!({"messages": [{"role": "user", "content": content}]}).to_string(),
            estimated_input_tokens: 1,
            estimated_output_tokens: 512,
            policy: PolicyWish { min_weight: 1, max_latency_ms: Some(7), ..PolicyWish::default() },
            demands: Demands::default(),
            output: OutputWish::default(),
        }
    }

    fn refused(content: &str, manner: Manner) -> String {
        let problem = apply(&mut ask(content), OutputFields::default(), manner).unwrap_err();
        problem.report(Shape::OpenAi).param.unwrap_or_default()
    }

    #[test]
    fn a_request_that_wants_nothing_keeps_its_bytes() {
        let mut plain = ask("hi");
        assert_eq!(apply(&mut plain, OutputFields::default(), MANNER).unwrap(), None);
        assert_eq!(plain, ask("hi"));
    }

    #[test]
    fn directives_win_over_fields_key_by_key() {
        let mut asked = ask("hi\n@@tokenhub mode=cheap budget=2 min_weight=3 max_tokens=9 output_format=text");
        let body = json!({"output_format": {"type": "json", "max_tokens": 50, "strip_think": true}});
        let fields = OutputFields::parse(body.as_object().unwrap()).unwrap();
        assert_eq!(apply(&mut asked, fields, MANNER).unwrap(), None);
        let policy = &asked.policy;
        assert_eq!((policy.profile, policy.min_weight), (Some(RoutingProfile::Cheap), 3));
        assert_eq!((policy.max_budget, policy.max_latency_ms), (NanoDollars::from_usd(2.0), Some(7)));
        assert_eq!((asked.output.format, asked.output.strip_think), (Some(TextFormat::Text), true));
        assert_eq!(asked.estimated_output_tokens, 9);
        let body: Value = serde_json::from_str(&asked.original).unwrap();
        assert_eq!(body, json!({"messages": [{"role": "user", "content": "hi\n"}], "max_completion_tokens": 9}));
    }

    #[test]
    fn a_schema_of_ours_is_shown_and_checked_and_one_of_the_protocols_only_when_that_is_asked_for() {
        let directive = "hi\n@@tokenhub output_schema={\"type\":\"object\"}";
        for (validation, is_checked) in
            [(Validation::Unsaid, true), (Validation::Off, false), (Validation::On(OnMismatch::Keep), true)]
        {
            let mut asked = ask(directive);
            apply(&mut asked, OutputFields::default(), Manner { validation, ..MANNER }).unwrap();
            assert!(asked.original.contains("json_schema"), "shown");
            assert_eq!(asked.output.schema.is_some(), is_checked);
            assert_eq!(asked.output.on_mismatch == OnMismatch::Keep, validation == Validation::On(OnMismatch::Keep));
        }
        let own = json!({"messages": [{}], "response_format": {"type": "json_schema", "json_schema": {"schema": {}}}});
        for (validation, is_checked) in [(Validation::Unsaid, false), (Validation::On(OnMismatch::Fail), true)] {
            let mut asked = Ask { original: own.to_string(), ..ask("") };
            apply(&mut asked, OutputFields::default(), Manner { validation, ..MANNER }).unwrap();
            assert_eq!((asked.original, asked.output.schema.is_some()), (own.to_string(), is_checked));
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        assert_eq!(refused("hi\n@@tokenhub budget=0", MANNER), "@@tokenhub budget");
        assert_eq!(refused("hi\n@@tokenhub\nbudget=1", MANNER), "@@tokenhub");
        assert_eq!(refused("@@tokenhub budget=1", MANNER), "messages");
        assert_eq!(refused("hi\n@@tokenhub output_schema={\"type\":\"objekt\"}", MANNER), SCHEMA_DIRECTIVE);
        let checked = Manner { validation: Validation::On(OnMismatch::Fail), ..MANNER };
        assert_eq!(refused("hi", checked), "X-TokenHub-Validate");
        let streamed = Manner { delivery: Delivery::Stream, ..MANNER };
        assert_eq!(refused("hi\n@@tokenhub output_format=json", streamed), "stream");
        let field = |body: Value| OutputFields::parse(body.as_object().unwrap()).unwrap_err();
        assert!(
            matches!(field(json!({"output_format": {"type": "yaml"}})), Problem::InvalidField { param, .. } if param == "output_format.type")
        );
        assert!(
            matches!(field(json!({"output_format": {"typ": "json"}})), Problem::UnknownField { param } if param == "output_format.typ")
        );
        assert!(
            matches!(field(json!({"output_format": {"schema": "{"}})), Problem::InvalidField { param, .. } if param == "output_format.schema")
        );
    }
}
