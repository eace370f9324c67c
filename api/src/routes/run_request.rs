//! From a parsed request to a specification: models looked up, defaults filled in.

use tokenhub_domain::{
    Catalogue, ErrorClass, ModelId, Operation, ProviderFailure, RunContext, RunId, RunKind, SelectRequest,
    ShortlistWish, SpecBase, StopReason, Text, limits,
};
use tokenhub_routing::{Resolved, Signals};

use super::entry::Entry;
use crate::{
    error::{FailedRun, Problem},
    parse::Ask,
    protocol::Protocol,
    state::Models,
};

/// The reason with which routing leaves out a model whose window is too small.
const CONTEXT_OVERFLOW: &str = "context_overflow";

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
    let policy = ask.policy.or_default(settings.default_profile, settings.default_max_budget);
    let default_deadline_ms = match kind {
        RunKind::Chat | RunKind::StreamLog => settings.default_max_latency_ms,
        RunKind::Adversarial | RunKind::Vote | RunKind::Refine | RunKind::BestOfN => limits::RUN_DEADLINE_MS,
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
        },
        dialect: protocol.dialect,
        operation: Operation::Chat,
        forwarded: protocol.forwarded(&entry.headers),
        original: Text::Inline(ask.original),
        estimated_input_tokens: ask.estimated_input_tokens,
        estimated_output_tokens: ask.estimated_output_tokens,
        output: ask.output,
        deadline_ms: policy.max_latency_ms.unwrap_or(default_deadline_ms),
        policy,
    }
}

/// The model called `name`, or a refusal that names `param`. A model that exists and may not be called is refused with
/// the reason: nothing is answered by another model than the one asked for.
pub(super) fn named_model(
    catalogue: &Catalogue,
    base: &SpecBase,
    param: &'static str,
    name: Option<&str>,
    min_weight: u32,
) -> Result<Option<ModelId>, Problem> {
    let Some(name) = name else { return Ok(None) };
    let model = match tokenhub_routing::resolve_model(catalogue, name) {
        Resolved::Any => return Ok(None),
        Resolved::Unknown => return Err(Problem::UnknownModel { param, model: name.to_owned() }),
        Resolved::Named(model) => model,
    };
    let wish = ShortlistWish { profile: base.policy.profile, model: Some(model.clone()), min_weight };
    let shortlist = tokenhub_routing::shortlist(catalogue, &wish, &select_request(base), &Signals::default());
    if !shortlist.candidates.is_empty() {
        return Ok(Some(model));
    }
    let skipped = shortlist.skipped.first().map_or("not eligible", String::as_str);
    let reason = skipped.rsplit_once(": ").map_or(skipped, |(_, reason)| reason);
    if reason == CONTEXT_OVERFLOW {
        return Err(too_long(param, &model));
    }
    Err(Problem::RefusedModel { param, model: name.to_owned(), reason: reason.replace('_', " ") })
}

/// What routing is asked for this request.
pub(super) fn select_request(base: &SpecBase) -> SelectRequest {
    SelectRequest {
        wishes: Vec::new(),
        estimated_input_tokens: base.estimated_input_tokens,
        estimated_output_tokens: base.estimated_output_tokens,
        policy: base.policy.clone(),
    }
}

fn too_long(param: &str, model: &ModelId) -> Problem {
    let message = format!("the request does not fit the context window of `{model}`");
    let failure =
        ProviderFailure { param: Some(param.to_owned()), ..ProviderFailure::of(ErrorClass::ContextTooLong, message) };
    Problem::RunFailed(Box::new(FailedRun {
        failure: Some(failure),
        stop_reason: StopReason::NoEligibleModel,
        ..FailedRun::default()
    }))
}
