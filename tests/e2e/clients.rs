//! The official clients against a running gateway: the SDKs, the coding agents, and the SDKs with the real local model.
//!
//! What a client asks and what it demands of the answer is in `tests/clients/`. Here is what stands behind the gateway.
//! Every client has an upstream of its own for each protocol, because a failure that one of them provokes may cool an
//! upstream down.

mod agents;
mod local_model;
mod sdks;

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, process::Output, time::Duration};

use serde_json::{Value, json};
use tokenhub_demo::{Credential, Demands, Rule, ScriptedProvider, Validation};

use crate::harness::{TestHub, model};

/// Longest run of one client. The slowest takes about ten seconds when nothing else runs.
const PATIENCE: Duration = Duration::from_mins(3);
/// The models of a client: for what goes well, and for each failure that an upstream may be avoided for.
const MODEL_ENDINGS: [&str; 4] = ["", "-limited", "-failing", "-breaking"];

/// What the gateway has behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upstream {
    /// One that speaks Chat Completions.
    Chat,
    /// One that speaks Responses alone.
    Responses,
    /// One that speaks Messages.
    Messages,
}

impl Upstream {
    const ALL: [Self; 3] = [Self::Chat, Self::Responses, Self::Messages];

    fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Messages => "messages",
        }
    }

    /// Where it is asked.
    fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
        }
    }

    /// Its type in the credentials file.
    fn kind(self) -> &'static str {
        match self {
            Self::Chat | Self::Responses => "openai",
            Self::Messages => "anthropic",
        }
    }

    /// Its entry in the credentials file.
    fn provider(self, id: &str) -> Value {
        match self {
            Self::Chat | Self::Messages => json!({"id": id, "type": self.kind()}),
            Self::Responses => json!({"id": id, "type": self.kind(), "protocols": ["responses"]}),
        }
    }

    /// The model by which `client` reaches this upstream.
    fn model(self, client: &str) -> String {
        format!("{}-{client}", self.name())
    }
}

/// A gateway with upstreams that play `script.json`, one for each of `clients` and each protocol.
async fn scripted_gateway(clients: &[&str], model_endings: &[&str]) -> TestHub {
    let (mut upstreams, mut models) = (Vec::new(), Vec::new());
    for upstream in Upstream::ALL {
        for client in clients {
            let id = upstream.model(client);
            upstreams.push(upstream.provider(&id));
            models.extend(model_endings.iter().map(|ending| model_at(&id, &format!("{id}{ending}"))));
        }
    }
    let hub = TestHub::builder().upstreams(upstreams).models(models).start().await;
    play_script(&hub.provider);
    hub
}

fn model_at(provider: &str, id: &str) -> Value {
    let mut entry = model(id, 1);
    entry["provider_id"] = json!(provider);
    entry["max_output_tokens"] = json!(32_000);
    entry
}

/// The provider takes what a real one takes: requests in its own form, with the operator's key in the right header.
fn play_script(provider: &ScriptedProvider) {
    let script: Value = serde_json::from_str(include_str!("../clients/script.json")).unwrap();
    let rules: Vec<Rule> = serde_json::from_value(script["rules"].clone()).unwrap();
    for rule in rules {
        provider.script(rule);
    }
    let key = "sk-canary".to_owned();
    provider.demand(Demands {
        credentials: vec![Credential::Bearer(key.clone()), Credential::ApiKey(key)],
        validation: Validation::Strict,
    });
}

/// A program that `make test` installs, by the variable that names it.
fn installed(variable: &str) -> PathBuf {
    let named = std::env::var_os(variable);
    PathBuf::from(
        named.unwrap_or_else(|| panic!("{variable} is not set: `make test` installs the clients and sets it")),
    )
}

/// Where the tests keep what clients run.
fn clients_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// A client to be run: a program in a folder of its own with nothing but this environment.
struct Run {
    program: PathBuf,
    arguments: Vec<OsString>,
    folder: PathBuf,
    environment: BTreeMap<&'static str, String>,
}

impl Run {
    async fn output(&self) -> Output {
        let child = tokio::process::Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(&self.environment)
            .current_dir(&self.folder)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        let ended = tokio::time::timeout(PATIENCE, child).await;
        ended.unwrap_or_else(|_| panic!("{} {:?} does not end", self.program.display(), self.arguments)).unwrap()
    }
}
