//! The prices and windows that providers publish, as the `genai-prices` crate has them, for models of which the operator
//! says neither.
//!
//! Owns which published provider a configured one is, and the change from dollars to whole nano-dollars. The data is that
//! of this version: a price changes with an upgrade, never under a running process. Reading it takes some tens of
//! milliseconds and happens once, at the start of a process that has such a provider.

use genai_prices::{Calculator, ExtractRequest, PriceRequest, Usage, UsageKey};
use serde_json::{Value, json};
use tokenhub_domain::{Catalogue, Model, ModelId, NanoDollars, PricePerMillion, PriceSource, Provider, ProviderOrigin};

const MILLION: f64 = 1_000_000.0;
/// The forms of usage objects, the most specific first.
const FORMS: [&str; 3] = ["responses", "chat", "default"];

/// What is published about a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Published {
    input_price: PricePerMillion,
    output_price: PricePerMillion,
    max_context_tokens: Option<u64>,
}

/// Gives every model of which nobody has said a price the published one, and its window.
pub fn fill_in(catalogue: &mut Catalogue) {
    let Catalogue { providers, models, .. } = catalogue;
    for provider in providers.iter() {
        let mut of_provider =
            models.iter_mut().filter(|model| model.provider_id == provider.id && lacks_something(model)).peekable();
        if of_provider.peek().is_none() {
            continue;
        }
        let Some(name) = published_name(provider) else { continue };
        for model in of_provider {
            let Some(published) = published(name, &model.id) else { continue };
            model.max_context_tokens = model.max_context_tokens.or(published.max_context_tokens);
            if model.price_source == PriceSource::Unknown {
                model.input_price = published.input_price;
                model.output_price = published.output_price;
                model.price_source = PriceSource::Published;
            }
        }
    }
}

fn lacks_something(model: &Model) -> bool {
    model.price_source == PriceSource::Unknown || model.max_context_tokens.is_none()
}

/// What a call costs by every published rule (cached tokens, tiers), from the provider's own usage object.
pub fn cost(provider: &Provider, model: &ModelId, usage_json: &str) -> Option<NanoDollars> {
    let name = published_name(provider)?;
    let usage: Value = serde_json::from_str(usage_json).ok()?;
    let tier = usage.get("service_tier").and_then(Value::as_str).map(str::to_owned);
    let body = json!({"model": model.as_str(), "usage": usage});
    FORMS.iter().find_map(|form| {
        let request = ExtractRequest::from_value(&body).with_provider_id(name).with_api_flavor(form);
        let extracted = Calculator::bundled().extract_provider_usage(&request).ok()?;
        let mut request = PriceRequest::new(model.as_str(), &extracted.usage).with_provider_id(name);
        if let Some(tier) = &tier {
            request = request.with_price_context("service_tier", tier);
        }
        let price = Calculator::bundled().calculate(&request).ok()?;
        NanoDollars::from_usd(price.total_price).filter(|cost| cost.0 > 0)
    })
}

/// The provider in the published data. An address of one's own is nobody's, unless the operator says whose prices count.
fn published_name(provider: &Provider) -> Option<&'static str> {
    if provider.origin != ProviderOrigin::Configured {
        return None;
    }
    let is_public = provider.base_url.starts_with("https://");
    let (named, url) = match &provider.prices_of {
        Some(name) => (Some(name.as_str()), None),
        None if is_public => (None, Some(provider.base_url.as_str())),
        None => return None,
    };
    Calculator::bundled().find_provider(named, url).ok().flatten().map(genai_prices::ProviderInfo::id)
}

fn published(provider: &str, model: &ModelId) -> Option<Published> {
    let price_of = |key: UsageKey| {
        let usage = Usage::from([(key, MILLION)]);
        let request = PriceRequest::new(model.as_str(), &usage).with_provider_id(provider);
        let price = Calculator::bundled().calculate(&request).ok()?;
        let per_million = NanoDollars::from_usd(price.total_price)?;
        (price.provider_id == provider).then_some((PricePerMillion(per_million.0), price.model_id))
    };
    let (input_price, id) = price_of(UsageKey::INPUT_TOKENS)?;
    let output_price = price_of(UsageKey::OUTPUT_TOKENS).map_or_else(PricePerMillion::default, |(price, _)| price);
    let mut providers = Calculator::bundled().providers();
    let known = providers.find(|one| one.id() == provider)?.models().find(|one| one.id() == id);
    Some(Published {
        input_price,
        output_price,
        max_context_tokens: known.and_then(genai_prices::ModelInfo::context_window),
    })
}

/// Whether there is a published provider of that name.
pub(crate) fn is_known(name: &str) -> bool {
    Calculator::bundled().find_provider(Some(name), None).is_ok_and(|found| found.is_some())
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::ProviderKind;

    use super::*;

    fn catalogue(provider: Provider, models: &[&str]) -> Catalogue {
        let models = models.iter().map(|id| Model::new(*id, provider.id.clone())).collect();
        Catalogue { version: 1, providers: vec![provider], models, ..Catalogue::default() }
    }

    #[test]
    fn a_known_provider_has_published_prices_and_windows_and_what_the_operator_says_stays() {
        let provider = Provider::new("mine", ProviderKind::Openai, "https://api.openai.com");
        let mut all = catalogue(provider, &["gpt-4o", "a-model-that-nobody-published", "o3"]);
        all.models[2] = Model {
            input_price: PricePerMillion(7),
            price_source: PriceSource::Manual,
            max_context_tokens: Some(5),
            ..all.models[2].clone()
        };
        fill_in(&mut all);
        let [known, unknown, manual] = &all.models[..] else { panic!("three models") };
        assert_eq!(known.price_source, PriceSource::Published);
        assert_eq!((known.input_price.0, known.output_price.0), (2_500_000_000, 10_000_000_000));
        assert_eq!(known.max_context_tokens, Some(128_000));
        assert_eq!((unknown.price_source, unknown.input_price.0), (PriceSource::Unknown, 0));
        assert_eq!(
            (manual.price_source, manual.input_price.0, manual.max_context_tokens),
            (PriceSource::Manual, 7, Some(5))
        );
    }

    #[test]
    fn an_address_of_ones_own_has_no_published_prices_unless_it_is_said_whose_count() {
        let own = Provider::new("own", ProviderKind::Openai, "http://127.0.0.1:1");
        let mut all = catalogue(own.clone(), &["gpt-4o"]);
        fill_in(&mut all);
        assert_eq!(all.models[0].price_source, PriceSource::Unknown);
        let mut all = catalogue(Provider { prices_of: Some("openai".to_owned()), ..own }, &["gpt-4o"]);
        fill_in(&mut all);
        assert_eq!(all.models[0].price_source, PriceSource::Published);
        assert!(is_known("openai") && !is_known("nobody"));
    }

    #[test]
    fn cached_tokens_cost_what_is_published_for_them_in_every_form_of_usage() {
        let named = |name: &str| Provider {
            prices_of: Some(name.to_owned()),
            ..Provider::new("own", ProviderKind::Openai, "http://127.0.0.1:1")
        };
        let chat = r#"{"prompt_tokens":1000,"completion_tokens":100,"prompt_tokens_details":{"cached_tokens":800}}"#;
        let responses = r#"{"input_tokens":1000,"output_tokens":100,"input_tokens_details":{"cached_tokens":800}}"#;
        // 200 at 2.50, 800 at 1.25 and 100 at 10 dollars a million.
        for usage in [chat, responses] {
            assert_eq!(cost(&named("openai"), &"gpt-4o".into(), usage), Some(NanoDollars(2_500_000)), "{usage}");
        }
        let messages = r#"{"input_tokens":200,"output_tokens":100,"cache_read_input_tokens":800}"#;
        let cached = cost(&named("anthropic"), &"claude-sonnet-4-5".into(), messages).unwrap();
        let whole = r#"{"input_tokens":1000,"output_tokens":100}"#;
        let uncached = cost(&named("anthropic"), &"claude-sonnet-4-5".into(), whole).unwrap();
        assert!(cached.0 > 0 && cached.0 < uncached.0, "{cached:?} {uncached:?}");
        assert_eq!(cost(&named("openai"), &"nobody".into(), chat), None);
        assert_eq!(cost(&named("openai"), &"gpt-4o".into(), "no json"), None);
    }
}
