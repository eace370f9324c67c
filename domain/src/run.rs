//! What a run is, apart from its program: kind, owner, durability.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ApiKeyId, Labels, PrincipalId, RequestId, RunId, Share, TenantId};

/// The program of a run; one workflow type each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// One answer.
    Chat,
    /// Plan, then rounds of critique and revision.
    Adversarial,
    /// Several models answer, one answer is chosen.
    Vote,
    /// One answer, then rounds of improvement.
    Refine,
    /// Several candidates, scored by a judge.
    BestOfN,
    /// Cheap models first, until an answer is accepted.
    Cascade,
    /// Several answers made into one.
    Fuse,
    /// The log of a streamed answer.
    StreamLog,
}

impl RunKind {
    /// Every kind, for tables and tests.
    pub const ALL: [Self; 8] = [
        Self::Chat,
        Self::Adversarial,
        Self::Vote,
        Self::Refine,
        Self::BestOfN,
        Self::Cascade,
        Self::Fuse,
        Self::StreamLog,
    ];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Adversarial => "adversarial",
            Self::Vote => "vote",
            Self::Refine => "refine",
            Self::BestOfN => "best_of_n",
            Self::Cascade => "cascade",
            Self::Fuse => "fuse",
            Self::StreamLog => "stream_log",
        }
    }

    /// The kind named `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Who and what a run belongs to; travels with every step so that each row can be attributed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunContext {
    /// The run.
    pub run_id: RunId,
    /// Its program.
    pub kind: RunKind,
    /// Whose data it is.
    pub tenant: TenantId,
    /// Who asked.
    #[serde(default)]
    pub principal: PrincipalId,
    /// With which key.
    #[serde(default)]
    pub api_key_id: ApiKeyId,
    /// By which HTTP request.
    #[serde(default)]
    pub request_id: RequestId,
    /// The catalogue version at the start.
    #[serde(default)]
    pub config_version: u64,
    /// Whether its steps are told while they happen.
    #[serde(default, skip_serializing_if = "EventKeeping::is_default")]
    pub events: EventKeeping,
    /// What its caller finds it by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Its place among the runs that wait for a worker.
    #[serde(default, skip_serializing_if = "Share::is_default")]
    pub share: Share,
    /// Whether its answers are shown while they are written.
    #[serde(default, skip_serializing_if = "Deltas::is_default")]
    pub deltas: Deltas,
}

/// Whether what happens to a run is written down for those who watch it. Only plans are watched: of a chat nobody would
/// read it, and every event is a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKeeping {
    /// It is not.
    #[default]
    None,
    /// Each event, with the step that causes it.
    Kept,
}

impl EventKeeping {
    /// Whether it is what holds where nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether the texts of a run's steps are shown piece by piece to those who watch its events. A worker that does not know
/// of it takes whole answers, which come to the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deltas {
    /// They are not, and providers are asked for whole answers.
    #[default]
    None,
    /// They are, as far as providers stream.
    Shown,
}

impl Deltas {
    /// Whether it is what holds where nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Who holds a run or a journal entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Owner(pub String);

impl Owner {
    /// A workflow: its claim does not expire, because Temporal brings it back.
    pub fn workflow(id: &crate::WorkflowId) -> Self {
        Self(format!("workflow:{id}"))
    }

    /// A process: its claim is a lease.
    pub fn process(id: &crate::InstanceId) -> Self {
        Self(format!("process:{id}"))
    }

    /// One provider call of a process; two calls of one process must wait for each other, too.
    pub fn call(process: &crate::InstanceId, number: u64) -> Self {
        Self(format!("process:{process}/{number}"))
    }

    /// The process, when the owner is one or one of its calls.
    pub fn instance(&self) -> Option<crate::InstanceId> {
        let process = self.0.strip_prefix("process:")?;
        Some(process.split('/').next().unwrap_or(process).into())
    }

    /// Whether the claim of this owner expires when it is not renewed.
    pub fn expires(&self) -> bool {
        self.0.starts_with("process:")
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The durability that a caller asks for (`X-TokenHub-Durability` of a request).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DurabilityWish {
    /// Through Temporal or not at all.
    Required,
    /// Through Temporal while it is there.
    #[default]
    Preferred,
    /// In process.
    None,
}

impl DurabilityWish {
    /// Whether it is what is wished for where nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The wish named `name`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "required" => Some(Self::Required),
            "preferred" => Some(Self::Preferred),
            "none" => Some(Self::None),
            _ => None,
        }
    }
}

/// The durability that an answer had (`X-TokenHub-Durability` of a response).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DurabilityMark {
    /// A Temporal workflow carried it.
    Durable,
    /// It ran in process.
    None,
    /// It was streamed; only its log is durable.
    Stream,
}

impl DurabilityMark {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::None => "none",
            Self::Stream => "stream",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_events_and_deltas_and_with_the_usual_share_is_written_as_before_there_were_any() {
        let old = r#"{"run_id":"run_1","kind":"chat","tenant":"default","principal":"","api_key_id":"","request_id":"","config_version":1}"#;
        let run: RunContext = serde_json::from_str(old).unwrap();
        assert_eq!((run.events, run.share, run.deltas), (EventKeeping::None, Share::default(), Deltas::None));
        assert_eq!(serde_json::to_string(&run).unwrap(), old);
        let shown = RunContext { events: EventKeeping::Kept, deltas: Deltas::Shown, ..run };
        let written = serde_json::to_string(&shown).unwrap();
        assert!(written.ends_with(r#""events":"kept","deltas":"shown"}"#), "{written}");
        assert_eq!(serde_json::from_str::<RunContext>(&written).unwrap(), shown);
    }

    #[test]
    fn a_process_and_its_calls_expire_and_name_their_process() {
        let process = crate::InstanceId::from("inst_1");
        for owner in [Owner::process(&process), Owner::call(&process, 7)] {
            assert!(owner.expires());
            assert_eq!(owner.instance(), Some(process.clone()));
        }
        let workflow = Owner::workflow(&"vote:default:x:0".into());
        assert!(!workflow.expires());
        assert_eq!(workflow.instance(), None);
    }
}
