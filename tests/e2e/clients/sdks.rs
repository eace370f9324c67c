//! The official SDKs for Python and Node and the Vercel AI SDK, each in every protocol that it speaks, with an upstream
//! of every protocol.

use std::{collections::BTreeSet, fs, time::Duration};

use futures_util::{StreamExt, stream};
use serde_json::Value;
use tokenhub_demo::Finished;

use super::{MODEL_ENDINGS, Run, Upstream, clients_folder, installed, scripted_gateway};
use crate::harness::{Disturbance, TestHub};

/// Programs that run at the same time.
const PARALLEL: usize = 3;
/// A call that a client gave up ends within its scripted delay.
const CALLS_PATIENCE: Duration = Duration::from_secs(20);

/// A program in `tests/clients` that runs all cases of one SDK.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sdk {
    /// For people, and part of the names of its models.
    pub(super) name: &'static str,
    language: Language,
    file: &'static str,
    /// What the SDK's protocols have in common before `/v1`, besides nothing.
    prefix: &'static str,
    /// How many cases it has with a scripted upstream. A case that is left out is seen.
    cases: usize,
    /// How many of them only an upstream with Chat Completions can pass.
    chat_cases: usize,
    /// How many cases it has with a real model.
    pub(super) plain_cases: usize,
}

#[derive(Clone, Copy, Debug)]
enum Language {
    Python,
    Node,
}

/// All of them.
pub(super) const SDKS: [Sdk; 5] = [
    Sdk {
        name: "openai-python",
        language: Language::Python,
        file: "openai_cases.py",
        prefix: "/openai",
        cases: 40,
        chat_cases: 2,
        plain_cases: 6,
    },
    Sdk {
        name: "anthropic-python",
        language: Language::Python,
        file: "anthropic_cases.py",
        prefix: "/anthropic",
        cases: 20,
        chat_cases: 0,
        plain_cases: 4,
    },
    Sdk {
        name: "openai-node",
        language: Language::Node,
        file: "openai.mjs",
        prefix: "/openai",
        cases: 37,
        chat_cases: 0,
        plain_cases: 5,
    },
    Sdk {
        name: "anthropic-node",
        language: Language::Node,
        file: "anthropic.mjs",
        prefix: "/anthropic",
        cases: 20,
        chat_cases: 0,
        plain_cases: 4,
    },
    // Its protocols share one base URL.
    Sdk {
        name: "ai-sdk",
        language: Language::Node,
        file: "ai_sdk.mjs",
        prefix: "",
        cases: 54,
        chat_cases: 0,
        plain_cases: 6,
    },
];

/// Which cases.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cases {
    /// Those that know the answers of `script.json`.
    Scripted,
    /// Those that know the form of an answer and nothing else.
    Plain,
}

impl Sdk {
    /// Runs the cases and gives the failures.
    pub(super) async fn failures(&self, hub: &TestHub, upstream: Upstream, cases: Cases) -> Vec<String> {
        let model = upstream.model(self.name);
        let output = self.run(hub, upstream, cases).output().await;
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let mut failures = Vec::new();
        let mut passed = BTreeSet::new();
        for line in stdout.lines() {
            // `null` has no fields: what is no result is a failure.
            let result: Value = serde_json::from_str(line).unwrap_or_default();
            if result["ok"] == true {
                passed.insert(result["case"].to_string());
            } else {
                let error = result["error"].as_str().unwrap_or(line);
                failures.push(format!("{model}: {}\n{error}", result["case"]));
            }
        }
        let expected = match (cases, upstream) {
            (Cases::Plain, _) => self.plain_cases,
            (Cases::Scripted, Upstream::Chat) => self.cases + self.chat_cases,
            (Cases::Scripted, Upstream::Responses | Upstream::Messages) => self.cases,
        };
        if passed.len() + failures.len() != expected || output.status.success() != failures.is_empty() {
            failures.push(format!("{model}: {} of {expected} cases, {}\n{stderr}", passed.len(), output.status));
        }
        failures
    }

    fn run(&self, hub: &TestHub, upstream: Upstream, cases: Cases) -> Run {
        let folder = hub.dir().join(upstream.model(self.name));
        fs::create_dir_all(&folder).unwrap();
        let program = match self.language {
            Language::Python => installed("TOKENHUB_TEST_PYTHON"),
            Language::Node => installed("TOKENHUB_TEST_NODE"),
        };
        let script = match self.language {
            Language::Python => clients_folder().join(self.file),
            // Node looks for packages beside the script, and nothing is installed in the tree.
            Language::Node => {
                for file in fs::read_dir(clients_folder().join("node")).unwrap().map(Result::unwrap) {
                    fs::copy(file.path(), folder.join(file.file_name())).unwrap();
                }
                std::os::unix::fs::symlink(installed("TOKENHUB_TEST_NODE_MODULES"), folder.join("node_modules"))
                    .unwrap();
                folder.join(self.file)
            }
        };
        // One of the upstreams is reached by the paths that are common, the others by those that name a protocol.
        let prefix = if upstream == Upstream::Chat { "" } else { self.prefix };
        let kind = if upstream == Upstream::Chat { "openai" } else { "other" };
        let cases = match cases {
            Cases::Scripted => "scripted",
            Cases::Plain => "plain",
        };
        let environment = [
            ("HOME", folder.display().to_string()),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
            ("HUB_URL", format!("{}{prefix}", hub.apis[0].1)),
            ("HUB_KEY", hub.environment()["TOKENHUB_CLIENT_KEY"].clone()),
            ("HUB_MODEL", upstream.model(self.name)),
            ("HUB_UPSTREAM", kind.to_owned()),
            ("HUB_CASES", cases.to_owned()),
        ];
        Run { program, arguments: vec![script.into()], folder, environment: environment.into() }
    }
}

/// Runs every SDK with each of the upstreams and asserts that every case passes.
pub(super) async fn assert_all_pass(hub: &TestHub, upstreams: &[Upstream], cases: Cases) {
    let runs = upstreams.iter().flat_map(|upstream| SDKS.map(|sdk| (sdk, *upstream)));
    let runs = runs.map(|(sdk, upstream)| async move { sdk.failures(hub, upstream, cases).await });
    let failures: Vec<Vec<String>> = stream::iter(runs).buffer_unordered(PARALLEL).collect().await;
    let failures = failures.concat();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sdk_works_unchanged_with_every_kind_of_upstream() {
    let hub = scripted_gateway(&SDKS.map(|sdk| sdk.name), &MODEL_ENDINGS).await;
    assert_all_pass(&hub, &Upstream::ALL, Cases::Scripted).await;
    let ended =
        hub.provider.wait_until(CALLS_PATIENCE, |calls| calls.iter().all(|call| call.finished != Finished::Pending));
    assert!(ended.await, "calls that nobody ended");
    assert_upstream_paths(&hub);
    assert_parallel_results(&hub);
    hub.finish(Disturbance::None).await;
}

/// Every call went to its upstream in the upstream's own protocol, whatever the client spoke.
fn assert_upstream_paths(hub: &TestHub) {
    let calls = hub.provider.calls();
    for upstream in Upstream::ALL {
        let of_upstream = |model: &str| model.starts_with(&format!("{}-", upstream.name()));
        let mut paths: BTreeSet<&str> =
            calls.iter().filter(|call| of_upstream(&call.model)).map(|call| call.path.as_str()).collect();
        paths.remove("/v1/embeddings");
        assert_eq!(paths, BTreeSet::from([upstream.path()]));
    }
}

/// The reply to two results depends on the second one: here is the first.
fn assert_parallel_results(hub: &TestHub) {
    let bodies = hub.provider.calls().into_iter().map(|call| (call.model, call.body.to_string()));
    let answered: Vec<_> = bodies.filter(|(_, body)| body.contains("sun in Cairo")).collect();
    // Whole and streamed in each of the nine protocols that the five SDKs speak.
    assert_eq!(answered.len(), Upstream::ALL.len() * 2 * 9);
    for (model, body) in answered {
        assert!(body.contains("fog in Oslo"), "{model}: {body}");
    }
}
