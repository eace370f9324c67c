//! kill -9 of the one of two workers that has a provider call in flight.
//!
//! The workers have different provider keys, so the provider's own list of calls says whose call it is.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    http::{self, Connection, Prepared},
    installation::{CLIENT_KEY, Installation, SLOW_ANSWER, SLOW_MODEL},
    measure::milliseconds,
    plan::Plan,
    processes::Process,
};

/// How far the call is when its worker dies.
const INTO_THE_CALL: Duration = Duration::from_millis(500);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST_RECOVERY: Duration = Duration::from_mins(1);

/// One kill.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Recovery {
    /// From the kill to the answer.
    pub(crate) answered_after_ms: f64,
    /// The same without the provider call, which has to be made again as a whole.
    pub(crate) recovered_after_ms: f64,
    /// Calls that the provider saw: the killed one and the one that answered.
    pub(crate) provider_calls: usize,
}

struct Worker {
    key: String,
    process: Process,
}

/// Kills as many workers as planned, one after another.
pub(crate) async fn measure(plan: &Plan, installation: &mut Installation) -> anyhow::Result<Vec<Recovery>> {
    // The worker that was measured has a key like any other; only two are wanted here.
    installation.worker.kill();
    let mut started = 0..;
    let mut start = async |installation: &Installation| {
        let key = format!("sk-worker-{}", started.next().unwrap_or_default());
        anyhow::Ok(Worker { process: installation.start_worker_with_key(&key).await?, key })
    };
    let mut workers = vec![start(installation).await?, start(installation).await?];
    let mut recoveries = Vec::new();
    for _ in 0..plan.kills {
        recoveries.push(kill_one(installation, &mut workers).await?);
        workers.push(start(installation).await?);
    }
    Ok(recoveries)
}

async fn kill_one(installation: &Installation, workers: &mut Vec<Worker>) -> anyhow::Result<Recovery> {
    let body = json!({"model": SLOW_MODEL, "messages": [{"role": "user", "content": "Take your time."}]});
    // Durable or not at all: an answer in process would say nothing of workers.
    let request = Prepared::post(&installation.api_authority, "/v1/chat/completions", &body)
        .key(CLIENT_KEY)
        .durability("required");
    installation.wait_until_durable().await?;
    let before = calls(installation).await?.len();
    let mut connection = Connection::open(&installation.api_authority).await?;
    let answer = tokio::spawn(async move { connection.exchange(&request).await });
    let Some(holder) = holder(installation, before).await? else {
        answer.abort();
        let answered = answer.await.ok();
        bail!("no call reached the provider within {PATIENCE:?}; the answer: {answered:?}");
    };
    tokio::time::sleep(INTO_THE_CALL).await;
    let place = workers.iter().position(|worker| holder.ends_with(&worker.key));
    let place = place.with_context(|| format!("no worker has the key of the call: {holder}"))?;
    let killed_at = Instant::now();
    workers.swap_remove(place).process.kill();
    tokio::time::timeout(LONGEST_RECOVERY, answer).await.context("no recovery")???;
    let answered_after = killed_at.elapsed();
    Ok(Recovery {
        answered_after_ms: milliseconds(answered_after),
        recovered_after_ms: milliseconds(answered_after.saturating_sub(SLOW_ANSWER)),
        provider_calls: calls(installation).await?.len() - before,
    })
}

/// The authorization of the call that is in flight; nothing when none comes.
async fn holder(installation: &Installation, before: usize) -> anyhow::Result<Option<String>> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(call) = calls(installation).await?.get(before) {
            return Ok(Some(call["authorization"].as_str().unwrap_or_default().to_owned()));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(None)
}

async fn calls(installation: &Installation) -> anyhow::Result<Vec<Value>> {
    match http::once(&Prepared::get(&installation.provider_authority, "/__calls")).await? {
        Value::Array(calls) => Ok(calls),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            bail!("the provider's list is no list: {other}")
        }
    }
}
