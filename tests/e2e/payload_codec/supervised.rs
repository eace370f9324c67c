//! `tokenhub up` and `tokenhub config` with payload keys.

use std::{collections::BTreeMap, process::Command, time::Duration};

use nix::sys::signal::Signal;
use serde_json::json;

use super::{ADMIN_TOKEN, KEY_A, keys, secrets::shows, temporal};
use crate::harness::{Process, binary, eventually, exchange, http};

const START_PATIENCE: Duration = Duration::from_mins(1);
const PROMPT: &str = "canary-of-a-prompt";

/// What stands in the banner beside `name`.
fn fact(output: &str, name: &str) -> Option<String> {
    output.lines().find_map(|line| line.strip_prefix(&format!("  {name:<14}"))).map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn up_gives_its_keys_to_the_worker_and_tells_the_ui_where_payloads_are_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let environment = BTreeMap::from([
        ("TOKENHUB_PAYLOAD_KEYS".to_owned(), keys(&[("a", KEY_A)])),
        ("TOKENHUB_ADMIN_TOKEN".to_owned(), ADMIN_TOKEN.to_owned()),
        ("TOKENHUB_CLIENT_KEY".to_owned(), "the-client-key".to_owned()),
        ("TOKENHUB_START_DEADLINE_MS".to_owned(), "15000".to_owned()),
    ]);
    let arguments = "up --listen 127.0.0.1:0 --temporal-port 0 --temporal-ui-port 0 --no-local-model --data-dir data";
    let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
    let mut up = Process::start_group("up", &binary("tokenhub"), &arguments, &environment, dir.path());
    eventually("the banner", START_PATIENCE, || {
        assert!(!up.exited(), "{}", up.output());
        let is_ready = up.output().contains("Ctrl-C stops everything");
        async move { is_ready.then_some(()) }
    })
    .await;
    let output = up.output();
    let (api, server) = (fact(&output, "API").unwrap(), fact(&output, "Temporal").unwrap());
    let ui = fact(&output, "Temporal UI").unwrap();
    assert!(output.contains(&format!("sign in at {api}/admin/v1/codec")), "{output}");

    let models = exchange(http().get(format!("{api}/v1/models")).bearer_auth("the-client-key")).await.unwrap();
    let messages = json!([{"role": "user", "content": PROMPT}]);
    let chat = json!({"messages": messages, "model": models.body["data"][0]["id"]});
    let asked = http().post(format!("{api}/v1/chat/completions")).bearer_auth("the-client-key").json(&chat);
    let answer = exchange(asked).await.unwrap().expect(200);
    assert_eq!(answer.header("x-tokenhub-durability"), "durable");
    let id = answer.header("x-tokenhub-workflow-id");
    let show = ["workflow", "show", "--no-json-shorthand-payloads", "--workflow-id", id];
    let history = temporal(&server, dir.path(), &show);
    assert!(!shows(history.as_bytes(), PROMPT) && history.contains("encryption-key-id"), "{history}");

    let endpoint = format!("{api}/admin/v1/codec");
    let settings = exchange(http().get(format!("{ui}/api/v1/settings"))).await.unwrap().expect(200);
    assert_eq!(settings.body["Codec"]["Endpoint"], endpoint, "{}", settings.text);
    let decode = http().post(format!("{endpoint}/decode")).bearer_auth(ADMIN_TOKEN).header("origin", &ui);
    let decoded = exchange(decode.json(&json!({"payloads": []}))).await.unwrap().expect(200);
    assert_eq!(decoded.header("access-control-allow-origin"), ui);
    up.signal(Signal::SIGINT);
    eventually("the end of `up`", START_PATIENCE, || {
        let has_ended = up.exited();
        async move { has_ended.then_some(()) }
    })
    .await;
    assert!(!shows(up.output().as_bytes(), KEY_A) && !shows(up.output().as_bytes(), PROMPT));
}

#[test]
fn the_configuration_is_shown_without_the_keys_and_a_wrong_one_is_named_without_its_value() {
    let run = |command: &[&str], payload_keys: &str| {
        let output = Command::new(binary("tokenhub"))
            .args(["config"])
            .args(command)
            .env_clear()
            .env("TOKENHUB_PAYLOAD_KEYS", payload_keys)
            .current_dir(std::env::temp_dir())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let (is_valid, shown) = run(&["show", "--origin"], &keys(&[("a", KEY_A)]));
    assert!(is_valid && !shows(shown.as_bytes(), KEY_A), "{shown}");
    let row = shown.lines().find(|line| line.starts_with("temporal.payload_keys")).unwrap();
    assert!(row.contains("********") && row.ends_with("TOKENHUB_PAYLOAD_KEYS"), "{row}");
    let (is_valid, told) = run(&["check"], &keys(&[("a", "payload-key-that-is-too-short")]));
    assert!(!is_valid && told.contains("temporal.payload_keys") && told.contains("32 bytes"), "{told}");
    assert!(!shows(told.as_bytes(), "payload-key-that-is-too-short"), "{told}");
}
