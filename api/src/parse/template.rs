//! Templates of plans: what one may hold, how it is named, and how a request lies over it.
//!
//! A template is a part of a plan's body. So it is checked by being completed with a question and read as a plan, and it
//! is used by laying the caller's fields over it and reading the result as a plan: there is no second reader.

use serde_json::{Map, Value};
use tokenhub_domain::{ContentHash, TemplateName, canonical_json, limits};

use super::{
    Fields,
    bounds::{FIRST_TOKEN, PER_STEP},
    object, plan,
    strategy::STRATEGY,
};
use crate::{error::Problem, validation::Validation};

/// The field of a plan's body.
pub(crate) const TEMPLATE: &str = "template";
/// How a model's name begins that stands for a template.
pub(crate) const MODEL_PREFIX: &str = "plan/";

const FIELDS: [&str; 10] = [
    "description",
    STRATEGY,
    "request",
    "bounds",
    "policy",
    "output_format",
    "tags",
    "approval",
    "webhook",
    plan::DELTAS,
];
const REQUEST_FIELDS: [&str; 4] = ["messages", "parameters", "output_schema", "model_hint"];
const REFERENCE_RULE: &str = "must be the name of a template, such as review or review@3";

/// A template that may be stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Written {
    /// What it says, as it was written.
    pub(crate) body: String,
    /// Of what it says.
    pub(crate) hash: ContentHash,
    /// What it is for.
    pub(crate) description: String,
    /// The type of its strategy.
    pub(crate) strategy: String,
    /// The plan that it makes of a short question.
    pub(crate) example: plan::PlanRequest,
}

/// Which template is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Its name.
    pub(crate) name: TemplateName,
    /// The version; the current one without.
    pub(crate) version: Option<u64>,
}

/// Reads the body of a template.
pub(crate) fn parse(bytes: &[u8]) -> Result<Written, Problem> {
    let body = object(bytes)?;
    Fields::top(&body).only(&FIELDS)?;
    let description = match body.get("description") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) if text.len() <= limits::TEMPLATE_DESCRIPTION_BYTES => text.clone(),
        Some(_) => {
            let rule = format!("must be a text of at most {} bytes", limits::TEMPLATE_DESCRIPTION_BYTES);
            return Err(Problem::invalid("description", rule));
        }
    };
    if body.get(STRATEGY).is_none_or(Value::is_null) {
        return Err(Problem::MissingField { param: STRATEGY.to_owned() });
    }
    Fields::of(&body, "request")?.only(&REQUEST_FIELDS)?;
    let example = plan::parse(&with_question(&body), Validation::Unsaid)?;
    let strategy = Fields::of(&body, STRATEGY)?.text("type")?.to_owned();
    let body = Value::Object(body);
    Ok(Written {
        hash: ContentHash::of(&canonical_json(&body)),
        body: body.to_string(),
        description: description.replace('\0', "\u{fffd}"),
        strategy,
        example,
    })
}

/// The template as a whole plan. Messages that are none stay, to be refused by their name.
fn with_question(template: &Map<String, Value>) -> Map<String, Value> {
    let question = serde_json::json!([{"role": "user", "content": "?"}]);
    let mut body = template.clone();
    body.shift_remove("description");
    let request = body.entry("request").or_insert(Value::Null);
    if request.is_null() {
        *request = Value::Object(Map::new());
    }
    if let Some(request) = request.as_object_mut() {
        let messages = joined(request.get("messages"), question);
        request.insert("messages".to_owned(), messages);
    }
    body
}

/// A name that a template may have.
pub(crate) fn name(text: &str) -> Result<TemplateName, Problem> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let begins_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if begins_well && text.len() <= limits::TEMPLATE_NAME_BYTES && text.bytes().all(is_allowed) {
        return Ok(TemplateName::from(text));
    }
    let most = limits::TEMPLATE_NAME_BYTES;
    let rule = format!("must be 1 to {most} letters, digits, `.`, `_` or `-`, the first one a letter or a digit");
    Err(Problem::invalid("name", rule))
}

/// A version as a query or a reference has it.
pub(crate) fn version(text: &str) -> Option<u64> {
    let is_plain = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    text.parse().ok().filter(|version| is_plain && *version > 0)
}

/// `name` or `name@version`.
pub(crate) fn reference(text: &str) -> Option<Reference> {
    match text.split_once('@') {
        None => Some(Reference { name: name(text).ok()?, version: None }),
        Some((before, after)) => Some(Reference { name: name(before).ok()?, version: Some(version(after)?) }),
    }
}

/// The template that the body of a plan names, which is taken out of it.
pub(crate) fn named(body: &mut Map<String, Value>) -> Result<Option<Reference>, Problem> {
    let reference = match body.shift_remove(TEMPLATE) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => {
            reference(text.trim()).ok_or_else(|| Problem::invalid(TEMPLATE, REFERENCE_RULE))?
        }
        Some(_) => return Err(Problem::invalid(TEMPLATE, REFERENCE_RULE)),
    };
    for other in [STRATEGY, "orchestration"] {
        if body.get(other).is_some_and(|value| !value.is_null()) {
            return Err(Problem::invalid(other, "cannot be combined with `template`, which says what is to be done"));
        }
    }
    Ok(Some(reference))
}

/// The plan that `own` asks for over `template`.
pub(crate) fn overlay(
    template: &Map<String, Value>,
    mut own: Map<String, Value>,
) -> Result<Map<String, Value>, Problem> {
    let has = |fields: &Map<String, Value>, name: &str| fields.get(name).is_some_and(|value| !value.is_null());
    if has(template, "approval") && has(&own, "approval") {
        return Err(Problem::invalid("approval", "is asked for by the template already"));
    }
    let below = template.get("request").and_then(Value::as_object).cloned().unwrap_or_default();
    let below = without_replaced_schema(template, below, &own)?;
    let request = over_request(below, own.shift_remove("request"))?;
    let mut body = template.clone();
    body.shift_remove("description");
    body.insert("request".to_owned(), request);
    if own.get(plan::DELTAS) == Some(&Value::Bool(false))
        && let Some(bounds) = body.get_mut("bounds").and_then(Value::as_object_mut)
    {
        // It is for the deltas that the caller does without.
        bounds.shift_remove(FIRST_TOKEN);
    }
    for (name, value) in own.into_iter().filter(|(_, value)| !value.is_null()) {
        let value = match (body.shift_remove(&name), name.as_str()) {
            (Some(Value::Object(below)), "bounds" | "policy") => over(below, value, narrower),
            (Some(Value::Object(below)), "output_format" | "tags") => over(below, value, |_, _, own| own),
            (Some(_) | None, _) => value,
        };
        body.insert(name, value);
    }
    Ok(body)
}

/// The caller's schema takes the place of the template's, unless the strategy itself needs one.
fn without_replaced_schema(
    template: &Map<String, Value>,
    mut below: Map<String, Value>,
    own: &Map<String, Value>,
) -> Result<Map<String, Value>, Problem> {
    let is_there = |parent: &Map<String, Value>, outer: &str, inner: &str| {
        parent.get(outer).and_then(|value| value.get(inner)).is_some_and(|value| !value.is_null())
    };
    let places = [("request", "output_schema"), ("output_format", "schema")];
    let Some((outer, inner)) = places.into_iter().find(|(outer, inner)| is_there(own, outer, inner)) else {
        return Ok(below);
    };
    if is_there(template, STRATEGY, "output_schema") {
        return Err(Problem::invalid(
            format!("{outer}.{inner}"),
            "cannot replace the schema of the template's strategy",
        ));
    }
    below.shift_remove("output_schema");
    Ok(below)
}

fn over_request(below: Map<String, Value>, own: Option<Value>) -> Result<Value, Problem> {
    let own = match own {
        None | Some(Value::Null) => return Err(Problem::MissingField { param: "request".to_owned() }),
        Some(Value::Object(own)) => own,
        // To be refused by its name.
        Some(other) => return Ok(other),
    };
    let mut request = below;
    match own.get("messages") {
        None | Some(Value::Null) => return Err(Problem::MissingField { param: "request.messages".to_owned() }),
        Some(messages) => {
            let messages = joined(request.get("messages"), messages.clone());
            request.insert("messages".to_owned(), messages);
        }
    }
    for (name, value) in own.into_iter().filter(|(name, value)| name != "messages" && !value.is_null()) {
        let value = match (request.shift_remove(&name), name.as_str()) {
            (Some(Value::Object(below)), "parameters") => over_parameters(below, value),
            (Some(_) | None, _) => value,
        };
        request.insert(name, value);
    }
    Ok(Value::Object(request))
}

/// The messages of a template and those behind them. Lists that are none stay, to be refused by their name.
fn joined(before: Option<&Value>, behind: Value) -> Value {
    match (before, behind) {
        (Some(Value::Array(before)), Value::Array(behind)) if !behind.is_empty() => {
            before.iter().cloned().chain(behind).collect()
        }
        (None | Some(Value::Null | Value::Array(_)), behind) => behind,
        (Some(wrong), _) => wrong.clone(),
    }
}

/// Both names of the limit of an answer's length are one parameter.
fn over_parameters(mut below: Map<String, Value>, own: Value) -> Value {
    let limits = ["max_tokens", "max_completion_tokens"];
    if limits.iter().any(|name| own.get(name).is_some()) {
        for name in limits {
            below.shift_remove(name);
        }
    }
    over(below, own, |_, _, own| own)
}

/// `own` over `below`, field by field. Something that is no object stays, to be refused by its name.
fn over(below: Map<String, Value>, own: Value, rule: impl Fn(&str, Value, Value) -> Value) -> Value {
    let Value::Object(own) = own else { return own };
    let mut both = below;
    for (name, value) in own.into_iter().filter(|(_, value)| !value.is_null()) {
        let value = match both.shift_remove(&name) {
            Some(before) => rule(&name, before, value),
            None => value,
        };
        both.insert(name, value);
    }
    Value::Object(both)
}

/// A limit of the template can only be made tighter; what is no limit is the caller's.
fn narrower(name: &str, below: Value, own: Value) -> Value {
    if let (PER_STEP, Value::Object(below)) = (name, &below) {
        return over(below.clone(), own, narrower);
    }
    let (Some(least), Some(wanted)) = (below.as_f64(), own.as_f64()) else { return own };
    // Where a policy says 0, it says nothing. A negative number stays, to be refused by its name.
    let is_unlimited = |number: f64| number == 0.0 && ["max_budget_usd", "max_latency_ms"].contains(&name);
    let is_tighter = match name {
        "min_weight" => wanted > least,
        name if name.starts_with("max_") || name.ends_with("_timeout_ms") || name == "deadline_ms" => {
            !is_unlimited(wanted) && (wanted < least || is_unlimited(least))
        }
        _ => true,
    };
    if is_tighter { own } else { below }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Shape;

    fn laid(template: &Value, own: &Value) -> Result<Value, String> {
        let mut body = json!({"request": {"messages": [{"role": "user", "content": "b"}]}});
        body.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        let both = overlay(template.as_object().unwrap(), body.as_object().unwrap().clone());
        both.map(Value::Object).map_err(|problem| problem.report(Shape::Problem).param.unwrap())
    }

    #[test]
    fn who_does_without_deltas_does_without_the_limit_that_only_they_have() {
        let template = json!({"strategy": {"type": "single"}, "deltas": true,
            "bounds": {"max_calls": 3, "first_token_timeout_ms": 50}});
        let both = laid(&template, &json!({"deltas": false})).unwrap();
        assert_eq!(both["bounds"], json!({"max_calls": 3}));
        let both = laid(&template, &json!({"bounds": {"first_token_timeout_ms": 70}})).unwrap();
        assert_eq!(both["bounds"], template["bounds"]);
        let own = json!({"deltas": false, "bounds": {"first_token_timeout_ms": 70}});
        assert_eq!(laid(&template, &own).unwrap()["bounds"], json!({"max_calls": 3, "first_token_timeout_ms": 70}));
    }

    #[test]
    fn the_callers_fields_lie_over_the_templates_and_limits_become_tighter_only() {
        let template = json!({
            "description": "x",
            "strategy": {"type": "single"},
            "request": {"messages": [{"role": "system", "content": "a"}], "parameters": {"seed": 1, "max_tokens": 5},
                "model_hint": "m"},
            "bounds": {"max_calls": 3, "deadline_ms": 100},
            "policy": {"mode": "cheap", "max_latency_ms": 50, "min_weight": 4},
            "tags": {"a": "1", "b": "1"},
        });
        let own = json!({
            "request": {"messages": [{"role": "user", "content": "b"}], "model_hint": null,
                "parameters": {"max_completion_tokens": 9}},
            "bounds": {"max_calls": 9, "deadline_ms": 7, "max_tokens": 2},
            "policy": {"mode": "normal", "max_latency_ms": 0, "min_weight": 2},
            "tags": {"b": "2"},
            "stream": true,
        });
        let expected = json!({
            "strategy": {"type": "single"},
            "request": {"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}],
                "parameters": {"seed": 1, "max_completion_tokens": 9}, "model_hint": "m"},
            "bounds": {"max_calls": 3, "deadline_ms": 7, "max_tokens": 2},
            "policy": {"mode": "normal", "max_latency_ms": 50, "min_weight": 4},
            "tags": {"a": "1", "b": "2"},
            "stream": true,
        });
        assert_eq!(laid(&template, &own).unwrap(), expected);
        let more = |name: &str, value: &Value| laid(&template, &json!({ name: value })).unwrap()[name].clone();
        assert_eq!(more("bounds", &json!(7)), json!(7), "to be refused by its name");
        let per_step = |most: u64| json!({"per_step": {"max_calls": most, "max_tokens": 3}});
        let template = json!({"strategy": {"type": "single"}, "bounds": {"per_step": {"max_calls": 2}}});
        for (own, narrowest) in [(1, 1), (9, 2)] {
            let both = laid(&template, &json!({"bounds": per_step(own)})).unwrap();
            assert_eq!(both["bounds"], per_step(narrowest));
        }
        assert_eq!(more("bounds", &json!({"max_calls": -1}))["max_calls"], -1);
    }

    #[test]
    fn a_schema_takes_the_place_of_the_templates_unless_the_strategy_needs_its_own() {
        let (old, new) = (json!({"type": "object"}), json!({"type": "array"}));
        let template = json!({"strategy": {"type": "single"}, "request": {"output_schema": old}});
        let messages = json!([{"role": "user", "content": "b"}]);
        let in_request = json!({"request": {"messages": messages, "output_schema": new}});
        assert_eq!(laid(&template, &in_request).unwrap()["request"]["output_schema"], new);
        let in_format = json!({"output_format": {"schema": new}});
        assert_eq!(laid(&template, &in_format).unwrap()["request"].get("output_schema"), None);
        let strict = json!({"strategy": {"type": "single", "output_schema": old}});
        assert_eq!(laid(&strict, &in_request), Err("request.output_schema".to_owned()));
        assert_eq!(laid(&strict, &in_format), Err("output_format.schema".to_owned()));
    }

    #[test]
    fn a_reference_is_a_name_with_or_without_a_version() {
        let of = |text: &str| reference(text).map(|it| (it.name.to_string(), it.version));
        assert_eq!(of("review"), Some(("review".to_owned(), None)));
        assert_eq!(of("Re.v_i-ew2@12"), Some(("Re.v_i-ew2".to_owned(), Some(12))));
        for wrong in ["", "@1", "a@", "a@0", "a@+1", "a@1@2", ".a", "a/b", "ü", "a b"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
