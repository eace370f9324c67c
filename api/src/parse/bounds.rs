//! The `bounds` of a plan: what the whole run and each of its steps may use, and how long they may take.

use serde_json::{Map, Value};
use tokenhub_domain::{Bounds, Deltas, NanoDollars, SpecBase, StepBounds, limits};

use super::Fields;
use crate::error::Problem;

/// The limits on what each step may use, within the bounds.
pub(super) const PER_STEP: &str = "per_step";
const PER_STEP_PATH: &str = "bounds.per_step";
/// The limits on use, of a run and of a step alike.
const USE: [&str; 3] = ["max_cost_usd", "max_tokens", "max_calls"];
/// The limit that only streamed answers have.
pub(super) const FIRST_TOKEN: &str = "first_token_timeout_ms";
const FIELDS: [&str; 7] =
    ["max_cost_usd", "max_tokens", "max_calls", "deadline_ms", "step_timeout_ms", FIRST_TOKEN, PER_STEP];

/// Limits on a whole run and its steps, as far as the caller names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunBounds {
    use_of_run: Bounds,
    deadline_ms: Option<u64>,
    step_timeout_ms: Option<u64>,
    first_token_timeout_ms: Option<u64>,
}

impl RunBounds {
    /// The `bounds` in `body`. Zero is refused: a plan that may use nothing is a mistake.
    pub(crate) fn of(body: &Map<String, Value>) -> Result<Self, Problem> {
        let bounds = Fields::of(body, "bounds")?;
        bounds.only(&FIELDS)?;
        let per_step = Fields::within(bounds.get(PER_STEP), PER_STEP_PATH)?;
        per_step.only(&USE)?;
        let StepBounds { max_cost, max_tokens, max_calls } = use_in(bounds)?;
        Ok(Self {
            use_of_run: Bounds { max_cost, max_tokens, max_calls, per_step: use_in(per_step)? },
            deadline_ms: at_least_one(bounds, "deadline_ms", limits::RUN_DEADLINE_MS)?,
            step_timeout_ms: at_least_one(bounds, "step_timeout_ms", limits::RUN_DEADLINE_MS)?,
            first_token_timeout_ms: at_least_one(bounds, FIRST_TOKEN, limits::RUN_DEADLINE_MS)?,
        })
    }

    /// Refuses a limit that only streamed answers have, where there are none.
    pub(crate) fn check(self, deltas: Deltas) -> Result<(), Problem> {
        match (self.first_token_timeout_ms, deltas) {
            (Some(_), Deltas::None) => Err(Problem::invalid(format!("bounds.{FIRST_TOKEN}"), "needs `deltas`: true")),
            (Some(_), Deltas::Shown) | (None, _) => Ok(()),
        }
    }

    /// Writes those that are named into the specification of a run that has some already.
    pub(crate) fn change(self, base: &mut SpecBase) {
        let Bounds { max_cost, max_tokens, max_calls, per_step } = self.use_of_run;
        let before = base.bounds;
        base.bounds = Bounds {
            max_cost: max_cost.or(before.max_cost),
            max_tokens: max_tokens.or(before.max_tokens),
            max_calls: max_calls.or(before.max_calls),
            per_step: StepBounds {
                max_cost: per_step.max_cost.or(before.per_step.max_cost),
                max_tokens: per_step.max_tokens.or(before.per_step.max_tokens),
                max_calls: per_step.max_calls.or(before.per_step.max_calls),
            },
        };
        base.step_timeout_ms = self.step_timeout_ms.or(base.step_timeout_ms);
        base.first_token_timeout_ms = self.first_token_timeout_ms.or(base.first_token_timeout_ms);
        base.deadline_ms = self.deadline_ms.unwrap_or(base.deadline_ms);
    }

    /// Writes them into a specification; a deadline only narrows.
    pub(crate) fn apply(self, base: &mut SpecBase) {
        base.bounds = self.use_of_run;
        base.step_timeout_ms = self.step_timeout_ms;
        base.first_token_timeout_ms = self.first_token_timeout_ms;
        base.deadline_ms = self.deadline_ms.map_or(base.deadline_ms, |own| own.min(base.deadline_ms));
    }
}

/// The limits on use, which read alike for a run and for a step.
fn use_in(fields: Fields<'_>) -> Result<StepBounds, Problem> {
    let cost = match fields.number("max_cost_usd", limits::PLAN_COST_USD_MAX)? {
        Some(0.0) => return Err(Problem::invalid(fields.path("max_cost_usd"), "must be more than 0")),
        cost => cost,
    };
    let calls = at_least_one(fields, "max_calls", u64::from(limits::PLAN_CALLS_MAX))?;
    Ok(StepBounds {
        max_cost: cost.and_then(NanoDollars::from_usd),
        max_tokens: at_least_one(fields, "max_tokens", limits::PLAN_TOKENS_MAX)?,
        max_calls: calls.and_then(|calls| u32::try_from(calls).ok()),
    })
}

fn at_least_one(fields: Fields<'_>, name: &str, most: u64) -> Result<Option<u64>, Problem> {
    match fields.whole(name, most)? {
        Some(0) => Err(Problem::invalid(fields.path(name), format!("must be a whole number from 1 to {most}"))),
        number => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(bounds: &Value) -> Result<RunBounds, String> {
        let body = json!({ "bounds": bounds });
        let read = RunBounds::of(body.as_object().unwrap());
        read.map_err(|problem| problem.report(crate::error::Shape::Problem).param.unwrap())
    }

    #[test]
    fn every_bound_is_read_and_each_wrong_one_is_named() {
        let all = json!({"max_cost_usd": 0.5, "max_tokens": 9, "max_calls": 3, "deadline_ms": 5, "step_timeout_ms": 4,
            "first_token_timeout_ms": 2});
        let read = of(&all).unwrap();
        let cost = NanoDollars::from_usd(0.5);
        let limits = StepBounds { max_cost: cost, max_tokens: Some(9), max_calls: Some(3) };
        assert_eq!(read.use_of_run, limits.limits());
        let times = (read.deadline_ms, read.step_timeout_ms, read.first_token_timeout_ms);
        assert_eq!(times, (Some(5), Some(4), Some(2)));
        assert!(read.check(Deltas::Shown).is_ok() && read.check(Deltas::None).is_err());
        assert_eq!(of(&Value::Null).unwrap(), RunBounds::default());
        for name in FIELDS {
            for wrong in [json!(0), json!(-1), json!("1"), json!(1e18)] {
                assert_eq!(of(&json!({ name: wrong })).unwrap_err(), format!("bounds.{name}"), "{wrong}");
            }
        }
        assert_eq!(of(&json!({"max_cost": 1})).unwrap_err(), "bounds.max_cost");
        let read = of(&json!({"per_step": {"max_cost_usd": 0.5, "max_tokens": 9, "max_calls": 3}})).unwrap();
        assert_eq!(read.use_of_run, Bounds { per_step: limits, ..Bounds::default() });
        for name in USE {
            for wrong in [json!(0), json!(-1), json!("1"), json!(1e18)] {
                let refused = of(&json!({"per_step": { name: wrong }})).unwrap_err();
                assert_eq!(refused, format!("bounds.per_step.{name}"), "{wrong}");
            }
        }
        assert_eq!(of(&json!({"per_step": {"deadline_ms": 1}})).unwrap_err(), "bounds.per_step.deadline_ms");
        assert_eq!(of(&json!(3)).unwrap_err(), "bounds");
    }
}
