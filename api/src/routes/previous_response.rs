//! `previous_response_id` of a response that was made in the background: the client knows it by the id of its run, the
//! provider by an id of its own.
//!
//! Every other id is the provider's and passes as it is. Must not know whether the provider still has the response.

use serde_json::{Value, json};
use tokenhub_domain::{Answer, RawFields, RunId};

use crate::{auth::Caller, dispatch, error::Problem, state::Runner};

const FIELD: &str = "previous_response_id";

/// `body` with the id under which the provider knows the response.
pub(super) async fn known_upstream(
    runner: &Runner,
    caller: &Caller,
    previous: &str,
    body: String,
) -> Result<String, Problem> {
    let run_id = RunId::from(previous);
    if !run_id.is_of_response() {
        return Ok(body);
    }
    let Some(row) = dispatch::read_run(&runner.world, &caller.tenant, &run_id).await? else { return Ok(body) };
    let outcome = dispatch::outcome_of(&row)?;
    let outcome = outcome.ok_or_else(|| Problem::invalid(FIELD, "the response has not ended yet"))?;
    let answer = runner.dispatcher.inline(&row.tenant, outcome).await?.answer;
    let id = answer.as_ref().and_then(id_of);
    let id = id.ok_or_else(|| Problem::invalid(FIELD, "the response has no answer to go on from"))?;
    Ok(with_previous(&body, &id).unwrap_or(body))
}

fn id_of(answer: &Answer) -> Option<String> {
    let Answer::Chat { body } = answer else { return None };
    let body: Value = serde_json::from_str(body.as_inline()?).ok()?;
    body.get("id")?.as_str().map(str::to_owned)
}

/// Every other byte stays as it came.
fn with_previous(body: &str, id: &str) -> Option<String> {
    let fields = RawFields::read(body).ok()?;
    let value = fields.get(FIELD)?;
    let start = (value.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
    let (before, rest) = body.split_at_checked(start)?;
    Some(format!("{before}{}{}", json!(id), rest.strip_prefix(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_id_changes() {
        let body = r#"{ "model":"m","previous_response_id" : "resp_1", "input":"resp_1"}"#;
        let changed = with_previous(body, "resp_\"2").unwrap();
        assert_eq!(changed, r#"{ "model":"m","previous_response_id" : "resp_\"2", "input":"resp_1"}"#);
        assert_eq!(with_previous("{}", "x"), None);
    }

    #[test]
    fn the_id_of_an_answer_is_its_own() {
        let answer = |body: &str| Answer::Chat { body: body.into() };
        assert_eq!(id_of(&answer(r#"{"id":"resp_theirs"}"#)).as_deref(), Some("resp_theirs"));
        assert_eq!(id_of(&answer("{}")), None);
    }
}
