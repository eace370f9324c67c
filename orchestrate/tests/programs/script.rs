//! Steps that play a script. Every requested step stays pending until the driver completes it, in an order of the
//! test's choosing; what was requested, and in which order, is kept.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokenhub_domain::{
    ApprovalRequest, ApprovalStanding, Candidate, ClassifyRequest, Deployment, ErrorClass, FinishRequest, Mismatch,
    NanoDollars, NextMove, Outcome, PlanSpec, ProviderFailure, Reply, SelectRequest, Selection, SendOutcome,
    SendRequest, Shortlist, ShortlistWish, Steering, StepError, Text, TokenUsage, UnixMicros, Verdict, VerifyRequest,
};
use tokenhub_orchestrate::{Finished, Steps, resume, run};

use crate::class_table::class_table;
pub(crate) use crate::specs::{adversarial, best_of_n, chat, refine, vote};

pub(crate) const RUN_ID: &str = "plan_0190a1b2";
pub(crate) const INPUT_TOKENS: u64 = 3;
pub(crate) const OUTPUT_TOKENS: u64 = 5;
pub(crate) const COST: NanoDollars = NanoDollars(10);
pub(crate) const LATENCY_MS: u64 = 7;

/// What a scripted call comes to.
#[derive(Clone, Debug)]
pub(crate) enum Play {
    Says(&'static str),
    SaysText(Text),
    SaysAfter(u64, &'static str),
    /// A text that does not match the schema, and why.
    Misses(&'static str, &'static str),
    /// A text in which the pattern is not found.
    Lacks(&'static str),
    Fails(ErrorClass),
    FailsWithHint(ErrorClass, u64),
    Breaks(StepError),
}

/// The world behind the steps.
pub(crate) struct World {
    models: Vec<&'static str>,
    script: BTreeMap<&'static str, VecDeque<Play>>,
    pub(crate) selection: Option<Result<Selection, StepError>>,
    pub(crate) classify: fn(&ClassifyRequest) -> Result<NextMove, StepError>,
    pub(crate) record_error: Option<StepError>,
    pub(crate) approvals: VecDeque<Result<ApprovalStanding, StepError>>,
    /// What a verifier says, by the text that it is asked about; without a line it does not accept.
    pub(crate) verdicts: BTreeMap<&'static str, Result<Verdict, StepError>>,
    pub(crate) verified: Vec<VerifyRequest>,
    pub(crate) commands: Vec<String>,
    pub(crate) sends: Vec<SendRequest>,
    pub(crate) classified: Vec<ClassifyRequest>,
    pub(crate) recorded: Vec<Outcome>,
    pub(crate) wishes: Vec<ShortlistWish>,
    pub(crate) now_ms: u64,
    pub(crate) steering: Steering,
    /// What is asked of the run once so many steps have ended.
    pub(crate) steer_after: Option<(usize, Steering)>,
    /// Steps that have ended, by their labels.
    pub(crate) ended: Vec<String>,
    /// Calls that were made, and steps that had ended, when something was asked.
    pub(crate) before: Option<(usize, Vec<String>)>,
    pending: Vec<Pending>,
    next_ticket: u64,
    next_group: u64,
}

struct Pending {
    ticket: u64,
    /// The groups that it was requested through.
    groups: Vec<u64>,
    cancelled: bool,
    label: String,
    advance_ms: u64,
    ready: bool,
}

/// The scripted executor: the world, and the groups that its steps belong to.
#[derive(Clone)]
pub(crate) struct Scripted(pub(crate) Rc<RefCell<World>>, Vec<u64>);

/// A step in flight; dropping it before it completed breaks the contract and fails the test.
struct Ticket<T> {
    world: Rc<RefCell<World>>,
    number: u64,
    result: Option<Result<T, StepError>>,
}

impl<T: Unpin> Future for Ticket<T> {
    type Output = Result<T, StepError>;

    fn poll(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut world = self.world.borrow_mut();
        let place = world.pending.iter().position(|step| step.ticket == self.number).expect("polled after completion");
        if !world.pending[place].ready {
            return Poll::Pending;
        }
        let step = world.pending.remove(place);
        drop(world);
        let result = self.result.take().expect("polled after completion");
        Poll::Ready(if step.cancelled { Err(StepError::Cancelled) } else { result })
    }
}

impl Scripted {
    pub(crate) fn new(models: &[&'static str], script: &[(&'static str, &[Play])]) -> Self {
        Self(
            Rc::new(RefCell::new(World {
                models: models.to_vec(),
                script: script.iter().map(|(step, plays)| (*step, plays.iter().cloned().collect())).collect(),
                selection: None,
                classify: |request| Ok(class_table(request)),
                record_error: None,
                approvals: VecDeque::new(),
                verdicts: BTreeMap::new(),
                verified: Vec::new(),
                commands: Vec::new(),
                sends: Vec::new(),
                classified: Vec::new(),
                recorded: Vec::new(),
                wishes: Vec::new(),
                now_ms: 1_000_000,
                steering: Steering::default(),
                steer_after: None,
                ended: Vec::new(),
                before: None,
                pending: Vec::new(),
                next_ticket: 0,
                next_group: 0,
            })),
            Vec::new(),
        )
    }

    /// Plays `spec` to its end, completing steps in the order of their labels in `order`, the rest as requested.
    pub(crate) fn play_in(&self, spec: PlanSpec, order: &[&str]) -> Finished {
        self.drive(run(self, spec), order)
    }

    /// Carries on a run that came to `outcome` before.
    pub(crate) fn resume(&self, spec: PlanSpec, outcome: Outcome) -> Finished {
        self.drive(resume(self, spec, outcome), &[])
    }

    fn drive(&self, program: impl Future<Output = Finished>, order: &[&str]) -> Finished {
        let mut program = pin!(program);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(finished) = program.as_mut().poll(&mut context) {
                assert!(self.0.borrow().pending.is_empty(), "a requested step was not awaited");
                return finished;
            }
            let mut world = self.0.borrow_mut();
            if world.steer_after.is_some_and(|(after, _)| after <= world.ended.len()) {
                let asked = world.steer_after.take().map(|(_, asked)| asked).unwrap_or_default();
                world.steering = world.steering.and(asked);
                world.before = Some((world.sends.len(), world.ended.clone()));
                continue;
            }
            let rank = |step: &Pending| order.iter().position(|label| *label == step.label).unwrap_or(order.len());
            let next = world.pending.iter_mut().filter(|step| !step.ready).min_by_key(|step| rank(step));
            let next = next.expect("the program waits for nothing");
            next.ready = true;
            let (label, advance_ms) = (next.label.clone(), next.advance_ms);
            world.ended.push(label);
            world.now_ms += advance_ms;
        }
    }

    pub(crate) fn play(&self, spec: PlanSpec) -> Outcome {
        match self.play_in(spec, &[]) {
            Finished::Outcome(outcome) => *outcome,
            Finished::ClaimLost => panic!("the claim was lost"),
        }
    }

    /// The steps that were sent, as `step model try`.
    pub(crate) fn sent(&self) -> Vec<String> {
        let show = |it: &SendRequest| format!("{} {} {}", it.step, it.deployment.model, it.try_number);
        self.0.borrow().sends.iter().map(show).collect()
    }

    fn request<T: Unpin>(
        &self,
        command: String,
        label: &str,
        advance_ms: u64,
        result: Result<T, StepError>,
    ) -> Ticket<T> {
        let mut world = self.0.borrow_mut();
        world.commands.push(command);
        let ticket = world.next_ticket;
        world.next_ticket += 1;
        let groups = self.1.clone();
        let label = label.to_owned();
        world.pending.push(Pending { ticket, groups, cancelled: false, label, advance_ms, ready: false });
        Ticket { world: Rc::clone(&self.0), number: ticket, result: Some(result) }
    }
}

impl World {
    fn shortlist(&self, wish: &ShortlistWish) -> Shortlist {
        let matching = self.models.iter().map(|name| candidate(name));
        let candidates: Vec<Candidate> = matching
            .filter(|it| wish.model.as_ref().is_none_or(|named| it.deployment.model == named.target.model))
            .collect();
        let skipped = if candidates.is_empty() { vec!["x: disabled".to_owned()] } else { Vec::new() };
        Shortlist { candidates, skipped, ..Shortlist::default() }
    }

    fn next_play(&mut self, step: &str) -> Play {
        let scripted = self.script.get_mut(step).and_then(|plays| {
            // The last play of a step repeats for ever.
            if plays.len() > 1 { plays.pop_front() } else { plays.front().cloned() }
        });
        scripted.unwrap_or_else(|| Play::SaysText(Text::Inline(format!("text of {step}"))))
    }
}

impl Steps for Scripted {
    fn select(&self, request: SelectRequest) -> impl Future<Output = Result<Selection, StepError>> {
        let result = {
            let mut world = self.0.borrow_mut();
            world.wishes.clone_from(&request.wishes);
            let lists = request.wishes.iter().map(|wish| world.shortlist(wish)).collect();
            world.selection.clone().unwrap_or(Ok(Selection::Claimed(lists)))
        };
        self.request(format!("select {request:?}"), "select", 0, result)
    }

    fn send(&self, request: SendRequest) -> impl Future<Output = Result<SendOutcome, StepError>> {
        let step = request.step.to_string();
        let play = {
            let mut world = self.0.borrow_mut();
            world.sends.push(request.clone());
            world.next_play(&step)
        };
        let failed =
            |failure| Ok(SendOutcome::Failed { failure, duplicate_calls: 0, latency_ms: LATENCY_MS, wasted_tokens: 0 });
        let (advance_ms, result) = match play {
            Play::Says(text) => (LATENCY_MS, Ok(SendOutcome::Answered(reply(&step, text.into())))),
            Play::SaysText(text) => (LATENCY_MS, Ok(SendOutcome::Answered(reply(&step, text)))),
            Play::SaysAfter(millis, text) => (millis, Ok(SendOutcome::Answered(reply(&step, text.into())))),
            Play::Misses(text, violations) => {
                let mismatch = Some(Mismatch { text: text.into(), violations: violations.to_owned() });
                (LATENCY_MS, Ok(SendOutcome::Answered(Reply { mismatch, ..reply(&step, text.into()) })))
            }
            Play::Lacks(text) => {
                (LATENCY_MS, Ok(SendOutcome::Answered(Reply { lacks_pattern: true, ..reply(&step, text.into()) })))
            }
            Play::Fails(class) => (LATENCY_MS, failed(ProviderFailure::of(class, format!("{class:?} in {step}")))),
            Play::FailsWithHint(class, hint_ms) => (
                LATENCY_MS,
                failed(ProviderFailure { retry_after_ms: Some(hint_ms), ..ProviderFailure::of(class, "hint") }),
            ),
            Play::Breaks(error) => (0, Err(error)),
        };
        self.request(format!("send {request:?}"), &step, advance_ms, result)
    }

    fn classify(&self, request: ClassifyRequest) -> impl Future<Output = Result<NextMove, StepError>> {
        let result = {
            let mut world = self.0.borrow_mut();
            world.classified.push(request.clone());
            (world.classify)(&request)
        };
        let label = request.step.to_string();
        self.request(format!("classify {request:?}"), &label, 0, result)
    }

    fn verify(&self, request: VerifyRequest) -> impl Future<Output = Result<Verdict, StepError>> {
        let result = {
            let mut world = self.0.borrow_mut();
            world.verified.push(request.clone());
            let said = request.answer.as_inline().and_then(|text| world.verdicts.get(text).cloned());
            said.unwrap_or_else(|| Ok(Verdict::rejected("not good enough".to_owned())))
        };
        let label = format!("check {}", request.step);
        self.request(format!("verify {request:?}"), &label, LATENCY_MS, result)
    }

    fn record(&self, request: FinishRequest) -> impl Future<Output = Result<(), StepError>> {
        let result = {
            let mut world = self.0.borrow_mut();
            world.recorded.push(request.outcome.clone());
            world.record_error.clone().map_or(Ok(()), Err)
        };
        self.request(format!("record {request:?}"), "record", 0, result)
    }

    fn approval(&self, request: ApprovalRequest) -> impl Future<Output = Result<ApprovalStanding, StepError>> {
        let result = self.0.borrow_mut().approvals.pop_front().expect("nobody was to be asked");
        self.request(format!("approval {:?} {:?}", request.wish, request.outcome.stop_reason), "approval", 0, result)
    }

    fn wait_for_signal(&self, millis: u64) -> impl Future<Output = Result<(), StepError>> {
        self.request(format!("wait_for_signal {millis}"), "wait_for_signal", millis, Ok(()))
    }

    fn sleep(&self, millis: u64) -> impl Future<Output = Result<(), StepError>> {
        self.request(format!("sleep {millis}"), "sleep", millis, Ok(()))
    }

    fn steering(&self) -> Steering {
        self.0.borrow().steering
    }

    fn steered(&self, known: Steering) -> impl Future<Output = ()> {
        let world = Rc::clone(&self.0);
        poll_fn(move |_| if world.borrow().steering == known { Poll::Pending } else { Poll::Ready(()) })
    }

    fn now(&self) -> UnixMicros {
        UnixMicros(i64::try_from(self.0.borrow().now_ms).unwrap() * 1_000)
    }

    fn group(&self) -> Self {
        let mut world = self.0.borrow_mut();
        world.next_group += 1;
        let mut groups = self.1.clone();
        groups.push(world.next_group);
        drop(world);
        Self(Rc::clone(&self.0), groups)
    }

    /// Every step of the group completes at once.
    fn cancel(&self, _reason: &str) {
        let group = self.1.last().expect("the run itself is not cancelled by a program");
        for step in &mut self.0.borrow_mut().pending {
            if step.groups.contains(group) {
                (step.cancelled, step.ready) = (true, true);
            }
        }
    }
}

fn reply(step: &str, content: Text) -> Reply {
    Reply {
        attempt: format!("att_{step}").as_str().into(),
        content,
        finish_reason: Some("stop".into()),
        usage: TokenUsage { input_tokens: INPUT_TOKENS, output_tokens: OUTPUT_TOKENS },
        cost: COST,
        latency_ms: LATENCY_MS,
        duplicate_calls: 0,
        losses: Vec::new(),
        mismatch: None,
        lacks_pattern: false,
        wasted_tokens: 0,
        is_kept: false,
    }
}

/// `model@provider`; the provider `p` without one.
pub(crate) fn candidate(name: &str) -> Candidate {
    let (model, provider) = name.split_once('@').unwrap_or((name, "p"));
    Candidate {
        deployment: Deployment::new(model, provider),
        max_context_tokens: Some(8_000),
        estimated_cost: NanoDollars(1),
        weight: 5,
    }
}

/// Every order of `items`.
pub(crate) fn permutations<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (index, first) in items.iter().enumerate() {
        let mut rest = items.to_vec();
        rest.remove(index);
        for mut order in permutations(&rest) {
            order.insert(0, first.clone());
            all.push(order);
        }
    }
    all
}
