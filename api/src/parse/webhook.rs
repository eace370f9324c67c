//! The `webhook` of a plan: who is to be told of its end. Whether they may be is the operator's settings' business.

use serde_json::{Map, Value};
use tokenhub_domain::{PlanEvent, Webhook};

use super::Fields;
use crate::error::Problem;

const URL: &str = "webhook.url";
const EVENTS: &str = "webhook.events";
const EVENT_RULE: &str = "must be plan.completed, plan.completed_partial, plan.cancelled, plan.failed, plan.budget_exhausted or \
    plan.deadline_exceeded";

/// Reads `webhook`; nothing when the body has none.
pub(super) fn parse(body: &Map<String, Value>) -> Result<Option<Webhook>, Problem> {
    let fields = Fields::of(body, "webhook")?;
    if body.get("webhook").is_none_or(Value::is_null) {
        return Ok(None);
    }
    fields.only(&["url", "events"])?;
    let url = match fields.text("url")? {
        "" => return Err(Problem::MissingField { param: URL.to_owned() }),
        url => url.to_owned(),
    };
    let events = match fields.get("events") {
        None => Vec::new(),
        Some(Value::Array(names)) if names.is_empty() => {
            return Err(Problem::invalid(EVENTS, "must name at least one event; leave it out for all"));
        }
        Some(Value::Array(names)) => names.iter().enumerate().map(event).collect::<Result<_, _>>()?,
        Some(_) => return Err(Problem::invalid(EVENTS, "must be an array of events")),
    };
    Ok(Some(Webhook { url, events: without_repetitions(events) }))
}

fn event((index, name): (usize, &Value)) -> Result<PlanEvent, Problem> {
    let event = name.as_str().and_then(PlanEvent::parse_end);
    event.ok_or_else(|| Problem::invalid(format!("{EVENTS}[{index}]"), EVENT_RULE))
}

fn without_repetitions(mut events: Vec<PlanEvent>) -> Vec<PlanEvent> {
    events.sort_unstable();
    events.dedup();
    events
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Shape;

    fn of(webhook: &Value) -> Result<Option<Webhook>, Problem> {
        parse(json!({"webhook": webhook}).as_object().unwrap())
    }

    #[test]
    fn whoever_names_no_event_hears_of_all_and_a_repetition_counts_once() {
        assert_eq!(parse(&Map::new()).unwrap(), None);
        assert_eq!(of(&Value::Null).unwrap(), None);
        let all = of(&json!({"url": " https://hooks.example "})).unwrap().unwrap();
        assert_eq!((all.url.as_str(), all.events), ("https://hooks.example", Vec::new()));
        let some =
            of(&json!({"url": "x", "events": ["plan.failed", "plan.completed", "plan.failed"]})).unwrap().unwrap();
        assert_eq!(some.events, [PlanEvent::PlanCompleted, PlanEvent::PlanFailed]);
    }

    #[test]
    fn a_wrong_field_is_named() {
        for (webhook, param) in [
            (json!("https://hooks.example"), "webhook"),
            (json!({}), "webhook.url"),
            (json!({"url": 7}), "webhook.url"),
            (json!({"url": "x", "secret": "s"}), "webhook.secret"),
            (json!({"url": "x", "events": "plan.failed"}), "webhook.events"),
            (json!({"url": "x", "events": []}), "webhook.events"),
            (json!({"url": "x", "events": ["plan.failed", "plan.started"]}), "webhook.events[1]"),
            (json!({"url": "x", "events": [1]}), "webhook.events[0]"),
        ] {
            let refusal = of(&webhook).unwrap_err().report(Shape::Problem);
            assert_eq!((refusal.status.as_u16(), refusal.param.as_deref()), (400, Some(param)), "{webhook}");
        }
    }
}
