//! The scripted provider as a process of its own, so that it outlives the processes that a test kills.
//!
//! Prints its base URL as the first line. Further scripts, counts and resets go over HTTP: `POST /__script`,
//! `GET /__calls`, `GET /__lookups`, `GET /__count`, `POST /__models`, `POST /__demands`, `POST /__reset`, `POST /__reset/all`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use serde::Deserialize;
use tokenhub_demo::{Demands, DemoServer, Face, Rule, Script};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A model provider that answers by a script, in the forms of OpenAI and Anthropic.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// What to show.
    #[arg(long, value_enum, default_value_t = Show::Scripted)]
    face: Show,
    /// File with `{"models": [..], "rules": [..], "demands": {..}}` for the scripted face.
    #[arg(long)]
    script: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Show {
    /// Whatever the script says.
    Scripted,
    /// Three models with canned answers.
    Demo,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ScriptFile {
    models: Vec<String>,
    rules: Vec<Rule>,
    demands: Demands,
}

// One thread: the provider must not take both cores of what is measured against it.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let face = match arguments.face {
        Show::Demo => Face::DemoModels,
        Show::Scripted => Face::Scripted(load(arguments.script.as_deref())?),
    };
    let server = DemoServer::bind(arguments.listen, face).await.context("taking the port")?;
    let mut output = std::io::stdout().lock();
    writeln!(output, "{}", server.base_url())?;
    output.flush()?;
    drop(output);
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let stopped = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    tokio::select! {
        () = server.serve(shutdown.clone()) => {}
        () = stopped => shutdown.cancel(),
    }
    Ok(())
}

fn load(path: Option<&std::path::Path>) -> anyhow::Result<Script> {
    let script = Script::default();
    if let Some(path) = path {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let file: ScriptFile = serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
        script.set_models(file.models);
        script.demand(file.demands);
        file.rules.into_iter().for_each(|rule| script.add(rule));
    }
    Ok(script)
}
