//! A selection as it can be kept and shown later: what was wished, who was ranked how, and who was left out why.
//!
//! Owns the form in which a decision is stored, and deciding again from the same wish under other rules. Bounded, because
//! there is one for each request: the best candidates, some of those left out, and how many there were of each.

use serde::{Deserialize, Serialize};
use tokenhub_domain::{
    Candidate, Deployment, Model, ModelId, NanoDollars, Policy, ProviderId, RoutingProfile, SelectRequest, Shortlist,
    ShortlistWish,
};

use crate::{
    score::ScoreParts,
    select::{Ranking, Situation, ranking},
};

/// How much of a decision is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Everybody who was looked at.
    Whole,
    /// The first sixteen candidates and thirty-two of those left out: what is stored with each request.
    Kept,
}

impl Extent {
    fn candidates_max(self) -> usize {
        match self {
            Self::Whole => usize::MAX,
            Self::Kept => 16,
        }
    }

    fn left_out_max(self) -> usize {
        match self {
            Self::Whole => usize::MAX,
            Self::Kept => 32,
        }
    }
}

/// One selection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// What was wished.
    pub wish: ShortlistWish,
    /// Input tokens, estimated.
    pub estimated_input_tokens: u64,
    /// Output tokens, estimated.
    pub estimated_output_tokens: u64,
    /// Limits on each call.
    pub policy: Policy,
    /// The catalogue that was chosen from.
    pub config_version: u64,
    /// How much was explored.
    pub temperature: f64,
    /// Where the draws began.
    pub seed: u64,
    /// Who may be asked, in that order.
    pub candidates: Vec<Considered>,
    /// How many may be asked.
    pub candidates_total: usize,
    /// Who may not.
    pub left_out: Vec<LeftOut>,
    /// How many may not.
    pub left_out_total: usize,
}

/// A deployment that may be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Considered {
    /// Whom to ask.
    pub deployment: Deployment,
    /// What it is estimated to cost.
    pub estimated_cost: NanoDollars,
    /// Its weight.
    pub weight: u32,
    /// Its window, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_context_tokens: Option<u64>,
    /// What its score is made of.
    pub parts: ScoreParts,
}

/// A deployment that may not be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The model.
    pub model: ModelId,
    /// Who serves it, where one provider is meant.
    pub provider: Option<ProviderId>,
    /// Why not.
    pub reason: String,
}

impl Decision {
    /// What `ranking` found and `listed`, which is the same after the penalties, has left of it.
    pub fn of(
        situation: &Situation<'_>,
        wish: &ShortlistWish,
        request: &SelectRequest,
        ranking: &Ranking<'_>,
        listed: &Shortlist,
        extent: Extent,
    ) -> Self {
        let considered = listed.candidates.iter().take(extent.candidates_max());
        Self {
            wish: wish.clone(),
            estimated_input_tokens: request.estimated_input_tokens,
            estimated_output_tokens: request.estimated_output_tokens,
            policy: request.policy.clone(),
            config_version: situation.catalogue.version,
            temperature: situation.temperature.value(),
            seed: situation.seed,
            candidates: considered.map(|candidate| Considered::of(candidate, ranking)).collect(),
            candidates_total: listed.candidates.len(),
            left_out: left_out(ranking, listed, extent.left_out_max()),
            left_out_total: listed.skipped.len(),
        }
    }
}

impl Considered {
    fn of(candidate: &Candidate, ranking: &Ranking<'_>) -> Self {
        let Candidate { deployment, max_context_tokens, estimated_cost, weight } = candidate.clone();
        let ranked = ranking
            .ranked
            .iter()
            .find(|ranked| ranked.model.id == deployment.model && ranked.model.provider_id == deployment.provider);
        let parts = ranked.map(|ranked| ranked.parts).unwrap_or_default();
        Self { deployment, estimated_cost, weight, max_context_tokens, parts }
    }
}

/// Whom limits left out, and behind them whom penalties did: those are told as `model: reason`.
fn left_out(ranking: &Ranking<'_>, listed: &Shortlist, max: usize) -> Vec<LeftOut> {
    let by_limits = ranking.skipped.iter().map(|skipped| LeftOut {
        model: skipped.model.clone(),
        provider: skipped.provider.cloned(),
        reason: skipped.reason.to_owned(),
    });
    let by_penalties = listed.skipped.iter().skip(ranking.skipped.len()).map(|line| {
        let (model, reason) = line.rsplit_once(": ").unwrap_or((line, "left_out"));
        LeftOut { model: ModelId::new(model), provider: None, reason: reason.to_owned() }
    });
    by_limits.chain(by_penalties).take(max).collect()
}

/// How another profile would do, over decisions that were made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Replayed {
    /// Decisions that were looked at.
    pub decisions: u64,
    /// Those that would go elsewhere.
    pub moved: u64,
    /// Those for which nobody is eligible now.
    pub unanswered: u64,
    /// What the first choices were estimated to cost.
    pub cost: NanoDollars,
    /// What they would be.
    pub cost_then: NanoDollars,
    /// Decisions of which the latencies of both choices are known.
    pub timed: u64,
    /// The sum of the recent latencies of those who were chosen.
    pub latency_ms: f64,
    /// The same of those who would be.
    pub latency_then_ms: f64,
}

impl Replayed {
    /// Decides once more by `profile`, with the catalogue and the signals of `situation`; penalties are not looked at,
    /// because those of that time are over.
    pub fn add(&mut self, decision: &Decision, situation: &Situation<'_>, profile: RoutingProfile) {
        let Some(first) = decision.candidates.first() else { return };
        self.decisions += 1;
        let wish = ShortlistWish { profile, ..decision.wish.clone() };
        let request = SelectRequest {
            wishes: Vec::new(),
            estimated_input_tokens: decision.estimated_input_tokens,
            estimated_output_tokens: decision.estimated_output_tokens,
            policy: Policy { profile, ..decision.policy.clone() },
            prefix: None,
        };
        let ranking = ranking(situation, &wish, &request);
        let Some(then) = ranking.ranked.first() else {
            self.unanswered += 1;
            return;
        };
        let (model, provider) = (&then.model.id, &then.model.provider_id);
        self.cost += first.estimated_cost;
        self.cost_then += then.cost;
        self.moved += u64::from((model, provider) != (&first.deployment.model, &first.deployment.provider));
        let latency_ms = |model: &ModelId, provider: &ProviderId| {
            let place = |one: &Model| &one.id == model && &one.provider_id == provider;
            situation.signals.at(situation.catalogue.models.iter().position(place)?)?.whole_ms
        };
        let known = (latency_ms(&first.deployment.model, &first.deployment.provider), latency_ms(model, provider));
        if let (Some(was_ms), Some(is_ms)) = known {
            self.timed += 1;
            self.latency_ms += was_ms;
            self.latency_then_ms += is_ms;
        }
    }
}

#[cfg(test)]
mod tests;
