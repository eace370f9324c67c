//! What a whole run and each of its steps may use, and the most that one call can.
//!
//! Owns the limits and the arithmetic of worst cases, so that what is reserved before a call and what an estimate says
//! are one rule. Must not know who keeps the sums.

use serde::{Deserialize, Serialize};

use crate::{Model, NanoDollars, PriceSource};

/// Limits on a whole run, and on each of its steps; nothing is bought beyond them. One that is absent does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bounds {
    /// Money, all calls together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<NanoDollars>,
    /// Input and output tokens, all calls together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Calls, failed and repeated ones among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_calls: Option<u32>,
    /// What each step may use for itself.
    #[serde(skip_serializing_if = "StepBounds::is_empty")]
    pub per_step: StepBounds,
}

/// Limits on one step: on its first call and on those that follow a failure or a death, whoever they go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepBounds {
    /// Money, all calls of the step together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<NanoDollars>,
    /// Input and output tokens, all calls of the step together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Calls of the step, failed and repeated ones among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_calls: Option<u32>,
}

impl StepBounds {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same as limits that can be compared with what was used.
    pub fn limits(self) -> Bounds {
        let Self { max_cost, max_tokens, max_calls } = self;
        Bounds { max_cost, max_tokens, max_calls, per_step: Self::default() }
    }
}

impl Bounds {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same limits with more room below those that there are.
    #[must_use]
    pub fn raised_by(self, more: Use) -> Self {
        Self {
            max_cost: self.max_cost.map(|most| most + more.cost),
            max_tokens: self.max_tokens.map(|most| most.saturating_add(more.tokens)),
            max_calls: self.max_calls.map(|most| most.saturating_add(more.calls)),
            per_step: self.per_step,
        }
    }

    /// Which limit on the whole run does not leave room for `next` beside `used`, the tightest promise first.
    pub fn exceeded_by(&self, used: Use, next: Use) -> Option<Bound> {
        let sum = used.plus(next);
        if self.max_calls.is_some_and(|most| sum.calls > most) {
            Some(Bound::Calls)
        } else if self.max_tokens.is_some_and(|most| sum.tokens > most) {
            Some(Bound::Tokens)
        } else if self.max_cost.is_some_and(|most| sum.cost > most) {
            Some(Bound::Cost)
        } else {
            None
        }
    }
}

/// One of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// See [`Bounds::max_calls`].
    Calls,
    /// See [`Bounds::max_tokens`].
    Tokens,
    /// See [`Bounds::max_cost`].
    Cost,
}

impl Bound {
    /// The field of a request that sets it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "max_calls",
            Self::Tokens => "max_tokens",
            Self::Cost => "max_cost_usd",
        }
    }
}

/// What a limit is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The whole run.
    Run,
    /// One of its steps.
    Step,
}

impl Extent {
    /// The field within `bounds` that sets the limit.
    pub fn field(self, bound: Bound) -> String {
        match self {
            Self::Run => bound.as_str().to_owned(),
            Self::Step => format!("per_step.{}", bound.as_str()),
        }
    }
}

/// What calls use, at most or in fact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Use {
    /// Calls.
    pub calls: u32,
    /// Input and output tokens.
    pub tokens: u64,
    /// Money.
    pub cost: NanoDollars,
}

impl Use {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            tokens: self.tokens.saturating_add(other.tokens),
            cost: self.cost + other.cost,
        }
    }
}

/// The most tokens that one call can use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokensAtMost {
    /// Of the request.
    pub input: u64,
    /// Of the answer, or of all answers where several are asked for.
    pub output: u64,
}

/// Most output tokens of a call that neither the caller nor its model limits: a bounded run sends this limit with it.
pub const BOUNDED_OUTPUT_TOKENS: u64 = 4_096;
/// What a picture counts at most that a provider fetches itself: small models bill large ones as tens of thousands.
const PICTURE_TOKENS: u64 = 50_000;
/// What providers add to a request that has tools, generously.
const TOOLS_TOKENS: u64 = 1_024;
/// Published prices rise by at most this factor: for tokens written to a cache, and for long prompts.
const PUBLISHED_FACTOR: i64 = 2;

/// The most input tokens that `body`, a request, can be counted as: a token has at least one byte, pictures by reference
/// and tools come on top.
pub fn input_tokens_max(body: &str) -> u64 {
    let count = |needle: &str| body.matches(needle).count() as u64;
    let pictures = count("\"image_url\"") + count("\"input_image\"") + count("\"image\"");
    let tools = if body.contains("\"tools\"") { TOOLS_TOKENS } else { 0 };
    (body.len() as u64).saturating_add(pictures.saturating_mul(PICTURE_TOKENS)).saturating_add(tools)
}

impl Model {
    /// The most that one call can use.
    pub fn use_at_most(&self, tokens: TokensAtMost) -> Use {
        let cost = self.cost_of(tokens.input, tokens.output);
        let factor = match self.price_source {
            PriceSource::Published | PriceSource::PublishedUsage => PUBLISHED_FACTOR,
            PriceSource::Unknown | PriceSource::Manual => 1,
        };
        let cost = NanoDollars(cost.0.saturating_mul(factor));
        Use { calls: 1, tokens: tokens.input.saturating_add(tokens.output), cost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PricePerMillion;

    #[test]
    fn what_does_not_fit_is_named_by_its_field_and_the_limit_itself_fits() {
        let per_step = StepBounds { max_cost: Some(NanoDollars(100)), max_tokens: Some(10), max_calls: Some(2) };
        let bounds = per_step.limits();
        let one = Use { calls: 1, tokens: 5, cost: NanoDollars(50) };
        assert_eq!(bounds.exceeded_by(one, one), None);
        let exceeded = |next: Use| bounds.exceeded_by(one, next).map(Bound::as_str);
        assert_eq!(exceeded(Use { calls: 2, ..one }), Some("max_calls"));
        assert_eq!(exceeded(Use { tokens: 6, ..one }), Some("max_tokens"));
        assert_eq!(exceeded(Use { cost: NanoDollars(51), ..one }), Some("max_cost_usd"));
        assert_eq!(
            Bounds::default().exceeded_by(one, Use { calls: 1_000, tokens: 5_000, cost: NanoDollars(50_000) }),
            None
        );
        assert!(Bounds::default().is_empty());
        let of_steps_only = Bounds { per_step, ..Bounds::default() };
        assert!(!of_steps_only.is_empty());
        assert_eq!(of_steps_only.exceeded_by(one, Use { calls: 9, ..one }), None, "a step's limit is none of the run");
        assert_eq!(Extent::Step.field(Bound::Cost), "per_step.max_cost_usd");
    }

    #[test]
    fn bounds_without_limits_on_steps_are_written_as_they_were_before_there_were_any() {
        let bounds = Bounds { max_calls: Some(2), ..Bounds::default() };
        assert_eq!(serde_json::to_string(&bounds).unwrap(), r#"{"max_calls":2}"#);
        assert_eq!(serde_json::from_str::<Bounds>(r#"{"max_calls":2}"#).unwrap(), bounds);
        let both = Bounds { per_step: StepBounds { max_tokens: Some(7), ..StepBounds::default() }, ..bounds };
        let written = serde_json::to_string(&both).unwrap();
        assert_eq!(written, r#"{"max_calls":2,"per_step":{"max_tokens":7}}"#);
        assert_eq!(serde_json::from_str::<Bounds>(&written).unwrap(), both);
    }

    #[test]
    fn a_worst_case_counts_bytes_as_tokens_and_the_dearest_published_rule() {
        let mut model = Model::new("m", "p");
        model.input_price = PricePerMillion(1_000_000);
        model.output_price = PricePerMillion(10_000_000);
        let tokens = TokensAtMost { input: input_tokens_max("12345"), output: 10 };
        assert_eq!(model.use_at_most(tokens), Use { calls: 1, tokens: 15, cost: NanoDollars(105) });
        model.price_source = PriceSource::Published;
        assert_eq!(model.use_at_most(tokens).cost, NanoDollars(210));
        let picture = r#"{"type":"image_url"}"#;
        assert_eq!(input_tokens_max(picture), picture.len() as u64 + PICTURE_TOKENS);
    }
}
