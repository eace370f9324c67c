//! What a call costs, and what the ledger is told of it: by the published rules where the published prices count, else by the
//! prices per token.

use tokenhub_config::published;
use tokenhub_domain::{Bill, Catalogue, Deployment, Model, PriceSource, TokenUsage};
use tokenhub_store::{Settlement, Waste};

use crate::{World, clock};

/// What a call to `deployment` comes to of which this was counted, as an answer that is used.
pub(crate) fn settlement(
    world: &World,
    deployment: &Deployment,
    (usage, usage_json): (TokenUsage, Option<String>),
    latency_ms: u64,
) -> Settlement {
    let catalogue = world.catalogue.load();
    let Bill { cost, input_price, output_price, price_source } = catalogue
        .model(deployment)
        .map(|model| of(&catalogue, model, &usage, usage_json.as_deref()))
        .unwrap_or_default();
    Settlement {
        usage_json,
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cost,
        input_price,
        output_price,
        price_source,
        finish_reason: None,
        error_class: None,
        status_code: None,
        latency_ms,
        waste: Waste::Used,
        at: clock::now(),
    }
}

/// The bill of a call to `model`; `usage_json` is the provider's own usage object.
fn of(catalogue: &Catalogue, model: &Model, usage: &TokenUsage, usage_json: Option<&str>) -> Bill {
    let per_token = model.bill(usage.input_tokens, usage.output_tokens);
    if model.price_source != PriceSource::Published {
        return per_token;
    }
    let provider = catalogue.provider(&model.provider_id).zip(usage_json);
    let cost = provider.and_then(|(provider, usage_json)| published::cost(provider, &model.id, usage_json));
    match cost {
        Some(cost) => Bill { cost, price_source: PriceSource::PublishedUsage, ..per_token },
        None => per_token,
    }
}
