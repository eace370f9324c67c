//! A chat whose plan is answered as a stream: signs of life while the plan runs, then its answer as the protocol's own
//! events.
//!
//! The plan does not belong to the connection: it goes on without it, and a repetition with the same idempotency key
//! joins it. A plan that fails at once is refused with a status; a later failure is the last event.

use std::time::{Duration, Instant};

use axum::{
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokenhub_activities::stream::StreamItem;
use tokenhub_domain::{Dialect, DurabilityMark, ErrorClass, Outcome, ProviderFailure, RunId, StopReason, TenantId};
use tokenhub_providers::{
    EventKind,
    convert::stream::{OutEvent, StreamConverter},
};
use tokio::sync::mpsc;

use super::{plan_later, program_answer};
use crate::{
    dispatch::{self, Job},
    error::Problem,
    parse::protocol::UsageChunk,
    protocol::Protocol,
    render, request_id,
    state::Runner,
    stream::{self, Framing},
};

/// A plan that ends within this is answered with the status of its end.
const HEAD_WAIT: Duration = Duration::from_secs(1);
/// Between two looks at the plan.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// The plan can still say that it ran out of time.
const WAIT_GRACE: Duration = Duration::from_secs(15);
/// The events of one answer: a piece of it and its end.
const ITEMS: usize = 16;

/// How the stream goes out.
pub(super) struct PlanStream {
    pub(super) protocol: &'static Protocol,
    pub(super) usage_chunk: UsageChunk,
    /// The model that its events name.
    pub(super) model: String,
}

/// Accepts the plan and streams its answer.
pub(super) async fn open(runner: &Runner, job: Job, form: PlanStream) -> Result<Response, Problem> {
    let base = job.spec.base();
    let (tenant, deadline) = (base.run.tenant.clone(), Duration::from_millis(base.deadline_ms));
    let (run_id, mark) = runner.dispatcher.launch(job).await?;
    let watch = Watch { runner: runner.clone(), tenant, run_id, until: Instant::now() + deadline + WAIT_GRACE };
    let early = tokio::time::timeout(HEAD_WAIT, watch.ended()).await.ok().transpose()?;
    let headers = watch.headers(mark, early.as_ref()).await?;
    let (sender, items) = mpsc::channel(ITEMS);
    let mut speaker = Speaker::new(&form, &watch.run_id);
    let mut first = speaker.beginning()?;
    match early {
        Some(outcome) => match program_answer::completion(&watch.run_id, &outcome, &form.model) {
            Ok(completion) => first.extend(speaker.answer(&completion)?),
            Err(problem) => {
                let mut response = problem.into_response(form.protocol.shape);
                response.headers_mut().extend(headers);
                return Ok(response);
            }
        },
        // No part of the run: it may end with the process, or with its client.
        None => drop(tokio::spawn(tell(watch, speaker, form.model, sender))),
    }
    let framing =
        Framing { dialect: form.protocol.dialect, usage_chunk: form.usage_chunk, request_id: request_id::current() };
    Ok(stream::response(first, items, framing, headers).into_response())
}

/// Waits for the end of the plan and says it, unless the client or the process goes before.
async fn tell(watch: Watch, speaker: Speaker, model: String, sender: mpsc::Sender<StreamItem>) {
    let ended = tokio::select! {
        ended = watch.ended() => ended,
        () = watch.runner.stopping.cancelled() => Err(Problem::Internal),
        () = sender.closed() => return,
    };
    for item in watch.said(ended, speaker, &model) {
        if sender.send(item).await.is_err() {
            return;
        }
    }
}

/// A plan that is waited for.
struct Watch {
    runner: Runner,
    tenant: TenantId,
    run_id: RunId,
    until: Instant,
}

impl Watch {
    /// The plan once it has ended. A database that is away is waited for.
    async fn ended(&self) -> Result<Outcome, Problem> {
        loop {
            match dispatch::read_run(&self.runner.world, &self.tenant, &self.run_id).await {
                Ok(Some(row)) => {
                    if let Some(outcome) = dispatch::outcome_of(&row)? {
                        return self.runner.dispatcher.inline(&self.tenant, outcome).await;
                    }
                }
                Ok(None) => return Err(Problem::Internal),
                Err(Problem::StoreAway) => {}
                Err(problem) => return Err(problem),
            }
            if Instant::now() >= self.until {
                let advice = crate::error::RetryAdvice::Never;
                return Err(Problem::StillRunning { run_id: self.run_id.clone(), advice });
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// What is known of the plan by now. Of one that nobody has claimed yet, whoever started it knows the durability.
    async fn headers(&self, mark: Option<DurabilityMark>, outcome: Option<&Outcome>) -> Result<HeaderMap, Problem> {
        let row = dispatch::read_run(&self.runner.world, &self.tenant, &self.run_id).await?.ok_or(Problem::Internal)?;
        let mut headers = plan_later::headers_of(&row, mark.filter(|_| outcome.is_none()));
        if let Some(outcome) = outcome {
            render::write_outcome(&mut headers, outcome);
            render::write_plan_status(&mut headers, outcome);
        }
        Ok(headers)
    }

    fn said(&self, ended: Result<Outcome, Problem>, speaker: Speaker, model: &str) -> Vec<StreamItem> {
        let Ok(outcome) = ended else {
            let words = format!("the plan goes on: read it with GET /v1/plan/{}", self.run_id);
            return vec![StreamItem::Failed(ProviderFailure::of(ErrorClass::StreamBroken, words))];
        };
        let completion = program_answer::completion(&self.run_id, &outcome, model);
        let told = completion.and_then(|completion| speaker.answer(&completion));
        told.unwrap_or_else(|_| vec![StreamItem::Failed(failure_of(outcome))])
    }
}

/// Why a plan has no answer, as the failure of a stream.
fn failure_of(outcome: Outcome) -> ProviderFailure {
    let class = match outcome.stop_reason {
        StopReason::DeadlineExceeded | StopReason::ExecutionTimeout => ErrorClass::StepDeadline,
        StopReason::BudgetExhausted => ErrorClass::BudgetExhausted,
        StopReason::Cancelled
        | StopReason::CancelledAfterStep
        | StopReason::AnsweredNow
        | StopReason::Rejected
        | StopReason::ApprovalExpired => ErrorClass::Cancelled,
        StopReason::NoEligibleModel
        | StopReason::AllFailed
        | StopReason::RoundFailed
        | StopReason::Answered
        | StopReason::MaxRounds
        | StopReason::Decided
        | StopReason::CheckPassed
        | StopReason::PlanOnly
        | StopReason::SchemaMismatch
        | StopReason::SingleAnswer => ErrorClass::ServerError,
    };
    outcome.failure.unwrap_or_else(|| ProviderFailure::of(class, ""))
}

/// Says an answer in the events of a protocol.
struct Speaker {
    dialect: Dialect,
    converter: StreamConverter,
}

impl Speaker {
    fn new(form: &PlanStream, run_id: &RunId) -> Self {
        let (dialect, context) = (form.protocol.dialect, program_answer::context(run_id, &form.model));
        Self { dialect, converter: StreamConverter::new(Dialect::Chat, dialect, context) }
    }

    /// That an answer begins, which clients may be told long before its first word.
    fn beginning(&mut self) -> Result<Vec<StreamItem>, Problem> {
        self.say(&chunk(&json!({"role": "assistant", "content": ""}), &Value::Null))
    }

    /// The answer and its end.
    fn answer(mut self, completion: &Value) -> Result<Vec<StreamItem>, Problem> {
        let text = tokenhub_domain::answer_text(completion);
        let reason = completion.pointer("/choices/0/finish_reason").filter(|reason| reason.is_string());
        let mut items = Vec::new();
        if !text.is_empty() {
            items.extend(self.say(&chunk(&json!({ "content": text }), &Value::Null))?);
        }
        items.extend(self.say(&chunk(&json!({}), reason.unwrap_or(&"stop".into())))?);
        items.extend(self.say(&json!({"choices": [], "usage": completion.get("usage")}))?);
        let last = self.converter.finish().map_err(|_| Problem::Internal)?;
        items.extend(items_of(self.dialect, last));
        Ok(items)
    }

    fn say(&mut self, chunk: &Value) -> Result<Vec<StreamItem>, Problem> {
        let events = self.converter.push("", chunk.to_string().as_bytes()).map_err(|_| Problem::Internal)?;
        Ok(items_of(self.dialect, events).collect())
    }
}

fn chunk(delta: &Value, finish_reason: &Value) -> Value {
    json!({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})
}

/// The mark at the end of Chat is written by whoever writes the stream.
fn items_of(dialect: Dialect, events: Vec<OutEvent>) -> impl Iterator<Item = StreamItem> {
    let is_mark = move |event: &OutEvent| dialect == Dialect::Chat && event.kind == EventKind::Done;
    events.into_iter().filter(move |event| !is_mark(event)).map(|event| match event.kind {
        EventKind::UsageOnly => StreamItem::Usage(event.frame()),
        EventKind::Preamble | EventKind::Content | EventKind::Finish | EventKind::Done => {
            StreamItem::Data(event.frame())
        }
    })
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::Usage;

    use super::*;
    use crate::protocol::{CHAT, MESSAGES, RESPONSES};

    fn told(protocol: &'static Protocol) -> Vec<StreamItem> {
        let outcome = Outcome {
            edited: false,
            status: tokenhub_domain::RunStatus::Completed,
            stop_reason: StopReason::MaxRounds,
            negotiated_model: Some("m".into()),
            routing_reason: String::new(),
            answer: Some(tokenhub_domain::Answer::Refine(tokenhub_domain::RefineAnswer {
                refined_response: "better".into(),
                iterations: 1,
                model: "m".into(),
                checks: Vec::new(),
            })),
            steps: Vec::new(),
            usage: Usage { calls: 2, input_tokens: 30, output_tokens: 12, ..Usage::default() },
            failure: None,
        };
        let form = PlanStream { protocol, usage_chunk: UsageChunk::Shown, model: "plan/review@2".to_owned() };
        let run_id = RunId::from("plan_1");
        let mut speaker = Speaker::new(&form, &run_id);
        let mut items = speaker.beginning().unwrap();
        assert!(!items.is_empty() && !text(&items).contains("better"), "it begins before there is an answer");
        items.extend(speaker.answer(&program_answer::completion(&run_id, &outcome, &form.model).unwrap()).unwrap());
        items
    }

    fn text(items: &[StreamItem]) -> String {
        let frames = items.iter().map(|item| match item {
            StreamItem::Data(frame) | StreamItem::Usage(frame) => String::from_utf8(frame.to_vec()).unwrap(),
            StreamItem::Failed(failure) => panic!("{failure:?}"),
        });
        frames.collect()
    }

    #[test]
    fn an_answer_is_told_in_the_events_of_each_protocol_with_its_sums() {
        let chat = told(&CHAT);
        assert!(matches!(chat.last(), Some(StreamItem::Usage(_))), "the mark at the end is not ours: {chat:?}");
        let chat = text(&chat);
        assert!(chat.contains(r#""content":"better""#) && chat.contains(r#""finish_reason":"stop""#), "{chat}");
        assert!(chat.contains(r#""prompt_tokens":30"#) && chat.contains(r#""model":"plan/review@2""#), "{chat}");
        let messages = text(&told(&MESSAGES));
        assert!(
            messages.starts_with("event: message_start\n") && messages.contains("event: message_stop"),
            "{messages}"
        );
        assert!(messages.contains(r#""input_tokens":30"#) && messages.contains(r#""end_turn""#), "{messages}");
        let responses = text(&told(&RESPONSES));
        assert!(responses.starts_with("event: response.created\n"), "{responses}");
        assert!(responses.contains("event: response.completed") && responses.contains(r#""output_tokens":12"#));
    }
}
