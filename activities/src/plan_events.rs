//! What is told of a plan while it runs: which steps tell what, and what an event says.
//!
//! Events hold ids, names, counts and classes; never a prompt, an answer, a key or the words of a provider. Each has a key
//! of its own within the run, so a step that is repeated after a crash tells nothing twice. Must not know who reads them.

mod calls;

use serde_json::{Map, Value, json};
use tokenhub_domain::{
    Answer, CallNumber, Deltas, DurabilityMark, EventKeeping, Outcome, Owner, PlanEvent, PrincipalId, RunContext,
    Selection, SendOutcome, SendRequest, Shortlist, SteeringRequest, StepKey, UnixMicros, Usage, Use, VoteAnswer,
};
use tokenhub_store::{NewEvent, Settlement, StoreError};

use crate::{World, clock};
use calls::StepCalls;

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
/// the first one. The number of the call, where the run shows what is written and the call could be told of.
pub(crate) async fn tell_sending(
    world: &World,
    run: &RunContext,
    request: &SendRequest,
    key: &StepKey,
    epoch: i64,
) -> Result<Option<CallNumber>, StoreError> {
    match (run.events, run.deltas) {
        (EventKeeping::None, _) => Ok(None),
        (EventKeeping::Kept, Deltas::None) => {
            tell(world, run, &beginning(request, key, epoch, None)).await.map(|()| None)
        }
        (EventKeeping::Kept, Deltas::Shown) => {
            let events = world.store.plan_events();
            let begin = |known: &[String]| {
                beginning(request, key, epoch, Some(&StepCalls::of(&run.run_id, &request.step, known)))
            };
            let known = events.append_knowing((&run.tenant, &run.run_id), &calls::KINDS, begin).await;
            let known = unless_refused(run, known)?.unwrap_or_default();
            Ok(StepCalls::of(&run.run_id, &request.step, &known).number_of(key, epoch))
        }
    }
}

/// What is told when a try begins. Where calls are counted, whoever showed the text of an earlier one has to hear that
/// another takes its place.
fn beginning(request: &SendRequest, key: &StepKey, epoch: i64, known: Option<&StepCalls<'_>>) -> Vec<NewEvent> {
    let at = clock::now();
    let data = |number: Option<CallNumber>| Value::Object(step(request, epoch, number));
    let first = known.map(|calls| calls.number_of(key, 1).unwrap_or(calls.next()));
    let own = known.map(|calls| match (calls.number_of(key, epoch), calls.number_of(key, 1)) {
        (Some(number), _) => number,
        (None, None) if epoch > 1 => CallNumber(calls.next().0.saturating_add(1)),
        (None, _) => calls.next(),
    });
    let mut events = vec![event(PlanEvent::StepStarted, calls::started(key), &data(first), at)];
    if epoch > 1 || known.is_some_and(|calls| calls.follows(key)) {
        events.push(event(PlanEvent::StepRestarted, calls::restarted(key, epoch), &data(own), at));
    }
    events
}

/// A call, as what is told of its end names it.
pub(crate) struct ToldCall<'a> {
    pub(crate) key: &'a StepKey,
    pub(crate) epoch: i64,
    /// Where calls are counted.
    pub(crate) number: Option<CallNumber>,
    /// The pieces of text that there were, where it was streamed.
    pub(crate) deltas: Option<u64>,
}

/// A try of a step has ended; `settlement` is what was paid for it.
pub(crate) fn sent(
    run: &RunContext,
    request: &SendRequest,
    call: &ToldCall<'_>,
    outcome: &SendOutcome,
    settlement: Option<&Settlement>,
) -> Option<NewEvent> {
    if run.events == EventKeeping::None {
        return None;
    }
    let mut data = step(request, call.epoch, call.number);
    data.extend(call.deltas.map(|count| ("deltas".to_owned(), count.into())));
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
    Some(event(name, calls::ended(call.key), &Value::Object(data), clock::now()))
}

/// Writes events beside their facts. A database that is away is the caller's to wait for; any other refusal costs the
/// events and nothing else.
async fn tell(world: &World, run: &RunContext, events: &[NewEvent]) -> Result<(), StoreError> {
    unless_refused(run, world.store.plan_events().append(&run.tenant, &run.run_id, events).await).map(|_| ())
}

fn unless_refused<T>(run: &RunContext, told: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match told {
        Err(error) if !error.is_unavailable() => {
            tracing::error!(error = &error as &dyn std::error::Error, run = %run.run_id, "an event was refused");
            Ok(None)
        }
        told => told.map(Some),
    }
}

fn event(name: PlanEvent, key: String, data: &Value, at: UnixMicros) -> NewEvent {
    NewEvent { name, key, data: data.to_string(), at }
}

fn step(request: &SendRequest, epoch: i64, number: Option<CallNumber>) -> Map<String, Value> {
    let number = number.map(|number| ("attempt".to_owned(), number.0.into()));
    let fields = [
        ("step".to_owned(), json!(request.step)),
        ("role".to_owned(), request.role.as_str().into()),
        ("model".to_owned(), json!(request.deployment.model)),
        ("provider".to_owned(), json!(request.deployment.provider)),
        ("try".to_owned(), request.try_number.into()),
        ("restarts".to_owned(), epoch.saturating_sub(1).into()),
    ];
    fields.into_iter().chain(number).collect()
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
            deltas: tokenhub_domain::Deltas::None,
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
            first_token_timeout_ms: None,
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
        let call = ToldCall { key: &key, epoch: 3, number: None, deltas: None };
        let told = sent(&run(EventKeeping::Kept), &request, &call, &outcome, None).unwrap();
        assert_eq!((told.name, told.key.as_str()), (PlanEvent::StepFailed, "ended|plan_1|ballot/1|p|m|2"));
        assert!(!told.data.contains("canary"), "{}", told.data);
        assert_eq!(
            data_of(&told),
            json!({"step": "ballot/1", "role": "voter", "model": "m", "provider": "p", "try": 2, "restarts": 2,
                "error_class": "rate_limited", "status_code": 429, "input_tokens": 0, "output_tokens": 0,
                "cost_usd": 0.0, "latency_ms": 7})
        );
        assert_eq!(sent(&run(EventKeeping::None), &request, &call, &outcome, None), None);
        let counted = ToldCall { number: Some(CallNumber(4)), deltas: Some(7), ..call };
        let told = data_of(&sent(&run(EventKeeping::Kept), &request, &counted, &outcome, None).unwrap());
        assert_eq!((&told["attempt"], &told["deltas"]), (&json!(4), &json!(7)));
        assert_eq!(created(&run(EventKeeping::None), UnixMicros(1)), None);
    }

    #[test]
    fn a_call_that_takes_the_place_of_another_is_told_as_restarted_and_numbered_behind_it() {
        let (request, first, second) =
            (request(), StepKey::from("plan_1|ballot/1|p|m|1"), StepKey::from("plan_1|ballot/1|q|m|1"));
        let told = |key: &StepKey, epoch, known: &[String]| {
            let known = StepCalls::of(&"plan_1".into(), &"ballot/1".into(), known);
            let events = beginning(&request, key, epoch, Some(&known)).into_iter();
            events.map(|event| (event.name.as_str(), data_of(&event)["attempt"].as_u64().unwrap())).collect::<Vec<_>>()
        };
        let begun = [calls::started(&first)];
        let failed = [calls::started(&first), calls::ended(&first)];
        assert_eq!(told(&first, 1, &[]), [("step.started", 1)]);
        assert_eq!(told(&first, 2, &begun), [("step.started", 1), ("step.restarted", 2)]);
        assert_eq!(told(&first, 2, &[]), [("step.started", 1), ("step.restarted", 2)], "the first one told nothing");
        assert_eq!(told(&second, 1, &begun), [("step.started", 2)], "beside the first");
        assert_eq!(told(&second, 1, &failed), [("step.started", 2), ("step.restarted", 2)]);
        let uncounted = beginning(&request, &second, 1, None);
        assert_eq!((uncounted.len(), data_of(&uncounted[0]).get("attempt")), (1, None));
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
