//! Which models may answer: the one that was named, at one provider or wherever it is served, and who may take its place.
//!
//! Written as the bare model id where nothing else is said, which is also how older histories have it. An older worker
//! refuses the long form; to ignore it would be to call somebody whom nobody asked for.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ModelId, ProviderId};

/// A model, at one provider or wherever it is served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "TargetForm", into = "TargetForm")]
pub struct Target {
    /// The model.
    pub model: ModelId,
    /// The only provider wanted.
    pub provider: Option<ProviderId>,
}

impl Target {
    /// Whether `model` at `provider` is meant.
    pub fn is(&self, model: &ModelId, provider: &ProviderId) -> bool {
        &self.model == model && self.provider.as_ref().is_none_or(|only| only == provider)
    }
}

impl From<ModelId> for Target {
    fn from(model: ModelId) -> Self {
        Self { model, provider: None }
    }
}

impl From<&str> for Target {
    fn from(model: &str) -> Self {
        ModelId::from(model).into()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.provider {
            None => write!(formatter, "{}", self.model),
            Some(provider) => write!(formatter, "{provider}/{}", self.model),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum TargetForm {
    Model(ModelId),
    At { model: ModelId, provider: ProviderId },
}

impl From<TargetForm> for Target {
    fn from(form: TargetForm) -> Self {
        match form {
            TargetForm::Model(model) => model.into(),
            TargetForm::At { model, provider } => Self { model, provider: Some(provider) },
        }
    }
}

impl From<Target> for TargetForm {
    fn from(target: Target) -> Self {
        match target {
            Target { model, provider: None } => Self::Model(model),
            Target { model, provider: Some(provider) } => Self::At { model, provider },
        }
    }
}

/// The model that was named, and those that may answer when it does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ChoiceForm", into = "ChoiceForm")]
pub struct ModelChoice {
    /// Who is asked first.
    pub target: Target,
    /// Who is asked after it, in this order; nobody else ever is.
    pub fallbacks: Vec<Target>,
    /// The alias that stood for the target.
    pub alias: Option<ModelId>,
}

impl ModelChoice {
    /// Everybody who may answer, in order.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        std::iter::once(&self.target).chain(&self.fallbacks)
    }
}

impl From<Target> for ModelChoice {
    fn from(target: Target) -> Self {
        Self { target, fallbacks: Vec::new(), alias: None }
    }
}

impl From<ModelId> for ModelChoice {
    fn from(model: ModelId) -> Self {
        Target::from(model).into()
    }
}

impl From<&str> for ModelChoice {
    fn from(model: &str) -> Self {
        Target::from(model).into()
    }
}

impl fmt::Display for ModelChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.target)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ChoiceForm {
    Target(Target),
    Choice {
        target: Target,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        fallbacks: Vec<Target>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        alias: Option<ModelId>,
    },
}

impl From<ChoiceForm> for ModelChoice {
    fn from(form: ChoiceForm) -> Self {
        match form {
            ChoiceForm::Target(target) => target.into(),
            ChoiceForm::Choice { target, fallbacks, alias } => Self { target, fallbacks, alias },
        }
    }
}

impl From<ModelChoice> for ChoiceForm {
    fn from(choice: ModelChoice) -> Self {
        let ModelChoice { target, fallbacks, alias } = choice;
        if fallbacks.is_empty() && alias.is_none() {
            Self::Target(target)
        } else {
            Self::Choice { target, fallbacks, alias }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_alone_is_written_as_its_id_and_everything_comes_back() {
        let at_p = Target { model: "m".into(), provider: Some("p".into()) };
        let full = ModelChoice { target: "m".into(), fallbacks: vec![at_p.clone()], alias: Some("smart".into()) };
        for (choice, json) in [
            (ModelChoice::from("a/b:1"), r#""a/b:1""#),
            (at_p.into(), r#"{"model":"m","provider":"p"}"#),
            (full, r#"{"target":"m","fallbacks":[{"model":"m","provider":"p"}],"alias":"smart"}"#),
        ] {
            assert_eq!(serde_json::to_string(&choice).unwrap(), json);
            assert_eq!(serde_json::from_str::<ModelChoice>(json).unwrap(), choice);
        }
    }
}
