//! Models that need more than their protocol: what Gemma 4 writes as text, and tools under other names.

use serde_json::{Value, json};
use tokenhub_demo::{Part, Reply, Rule};
use tokenhub_domain::Dialect;

use crate::{
    dialogue::{self, events, model_at},
    evidence::Evidence,
    harness::{Disturbance, TestHub},
};

const MODEL: &str = "gemma";
const SAID: &str = "<|channel>thought\nA city is named.\n<channel|>I look. <|tool_call>call:get_weather\
    {city:<|\"|>Oslo, in the north<|\"|>,days:2}<tool_call|>";

async fn installation() -> TestHub {
    let mut model = model_at("farm", MODEL, 5);
    model["gemma4_output"] = json!(true);
    model["tool_name_map"] = json!({"get_weather": "Weather"});
    let upstream = json!({"id": "farm", "type": "vllm", "protocols": ["chat", "messages"]});
    let hub = TestHub::builder().temporal_off().upstreams(vec![upstream]).models(vec![model]).start().await;
    hub.provider.script(Rule::any([Reply::text(SAID).usage(9, 20)]));
    hub
}

fn chat(stream: bool) -> Value {
    let tool = json!({"type": "function", "function": {"name": "Weather", "parameters": {"type": "object"}}});
    json!({"model": MODEL, "stream": stream, "tools": [tool], "messages": [{"role": "user", "content": "Oslo?"}]})
}

/// The arguments of a call, whatever their blanks.
fn arguments(text: &Value) -> Value {
    serde_json::from_str(text.as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gemma_writes_as_text_is_reasoning_text_and_a_call_under_the_callers_name() {
    let hub = installation().await;
    let whole = hub.post("/v1/chat/completions", &chat(false)).await.expect(200);
    let choice = &whole.body["choices"][0];
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("I look."), &json!("tool_calls")));
    assert_eq!(choice["message"]["reasoning_content"], "A city is named.\n");
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("Weather")));
    let expected = json!({"city": "Oslo, in the north", "days": 2});
    assert_eq!(arguments(&call["function"]["arguments"]), expected);

    let streamed = hub.post("/v1/chat/completions", &chat(true)).await.expect(200);
    let events = events(&streamed.text);
    assert_eq!(dialogue::text_of(Dialect::Chat, &events), "I look.");
    assert!(dialogue::is_end(Dialect::Chat, events.last().unwrap()));
    let calls: Vec<&Value> =
        events.iter().filter_map(|(_, chunk)| chunk.pointer("/choices/0/delta/tool_calls/0")).collect();
    assert_eq!((calls.len(), &calls[0]["function"]["name"]), (1, &json!("Weather")));
    assert_eq!(arguments(&calls[0]["function"]["arguments"]), expected);
    let finish: Vec<&Value> =
        events.iter().filter_map(|(_, chunk)| chunk.pointer("/choices/0/finish_reason")).collect();
    assert_eq!(finish.last(), Some(&&json!("tool_calls")));
    assert!(!streamed.text.contains("<|"), "{}", streamed.text);

    for call in hub.provider.calls() {
        assert_eq!(call.body["tools"][0]["function"]["name"], "get_weather", "the model's own name");
    }
    let rows = Evidence::of(&hub).await.ended(2).await;
    assert!(rows.iter().all(|row| (row.input_tokens, row.output_tokens) == (9, 20)), "{rows:?}");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_another_protocol_gets_the_same_whatever_the_server_speaks_besides() {
    let hub = installation().await;
    for stream in [false, true] {
        let tool = json!({"name": "Weather", "input_schema": {"type": "object"}});
        let body = json!({"model": MODEL, "max_tokens": 50, "stream": stream, "tools": [tool],
            "messages": [{"role": "user", "content": "Oslo?"}]});
        let answer = hub.post("/v1/messages", &body).await.expect(200);
        assert!(answer.text.contains("\"Weather\"") && answer.text.contains("\"tool_use\""), "{}", answer.text);
        assert!(!answer.text.contains("<|"), "{}", answer.text);
    }
    for call in hub.provider.calls() {
        assert_eq!(
            (call.path.as_str(), &call.body["tools"][0]["function"]["name"]),
            ("/v1/chat/completions", &json!("get_weather"))
        );
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_have_the_models_names_at_the_provider_and_the_callers_names_at_the_client() {
    let mut model = model_at("scripted", "renamed", 5);
    model["tool_name_map"] = json!({"get_weather": "Weather"});
    let hub = TestHub::builder().temporal_off().models(vec![model]).start().await;
    let called = Part::tool_call("call_1", "get_weather", ["{\"city\":", "\"Oslo\"}"]);
    let other = Part::tool_call("call_2", "get_time", ["{}"]);
    hub.provider.script(Rule::any([Reply::parts([called, other])]));
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
    let earlier = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "call_0", "type": "function", "function": {"name": "Weather", "arguments": "{}"}}]});
    for stream in [false, true] {
        let body = json!({"model": "renamed", "stream": stream, "tools": [tool("Weather"), tool("get_time")],
            "tool_choice": {"type": "function", "function": {"name": "Weather"}},
            "messages": [{"role": "user", "content": "Oslo?"}, earlier,
                {"role": "tool", "tool_call_id": "call_0", "content": "rain"}]});
        let answer = hub.post("/v1/chat/completions", &body).await.expect(200);
        assert!(answer.text.contains("\"Weather\"") && !answer.text.contains("get_weather"), "{}", answer.text);
        assert!(answer.text.contains("get_time"), "a tool that has no other name");
        let sent = &hub.provider.calls().last().unwrap().body.clone();
        let names = [&sent["tools"][0], &sent["tools"][1], &sent["tool_choice"], &sent["messages"][1]["tool_calls"][0]];
        let names = names.map(|holder| holder["function"]["name"].as_str().unwrap());
        assert_eq!(names, ["get_weather", "get_time", "get_weather", "get_weather"]);
    }
    hub.finish(Disturbance::None).await;
}
