//! The SDKs with a model server that nobody here wrote: llama.cpp with a small model, asked in Chat Completions and in
//! Messages. Only the form of an answer is known.

use std::{process::Stdio, time::Duration};

use serde_json::json;

use super::{
    Upstream, installed, model_at,
    sdks::{Cases, SDKS, assert_all_pass},
};
use crate::harness::{TestHub, eventually, exchange, free_port, http};

/// Loading takes half a second when nothing else runs.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// Requests that it answers at the same time.
const SLOTS: &str = "2";

#[tokio::test(flavor = "multi_thread")]
async fn every_sdk_works_with_the_local_model() {
    let (port, server) = (free_port(), concat!(env!("CARGO_MANIFEST_DIR"), "/../hub/src/local_model.py"));
    let _model = tokio::process::Command::new(installed("TOKENHUB_TEST_PYTHON"))
        .args([server, &port.to_string(), SLOTS])
        // It ends with its standard input.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let url = format!("http://127.0.0.1:{port}");
    eventually("the local model listens", START_PATIENCE, || async {
        let answer = exchange(http().get(format!("{url}/health"))).await.ok()?;
        answer.status.is_success().then_some(())
    })
    .await;

    let spoken = [Upstream::Chat, Upstream::Messages];
    let upstreams = spoken.map(|upstream| json!({"id": upstream.name(), "type": upstream.kind(), "base_url": url}));
    let models = spoken.map(|upstream| SDKS.map(|sdk| model_at(upstream.name(), &upstream.model(sdk.name)))).concat();
    let hub = TestHub::builder().upstreams(upstreams.to_vec()).models(models).start().await;
    assert_all_pass(&hub, &spoken, Cases::Plain).await;
    assert_eq!(hub.provider.count(), 0, "only the local model was asked");
    hub.finish_uncounted().await;
}
