//! The `approval` of a plan, and the signal that decides about its answer.

use serde_json::{Map, Value};
use tokenhub_domain::{ApprovalState, ApprovalWish, OnTimeout, limits};

use super::Fields;
use crate::error::Problem;

const APPROVAL: &str = "approval";
const TYPES: &str = "must be approve, reject, edit, answer_now, add_budget or extend_deadline";

/// What a signal decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Approved, edited or rejected.
    pub(crate) state: ApprovalState,
    /// What is to stand in the place of the answer's text.
    pub(crate) text: Option<String>,
    /// Why.
    pub(crate) comment: Option<String>,
}

/// Reads `approval`; nothing when the body has none.
pub(super) fn parse(body: &Map<String, Value>) -> Result<Option<ApprovalWish>, Problem> {
    let fields = Fields::of(body, APPROVAL)?;
    if body.get(APPROVAL).is_none_or(Value::is_null) {
        return Ok(None);
    }
    fields.only(&["timeout_ms", "on_timeout"])?;
    let timeout_ms = match fields.get("timeout_ms") {
        None => return Err(Problem::MissingField { param: fields.path("timeout_ms") }),
        Some(value) => value.as_u64().filter(|millis| (1..=limits::APPROVAL_MS).contains(millis)).ok_or_else(|| {
            let rule = format!("must be a whole number from 1 to {}", limits::APPROVAL_MS);
            Problem::invalid(fields.path("timeout_ms"), rule)
        })?,
    };
    let on_timeout = match fields.text("on_timeout")? {
        "" => return Err(Problem::MissingField { param: fields.path("on_timeout") }),
        name => OnTimeout::parse(name)
            .ok_or_else(|| Problem::invalid(fields.path("on_timeout"), "must be approve, reject or fail"))?,
    };
    Ok(Some(ApprovalWish { timeout_ms, on_timeout }))
}

/// Reads the body of a signal that decides.
pub(super) fn signal(body: &Map<String, Value>) -> Result<Verdict, Problem> {
    let text_of = |name: &str| match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Problem::invalid(name, "must be a string")),
    };
    let kind = text_of("type")?.ok_or_else(|| Problem::MissingField { param: "type".to_owned() })?;
    let (state, known): (_, &[&str]) = match kind.as_str() {
        "approve" => (ApprovalState::Approved, &["type", "comment"]),
        "reject" => (ApprovalState::Rejected, &["type", "comment"]),
        "edit" => (ApprovalState::Edited, &["type", "comment", "text"]),
        _ => return Err(Problem::invalid("type", TYPES)),
    };
    if let Some(unknown) = body.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(Problem::UnknownField { param: unknown.clone() });
    }
    let text = text_of("text")?;
    if state == ApprovalState::Edited && text.as_deref().is_none_or(str::is_empty) {
        return Err(Problem::MissingField { param: "text".to_owned() });
    }
    let comment = text_of("comment")?.filter(|comment| !comment.is_empty());
    if comment.as_ref().is_some_and(|comment| comment.len() > limits::APPROVAL_COMMENT_BYTES) {
        let rule = format!("must not be longer than {} bytes", limits::APPROVAL_COMMENT_BYTES);
        return Err(Problem::invalid("comment", rule));
    }
    Ok(Verdict { state, text, comment })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Shape;

    fn of(approval: &Value) -> Result<Option<ApprovalWish>, Problem> {
        parse(json!({"approval": approval}).as_object().unwrap())
    }

    fn param(problem: &Problem) -> String {
        problem.report(Shape::Problem).param.unwrap()
    }

    #[test]
    fn an_approval_has_a_time_and_a_policy_and_each_wrong_field_is_named() {
        assert_eq!(parse(&Map::new()).unwrap(), None);
        assert_eq!(of(&Value::Null).unwrap(), None);
        let wish = ApprovalWish { timeout_ms: limits::APPROVAL_MS, on_timeout: OnTimeout::Reject };
        assert_eq!(of(&json!({"timeout_ms": limits::APPROVAL_MS, "on_timeout": "reject"})).unwrap(), Some(wish));
        for (approval, wrong) in [
            (json!(true), "approval"),
            (json!({}), "approval.timeout_ms"),
            (json!({"timeout_ms": 0, "on_timeout": "fail"}), "approval.timeout_ms"),
            (json!({"timeout_ms": limits::APPROVAL_MS + 1, "on_timeout": "fail"}), "approval.timeout_ms"),
            (json!({"timeout_ms": "1", "on_timeout": "fail"}), "approval.timeout_ms"),
            (json!({"timeout_ms": 1}), "approval.on_timeout"),
            (json!({"timeout_ms": 1, "on_timeout": "wait"}), "approval.on_timeout"),
            (json!({"timeout_ms": 1, "on_timeout": "fail", "who": "me"}), "approval.who"),
        ] {
            assert_eq!(param(&of(&approval).unwrap_err()), wrong, "{approval}");
        }
    }

    #[test]
    fn a_signal_is_of_a_known_type_and_has_the_fields_of_that_type_only() {
        let of = |body: &Value| signal(body.as_object().unwrap());
        let edit = of(&json!({"type": "edit", "text": " x ", "comment": "better"})).unwrap();
        assert_eq!((edit.state, edit.text.as_deref()), (ApprovalState::Edited, Some(" x ")));
        assert_eq!(edit.comment.as_deref(), Some("better"));
        assert_eq!(of(&json!({"type": "reject", "comment": ""})).unwrap().comment, None);
        for (body, wrong) in [
            (json!({}), "type"),
            (json!({"type": 1}), "type"),
            (json!({"type": "maybe"}), "type"),
            (json!({"type": "edit"}), "text"),
            (json!({"type": "edit", "text": ""}), "text"),
            (json!({"type": "approve", "text": "x"}), "text"),
            (json!({"type": "approve", "comment": "x".repeat(limits::APPROVAL_COMMENT_BYTES + 1)}), "comment"),
        ] {
            assert_eq!(param(&of(&body).unwrap_err()), wrong, "{body}");
        }
    }
}
