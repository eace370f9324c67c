//! What an answered call costs: by the published rules where the published prices count, else by the prices per token.

use tokenhub_config::published;
use tokenhub_domain::{Bill, Catalogue, Model, PriceSource, TokenUsage};

/// The bill of a call to `model`; `usage_json` is the provider's own usage object.
pub(crate) fn of(catalogue: &Catalogue, model: &Model, usage: &TokenUsage, usage_json: Option<&str>) -> Bill {
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
