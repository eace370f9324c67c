//! Entries of the catalogue as administrators read them. No key is ever shown.

use serde_json::{Value, json};
use tokenhub_activities::KeptRecord;
use tokenhub_config::{RecordKey, RecordKind, Settings};
use tokenhub_domain::{Alias, Model, ModelOrigin, Provider, ProviderKind};

use super::version_of;
use crate::state::Admin;

/// An entry in force.
pub(super) struct Entry {
    /// Which.
    pub(super) key: RecordKey,
    object: Value,
    is_listed: bool,
}

/// Every entry of a kind that is in force, in the order of the catalogue.
pub(super) fn all(admin: &Admin, kind: RecordKind) -> Vec<Entry> {
    let catalogue = admin.world.catalogue.load();
    let settings = admin.curator.live().settings();
    match kind {
        RecordKind::Provider => catalogue.providers.iter().map(|one| of_provider(&settings, one)).collect(),
        RecordKind::Model => catalogue.models.iter().map(of_model).collect(),
        RecordKind::Alias => catalogue.aliases.iter().map(of_alias).collect(),
    }
}

impl Entry {
    /// The entry with where it comes from and its version.
    pub(super) fn with_source(&self, admin: &Admin, kept: &[KeptRecord]) -> Value {
        let mut object = self.object.clone();
        let version = version_of(kept, &self.key);
        let place = admin.curator.live().settings().configured.place_of(&self.key).map(str::to_owned);
        let source = match (version, self.is_listed) {
            (1.., _) => "stored",
            (0, true) => "listed",
            (0, false) => "configured",
        };
        if let Some(fields) = object.as_object_mut() {
            fields.insert("source".to_owned(), source.into());
            fields.insert("configured_in".to_owned(), place.into());
            fields.insert("version".to_owned(), version.into());
        }
        object
    }
}

fn of_provider(settings: &Settings, provider: &Provider) -> Entry {
    let kind = match provider.kind {
        ProviderKind::Openai => "openai",
        ProviderKind::Anthropic => "anthropic",
        ProviderKind::Vllm => "vllm",
    };
    let object = json!({
        "id": provider.id,
        "type": kind,
        "enabled": provider.enabled,
        "base_url": provider.base_url,
        "base_urls": provider.replicas,
        "protocols": provider.dialects,
        "credential_header": provider.credential_header,
        "credentials": provider.credentials,
        "has_key": settings.credentials.get(&provider.id).is_some_and(|keys| !keys.is_empty()),
        "autoload_models": provider.autoload_models,
        "background": provider.background,
        "max_requests_per_second": provider.max_rate.map(tokenhub_domain::CallRate::as_per_second),
        "origin": provider.origin,
    });
    Entry { key: RecordKey::named(RecordKind::Provider, provider.id.as_str()), object, is_listed: false }
}

fn of_model(model: &Model) -> Entry {
    let per_thousand = |price: tokenhub_domain::PricePerMillion| price.cost_of(1_000).as_usd();
    let object = json!({
        "id": model.id,
        "provider_id": model.provider_id,
        "enabled": model.enabled,
        "weight": model.weight,
        "max_context_tokens": model.max_context_tokens,
        "max_output_tokens": model.max_output_tokens,
        "input_per_1k": per_thousand(model.input_price),
        "output_per_1k": per_thousand(model.output_price),
        "pricing_source": model.price_source.as_str(),
        "capabilities": model.capabilities,
        "fallbacks": model.fallbacks,
        "gemma4_output": model.quirks.gemma4_output,
        "tool_name_map": model.quirks.tool_names,
    });
    Entry {
        key: RecordKey::model(model.id.as_str(), model.provider_id.as_str()),
        object,
        is_listed: model.origin == ModelOrigin::Listed,
    }
}

fn of_alias(alias: &Alias) -> Entry {
    let object = json!({
        "name": alias.name,
        "variants": alias.variants,
        "sticky_by": alias.sticky_by,
        "fallbacks": alias.fallbacks,
        "enabled": alias.enabled,
    });
    Entry { key: RecordKey::named(RecordKind::Alias, alias.name.as_str()), object, is_listed: false }
}
