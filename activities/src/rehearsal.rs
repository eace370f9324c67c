//! A run without its calls: the program itself, over steps that buy nothing, to tell beforehand what it may come to.
//!
//! Owns what is assumed of a provider in each course. There is no second description of any program, so an estimate
//! cannot drift from what is run. Selection is the real one, as things are now; nothing is claimed, called or kept.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokenhub_domain::{
    ApprovalRequest, ApprovalStanding, AttemptId, Bound, Bounds, Catalogue, ClassifyRequest, Deployment, ErrorClass,
    Extent, FinishRequest, Mismatch, NanoDollars, NextMove, Outcome, PlanSpec, Prompt, ProviderFailure, Reply,
    Resolution, Role, Segment, SelectRequest, Selection, SendOutcome, SendRequest, Steering, StepError, StepId, Text,
    TokenUsage, UnixMicros, Use, Verdict, VerifyRequest, input_tokens_max, limits, render,
};
use tokenhub_orchestrate::{Finished, Steps};
use tokenhub_routing::Jitter;

use crate::{World, select, send::Said};

/// Bytes of text that make a token on average.
const BYTES_PER_TOKEN: u64 = 4;
/// An answer that one model counts as so many tokens, another may count as this many times as many.
const TOKENIZERS_FACTOR: u64 = 2;
/// What a complaint about an answer may add to a request.
const COMPLAINT_TOKENS: u64 = 4_096;

/// How the providers behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Everybody answers at once, alike, and so that it can be read.
    Smooth,
    /// Everybody fails as often as the class table allows, the last one answers, no two answers are alike, and none can
    /// be read the first time.
    Worst,
}

/// A call that would be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RehearsedCall {
    /// The step.
    pub step: StepId,
    /// What it is for.
    pub role: Role,
    /// Whom it goes to.
    pub deployment: Deployment,
    /// What it takes: an estimate in a smooth course, and the most that it can in the worst.
    pub takes: Use,
}

/// What a rehearsal came to.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// Every call, in the order in which they would be made.
    pub calls: Vec<RehearsedCall>,
    /// The end of the run; its answer means nothing.
    pub outcome: Option<Outcome>,
}

impl Rehearsal {
    /// All calls together.
    pub fn sum(&self) -> Use {
        self.calls.iter().fold(Use::default(), |sum, call| sum.plus(call.takes))
    }

    /// All calls and the dearest one once more, in each respect: what one crash at the worst moment repeats.
    pub fn with_a_crash(&self) -> Use {
        self.sum().plus(dearest(&self.calls))
    }

    /// The first limit that this course does not keep to: of the whole run, or of a step in which the crash happens.
    pub fn exceeds(&self, bounds: Bounds) -> Option<(Extent, Bound)> {
        let nothing = Use::default();
        if let Some(bound) = bounds.exceeded_by(nothing, self.with_a_crash()) {
            return Some((Extent::Run, bound));
        }
        let mut of_steps: BTreeMap<&StepId, (Use, Use)> = BTreeMap::new();
        for RehearsedCall { step, takes, .. } in &self.calls {
            let (sum, most) = of_steps.entry(step).or_default();
            (*sum, *most) = (sum.plus(*takes), dearer(*most, *takes));
        }
        let limits = bounds.per_step.limits();
        let exceeded = of_steps.values().find_map(|(sum, most)| limits.exceeded_by(*sum, *most));
        exceeded.map(|bound| (Extent::Step, bound))
    }
}

fn dearest(calls: &[RehearsedCall]) -> Use {
    calls.iter().fold(Use::default(), |most, call| dearer(most, call.takes))
}

fn dearer(most: Use, takes: Use) -> Use {
    Use { calls: 1, tokens: most.tokens.max(takes.tokens), cost: most.cost.max(takes.cost) }
}

/// Plays `spec` without a call.
pub async fn rehearse(world: &Arc<World>, mut spec: PlanSpec, course: Course) -> Rehearsal {
    // Whoever fails is followed by the next anyway: in turn everybody is asked, and nobody is withdrawn.
    spec.forget_clocks();
    let stage = Stage { world: Arc::clone(world), course, spec: Arc::new(spec.clone()), seen: Arc::default() };
    let outcome = match tokenhub_orchestrate::run(&stage, spec).await {
        Finished::Outcome(outcome) => Some(*outcome),
        Finished::ClaimLost => None,
    };
    let calls = std::mem::take(&mut stage.seen().calls);
    Rehearsal { calls, outcome }
}

#[derive(Clone)]
struct Stage {
    world: Arc<World>,
    course: Course,
    spec: Arc<PlanSpec>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    calls: Vec<RehearsedCall>,
    /// Tokens that each text that was answered stands for.
    lengths: HashMap<String, u64>,
    /// Steps whose next try answers.
    last_tries: HashSet<StepId>,
    /// What each step takes, and the output tokens of its answer.
    priced: HashMap<StepId, (Use, u64)>,
    /// Everybody who may be asked.
    deployments: Vec<Deployment>,
    /// Output tokens of the longest verdict.
    verdict_tokens: u64,
}

impl Stage {
    /// Nothing panics while it is held, and counts that were half taken would still be counts.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a call takes, and the output tokens of its answer. Every try of a step asks the same, so it is priced once.
    fn take(&self, request: &SendRequest) -> (Use, u64) {
        let mut seen = self.seen();
        if let Some(priced) = seen.priced.get(&request.step) {
            return *priced;
        }
        let catalogue = self.world.catalogue.load();
        let body = render(&request.prompt, request.dialect).unwrap_or_default();
        let mut quoted = quoted(&request.prompt, &seen.lengths);
        if request.role == Role::Writer {
            quoted = quoted.saturating_add(seen.verdict_tokens);
        }
        let (takes, output) = match self.course {
            Course::Smooth => {
                let output = self.spec.base().estimated_output_tokens.max(1);
                let input = body.len() as u64 / BYTES_PER_TOKEN + quoted;
                let model = catalogue.model(&request.deployment);
                let cost = model.map_or_else(NanoDollars::default, |model| model.cost_of(input, output));
                (Use { calls: 1, tokens: input.saturating_add(output), cost }, output)
            }
            Course::Worst => {
                let input = input_tokens_max(&body).saturating_add(quoted.saturating_mul(TOKENIZERS_FACTOR));
                let asked = seen.deployments.iter().chain([&request.deployment]);
                dearest_of(&catalogue, &Said::in_body(&body), input, asked)
            }
        };
        if request.role == Role::Judge {
            seen.verdict_tokens = seen.verdict_tokens.max(output);
        }
        seen.priced.insert(request.step.clone(), (takes, output));
        (takes, output)
    }

    fn answers(&self, request: &SendRequest) -> bool {
        match self.course {
            Course::Smooth => true,
            Course::Worst => self.seen().last_tries.remove(&request.step),
        }
    }

    /// The longest that a check says, where somebody is to read it. A repair's is counted with the repair.
    fn complaint(&self) -> String {
        let is_read = self.spec.check().is_some();
        if is_read { "-".repeat(limits::CHECK_FEEDBACK_BYTES) } else { String::new() }
    }

    fn reply(&self, request: &SendRequest, tokens: u64) -> Reply {
        let mut seen = self.seen();
        let content = match (self.course, request.role) {
            (Course::Worst, _) => format!("rehearsed answer {}", seen.calls.len()),
            (Course::Smooth, Role::Judge) => verdict(&request.prompt),
            (Course::Smooth, _) => "rehearsed answer".to_owned(),
        };
        seen.lengths.insert(content.clone(), tokens);
        let misses = self.course == Course::Worst && request.output.schema.is_some();
        let text = Text::from(content.as_str());
        let mismatch = misses.then(|| Mismatch { violations: self.complaint(), text: text.clone() });
        Reply {
            attempt: AttemptId::new(String::new()),
            content: text,
            finish_reason: None,
            usage: TokenUsage::default(),
            cost: NanoDollars::default(),
            latency_ms: 0,
            duplicate_calls: 0,
            losses: Vec::new(),
            mismatch,
            lacks_pattern: self.course == Course::Worst && request.output.pattern.is_some(),
            wasted_tokens: 0,
            is_kept: false,
        }
    }
}

/// The most that a call can take whoever of `deployments` it goes to, because the one that fails in a rehearsal may be the
/// one that goes on in the run; and its output limit.
fn dearest_of<'a>(
    catalogue: &Catalogue,
    said: &Said,
    input: u64,
    deployments: impl Iterator<Item = &'a Deployment>,
) -> (Use, u64) {
    deployments.map(|deployment| said.at_most(catalogue, deployment, input)).fold(
        (Use { calls: 1, ..Use::default() }, 0),
        |(most, longest), (takes, limit)| {
            let (tokens, cost) = (most.tokens.max(takes.tokens), most.cost.max(takes.cost));
            (Use { tokens, cost, ..most }, longest.max(limit))
        },
    )
}

/// Tokens of the earlier answers that a prompt quotes.
fn quoted(prompt: &Prompt, lengths: &HashMap<String, u64>) -> u64 {
    let length = |text: &Text| text.as_inline().and_then(|text| lengths.get(text)).copied().unwrap_or(0);
    match prompt {
        Prompt::Original(_) => 0,
        Prompt::Derived(derived) => {
            let answers = derived.parts.iter().map(|part| match part {
                Segment::Answer(text) => length(text),
                Segment::Literal(_) | Segment::OriginalRequest => 0,
            });
            answers.fold(0, u64::saturating_add)
        }
        Prompt::Repair(repair) => {
            quoted(&repair.question, lengths).saturating_add(length(&repair.answer)).saturating_add(COMPLAINT_TOKENS)
        }
    }
}

/// What a judge says whose reply can be read, whichever form it was asked for.
fn verdict(prompt: &Prompt) -> String {
    let answers = match prompt {
        Prompt::Derived(derived) => derived.parts.iter().filter(|part| matches!(part, Segment::Answer(_))).count(),
        Prompt::Original(_) | Prompt::Repair(_) => 0,
    };
    let scores: Vec<usize> = (0..answers).collect();
    let list: [&str; 0] = [];
    serde_json::json!({
        "winner": 1, "scores": scores, "accept": true, "consensus": list, "contradictions": list, "gaps": list,
    })
    .to_string()
}

impl Steps for Stage {
    async fn select(&self, request: SelectRequest) -> Result<Selection, StepError> {
        let lists = select::preview(&self.world, &request);
        let listed = lists.iter().flat_map(|list| &list.candidates).map(|candidate| candidate.deployment.clone());
        let deployments = &mut self.seen().deployments;
        listed.for_each(|deployment| {
            if !deployments.contains(&deployment) {
                deployments.push(deployment);
            }
        });
        Ok(Selection::Claimed(lists))
    }

    async fn send(&self, request: SendRequest) -> Result<SendOutcome, StepError> {
        let (takes, output) = self.take(&request);
        let SendRequest { step, role, deployment, .. } = request.clone();
        self.seen().calls.push(RehearsedCall { step, role, deployment, takes });
        // Whoever is asked at the same time is asked before anybody answers.
        tokio::task::yield_now().await;
        Ok(if self.answers(&request) {
            SendOutcome::Answered(self.reply(&request, output))
        } else {
            let failure = ProviderFailure::of(ErrorClass::Transport, "rehearsed");
            SendOutcome::Failed { failure, duplicate_calls: 0, latency_ms: 0, wasted_tokens: 0 }
        })
    }

    async fn classify(&self, request: ClassifyRequest) -> Result<NextMove, StepError> {
        let next = tokenhub_routing::next_move(&request, Jitter::NONE);
        let after = ClassifyRequest { tries: request.tries + 1, ..request };
        if matches!(next, NextMove::Retry { .. }) && tokenhub_routing::next_move(&after, Jitter::NONE) == NextMove::Stop
        {
            self.seen().last_tries.insert(after.step);
        }
        Ok(next)
    }

    async fn verify(&self, _request: VerifyRequest) -> Result<Verdict, StepError> {
        Ok(match self.course {
            Course::Smooth => Verdict::passed(),
            Course::Worst => Verdict::rejected(self.complaint()),
        })
    }

    async fn record(&self, _request: FinishRequest) -> Result<(), StepError> {
        Ok(())
    }

    async fn approval(&self, _request: ApprovalRequest) -> Result<ApprovalStanding, StepError> {
        Ok(ApprovalStanding::Resolved(Resolution::Approved))
    }

    async fn wait_for_signal(&self, _millis: u64) -> Result<(), StepError> {
        Ok(())
    }

    async fn sleep(&self, _millis: u64) -> Result<(), StepError> {
        Ok(())
    }

    fn steering(&self) -> Steering {
        Steering::default()
    }

    async fn steered(&self, _known: Steering) {
        std::future::pending::<()>().await;
    }

    fn now(&self) -> UnixMicros {
        // The time of a rehearsal stands still, so no deadline cuts it short.
        UnixMicros(0)
    }

    fn group(&self) -> Self {
        self.clone()
    }

    fn cancel(&self, _reason: &str) {}
}

/// Whether the worst course is one: without any limit on its answer a call may take more than is assumed.
pub fn is_limited(world: &World, spec: &PlanSpec, calls: &[RehearsedCall]) -> bool {
    let base = spec.base();
    let limits_itself = base.estimated_output_tokens != limits::ESTIMATED_OUTPUT_TOKENS;
    let catalogue = world.catalogue.load();
    let knows_limit = |call: &RehearsedCall| {
        catalogue.model(&call.deployment).is_some_and(|model| model.max_output_tokens.is_some())
            || (limits_itself && call.role.writes_for_the_caller())
    };
    !base.bounds.is_empty() || calls.iter().all(knows_limit)
}
