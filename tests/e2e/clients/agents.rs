//! Coding agents as their users start them, with a base URL and a key and nothing else: each reads a file with one of
//! its tools and says what is in it.
//!
//! They run in folders of their own and are kept from the network: a proxy at a port where nobody listens stands for
//! everything that is not on this machine.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::json;

use super::{Run, Upstream, installed, scripted_gateway};
use crate::harness::{Disturbance, TestHub};

/// What the file holds; the script's last reply is to this text alone.
const NOTE: &str = "the note says plum\n";
const ANSWER: &str = "It says plum.";
/// An address where nothing listens.
const NOWHERE: &str = "http://127.0.0.1:9";

/// A program that works for a user with a model and tools.
#[derive(Clone, Copy, Debug)]
enum Agent {
    /// Speaks Messages.
    ClaudeCode,
    /// Speaks Responses.
    Codex,
    /// Speaks Chat Completions, as configured.
    OpenCode,
}

/// What every agent is given.
struct Workplace<'a> {
    hub: &'a TestHub,
    upstream: Upstream,
    home: &'a Path,
}

impl Workplace<'_> {
    fn url(&self) -> &str {
        &self.hub.apis[0].1
    }

    fn key(&self) -> String {
        self.hub.environment()["TOKENHUB_CLIENT_KEY"].clone()
    }

    fn model(&self) -> String {
        self.upstream.model("agent")
    }

    /// The model for headings and the like.
    fn small_model(&self) -> String {
        self.upstream.model("titles")
    }
}

impl Agent {
    fn all() -> Vec<Self> {
        let mut agents = vec![Self::ClaudeCode, Self::Codex];
        // Its program comes in a package for this kind of machine only.
        if cfg!(target_arch = "x86_64") {
            agents.push(Self::OpenCode);
        }
        agents
    }

    fn name(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::OpenCode => "opencode",
        }
    }

    /// Begins with the mark by which the script knows which tool this agent has.
    fn task(self) -> &'static str {
        match self {
            Self::ClaudeCode => "agent-a: read note.txt and say what it says",
            Self::Codex => "agent-b: read note.txt and say what it says",
            Self::OpenCode => "agent-c: read note.txt and say what it says",
        }
    }

    /// The program with its arguments before the task, and its variables. Writes its settings below its home.
    fn set_up(self, place: &Workplace<'_>) -> (Vec<String>, Vec<(&'static str, String)>) {
        match self {
            Self::ClaudeCode => claude_code(place),
            Self::Codex => codex(place),
            Self::OpenCode => opencode(place),
        }
    }

    /// Runs it and asserts that it did its work.
    async fn work(self, hub: &TestHub, upstream: Upstream) {
        let home = hub.dir().join(format!("{}-{}", self.name(), upstream.name()));
        let folder = home.join("work");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("note.txt"), NOTE).unwrap();
        let place = Workplace { hub, upstream, home: &home };
        let (mut command, variables) = self.set_up(&place);
        command.push(self.task().to_owned());
        let mut environment = BTreeMap::from([
            ("HOME", home.display().to_string()),
            ("HTTP_PROXY", NOWHERE.to_owned()),
            ("HTTPS_PROXY", NOWHERE.to_owned()),
            ("NO_PROXY", "127.0.0.1".to_owned()),
        ]);
        environment.extend(variables);
        let arguments = command[1..].iter().map(Into::into).collect();
        let output = Run { program: command[0].clone().into(), arguments, folder, environment }.output().await;
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let told = format!("{} with {upstream:?}: {}\n{stdout}\n{stderr}", self.name(), output.status);
        assert!(output.status.success(), "{told}");
        assert_eq!(stdout.trim(), ANSWER, "{told}");

        let calls = hub.provider.calls();
        let of_task = |call: &&tokenhub_demo::SeenCall| {
            call.model == place.model() && call.body.to_string().contains(&self.task()[..8])
        };
        let bodies: Vec<String> = calls.iter().filter(of_task).map(|call| call.body.to_string()).collect();
        assert_eq!(bodies.len(), 2, "the question and the tool's result: {told}");
        assert!(bodies[1].contains(NOTE.trim()), "{told}");
        let paths = calls.iter().filter(of_task).map(|call| call.path.as_str());
        assert!(paths.clone().all(|path| path == upstream.path()), "{:?}", paths.collect::<Vec<_>>());
    }
}

fn package(file: &str) -> String {
    installed("TOKENHUB_TEST_NODE_MODULES").join(file).display().to_string()
}

fn node() -> String {
    installed("TOKENHUB_TEST_NODE").display().to_string()
}

fn claude_code(place: &Workplace<'_>) -> (Vec<String>, Vec<(&'static str, String)>) {
    let program = package("@anthropic-ai/claude-code/cli-wrapper.cjs");
    // The tool is allowed by its name: root may not skip the questions altogether.
    let command = [node().as_str(), &program, "--allowedTools=Bash", "-p"].map(str::to_owned).to_vec();
    let variables = vec![
        ("ANTHROPIC_BASE_URL", place.url().to_owned()),
        ("ANTHROPIC_AUTH_TOKEN", place.key()),
        ("ANTHROPIC_MODEL", place.model()),
        ("ANTHROPIC_DEFAULT_HAIKU_MODEL", place.small_model()),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".to_owned()),
        ("DISABLE_AUTOUPDATER", "1".to_owned()),
    ];
    (command, variables)
}

fn codex(place: &Workplace<'_>) -> (Vec<String>, Vec<(&'static str, String)>) {
    let settings = format!(
        r#"
model = "{}"
model_provider = "tokenhub"
check_for_update_on_startup = false

[model_providers.tokenhub]
name = "TokenHub"
base_url = "{}/v1"
env_key = "TOKENHUB_KEY"
wire_api = "responses"

[analytics]
enabled = false
"#,
        place.model(),
        place.url()
    );
    fs::write(place.home.join("config.toml"), settings).unwrap();
    let program = package("@openai/codex/bin/codex.js");
    let command = [&node(), &program, "exec", "--skip-git-repo-check", "--sandbox=danger-full-access"];
    let variables = vec![("CODEX_HOME", place.home.display().to_string()), ("TOKENHUB_KEY", place.key())];
    (command.map(ToOwned::to_owned).to_vec(), variables)
}

fn opencode(place: &Workplace<'_>) -> (Vec<String>, Vec<(&'static str, String)>) {
    let (model, small_model) = (place.model(), place.small_model());
    let settings = json!({
        "autoupdate": false,
        "share": "disabled",
        "model": format!("tokenhub/{model}"),
        "small_model": format!("tokenhub/{small_model}"),
        "enabled_providers": ["tokenhub"],
        "permission": {"bash": "allow"},
        "provider": {"tokenhub": {
            "npm": "@ai-sdk/openai-compatible",
            "name": "TokenHub",
            "options": {"baseURL": format!("{}/v1", place.url()), "apiKey": "{env:TOKENHUB_KEY}"},
            "models": {model.as_str(): {}, small_model.as_str(): {}},
        }},
    });
    let file = place.home.join("opencode.json");
    fs::write(&file, settings.to_string()).unwrap();
    let command = vec![package("opencode-linux-x64-baseline/bin/opencode"), "run".to_owned()];
    let variables = vec![
        ("OPENCODE_CONFIG", file.display().to_string()),
        ("OPENCODE_DISABLE_AUTOUPDATE", "1".to_owned()),
        ("OPENCODE_DISABLE_MODELS_FETCH", "1".to_owned()),
        ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1".to_owned()),
        ("OPENCODE_DISABLE_DEFAULT_PLUGINS", "1".to_owned()),
        ("TOKENHUB_KEY", place.key()),
    ];
    (command, variables)
}

#[tokio::test(flavor = "multi_thread")]
async fn coding_agents_work_with_a_base_url_and_a_key() {
    let hub = scripted_gateway(&["agent", "titles"], &[""]).await;
    for agent in Agent::all() {
        for upstream in [Upstream::Chat, Upstream::Messages] {
            agent.work(&hub, upstream).await;
        }
    }
    hub.finish(Disturbance::None).await;
}
