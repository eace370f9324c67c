//! Whether a Messages request thinks, and what that forbids beside it.
//!
//! Owns the protocol's constraints: a budget of at least 1024 tokens below the output limit, no other temperature, no forced
//! tool, and signed thinking in front of tool calls that are being answered.

use serde_json::{Map, Value, json};
use tokenhub_domain::Dialect;

use super::super::effort::{BUDGET_MIN_TOKENS, budget_of, fit};
use super::super::neutral::{Effort, Target, ThinkingForm};
use super::super::read::Losses;
use super::super::request::{Thinking, ThinkingAsk};
use super::super::topic::Topic;

/// The lowest `top_p` beside thinking.
const TOP_P_MIN: f64 = 0.95;

/// What goes into the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Absent,
    Disabled,
    Budget(u64),
    Adaptive(Option<Effort>),
}

/// Decides from the request's effort, the output limit and the target.
pub(crate) fn plan(thinking: &Thinking, max_tokens: u64, target: &Target) -> Plan {
    let ask = match (thinking.ask, thinking.effort) {
        (Some(ThinkingAsk::Off), _) | (None, Some(Effort::None)) => return Plan::Disabled,
        (None, None) => return Plan::Absent,
        (ask, _) => ask,
    };
    match (target.abilities.thinking, ask) {
        (ThinkingForm::Adaptive, _) => {
            let wanted = thinking.effort.map(|effort| effort.max(Effort::Low));
            let known = target.abilities.efforts.as_slice();
            Plan::Adaptive(wanted.and_then(|effort| if known.is_empty() { Some(effort) } else { fit(known, effort) }))
        }
        (ThinkingForm::Budget, Some(ThinkingAsk::Budget(tokens))) => capped(tokens, max_tokens),
        (ThinkingForm::Budget, _) => {
            let effort = thinking.effort.unwrap_or(Effort::High);
            budget_of(effort).map_or(Plan::Disabled, |tokens| capped(tokens, max_tokens))
        }
    }
}

fn capped(tokens: u64, max_tokens: u64) -> Plan {
    if max_tokens <= BUDGET_MIN_TOKENS { Plan::Absent } else { Plan::Budget(tokens.min(max_tokens - 1)) }
}

/// Writes the plan, and takes out of `body` (which is complete otherwise) what thinking forbids.
pub(crate) fn apply(plan: Plan, from: Dialect, body: &mut Map<String, Value>, losses: &mut Losses) {
    match plan {
        Plan::Absent => return,
        Plan::Disabled => {
            body.insert("thinking".to_owned(), json!({"type": "disabled"}));
            return;
        }
        Plan::Budget(_) if continues_unsigned_tool_call(body) => {
            losses.add(
                Topic::Thinking.field(from),
                "the answered tool call has no signed thinking, so this request does not think",
            );
            return;
        }
        Plan::Budget(tokens) => {
            body.insert("thinking".to_owned(), json!({"type": "enabled", "budget_tokens": tokens}));
        }
        Plan::Adaptive(effort) => {
            body.insert("thinking".to_owned(), json!({"type": "adaptive"}));
            if let Some(effort) = effort {
                let config = body.entry("output_config").or_insert_with(|| json!({}));
                config["effort"] = json!(effort.as_str());
            }
        }
    }
    remove_forbidden(body, losses);
}

fn remove_forbidden(body: &mut Map<String, Value>, losses: &mut Losses) {
    let number = |name: &str| body.get(name).and_then(Value::as_f64);
    let forbidden = [
        ("temperature", number("temperature").is_some_and(|value| value < 1.0)),
        ("top_k", number("top_k").is_some()),
        ("top_p", number("top_p").is_some_and(|value| value < TOP_P_MIN)),
    ];
    for (name, _) in forbidden.into_iter().filter(|(_, is_forbidden)| *is_forbidden) {
        body.shift_remove(name);
        losses.add(name, "the target does not take it together with thinking");
    }
    if let Some(choice) = body.get_mut("tool_choice").and_then(Value::as_object_mut)
        && matches!(choice.get("type").and_then(Value::as_str), Some("any" | "tool"))
    {
        choice.insert("type".to_owned(), json!("auto"));
        choice.shift_remove("name");
        losses.add("tool_choice", "a tool cannot be forced together with thinking");
    }
}

/// Whether the last message answers a tool call whose turn does not begin with thinking.
fn continues_unsigned_tool_call(body: &Map<String, Value>) -> bool {
    let Some([.., assistant, user]) = body.get("messages").and_then(Value::as_array).map(Vec::as_slice) else {
        return false;
    };
    let kind = |message: &Value| message.pointer("/content/0/type").and_then(Value::as_str).map(str::to_owned);
    kind(user).as_deref() == Some("tool_result")
        && !matches!(kind(assistant).as_deref(), Some("thinking" | "redacted_thinking"))
}
