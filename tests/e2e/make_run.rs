//! The first five minutes of a user: `make run` with nothing installed, the printed line pasted, the real local model
//! asked in every way, Ctrl-C, and nothing left behind.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokenhub_domain::{RunId, TenantId};
use tokenhub_store::{LedgerRow, Store};

use crate::harness::{Answer, Process, binary, eventually, exchange, http};

/// Installing two packages of a hundred megabytes is part of the first start.
const FIRST_START_PATIENCE: Duration = Duration::from_mins(10);
const STOP_PATIENCE: Duration = Duration::from_mins(1);
/// Must be what the test suite is built with, or `make run` would build everything again.
const BUILD_FLAGS: &str = "--features tokenhub-worker/fault-points,tokenhub-activities/fault-points";

/// A user's terminal with `make run` in it.
struct Installation {
    process: Process,
    dir: PathBuf,
    url: String,
    key: String,
    client: reqwest::Client,
}

impl Installation {
    async fn first_start() -> Self {
        let dir = std::env::temp_dir().join(format!("tokenhub-run-{}", uuid::Uuid::now_v7().simple()));
        fs::create_dir_all(&dir).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let target = binary("tokenhub").parent().and_then(Path::parent).unwrap().to_owned();
        let arguments = format!(
            "--listen 127.0.0.1:0 --temporal-port 0 --temporal-ui-port 0 --data-dir {}",
            dir.join("data").display()
        );
        let mut environment = user_environment();
        environment.extend([
            // An empty cache: Temporal and the model are installed by this very start.
            ("CI".to_owned(), "true".to_owned()),
            ("PIP_NO_CACHE_DIR".to_owned(), "1".to_owned()),
            ("BUILD_CACHE_DIR".to_owned(), dir.join("cache").display().to_string()),
            ("CARGO_TARGET_DIR".to_owned(), target.display().to_string()),
            ("CARGO_PROGRAMS".to_owned(), "--workspace --bins".to_owned()),
            ("CARGO_FLAGS".to_owned(), BUILD_FLAGS.to_owned()),
        ]);
        let command = ["-C".to_owned(), root.display().to_string(), "run".to_owned(), "PROFILE=dev".to_owned()];
        let command = [command.as_slice(), &[format!("ARGS={arguments}")]].concat();
        let mut process = Process::start_group("make-run", Path::new("/usr/bin/make"), &command, &environment, &dir);
        eventually("the banner of `make run`", FIRST_START_PATIENCE, || {
            assert!(!process.exited(), "`make run` ended:\n{}", process.output());
            let is_ready = process.output().contains("Ctrl-C stops everything");
            async move { is_ready.then_some(()) }
        })
        .await;
        let output = process.output();
        let url = output.lines().find_map(|line| line.trim().strip_prefix("API")).unwrap().trim().to_owned();
        let key = fs::read_to_string(dir.join("data/client-key")).unwrap().trim().to_owned();
        Self { process, dir, url, key, client: http() }
    }

    /// Pastes the line that the banner shows into a shell.
    fn paste_curl(&self) -> Value {
        let output = self.process.output();
        let line = output.lines().find(|line| line.trim_start().starts_with("curl ")).unwrap();
        let pasted = Command::new("bash").args(["-c", line]).output().unwrap();
        serde_json::from_slice(&pasted.stdout).unwrap_or_else(|_| {
            panic!("{line}\n{}{}", String::from_utf8_lossy(&pasted.stdout), String::from_utf8_lossy(&pasted.stderr))
        })
    }

    async fn models_of(&self, origin: &str) -> Vec<String> {
        let listed = exchange(self.client.get(format!("{}/v1/models", self.url))).await.unwrap().expect(200);
        let models = listed.body["data"].as_array().unwrap().clone();
        let of_origin = models.iter().filter(|model| model["tokenhub"]["origin"] == origin);
        of_origin.map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    }

    async fn post(&self, path: &str, durability: &str, body: &Value) -> Answer {
        let request = self.client.post(format!("{}{path}", self.url)).bearer_auth(&self.key).json(body);
        exchange(request.header("X-TokenHub-Durability", durability)).await.unwrap().expect(200)
    }

    /// The ledger rows of a run of so many calls, once they are all there and ended.
    async fn ledger_of(&self, run_id: &str, calls: u64) -> Vec<LedgerRow> {
        let url = format!("sqlite://{}", self.dir.join("data/tokenhub.db").display());
        let store = Store::open(&url).await.unwrap();
        let (tenant, run_id) = (TenantId::default_tenant(), RunId::from(run_id));
        eventually("the ledger is drained", Duration::from_secs(20), || async {
            let rows = store.ledger_rows().of_run(&tenant, &run_id).await.unwrap();
            (rows.len() as u64 == calls && rows.iter().all(|row| row.finished_at.is_some())).then_some(rows)
        })
        .await
    }

    /// Ctrl-C: the terminal sends SIGINT to the whole foreground group.
    async fn interrupt(mut self) {
        self.process.signal_group(Signal::SIGINT);
        let ended = eventually("`make run` ends", STOP_PATIENCE, || {
            let exited = self.process.exited();
            async move { exited.then_some(()) }
        });
        ended.await;
        let left = processes_naming(&self.dir);
        assert!(left.is_empty(), "left behind: {left:#?}\n{}", self.process.output());
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The environment of this test without what configures TokenHub, and without an installed `temporal`.
fn user_environment() -> BTreeMap<String, String> {
    let configures = |name: &str| {
        ["TOKENHUB_", "TEMPORAL_", "OPENAI_", "OPENROUTER_", "DATABASE_URL", "MAKE", "MFLAGS", "CARGO_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
            && name != "CARGO_HOME"
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).filter(|folder| !folder.join("temporal").is_file());
    let path = std::env::join_paths(folders).unwrap().into_string().unwrap();
    let mut environment: BTreeMap<String, String> = std::env::vars().filter(|(name, _)| !configures(name)).collect();
    environment.insert("PATH".to_owned(), path);
    environment
}

/// Command lines of the living processes that name `dir` in their arguments or their environment.
fn processes_naming(dir: &Path) -> Vec<String> {
    let needle = dir.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let read = |file: &str| {
            let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let command = read("cmdline");
        if command.contains(&needle) || read("environ").contains(&needle) {
            found.push(command);
        }
    }
    found
}

fn plan(mode: &str, extra: &Value) -> Value {
    let mut orchestration = json!({"mode": mode, "iterations": if mode == "vote" { 3 } else { 1 }});
    orchestration.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({
        "request": {
            "messages": [{"role": "user", "content": "Name a colour."}],
            "parameters": {"max_tokens": 16, "temperature": 0.0},
        },
        "orchestration": orchestration,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_serves_the_real_local_model_and_leaves_nothing_behind() {
    let installation = Installation::first_start().await;
    assert_eq!(installation.paste_curl()["choices"][0]["message"]["role"], "assistant");
    assert_eq!(installation.models_of("demo").await.len(), 3);
    let local = installation.models_of("local").await.remove(0);

    for durability in ["required", "none"] {
        chat(&installation, &local, durability).await;
        for (mode, extra) in [
            ("vote", json!({})),
            ("adversarial", json!({"primary_model_id": local, "review_model_id": local})),
            ("refine", json!({"primary_model_id": local})),
        ] {
            let answer = installation.post("/v1/plan", durability, &plan(mode, &extra)).await;
            assert_eq!(answer.body["status"], "completed", "{mode} {durability}: {}", answer.text);
            let calls = answer.body["usage"]["calls"].as_u64().unwrap();
            let rows = installation.ledger_of(answer.body["id"].as_str().unwrap(), calls).await;
            assert_reported_usage(&rows, &answer.body["usage"]);
            if durability == "required" {
                let link = answer.body["links"]["temporal_ui"].as_str().unwrap();
                exchange(installation.client.get(link)).await.unwrap().expect(200);
            }
        }
    }
    stream(&installation, &local).await;
    installation.interrupt().await;
}

/// The sums of the answer are the sums of what the servers themselves reported, as the ledger kept it.
fn assert_reported_usage(rows: &[LedgerRow], usage: &Value) {
    let reported: Vec<Value> = rows
        .iter()
        .filter_map(|row| row.usage_json.as_deref())
        .map(|json| serde_json::from_str(json).unwrap())
        .collect();
    assert_eq!(reported.len(), rows.len(), "every server reports usage");
    for (ours, theirs) in [("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens")] {
        let sum: u64 = reported.iter().map(|report| report[theirs].as_u64().unwrap()).sum();
        assert_eq!(usage[ours].as_u64(), Some(sum), "{ours}");
    }
}

async fn chat(installation: &Installation, model: &str, durability: &str) {
    let body = json!({"model": model, "max_tokens": 16, "messages": [{"role": "user", "content": "Name a colour."}]});
    let answer = installation.post("/v1/chat/completions", durability, &body).await;
    let marked = if durability == "required" { "durable" } else { "none" };
    assert_eq!(answer.header("x-tokenhub-durability"), marked);
    let rows = installation.ledger_of(answer.header("x-tokenhub-run-id"), 1).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(answer.body["usage"]["prompt_tokens"].as_u64(), Some(rows[0].input_tokens));
    assert_eq!(answer.body["usage"]["completion_tokens"].as_u64(), Some(rows[0].output_tokens));
    assert!(rows[0].output_tokens > 0);
}

async fn stream(installation: &Installation, model: &str) {
    let body = json!({"model": model, "max_tokens": 16, "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "Name a colour."}]});
    let answer = installation.post("/v1/chat/completions", "preferred", &body).await;
    assert_eq!(answer.header("x-tokenhub-durability"), "stream");
    assert!(answer.text.trim_end().ends_with("data: [DONE]"), "{}", answer.text);
    let usage = answer
        .text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .find_map(|event| event["usage"]["completion_tokens"].as_u64())
        .expect("a usage event");
    let rows = installation.ledger_of(answer.header("x-tokenhub-run-id"), 1).await;
    assert_eq!(rows[0].output_tokens, usage);
}
