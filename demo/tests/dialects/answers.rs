//! Whole answers: text, tools, reasoning, finishes, usage, errors, lists, vectors and counts.

use serde_json::{Value, json};
use tokenhub_demo::{
    Allowance, ByDialect, Content, Finish, Finished, Part, RateLimits, Reasoning, Reply, Route, Rule, ScriptedProvider,
    TokenDetails,
};

use crate::client::{CHAT, MESSAGES, RESPONSES, ask, ask_stream, body, post, request};

async fn scripted(reply: Reply) -> ScriptedProvider {
    let provider = ScriptedProvider::start().await;
    provider.script(Rule::any([reply]));
    provider
}

fn everything() -> Reply {
    let thought = Reasoning { text: "hm hm".into(), signature: Some("sig".into()), encrypted: Some("enc".into()) };
    Reply::parts([
        Part::Reasoning(thought),
        Part::Text("hi there".into()),
        Part::tool_call("call_1", "weather", ["{\"city\":", "\"Rome\"}"]),
    ])
    .usage(100, 20)
    .token_details(TokenDetails { cached_tokens: 40, cache_write_tokens: 10, reasoning_tokens: 7 })
}

#[tokio::test]
async fn one_reply_is_said_in_every_dialect() {
    let provider = scripted(everything()).await;
    let chat = ask(&provider, CHAT).json();
    let message = &chat["choices"][0]["message"];
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("hi there"), &json!("hm hm")));
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}});
    assert_eq!(message["tool_calls"], json!([call]));
    assert_eq!(chat["choices"][0]["finish_reason"], "tool_calls");

    let response = ask(&provider, RESPONSES).json();
    let kinds: Vec<&Value> = response["output"].as_array().unwrap().iter().map(|item| &item["type"]).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call"]);
    assert_eq!(response["output"][1]["content"][0]["text"], "hi there");
    assert_eq!(response["output"][2]["call_id"], "call_1");
    assert_eq!((&response["status"], &response["object"]), (&json!("completed"), &json!("response")));

    let message = ask(&provider, MESSAGES).json();
    let blocks = json!([{"type": "thinking", "thinking": "hm hm", "signature": "sig"}, {"type": "text", "text": "hi there"},
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Rome"}}]);
    assert_eq!(message["content"], blocks);
    assert_eq!((&message["stop_reason"], &message["stop_sequence"]), (&json!("tool_use"), &Value::Null));
}

#[tokio::test]
async fn cached_tokens_are_among_the_prompt_here_and_beside_it_there() {
    let provider = scripted(everything()).await;
    let usage = ask(&provider, CHAT).json()["usage"].clone();
    assert_eq!((&usage["prompt_tokens"], &usage["total_tokens"]), (&json!(100), &json!(120)));
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 40);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 7);
    let usage = ask(&provider, RESPONSES).json()["usage"].clone();
    assert_eq!((&usage["input_tokens"], &usage["input_tokens_details"]["cached_tokens"]), (&json!(100), &json!(40)));
    assert_eq!((&usage["output_tokens"], &usage["total_tokens"]), (&json!(20), &json!(120)));
    let usage = ask(&provider, MESSAGES).json()["usage"].clone();
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(50), &json!(20)));
    assert_eq!((&usage["cache_read_input_tokens"], &usage["cache_creation_input_tokens"]), (&json!(40), &json!(10)));
}

#[tokio::test]
async fn encrypted_reasoning_is_given_to_who_asks_for_it() {
    let provider = scripted(everything()).await;
    assert_eq!(ask(&provider, RESPONSES).json()["output"][0].get("encrypted_content"), None);
    let mut asking = body(RESPONSES);
    asking["include"] = json!(["reasoning.encrypted_content"]);
    assert_eq!(post(&provider, RESPONSES, &asking).json()["output"][0]["encrypted_content"], "enc");
}

#[tokio::test]
async fn every_finish_has_its_word_in_every_dialect() {
    for (finish, chat, status, reason, stop) in [
        (Finish::Stop, "stop", "completed", Value::Null, "end_turn"),
        (Finish::Length, "length", "incomplete", json!("max_output_tokens"), "max_tokens"),
        (Finish::ContentFilter, "content_filter", "incomplete", json!("content_filter"), "refusal"),
        (Finish::StopSequence("X".into()), "stop", "completed", Value::Null, "stop_sequence"),
    ] {
        let provider = scripted(Reply::text("a").finish(finish.clone())).await;
        assert_eq!(ask(&provider, CHAT).json()["choices"][0]["finish_reason"], chat);
        let response = ask(&provider, RESPONSES).json();
        assert_eq!((&response["status"], &response["incomplete_details"]["reason"]), (&json!(status), &reason));
        let message = ask(&provider, MESSAGES).json();
        let sequence = if finish == Finish::StopSequence("X".into()) { json!("X") } else { Value::Null };
        assert_eq!((&message["stop_reason"], &message["stop_sequence"]), (&json!(stop), &sequence));
    }
}

#[tokio::test]
async fn a_refusal_is_a_field_a_part_or_a_reason() {
    let provider = scripted(Reply::parts([Part::Refusal("no".into())])).await;
    let chat = ask(&provider, CHAT).json();
    assert_eq!(chat["choices"][0]["message"]["refusal"], "no");
    assert_eq!(chat["choices"][0]["message"]["content"], Value::Null);
    assert_eq!(
        ask(&provider, RESPONSES).json()["output"][0]["content"][0],
        json!({"type": "refusal", "refusal": "no"})
    );
    let message = ask(&provider, MESSAGES).json();
    assert_eq!((&message["stop_reason"], &message["content"]), (&json!("refusal"), &json!([])));
}

#[tokio::test]
async fn an_error_takes_the_form_of_its_route() {
    let limits =
        RateLimits { requests: Allowance { limit: 9, remaining: 0, reset_ms: 90_000 }, ..RateLimits::default() };
    let provider = scripted(Reply::rate_limited(7).rate_limits(limits)).await;
    for path in [CHAT, RESPONSES] {
        let answer = ask(&provider, path);
        let error =
            json!({"message": "too many requests", "type": "requests", "param": null, "code": "rate_limit_exceeded"});
        assert_eq!((answer.status, answer.json()), (429, json!({ "error": error })));
        assert_eq!(
            (answer.header("retry-after"), answer.header("x-ratelimit-reset-requests")),
            (Some("7"), Some("1m30s"))
        );
        assert_eq!(answer.header("x-request-id").map(str::len), Some(36));
    }
    let answer = ask_stream(&provider, MESSAGES);
    let body = answer.json();
    assert_eq!((answer.status, &body["type"]), (429, &json!("error")));
    assert_eq!(body["error"], json!({"type": "rate_limit_error", "message": "too many requests"}));
    assert_eq!(answer.header("request-id"), body["request_id"].as_str());
    assert_eq!(answer.header("anthropic-ratelimit-requests-limit"), Some("9"));
    assert_eq!(answer.header("x-request-id"), None);
    assert!(provider.calls().iter().all(|call| call.finished == Finished::Failed(429)));
}

#[tokio::test]
async fn a_dialect_can_have_a_content_of_its_own() {
    let messages = Content::Raw { content_type: "text/html".into(), body: "<b>".into() };
    let contents = ByDialect { chat: Content::Text("c".into()), responses: Content::Json(json!({"r": 1})), messages };
    let provider = scripted(Reply::by_dialect(contents)).await;
    assert_eq!(ask(&provider, CHAT).json()["choices"][0]["message"]["content"], "c");
    assert_eq!(ask(&provider, RESPONSES).json(), json!({"r": 1}));
    let answer = ask(&provider, MESSAGES);
    assert_eq!((answer.text().as_str(), answer.header("content-type")), ("<b>", Some("text/html")));
}

#[tokio::test]
async fn fast_replies_are_fast_in_every_dialect_and_remembered_in_none() {
    let provider = scripted(Reply::fast("quick one")).await;
    assert_eq!(ask(&provider, RESPONSES).json()["output"][0]["content"][0]["text"], "quick one");
    assert_eq!(ask(&provider, MESSAGES).json()["content"][0]["text"], "quick one");
    assert_eq!(ask_stream(&provider, RESPONSES).event_names().last().unwrap(), "response.completed");
    assert_eq!(ask_stream(&provider, MESSAGES).event_names().last().unwrap(), "message_stop");
    assert!(ask_stream(&provider, CHAT).text().ends_with("data: [DONE]\n\n"));
    assert_eq!((provider.count(), provider.calls().len()), (5, 0));
}

#[tokio::test]
async fn models_are_listed_in_both_forms_and_are_no_calls() {
    let provider = ScriptedProvider::start().await;
    provider.models(["a", "b/c"]);
    let openai = request(&provider, "GET", "/v1/models", &[], "").json();
    assert_eq!((&openai["object"], &openai["data"][1]["id"]), (&json!("list"), &json!("b/c")));
    let version = [("anthropic-version", "2023-06-01"), ("x-api-key", "k")];
    let anthropic = request(&provider, "GET", "/v1/models?limit=1", &version, "").json();
    assert_eq!((&anthropic["data"][0]["type"], &anthropic["has_more"]), (&json!("model"), &json!(true)));
    assert_eq!((&anthropic["first_id"], &anthropic["last_id"]), (&json!("a"), &json!("a")));
    assert_eq!(request(&provider, "GET", "/v1/models/b%2Fc", &[], "").json()["id"], "b/c");
    let missing = request(&provider, "GET", "/v1/models/z", &version, "");
    assert_eq!((missing.status, &missing.json()["error"]["type"]), (404, &json!("not_found_error")));
    assert_eq!(provider.count(), 0);
    let lookups = provider.lookups();
    assert_eq!(
        (lookups.len(), lookups[1].query.as_deref(), lookups[1].header("x-api-key")),
        (4, Some("limit=1"), Some("k"))
    );

    provider.script(Rule::any([Reply::failure(503, "later")]).on(Route::Models));
    assert_eq!(request(&provider, "GET", "/v1/models", &[], "").status, 503);
}

#[tokio::test]
async fn tokens_are_counted_with_tools_and_system_and_use_up_no_reply() {
    let provider = scripted(Reply::text("first")).await;
    let path = "/v1/messages/count_tokens";
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "12345678"}]});
    assert_eq!(post(&provider, path, &body).json(), json!({"input_tokens": 2}));
    body["system"] = json!("1234");
    assert_eq!(post(&provider, path, &body).json(), json!({"input_tokens": 3}));
    body["tools"] = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    assert!(post(&provider, path, &body).json()["input_tokens"].as_u64().unwrap() > 10);
    provider.script(Rule::any([Reply::echo().usage(77, 0)]).on(Route::CountTokens));
    assert_eq!(post(&provider, path, &body).json(), json!({"input_tokens": 77}));
    assert_eq!(ask(&provider, MESSAGES).json()["content"][0]["text"], "first");
}

#[tokio::test]
async fn vectors_come_as_numbers_and_as_base64() {
    let provider = ScriptedProvider::start().await;
    let ask = |more: Value| {
        let mut body = json!({"model": "e", "input": ["a", "b"], "dimensions": 2});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post(&provider, "/v1/embeddings", &body)
    };
    let numbers = ask(json!({})).json();
    assert_eq!(numbers["data"][1]["index"], 1);
    assert_eq!(numbers["data"][0]["embedding"].as_array().unwrap().len(), 2);
    assert_eq!(numbers["usage"]["prompt_tokens"], 2);
    let encoded = ask(json!({"encoding_format": "base64"})).json();
    // Eight bytes are twelve letters.
    assert_eq!(encoded["data"][0]["embedding"].as_str().unwrap().len(), 12);
    provider.script(Rule::any([Reply::rate_limited(1)]).on(Route::Embeddings));
    assert_eq!(ask(json!({})).status, 429);
}
