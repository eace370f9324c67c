//! Plans whose every step has a reply of its own, so that a call at the provider can be told apart by what it holds.
//!
//! A case is one plan with a tag in its question and in every reply. Cases of the same program differ in the tag alone:
//! what a disturbed one answers must be what an undisturbed one answers, letter by letter.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokenhub_demo::{Finished, Reply, Rule, ScriptedProvider, SeenCall};
use tokio::task::JoinHandle;

use crate::harness::{Answer, TestHub, TestHubBuilder, exchange, model};

mod programs;

pub use programs::{ADVERSARIAL, BEST_OF_THREE, CASCADE, FIVE_VOTERS, FUSE, REFINE, REPAIRED, STRATEGIES, VOTE};

/// What a step takes when nothing is said about it.
pub const STEP_MS: u64 = 50;
/// A first reply that takes this long is not there when the test kills whoever waits for it.
pub const STUCK_MS: u64 = 30_000;
/// A plan that has no answer by then will not have one; the longest outage of a test is a minute.
const ANSWER_LIMIT: Duration = Duration::from_mins(3);
/// Longest wait for a plan to get where a test wants it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The models of every installation, and their weights.
const MODELS: [(&str, u32); 6] = [("alpha", 8), ("beta", 7), ("gamma", 6), ("delta", 5), ("epsilon", 4), ("zeta", 3)];

/// A step of a program, as the provider can recognise it.
#[derive(Debug)]
pub struct Step {
    /// The id in the answer, or what the ids of several calls to the same model begin with.
    pub id: &'static str,
    model: &'static str,
    /// Only a request with this earlier reply is for this step.
    after: Option<&'static str>,
    says: Says,
    /// Calls of an undisturbed run.
    calls: u64,
}

#[derive(Debug)]
enum Says {
    Text(&'static str),
    /// The number of the answer that holds this text.
    VerdictFor(&'static str),
    /// Exactly this.
    Json(&'static str),
}

/// A program and its scripted steps, in the order of the answer.
#[derive(Debug)]
pub struct Program {
    /// For people.
    pub name: &'static str,
    /// The `orchestration` or `strategy` of the body.
    asks: &'static str,
    /// The steps.
    pub steps: &'static [Step],
    /// A place in the answer, and how what is there ends.
    gives: (&'static str, &'static str),
}

impl Program {
    /// Calls of an undisturbed run.
    pub fn calls(&self) -> u64 {
        self.steps.iter().map(|step| step.calls).sum()
    }

    /// The steps whose calls leave together with that of `id`, itself included.
    fn companions_of(&self, id: &str) -> impl Iterator<Item = &Step> {
        let family = id.split('/').next().unwrap_or(id).to_owned();
        let is_parallel = ["ballot", "candidate", "panel"].contains(&family.as_str());
        let id = id.to_owned();
        let belongs = move |step: &&Step| step.id == id || is_parallel && step.id.starts_with(&family);
        self.steps.iter().filter(belongs)
    }

    /// The step that an id in an answer is of.
    fn step_named(&self, id: &str) -> &Step {
        let exact = self.steps.iter().find(|step| step.id == id);
        let family = || self.steps.iter().find(|step| id.starts_with(step.id) && id[step.id.len()..].starts_with('/'));
        exact.or_else(family).unwrap_or_else(|| panic!("{} has no step {id}", self.name))
    }
}

/// An installation with the models that the programs name. Its start deadline is long: a loaded machine must not turn a
/// test of durable runs into one of runs in process.
pub fn installation() -> TestHubBuilder {
    TestHub::builder()
        .models(MODELS.map(|(id, weight)| model(id, weight)).to_vec())
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
        // Nor may it decide who answers.
        .environment("TOKENHUB_LIVE_SIGNALS", "false")
}

/// The same, with a provider that works in the background.
pub fn installation_in_background() -> TestHubBuilder {
    let later = json!({"id": "later", "type": "openai", "protocols": ["responses"], "background": true});
    let at_it = |(id, weight)| {
        let mut model = model(id, weight);
        model["provider_id"] = json!("later");
        model
    };
    installation().upstreams(vec![later]).models(MODELS.map(at_it).to_vec())
}

/// One plan.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its program.
    pub program: &'static Program,
    number: usize,
}

/// An answer, and when it came.
pub struct Ended {
    /// The answer.
    pub answer: Answer,
    /// When its last byte was read.
    pub at: Instant,
}

impl Case {
    /// The case `number` of `program`; numbers are unique within a hub.
    pub fn new(program: &'static Program, number: usize) -> Self {
        Self { program, number }
    }

    /// What tells it from the other cases.
    pub fn number(self) -> usize {
        self.number
    }

    /// The same number of letters for each case: token counts are part of the answer.
    fn tag(self) -> String {
        format!("case-{:05}", self.number)
    }

    /// What its caller asks.
    pub fn question(self) -> String {
        format!("The question of {}.", self.tag())
    }

    /// The request.
    pub fn body(self) -> Value {
        let mut body: Value = serde_json::from_str(self.program.asks).unwrap();
        body["request"] = json!({"messages": [{"role": "user", "content": self.question()}]});
        body
    }

    /// The number of the case that a call is of.
    pub fn number_of(call: &SeenCall) -> Option<usize> {
        let text = call.body.to_string();
        let (_, behind) = text.split_once("The question of case-")?;
        behind.get(..5)?.parse().ok()
    }

    /// Scripts every step; `delays` says how long the replies of a step take, one after the other.
    pub fn script(self, hub: &TestHub, delays: impl FnMut(&str) -> Vec<u64>) {
        self.script_at(&hub.provider, delays);
    }

    /// The same, for whoever has the provider alone.
    pub fn script_at(self, provider: &ScriptedProvider, mut delays: impl FnMut(&str) -> Vec<u64>) {
        // The rule added last is asked first, and the later steps hold the marks of the earlier ones.
        for step in self.program.steps {
            let reply = match step.says {
                Says::Text(text) => Reply::text(format!("{}: {text}", self.tag())),
                Says::VerdictFor(text) => Reply::judge_by(format!("{}: {text}", self.tag())),
                Says::Json(text) => Reply::text(text),
            };
            let replies = delays(step.id).into_iter().map(|delay_ms| reply.clone().delay_ms(delay_ms));
            let mark = step.after.map_or_else(|| self.question(), |after| format!("{}: {after}", self.tag()));
            provider.script(Rule::model(step.model, replies).containing(mark));
        }
    }

    /// Scripts every step to take [`STEP_MS`], and the first reply of those in `stuck` not to come in time.
    pub fn script_stuck(self, hub: &TestHub, stuck: &[&str]) {
        self.script(hub, |step| if stuck.contains(&step) { vec![STUCK_MS, STEP_MS] } else { vec![STEP_MS] });
    }

    /// Asks in the background, at the API of that index.
    pub fn ask_at(
        self,
        hub: &TestHub,
        api: usize,
        headers: &[(&str, &str)],
    ) -> JoinHandle<Result<Ended, reqwest::Error>> {
        let mut request = hub.request_to(api, reqwest::Method::POST, "/v1/plan").json(&self.body());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        tokio::spawn(async move {
            let answer = tokio::time::timeout(ANSWER_LIMIT, exchange(request)).await.expect("an answer in time")?;
            Ok(Ended { answer, at: Instant::now() })
        })
    }

    /// Asks in the background.
    pub fn ask(self, hub: &TestHub) -> JoinHandle<Result<Ended, reqwest::Error>> {
        self.ask_at(hub, 0, &[])
    }

    /// Runs the case without any disturbance and asserts that every step was called once.
    pub async fn undisturbed(self, hub: &TestHub) -> Value {
        self.script_stuck(hub, &[]);
        let answer = self.ask(hub).await.unwrap().unwrap().answer.expect(200);
        self.assert_calls(hub, &answer, &[]);
        assert_eq!(answer.body["durable"], true, "{}", answer.text);
        let (place, expected) = self.program.gives;
        let given =
            answer.body.pointer(place).map(|given| given.as_str().map_or_else(|| given.to_string(), str::to_owned));
        assert!(given.is_some_and(|given| given.ends_with(expected)), "{place} in {}", answer.text);
        self.comparable(&answer)
    }

    /// This case's calls, with their steps.
    pub fn calls(self, hub: &TestHub) -> Vec<(&'static str, SeenCall)> {
        let calls = hub.provider.calls().into_iter();
        calls.filter_map(|call| Some((self.step_of(&call)?, call))).collect()
    }

    fn step_of(self, call: &SeenCall) -> Option<&'static str> {
        let text = call.body.to_string();
        if !text.contains(&self.question()) {
            return None;
        }
        let holds = |after: &str| text.contains(&format!("{}: {after}", self.tag()));
        let mut steps = self.program.steps.iter().rev();
        let step = steps.find(|step| step.model == call.model && step.after.is_none_or(holds));
        Some(step.unwrap_or_else(|| panic!("a call that is no step of {}: {text}", self.tag())).id)
    }

    /// How many calls each step had.
    pub fn counts(self, hub: &TestHub) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for (step, _) in self.calls(hub) {
            *counts.entry(step).or_default() += 1;
        }
        counts
    }

    /// Asserts at the provider and in the answer that each step was called as often as undisturbed, and those in
    /// `repeated` once more.
    #[track_caller]
    pub fn assert_calls(self, hub: &TestHub, answer: &Answer, repeated: &[&str]) {
        let again = |step: &Step| u64::from(repeated.contains(&step.id));
        let expected: BTreeMap<&str, u64> =
            self.program.steps.iter().map(|step| (step.id, step.calls + again(step))).collect();
        assert_eq!(self.counts(hub), expected, "calls of {} {}", self.program.name, self.tag());
        let steps = answer.body["steps"].as_array().unwrap_or_else(|| panic!("no steps: {}", answer.text));
        let mut listed: BTreeMap<&str, u64> = BTreeMap::new();
        for step in steps {
            let id = step["id"].as_str().unwrap();
            *listed.entry(self.program.step_named(id).id).or_default() += 1 + step["duplicate_calls"].as_u64().unwrap();
            assert_eq!(step["attempts"], 1, "a crash is not a try: {id} in {}", answer.text);
        }
        assert_eq!(listed, expected, "{}", answer.text);
        assert_eq!(answer.body["usage"]["duplicate_calls"], repeated.len(), "{}", answer.text);
        assert_eq!(answer.body["usage"]["calls"], self.program.calls(), "{}", answer.text);
    }

    /// The answer object without what differs between two runs of the same program.
    #[track_caller]
    pub fn comparable(self, answer: &Answer) -> Value {
        let mut object: Value = serde_json::from_str(&answer.text.replace(&self.tag(), "case-xxxxx")).unwrap();
        let fields = object.as_object_mut().unwrap();
        assert!(fields.remove("id").is_some() && fields.remove("links").is_some(), "{}", answer.text);
        // Who meets whom depends on the run's own order; who wins does not.
        if let Some(response) = fields["response"].as_object_mut() {
            response.remove("matches");
            response.remove("order_flips");
        }
        fields.remove("judge_report");
        let usage = fields["usage"].as_object_mut().unwrap();
        let are_told = ["duplicate_calls", "wasted_tokens"].map(|member| usage.remove(member).is_some());
        assert_eq!(are_told, [true; 2], "{}", answer.text);
        for step in fields["steps"].as_array_mut().unwrap() {
            let step = step.as_object_mut().unwrap();
            step.remove("wasted_tokens");
            assert!(step.remove("latency_ms").is_some() && step.remove("duplicate_calls").is_some(), "{}", answer.text);
        }
        object
    }

    /// Waits until the provider works on each of `steps`, and has seen every call that is made together with it.
    pub async fn wait_until_in_flight(self, hub: &TestHub, steps: &[&str]) {
        let reached = hub.provider.wait_until(PATIENCE, |_| {
            let calls = self.calls(hub);
            let in_flight =
                |step: &&str| calls.iter().any(|(called, call)| called == step && call.finished == Finished::Pending);
            let seen = |step: &Step| calls.iter().filter(|(called, _)| *called == step.id).count() as u64;
            // Both orders of a pair are judged at the same time.
            let has_company = |step: &&str| self.program.companions_of(step).all(|it| seen(it) >= it.calls.min(2));
            steps.iter().all(in_flight) && steps.iter().all(has_company)
        });
        assert!(reached.await, "{} {}: {steps:?} not called within {PATIENCE:?}", self.program.name, self.tag());
    }
}
