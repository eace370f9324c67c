//! The `strategy` of a plan: what is to be done, as one typed object, whose fields are those of its type and no others.
//!
//! The older `orchestration` says the same in one flat object for all modes and is read in [`super::plan`].

use serde_json::{Map, Value};
use tokenhub_domain::{CascadeCheck, OutsideCheck, RankMethod, StopRule, VoteMethod, limits};

use super::{
    Fields, check, model_name,
    plan::{ChatProfile, DELTAS, Named, Program, VOTERS_MIN},
};
use crate::error::Problem;

/// The field of the body.
pub(crate) const STRATEGY: &str = "strategy";
/// Where a strategy may name its author.
const MODEL: &str = "strategy.model";
const JUDGE_MODEL: &str = "strategy.judge_model";
const CRITIC_MODEL: &str = "strategy.critic_model";
const WRITER_MODEL: &str = "strategy.writer_model";
const MODELS: &str = "strategy.models";
/// Where a strategy may name the schema of its answer.
pub(super) const SCHEMA: &str = "strategy.output_schema";

/// What may stand beside a strategy. A misspelt bound that is left out would be no bound.
const BESIDE: [&str; 14] = [
    STRATEGY,
    "orchestration",
    "request",
    "policy",
    "output_format",
    "bounds",
    "background",
    "wait_ms",
    "stream",
    DELTAS,
    "webhook",
    "approval",
    "tags",
    "capabilities",
];
/// What its `request` may have.
const REQUEST: [&str; 8] =
    ["id", "messages", "parameters", "model_hint", "output_schema", "estimated_input_tokens", "meta", "stream"];

/// What may stand in a vote, a best-of-n and a fusion.
const VOTE: [&str; 11] = [
    "voters",
    "models",
    "method",
    "judge_model",
    "judge_votes",
    "judge_min_weight",
    "parallelism",
    "stop",
    "check",
    "min_success",
    "grace_ms",
];
const BEST_OF_N: [&str; 9] =
    ["model", "models", "candidates", "method", "judge_model", "judge_min_weight", "parallelism", "stop", "check"];
const FUSE: [&str; 7] =
    ["panel", "models", "min_success", "grace_ms", "writer_model", "judge_model", "judge_min_weight"];

const TYPES: &str = "must be single, hedge, vote, best_of_n, adversarial, refine, cascade or fuse";
const STOP_RULE: &str = r#"must be all, decided, first_pass, {"posterior": 0.95} or {"margin": 2}"#;
/// A posterior below one half is a leader's by definition; certainty is never reached.
const POSTERIOR: std::ops::RangeInclusive<f64> = 0.5..=0.9999;

/// A strategy.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Strategy {
    pub(super) program: Program,
    pub(super) primary: Option<Named>,
    pub(super) review: Option<Named>,
    /// Each of the authors, or stages.
    pub(super) models: Vec<Named>,
    /// What accepts an answer from outside.
    pub(super) check: Option<OutsideCheck>,
    pub(super) primary_min_weight: u32,
    pub(super) review_min_weight: u32,
    /// When the next deployment is asked as well.
    pub(super) hedge_after_ms: Option<u64>,
}

/// The strategy in `body`, if there is one. The older form lets pass what it does not know, as its clients expect; what
/// surrounds a strategy is as strict as the strategy.
pub(super) fn of(body: &Map<String, Value>) -> Result<Option<Strategy>, Problem> {
    if body.get(STRATEGY).is_none_or(Value::is_null) {
        return Ok(None);
    }
    if body.get("orchestration").is_some_and(|other| !other.is_null()) {
        return Err(Problem::invalid(STRATEGY, "cannot be combined with `orchestration`, which says the same"));
    }
    if let Some(unknown) = body.keys().find(|name| !BESIDE.contains(&name.as_str())) {
        return Err(Problem::UnknownField { param: unknown.clone() });
    }
    Fields::of(body, "request")?.only(&REQUEST)?;
    let fields = Fields::of(body, STRATEGY)?;
    let kind = fields.text("type")?;
    let known: &[&str] = match kind {
        "single" => &["model", "profile"],
        "hedge" => &["model", "after_ms"],
        "vote" => &VOTE,
        "best_of_n" => &BEST_OF_N,
        "adversarial" => &["model", "rounds", "critic_model", "critic_min_weight", "plan_only", "check"],
        "refine" => &["model", "rounds", "check"],
        "cascade" => &["models", "stages", "check", "judge_model", "judge_min_weight"],
        "fuse" => &FUSE,
        "" => return Err(Problem::MissingField { param: fields.path("type") }),
        _ => return Err(Problem::invalid(fields.path("type"), TYPES)),
    };
    fields.only(&[&["type", "min_weight", "output_schema"], known].concat())?;
    let named = |param: &'static str| -> Result<Option<Named>, Problem> {
        let field = param.strip_prefix("strategy.").unwrap_or(param);
        Ok(model_name(fields.get(field), param)?.map(|model| Named { param, model }))
    };
    let (author, reviewer, review_weight) = match kind {
        "adversarial" => (MODEL, CRITIC_MODEL, "critic_min_weight"),
        "fuse" => (WRITER_MODEL, JUDGE_MODEL, "judge_min_weight"),
        _ => (MODEL, JUDGE_MODEL, "judge_min_weight"),
    };
    Ok(Some(Strategy {
        program: program(kind, fields)?,
        primary: named(author)?,
        review: named(reviewer)?,
        models: models(kind, fields)?,
        check: outside_check(kind, fields)?,
        primary_min_weight: fields.small("min_weight", limits::WEIGHT_MAX)?,
        review_min_weight: fields.small(review_weight, limits::WEIGHT_MAX)?,
        hedge_after_ms: hedge_after_ms(kind, fields)?,
    }))
}

/// A hedge that does not say when is a mistake: there is no time that suits every model.
fn hedge_after_ms(kind: &str, fields: Fields<'_>) -> Result<Option<u64>, Problem> {
    if kind != "hedge" {
        return Ok(None);
    }
    let after_ms = fields.whole("after_ms", limits::POLICY_LATENCY_MS_MAX)?;
    match after_ms {
        Some(0) => Err(Problem::invalid(fields.path("after_ms"), "must be at least 1")),
        None => Err(Problem::MissingField { param: fields.path("after_ms") }),
        Some(_) => Ok(after_ms),
    }
}

fn program(kind: &str, fields: Fields<'_>) -> Result<Program, Problem> {
    Ok(match kind {
        "vote" => vote(fields)?,
        "best_of_n" => best_of_n(fields)?,
        "adversarial" => Program::Adversarial {
            rounds: rounds(fields, limits::ADVERSARIAL_ROUNDS_DEFAULT)?,
            return_plan_only: fields.flag("plan_only")?,
        },
        "refine" => Program::Refine { rounds: rounds(fields, limits::REFINE_ROUNDS_DEFAULT)? },
        "cascade" => cascade(fields)?,
        "fuse" => fuse(fields)?,
        _ => Program::Chat {
            profile: match fields.text("profile")? {
                "" | "policy" => ChatProfile::Policy,
                "planning" => ChatProfile::Planning,
                _ => return Err(Problem::invalid(fields.path("profile"), "must be policy or planning")),
            },
        },
    })
}

fn cascade(fields: Fields<'_>) -> Result<Program, Problem> {
    let check = match fields.text("check")? {
        "" | "judge" => CascadeCheck::Judge,
        "schema" if fields.get("output_schema").is_some() => CascadeCheck::Schema,
        "schema" => return Err(Problem::invalid(fields.path("check"), "`schema` needs `output_schema`")),
        _ => return Err(Problem::invalid(fields.path("check"), "must be judge or schema")),
    };
    let stages = match fields.small("stages", limits::CASCADE_STAGES_MAX)? {
        0 if fields.get("stages").is_none() => limits::CASCADE_STAGES_DEFAULT,
        stages if stages < 2 => return Err(Problem::invalid(fields.path("stages"), "must be at least 2")),
        _ if fields.get("models").is_some() => return Err(beside_models(fields, "stages")),
        stages => stages,
    };
    Ok(Program::Cascade { stages, check })
}

/// The models of a strategy that may name each of them.
fn models(kind: &str, fields: Fields<'_>) -> Result<Vec<Named>, Problem> {
    let (most, instead) = match kind {
        "cascade" => (limits::CASCADE_STAGES_MAX, "stages"),
        "vote" => (limits::VOTERS_MAX, "voters"),
        "best_of_n" => (limits::VOTERS_MAX, "candidates"),
        "fuse" => (limits::VOTERS_MAX, "panel"),
        _ => return Ok(Vec::new()),
    };
    let wrong = || Problem::invalid(MODELS, format!("must be 2 to {most} names of models"));
    let names = match fields.get("models") {
        None => return Ok(Vec::new()),
        Some(Value::Array(names)) => names,
        Some(_) => return Err(wrong()),
    };
    if !(2..=usize::try_from(most).unwrap_or(usize::MAX)).contains(&names.len()) {
        return Err(wrong());
    }
    if let Some(other) = [instead, "model"].into_iter().find(|other| fields.get(other).is_some()) {
        return Err(beside_models(fields, other));
    }
    let name = |name: &Value| model_name(Some(name), MODELS)?.ok_or_else(wrong);
    names.iter().map(|value| Ok(Named { param: MODELS, model: name(value)? })).collect()
}

fn beside_models(fields: Fields<'_>, name: &str) -> Problem {
    Problem::invalid(fields.path(name), "cannot be combined with `models`")
}

/// A check of a cascade is its program's own; one that nobody would look at is a mistake.
fn outside_check(kind: &str, fields: Fields<'_>) -> Result<Option<OutsideCheck>, Problem> {
    if kind == "cascade" {
        return Ok(None);
    }
    let found = check::parse(fields)?;
    let refused = |name: &str, reason: &str| Err(Problem::invalid(fields.path(name), reason));
    match kind {
        "adversarial" if found.is_some() && fields.flag("plan_only")? => {
            refused(check::CHECK, "cannot be combined with `plan_only`, which has no rounds to end")
        }
        "vote" | "best_of_n" => match (&found, stop(fields)?) {
            (None, StopRule::FirstPass) => Err(Problem::MissingField { param: fields.path(check::CHECK) }),
            (Some(_), rule) if rule != StopRule::FirstPass => refused(check::CHECK, "needs `stop` to be first_pass"),
            (Some(_) | None, _) => Ok(found),
        },
        _ => Ok(found),
    }
}

fn best_of_n(fields: Fields<'_>) -> Result<Program, Problem> {
    let method = match fields.text("method")? {
        "" | "scored" => RankMethod::Scored,
        "pairwise" => RankMethod::Pairwise,
        _ => return Err(Problem::invalid(fields.path("method"), "must be scored or pairwise")),
    };
    match stop(fields)? {
        StopRule::All | StopRule::FirstPass => {}
        StopRule::Decided | StopRule::Posterior { .. } | StopRule::Margin { .. } => {
            return Err(Problem::invalid(fields.path("stop"), "must be all or first_pass"));
        }
    }
    Ok(Program::BestOfN { candidates: authors(fields, "candidates")?, method, parallelism: parallelism(fields)? })
}

fn parallelism(fields: Fields<'_>) -> Result<Option<u32>, Problem> {
    Ok(Some(fields.small("parallelism", limits::VOTERS_MAX)?).filter(|width| *width > 0))
}

/// How many authors there are to be: those that are named, or as many as `name` says.
fn authors(fields: Fields<'_>, name: &str) -> Result<u32, Problem> {
    match fields.get("models") {
        Some(Value::Array(names)) => Ok(u32::try_from(names.len()).unwrap_or(u32::MAX)),
        Some(_) | None => several(fields, name),
    }
}

/// So many must have answered, of `authors`.
fn min_success(fields: Fields<'_>, authors: u32) -> Result<Option<u32>, Problem> {
    match fields.small("min_success", limits::VOTERS_MAX)? {
        0 if fields.get("min_success").is_none() => Ok(None),
        least if least == 0 || least > authors => {
            let rule = format!("must be a whole number from 1 to {authors}");
            Err(Problem::invalid(fields.path("min_success"), rule))
        }
        least => Ok(Some(least)),
    }
}

fn fuse(fields: Fields<'_>) -> Result<Program, Problem> {
    let panel = authors(fields, "panel")?;
    let min_success = min_success(fields, panel)?.unwrap_or(1);
    Ok(Program::Fuse { panel, min_success, grace_ms: fields.whole("grace_ms", limits::GRACE_MS_MAX)? })
}

fn vote(fields: Fields<'_>) -> Result<Program, Problem> {
    let method = match fields.text("method")? {
        "" | "judge" => VoteMethod::Judge,
        "majority" => VoteMethod::Majority,
        "weighted" => VoteMethod::Weighted,
        _ => return Err(Problem::invalid(fields.path("method"), "must be judge, majority or weighted")),
    };
    if method != VoteMethod::Judge
        && let Some(unused) =
            ["judge_model", "judge_votes", "judge_min_weight"].iter().find(|it| fields.get(it).is_some())
    {
        return Err(Problem::invalid(fields.path(unused), "needs the method judge"));
    }
    let stop = stop(fields)?;
    if !matches!(stop, StopRule::All | StopRule::FirstPass) && method != VoteMethod::Majority {
        return Err(Problem::invalid(fields.path("stop"), "an early stop needs the method majority"));
    }
    let voters = authors(fields, "voters")?;
    Ok(Program::Vote {
        voters,
        method,
        judge_votes: fields.flag("judge_votes")?,
        parallelism: parallelism(fields)?,
        stop,
        min_success: min_success(fields, voters)?,
        grace_ms: fields.whole("grace_ms", limits::GRACE_MS_MAX)?,
    })
}

fn stop(fields: Fields<'_>) -> Result<StopRule, Problem> {
    let wrong = || Problem::invalid(fields.path("stop"), STOP_RULE);
    match fields.get("stop") {
        None => Ok(StopRule::All),
        Some(Value::String(name)) if name == "all" => Ok(StopRule::All),
        Some(Value::String(name)) if name == "decided" => Ok(StopRule::Decided),
        Some(Value::String(name)) if name == "first_pass" => Ok(StopRule::FirstPass),
        Some(Value::Object(rule)) if rule.len() == 1 => {
            if let Some(margin) = rule.get("margin") {
                let votes = margin.as_u64().and_then(|votes| u32::try_from(votes).ok());
                let votes = votes.filter(|votes| (1..=limits::VOTERS_MAX).contains(votes)).ok_or_else(wrong)?;
                return Ok(StopRule::Margin { votes });
            }
            let posterior = rule.get("posterior").and_then(Value::as_f64).filter(|it| POSTERIOR.contains(it));
            per_mille(posterior.ok_or_else(wrong)?).map(|per_mille| StopRule::Posterior { per_mille }).ok_or_else(wrong)
        }
        Some(_) => Err(wrong()),
    }
}

/// A probability in whole thousandths, so that specifications compare and replay exactly.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
fn per_mille(posterior: f64) -> Option<u32> {
    let thousandths = (posterior * 1_000.0).round();
    (500.0..=1_000.0).contains(&thousandths).then_some(thousandths as u32)
}

fn several(fields: Fields<'_>, name: &str) -> Result<u32, Problem> {
    match fields.small(name, limits::VOTERS_MAX)? {
        0 if fields.get(name).is_none() => Ok(limits::VOTERS_DEFAULT),
        count if count < VOTERS_MIN => Err(Problem::invalid(fields.path(name), "must be at least 2")),
        count => Ok(count),
    }
}

fn rounds(fields: Fields<'_>, default: u32) -> Result<u32, Problem> {
    match fields.small("rounds", limits::ROUNDS_MAX)? {
        0 if fields.get("rounds").is_none() => Ok(default),
        0 => Err(Problem::invalid(fields.path("rounds"), "must be at least 1")),
        rounds => Ok(rounds),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(strategy: &Value) -> Result<Strategy, Problem> {
        of(json!({ "strategy": strategy }).as_object().unwrap()).map(Option::unwrap)
    }

    fn program_of(strategy: &Value) -> Program {
        read(strategy).unwrap().program
    }

    #[test]
    fn each_type_has_its_program_and_its_defaults() {
        assert_eq!(program_of(&json!({"type": "single"})), Program::Chat { profile: ChatProfile::Policy });
        assert_eq!(
            program_of(&json!({"type": "vote", "method": "majority", "stop": {"posterior": 0.95}, "parallelism": 2})),
            Program::Vote {
                voters: 3,
                method: VoteMethod::Majority,
                judge_votes: false,
                parallelism: Some(2),
                stop: StopRule::Posterior { per_mille: 950 },
                min_success: None,
                grace_ms: None,
            }
        );
        assert_eq!(
            program_of(&json!({"type": "best_of_n", "candidates": 4, "method": "pairwise"})),
            Program::BestOfN { candidates: 4, method: RankMethod::Pairwise, parallelism: None }
        );
        assert_eq!(program_of(&json!({"type": "refine"})), Program::Refine { rounds: 2 });
        assert_eq!(program_of(&json!({"type": "fuse"})), Program::Fuse { panel: 3, min_success: 1, grace_ms: None });
        let stage = |model: &str| Named { param: MODELS, model: model.to_owned() };
        let cascade = read(&json!({"type": "cascade", "models": ["small", "big"]})).unwrap();
        assert_eq!(cascade.program, Program::Cascade { stages: 2, check: CascadeCheck::Judge });
        assert_eq!(cascade.models, [stage("small"), stage("big")]);
        let vote = json!({"type": "vote", "models": ["a", "b"], "min_success": 2, "grace_ms": 50,
            "check": {"type": "regex", "pattern": "a"}, "stop": "first_pass"});
        let vote = read(&vote).unwrap();
        assert!(matches!(vote.program, Program::Vote { voters: 2, min_success: Some(2), grace_ms: Some(50), .. }));
        assert_eq!((vote.models.len(), vote.check.is_some()), (2, true));
        assert_eq!(read(&json!({"type": "hedge", "after_ms": 300})).unwrap().hedge_after_ms, Some(300));
        let adversarial = read(&json!({"type": "adversarial", "model": "a", "critic_model": "b", "min_weight": 3}));
        let Strategy { program, primary, review, primary_min_weight, .. } = adversarial.unwrap();
        assert_eq!(program, Program::Adversarial { rounds: 1, return_plan_only: false });
        assert_eq!(primary, Some(Named { param: MODEL, model: "a".to_owned() }));
        assert_eq!(review, Some(Named { param: CRITIC_MODEL, model: "b".to_owned() }));
        assert_eq!(primary_min_weight, 3);
    }

    #[test]
    fn what_stands_beside_a_strategy_is_known_too() {
        let named = |more: &Value| {
            let mut body =
                json!({"strategy": {"type": "single"}, "request": {"messages": [], "meta": {}}, "policy": {}});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let problem = of(body.as_object().unwrap()).err()?;
            problem.report(crate::error::Shape::Problem).param
        };
        assert_eq!(named(&json!({"bounds": {}, "orchestration": null})), None);
        assert_eq!(named(&json!({"bound": {"max_calls": 1}})).as_deref(), Some("bound"));
        assert_eq!(named(&json!({"max_cost_usd": 1})).as_deref(), Some("max_cost_usd"));
        assert_eq!(named(&json!({"request": {"model": "a"}})).as_deref(), Some("request.model"));
        let older = json!({"orchestration": {"mode": "refine"}, "anything": 1, "request": {"model": "a"}});
        assert_eq!(of(older.as_object().unwrap()).unwrap(), None);
    }

    #[test]
    fn a_field_of_another_type_and_every_wrong_value_is_refused_by_name() {
        for (strategy, param) in [
            (json!({}), "strategy.type"),
            (json!({"type": "debate"}), "strategy.type"),
            (json!("vote"), "strategy"),
            (json!({"type": "refine", "voters": 3}), "strategy.voters"),
            (json!({"type": "vote", "model": "a"}), "strategy.model"),
            (json!({"type": "vote", "voters": 1}), "strategy.voters"),
            (json!({"type": "vote", "voters": 0}), "strategy.voters"),
            (json!({"type": "vote", "method": "dice"}), "strategy.method"),
            (json!({"type": "vote", "stop": "decided"}), "strategy.stop"),
            (json!({"type": "vote", "method": "majority", "stop": {"margin": 0}}), "strategy.stop"),
            (json!({"type": "vote", "method": "majority", "stop": {"posterior": 1}}), "strategy.stop"),
            (json!({"type": "vote", "method": "majority", "stop": {"posterior": 0.9, "margin": 1}}), "strategy.stop"),
            (json!({"type": "vote", "method": "weighted", "judge_model": "j"}), "strategy.judge_model"),
            (json!({"type": "refine", "rounds": 0}), "strategy.rounds"),
            (json!({"type": "adversarial", "critic_model": 3}), "strategy.critic_model"),
            (json!({"type": "best_of_n", "method": "elo"}), "strategy.method"),
            (json!({"type": "hedge"}), "strategy.after_ms"),
            (json!({"type": "hedge", "after_ms": 0}), "strategy.after_ms"),
            (json!({"type": "cascade", "models": ["a"]}), "strategy.models"),
            (json!({"type": "cascade", "models": ["a", "*"]}), "strategy.models"),
            (json!({"type": "cascade", "stages": 1}), "strategy.stages"),
            (json!({"type": "cascade", "models": ["a", "b"], "stages": 2}), "strategy.stages"),
            (json!({"type": "cascade", "check": "schema"}), "strategy.check"),
            (json!({"type": "fuse", "panel": 3, "min_success": 4}), "strategy.min_success"),
            (json!({"type": "fuse", "writer_model": 1}), "strategy.writer_model"),
            (json!({"type": "vote", "models": ["a", "b"], "min_success": 3}), "strategy.min_success"),
            (json!({"type": "vote", "models": ["a", "b"], "voters": 2}), "strategy.voters"),
            (json!({"type": "best_of_n", "models": ["a", "b"], "model": "a"}), "strategy.model"),
            (json!({"type": "fuse", "models": "a"}), "strategy.models"),
            (json!({"type": "fuse", "grace_ms": 600_001}), "strategy.grace_ms"),
            (json!({"type": "best_of_n", "stop": "decided"}), "strategy.stop"),
            (json!({"type": "best_of_n", "stop": "first_pass"}), "strategy.check"),
            (json!({"type": "vote", "check": {"type": "regex", "pattern": "a"}}), "strategy.check"),
            (json!({"type": "fuse", "check": {"type": "regex", "pattern": "a"}}), "strategy.check"),
            (json!({"type": "refine", "check": "schema"}), "strategy.check"),
            (
                json!({"type": "adversarial", "plan_only": true, "check": {"type": "regex", "pattern": "a"}}),
                "strategy.check",
            ),
        ] {
            let problem = read(&strategy).unwrap_err();
            let named = problem.report(crate::error::Shape::Problem).param.unwrap();
            assert_eq!(named, param, "{strategy}");
        }
        let both = json!({"strategy": {"type": "refine"}, "orchestration": {"mode": "refine"}});
        assert!(of(both.as_object().unwrap()).is_err());
        assert_eq!(of(&Map::new()).unwrap(), None);
    }
}
