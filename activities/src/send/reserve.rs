//! The limits of a bounded run and of its steps: the worst case of a call is taken before its ledger row, and given back after it.
//!
//! Owns how the most that a call can use follows from its body and its model. Must not know who else takes from the
//! same run. A process that dies between the two leaves the worst case taken, because the call may have been paid.

use tokenhub_domain::{
    BOUNDED_OUTPUT_TOKENS, Bound, Bounds, Catalogue, Deployment, ErrorClass, Extent, ProviderFailure, RawFields,
    SendRequest, TokensAtMost, Use, input_tokens_max,
};
use tokenhub_store::Room;

use super::{Sending, attempt::patiently};
use crate::{ActivityFault, clock, presence::Presence};

/// Where a request of each protocol limits its answer.
const OUTPUT_LIMITS: [&str; 3] = ["max_completion_tokens", "max_tokens", "max_output_tokens"];

/// What a call was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reserved {
    pub(super) taken: Use,
    /// The output limit that goes out with the call, so that it cannot use more.
    pub(super) output_limit: u64,
}

/// What a call that has ended was given, and what it has used of that, where this is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Owed {
    pub(super) taken: Option<Use>,
    pub(super) used: Option<Use>,
}

/// Takes the room that the call needs at most; nothing where the run is not bounded.
pub(super) async fn take<P: Presence>(
    sending: &Sending<'_, P>,
    body: &[u8],
) -> Result<Result<Option<Reserved>, ProviderFailure>, ActivityFault> {
    let Sending { world, run, request, .. } = sending;
    if request.bounds.is_empty() {
        return Ok(Ok(None));
    }
    let (taken, output_limit) = at_most(&world.catalogue.load(), request, body);
    let budgets = world.store.budgets();
    let key = (&run.tenant, &run.run_id);
    let room = patiently(|| budgets.take(key, &request.step, request.bounds, taken, clock::now())).await?;
    Ok(match room {
        Room::Taken => Ok(Some(Reserved { taken, output_limit })),
        Room::Refused { extent, bound, used, bounds } => Err(refusal((extent, bounds), bound, used, taken)),
    })
}

/// Gives back what the call did not use; nothing where that is not known. A database that is away keeps it taken, which
/// spends too little and never too much.
pub(super) async fn settle<P: Presence>(sending: &Sending<'_, P>, owed: Owed) {
    let Owed { taken: Some(taken), used: Some(used) } = owed else { return };
    let budgets = sending.world.store.budgets();
    let run = (&sending.run.tenant, &sending.run.run_id);
    let SendRequest { step, bounds, .. } = sending.request;
    let limited_step = (!bounds.per_step.is_empty()).then_some(step);
    if let Err(error) = budgets.settle(run, limited_step, taken, used, clock::now()).await {
        tracing::warn!(error = &error as &dyn std::error::Error, run = %sending.run.run_id, "a call keeps its whole part of the budget");
    }
}

/// The most that the call can use, and the output limit that makes it so.
fn at_most(catalogue: &Catalogue, request: &SendRequest, body: &[u8]) -> (Use, u64) {
    let body = std::str::from_utf8(body).unwrap_or_default();
    let mut said = Said::in_body(body);
    said.limit = request.max_output_tokens.or(said.limit);
    said.at_most(catalogue, &request.deployment, input_tokens_max(body))
}

/// What a body says of its answer.
pub(crate) struct Said {
    limit: Option<u64>,
    answers: u64,
}

impl Said {
    /// Reads `body`, a request of any protocol.
    pub(crate) fn in_body(body: &str) -> Self {
        let Ok(fields) = RawFields::read(body) else { return Self { limit: None, answers: 1 } };
        Self {
            limit: OUTPUT_LIMITS.into_iter().filter_map(|name| whole(fields.get(name)?)).max(),
            answers: fields.get("n").and_then(whole).unwrap_or(1).max(1),
        }
    }

    /// The most that a call to `deployment` with so many input tokens can use, and the output limit that makes it so.
    pub(crate) fn at_most(&self, catalogue: &Catalogue, deployment: &Deployment, input: u64) -> (Use, u64) {
        let model = catalogue.model(deployment);
        let models_own = || model.and_then(|model| model.max_output_tokens);
        let limit = self.limit.or_else(models_own).unwrap_or(BOUNDED_OUTPUT_TOKENS);
        let tokens = TokensAtMost { input, output: limit.saturating_mul(self.answers) };
        let unpriced = Use { calls: 1, tokens: tokens.input.saturating_add(tokens.output), ..Use::default() };
        (model.map_or(unpriced, |model| model.use_at_most(tokens)), limit)
    }
}

/// A number as providers may read it: `5.0` is five.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float that large saturates, which is right"
)]
fn whole(value: &str) -> Option<u64> {
    value.parse::<u64>().ok().or_else(|| value.parse::<f64>().ok().map(|number| number.ceil() as u64))
}

fn refusal((extent, bounds): (Extent, Bounds), bound: Bound, used: Use, next: Use) -> ProviderFailure {
    let whose = match extent {
        Extent::Run => "",
        Extent::Step => " of the step",
    };
    let message = match bound {
        Bound::Calls => {
            format!("{} of {} calls{whose} are made", used.calls, bounds.max_calls.unwrap_or_default())
        }
        Bound::Tokens => format!(
            "{} of {} tokens{whose} are used, and the next call may take {}",
            used.tokens,
            bounds.max_tokens.unwrap_or_default(),
            next.tokens
        ),
        Bound::Cost => format!(
            "{} of {} USD{whose} are used, and the next call may cost {}",
            used.cost.as_usd(),
            bounds.max_cost.unwrap_or_default().as_usd(),
            next.cost.as_usd()
        ),
    };
    ProviderFailure {
        code: Some("budget_exhausted".to_owned()),
        param: Some(format!("bounds.{}", extent.field(bound))),
        ..ProviderFailure::of(ErrorClass::BudgetExhausted, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_limit_is_the_largest_that_the_body_names_and_every_answer_counts() {
        let said = |body: &str| {
            let Said { limit, answers } = Said::in_body(body);
            (limit, answers)
        };
        assert_eq!(said(r#"{"max_tokens":5,"max_completion_tokens":7,"n":3}"#), (Some(7), 3));
        assert_eq!(said(r#"{"max_output_tokens":9,"n":null}"#), (Some(9), 1));
        assert_eq!(said(r#"{"max_tokens":null}"#), (None, 1));
        assert_eq!(said(r#"{"n":2.5}"#), (None, 3));
        assert_eq!(said("no JSON"), (None, 1));
    }
}
