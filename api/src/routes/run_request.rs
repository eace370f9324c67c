//! From a parsed request to a specification: models looked up, defaults filled in.

use tokenhub_domain::{
    Bounds, Capability, Catalogue, Deltas, Dialect, DurabilityWish, ErrorClass, EventKeeping, Labels, ModelChoice,
    Operation, Policy, PromptPrefix, ProviderFailure, RunContext, RunId, RunKind, SelectRequest, ShortlistWish,
    SpecBase, StopReason, Text, limits,
};
use tokenhub_routing::{Asker, Ranking, Signals, Situation, Temperature};

use super::entry::Entry;
use crate::{
    error::{FailedRun, Problem},
    parse::{Ask, Demands, demands},
    protocol::Protocol,
    state::Models,
};

/// The reason with which routing leaves out a model whose window is too small.
const CONTEXT_OVERFLOW: &str = "context_overflow";
/// The field that lists models to fall back on.
const LIST: &str = "models";
/// The client's own session: callers of one session stay on one variant of an alias.
const SESSION: &str = "x-session-id";

/// Makes the common part of a specification.
pub(super) fn base(
    models: &Models,
    entry: &Entry,
    kind: RunKind,
    run_id: RunId,
    ask: Ask,
    protocol: &Protocol,
) -> SpecBase {
    let settings = models.live.settings();
    let wished = ask.policy.or_default(settings.default_profile, settings.default_max_budget);
    let hedge_after_ms = wished.hedge_after_ms.or(entry.hedge_after_ms).or(settings.hedge_after_ms);
    // 0 is how a caller opts out.
    let policy = Policy { hedge_after_ms: hedge_after_ms.filter(|millis| *millis > 0), ..wished };
    let default_deadline_ms = match kind {
        RunKind::Chat | RunKind::StreamLog => settings.default_max_latency_ms,
        RunKind::Adversarial
        | RunKind::Vote
        | RunKind::Refine
        | RunKind::BestOfN
        | RunKind::Cascade
        | RunKind::Fuse => limits::RUN_DEADLINE_MS,
    };
    SpecBase {
        run: RunContext {
            run_id,
            kind,
            tenant: entry.caller.tenant.clone(),
            principal: entry.caller.principal.clone(),
            api_key_id: entry.caller.api_key_id.clone(),
            request_id: entry.request_id.clone(),
            config_version: models.world.catalogue.load().version,
            events: EventKeeping::None,
            labels: Labels::default(),
            share: entry.caller.share,
            deltas: Deltas::None,
        },
        dialect: protocol.dialect,
        operation: Operation::Chat,
        forwarded: protocol.forwarded(&entry.headers),
        prefix: PromptPrefix::of(&ask.original),
        original: Text::Inline(ask.original),
        estimated_input_tokens: ask.estimated_input_tokens,
        estimated_output_tokens: ask.estimated_output_tokens,
        output: ask.output,
        wish: DurabilityWish::default(),
        approval: None,
        bounds: Bounds::default(),
        step_timeout_ms: None,
        first_token_timeout_ms: None,
        fork: None,
        deadline_ms: policy.max_latency_ms.unwrap_or(default_deadline_ms),
        policy,
        needs: ask.demands.needs,
    }
}

/// A model as a request names it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Naming<'a> {
    /// The field that names it.
    pub(super) param: &'static str,
    /// The name.
    pub(super) name: Option<&'a str>,
    /// Who may stand in for it, by the request's own list.
    pub(super) listed: &'a [String],
    /// The client's own user.
    pub(super) user: Option<&'a str>,
    /// The smallest weight.
    pub(super) min_weight: u32,
    /// What it must be able to do.
    pub(super) needs: &'a [Capability],
}

impl<'a> Naming<'a> {
    /// The model that answers the request itself.
    pub(super) fn of(param: &'static str, name: Option<&'a str>, demands: &'a Demands, base: &'a SpecBase) -> Self {
        let Demands { models, user, .. } = demands;
        Self { param, name, listed: models, user: user.as_deref(), min_weight: 0, needs: &base.needs }
    }
}

/// The models that may answer, or a refusal that names the field. A model that exists and may not be called is refused
/// with the reason: nothing is answered by another model than the one asked for and those that were put behind it.
pub(super) fn named_model(
    catalogue: &Catalogue,
    entry: &Entry,
    base: &SpecBase,
    naming: Naming<'_>,
) -> Result<Option<ModelChoice>, Problem> {
    if naming.name.is_none() && naming.listed.is_empty() {
        return Ok(None);
    }
    let session = entry.headers.get(SESSION).and_then(|value| value.to_str().ok());
    let asker = Asker {
        user: session.or(naming.user),
        principal: base.run.principal.as_str(),
        request: base.run.run_id.as_str(),
    };
    let chosen = tokenhub_routing::choose(catalogue, naming.name.unwrap_or_default(), naming.listed, asker);
    let choice = chosen.map_err(|unknown| Problem::UnknownModel {
        param: if unknown.in_list { LIST } else { naming.param },
        model: unknown.name,
    })?;
    let Some(choice) = choice else { return Ok(None) };
    let wish = ShortlistWish {
        profile: base.policy.profile,
        model: Some(choice.clone()),
        min_weight: naming.min_weight,
        needs: naming.needs.to_vec(),
        apart_from: None,
    };
    let signals = Signals::default();
    let situation = Situation { catalogue, signals: &signals, temperature: Temperature::GREEDY, seed: 0, warm: &[] };
    let ranking = tokenhub_routing::ranking(&situation, &wish, &select_request(base));
    if ranking.ranked.is_empty() { Err(refusal(base.dialect, &naming, &choice, &ranking)) } else { Ok(Some(choice)) }
}

/// Why nobody of the choice may be called, by what keeps the first away.
fn refusal(dialect: Dialect, naming: &Naming<'_>, choice: &ModelChoice, ranking: &Ranking<'_>) -> Problem {
    let reason = ranking.skipped.first().map_or("not_eligible", |skipped| skipped.reason);
    if reason == CONTEXT_OVERFLOW {
        return too_long(naming.param, choice);
    }
    let lacking = Capability::ALL.into_iter().find(|capability| capability.lacking() == reason);
    let param = lacking.map_or(naming.param, |capability| demands::field_of(capability, dialect));
    let model = naming.name.map_or_else(|| choice.to_string(), str::to_owned);
    Problem::RefusedModel { param, model, reason: reason.replace('_', " ") }
}

/// What routing is asked for this request.
pub(super) fn select_request(base: &SpecBase) -> SelectRequest {
    SelectRequest {
        wishes: Vec::new(),
        estimated_input_tokens: base.estimated_input_tokens,
        estimated_output_tokens: base.estimated_output_tokens,
        policy: base.policy.clone(),
        prefix: base.prefix,
    }
}

fn too_long(param: &str, model: &ModelChoice) -> Problem {
    let message = format!("the request does not fit the context window of `{model}`");
    let failure =
        ProviderFailure { param: Some(param.to_owned()), ..ProviderFailure::of(ErrorClass::ContextTooLong, message) };
    Problem::RunFailed(Box::new(FailedRun {
        failure: Some(failure),
        stop_reason: StopReason::NoEligibleModel,
        ..FailedRun::default()
    }))
}
