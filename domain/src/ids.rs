//! Newtypes for every identifier, so that a model is never passed where a provider is meant.
//!
//! Their text is shared: a selection copies the ids of hundreds of deployments, and a copy must cost no allocation.
//! Ids that we make are a prefix and a UUIDv7 in plain hex (`plan_`, `run_`, `att_`, `req_`): sortable by time and
//! recognisable in a log. Making one reads the clock and the random source, so the deterministic crates ban `generate`.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Deployment;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text as it is.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text of the id.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether it names nothing.
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(Self::new)
            }
        }
    };
}

macro_rules! generated_id {
    ($name:ident, $prefix:literal) => {
        impl $name {
            /// A new id; later ids sort after earlier ones.
            pub fn generate() -> Self {
                Self::new(format!(concat!($prefix, "{}"), uuid::Uuid::now_v7().simple()))
            }
        }
    };
}

text_id!(
    /// Who owns the data: on every stored row. What processes share (penalties, observations, the catalogue) is `default`'s.
    TenantId
);
text_id!(
    /// Which of the configured keys encrypted a payload at Temporal.
    PayloadKeyId
);
text_id!(
    /// Who is asking, for idempotency scopes and budgets: the fingerprint of a client key.
    PrincipalId
);
text_id!(
    /// The client key that a request came with.
    ApiKeyId
);
text_id!(
    /// A model as clients and upstreams name it; any printable characters, `/ : . + @` included.
    ModelId
);
text_id!(
    /// A template of plans, by the name that its callers know.
    TemplateName
);
text_id!(
    /// A configured provider.
    ProviderId
);
text_id!(
    /// One of a provider's credentials, by name. The unnamed one is that of a provider with a single credential.
    CredentialId
);
text_id!(
    /// One HTTP request at our edge.
    RequestId
);
text_id!(
    /// One job: a plan (`plan_…`), a single chat (`run_…`) or a response in the background (`resp_…`).
    RunId
);
text_id!(
    /// A step inside a run, given by the orchestration program: `plan`, `critique/1`, `ballot/3`.
    StepId
);
text_id!(
    /// The journal's key of one try of one step: run, step, deployment and try number.
    StepKey
);
text_id!(
    /// One provider call; also sent upstream as a header.
    AttemptId
);
text_id!(
    /// A response in the background, as its provider names it.
    ProviderResponseId
);
text_id!(
    /// A Temporal workflow id.
    WorkflowId
);
text_id!(
    /// One process: names its spool file and owns its leases.
    InstanceId
);

text_id!(
    /// One webhook on its way: the same over all tries, so that a receiver knows a repetition.
    DeliveryId
);

generated_id!(DeliveryId, "msg_");
generated_id!(RequestId, "req_");
generated_id!(AttemptId, "att_");
generated_id!(InstanceId, "inst_");

const PLAN_PREFIX: &str = "plan_";
const RESPONSE_PREFIX: &str = "resp_";
/// Of a UUID without hyphens.
const UUID_DIGITS: usize = 32;

impl RunId {
    /// A new id for a plan.
    pub fn generate_plan() -> Self {
        Self::new(format!("{PLAN_PREFIX}{}", uuid::Uuid::now_v7().simple()))
    }

    /// Whether it is the id of a plan.
    pub fn is_plan(&self) -> bool {
        self.as_str().starts_with(PLAN_PREFIX)
    }

    /// A new id for a chat or any other run of one call.
    pub fn generate_run() -> Self {
        Self::new(format!("run_{}", uuid::Uuid::now_v7().simple()))
    }

    /// A new id for a chat whose id is its client's only way back to the answer, in the form that clients know.
    pub fn generate_response() -> Self {
        Self::new(format!("{RESPONSE_PREFIX}{}", uuid::Uuid::now_v7().simple()))
    }

    /// Whether it has the form of such an id. Those of providers are longer.
    pub fn is_of_response(&self) -> bool {
        let digits = self.0.strip_prefix(RESPONSE_PREFIX).unwrap_or_default();
        digits.len() == UUID_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    }
}

impl TenantId {
    /// The tenant of the client key that every installation has, and of what belongs to the installation itself.
    pub fn default_tenant() -> Self {
        Self::new("default")
    }
}

impl StepKey {
    /// The key of try `try_number` (from 1) of `step` on one deployment.
    pub fn of(run: &RunId, step: &StepId, deployment: &Deployment, try_number: u32) -> Self {
        Self::new(format!("{run}|{step}|{}|{}|{try_number}", deployment.account(), deployment.model))
    }

    /// The prefix shared by every try of `step`.
    pub fn step_prefix(run: &RunId, step: &StepId) -> String {
        format!("{run}|{step}|")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_carry_their_prefix_and_sort_by_time() {
        let first = RunId::generate_plan();
        let second = RunId::generate_plan();
        assert!(first.as_str().starts_with("plan_"));
        assert_eq!(first.as_str().len(), "plan_".len() + 32);
        assert!(first < second);
    }

    #[test]
    fn ids_of_responses_are_told_from_those_of_providers() {
        assert!(RunId::generate_response().is_of_response());
        for other in ["resp_1", "resp_68af4030baa48193b0b43b4c2a176a1a0e6967589f080e78", "run_0198"] {
            assert!(!RunId::from(other).is_of_response(), "{other}");
        }
    }

    #[test]
    fn keys_of_different_tries_differ_and_share_the_step_prefix() {
        let (run, step) = (RunId::from("plan_1"), StepId::from("ballot/1"));
        let first = StepKey::of(&run, &step, &Deployment::new("m/x:1", "p"), 1);
        let second = StepKey::of(&run, &step, &Deployment::new("m/x:1", "p"), 2);
        assert_ne!(first, second);
        assert!(first.as_str().starts_with(&StepKey::step_prefix(&run, &step)));
    }
}
