//! Eligibility and ranking: who may be called for a wish, best first, and why the others may not.
//!
//! A pure function of catalogue, request, signals and seed. Must not know where signals come from nor who drew the seed.
//! Limits are hard: no deployment that a limit excludes is ever offered, and a named model is never replaced by one that
//! neither the request nor the operator put behind it.

use tokenhub_domain::{
    Candidate, Capability, Catalogue, CredentialId, Deployment, Model, ModelId, NanoDollars, Provider, ProviderId,
    RoutingProfile, SelectRequest, Shortlist, ShortlistWish, Target,
};

use crate::{
    bandit::Bucket,
    random::Random,
    score::{Figures, ScoreParts, Weights},
    signals::{Signal, Signals},
};

/// Safety margin over the estimated input, in percent: estimates of four bytes a token are low for code.
const CONTEXT_PERCENT: u64 = 115;

/// Candidates of one list: a request tries a few, a vote asks a few more, and a history has them all.
const CANDIDATES_MAX: usize = 64;

/// How often somebody else than the best is asked first. 0 never; the chance of rank i is as exp(-i / temperature).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Temperature(f64);

impl Temperature {
    /// The best is always first.
    pub const GREEDY: Self = Self(0.0);

    /// `value`, held to 0..=10; not a number counts as 0.
    pub fn new(value: f64) -> Self {
        Self(if value.is_nan() { 0.0 } else { value.clamp(0.0, 10.0) })
    }

    /// The figure.
    pub fn value(self) -> f64 {
        self.0
    }

    /// Who of `count` in the order of their rank goes first.
    fn draw(self, count: usize, random: &mut Random) -> usize {
        if self.0 <= 0.0 || count < 2 {
            return 0;
        }
        let decay = (-1.0 / self.0).exp();
        let weights = || std::iter::successors(Some(1.0), |weight| Some(weight * decay)).take(count);
        let mut left = random.share() * weights().sum::<f64>();
        let drawn = weights().position(|weight| {
            left -= weight;
            left < 0.0
        });
        drawn.unwrap_or(0)
    }
}

/// Everything that a selection depends on beside the request.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// What can be called.
    pub catalogue: &'a Catalogue,
    /// What is known about it.
    pub signals: &'a Signals,
    /// How much to explore.
    pub temperature: Temperature,
    /// Where the draws begin.
    pub seed: u64,
    /// Who has the beginning of the prompt in its cache.
    pub warm: &'a [Deployment],
}

/// A deployment that may be called, and why it is where it is.
#[derive(Clone, Debug)]
pub struct Ranked<'a> {
    /// The model, as its provider serves it.
    pub model: &'a Model,
    /// What a call is estimated to cost.
    pub cost: NanoDollars,
    /// What its score is made of.
    pub parts: ScoreParts,
    credentials: &'a [CredentialId],
}

/// A deployment that may not be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped<'a> {
    /// The model.
    pub model: &'a ModelId,
    /// Who serves it, unless nobody does.
    pub provider: Option<&'a ProviderId>,
    /// Why not.
    pub reason: &'static str,
}

/// Everybody who was looked at.
#[derive(Clone, Debug, Default)]
pub struct Ranking<'a> {
    /// Who may be called, best first.
    pub ranked: Vec<Ranked<'a>>,
    /// Who may not.
    pub skipped: Vec<Skipped<'a>>,
}

impl Ranking<'_> {
    /// Whom to ask, a candidate for each credential, and a line for each of the others. Of very many the best, and behind
    /// them the one with the largest window, for a request that outgrows the others.
    pub fn shortlist(&self) -> Shortlist {
        let mut listed: Vec<Candidate> = Vec::with_capacity(self.ranked.len().min(CANDIDATES_MAX) + 1);
        listed.extend(self.ranked.iter().flat_map(candidates).take(CANDIDATES_MAX));
        let count: usize = self.ranked.iter().map(|ranked| ranked.credentials.len().max(1)).sum();
        if count > listed.len() {
            let widest = self.ranked.iter().rev().max_by_key(|ranked| ranked.model.max_context_tokens);
            let is_wider =
                |one: &Candidate| widest.is_some_and(|widest| widest.model.max_context_tokens > one.max_context_tokens);
            if listed.iter().all(is_wider) {
                listed.extend(widest.into_iter().flat_map(candidates));
            }
        }
        let skipped = self.skipped.iter().map(|it| format!("{}: {}", it.model, it.reason)).collect();
        Shortlist { candidates: listed, skipped, paced: Vec::new() }
    }
}

/// The deployments that may be called for `wish`, best first. Equal scores keep configuration order.
pub fn shortlist(situation: &Situation<'_>, wish: &ShortlistWish, request: &SelectRequest) -> Shortlist {
    ranking(situation, wish, request).shortlist()
}

/// Who may be called for `wish` and who may not, with reasons.
pub fn ranking<'a>(situation: &Situation<'a>, wish: &'a ShortlistWish, request: &SelectRequest) -> Ranking<'a> {
    let selection = Selection::new(situation, wish, request);
    let mut random = Random::new(situation.seed);
    let mut ranking = Ranking::default();
    match &wish.model {
        None => selection.add_group(&mut ranking, None, situation.temperature, &mut random),
        Some(choice) => {
            for (index, target) in choice.targets().enumerate() {
                // Fallbacks are in the order in which they were written.
                let temperature = if index == 0 { situation.temperature } else { Temperature::GREEDY };
                selection.add_group(&mut ranking, Some(target), temperature, &mut random);
            }
        }
    }
    ranking
}

/// What stays the same for every model.
struct Selection<'a, 'r> {
    catalogue: &'a Catalogue,
    signals: &'a Signals,
    warm: &'a [Deployment],
    profile: RoutingProfile,
    min_weight: u32,
    needed_tokens: u64,
    needs: &'a [Capability],
    is_streamed: bool,
    request: &'r SelectRequest,
}

impl<'a, 'r> Selection<'a, 'r> {
    fn new(situation: &Situation<'a>, wish: &'a ShortlistWish, request: &'r SelectRequest) -> Self {
        let Situation { catalogue, signals, warm, .. } = *situation;
        Self {
            catalogue,
            signals,
            warm,
            profile: wish.profile,
            min_weight: wish.min_weight.max(request.policy.min_weight),
            needed_tokens: request.estimated_input_tokens.saturating_mul(CONTEXT_PERCENT) / 100,
            needs: &wish.needs,
            is_streamed: wish.needs.contains(&Capability::Streaming),
            request,
        }
    }

    /// Adds the deployments of `target`, or every one, behind those that are there already.
    fn add_group(
        &self,
        ranking: &mut Ranking<'a>,
        target: Option<&'a Target>,
        temperature: Temperature,
        random: &mut Random,
    ) {
        let before = (ranking.ranked.len(), ranking.skipped.len());
        let mut group: Vec<(Figures, Ranked<'a>)> = Vec::with_capacity(self.catalogue.models.len());
        for (index, model) in self.catalogue.models.iter().enumerate() {
            if target.is_some_and(|target| !target.is(&model.id, &model.provider_id)) {
                continue;
            }
            let cost = model.cost_of(self.request.estimated_input_tokens, self.request.estimated_output_tokens);
            let provider = self.signals.provider_of(self.catalogue, index, model);
            match (self.exclusion(model, provider, cost), provider) {
                (None, Some(provider)) if !is_among(&ranking.ranked[..before.0], model) => {
                    let signal = self.signals.at(index);
                    let (figures, parts) = (self.figures(model, cost, signal), self.drawn(signal, random));
                    let credentials = &provider.credentials;
                    group.push((figures, Ranked { model, cost, parts, credentials }));
                }
                // It was a better target's already.
                (None, Some(_) | None) => {}
                (Some(reason), _) => {
                    ranking.skipped.push(Skipped { model: &model.id, provider: Some(&model.provider_id), reason });
                }
            }
        }
        let mut order = self.score(&mut group);
        if self.profile != RoutingProfile::Thompson && !order.is_empty() {
            let first = temperature.draw(order.len(), random);
            order[..=first].rotate_right(1);
        }
        ranking
            .ranked
            .extend(order.iter().filter_map(|(_, index)| group.get(*index)).map(|(_, ranked)| ranked.clone()));
        if let Some(target) = target
            && before == (ranking.ranked.len(), ranking.skipped.len())
            && !self.is_served(target)
        {
            ranking.skipped.push(Skipped { model: &target.model, provider: None, reason: "unknown_model" });
        }
    }

    fn is_served(&self, target: &Target) -> bool {
        self.catalogue.models.iter().any(|model| target.is(&model.id, &model.provider_id))
    }

    fn exclusion(&self, model: &Model, provider: Option<&Provider>, cost: NanoDollars) -> Option<&'static str> {
        if !model.enabled {
            return Some("disabled");
        }
        if model.weight < self.min_weight {
            return Some("weight_below_minimum");
        }
        if let Some(missing) = model.capabilities.missing(self.needs) {
            return Some(missing.lacking());
        }
        if model.max_context_tokens.is_some_and(|window| self.needed_tokens > window) {
            return Some("context_overflow");
        }
        if provider.is_none_or(|provider| !provider.enabled) {
            return Some("provider_disabled");
        }
        if self.request.policy.max_budget.is_some_and(|budget| cost > budget) {
            return Some("budget_exceeded");
        }
        None
    }

    #[expect(clippy::cast_precision_loss, reason = "only compared, and exact below 9 million dollars")]
    fn figures(&self, model: &Model, cost: NanoDollars, signal: Option<&Signal>) -> Figures {
        let warm = self.warm.iter().any(|warm| warm.model == model.id && warm.provider == model.provider_id);
        let unknown = Figures { cost: cost.0 as f64, weight: f64::from(model.weight), warm, ..Figures::default() };
        let Some(signal) = signal else { return unknown };
        let latency_ms = if self.is_streamed { signal.first_token_ms } else { signal.whole_ms };
        Figures {
            latency_ms: latency_ms.unwrap_or_default(),
            failure_ratio: signal.failure_ratio,
            degraded: signal.degraded,
            ..unknown
        }
    }

    fn drawn(&self, signal: Option<&Signal>, random: &mut Random) -> ScoreParts {
        if self.profile != RoutingProfile::Thompson {
            return ScoreParts::default();
        }
        let arm = signal.map(|signal| Bucket::of(self.request.estimated_input_tokens).arm(&signal.arms));
        ScoreParts { drawn: Some(arm.unwrap_or_default().draw(random)), ..ScoreParts::default() }
    }

    /// Fills in the scores; the result is the order of the group by them.
    fn score(&self, group: &mut [(Figures, Ranked<'a>)]) -> Vec<(f64, usize)> {
        let largest = group.iter().fold(Figures::default(), |largest, (figures, _)| largest.largest(figures));
        let weights = Weights::of(self.profile);
        let scored = group.iter_mut().enumerate().map(|(index, (figures, ranked))| {
            ranked.parts = ScoreParts { drawn: ranked.parts.drawn, ..weights.parts(figures, &largest) };
            (ranked.parts.total(), index)
        });
        let mut order: Vec<(f64, usize)> = scored.collect();
        // Equal scores stay in configuration order, which is unique.
        order.sort_unstable_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
        order
    }
}

fn is_among(ranked: &[Ranked<'_>], model: &Model) -> bool {
    ranked.iter().any(|it| it.model.id == model.id && it.model.provider_id == model.provider_id)
}

/// One for each credential, in the order of their use.
fn candidates<'a>(ranked: &'a Ranked<'_>) -> impl Iterator<Item = Candidate> + 'a {
    let count = ranked.credentials.len().max(1);
    (0..count).map(|index| Candidate {
        deployment: ranked.model.deployment(ranked.credentials.get(index).cloned().unwrap_or_default()),
        max_context_tokens: ranked.model.max_context_tokens,
        estimated_cost: ranked.cost,
        weight: ranked.model.weight,
    })
}

#[cfg(test)]
mod tests;
