//! What is told of a plan while it runs: which steps tell what, and what an event says.
//!
//! Events hold ids, names, counts and classes; never a prompt, an answer, a key or the words of a provider. Each has a key
//! of its own within the run, so a step that is repeated after a crash tells nothing twice. Must not know who reads them.

use serde_json::{Map, Value, json};
use tokenhub_domain::{
    Answer, DurabilityMark, EventKeeping, Outcome, Owner, PlanEvent, PrincipalId, RunContext, Selection, SendOutcome,
    SendRequest, Shortlist, SteeringRequest, StepKey, UnixMicros, Usage, Use, VoteAnswer,
};
use tokenhub_store::{NewEvent, Settlement, StoreError};

use crate::{World, clock};

/// Models of one shortlist that are named: most are never asked.
const CANDIDATES_TOLD_MAX: usize = 16;

/// The first event of a run that keeps events: it was accepted.
pub fn created(run: &RunContext, at: UnixMicros) -> Option<NewEvent> {
    match run.events {
        EventKeeping::None => None,
        EventKeeping::Kept => {
            let data = json!({"kind": run.kind.as_str(), "request_id": run.request_id});
            Some(event(PlanEvent::PlanCreated, "created".to_owned(), &data, at))
        }
    }
}

/// Somebody has asked something of a run; `key` makes it the same as another request.
pub fn steered(key: &str, request: SteeringRequest, principal: &PrincipalId, at: UnixMicros) -> NewEvent {
    let mut data = signal(request);
    data.insert("principal".to_owned(), principal.as_str().into());
    event(PlanEvent::SignalReceived, format!("signal|{key}"), &Value::Object(data), at)
}

/// A request as it is shown.
pub fn signal(request: SteeringRequest) -> Map<String, Value> {
    let (name, fields): (_, Vec<(&str, Value)>) = match request {
        SteeringRequest::AnswerNow => ("answer_now", Vec::new()),
        SteeringRequest::StopAfterStep => ("cancel", vec![("mode", "after_step".into())]),
        SteeringRequest::AddBudget(Use { calls, tokens, cost }) => {
            let cost = (cost.0 > 0).then(|| ("max_cost_usd", cost.as_usd().into()));
            let tokens = (tokens > 0).then(|| ("max_tokens", tokens.into()));
            let calls = (calls > 0).then(|| ("max_calls", calls.into()));
            ("add_budget", [cost, tokens, calls].into_iter().flatten().collect())
        }
        SteeringRequest::ExtendDeadline { deadline_ms } => {
            ("extend_deadline", vec![("deadline_ms", deadline_ms.into())])
        }
    };
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
    std::iter::once(("type".to_owned(), name.into())).chain(fields).collect()
}

/// The last event of a run that came to `outcome`.
pub fn ended(outcome: &Outcome, durability: DurabilityMark, at: UnixMicros) -> Option<NewEvent> {
    let name = PlanEvent::end_of(outcome.status)?;
    let mut data = json!({
        "status": outcome.status.as_str(),
        "stop_reason": outcome.stop_reason,
        "negotiated_model": outcome.negotiated_model,
        "durable": durability == DurabilityMark::Durable,
        "error_class": outcome.failure.as_ref().map(|failure| failure.class.as_str()),
        "usage": usage(outcome.usage),
    });
    if let (Some(fields), Some(verdict)) = (data.as_object_mut(), outcome.answer.as_ref().and_then(verdict)) {
        fields.insert("verdict".to_owned(), verdict);
    }
    Some(event(name, "ended".to_owned(), &data, at))
}

/// The run is claimed and its models are chosen. Told before anything is bought, so it is waited for like the claim.
pub(crate) async fn tell_started(
    world: &World,
    run: &RunContext,
    owner: &Owner,
    selection: &Selection,
) -> Result<(), StoreError> {
    let (EventKeeping::Kept, Selection::Claimed(lists)) = (run.events, selection) else { return Ok(()) };
    let shortlists: Vec<Value> = lists.iter().map(shortlist).collect();
    let data = json!({"durable": !owner.expires(), "shortlists": shortlists});
    tell(world, run, &[event(PlanEvent::PlanStarted, "started".to_owned(), &data, clock::now())]).await
}

/// A try of a step begins, as the holder number `epoch` of its lease. Whoever is not the first may not have been told of
/// the first one.
pub(crate) async fn tell_sending(
    world: &World,
    run: &RunContext,
    request: &SendRequest,
    key: &StepKey,
    epoch: i64,
) -> Result<(), StoreError> {
    if run.events == EventKeeping::None {
        return Ok(());
    }
    let at = clock::now();
    let data = step(request, epoch);
    let mut events = vec![event(PlanEvent::StepStarted, format!("started|{key}"), &Value::Object(data.clone()), at)];
    if epoch > 1 {
        let key = format!("restarted|{key}|{epoch}");
        events.push(event(PlanEvent::StepRestarted, key, &Value::Object(data), at));
    }
    tell(world, run, &events).await
}

/// A try of a step has ended; `settlement` is what was paid for it.
pub(crate) fn sent(
    run: &RunContext,
    request: &SendRequest,
    (key, epoch): (&StepKey, i64),
    outcome: &SendOutcome,
    settlement: Option<&Settlement>,
) -> Option<NewEvent> {
    if run.events == EventKeeping::None {
        return None;
    }
    let mut data = step(request, epoch);
    let (name, latency_ms) = match outcome {
        SendOutcome::Answered(reply) => {
            data.insert("attempt_id".to_owned(), json!(reply.attempt));
            (PlanEvent::StepCompleted, reply.latency_ms)
        }
        SendOutcome::Failed { failure, latency_ms, .. } => {
            data.insert("error_class".to_owned(), failure.class.as_str().into());
            data.insert("status_code".to_owned(), failure.status.into());
            (PlanEvent::StepFailed, *latency_ms)
        }
    };
    let paid = settlement.map(|it| (it.input_tokens, it.output_tokens, it.cost)).unwrap_or_default();
    data.insert("input_tokens".to_owned(), paid.0.into());
    data.insert("output_tokens".to_owned(), paid.1.into());
    data.insert("cost_usd".to_owned(), paid.2.as_usd().into());
    data.insert("latency_ms".to_owned(), latency_ms.into());
    Some(event(name, format!("ended|{key}"), &Value::Object(data), clock::now()))
}

/// Writes events beside their facts. A database that is away is the caller's to wait for; any other refusal costs the
/// events and nothing else.
async fn tell(world: &World, run: &RunContext, events: &[NewEvent]) -> Result<(), StoreError> {
    match world.store.plan_events().append(&run.tenant, &run.run_id, events).await {
        Err(error) if !error.is_unavailable() => {
            tracing::error!(error = &error as &dyn std::error::Error, run = %run.run_id, "an event was refused");
            Ok(())
        }
        told => told,
    }
}

fn event(name: PlanEvent, key: String, data: &Value, at: UnixMicros) -> NewEvent {
    NewEvent { name, key, data: data.to_string(), at }
}

fn step(request: &SendRequest, epoch: i64) -> Map<String, Value> {
    Map::from_iter([
        ("step".to_owned(), json!(request.step)),
        ("role".to_owned(), request.role.as_str().into()),
        ("model".to_owned(), json!(request.deployment.model)),
        ("provider".to_owned(), json!(request.deployment.provider)),
        ("try".to_owned(), request.try_number.into()),
        ("restarts".to_owned(), epoch.saturating_sub(1).into()),
    ])
}

fn shortlist(list: &Shortlist) -> Value {
    let candidates = list.candidates.iter().take(CANDIDATES_TOLD_MAX);
    candidates.map(|it| json!({"model": it.deployment.model, "provider": it.deployment.provider})).collect()
}

fn usage(usage: Usage) -> Value {
    json!({
        "calls": usage.calls,
        "duplicate_calls": usage.duplicate_calls,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": usage.cost.as_usd(),
    })
}

/// How a choice was made, without the texts that were chosen from.
fn verdict(answer: &Answer) -> Option<Value> {
    match answer {
        Answer::Chat { .. } | Answer::Adversarial(_) | Answer::Refine(_) => None,
        Answer::Vote(VoteAnswer { ballots, selected, decision, judge, tally, .. }) => {
            let models: Vec<_> = ballots.iter().map(|ballot| &ballot.model).collect();
            Some(json!({
                "models": models, "selected": selected, "decision": decision, "judge": judge, "tally": tally,
            }))
        }
        Answer::BestOfN(answer) => {
            let models: Vec<_> = answer.candidates.iter().map(|candidate| &candidate.model).collect();
            let scores: Vec<_> = answer.candidates.iter().map(|candidate| candidate.score).collect();
            Some(json!({
                "models": models, "selected": answer.selected, "decision": answer.decision, "judge": answer.judge,
                "scores": scores, "matches": answer.matches,
            }))
        }
        Answer::Cascade(answer) => Some(json!({"stages": answer.stages, "selected": answer.selected})),
        Answer::Fuse(answer) => {
            let models: Vec<_> = answer.panel.iter().map(|panelist| &panelist.model).collect();
            Some(json!({"models": models, "judge": answer.judge, "writer": answer.writer}))
        }
    }
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::{
        Ballot, Deployment, Dialect, ErrorClass, Operation, OutputWish, Prompt, ProviderFailure, ReplyForm, Role,
        RunKind, RunStatus, Share, StopReason, VoteDecision, VoteMethod,
    };

    use super::*;

    const SECRET: &str = "canary words of a prompt";

    fn run(events: EventKeeping) -> RunContext {
        RunContext {
            run_id: "plan_1".into(),
            kind: RunKind::Vote,
            tenant: "default".into(),
            principal: "someone".into(),
            api_key_id: "key_1".into(),
            request_id: "req_1".into(),
            config_version: 1,
            events,
            labels: tokenhub_domain::Labels::default(),
            share: Share::default(),
        }
    }

    fn request() -> SendRequest {
        SendRequest {
            step: "ballot/1".into(),
            role: Role::Voter,
            try_number: 2,
            deployment: Deployment::new("m", "p"),
            dialect: Dialect::Chat,
            forwarded: Vec::new(),
            operation: Operation::Chat,
            prompt: Prompt::Original(SECRET.into()),
            form: ReplyForm::Text,
            output: OutputWish::default(),
            max_output_tokens: None,
            timeout_ms: 1,
            movable: None,
            bounds: tokenhub_domain::Bounds::default(),
            kept_by: None,
            prefix: None,
        }
    }

    fn data_of(event: &NewEvent) -> Value {
        serde_json::from_str(&event.data).unwrap()
    }

    #[test]
    fn a_failed_call_tells_its_class_and_none_of_its_words() {
        let (request, key) = (request(), StepKey::from("plan_1|ballot/1|p|m|2"));
        let failure = ProviderFailure { status: Some(429), ..ProviderFailure::of(ErrorClass::RateLimited, SECRET) };
        let outcome = SendOutcome::Failed { failure, duplicate_calls: 0, latency_ms: 7, wasted_tokens: 0 };
        let told = sent(&run(EventKeeping::Kept), &request, (&key, 3), &outcome, None).unwrap();
        assert_eq!((told.name, told.key.as_str()), (PlanEvent::StepFailed, "ended|plan_1|ballot/1|p|m|2"));
        assert!(!told.data.contains("canary"), "{}", told.data);
        assert_eq!(
            data_of(&told),
            json!({"step": "ballot/1", "role": "voter", "model": "m", "provider": "p", "try": 2, "restarts": 2,
                "error_class": "rate_limited", "status_code": 429, "input_tokens": 0, "output_tokens": 0,
                "cost_usd": 0.0, "latency_ms": 7})
        );
        assert_eq!(sent(&run(EventKeeping::None), &request, (&key, 1), &outcome, None), None);
        assert_eq!(created(&run(EventKeeping::None), UnixMicros(1)), None);
    }

    #[test]
    fn the_end_of_a_vote_tells_the_verdict_and_no_answer() {
        let ballot = |model: &str| Ballot {
            check: None,
            step: "ballot/1".into(),
            model: model.into(),
            provider: "p".into(),
            content: SECRET.into(),
            score: None,
        };
        let vote = VoteAnswer {
            ballots: vec![ballot("m"), ballot("n")],
            selected: 1,
            method: VoteMethod::Judge,
            decision: VoteDecision::Judge,
            judge: Some("j".into()),
            tally: vec![vec![0, 1]],
            calls_avoided: 0,
            calls_withdrawn: 0,
        };
        let outcome = Outcome {
            edited: false,
            status: RunStatus::CompletedPartial,
            stop_reason: StopReason::Decided,
            negotiated_model: Some("n".into()),
            routing_reason: String::new(),
            answer: Some(Answer::Vote(vote)),
            steps: Vec::new(),
            usage: Usage::default(),
            failure: Some(ProviderFailure::of(ErrorClass::Transport, SECRET)),
        };
        let told = ended(&outcome, DurabilityMark::Durable, UnixMicros(5)).unwrap();
        assert!(!told.data.contains("canary"), "{}", told.data);
        let data = data_of(&told);
        assert_eq!((told.name, &data["stop_reason"]), (PlanEvent::PlanCompletedPartial, &json!("decided")));
        assert_eq!((&data["error_class"], &data["durable"]), (&json!("transport"), &json!(true)));
        let verdict =
            json!({"models": ["m", "n"], "selected": 1, "decision": "judge", "judge": "j", "tally": [[0, 1]]});
        assert_eq!(data["verdict"], verdict);
        assert_eq!(
            ended(&Outcome { status: RunStatus::Running, ..outcome }, DurabilityMark::None, UnixMicros(5)),
            None
        );
    }
}
