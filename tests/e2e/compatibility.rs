//! Payloads of other versions, and the recorder of the golden histories that `replay/` replays.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::{Map, Value, json};
use temporalio_client::{WorkflowExecutionStatus, WorkflowStartOptions};
use temporalio_common::{UntypedWorkflow, data_converters::RawValue, protos::temporal::api::common::v1::Payload};
use tokenhub_demo::{Finished, Reply, Rule, SeenCall};
use tokenhub_domain::{ApiKeyId, PrincipalId, RequestId, RunId, RunKind, TenantId, UnixMicros, WorkflowId};
use tokenhub_store::{NewRun, Store};

use crate::{
    harness::{Disturbance, Operator, TestHub},
    verifier::Verifier,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// The row that an API writes before it starts a workflow.
async fn insert_row(hub: &TestHub, spec: &Value, workflow_id: &str) {
    let path = hub.dir().join("data/tokenhub.db");
    let store = Store::open(&format!("sqlite://{}?mode=rw", path.display())).await.unwrap();
    let row = NewRun {
        run_id: RunId::from(spec["run"]["run_id"].as_str().unwrap()),
        kind: RunKind::parse(spec["run"]["kind"].as_str().unwrap()).unwrap(),
        tenant: TenantId::default_tenant(),
        principal: PrincipalId::default(),
        api_key_id: ApiKeyId::default(),
        request_id: RequestId::default(),
        idempotency: None,
        spec_json: spec.to_string(),
        workflow_id: Some(WorkflowId::from(workflow_id)),
        config_version: 1,
        labels: tokenhub_domain::Labels::default(),
        webhook: None,
        created_at: UnixMicros::default(),
        first_event: None,
    };
    store.runs().insert(&row).await.unwrap();
}

/// Starts a workflow with exactly this payload, as an API of another version would, and waits for its end.
async fn run_raw(hub: &TestHub, workflow_type: &str, spec: &Value) -> WorkflowExecutionStatus {
    let workflow_id = format!("raw:{}", spec["run"]["run_id"].as_str().unwrap());
    insert_row(hub, spec, &workflow_id).await;
    let operator = Operator::connect(&hub.temporal).await;
    let payload = Payload {
        metadata: [("encoding".to_owned(), b"json/plain".to_vec())].into(),
        data: spec.to_string().into_bytes(),
        ..Payload::default()
    };
    let options = WorkflowStartOptions::new("tokenhub", workflow_id.as_str()).execution_timeout(PATIENCE).build();
    let (workflow, input) = (UntypedWorkflow::new(workflow_type), RawValue::new(vec![payload]));
    operator.client.start_workflow(workflow, input, options).await.unwrap();
    operator.ended(&workflow_id, PATIENCE * 2).await
}

fn original() -> Value {
    let body = json!({"messages": [{"role": "user", "content": "from another version"}], "field_of_the_future": 1});
    json!({"inline": body.to_string()})
}

/// `object` with a field that nobody knows yet.
fn extended(object: Value) -> Value {
    let Value::Object(mut object) = object else { return object };
    object.insert("field_of_the_future".to_owned(), json!({"nested": [1, {"deep": true}]}));
    Value::Object(object)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_carries_the_payload_of_a_newer_api() {
    let hub = TestHub::builder().start().await;
    let run = json!({"run_id": "plan_newer", "kind": "vote", "tenant": "default", "principal": "p", "api_key_id": "k",
        "request_id": "req_1", "config_version": 1});
    let policy = json!({"profile": "normal", "max_budget": null, "max_latency_ms": null, "min_weight": 0});
    let spec = extended(json!({"kind": "vote", "run": extended(run), "original": original(),
        "estimated_input_tokens": 5, "estimated_output_tokens": 5, "policy": extended(policy), "deadline_ms": 60_000,
        "voters": 3, "method": "majority"}));
    assert_eq!(run_raw(&hub, "VoteWorkflow", &spec).await, WorkflowExecutionStatus::Completed);
    let run = hub.get("/v1/plan/plan_newer").await.unwrap().expect(200);
    assert_eq!((&run.body["status"], &run.body["usage"]["calls"]), (&json!("completed"), &json!(3)), "{}", run.text);
    assert_eq!(hub.provider.count(), 3);
    assert_eq!(hub.provider.calls()[0].body["field_of_the_future"], 1, "the caller's own fields pass through");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_carries_the_payload_of_an_older_api_that_knew_only_what_is_required() {
    let hub = TestHub::builder().start().await;
    let run = json!({"run_id": "run_older", "kind": "chat", "tenant": "default"});
    let spec = json!({"kind": "chat", "run": run, "original": original()});
    assert_eq!(run_raw(&hub, "ChatWorkflow", &spec).await, WorkflowExecutionStatus::Completed);
    let run = hub.get("/v1/plan/run_older").await.unwrap().expect(200);
    assert_eq!(run.body["status"], "completed", "{}", run.text);
    assert_eq!(hub.provider.count(), 1);
    hub.finish(Disturbance::None).await;
}

/// A request whose history is kept.
struct Golden {
    name: &'static str,
    rules: Vec<Rule>,
    path: &'static str,
    body: Value,
}

fn plan(orchestration: &Value) -> Value {
    json!({"request": {"messages": [{"role": "user", "content": "Why is the sky blue?"}]}, "orchestration": orchestration})
}

fn strategy(strategy: &Value) -> Value {
    json!({"request": {"messages": [{"role": "user", "content": "Why is the sky blue?"}]}, "strategy": strategy})
}

fn chat(extra: Value) -> Value {
    let mut body = Map::from_iter([
        ("model".to_owned(), json!("alpha")),
        ("messages".to_owned(), json!([{"role": "user", "content": "Why is the sky blue?"}])),
    ]);
    if let Value::Object(extra) = extra {
        body.extend(extra);
    }
    Value::Object(body)
}

fn goldens() -> Vec<Golden> {
    let golden = |name, rules, path, body| Golden { name, rules, path, body };
    let answers = || Rule::any([Reply::text("Rayleigh scattering.")]);
    let judge = |replies: Vec<Reply>| Rule::model("gamma", replies);
    let retried = [Reply::error(500, "server_error", "broken"), Reply::text("Rayleigh scattering.")];
    let vote = json!({"mode": "vote", "voters": 2, "review_model_id": "gamma"});
    let chats = "/v1/chat/completions";
    vec![
        golden("chat", vec![answers()], chats, chat(json!({}))),
        golden("chat_retried", vec![Rule::any(retried)], chats, chat(json!({}))),
        golden(
            "chat_hedged",
            vec![answers(), Rule::model("alpha", [Reply::text("Too late.").delay_ms(3_000)])],
            "/v1/chat",
            json!({"request": {"messages": [{"role": "user", "content": "Why is the sky blue?"}]},
                "policy": {"hedge_after_ms": 200}}),
        ),
        golden(
            "chat_repaired",
            vec![Rule::any([Reply::text("Blue."), Reply::text("{\"color\": \"blue\"}")])],
            "/v1/chat",
            json!({"request": {"messages": [{"role": "user", "content": "Which color has the sky?"}], "model_hint": "alpha",
                "output_schema": {"type": "object", "required": ["color"]}}}),
        ),
        golden("stream_log", vec![answers()], chats, chat(json!({"stream": true}))),
        golden("vote", vec![answers(), judge(vec![Reply::text("{\"winner\": 1}")])], "/v1/plan", plan(&vote)),
        golden(
            "vote_repaired",
            vec![answers(), judge(vec![Reply::text("Both are fine."), Reply::text("{\"winner\": 2}")])],
            "/v1/plan",
            plan(&vote),
        ),
        golden(
            "vote_decided",
            vec![answers(), Rule::model("gamma", [Reply::text("Too late.").delay_ms(3_000)])],
            "/v1/plan",
            plan(&json!({"mode": "vote", "voters": 3, "method": "majority", "stop": "decided"})),
        ),
        golden("adversarial", vec![answers()], "/v1/plan", plan(&json!({"mode": "adversarial", "iterations": 2}))),
        golden("refine", vec![answers()], "/v1/plan", plan(&json!({"mode": "refine", "iterations": 2}))),
        golden("refine_approved", vec![answers()], "/v1/plan", {
            let mut body = plan(&json!({"mode": "refine", "iterations": 1}));
            body["approval"] = json!({"timeout_ms": 600_000, "on_timeout": "fail"});
            body
        }),
        golden("refine_expired", vec![answers()], "/v1/plan", {
            let mut body = plan(&json!({"mode": "refine", "iterations": 1}));
            body["approval"] = json!({"timeout_ms": 500, "on_timeout": "approve"});
            body
        }),
        golden(
            "best_of_n",
            vec![answers(), judge(vec![Reply::text("{\"scores\": [40, 90]}")])],
            "/v1/plan",
            plan(&json!({"mode": "best_of_n", "voters": 2, "review_model_id": "gamma"})),
        ),
    ]
}

/// Those of the strategies that came later.
fn later_goldens() -> Vec<Golden> {
    let golden = |name, rules, path, body| Golden { name, rules, path, body };
    let answers = || Rule::any([Reply::text("Rayleigh scattering.")]);
    let judge = |replies: Vec<Reply>| Rule::model("gamma", replies);
    vec![
        golden(
            "vote_answered_now",
            vec![
                answers(),
                Rule::model("beta", [Reply::text("Too late.").delay_ms(20_000)]),
                Rule::model("gamma", [Reply::text("Too late.").delay_ms(20_000)]),
            ],
            "/v1/plan",
            {
                let mut body = plan(&json!({"mode": "vote", "voters": 3, "method": "majority"}));
                body["background"] = json!(true);
                body
            },
        ),
        golden(
            "best_of_n_pairwise",
            vec![answers(), judge(vec![Reply::text("{\"winner\": 1}")])],
            "/v1/plan",
            strategy(&json!({"type": "best_of_n", "candidates": 2, "method": "pairwise", "judge_model": "gamma"})),
        ),
        golden(
            "cascade",
            vec![answers(), judge(vec![Reply::text("{\"accept\": false}")])],
            "/v1/plan",
            strategy(&json!({"type": "cascade", "models": ["beta", "alpha"], "judge_model": "gamma"})),
        ),
        golden(
            "fuse",
            vec![answers(), judge(vec![Reply::text("{\"consensus\": [], \"contradictions\": [], \"gaps\": []}")])],
            "/v1/plan",
            strategy(&json!({"type": "fuse", "panel": 2, "judge_model": "gamma", "writer_model": "alpha"})),
        ),
    ]
}

/// Those whose answers are checked from outside, or waited for a while only.
fn checked_goldens(check: &Value) -> Vec<Golden> {
    let golden = |name, rules, body: Value| Golden { name, rules, path: "/v1/plan", body: strategy(&body) };
    let drafts = || vec![Rule::any([Reply::text("Blue."), Reply::text("A good answer.")])];
    vec![
        golden("refine_checked", drafts(), json!({"type": "refine", "rounds": 2, "model": "alpha", "check": check})),
        golden(
            "best_of_n_first_pass",
            drafts(),
            json!({"type": "best_of_n", "candidates": 3, "model": "alpha", "parallelism": 1, "stop": "first_pass",
                "check": check}),
        ),
        golden(
            "vote_grace",
            vec![
                Rule::any([Reply::text("Rayleigh scattering.")]),
                Rule::model("gamma", [Reply::text("Too late.").delay_ms(10_000)]),
            ],
            json!({"type": "vote", "voters": 3, "method": "majority", "min_success": 2, "grace_ms": 200}),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "records the golden histories anew, into TOKENHUB_RECORD_HISTORIES; only a release that keeps old ones may"]
async fn records_the_golden_histories() {
    let folder = PathBuf::from(std::env::var_os("TOKENHUB_RECORD_HISTORIES").expect("a folder to write to"));
    fs::create_dir_all(&folder).unwrap();
    // Whom a routed request goes to must not depend on the requests before it.
    let hub = TestHub::builder()
        .environment("TOKENHUB_LIVE_SIGNALS", "false")
        .environment("TOKENHUB_PENALTIES", "false")
        .environment("TOKENHUB_VERIFIER_HOSTS", "127.0.0.1")
        .start()
        .await;
    let operator = Operator::connect(&hub.temporal).await;
    let verifier = Verifier::start([]).await;
    let checked = checked_goldens(&verifier.check());
    for Golden { name, rules, path, body } in goldens().into_iter().chain(later_goldens()).chain(checked) {
        hub.provider.clear_script();
        for rule in rules {
            hub.provider.script(rule);
        }
        let before = hub.provider.calls().len();
        let answer = hub.post(path, &body).await;
        if body["background"] == true {
            let id = answer.body["id"].as_str().unwrap();
            let one_answered = |calls: &[SeenCall]| {
                calls.len() == before + 3 && calls[before..].iter().any(|call| call.finished == Finished::Answered)
            };
            assert!(hub.provider.wait_until(PATIENCE, one_answered).await);
            hub.post(&format!("/v1/plan/{id}/signal"), &json!({"type": "answer_now"})).await.expect(200);
        } else if body["approval"]["on_timeout"] == "fail" {
            let id = answer.body["id"].as_str().unwrap();
            hub.post(&format!("/v1/plan/{id}/signal"), &json!({"type": "approve"})).await.expect(200);
        } else if body["approval"].is_null() {
            assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
        }
        let workflows = operator.workflows_of(answer.header("x-tokenhub-run-id")).await;
        assert_eq!(workflows.len(), 1, "{name}: {workflows:?}");
        assert_eq!(operator.ended(&workflows[0], PATIENCE).await, WorkflowExecutionStatus::Completed, "{name}");
        let history: Value = serde_json::from_slice(&operator.history_json(&workflows[0]).await).unwrap();
        // One event a line: small, and a difference can be read.
        let events: Vec<String> = history["events"].as_array().unwrap().iter().map(Value::to_string).collect();
        let text = format!("{{\"events\":[\n{}\n]}}\n", events.join(",\n"));
        fs::write(folder.join(format!("{name}.json")), text).unwrap();
    }
    hub.finish(Disturbance::None).await;
}
