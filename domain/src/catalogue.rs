//! What can be called: providers, models and the deployments they form together.
//!
//! A snapshot: readers hold one and never see half of a change. Secrets are not in it.

use serde::{Deserialize, Serialize};

use crate::{ModelId, NanoDollars, PricePerMillion, ProviderId};

/// The wire protocol of a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// OpenAI Chat Completions, or anything compatible with it.
    #[default]
    Openai,
}

/// Where a provider came from; the local and demo ones are never stored and are marked wherever models are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderOrigin {
    /// The operator's configuration.
    #[default]
    Configured,
    /// The small model that runs on this machine.
    Local,
    /// A scripted model with canned answers.
    Demo,
}

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Its name.
    pub id: ProviderId,
    /// What it speaks.
    pub kind: ProviderKind,
    /// Root of its API, without `/v1` and without a trailing slash.
    pub base_url: String,
    /// Whether it may be called.
    pub enabled: bool,
    /// Where it came from.
    pub origin: ProviderOrigin,
    /// Whether its model list is to be asked for.
    pub autoload_models: bool,
}

/// A model as one provider serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// The name that clients use and that goes upstream.
    pub id: ModelId,
    /// Who serves it.
    pub provider_id: ProviderId,
    /// 0 to 10; more is better.
    pub weight: u32,
    /// The window, when known.
    pub max_context_tokens: Option<u64>,
    /// Price of input tokens.
    pub input_price: PricePerMillion,
    /// Price of output tokens.
    pub output_price: PricePerMillion,
    /// Whether it may be chosen.
    pub enabled: bool,
}

impl Model {
    /// What a call with these token counts costs.
    pub fn cost_of(&self, input_tokens: u64, output_tokens: u64) -> NanoDollars {
        self.input_price.cost_of(input_tokens) + self.output_price.cost_of(output_tokens)
    }

    /// The pair that a call is addressed to.
    pub fn deployment(&self) -> Deployment {
        Deployment { model: self.id.clone(), provider: self.provider_id.clone() }
    }
}

/// One model at one provider.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Deployment {
    /// The model.
    pub model: ModelId,
    /// Who serves it.
    pub provider: ProviderId,
}

/// A snapshot of everything that can be called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    /// Counts up with every change.
    pub version: u64,
    /// The upstreams.
    pub providers: Vec<Provider>,
    /// Their models, in configuration order.
    pub models: Vec<Model>,
}

impl Catalogue {
    /// The provider named `id`.
    pub fn provider(&self, id: &ProviderId) -> Option<&Provider> {
        self.providers.iter().find(|provider| &provider.id == id)
    }

    /// The model of a deployment.
    pub fn model(&self, deployment: &Deployment) -> Option<&Model> {
        self.models.iter().find(|model| model.id == deployment.model && model.provider_id == deployment.provider)
    }

    /// Whether `model` can be called now: it and its provider are enabled.
    pub fn is_callable(&self, model: &Model) -> bool {
        model.enabled && self.provider(&model.provider_id).is_some_and(|provider| provider.enabled)
    }
}
