//! What one tenant has does not exist for another, whoever carries it, and administrators see all of it.

use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};
use tokenhub_domain::TenantId;

use super::{ACME, PATIENCE, ZETA, admin, ended, get_as, id_of, installation, post_as, single};
use crate::{
    evidence::Evidence,
    harness::{Disturbance, Operator, eventually, exchange, http},
};

/// More than travels in a history or a row: the text is stored by its tenant.
const LONG: usize = 40_000;
const ONE_KEY: (&str, &str) = ("idempotency-key", "monday");

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_tenant_has_is_404_for_another_and_its_own_for_itself() {
    for hub in [installation().start().await, installation().temporal_off().start().await] {
        hub.provider.script(Rule::any([Reply::text("x".repeat(LONG))]));
        let plan = post_as(&hub, ACME, "/v1/plan", &single("of acme")).await.expect(200);
        let text = plan.body["response"].pointer("/choices/0/message/content").and_then(Value::as_str);
        assert_eq!(text.map(str::len), Some(LONG), "{:.300}", plan.text);
        let id = id_of(&plan);
        let kept = get_as(&hub, ACME, &format!("/v1/plan/{id}")).await.expect(200);
        assert_eq!(kept.body["response"], plan.body["response"]);
        let waits = json!({"request": {"messages": [{"role": "user", "content": "of acme"}]}, "background": true,
            "approval": {"timeout_ms": 600_000, "on_timeout": "fail"}});
        let asking = id_of(&post_as(&hub, ACME, "/v1/plan", &waits).await.expect(202));
        let begun = json!({"model": "alpha", "input": "of acme", "background": true});
        let response = id_of(&post_as(&hub, ACME, "/v1/responses", &begun).await.expect(200));
        let link = eventually("the plan asks", PATIENCE, || async {
            let plan = get_as(&hub, ACME, &format!("/v1/plan/{asking}")).await.expect(200);
            plan.body["waiting"]["link"].as_str().map(str::to_owned)
        })
        .await;

        for stranger in [ZETA, hub.environment()["TOKENHUB_CLIENT_KEY"].as_str()] {
            for run in [&id, &asking] {
                for path in ["", "/steps", "/events", "/events?format=json", "/history"] {
                    get_as(&hub, stranger, &format!("/v1/plan/{run}{path}")).await.expect(404);
                }
                for (path, body) in [
                    ("cancel", json!({})),
                    ("signal", json!({"type": "approve"})),
                    ("fork", json!({"from_step": "answer"})),
                ] {
                    let refused = post_as(&hub, stranger, &format!("/v1/plan/{run}/{path}"), &body).await;
                    assert_eq!(refused.body["code"], "run_not_found", "{path}: {}", refused.text);
                }
            }
            get_as(&hub, stranger, &format!("/v1/responses/{response}")).await.expect(404);
            post_as(&hub, stranger, &format!("/v1/responses/{response}/cancel"), &json!({})).await.expect(404);
            let listed = get_as(&hub, stranger, "/v1/plan").await.expect(200);
            assert_eq!(listed.body["data"], json!([]), "{}", listed.text);
            let after = get_as(&hub, stranger, &format!("/v1/plan?after={id}")).await.expect(400);
            assert_eq!(after.body["param"], "after");
        }
        for path in ["", "/steps", "/events?format=json"] {
            get_as(&hub, ACME, &format!("/v1/plan/{id}{path}")).await.expect(200);
        }
        let listed = get_as(&hub, ACME, "/v1/plan?limit=9").await.expect(200);
        let ids: Vec<&str> =
            listed.body["data"].as_array().unwrap().iter().filter_map(|row| row["id"].as_str()).collect();
        assert!([&id, &asking, &response].iter().all(|id| ids.contains(&id.as_str())) && ids.len() == 3, "{ids:?}");
        // The page behind the link asks for no key and finds the run all the same.
        let page = exchange(http().get(format!("{}{link}", hub.apis[0].1))).await.unwrap().expect(200);
        assert!(page.text.contains(&"x".repeat(1_000)));
        post_as(&hub, ACME, &format!("/v1/plan/{asking}/signal"), &json!({"type": "approve"})).await.expect(200);
        ended(&hub, ACME, &asking).await;
        let response_path = format!("/v1/responses/{response}");
        eventually("the response ends", PATIENCE, || async {
            (get_as(&hub, ACME, &response_path).await.expect(200).body["status"] == "completed").then_some(())
        })
        .await;
        hub.finish(Disturbance::None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_idempotency_key_of_two_tenants_is_two_runs() {
    let hub = installation().start().await;
    let ask = |key: &'static str, question: &'static str| {
        let request = hub.request_as(key, Method::POST, "/v1/plan").header(ONE_KEY.0, ONE_KEY.1);
        exchange(request.json(&single(question)))
    };
    // Another body under the same key is a misuse within a tenant, and nothing of the sort between two.
    let first = ask(ACME, "of acme").await.unwrap().expect(200);
    let second = ask(ZETA, "of zeta").await.unwrap().expect(200);
    assert_ne!(first.body["id"], second.body["id"]);
    assert!(first.text.contains("of acme") && second.text.contains("of zeta"));
    let again = ask(ACME, "of acme").await.unwrap().expect(200);
    assert_eq!((&again.body["id"], hub.provider.count()), (&first.body["id"], 2));
    ask(ACME, "of zeta").await.unwrap().expect(422);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_names_its_tenant_and_administrators_see_those_of_all() {
    let hub = installation()
        .environment("TOKENHUB_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        .environment("TOKENHUB_WEBHOOK_ALLOWED_HOSTS", "127.0.0.1")
        .start()
        .await;
    let mut body = single("of acme");
    body["webhook"] = json!({"url": "http://127.0.0.1:9/hook"});
    let plan = post_as(&hub, ACME, "/v1/plan", &body).await.expect(200);
    let own = hub.post("/v1/plan", &single("of default")).await.expect(200);
    let (evidence, acme) = (Evidence::of(&hub).await, TenantId::from("acme"));
    let rows = evidence.ended(2).await;
    let row = rows.iter().find(|row| row.tenant == acme).expect("a row of acme");
    assert_eq!((row.run_id.as_str(), row.principal.as_str()), (id_of(&plan).as_str(), "client:acme-ci"));
    assert!(row.api_key_id.as_str().starts_with("key_") && !row.api_key_id.as_str().contains("canary"));
    let line = eventually("the log has the plan", PATIENCE, || async { evidence.log(&acme).await.pop() }).await;
    assert_eq!((&line.run.run_id, &line.run.api_key_id), (&row.run_id, &row.api_key_id));

    for (answer, tenant) in [(&plan, "acme"), (&own, "default")] {
        // A run is known by its calls before its end is written.
        let run = eventually("the end of the run is written", PATIENCE, || async {
            let explained = admin(&hub, &format!("requests/{}/explain", id_of(answer))).await.expect(200);
            let run = explained.body["runs"][0].clone();
            (!run["outcome"].is_null()).then_some(run)
        })
        .await;
        assert_eq!((&run["outcome"]["tenant"], run["attempts"].as_array().map(Vec::len)), (&json!(tenant), Some(1)));
        assert_eq!(run["decisions"].as_array().map(Vec::len), Some(1), "{run:#}");
    }
    let webhooks = admin(&hub, "webhooks/deliveries").await.expect(200);
    assert_eq!(
        (&webhooks.body["data"][0]["tenant"], &webhooks.body["data"][0]["run_id"]),
        (&json!("acme"), &plan.body["id"])
    );
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_and_their_calls_stand_in_line_by_tenant_and_urgency() {
    let keys = json!([
        {"name": "acme-ci", "key": ACME, "tenant": "acme", "weight": 2.5},
        {"name": "zeta-app", "key": ZETA, "tenant": "zeta", "priority": "batch"},
    ]);
    let hub = installation().environment("TOKENHUB_CLIENT_KEYS", &keys.to_string()).start().await;
    let operator = Operator::connect(&hub.temporal).await;
    let mut later = single("later");
    later["wait_ms"] = json!(20_000);
    for (key, body, (rank, tenant, weight)) in [
        (ACME, &single("now"), (2, "acme", 2.5)),
        (ACME, &later, (3, "acme", 2.5)),
        (ZETA, &single("now"), (5, "zeta", 1.0)),
        (ZETA, &later, (5, "zeta", 1.0)),
    ] {
        let id = id_of(&post_as(&hub, key, "/v1/plan", body).await.expect(200));
        let workflow = operator.workflows_of(&id).await.remove(0);
        assert!(workflow.contains(&format!(":{tenant}:")), "{workflow}");
        let history: Value = serde_json::from_slice(&operator.history_json(&workflow).await).unwrap();
        let mut seen = 0;
        for event in history["events"].as_array().unwrap() {
            for kind in ["WorkflowExecutionStartedEventAttributes", "ActivityTaskScheduledEventAttributes"] {
                let Some(attributes) = event["attributes"].get(kind) else { continue };
                let priority = json!({"priorityKey": rank, "fairnessKey": tenant, "fairnessWeight": weight});
                assert_eq!(attributes["priority"], priority, "{event:#}");
                seen += 1;
            }
        }
        assert_eq!(seen, 2, "the start and one call");
    }
    hub.finish(Disturbance::None).await;
}
