//! The body of `POST /admin/v1/routing/simulate`: a request that nobody sends.

use serde_json::{Map, Value};
use tokenhub_domain::{Capability, NanoDollars, Policy, RoutingProfile, limits};

use super::{model_name, object};
use crate::error::Problem;

/// Input tokens of a request that says nothing about itself, as TokenHub (Go) has it.
const TOKENS_DEFAULT: u64 = 500;
const TOKENS_MAX: u64 = u32::MAX as u64;
/// Requests that one replay looks at.
const REPLAY_MAX: u64 = 1_000;
const KNOWN: [&str; 12] = [
    "mode",
    "max_budget_usd",
    "max_latency_ms",
    "min_weight",
    "token_count",
    "output_tokens",
    "model_hint",
    "models",
    "needs",
    "user",
    "seed",
    "replay",
];

/// A request as far as routing would look at it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Simulation {
    /// The model asked for.
    pub(crate) model: Option<String>,
    /// Who may stand in for it.
    pub(crate) models: Vec<String>,
    /// What the model must be able to do.
    pub(crate) needs: Vec<Capability>,
    /// Who asks.
    pub(crate) user: Option<String>,
    /// Ranking; the configured one without it.
    pub(crate) profile: Option<RoutingProfile>,
    /// Limits on each call.
    pub(crate) policy: Policy,
    /// Input tokens.
    pub(crate) input_tokens: u64,
    /// Output tokens.
    pub(crate) output_tokens: u64,
    /// Where the draws begin.
    pub(crate) seed: u64,
    /// How many of the latest requests to decide again.
    pub(crate) replay: Option<u64>,
}

/// Reads the body; an empty one is a request that asks for nothing in particular.
pub(crate) fn parse(bytes: &[u8]) -> Result<Simulation, Problem> {
    let body = if bytes.is_empty() { Map::new() } else { object(bytes)? };
    if let Some(unknown) = body.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(Problem::UnknownField { param: unknown.clone() });
    }
    let profile = match text(&body, "mode")? {
        None => None,
        Some(mode) => {
            Some(RoutingProfile::parse(mode).ok_or_else(|| Problem::invalid("mode", "is not a routing mode"))?)
        }
    };
    let budget = match present(&body, "max_budget_usd") {
        None => None,
        Some(value) => Some(
            value
                .as_f64()
                .filter(|usd| (0.0..=limits::POLICY_BUDGET_USD_MAX).contains(usd))
                .ok_or_else(|| Problem::invalid("max_budget_usd", "must be a number from 0 to 100"))?,
        ),
    };
    let min_weight = whole(&body, "min_weight", u64::from(limits::WEIGHT_MAX))?.unwrap_or(0);
    Ok(Simulation {
        model: model_name(body.get("model_hint"), "model_hint")?,
        models: list(&body, "models", "must be an array of model names")?,
        needs: list(&body, "needs", "must be an array of tools, vision, json_schema, reasoning or streaming")?,
        user: text(&body, "user")?.map(str::to_owned),
        profile,
        policy: Policy {
            profile: RoutingProfile::default(),
            max_budget: budget.filter(|usd| *usd > 0.0).and_then(NanoDollars::from_usd),
            max_latency_ms: whole(&body, "max_latency_ms", limits::POLICY_LATENCY_MS_MAX)?.filter(|millis| *millis > 0),
            min_weight: u32::try_from(min_weight).unwrap_or(limits::WEIGHT_MAX),
            hedge_after_ms: None,
        },
        input_tokens: whole(&body, "token_count", TOKENS_MAX)?.filter(|tokens| *tokens > 0).unwrap_or(TOKENS_DEFAULT),
        output_tokens: whole(&body, "output_tokens", TOKENS_MAX)?.unwrap_or(limits::ESTIMATED_OUTPUT_TOKENS),
        seed: whole(&body, "seed", u64::MAX)?.unwrap_or(0),
        replay: replay(&body)?,
    })
}

fn replay(body: &Map<String, Value>) -> Result<Option<u64>, Problem> {
    let Some(replay) = present(body, "replay") else { return Ok(None) };
    let asked = replay.as_object().ok_or_else(|| Problem::invalid("replay", "must be an object"))?;
    if let Some(unknown) = asked.keys().find(|name| *name != "last") {
        return Err(Problem::UnknownField { param: format!("replay.{unknown}") });
    }
    let last = asked.get("last").and_then(Value::as_u64).filter(|last| (1..=REPLAY_MAX).contains(last));
    let rule = || format!("must be a whole number from 1 to {REPLAY_MAX}");
    last.map(Some).ok_or_else(|| Problem::invalid("replay.last", rule()))
}

fn present<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null())
}

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Problem> {
    match present(body, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(Problem::invalid(name, "must be a string")),
    }
}

fn whole(body: &Map<String, Value>, name: &str, max: u64) -> Result<Option<u64>, Problem> {
    let Some(value) = present(body, name) else { return Ok(None) };
    let number = value.as_u64().filter(|number| *number <= max);
    number.map(Some).ok_or_else(|| Problem::invalid(name, format!("must be a whole number from 0 to {max}")))
}

fn list<T: serde::de::DeserializeOwned>(body: &Map<String, Value>, name: &str, rule: &str) -> Result<Vec<T>, Problem> {
    let Some(value) = present(body, name) else { return Ok(Vec::new()) };
    serde_json::from_value(value.clone()).map_err(|_| Problem::invalid(name, rule))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Shape;

    #[test]
    fn an_empty_body_asks_for_nothing_in_particular() {
        for body in ["", "{}", r#"{"mode":"","token_count":0,"max_budget_usd":null}"#] {
            let asked = parse(body.as_bytes()).unwrap();
            assert_eq!((asked.model, asked.profile, asked.policy), (None, None, Policy::default()), "{body}");
            assert_eq!((asked.input_tokens, asked.output_tokens), (500, 512));
        }
    }

    #[test]
    fn a_wrong_field_is_named() {
        for (field, param) in [
            (r#""mode":"best""#, "mode"),
            (r#""max_budget_usd":101"#, "max_budget_usd"),
            (r#""min_weight":11"#, "min_weight"),
            (r#""token_count":-1"#, "token_count"),
            (r#""needs":["magic"]"#, "needs"),
            (r#""models":"a""#, "models"),
            (r#""model_hint":4"#, "model_hint"),
            (r#""weight":4"#, "weight"),
            (r#""replay":5"#, "replay"),
            (r#""replay":{"last":0}"#, "replay.last"),
            (r#""replay":{"first":1}"#, "replay.first"),
        ] {
            let refusal = parse(format!("{{{field}}}").as_bytes()).unwrap_err().report(Shape::Problem);
            assert_eq!((refusal.status.as_u16(), refusal.param.as_deref()), (400, Some(param)), "{field}");
        }
    }
}
