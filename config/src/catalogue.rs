//! Entries into a catalogue: every id, address, weight and price is checked once, here.
//!
//! Owns the rules of what a provider and a model may be. Knows nothing of files; the place of an entry comes with it,
//! for the messages.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::SecretString;
use tokenhub_domain::{
    Catalogue, Model, ModelId, PricePerMillion, Provider, ProviderId, ProviderKind, ProviderOrigin, limits,
};

use crate::{
    ConfigError,
    entries::{Entries, ModelEntry, ProviderEntry},
};

/// The prefix of the names under which plans are offered as models.
const RESERVED_MODEL_PREFIX: &str = "plan/";

/// Who wrote the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A person: everything is a configured provider.
    Operator,
    /// `tokenhub up`: entries say themselves what they are.
    Hub,
}

/// A catalogue in the making.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    providers: Vec<Provider>,
    models: Vec<Model>,
    credentials: BTreeMap<ProviderId, SecretString>,
    places: BTreeMap<ProviderId, String>,
    unserved: BTreeSet<ProviderId>,
    warnings: Vec<String>,
}

/// What the sources came to.
pub(crate) struct Built {
    pub(crate) catalogue: Catalogue,
    pub(crate) credentials: BTreeMap<ProviderId, SecretString>,
    pub(crate) places: BTreeMap<ProviderId, String>,
    pub(crate) warnings: Vec<String>,
}

impl Builder {
    /// Takes the entries of one place.
    pub(crate) fn add(&mut self, place: &str, source: Source, entries: Entries) -> Result<(), ConfigError> {
        for entry in entries.providers {
            self.add_provider(place, source, entry)?;
        }
        for entry in entries.models {
            self.add_model(place, &entry)?;
        }
        Ok(())
    }

    /// Gives a provider that is already defined its key, unless it has one. False when it is not defined.
    pub(crate) fn fill_credential(&mut self, provider: &str, secret: &str) -> bool {
        let id = ProviderId::from(provider);
        let defined = self.places.contains_key(&id);
        if defined {
            self.credentials.entry(id).or_insert_with(|| secret.into());
        }
        defined
    }

    pub(crate) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// The catalogue, once every source was added.
    pub(crate) fn finish(self) -> Built {
        let Self { providers, models, credentials, places, unserved: _, warnings } = self;
        Built { catalogue: Catalogue { version: 1, providers, models }, credentials, places, warnings }
    }

    fn add_provider(&mut self, place: &str, source: Source, entry: ProviderEntry) -> Result<(), ConfigError> {
        let id = ProviderId::new(entry.id.clone());
        let refuse =
            |problem: String| Err(ConfigError::BadProvider { place: place.to_owned(), id: id.clone(), problem });
        if let Some(problem) = problem_of_id(&entry.id) {
            return refuse(format!("the id {problem}"));
        }
        if let Some(other) = self.places.get(&id) {
            return refuse(format!("already defined in {other}"));
        }
        let default_base_url = match entry.kind.as_deref() {
            None | Some("openai" | "") => Some("https://api.openai.com"),
            Some("vllm") => None,
            Some("anthropic") => {
                self.warn(format!("{place}: provider `{id}` is of type `anthropic`, not served by this build yet"));
                self.unserved.insert(id);
                return Ok(());
            }
            Some(other) => return refuse(format!("unknown type `{other}`, expected `openai` or `vllm`")),
        };
        let Some(base_url) = entry.base_url.as_deref().or(default_base_url) else {
            return refuse("base_url is missing".to_owned());
        };
        let Some(base_url) = normal_base_url(base_url) else {
            return refuse(format!("base_url `{base_url}` is not an http or https address"));
        };
        let origin = match (source, entry.origin) {
            (Source::Operator, Some(_)) => return refuse("unknown field `origin`".to_owned()),
            (Source::Operator, None) => ProviderOrigin::Configured,
            (Source::Hub, origin) => origin.unwrap_or_default(),
        };
        if let Some(key) = entry.api_key.filter(|key| !key.0.is_empty()) {
            self.credentials.insert(id.clone(), key.0.into());
        }
        self.places.insert(id.clone(), place.to_owned());
        self.providers.push(Provider {
            id,
            kind: ProviderKind::Openai,
            base_url,
            enabled: entry.enabled,
            origin,
            autoload_models: entry.autoload_models,
        });
        Ok(())
    }

    fn add_model(&mut self, place: &str, entry: &ModelEntry) -> Result<(), ConfigError> {
        let id = ModelId::new(entry.id.clone());
        let provider_id = ProviderId::new(entry.provider_id.clone());
        if self.unserved.contains(&provider_id) {
            return Ok(());
        }
        let model = self.checked_model(entry, &id, &provider_id).map_err(|problem| ConfigError::BadModel {
            place: place.to_owned(),
            id: id.clone(),
            problem,
        })?;
        self.models.push(model);
        Ok(())
    }

    fn checked_model(&mut self, entry: &ModelEntry, id: &ModelId, provider: &ProviderId) -> Result<Model, String> {
        if let Some(problem) = problem_of_id(id.as_str()) {
            return Err(format!("the id {problem}"));
        }
        if id.as_str().starts_with(RESERVED_MODEL_PREFIX) {
            return Err(format!("the prefix `{RESERVED_MODEL_PREFIX}` is reserved for plans"));
        }
        if !self.places.contains_key(provider) {
            return Err(format!("its provider `{provider}` is not defined"));
        }
        if self.models.iter().any(|model| &model.id == id && &model.provider_id == provider) {
            return Err(format!("defined twice at provider `{provider}`"));
        }
        if entry.weight > limits::WEIGHT_MAX {
            return Err(format!("weight {} is above {}", entry.weight, limits::WEIGHT_MAX));
        }
        if entry.tool_name_map.is_some() {
            self.warn(format!("model `{id}`: tool_name_map is not used by this build"));
        }
        Ok(Model {
            id: id.clone(),
            provider_id: provider.clone(),
            weight: entry.weight,
            max_context_tokens: entry.max_context_tokens.filter(|tokens| *tokens > 0),
            input_price: price("input_per_1k", entry.input_per_1k)?,
            output_price: price("output_per_1k", entry.output_per_1k)?,
            enabled: entry.enabled,
        })
    }
}

fn price(field: &str, usd: f64) -> Result<PricePerMillion, String> {
    PricePerMillion::from_usd_per_thousand(usd)
        .filter(|price| price.0 >= 0)
        .ok_or_else(|| format!("{field} {usd} is not a price"))
}

/// Any printable characters make an id; they end up in headers, columns and labels.
fn problem_of_id(id: &str) -> Option<&'static str> {
    if id.is_empty() {
        Some("is empty")
    } else if id.len() > limits::MODEL_ID_BYTES {
        Some("is longer than 256 bytes")
    } else if id.chars().any(char::is_control) || id.trim() != id {
        Some("holds control characters or surrounding spaces")
    } else {
        None
    }
}

/// The root of the API: `https://host/v1/` and `https://host` are the same provider.
fn normal_base_url(text: &str) -> Option<String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    if rest.is_empty() || rest.starts_with('/') || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let trimmed = text.trim_end_matches('/');
    Some(trimmed.strip_suffix("/v1").unwrap_or(trimmed).trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(json: &str) -> Entries {
        serde_json::from_str(json).unwrap()
    }

    fn refused(json: &str) -> String {
        Builder::default().add("here", Source::Operator, entries(json)).unwrap_err().to_string()
    }

    #[test]
    fn ids_of_models_hold_any_printable_character() {
        let mut builder = Builder::default();
        let json = r#"{"providers":[{"id":"p","base_url":"http://h/v1/"}],
            "models":[{"id":"org/model:7b-q4.K+x@2025 ü","provider_id":"p","input_per_1k":0.01}]}"#;
        builder.add("here", Source::Operator, entries(json)).unwrap();
        let built = builder.finish();
        assert_eq!(built.catalogue.models[0].id.as_str(), "org/model:7b-q4.K+x@2025 ü");
        assert_eq!(built.catalogue.models[0].weight, 5);
        assert_eq!(built.catalogue.models[0].input_price, PricePerMillion(10_000_000_000));
        assert_eq!(built.catalogue.providers[0].base_url, "http://h");
    }

    #[test]
    fn entries_that_make_no_sense_are_refused_with_place_and_id() {
        let provider = r#""providers":[{"id":"p","base_url":"http://h"}]"#;
        assert_eq!(
            refused(&format!(r#"{{{provider},"models":[{{"id":"plan/x","provider_id":"p"}}]}}"#)),
            "here: model `plan/x`: the prefix `plan/` is reserved for plans"
        );
        assert!(refused(r#"{"models":[{"id":"m","provider_id":"q"}]}"#).contains("provider `q` is not defined"));
        assert!(
            refused(&format!(r#"{{{provider},"models":[{{"id":"a\nb","provider_id":"p"}}]}}"#)).contains("control")
        );
        let overweight = format!(r#"{{{provider},"models":[{{"id":"m","provider_id":"p","weight":11}}]}}"#);
        assert!(refused(&overweight).contains("weight 11 is above 10"));
        let negative = format!(r#"{{{provider},"models":[{{"id":"m","provider_id":"p","output_per_1k":-1}}]}}"#);
        assert!(refused(&negative).contains("output_per_1k -1 is not a price"));
        assert!(refused(r#"{"providers":[{"id":"p","base_url":"ftp://h"}]}"#).contains("ftp://h"));
        assert!(refused(r#"{"providers":[{"id":"p","type":"vllm"}]}"#).contains("base_url is missing"));
        assert!(refused(r#"{"providers":[{"id":"p","origin":"demo"}]}"#).contains("unknown field `origin`"));
        assert!(refused(r#"{"providers":[{"id":"p"},{"id":"p"}]}"#).contains("already defined in here"));
    }

    #[test]
    fn a_provider_that_cannot_be_served_yet_is_left_out_with_a_warning() {
        let mut builder = Builder::default();
        let json = r#"{"providers":[{"id":"claude","type":"anthropic","base_url":"https://a"}],
            "models":[{"id":"m","provider_id":"claude"}]}"#;
        builder.add("here", Source::Operator, entries(json)).unwrap();
        let built = builder.finish();
        assert_eq!((built.catalogue.providers.len(), built.catalogue.models.len()), (0, 0));
        assert!(built.warnings[0].contains("`claude`"));
    }
}
