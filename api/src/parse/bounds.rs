//! The `bounds` of a plan: what the whole run may use, and how long it and its steps may take.

use serde_json::{Map, Value};
use tokenhub_domain::{Bounds, NanoDollars, SpecBase, limits};

use super::Fields;
use crate::error::Problem;

const FIELDS: [&str; 5] = ["max_cost_usd", "max_tokens", "max_calls", "deadline_ms", "step_timeout_ms"];

/// Limits on a whole run, as far as the caller names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunBounds {
    use_of_run: Bounds,
    deadline_ms: Option<u64>,
    step_timeout_ms: Option<u64>,
}

impl RunBounds {
    /// The `bounds` in `body`. Zero is refused: a plan that may use nothing is a mistake.
    pub(crate) fn of(body: &Map<String, Value>) -> Result<Self, Problem> {
        let bounds = Fields::of(body, "bounds")?;
        bounds.only(&FIELDS)?;
        let at_least_one = |name: &str, most: u64| match bounds.whole(name, most)? {
            Some(0) => Err(Problem::invalid(bounds.path(name), format!("must be a whole number from 1 to {most}"))),
            number => Ok(number),
        };
        let cost = match bounds.number("max_cost_usd", limits::PLAN_COST_USD_MAX)? {
            Some(0.0) => return Err(Problem::invalid(bounds.path("max_cost_usd"), "must be more than 0")),
            cost => cost,
        };
        let calls = at_least_one("max_calls", u64::from(limits::PLAN_CALLS_MAX))?;
        Ok(Self {
            use_of_run: Bounds {
                max_cost: cost.and_then(NanoDollars::from_usd),
                max_tokens: at_least_one("max_tokens", limits::PLAN_TOKENS_MAX)?,
                max_calls: calls.and_then(|calls| u32::try_from(calls).ok()),
            },
            deadline_ms: at_least_one("deadline_ms", limits::RUN_DEADLINE_MS)?,
            step_timeout_ms: at_least_one("step_timeout_ms", limits::RUN_DEADLINE_MS)?,
        })
    }

    /// Writes those that are named into the specification of a run that has some already.
    pub(crate) fn change(self, base: &mut SpecBase) {
        let Bounds { max_cost, max_tokens, max_calls } = self.use_of_run;
        base.bounds.max_cost = max_cost.or(base.bounds.max_cost);
        base.bounds.max_tokens = max_tokens.or(base.bounds.max_tokens);
        base.bounds.max_calls = max_calls.or(base.bounds.max_calls);
        base.step_timeout_ms = self.step_timeout_ms.or(base.step_timeout_ms);
        base.deadline_ms = self.deadline_ms.unwrap_or(base.deadline_ms);
    }

    /// Writes them into a specification; a deadline only narrows.
    pub(crate) fn apply(self, base: &mut SpecBase) {
        base.bounds = self.use_of_run;
        base.step_timeout_ms = self.step_timeout_ms;
        base.deadline_ms = self.deadline_ms.map_or(base.deadline_ms, |own| own.min(base.deadline_ms));
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
        let all = json!({"max_cost_usd": 0.5, "max_tokens": 9, "max_calls": 3, "deadline_ms": 5, "step_timeout_ms": 4});
        let read = of(&all).unwrap();
        let cost = NanoDollars::from_usd(0.5);
        assert_eq!(read.use_of_run, Bounds { max_cost: cost, max_tokens: Some(9), max_calls: Some(3) });
        assert_eq!((read.deadline_ms, read.step_timeout_ms), (Some(5), Some(4)));
        assert_eq!(of(&Value::Null).unwrap(), RunBounds::default());
        for name in FIELDS {
            for wrong in [json!(0), json!(-1), json!("1"), json!(1e18)] {
                assert_eq!(of(&json!({ name: wrong })).unwrap_err(), format!("bounds.{name}"), "{wrong}");
            }
        }
        assert_eq!(of(&json!({"max_cost": 1})).unwrap_err(), "bounds.max_cost");
        assert_eq!(of(&json!(3)).unwrap_err(), "bounds");
    }
}
