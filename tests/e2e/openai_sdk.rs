//! The official OpenAI SDK against a running hub; what it asserts is in `clients/openai_sdk.py`.

use std::{path::PathBuf, process::Output, time::Duration};

use serde_json::json;
use tokenhub_demo::{Reply, Rule};

use crate::harness::{Disturbance, TestHub};

const PATIENCE: Duration = Duration::from_mins(2);

async fn run_script(hub: &TestHub) -> Output {
    let python = std::env::var_os("TOKENHUB_TEST_PYTHON")
        .expect("TOKENHUB_TEST_PYTHON names a Python with tests/clients/requirements.txt installed: use `make test`");
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients/openai_sdk.py");
    let child = tokio::process::Command::new(python)
        .arg(script)
        .env_clear()
        .env("HOME", hub.dir())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HUB_URL", &hub.apis[0].1)
        .env("HUB_KEY", &hub.environment()["TOKENHUB_CLIENT_KEY"])
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(PATIENCE, child).await.expect("the script ends").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openai_sdk_works_unchanged() {
    let hub = TestHub::builder().start().await;
    let call = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Oslo\"}"}}]});
    let replies = [Reply::message(call).finish_reason("tool_calls"), Reply::text("It rains in Oslo.")];
    hub.provider.script(Rule::any(replies).containing("weather in Oslo"));
    hub.provider.script(Rule::any([Reply::text("one two three").usage(11, 3)]).containing("count"));

    let output = run_script(&hub).await;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let done: Vec<&str> = stdout.lines().collect();
    assert_eq!(
        done,
        ["chat", "stream with usage", "stream without usage", "models", "wrong key", "unknown model", "tools"],
        "{stderr}"
    );

    let calls = hub.provider.calls();
    let paid = |text: &str| calls.iter().filter(|call| call.body.to_string().contains(text)).count();
    assert_eq!((paid("hello"), paid("count"), paid("weather in Oslo")), (1, 2, 2));
    assert_eq!((paid("wrong key"), paid("unknown model")), (0, 0), "refused before anything is bought");
    assert_eq!(calls.len(), 5);
    let hello = calls.iter().find(|call| call.last_text() == "hello").unwrap();
    assert_eq!((&hello.body["seed"], &hello.body["vendor_field"]), (&json!(7), &json!({"kept": true})));
    let tool_turns: Vec<_> = calls.iter().filter(|call| call.body.get("tools").is_some()).collect();
    assert_eq!(tool_turns.len(), 2);
    assert_eq!(tool_turns[0].body["tools"][0]["function"]["parameters"]["required"], json!(["city"]));
    assert_eq!(tool_turns[0].body["tool_choice"], "auto");
    let last = tool_turns[1].body["messages"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["role"], &last["tool_call_id"]), (&json!("tool"), &json!("call_1")));
    hub.finish(Disturbance::None).await;
}
