//! What may be asked of a plan while it runs: the signals beside those of an approval, and the ways to stop it.

use chrono::DateTime;
use serde_json::{Map, Value};
use tokenhub_domain::{NanoDollars, UnixMicros, Use, limits};

use super::{
    Fields,
    approval::{self, Verdict},
};
use crate::error::Problem;

/// A signal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Signal {
    /// About the answer of a plan that waits.
    Decision(Verdict),
    /// About the way of a plan that runs.
    Steering {
        /// What is asked.
        wish: SteeringWish,
        /// What makes it the same as another request.
        id: Option<String>,
    },
}

/// What is asked of a plan, before it is held against that plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SteeringWish {
    /// To answer with what there is.
    AnswerNow,
    /// To stop once what is under way has ended.
    StopAfterStep,
    /// More room below its bounds.
    AddBudget(Use),
    /// More time, by the plan's own clock.
    DeadlineMs(u64),
    /// More time, by the calendar.
    DeadlineAt(UnixMicros),
}

/// How a plan is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopMode {
    /// With everything that is under way.
    Now,
    /// When that has ended.
    AfterStep,
}

/// Reads the body of a signal.
pub(crate) fn signal(bytes: &[u8]) -> Result<Signal, Problem> {
    let body = super::object(bytes)?;
    let fields = Fields::top(&body);
    let wish = match body.get("type").and_then(Value::as_str) {
        Some("answer_now") => {
            fields.only(&["type", "id"])?;
            SteeringWish::AnswerNow
        }
        Some("add_budget") => {
            fields.only(&["type", "id", "max_cost_usd", "max_tokens", "max_calls"])?;
            SteeringWish::AddBudget(more(&fields)?)
        }
        Some("extend_deadline") => {
            fields.only(&["type", "id", "deadline_ms", "deadline_at"])?;
            deadline(&fields)?
        }
        Some(_) | None => return approval::signal(&body).map(Signal::Decision),
    };
    Ok(Signal::Steering { wish, id: id(&fields)? })
}

/// Reads the body of a request to stop; it may be empty.
pub(crate) fn stop(bytes: &[u8]) -> Result<StopMode, Problem> {
    let body = if bytes.is_empty() { Map::new() } else { super::object(bytes)? };
    let fields = Fields::top(&body);
    fields.only(&["mode"])?;
    match fields.get("mode") {
        None => Ok(StopMode::Now),
        Some(mode) if mode == "now" => Ok(StopMode::Now),
        Some(mode) if mode == "after_step" => Ok(StopMode::AfterStep),
        Some(_) => Err(Problem::invalid("mode", "must be now or after_step")),
    }
}

fn id(fields: &Fields<'_>) -> Result<Option<String>, Problem> {
    match fields.get("id") {
        None => Ok(None),
        Some(Value::String(id)) if (1..=limits::IDEMPOTENCY_KEY_BYTES).contains(&id.len()) => Ok(Some(id.clone())),
        Some(_) => {
            let rule = format!("must be a string of 1 to {} bytes", limits::IDEMPOTENCY_KEY_BYTES);
            Err(Problem::invalid("id", rule))
        }
    }
}

/// What is to be added to each bound. Nothing at all is a mistake, and so is a zero.
fn more(fields: &Fields<'_>) -> Result<Use, Problem> {
    let whole = |name: &str, most: u64| match fields.whole(name, most)? {
        Some(0) => Err(Problem::invalid(name, format!("must be a whole number from 1 to {most}"))),
        number => Ok(number.unwrap_or_default()),
    };
    let cost = match fields.number("max_cost_usd", limits::PLAN_COST_USD_MAX)? {
        None => NanoDollars::default(),
        Some(usd) => NanoDollars::from_usd(usd)
            .filter(|cost| cost.0 > 0)
            .ok_or_else(|| Problem::invalid("max_cost_usd", "must be more than 0"))?,
    };
    let tokens = whole("max_tokens", limits::PLAN_TOKENS_MAX)?;
    let calls = u32::try_from(whole("max_calls", u64::from(limits::PLAN_CALLS_MAX))?).unwrap_or(limits::PLAN_CALLS_MAX);
    let more = Use { calls, tokens, cost };
    if more == Use::default() {
        return Err(Problem::MissingField { param: "max_cost_usd, max_tokens or max_calls".to_owned() });
    }
    Ok(more)
}

fn deadline(fields: &Fields<'_>) -> Result<SteeringWish, Problem> {
    match (fields.whole("deadline_ms", limits::RUN_DEADLINE_MS)?, fields.get("deadline_at")) {
        (None, None) => Err(Problem::MissingField { param: "deadline_ms".to_owned() }),
        (Some(_), Some(_)) => Err(Problem::invalid("deadline_at", "cannot be combined with deadline_ms")),
        (Some(millis), None) => Ok(SteeringWish::DeadlineMs(millis)),
        (None, Some(at)) => {
            let at = at.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
            let at = at.ok_or_else(|| Problem::invalid("deadline_at", "must be a time as in 2026-01-31T12:00:00Z"))?;
            Ok(SteeringWish::DeadlineAt(UnixMicros(at.timestamp_micros())))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Shape;

    fn of(body: &Value) -> Result<Signal, String> {
        signal(body.to_string().as_bytes()).map_err(|problem| problem.report(Shape::Problem).param.unwrap())
    }

    #[test]
    fn each_signal_is_read_and_keeps_its_id() {
        let wish = |body: Value| match of(&body).unwrap() {
            Signal::Steering { wish, id } => (wish, id),
            Signal::Decision(_) => panic!("a decision"),
        };
        assert_eq!(wish(json!({"type": "answer_now"})), (SteeringWish::AnswerNow, None));
        let more = Use { calls: 2, tokens: 0, cost: NanoDollars::from_usd(0.5).unwrap() };
        let added = wish(json!({"type": "add_budget", "max_calls": 2, "max_cost_usd": 0.5, "id": "x"}));
        assert_eq!(added, (SteeringWish::AddBudget(more), Some("x".to_owned())));
        assert_eq!(wish(json!({"type": "extend_deadline", "deadline_ms": 9})).0, SteeringWish::DeadlineMs(9));
        let at = wish(json!({"type": "extend_deadline", "deadline_at": "1970-01-01T01:00:01+01:00"})).0;
        assert_eq!(at, SteeringWish::DeadlineAt(UnixMicros(1_000_000)));
        assert!(matches!(of(&json!({"type": "approve"})), Ok(Signal::Decision(_))));
    }

    #[test]
    fn each_wrong_field_is_named() {
        for (body, wrong) in [
            (json!({"type": "answer_soon"}), "type"),
            (json!({}), "type"),
            (json!({"type": "answer_now", "text": "x"}), "text"),
            (json!({"type": "answer_now", "id": ""}), "id"),
            (json!({"type": "answer_now", "id": 7}), "id"),
            (json!({"type": "add_budget"}), "max_cost_usd, max_tokens or max_calls"),
            (json!({"type": "add_budget", "max_calls": 0}), "max_calls"),
            (json!({"type": "add_budget", "max_calls": 1.5}), "max_calls"),
            (json!({"type": "add_budget", "max_tokens": -1}), "max_tokens"),
            (json!({"type": "add_budget", "max_cost_usd": 0}), "max_cost_usd"),
            (json!({"type": "add_budget", "max_cost_usd": 1e9}), "max_cost_usd"),
            (json!({"type": "add_budget", "calls": 1}), "calls"),
            (json!({"type": "extend_deadline"}), "deadline_ms"),
            (json!({"type": "extend_deadline", "deadline_ms": limits::RUN_DEADLINE_MS + 1}), "deadline_ms"),
            (json!({"type": "extend_deadline", "deadline_at": "soon"}), "deadline_at"),
            (json!({"type": "extend_deadline", "deadline_ms": 5, "deadline_at": "soon"}), "deadline_at"),
        ] {
            assert_eq!(of(&body).unwrap_err(), wrong, "{body}");
        }
    }

    #[test]
    fn a_plan_is_stopped_now_or_after_its_step() {
        let of = |body: &str| stop(body.as_bytes()).map_err(|problem| problem.report(Shape::Problem).param);
        assert_eq!(of("").unwrap(), StopMode::Now);
        assert_eq!(of(r#"{"mode": null}"#).unwrap(), StopMode::Now);
        assert_eq!(of(r#"{"mode": "after_step"}"#).unwrap(), StopMode::AfterStep);
        assert_eq!(of(r#"{"mode": "later"}"#).unwrap_err().as_deref(), Some("mode"));
        assert_eq!(of(r#"{"when": "now"}"#).unwrap_err().as_deref(), Some("when"));
    }
}
