//! Plans whose every step has a reply of its own, so that a call at the provider can be told apart by what it holds.
//!
//! A case is one plan with a tag in its question and in every reply. Cases of the same program differ in the tag alone:
//! what a disturbed one answers must be what an undisturbed one answers, letter by letter.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokenhub_demo::{Finished, Reply, Rule, SeenCall};
use tokio::task::JoinHandle;

use crate::harness::{Answer, TestHub, TestHubBuilder, exchange, model};

/// What a step takes when nothing is said about it.
pub const STEP_MS: u64 = 50;
/// A first reply that takes this long is not there when the test kills whoever waits for it.
pub const STUCK_MS: u64 = 30_000;
/// A plan that has no answer by then will not have one.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
/// Longest wait for a plan to get where a test wants it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A step of a program, as the provider can recognise it.
#[derive(Debug)]
pub struct Step {
    /// The id in the answer.
    pub id: &'static str,
    model: &'static str,
    /// Only a request with this earlier reply is for this step.
    after: Option<&'static str>,
    says: Says,
}

#[derive(Debug)]
enum Says {
    Text(&'static str),
    /// The number of the answer that holds this text.
    VerdictFor(&'static str),
}

/// A program and its scripted steps, in the order of the answer.
#[derive(Debug)]
pub struct Program {
    /// For people.
    pub name: &'static str,
    orchestration: &'static str,
    /// The steps.
    pub steps: &'static [Step],
}

const fn step(id: &'static str, model: &'static str, after: Option<&'static str>, says: &'static str) -> Step {
    Step { id, model, after, says: Says::Text(says) }
}

/// Three voters and a judge who never votes.
pub static VOTE: Program = Program {
    name: "vote",
    orchestration: r#"{"mode": "vote", "voters": 3, "review_model_id": "delta"}"#,
    steps: &[
        step("ballot/1", "alpha", None, "it is red"),
        step("ballot/2", "beta", None, "it is blue"),
        step("ballot/3", "gamma", None, "it is green"),
        Step { id: "judge", model: "delta", after: None, says: Says::VerdictFor("it is blue") },
    ],
};

/// A plan and two rounds of critique and revision.
pub static ADVERSARIAL: Program = Program {
    name: "adversarial",
    orchestration: r#"{"mode": "adversarial", "iterations": 2, "primary_model_id": "alpha", "review_model_id": "beta"}"#,
    steps: &[
        step("plan", "alpha", None, "plan zero"),
        step("critique/1", "beta", Some("plan zero"), "critique one"),
        step("revision/1", "alpha", Some("critique one"), "plan one"),
        step("critique/2", "beta", Some("plan one"), "critique two"),
        step("revision/2", "alpha", Some("critique two"), "plan two"),
    ],
};

/// An answer and two improvements.
pub static REFINE: Program = Program {
    name: "refine",
    orchestration: r#"{"mode": "refine", "iterations": 2, "primary_model_id": "gamma"}"#,
    steps: &[
        step("answer", "gamma", None, "draft zero"),
        step("improvement/1", "gamma", Some("draft zero"), "draft one"),
        step("improvement/2", "gamma", Some("draft one"), "draft two"),
    ],
};

/// An answer that misses its schema, and its repair.
pub static REPAIRED: Program = Program {
    name: "repaired",
    orchestration: r#"{"primary_model_id": "gamma", "output_schema": {"type": "object", "required": ["color"]}}"#,
    steps: &[
        step("answer", "gamma", None, "it is blue"),
        step("answer/repair", "gamma", Some("it is blue"), r#"{"color": "blue"}"#),
    ],
};

/// An installation with the models that the programs name. Its start deadline is long: a loaded machine must not turn a
/// test of durable runs into one of runs in process.
pub fn installation() -> TestHubBuilder {
    let models = [("alpha", 8), ("beta", 7), ("gamma", 6), ("delta", 5)];
    TestHub::builder()
        .models(models.map(|(id, weight)| model(id, weight)).to_vec())
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
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

    /// The same number of letters for each case: token counts are part of the answer.
    fn tag(self) -> String {
        format!("case-{:03}", self.number)
    }

    fn question(self) -> String {
        format!("The question of {}.", self.tag())
    }

    /// The request.
    pub fn body(self) -> Value {
        let orchestration: Value = serde_json::from_str(self.program.orchestration).unwrap();
        json!({"request": {"messages": [{"role": "user", "content": self.question()}]}, "orchestration": orchestration})
    }

    /// Scripts every step; `delays` says how long the replies of a step take, one after the other.
    pub fn script(self, hub: &TestHub, delays: impl Fn(&str) -> Vec<u64>) {
        // The rule added last is asked first, and the later steps hold the marks of the earlier ones.
        for step in self.program.steps {
            let reply = match step.says {
                Says::Text(text) => Reply::text(format!("{}: {text}", self.tag())),
                Says::VerdictFor(text) => Reply::judge_by(format!("{}: {text}", self.tag())),
            };
            let replies = delays(step.id).into_iter().map(|delay_ms| reply.clone().delay_ms(delay_ms));
            let mark = step.after.map_or_else(|| self.question(), |after| format!("{}: {after}", self.tag()));
            hub.provider.script(Rule::model(step.model, replies).containing(mark));
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

    /// Asserts at the provider and in the answer that each step was called once and those in `repeated` twice.
    #[track_caller]
    pub fn assert_calls(self, hub: &TestHub, answer: &Answer, repeated: &[&str]) {
        let expected: BTreeMap<&str, u64> =
            self.program.steps.iter().map(|step| (step.id, if repeated.contains(&step.id) { 2 } else { 1 })).collect();
        assert_eq!(self.counts(hub), expected, "calls of {} {}", self.program.name, self.tag());
        let steps = answer.body["steps"].as_array().unwrap_or_else(|| panic!("no steps: {}", answer.text));
        for step in steps {
            let id = step["id"].as_str().unwrap();
            assert_eq!(step["duplicate_calls"].as_u64(), Some(expected[id] - 1), "{id} in {}", answer.text);
            assert_eq!(step["attempts"], 1, "a crash is not a try: {id} in {}", answer.text);
        }
        assert_eq!(answer.body["usage"]["duplicate_calls"], repeated.len(), "{}", answer.text);
        assert_eq!(answer.body["usage"]["calls"], expected.len(), "{}", answer.text);
    }

    /// The answer object without what differs between two runs of the same program.
    #[track_caller]
    pub fn comparable(self, answer: &Answer) -> Value {
        let mut object: Value = serde_json::from_str(&answer.text.replace(&self.tag(), "case-xxx")).unwrap();
        let fields = object.as_object_mut().unwrap();
        assert!(fields.remove("id").is_some() && fields.remove("links").is_some(), "{}", answer.text);
        let usage = fields["usage"].as_object_mut().unwrap();
        assert!(usage.remove("duplicate_calls").is_some(), "{}", answer.text);
        for step in fields["steps"].as_array_mut().unwrap() {
            let step = step.as_object_mut().unwrap();
            assert!(step.remove("latency_ms").is_some() && step.remove("duplicate_calls").is_some(), "{}", answer.text);
        }
        object
    }

    /// Waits until the provider works on each of `steps`.
    pub async fn wait_until_in_flight(self, hub: &TestHub, steps: &[&str]) {
        let reached = hub.provider.wait_until(PATIENCE, |_| {
            let calls = self.calls(hub);
            let in_flight =
                |step: &&str| calls.iter().any(|(called, call)| called == step && call.finished == Finished::Pending);
            steps.iter().all(in_flight)
        });
        assert!(reached.await, "{} {}: {steps:?} not called within {PATIENCE:?}", self.program.name, self.tag());
    }
}
