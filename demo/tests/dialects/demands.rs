//! Credentials, validation, and the record of what came.

use serde_json::json;
use tokenhub_demo::{Credential, Demands, Finished, Reply, Rule, ScriptedProvider, Validation};

use crate::client::{CHAT, GENERATING, MESSAGES, RESPONSES, ask, body, post, request};

#[tokio::test]
async fn a_caller_without_the_credential_is_turned_away_in_the_routes_form() {
    let provider = ScriptedProvider::start().await;
    let credentials = vec![Credential::Bearer("tok".into()), Credential::ApiKey("key".into())];
    provider.demand(Demands { credentials, ..Demands::default() });
    provider.script(Rule::any([Reply::text("first"), Reply::text("second")]));
    let with = |path: &str, header: (&str, &str)| request(&provider, "POST", path, &[header], &body(path).to_string());
    for wrong in [("authorization", "Bearer key"), ("x-api-key", "tok"), ("authorization", "tok"), ("x", "y")] {
        for path in [CHAT, RESPONSES] {
            let answer = with(path, wrong);
            assert_eq!((answer.status, &answer.json()["error"]["code"]), (401, &json!("invalid_api_key")));
        }
        let answer = with(MESSAGES, wrong);
        assert_eq!((answer.status, &answer.json()["error"]["type"]), (401, &json!("authentication_error")));
    }
    assert_eq!(request(&provider, "GET", "/v1/models", &[], "").status, 401);
    assert!(provider.calls().iter().all(|call| call.finished == Finished::Failed(401)));
    assert!(with(MESSAGES, ("x-api-key", "key")).text().contains("first"), "a refusal uses up no reply");
    assert_eq!(with(CHAT, ("authorization", "Bearer tok")).status, 200);
    assert_eq!(request(&provider, "GET", "/v1/models", &[("x-api-key", "key")], "").status, 200);
}

#[tokio::test]
async fn each_credential_can_have_its_own_replies() {
    let provider = ScriptedProvider::start().await;
    provider.script(Rule::any([Reply::text("fine")]));
    provider.script(Rule::any([Reply::rate_limited(3)]).credential("a"));
    let status = |header: (&str, &str)| request(&provider, "POST", CHAT, &[header], &body(CHAT).to_string()).status;
    assert_eq!(status(("authorization", "Bearer a")), 429);
    assert_eq!(status(("x-api-key", "a")), 429);
    assert_eq!(status(("authorization", "Bearer b")), 200);
    assert_eq!(status(("x", "y")), 200);
}

#[tokio::test]
async fn bodies_are_looked_at_when_asked_for() {
    let provider = ScriptedProvider::start().await;
    let wrong = [
        (CHAT, json!({"model": "m", "messages": [{"role": "tool", "tool_call_id": "x", "content": "1"}]})),
        (
            RESPONSES,
            json!({"model": "m", "input": [{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}]}),
        ),
        (MESSAGES, json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]})),
    ];
    for (path, body) in &wrong {
        assert_eq!(post(&provider, path, body).status, 200);
    }
    provider.demand(Demands { validation: Validation::Strict, ..Demands::default() });
    for (path, body) in &wrong {
        let answer = post(&provider, path, body);
        assert_eq!((answer.status, &answer.json()["error"]["type"]), (400, &json!("invalid_request_error")), "{path}");
    }
    assert_eq!(post(&provider, MESSAGES, &wrong[2].1).json()["error"]["message"], "max_tokens: Field required");
    for path in [RESPONSES, MESSAGES] {
        assert_eq!(ask(&provider, path).status, 200, "{path}");
    }
    assert_eq!(provider.calls().iter().filter(|call| call.finished == Finished::Failed(400)).count(), 4);
}

#[tokio::test]
async fn a_request_is_kept_as_it_came() {
    let provider = ScriptedProvider::start().await;
    let bytes =
        "{ \"model\":\"m\",\n \"messages\": [ {\"role\":\"user\",\"content\":\"\\u0068i \u{e9}\"} ], \"x\": 1.0 }";
    let headers = [("anthropic-version", "2023-06-01"), ("anthropic-beta", "a,b"), ("X-Tokenhub-Attempt-Id", "att_1")];
    for path in ["/v1/messages?beta=true", "/v1/chat/completions"] {
        assert_eq!(request(&provider, "POST", path, &headers, bytes).status, 200);
    }
    let calls = provider.calls();
    let call = &calls[0];
    assert_eq!(
        (call.method.as_str(), call.path.as_str(), call.query.as_deref()),
        ("POST", MESSAGES, Some("beta=true"))
    );
    assert_eq!(call.raw_body.0, bytes.as_bytes());
    assert_eq!((call.header("anthropic-beta"), call.attempt_id.as_deref()), (Some("a,b"), Some("att_1")));
    assert_eq!((call.header("authorization"), call.header("x-api-key")), (None, None));
    assert_eq!((call.last_text().as_str(), calls[1].query.as_deref()), ("hi \u{e9}", None));

    let told = request(&provider, "GET", "/__calls", &[], "").json();
    assert_eq!(told[0]["raw_body"], bytes);
    assert_eq!(serde_json::from_value::<Vec<tokenhub_demo::SeenCall>>(told).unwrap(), calls);
}

#[tokio::test]
async fn a_path_that_there_is_not_is_a_lookup() {
    let provider = ScriptedProvider::start().await;
    assert_eq!(request(&provider, "HEAD", "/", &[], "").status, 404);
    assert_eq!(request(&provider, "POST", "/v1/complete", &[], "x").status, 404);
    assert_eq!((provider.count(), provider.lookups()[1].path.as_str()), (0, "/v1/complete"));
    for path in GENERATING {
        assert_eq!(request(&provider, "POST", path, &[], "{").status, 400);
    }
}
