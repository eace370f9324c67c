//! The plan object: the same for `POST /v1/plan`, `GET /v1/plan/{id}` and the members of a problem document.

use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};
use tokenhub_domain::{
    AdversarialAnswer, Answer, Ballot, BestOfNAnswer, CascadeAnswer, Checked, FuseAnswer, Labels, MatchResult, ModelId,
    NanoDollars, Outcome, RefineAnswer, RunId, RunStatus, StepRecord, Text, UnixMicros, Usage, VoteAnswer, VoteMethod,
    WorkflowId,
};

use super::judge_report::{checks, judge_report, verdict};

/// What surrounds an outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    /// The run.
    pub(crate) run_id: &'a RunId,
    /// Its workflow.
    pub(crate) workflow_id: Option<&'a WorkflowId>,
    /// Whether the workflow carried it.
    pub(crate) is_durable: bool,
    /// Root of the Temporal UI and the namespace.
    pub(crate) temporal_ui: Option<(&'a str, &'a str)>,
    /// What its caller finds it by.
    pub(crate) labels: &'a Labels,
}

/// The object of a finished run. A failed one has an `error` and no answer.
pub(crate) fn plan_object(identity: Identity<'_>, outcome: &Outcome) -> Map<String, Value> {
    let mut object = four_fields(outcome);
    let response = outcome.answer.as_ref().map_or(Value::Null, response);
    object.insert("response".to_owned(), response);
    object.insert("id".to_owned(), identity.run_id.as_str().into());
    object.insert("status".to_owned(), outcome.status.as_str().into());
    object.insert("stop_reason".to_owned(), serde_json::to_value(outcome.stop_reason).unwrap_or_default());
    object.insert("durable".to_owned(), identity.is_durable.into());
    object.insert("steps".to_owned(), outcome.steps.iter().map(step).collect());
    let mut used = usage(outcome.usage);
    if let Some(fields) = used.as_object_mut() {
        fields.insert("wasted_tokens".to_owned(), outcome.usage.wasted_tokens.into());
        fields.insert("baseline_cost_usd".to_owned(), json!(baseline(outcome).map(NanoDollars::as_usd)));
    }
    object.insert("usage".to_owned(), used);
    object.insert("links".to_owned(), links(identity));
    if let Some(report) = judge_report(outcome) {
        object.insert("judge_report".to_owned(), report);
    }
    write_labels(&mut object, identity.labels);
    if outcome.edited {
        object.insert("edited".to_owned(), true.into());
    }
    if outcome.status.is_final() && !outcome.status.is_answered() {
        let class = outcome.failure.as_ref().map(|failure| failure.class.as_str());
        object.insert("error".to_owned(), json!({"class": class, "message": crate::error::failure_text(outcome)}));
    }
    object
}

/// The object of a run that has no result yet, with the time since which it is on its way (RFC 3339, UTC).
pub(crate) fn unfinished_object(
    identity: Identity<'_>,
    status: RunStatus,
    created_at: UnixMicros,
) -> Map<String, Value> {
    let created_at = DateTime::from_timestamp_micros(created_at.0).unwrap_or_default();
    let mut object = Map::from_iter([
        ("id".to_owned(), Value::from(identity.run_id.as_str())),
        ("status".to_owned(), status.as_str().into()),
        ("created_at".to_owned(), created_at.to_rfc3339_opts(SecondsFormat::Millis, true).into()),
        ("durable".to_owned(), identity.is_durable.into()),
        ("links".to_owned(), links(identity)),
    ]);
    write_labels(&mut object, identity.labels);
    object
}

/// Writes template and tags, as far as a run has them.
pub(crate) fn write_labels(object: &mut Map<String, Value>, labels: &Labels) {
    if let Some(template) = &labels.template {
        object.insert("template".to_owned(), json!(template));
    }
    if !labels.tags.is_empty() {
        object.insert("tags".to_owned(), json!(labels.tags));
    }
}

pub(super) fn four_fields(outcome: &Outcome) -> Map<String, Value> {
    Map::from_iter([
        ("negotiated_model".to_owned(), json!(outcome.negotiated_model)),
        ("estimated_cost_usd".to_owned(), outcome.usage.cost.as_usd().into()),
        ("routing_reason".to_owned(), outcome.routing_reason.as_str().into()),
    ])
}

fn links(identity: Identity<'_>) -> Value {
    let page = identity.temporal_ui.zip(identity.workflow_id).map(|((root, namespace), workflow_id)| {
        let workflow = path_segment(workflow_id.as_str());
        format!("{root}/namespaces/{}/workflows/{workflow}", path_segment(namespace))
    });
    json!({"temporal_ui": page, "events": format!("/v1/plan/{}/events", path_segment(identity.run_id.as_str()))})
}

/// Percent-encodes everything that could end a path segment.
fn path_segment(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

fn step(step: &StepRecord) -> Value {
    let mut object = json!({
        "id": step.id,
        "role": step.role.as_str(),
        "model": step.model,
        "provider": step.provider,
        "attempts": step.attempts,
        "duplicate_calls": step.duplicate_calls,
        "input_tokens": step.input_tokens,
        "output_tokens": step.output_tokens,
        "cost_usd": step.cost.as_usd(),
        "latency_ms": step.latency_ms,
        "error_class": step.error_class.map(tokenhub_domain::ErrorClass::as_str),
    });
    if let Some(fields) = object.as_object_mut() {
        if step.hedged > 0 {
            fields.insert("hedged".to_owned(), step.hedged.into());
        }
        if step.wasted_tokens > 0 {
            fields.insert("wasted_tokens".to_owned(), step.wasted_tokens.into());
        }
        if step.attempts == 0 && step.error_class.is_none() {
            fields.insert("kept".to_owned(), true.into());
        }
    }
    object
}

/// What the best author alone has cost: the first answer for the caller, because authors are ranked, or the last one where
/// they go from cheap to good. Unknown where nothing was bought for it.
fn baseline(outcome: &Outcome) -> Option<NanoDollars> {
    let bought =
        |step: &&StepRecord| step.role.writes_for_the_caller() && step.error_class.is_none() && step.attempts > 0;
    let mut answers = outcome.steps.iter().filter(bought);
    let best = if matches!(outcome.answer, Some(Answer::Cascade(_))) { answers.next_back() } else { answers.next() };
    best.map(|step| step.cost)
}

/// What a run used.
pub(crate) fn usage(usage: Usage) -> Value {
    json!({
        "calls": usage.calls,
        "duplicate_calls": usage.duplicate_calls,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": usage.cost.as_usd(),
    })
}

pub(super) fn response(answer: &Answer) -> Value {
    match answer {
        Answer::Chat { body } => {
            let body = text(body);
            serde_json::from_str(body).unwrap_or_else(|_| body.into())
        }
        Answer::Adversarial(answer) => adversarial(answer),
        Answer::Vote(answer) => vote(answer),
        Answer::Refine(answer) => refine(answer),
        Answer::BestOfN(answer) => best_of_n(answer),
        Answer::Cascade(answer) => cascade(answer),
        Answer::Fuse(answer) => fuse(answer),
    }
}

fn text(text: &Text) -> &str {
    text.as_inline().unwrap_or_default()
}

fn adversarial(answer: &AdversarialAnswer) -> Value {
    let mut object = Map::from_iter([("initial_plan".to_owned(), Value::from(text(&answer.initial_plan)))]);
    let last_critique =
        answer.unanswered_critique.as_ref().or_else(|| answer.rounds.last().map(|round| &round.critique));
    if let Some(critique) = last_critique {
        object.insert("critique".to_owned(), text(critique).into());
    }
    if let Some(round) = answer.rounds.last() {
        object.insert("refined_plan".to_owned(), text(&round.refined_plan).into());
    }
    let rounds = answer.rounds.iter();
    let rounds: Vec<Value> = rounds
        .map(|round| json!({"critique": text(&round.critique), "refined_plan": text(&round.refined_plan)}))
        .collect();
    object.insert("iterations".to_owned(), rounds.len().into());
    object.insert("rounds".to_owned(), rounds.into());
    add_checks(&mut object, &answer.checks);
    Value::Object(object)
}

fn add_checks(object: &mut Map<String, Value>, said: &[Checked]) {
    if let Some((last, all)) = checks(said) {
        object.insert("check".to_owned(), last);
        object.insert("checks".to_owned(), all);
    }
}

/// Whether the answer that was taken has passed, where the answers were checked.
fn add_check(object: &mut Value, ballots: &[Ballot], selected: usize) {
    if let Some(fields) = object.as_object_mut()
        && ballots.iter().any(|ballot| ballot.check.is_some())
    {
        let said = ballots.get(selected).and_then(|ballot| ballot.check.as_ref());
        fields.insert("check".to_owned(), said.map_or(Value::Null, verdict));
    }
}

fn vote(answer: &VoteAnswer) -> Value {
    let mut object = json!({
        "responses": ballots(&answer.ballots, answer.selected, Scores::Hidden),
        "selected": answer.selected,
        "judge": judge(answer.judge.as_ref()),
        "method": match answer.method {
            VoteMethod::Judge => "judge",
            VoteMethod::Majority => "majority",
            VoteMethod::Weighted => "weighted",
        },
        "decision": answer.decision,
        "tally": answer.tally,
        "calls_avoided": answer.calls_avoided,
        "calls_withdrawn": answer.calls_withdrawn,
    });
    add_check(&mut object, &answer.ballots, answer.selected);
    object
}

fn refine(answer: &RefineAnswer) -> Value {
    let mut object = Map::from_iter([
        ("refined_response".to_owned(), Value::from(text(&answer.refined_response))),
        ("iterations".to_owned(), answer.iterations.into()),
        ("model".to_owned(), json!(answer.model)),
    ]);
    add_checks(&mut object, &answer.checks);
    Value::Object(object)
}

fn best_of_n(answer: &BestOfNAnswer) -> Value {
    let mut object = json!({
        "responses": ballots(&answer.candidates, answer.selected, Scores::Shown),
        "selected": answer.selected,
        "judge": judge(answer.judge.as_ref()),
        "decision": answer.decision,
    });
    if let (Some(fields), [_, ..]) = (object.as_object_mut(), answer.matches.as_slice()) {
        let flips = answer.matches.iter().filter(|one| one.result == MatchResult::Flipped).count();
        fields.insert("order_flips".to_owned(), flips.into());
        fields.insert("matches".to_owned(), json!(answer.matches));
    }
    if let (Some(fields), true) =
        (object.as_object_mut(), answer.candidates.iter().any(|candidate| candidate.check.is_some()))
    {
        fields.insert("calls_avoided".to_owned(), answer.calls_avoided.into());
        fields.insert("calls_withdrawn".to_owned(), answer.calls_withdrawn.into());
    }
    add_check(&mut object, &answer.candidates, answer.selected);
    object
}

fn cascade(answer: &CascadeAnswer) -> Value {
    json!({
        "content": text(&answer.response),
        "selected": answer.selected,
        "stages": answer.stages,
        "escalations": answer.stages.len().saturating_sub(1),
    })
}

fn fuse(answer: &FuseAnswer) -> Value {
    let panel = answer.panel.iter().map(|ballot| json!({"model": ballot.model, "content": text(&ballot.content)}));
    json!({
        "content": text(&answer.response),
        "panel": panel.collect::<Vec<_>>(),
        "analysis": answer.analysis,
        "judge": judge(answer.judge.as_ref()),
        "writer": judge(answer.writer.as_ref()),
        "calls_withdrawn": answer.calls_withdrawn,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scores {
    Hidden,
    Shown,
}

fn ballots(ballots: &[Ballot], selected: usize, scores: Scores) -> Vec<Value> {
    ballots
        .iter()
        .enumerate()
        .map(|(index, ballot)| {
            let mut object = Map::from_iter([
                ("model".to_owned(), json!(ballot.model)),
                ("content".to_owned(), text(&ballot.content).into()),
            ]);
            if scores == Scores::Shown {
                object.insert("score".to_owned(), json!(ballot.score));
            }
            if let Some(check) = &ballot.check {
                object.insert("check".to_owned(), verdict(check));
            }
            object.insert("selected".to_owned(), (index == selected).into());
            Value::Object(object)
        })
        .collect()
}

fn judge(judge: Option<&ModelId>) -> Value {
    judge.map_or(Value::Null, |judge| judge.as_str().into())
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::{AdversarialRound, ErrorClass, Role, StopReason, VoteDecision};

    use super::*;

    fn ballot(model: &str, content: &str, score: Option<u32>) -> Ballot {
        Ballot {
            step: "ballot/1".into(),
            model: model.into(),
            provider: "p".into(),
            content: content.into(),
            score,
            check: None,
        }
    }

    fn outcome(answer: Option<Answer>) -> Outcome {
        let steps = vec![StepRecord {
            hedged: 0,
            wasted_tokens: 3,
            id: "ballot/1".into(),
            role: Role::Voter,
            model: Some("m".into()),
            provider: Some("p".into()),
            attempts: 2,
            duplicate_calls: 1,
            input_tokens: 10,
            output_tokens: 5,
            cost: NanoDollars(1_500_000_000),
            latency_ms: 7,
            error_class: Some(ErrorClass::Overloaded),
            losses: Vec::new(),
        }];
        Outcome {
            edited: false,
            status: RunStatus::Completed,
            stop_reason: StopReason::Decided,
            negotiated_model: Some("m".into()),
            routing_reason: "vote-orchestration".into(),
            answer,
            usage: Usage::of(&steps),
            steps,
            failure: None,
        }
    }

    fn object_of(outcome: &Outcome) -> Value {
        let (run_id, workflow_id) = (RunId::from("plan_1"), WorkflowId::from("vote:default:a/b"));
        let identity = Identity {
            run_id: &run_id,
            workflow_id: Some(&workflow_id),
            is_durable: true,
            temporal_ui: Some(("http://127.0.0.1:8233", "default")),
            labels: &Labels::default(),
        };
        Value::Object(plan_object(identity, outcome))
    }

    #[test]
    fn a_vote_shows_ballots_choice_steps_sums_and_the_link() {
        let vote = VoteAnswer {
            calls_avoided: 0,
            calls_withdrawn: 0,
            ballots: vec![ballot("m", "yes", None), ballot("n", "no", None)],
            selected: 1,
            method: VoteMethod::Judge,
            decision: VoteDecision::Judge,
            judge: Some("j".into()),
            tally: vec![vec![0], vec![1]],
        };
        let shown = object_of(&outcome(Some(Answer::Vote(vote))));
        assert_eq!(
            shown["response"],
            json!({
                "responses": [{"model": "m", "content": "yes", "selected": false},
                    {"model": "n", "content": "no", "selected": true}],
                "selected": 1, "judge": "j", "method": "judge", "decision": "judge", "tally": [[0], [1]],
                "calls_avoided": 0, "calls_withdrawn": 0,
            })
        );
        assert_eq!(
            (&shown["id"], &shown["status"], &shown["stop_reason"]),
            (&json!("plan_1"), &json!("completed"), &json!("decided"))
        );
        assert_eq!((&shown["durable"], &shown["negotiated_model"]), (&json!(true), &json!("m")));
        assert_eq!(shown["estimated_cost_usd"], 1.5);
        assert_eq!(
            shown["steps"],
            json!([{"id": "ballot/1", "role": "voter", "model": "m", "provider": "p", "attempts": 2, "duplicate_calls": 1,
                "input_tokens": 10, "output_tokens": 5, "cost_usd": 1.5, "latency_ms": 7, "error_class": "overloaded",
                "wasted_tokens": 3}])
        );
        assert_eq!(
            shown["usage"],
            json!({"calls": 2, "duplicate_calls": 1, "input_tokens": 10, "output_tokens": 5, "cost_usd": 1.5,
                "wasted_tokens": 3, "baseline_cost_usd": null})
        );
        let link = "http://127.0.0.1:8233/namespaces/default/workflows/vote%3Adefault%3Aa%2Fb";
        assert_eq!(shown["links"], json!({"temporal_ui": link, "events": "/v1/plan/plan_1/events"}));
        assert_eq!(shown.get("error"), None);
        assert_eq!(
            shown["judge_report"],
            json!({"judge": "j", "family": "j", "same_family": [], "order_flips": null, "ties": null})
        );
    }

    #[test]
    fn an_adversarial_plan_shows_every_round_and_the_last_of_each() {
        let round = |index: u32| AdversarialRound {
            critique: Text::Inline(format!("c{index}")),
            refined_plan: Text::Inline(format!("p{index}")),
        };
        let answer = AdversarialAnswer {
            initial_plan: "p0".into(),
            rounds: vec![round(1), round(2)],
            unanswered_critique: None,
            checks: Vec::new(),
        };
        let shown = object_of(&outcome(Some(Answer::Adversarial(answer.clone()))));
        assert_eq!(
            shown["response"],
            json!({"initial_plan": "p0", "critique": "c2", "refined_plan": "p2", "iterations": 2,
                "rounds": [{"critique": "c1", "refined_plan": "p1"}, {"critique": "c2", "refined_plan": "p2"}]})
        );
        let interrupted = AdversarialAnswer { unanswered_critique: Some("c3".into()), ..answer };
        let shown = object_of(&outcome(Some(Answer::Adversarial(interrupted))));
        assert_eq!((&shown["response"]["critique"], &shown["response"]["iterations"]), (&json!("c3"), &json!(2)));
    }

    #[test]
    fn refine_and_best_of_n_and_a_single_call_have_their_forms() {
        let refine =
            RefineAnswer { refined_response: "better".into(), iterations: 1, model: "m".into(), checks: Vec::new() };
        assert_eq!(
            object_of(&outcome(Some(Answer::Refine(refine))))["response"],
            json!({"refined_response": "better", "iterations": 1, "model": "m"})
        );
        let best = BestOfNAnswer {
            candidates: vec![ballot("m", "a", Some(9)), ballot("m", "b", None)],
            selected: 0,
            decision: VoteDecision::JudgeRepaired,
            judge: None,
            matches: Vec::new(),
            calls_avoided: 0,
            calls_withdrawn: 0,
        };
        assert_eq!(
            object_of(&outcome(Some(Answer::BestOfN(best))))["response"],
            json!({
                "responses": [{"model": "m", "content": "a", "score": 9, "selected": true},
                    {"model": "m", "content": "b", "score": null, "selected": false}],
                "selected": 0, "judge": null, "decision": "judge_repaired",
            })
        );
        let chat = Answer::Chat { body: r#"{"id":"chatcmpl-1","choices":[]}"#.into() };
        assert_eq!(object_of(&outcome(Some(chat)))["response"], json!({"id": "chatcmpl-1", "choices": []}));
    }

    #[test]
    fn a_failed_run_says_why_and_has_no_answer() {
        let failed = Outcome {
            status: RunStatus::Failed,
            stop_reason: StopReason::AllFailed,
            failure: Some(tokenhub_domain::ProviderFailure::of(ErrorClass::Transport, "refused")),
            ..outcome(None)
        };
        let shown = object_of(&failed);
        assert_eq!(shown["response"], Value::Null);
        assert_eq!(shown["error"]["class"], "transport");
        assert!(shown["error"]["message"].as_str().unwrap().ends_with("refused"));
    }
}
