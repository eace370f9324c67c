//! The body of `POST /v1/plan`: the shared request object and the `orchestration` that says what to do with it.

use serde_json::{Map, Value};
use tokenhub_domain::{
    ApprovalWish, CascadeCheck, Deltas, Labels, OutsideCheck, RankMethod, StopRule, VoteMethod, Webhook, limits,
};

use super::{
    Ask, Fields, RunBounds, approval, capabilities, chat, model_name,
    strategy::{self, STRATEGY, Strategy},
    tags, webhook,
};
use crate::{durability::Delivery, error::Problem, validation::Validation};

/// Where an author may be named; errors name the one that was used.
pub(crate) const PRIMARY: &str = "orchestration.primary_model_id";
/// Where a critic or judge may be named.
pub(crate) const REVIEW: &str = "orchestration.review_model_id";
/// Where a plan may name its schema.
const SCHEMA: &str = "orchestration.output_schema";
/// Where any request may name a model.
pub(crate) const HINT: &str = "request.model_hint";

/// Where a plan asks for answers while they are written.
pub(crate) const DELTAS: &str = "deltas";
/// Longest wait for a plan that is read back; proxies cut longer ones.
pub(crate) const WAIT_MS_MAX: u64 = 60_000;
const KNOWN: [&str; 13] = [
    "mode",
    "iterations",
    "voters",
    "method",
    "primary_model_id",
    "review_model_id",
    "primary_min_weight",
    "review_min_weight",
    "return_plan_only",
    "judge_votes",
    "parallelism",
    "stop",
    "output_schema",
];
/// A vote of one decides nothing; so few iterations mean that none were asked for.
pub(super) const VOTERS_MIN: u32 = 2;

/// A model that the caller named, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// The field.
    pub(crate) param: &'static str,
    /// The model.
    pub(crate) model: String,
}

/// What to do with the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// One call.
    Chat {
        /// Whether the planning profile ranks the models.
        profile: ChatProfile,
    },
    /// Plan, critique, revision.
    Adversarial {
        /// Critiques and revisions.
        rounds: u32,
        /// Whether to stop after the first plan.
        return_plan_only: bool,
    },
    /// Several answers, one chosen.
    Vote {
        /// Answers wished for.
        voters: u32,
        /// How to choose.
        method: VoteMethod,
        /// Whether the judge may stand.
        judge_votes: bool,
        /// Voters that are asked at the same time.
        parallelism: Option<u32>,
        /// When enough have answered.
        stop: StopRule,
        /// So many must have answered.
        min_success: Option<u32>,
        /// How long the others are waited for then.
        grace_ms: Option<u64>,
    },
    /// One answer, improved.
    Refine {
        /// Improvements.
        rounds: u32,
    },
    /// Several candidates, scored.
    BestOfN {
        /// Candidates.
        candidates: u32,
        /// How the best one is found.
        method: RankMethod,
        /// Candidates that are asked at the same time.
        parallelism: Option<u32>,
    },
    /// Cheap models first, until an answer is accepted.
    Cascade {
        /// Models to ask at most where none are named.
        stages: u32,
        /// What accepts an answer.
        check: CascadeCheck,
    },
    /// Several answers made into one; the author is the writer.
    Fuse {
        /// Answers wished for.
        panel: u32,
        /// Answers without which there is no fusion.
        min_success: u32,
        /// How long the others are waited for when they are there.
        grace_ms: Option<u64>,
    },
}

/// How the model of a single call is ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChatProfile {
    /// As the policy says.
    Policy,
    /// As a planner, unless the policy says something.
    Planning,
}

/// When the caller wants to hear of its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hearing {
    /// When it has ended.
    AtTheEnd,
    /// After so many milliseconds at the latest; the rest it reads back.
    Within(u64),
    /// While it runs, event by event.
    Streaming,
}

/// A plan request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlanRequest {
    /// What to do.
    pub(crate) program: Program,
    /// When to answer.
    pub(crate) hearing: Hearing,
    /// Whether its events show answers while they are written.
    pub(crate) deltas: Deltas,
    /// The request itself.
    pub(crate) ask: Ask,
    /// Planner, author or refiner.
    pub(crate) primary: Option<Named>,
    /// Critic or judge.
    pub(crate) review: Option<Named>,
    /// Each of the authors, or stages.
    pub(crate) models: Vec<Named>,
    /// What accepts an answer from outside.
    pub(crate) check: Option<OutsideCheck>,
    /// Smallest weight of the author or of the voters.
    pub(crate) primary_min_weight: u32,
    /// Smallest weight of critic or judge.
    pub(crate) review_min_weight: u32,
    /// Limits on the whole run.
    pub(crate) bounds: RunBounds,
    /// Whether somebody decides about its answer.
    pub(crate) approval: Option<ApprovalWish>,
    /// Who is told of its end.
    pub(crate) webhook: Option<Webhook>,
    /// What its caller finds it by. A template is not named here: the body was completed by it.
    pub(crate) labels: Labels,
}

/// Reads the body of `POST /v1/plan`, completed by its template.
pub(crate) fn parse(body: &Map<String, Value>, validation: Validation) -> Result<PlanRequest, Problem> {
    let orchestration = Fields::of(body, "orchestration")?;
    orchestration.only(&KNOWN)?;
    let strategy = strategy::of(body)?;
    // Clients of the older form send capabilities that nobody has ever read.
    let (fields, schema, needs) = match &strategy {
        Some(_) => (Fields::of(body, STRATEGY)?, strategy::SCHEMA, capabilities::parse(body)?),
        None => (orchestration, SCHEMA, Vec::new()),
    };
    let native = chat::of_object(body, validation, |output| output.with_schema(fields.get("output_schema"), schema))?;
    if native.delivery == Delivery::Stream {
        return Err(Problem::UnsupportedField { param: chat::STREAM.to_owned() });
    }
    let chosen = match strategy {
        None => flat(orchestration, native.program)?,
        Some(_) if native.program.is_some() => {
            return Err(Problem::invalid(STRATEGY, "cannot be combined with a directive that names a mode"));
        }
        Some(strategy) => strategy,
    };
    let needs_schema = matches!(chosen.program, Program::Cascade { check: CascadeCheck::Schema, .. })
        || chosen.check == Some(OutsideCheck::Schema);
    if needs_schema && native.ask.output.schema.is_none() {
        return Err(Problem::invalid("strategy.check", "`schema` needs `output_schema`"));
    }
    let hint = native.model.map(|model| Named { param: HINT, model });
    let mut ask = native.ask;
    let known = &mut ask.demands.needs;
    for need in needs {
        if !known.contains(&need) {
            known.push(need);
        }
    }
    ask.policy.hedge_after_ms = chosen.hedge_after_ms.or(ask.policy.hedge_after_ms);
    if let Some(OutsideCheck::Regex { pattern }) = &chosen.check {
        ask.output.pattern = Some(pattern.clone());
    }
    let (bounds, deltas) = (RunBounds::of(body)?, deltas(body)?.unwrap_or_default());
    bounds.check(deltas)?;
    Ok(PlanRequest {
        program: chosen.program,
        hearing: hearing(body)?,
        deltas,
        ask,
        primary: chosen.primary.or(hint),
        review: chosen.review,
        models: chosen.models,
        check: chosen.check,
        primary_min_weight: chosen.primary_min_weight,
        review_min_weight: chosen.review_min_weight,
        bounds,
        approval: approval::parse(body)?,
        webhook: webhook::parse(body)?,
        labels: Labels { tags: tags::parse(body)?, template: None },
    })
}

/// The flat form; a directive wins over its mode, as it does over the policy.
fn flat(orchestration: Fields<'_>, directive: Option<tokenhub_formats::Program>) -> Result<Strategy, Problem> {
    let mode = directive.map_or_else(|| orchestration.text("mode"), |program| Ok(program.as_str()))?;
    let primary = model_name(orchestration.get("primary_model_id"), PRIMARY)?;
    let review = model_name(orchestration.get("review_model_id"), REVIEW)?;
    Ok(Strategy {
        program: program(orchestration, mode)?,
        primary: primary.map(|model| Named { param: PRIMARY, model }),
        review: review.map(|model| Named { param: REVIEW, model }),
        primary_min_weight: orchestration.small("primary_min_weight", limits::WEIGHT_MAX)?,
        review_min_weight: orchestration.small("review_min_weight", limits::WEIGHT_MAX)?,
        hedge_after_ms: None,
        models: Vec::new(),
        check: None,
    })
}

/// What `deltas` says, where it says something.
pub(crate) fn deltas(body: &Map<String, Value>) -> Result<Option<Deltas>, Problem> {
    let top = Fields::top(body);
    let are_shown = top.flag(DELTAS)?;
    Ok(top.get(DELTAS).map(|_| if are_shown { Deltas::Shown } else { Deltas::None }))
}

/// `stream`, or `background`, and `wait_ms` with it or alone.
pub(crate) fn hearing(body: &Map<String, Value>) -> Result<Hearing, Problem> {
    let top = Fields::top(body);
    let (background, stream) = (top.flag("background")?, top.flag("stream")?);
    let wait_ms = match body.get("wait_ms") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let rule = || Problem::invalid("wait_ms", format!("must be a whole number from 0 to {WAIT_MS_MAX}"));
            Some(value.as_u64().filter(|millis| *millis <= WAIT_MS_MAX).ok_or_else(rule)?)
        }
    };
    if stream {
        return match (background, wait_ms) {
            (false, None) => Ok(Hearing::Streaming),
            (true, _) | (_, Some(_)) => {
                Err(Problem::invalid("stream", "cannot be combined with background or wait_ms"))
            }
        };
    }
    Ok(match (background, wait_ms) {
        (false, None) => Hearing::AtTheEnd,
        (true, None) => Hearing::Within(0),
        (_, Some(wait_ms)) => Hearing::Within(wait_ms),
    })
}

fn program(orchestration: Fields<'_>, mode: &str) -> Result<Program, Problem> {
    let method = method(orchestration)?;
    let judge_votes = orchestration.flag("judge_votes")?;
    let return_plan_only = orchestration.flag("return_plan_only")?;
    match mode {
        "" => checked(orchestration, Program::Chat { profile: ChatProfile::Policy }),
        "planning" => checked(orchestration, Program::Chat { profile: ChatProfile::Planning }),
        "adversarial" => {
            let rounds = rounds(orchestration, limits::ADVERSARIAL_ROUNDS_DEFAULT)?;
            checked(orchestration, Program::Adversarial { rounds, return_plan_only })
        }
        "refine" => {
            let rounds = rounds(orchestration, limits::REFINE_ROUNDS_DEFAULT)?;
            checked(orchestration, Program::Refine { rounds })
        }
        "vote" => {
            let (parallelism, stop) = fanout(orchestration, method)?;
            let voters = voters(orchestration)?;
            Ok(Program::Vote { voters, method, judge_votes, parallelism, stop, min_success: None, grace_ms: None })
        }
        "best_of_n" => {
            let candidates = voters(orchestration)?;
            Ok(Program::BestOfN { candidates, method: RankMethod::Scored, parallelism: None })
        }
        _ => Err(Problem::invalid(
            "orchestration.mode",
            "must be empty, planning, adversarial, vote, refine or best_of_n",
        )),
    }
}

/// Fields that this program does not use are still checked for their range.
fn checked(orchestration: Fields<'_>, program: Program) -> Result<Program, Problem> {
    rounds(orchestration, 0)?;
    orchestration.small("voters", limits::VOTERS_MAX)?;
    Ok(program)
}

fn method(orchestration: Fields<'_>) -> Result<VoteMethod, Problem> {
    match orchestration.text("method")? {
        "" | "judge" => Ok(VoteMethod::Judge),
        "majority" => Ok(VoteMethod::Majority),
        _ => Err(Problem::invalid("orchestration.method", "must be judge or majority")),
    }
}

/// A judge reads every answer, so only a majority can be decided early.
fn fanout(orchestration: Fields<'_>, method: VoteMethod) -> Result<(Option<u32>, StopRule), Problem> {
    let parallelism = Some(orchestration.small("parallelism", limits::VOTERS_MAX)?).filter(|width| *width > 0);
    let stop = match orchestration.text("stop")? {
        "" | "all" => StopRule::All,
        "decided" if method == VoteMethod::Majority => StopRule::Decided,
        "decided" => return Err(Problem::invalid("orchestration.stop", "`decided` needs the method majority")),
        _ => return Err(Problem::invalid("orchestration.stop", "must be all or decided")),
    };
    Ok((parallelism, stop))
}

fn rounds(orchestration: Fields<'_>, default: u32) -> Result<u32, Problem> {
    Ok(match orchestration.small("iterations", limits::ROUNDS_MAX)? {
        0 => default,
        rounds => rounds,
    })
}

fn voters(orchestration: Fields<'_>) -> Result<u32, Problem> {
    let named = orchestration.small("voters", limits::VOTERS_MAX)?;
    let iterations = orchestration.small("iterations", limits::VOTERS_MAX)?;
    Ok(match (named, iterations) {
        (0, iterations) if iterations >= VOTERS_MIN => iterations,
        (0, _) => limits::VOTERS_DEFAULT,
        (1, _) => return Err(Problem::invalid("orchestration.voters", "must be at least 2")),
        (named, _) => named,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(bytes: &[u8], validation: Validation) -> Result<PlanRequest, Problem> {
        super::parse(&crate::parse::object(bytes)?, validation)
    }

    fn of(orchestration: &Value) -> Result<PlanRequest, Problem> {
        let body =
            json!({"request": {"messages": [{"role": "user", "content": "hi"}]}, "orchestration": orchestration});
        parse(body.to_string().as_bytes(), Validation::Unsaid)
    }

    fn program_of(orchestration: &Value) -> Program {
        of(orchestration).unwrap().program
    }

    fn refused_param(orchestration: &Value) -> String {
        of(orchestration).unwrap_err().report(crate::error::Shape::Problem).param.unwrap()
    }

    #[test]
    fn each_mode_has_its_program_and_its_default_size() {
        assert_eq!(program_of(&json!({})), Program::Chat { profile: ChatProfile::Policy });
        assert_eq!(program_of(&json!({"mode": "planning"})), Program::Chat { profile: ChatProfile::Planning });
        assert_eq!(
            program_of(&json!({"mode": "adversarial"})),
            Program::Adversarial { rounds: 1, return_plan_only: false }
        );
        assert_eq!(program_of(&json!({"mode": "refine", "iterations": 0})), Program::Refine { rounds: 2 });
        assert_eq!(
            program_of(&json!({"mode": "vote", "iterations": 1})),
            Program::Vote {
                voters: 3,
                method: VoteMethod::Judge,
                judge_votes: false,
                parallelism: None,
                stop: StopRule::All,
                min_success: None,
                grace_ms: None,
            }
        );
        assert_eq!(
            program_of(&json!({"mode": "best_of_n", "voters": 16})),
            Program::BestOfN { candidates: 16, method: RankMethod::Scored, parallelism: None }
        );
        assert_eq!(
            program_of(&json!({"mode": "vote", "iterations": 16, "method": "majority", "judge_votes": true})),
            Program::Vote {
                voters: 16,
                method: VoteMethod::Majority,
                judge_votes: true,
                parallelism: None,
                stop: StopRule::All,
                min_success: None,
                grace_ms: None,
            }
        );
    }

    #[test]
    fn a_directive_chooses_the_program_and_the_fields_its_size() {
        let content = "hi\n@@tokenhub mode=refine budget=1";
        let body = json!({"request": {"messages": [{"role": "user", "content": content}]},
            "orchestration": {"mode": "vote", "iterations": 4}});
        let plan = parse(body.to_string().as_bytes(), Validation::Unsaid).unwrap();
        assert_eq!(plan.program, Program::Refine { rounds: 4 });
        assert!(!plan.ask.original.contains("@@tokenhub"));
    }

    #[test]
    fn numbers_out_of_range_and_unknown_words_are_refused_by_name() {
        assert_eq!(refused_param(&json!({"mode": "debate"})), "orchestration.mode");
        assert_eq!(refused_param(&json!({"mode": "refine", "iterations": 11})), "orchestration.iterations");
        assert_eq!(refused_param(&json!({"mode": "vote", "iterations": 17})), "orchestration.iterations");
        assert_eq!(refused_param(&json!({"mode": "vote", "iterations": -1})), "orchestration.iterations");
        assert_eq!(refused_param(&json!({"mode": "vote", "voters": 17})), "orchestration.voters");
        assert_eq!(refused_param(&json!({"mode": "vote", "voters": 1})), "orchestration.voters");
        assert_eq!(refused_param(&json!({"mode": "vote", "method": "dice"})), "orchestration.method");
        assert_eq!(refused_param(&json!({"review_min_weight": 11})), "orchestration.review_min_weight");
        assert_eq!(refused_param(&json!({"iterationz": 2})), "orchestration.iterationz");
        assert_eq!(refused_param(&json!({"output_schema": "{\"type\":\"objekt\"}"})), "orchestration.output_schema");
        assert!(of(&json!({"output_schema": "{\"type\":\"object\"}"})).unwrap().ask.output.schema.is_some());
        assert!(of(&json!({"output_schema": ""})).is_ok());
    }

    #[test]
    fn deltas_are_shown_where_they_are_asked_for_in_either_form() {
        let of = |more: Value| {
            let mut body = json!({"request": {"messages": [{}]}});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let parsed = parse(body.to_string().as_bytes(), Validation::Unsaid);
            parsed
                .map(|plan| plan.deltas)
                .map_err(|problem| problem.report(crate::error::Shape::Problem).param.unwrap())
        };
        assert_eq!(of(json!({})), Ok(Deltas::None));
        assert_eq!(of(json!({"deltas": null, "strategy": {"type": "single"}})), Ok(Deltas::None));
        assert_eq!(of(json!({"deltas": true, "strategy": {"type": "single"}})), Ok(Deltas::Shown));
        assert_eq!(of(json!({"deltas": true, "stream": true, "orchestration": {"mode": "vote"}})), Ok(Deltas::Shown));
        for wrong in [json!("yes"), json!(1), json!([])] {
            assert_eq!(of(json!({"deltas": wrong, "strategy": {"type": "single"}})), Err("deltas".to_owned()));
        }
    }

    #[test]
    fn a_plan_is_heard_of_in_one_way_only() {
        let heard = |more: Value| {
            let mut body = json!({"request": {"messages": [{}]}});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let parsed = parse(body.to_string().as_bytes(), Validation::Unsaid);
            parsed
                .map(|plan| plan.hearing)
                .map_err(|problem| problem.report(crate::error::Shape::Problem).param.unwrap_or_default())
        };
        assert_eq!(heard(json!({"stream": false})), Ok(Hearing::AtTheEnd));
        assert_eq!(heard(json!({"stream": true, "background": false})), Ok(Hearing::Streaming));
        assert_eq!(heard(json!({"background": true})), Ok(Hearing::Within(0)));
        for more in
            [json!({"stream": 1}), json!({"stream": true, "background": true}), json!({"stream": true, "wait_ms": 5})]
        {
            assert_eq!(heard(more), Err("stream".to_owned()));
        }
    }

    #[test]
    fn a_named_author_wins_over_the_hint_and_each_knows_its_field() {
        let body = json!({"request": {"messages": [{}], "model_hint": "hinted"}, "orchestration": {"mode": "refine"}});
        let plan = parse(body.to_string().as_bytes(), Validation::Unsaid).unwrap();
        assert_eq!(plan.primary, Some(Named { param: HINT, model: "hinted".into() }));
        let plan = of(&json!({"mode": "refine", "primary_model_id": "a", "review_model_id": "b"})).unwrap();
        assert_eq!(plan.primary, Some(Named { param: PRIMARY, model: "a".into() }));
        assert_eq!(plan.review, Some(Named { param: REVIEW, model: "b".into() }));
    }
}
