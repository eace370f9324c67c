//! The models that exist only while `up` runs: the local one and the demo ones.
//!
//! Owns their form as a provider list in one variable, which is how they reach the worker: they are never stored.

use serde_json::{Value, json};

use crate::local_model;

/// The variable that carries the list.
pub(crate) const VARIABLE: &str = "TOKENHUB_EPHEMERAL_PROVIDERS";
/// The local model is preferred: a real answer, even a wrong one, shows more than a scripted one. It also keeps the local
/// model among the voters and a demo model in the judge's seat, who has to answer in a form that is beyond the local one.
const LOCAL_WEIGHT: u32 = 6;
const DEMO_WEIGHT: u32 = 5;

/// A model of the demo server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OfferedModel {
    pub(crate) id: String,
    pub(crate) context_tokens: u64,
}

/// What is offered beside the operator's providers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ephemeral {
    /// Root of the local model's API.
    pub(crate) local: Option<String>,
    /// Root of the demo server's API, and its models.
    pub(crate) demo: Option<(String, Vec<OfferedModel>)>,
}

impl Ephemeral {
    /// The list in the form of the credentials file, with origins.
    pub(crate) fn to_json(&self) -> String {
        let (mut providers, mut models): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
        if let Some(base_url) = &self.local {
            let protocols = ["chat", "messages", "responses"];
            providers.push(json!({"id": "local", "base_url": base_url, "origin": "local", "protocols": protocols}));
            models.push(json!({
                "id": local_model::MODEL,
                "provider_id": "local",
                "weight": LOCAL_WEIGHT,
                "max_context_tokens": local_model::CONTEXT_TOKENS,
            }));
        }
        if let Some((base_url, demo_models)) = &self.demo {
            providers.push(json!({"id": "demo", "base_url": base_url, "origin": "demo"}));
            models.extend(demo_models.iter().map(|model| {
                json!({
                    "id": model.id,
                    "provider_id": "demo",
                    "weight": DEMO_WEIGHT,
                    "max_context_tokens": model.context_tokens,
                })
            }));
        }
        json!({"providers": providers, "models": models}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use tokenhub_config::{Environment, Flags, Settings};

    use super::*;

    #[test]
    fn the_configuration_reads_what_is_written_here() {
        let offered = Ephemeral {
            local: Some("http://127.0.0.1:1".into()),
            demo: Some(("http://127.0.0.1:2".into(), vec![OfferedModel { id: "demo/a".into(), context_tokens: 9 }])),
        };
        let environment = Environment::from([(VARIABLE, offered.to_json())]);
        let settings = Settings::load(&Flags::new(), &environment).unwrap().settings;
        let models: Vec<&str> = settings.catalogue.models.iter().map(|model| model.id.as_str()).collect();
        assert_eq!(models, [local_model::MODEL, "demo/a"]);
        assert_eq!(settings.catalogue.models[1].max_context_tokens, Some(9));
        assert!(!settings.has_configured_provider());
    }
}
