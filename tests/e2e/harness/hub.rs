//! A whole installation: database, Temporal, workers, APIs and a scripted provider that outlives them all.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokenhub_demo::ScriptedProvider;

use super::{
    client::{Answer, exchange, http},
    invariants::{self, Disturbance},
    process::{Process, binary, eventually},
    temporal::TemporalServer,
};

/// The client key of every test installation.
const CLIENT_KEY: &str = "tokenhub_0000000000000000000000000000000000000000000000000000000000000001";
/// A process that starts or stops normally does so within this, on a loaded machine.
const PROCESS_PATIENCE: Duration = Duration::from_secs(30);

/// The programs that a test starts.
#[derive(Clone, Copy, Debug)]
pub enum Binary {
    /// `tokenhub-api`
    Api,
    /// `tokenhub-worker`
    Worker,
}

/// What an installation is made of.
pub struct TestHubBuilder {
    workers: usize,
    apis: usize,
    temporal: TemporalWish,
    upstreams: Vec<Value>,
    models: Vec<Value>,
    aliases: Vec<Value>,
    environment: BTreeMap<String, String>,
}

enum TemporalWish {
    Running,
    Absent,
    Off,
}

/// A running installation.
pub struct TestHub {
    dir: PathBuf,
    environment: BTreeMap<String, String>,
    finished: bool,
    client: Client,
    /// The provider behind every model.
    pub provider: ScriptedProvider,
    /// Temporal, which may be down.
    pub temporal: TemporalServer,
    /// The running workers.
    pub workers: Vec<Process>,
    /// The running APIs and their URLs.
    pub apis: Vec<(Process, String)>,
}

/// A model for the credentials file.
pub fn model(id: &str, weight: u32) -> Value {
    json!({"id": id, "provider_id": "scripted", "weight": weight, "max_context_tokens": 100_000,
        "input_per_1k": 0.001, "output_per_1k": 0.002})
}

impl TestHubBuilder {
    /// So many workers; 1 without this.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// So many APIs; 1 without this.
    pub fn apis(mut self, count: usize) -> Self {
        self.apis = count;
        self
    }

    /// An address is configured, but nothing listens there yet.
    pub fn temporal_absent(mut self) -> Self {
        self.temporal = TemporalWish::Absent;
        self
    }

    /// Temporal is not configured.
    pub fn temporal_off(mut self) -> Self {
        self.temporal = TemporalWish::Off;
        self.workers = 0;
        self
    }

    /// Other models than alpha, beta and gamma.
    pub fn models(mut self, models: Vec<Value>) -> Self {
        self.models = models;
        self
    }

    /// Names that stand for models.
    pub fn aliases(mut self, aliases: Vec<Value>) -> Self {
        self.aliases = aliases;
        self
    }

    /// Further providers for the credentials file; those without a `base_url` are at the scripted provider.
    pub fn upstreams(mut self, upstreams: Vec<Value>) -> Self {
        self.upstreams = upstreams;
        self
    }

    /// One more variable for every process.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Starts everything and waits until it is ready.
    pub async fn start(self) -> TestHub {
        let dir = std::env::temp_dir().join(format!("tokenhub-e2e-{}", uuid::Uuid::now_v7().simple()));
        fs::create_dir_all(dir.join("data")).unwrap();
        let provider = ScriptedProvider::start().await;
        let credentials = dir.join("credentials.json");
        let file =
            json!({"providers": providers(&provider, self.upstreams), "models": self.models, "aliases": self.aliases});
        fs::write(&credentials, file.to_string()).unwrap();
        fs::set_permissions(&credentials, fs::Permissions::from_mode(0o600)).unwrap();
        let mut temporal = TemporalServer::absent(&dir);
        let mut environment = BTreeMap::from([
            ("TOKENHUB_DATA_DIR".to_owned(), dir.join("data").display().to_string()),
            ("TOKENHUB_CREDENTIALS_FILE".to_owned(), credentials.display().to_string()),
            ("TOKENHUB_CLIENT_KEY".to_owned(), CLIENT_KEY.to_owned()),
            ("TOKENHUB_LISTEN_ADDR".to_owned(), "127.0.0.1:0".to_owned()),
            ("TOKENHUB_LOG_LEVEL".to_owned(), "info".to_owned()),
        ]);
        environment.extend(self.environment);
        match self.temporal {
            TemporalWish::Off => {}
            TemporalWish::Absent => {
                environment.insert("TEMPORAL_ADDRESS".to_owned(), temporal.address());
            }
            TemporalWish::Running => {
                environment.insert("TEMPORAL_ADDRESS".to_owned(), temporal.address());
                environment.insert("TOKENHUB_TEMPORAL_UI_URL".to_owned(), temporal.ui_url());
                temporal.start().await;
            }
        }
        let mut hub = TestHub {
            dir,
            environment,
            finished: false,
            client: http(),
            provider,
            temporal,
            workers: Vec::new(),
            apis: Vec::new(),
        };
        for _ in 0..self.workers {
            hub.start_worker(&[]);
        }
        for _ in 0..self.apis {
            hub.start_api().await;
        }
        if self.workers > 0 && matches!(self.temporal, TemporalWish::Running) {
            hub.wait_until_durable().await;
        }
        hub
    }
}

/// The scripted provider, and the others with what they leave out.
fn providers(scripted: &ScriptedProvider, others: Vec<Value>) -> Vec<Value> {
    let mut providers = vec![json!({"id": "scripted", "type": "openai"})];
    providers.extend(others);
    for provider in &mut providers {
        let fields = provider.as_object_mut().unwrap();
        fields.entry("base_url").or_insert_with(|| scripted.base_url().into());
        if !fields.contains_key("credentials") {
            fields.entry("api_key").or_insert_with(|| "sk-canary".into());
        }
    }
    providers
}

impl TestHub {
    /// One API, one worker, Temporal, and the models alpha, beta and gamma of weights 7, 6 and 5.
    pub fn builder() -> TestHubBuilder {
        TestHubBuilder {
            workers: 1,
            apis: 1,
            temporal: TemporalWish::Running,
            upstreams: Vec::new(),
            models: vec![model("alpha", 7), model("beta", 6), model("gamma", 5)],
            aliases: Vec::new(),
            environment: BTreeMap::new(),
        }
    }

    /// Starts one more worker with extra variables.
    pub fn start_worker(&mut self, extra: &[(&str, &str)]) {
        let worker = self.process(Binary::Worker, extra);
        self.workers.push(worker);
    }

    /// Starts one more API and waits until it is ready.
    pub async fn start_api(&mut self) {
        self.start_api_with(&[]).await;
    }

    /// Starts one more API with extra variables and waits until it is ready.
    pub async fn start_api_with(&mut self, extra: &[(&str, &str)]) {
        let process = self.process(Binary::Api, extra);
        self.await_api(process).await;
    }

    async fn await_api(&mut self, process: Process) {
        let address =
            eventually("the API listens", PROCESS_PATIENCE, || async { listening_address(&process.output()) });
        let url = format!("http://{}", address.await);
        self.apis.push((process, url.clone()));
        eventually("the API is ready", PROCESS_PATIENCE, || async {
            let answer = exchange(self.client.get(format!("{url}/readyz"))).await.ok()?;
            answer.status.is_success().then_some(())
        })
        .await;
    }

    /// Starts one more API as a system does that allows a program few open files until it asks for more.
    pub async fn start_api_with_few_files(&mut self, files: usize) {
        let script = format!("ulimit -S -n {files}; exec \"$0\"");
        let arguments = ["-c".to_owned(), script, binary("tokenhub-api").display().to_string()];
        let process = Process::start("few-files", Path::new("/bin/sh"), &arguments, &self.environment, &self.dir);
        self.await_api(process).await;
    }

    fn process(&self, binary_kind: Binary, extra: &[(&str, &str)]) -> Process {
        let name = match binary_kind {
            Binary::Api => "tokenhub-api",
            Binary::Worker => "tokenhub-worker",
        };
        let mut environment = self.environment.clone();
        environment.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Process::start(name, &binary(name), &[], &environment, &self.dir)
    }

    /// Waits until the breaker of every API is closed, which it is only while a worker polls: the next request is durable.
    pub async fn wait_until_durable(&self) {
        for api in 0..self.apis.len() {
            eventually("durable service", PROCESS_PATIENCE * 2, || async {
                let health = exchange(self.request_to(api, Method::GET, "/healthz?verbose")).await.ok()?;
                (health.body["temporal"]["breaker"]["state"] == "closed").then_some(())
            })
            .await;
        }
    }

    /// A request to the first API, with the client key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_to(0, method, path)
    }

    /// A request to one of the APIs, with the client key.
    pub fn request_to(&self, api: usize, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.apis[api].1)).bearer_auth(CLIENT_KEY)
    }

    /// A request to the first API with another key.
    pub fn request_as(&self, key: &str, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.apis[0].1)).bearer_auth(key)
    }

    /// GET at the first API.
    pub async fn get(&self, path: &str) -> Result<Answer, reqwest::Error> {
        exchange(self.request(Method::GET, path)).await
    }

    /// POST at the first API.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        exchange(self.request(Method::POST, path).json(body)).await.unwrap()
    }

    /// POST at the first API with extra headers.
    pub async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let mut request = self.request(Method::POST, path).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        exchange(request).await.unwrap()
    }

    /// The environment of every process, to start others with it.
    pub fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// Where the installation lives.
    pub fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// Stops everything cleanly and asserts the ledger's invariants.
    pub async fn finish(mut self, disturbance: Disturbance) {
        self.stop().await;
        let data_dir = self.dir.join("data");
        let in_data_dir = format!("sqlite://{}?mode=rwc", data_dir.join("tokenhub.db").display());
        let database_url = self.environment.get("DATABASE_URL").unwrap_or(&in_data_dir);
        invariants::check(database_url, &data_dir, &self.provider, disturbance).await;
        let _ = fs::remove_dir_all(&self.dir);
    }

    /// Stops everything cleanly, for calls that went to a provider that nobody counts at.
    pub async fn finish_uncounted(mut self) {
        self.stop().await;
        let _ = fs::remove_dir_all(&self.dir);
    }

    async fn stop(&mut self) {
        self.finished = true;
        for (api, _) in std::mem::take(&mut self.apis) {
            api.stop(PROCESS_PATIENCE).await;
        }
        for worker in std::mem::take(&mut self.workers) {
            worker.stop(PROCESS_PATIENCE).await;
        }
        self.temporal.kill();
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        assert!(self.finished || std::thread::panicking(), "a test must end with TestHub::finish");
    }
}

/// The address in the line that the API prints when it listens.
fn listening_address(output: &str) -> Option<String> {
    let line = output.lines().find(|line| line.contains("listening"))?;
    let start = line.find("127.0.0.1:")?;
    let digits = line[start + "127.0.0.1:".len()..].chars().take_while(char::is_ascii_digit).count();
    Some(line[start..start + "127.0.0.1:".len() + digits].to_owned())
}
