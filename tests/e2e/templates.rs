//! Templates of plans: versions, who may write the next one, and runs that keep the version that they began with.

mod chats;
mod tagged;

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};
use tokenhub_domain::{ContentHash, canonical_json};

use crate::{
    harness::{Answer, Disturbance, TestHub, TestHubBuilder, exchange, http},
    relay::Relay,
};

const TEMPLATES: &str = "/v1/plan/templates";

fn installation() -> TestHubBuilder {
    TestHub::builder().environment("TOKENHUB_START_DEADLINE_MS", "15000").environment("TOKENHUB_PENALTIES", "false")
}

/// A template that has alpha answer and improve its answer once, told to be what `manner` says.
fn refining(manner: &str) -> Value {
    json!({
        "description": "says it better",
        "strategy": {"type": "refine", "rounds": 1, "model": "alpha"},
        "request": {"messages": [{"role": "system", "content": format!("Be {manner}.")}], "parameters": {"seed": 7}},
        "bounds": {"max_calls": 5},
    })
}

async fn put_at(hub: &TestHub, api: usize, name: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut request = hub.request_to(api, Method::PUT, &format!("{TEMPLATES}/{name}")).json(body);
    for (header, value) in headers {
        request = request.header(*header, *value);
    }
    exchange(request).await.unwrap()
}

async fn put(hub: &TestHub, name: &str, body: &Value) -> Answer {
    put_at(hub, 0, name, &[], body).await
}

async fn read(hub: &TestHub, path: &str) -> Answer {
    hub.get(&format!("{TEMPLATES}{path}")).await.unwrap()
}

async fn delete(hub: &TestHub, name: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = hub.request(Method::DELETE, &format!("{TEMPLATES}/{name}"));
    for (header, value) in headers {
        request = request.header(*header, *value);
    }
    exchange(request).await.unwrap()
}

/// A plan by a template, with the fields of `more`.
fn plan(template: &str, more: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "which colour?"}]);
    let mut body = json!({"template": template, "request": {"messages": messages}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_never_changes_and_the_next_one_is_written_against_the_one_that_was_seen() {
    let hub = installation().temporal_off().start().await;
    let (first, second) = (refining("brief"), refining("thorough"));
    let made = put_at(&hub, 0, "review", &[("if-none-match", "*")], &first).await.expect(201);
    assert_eq!((made.header("etag"), &made.body["version"]), ("\"1\"", &json!(1)));
    assert_eq!(made.body["hash"], json!(ContentHash::of(&canonical_json(&first))));
    assert_eq!(read(&hub, "/review").await.expect(200).body, made.body);
    assert_eq!((&made.body["template"], &made.body["strategy"]), (&first, &json!("refine")));

    let taken = put_at(&hub, 0, "review", &[("if-none-match", "*")], &second).await.expect(412);
    assert_eq!((&taken.body["code"], &taken.body["current_version"]), (&json!("version_mismatch"), &json!(1)));
    put_at(&hub, 0, "other", &[("if-match", "\"1\"")], &first).await.expect(412);
    put_at(&hub, 0, "other", &[("if-match", "*")], &first).await.expect(412);
    put_at(&hub, 0, "review", &[("if-match", "\"1\""), ("if-none-match", "*")], &first).await.expect(400);
    let next = put_at(&hub, 0, "review", &[("if-match", "\"1\"")], &second).await.expect(200);
    assert_eq!((next.header("etag"), &next.body["version"]), ("\"2\"", &json!(2)));
    let outrun = put_at(&hub, 0, "review", &[("if-match", "\"1\"")], &first).await.expect(412);
    assert_eq!(outrun.body["current_version"], 2);
    // Who repeats a request makes no new version.
    assert_eq!(put(&hub, "review", &second).await.expect(200).body["version"], 2);
    let old = read(&hub, "/review?version=1").await.expect(200);
    assert_eq!((&old.body["template"], &old.body["hash"]), (&first, &made.body["hash"]));
    for (path, status) in [("/review?version=3", 404), ("/review?version=0", 400), ("/nobody", 404), ("/a@b", 400)] {
        read(&hub, path).await.expect(status);
    }

    delete(&hub, "review", &[("if-match", "\"1\"")]).await.expect(412);
    delete(&hub, "review", &[]).await.expect(204);
    delete(&hub, "review", &[]).await.expect(404);
    for path in ["/review", "/review?version=2"] {
        assert_eq!(read(&hub, path).await.expect(404).body["code"], "template_not_found", "{path}");
    }
    let gone = hub.post("/v1/plan", &plan("review@2", &json!({}))).await.expect(404);
    assert_eq!((&gone.body["code"], &gone.body["param"]), (&json!("template_not_found"), &json!("template")));
    let again = put_at(&hub, 0, "review", &[("if-none-match", "*")], &first).await.expect(201);
    assert_eq!(again.body["version"], 4, "a number never comes back");
    exchange(http().get(format!("{}{TEMPLATES}", hub.apis[0].1))).await.unwrap().expect(401);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_listed_page_by_page_and_those_that_were_taken_away_are_not() {
    let hub = installation().temporal_off().start().await;
    for name in ["c", "a", "b", "d"] {
        put(&hub, name, &refining("brief")).await.expect(201);
    }
    put(&hub, "a", &refining("thorough")).await.expect(200);
    delete(&hub, "b", &[]).await.expect(204);
    let names = |page: &Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|line| line["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = read(&hub, "?limit=2").await.expect(200).body;
    assert_eq!((names(&first), &first["has_more"]), (vec!["a".to_owned(), "c".to_owned()], &json!(true)));
    assert_eq!((&first["data"][0]["version"], &first["data"][0]["description"]), (&json!(2), &json!("says it better")));
    assert_eq!(first["data"][0].get("template"), None, "a list does not tell what templates say");
    let rest = read(&hub, "?limit=2&after=c").await.expect(200).body;
    assert_eq!((names(&rest), &rest["has_more"]), (vec!["d".to_owned()], &json!(false)));
    for wrong in ["?limit=0", "?limit=x", "?after=a/b", "?limit=1&limit=2"] {
        read(&hub, wrong).await.expect(400);
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plan_could_not_have_is_refused_by_its_name_when_it_is_written() {
    let hub = installation().temporal_off().start().await;
    for (field, value, param) in [
        ("strategy", Value::Null, "strategy"),
        ("strategy", json!({"type": "dice"}), "strategy.type"),
        ("strategy", json!({"type": "refine", "rounds": 11}), "strategy.rounds"),
        ("strategy", json!({"type": "refine", "critic": "a"}), "strategy.critic"),
        ("bounds", json!({"max_calls": 0}), "bounds.max_calls"),
        ("policy", json!({"mood": 1}), "policy.mood"),
        ("request", json!({"messages": "hi"}), "request.messages"),
        ("request", json!({"messages": [7]}), "request.messages[0]"),
        ("request", json!({"parameters": 7}), "request.parameters"),
        ("request", json!({"output_schema": {"type": "objekt"}}), "request.output_schema"),
        ("request", json!({"stream": true}), "request.stream"),
        ("tags", json!({"team": 7}), "tags.team"),
        ("approval", json!({"timeout_ms": 1}), "approval.on_timeout"),
        ("webhook", json!({"url": "https://hooks.example"}), "webhook"),
        ("description", json!(7), "description"),
        ("background", json!(true), "background"),
        ("template", json!("other"), "template"),
    ] {
        let mut body = refining("brief");
        body[field] = value;
        let refused = put(&hub, "review", &body).await.expect(400);
        assert_eq!(refused.body["param"], param, "{field}: {}", refused.text);
    }
    for name in ["-a", "a%2Fb", "a@1", "%20", &"x".repeat(65)] {
        let refused = put(&hub, name, &refining("brief")).await.expect(400);
        assert_eq!(refused.body["param"], "name", "{name}: {}", refused.text);
    }
    put(&hub, "review", &refining(&"x".repeat(256 * 1024))).await.expect(413);
    put(&hub, "review", &refining("brief")).await.expect(201);
    for (more, param) in [
        (json!({"strategy": {"type": "single"}}), "strategy"),
        (json!({"orchestration": {"mode": "vote"}}), "orchestration"),
        (json!({"bound": {"max_calls": 1}}), "bound"),
        (json!({"template": "review@0"}), "template"),
        (json!({"template": 7}), "template"),
        (json!({"request": {}}), "request.messages"),
        (json!({"request": {"messages": []}}), "request.messages"),
        (json!({"bounds": {"max_calls": "1"}}), "bounds.max_calls"),
        (json!({"description": "x"}), "description"),
    ] {
        let refused = hub.post("/v1/plan", &plan("review", &more)).await.expect(400);
        assert_eq!(refused.body["param"], param, "{more}: {}", refused.text);
    }
    assert_eq!(hub.provider.count(), 0);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_authors_at_two_apis_who_have_seen_the_same_version_one_is_first() {
    let hub = installation().temporal_off().apis(2).start().await;
    for seen in 0..3_u64 {
        let condition = if seen == 0 { ("if-none-match", "*".to_owned()) } else { ("if-match", format!("\"{seen}\"")) };
        let tries = (0..8).map(|author| {
            let (hub, condition) = (&hub, &condition);
            let body = refining(&format!("like author {author} of version {seen}"));
            async move { put_at(hub, author % 2, "review", &[(condition.0, &condition.1)], &body).await.status.as_u16() }
        });
        let statuses = join_all(tries).await;
        let first = statuses.iter().filter(|status| [200, 201].contains(*status)).count();
        let outrun = statuses.iter().filter(|status| **status == 412).count();
        assert_eq!((first, outrun), (1, 7), "{statuses:?}");
    }
    // Without a condition everybody writes, one after the other.
    let bodies: Vec<Value> = (0..4).map(|author| refining(&format!("author {author}"))).collect();
    let tries = bodies.iter().enumerate().map(|(author, body)| put_at(&hub, author % 2, "review", &[], body));
    for written in join_all(tries).await {
        written.expect(200);
    }
    assert_eq!(read(&hub, "/review").await.expect(200).body["version"], 7);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_keeps_the_version_that_it_began_with_and_so_does_its_fork() {
    let hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("red").delay_ms(1_500)]));
    let made = put(&hub, "review", &refining("brief")).await.expect(201).body;
    let pin = json!({"name": "review", "version": 1, "hash": made["hash"]});
    let begun = hub.post("/v1/plan", &plan("review", &json!({"background": true}))).await.expect(202).body;
    assert_eq!(begun["template"], pin, "{begun}");
    put(&hub, "review", &refining("thorough")).await.expect(200);
    let id = begun["id"].as_str().unwrap();
    let ended = hub.get(&format!("/v1/plan/{id}?wait=60s")).await.unwrap().expect(200).body;
    assert_eq!((&ended["status"], &ended["template"], &ended["durable"]), (&json!("completed"), &pin, &json!(true)));
    let told = |call: &tokenhub_demo::SeenCall| call.body["messages"][0]["content"].as_str().unwrap().to_owned();
    assert_eq!(hub.provider.calls().iter().map(told).collect::<Vec<_>>(), ["Be brief.", "Be brief."]);
    assert_eq!(hub.provider.calls()[0].body["seed"], 7);

    hub.provider.clear_script();
    let old = hub.post("/v1/plan", &plan("review@1", &json!({}))).await.expect(200).body;
    assert_eq!(old["template"], pin);
    let new = hub.post("/v1/plan", &plan("review", &json!({}))).await.expect(200).body;
    assert_eq!(new["template"]["version"], 2);
    assert_eq!(told(hub.provider.calls().last().unwrap()), "Be thorough.");
    delete(&hub, "review", &[]).await.expect(204);
    assert_eq!(hub.get(&format!("/v1/plan/{id}")).await.unwrap().expect(200).body["template"], pin);
    let fork = hub.post(&format!("/v1/plan/{id}/fork"), &json!({"from_step": "improvement/1"})).await.expect(200).body;
    assert_eq!((&fork["template"], &fork["usage"]["calls"]), (&pin, &json!(1)));
    let listed = hub.get("/v1/plan?template=review&status=completed").await.unwrap().expect(200).body;
    let versions: Vec<_> = listed["data"].as_array().unwrap().iter().map(|line| &line["template"]["version"]).collect();
    assert_eq!(versions, [1, 2, 1, 1], "{listed}");
    hub.get("/v1/plan?template=a/b").await.unwrap().expect(400);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_fields_lie_over_the_templates_and_its_limits_only_become_tighter() {
    let hub = installation().temporal_off().start().await;
    let mut template = refining("brief");
    template["request"]["parameters"] = json!({"seed": 7, "max_tokens": 50});
    template["tags"] = json!({"team": "search", "stage": "test"});
    template["bounds"] = json!({"max_calls": 2});
    template["approval"] = json!({"timeout_ms": 60_000, "on_timeout": "fail"});
    put(&hub, "asking", &template).await.expect(201);
    template.as_object_mut().unwrap().remove("approval");
    put(&hub, "review", &template).await.expect(201);

    let more = json!({
        "request": {"messages": [{"role": "user", "content": "which?"}],
            "parameters": {"temperature": 0.5, "max_completion_tokens": 9}},
        "bounds": {"max_calls": 100},
        "tags": {"stage": "live"},
    });
    let done = hub.post("/v1/plan", &plan("review", &more)).await.expect(200).body;
    assert_eq!(done["tags"], json!({"team": "search", "stage": "live"}), "{done}");
    let body = hub.provider.calls()[0].body.clone();
    assert_eq!(
        (&body["seed"], &body["temperature"], &body["max_completion_tokens"]),
        (&json!(7), &json!(0.5), &json!(9))
    );
    assert_eq!((body.get("max_tokens"), body["messages"].as_array().unwrap().len()), (None, 2), "{body}");
    for (max_calls, status, calls) in [(100, "completed", 2), (1, "completed_partial", 1)] {
        let bounded = plan("review", &json!({"bounds": {"max_calls": max_calls}}));
        let done = hub.post("/v1/plan", &bounded).await.expect(200).body;
        assert_eq!((&done["status"], &done["usage"]["calls"]), (&json!(status), &json!(calls)), "{max_calls}: {done}");
    }
    let before = hub.provider.count();
    let estimate = hub.post("/v1/plan/estimate", &plan("review", &json!({}))).await.expect(200).body;
    assert_eq!((&estimate["kind"], &estimate["first_exceeded"]), (&json!("refine"), &json!("max_calls")), "{estimate}");
    let own = json!({"approval": {"timeout_ms": 1, "on_timeout": "approve"}});
    assert_eq!(hub.post("/v1/plan", &plan("asking", &own)).await.expect(400).body["param"], "approval");
    assert_eq!(hub.provider.count(), before);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_at_an_api_that_is_killed_is_there_at_every_other() {
    let mut hub = installation().apis(2).start().await;
    put_at(&hub, 0, "review", &[], &refining("brief")).await.expect(201);
    hub.apis[0].0.kill();
    let used = exchange(hub.request_to(1, Method::POST, "/v1/plan").json(&plan("review", &json!({})))).await.unwrap();
    assert_eq!(used.expect(200).body["template"]["version"], 1);
    hub.apis.remove(0);
    hub.start_api().await;
    let chat = json!({"model": "plan/review", "messages": [{"role": "user", "content": "hi"}]});
    let chat = exchange(hub.request_to(1, Method::POST, "/v1/chat/completions").json(&chat)).await.unwrap().expect(200);
    assert_eq!(chat.body["model"], "plan/review@1", "{}", chat.text);
    hub.finish(Disturbance::Kills).await;
}

/// The API that accepted the plan dies before the plan begins, and its template has another version by the time at
/// which the client comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_was_accepted_and_never_begun_begins_with_the_version_that_it_was_accepted_with() {
    let mut hub = installation().workers(0).apis(0).start().await;
    let relay = Relay::to(hub.temporal.address()).await;
    hub.start_api_with(&[("TEMPORAL_ADDRESS", relay.address())]).await;
    hub.start_worker(&[]);
    hub.wait_until_durable().await;
    put(&hub, "review", &refining("brief")).await.expect(201);
    let keyed = |hub: &TestHub| {
        let request = hub.request(Method::POST, "/v1/plan").header("idempotency-key", "one");
        exchange(request.header("x-tokenhub-durability", "required").json(&plan("review", &json!({}))))
    };
    relay.hold();
    let asked = tokio::spawn(keyed(&hub));
    // The plan is accepted at once; its start waits in the relay.
    tokio::time::sleep(Duration::from_secs(1)).await;
    hub.apis.remove(0).0.kill();
    assert!(asked.await.unwrap().is_err(), "the client lost its connection");
    drop(relay);
    assert_eq!(hub.provider.count(), 0, "nothing has reached Temporal");

    hub.start_api_with(&[("TOKENHUB_START_DEADLINE_MS", "1000")]).await;
    put(&hub, "review", &refining("thorough")).await.expect(200);
    hub.wait_until_durable().await;
    let ended = keyed(&hub).await.unwrap().expect(200).body;
    assert_eq!((&ended["status"], &ended["template"]["version"]), (&json!("completed"), &json!(1)), "{ended}");
    let calls = hub.provider.calls();
    assert!(calls.iter().all(|call| call.body["messages"][0]["content"] == "Be brief."), "{calls:?}");
    hub.finish(Disturbance::Kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_of_a_plan_whose_template_was_taken_away_is_that_plan() {
    let hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("red")]));
    put(&hub, "review", &refining("brief")).await.expect(201);
    let key = [("Idempotency-Key", "kept")];
    let body = plan("review", &json!({"tags": {"ticket": "17"}}));
    let first = hub.post_with("/v1/plan", &key, &body).await.expect(200);
    let chat = json!({"model": "plan/review", "messages": [{"role": "user", "content": "which colour?"}]});
    let answered = hub.post_with("/v1/chat/completions", &key, &chat).await.expect(200);
    let calls = hub.provider.count();
    delete(&hub, "review", &[]).await.expect(204);

    let again = hub.post_with("/v1/plan", &key, &body).await.expect(200);
    assert_eq!(again.header("idempotent-replayed"), "true");
    for field in ["id", "response", "template", "tags", "usage"] {
        assert_eq!(again.body[field], first.body[field], "{field}: {}", again.text);
    }
    let asked = hub.post_with("/v1/chat/completions", &key, &chat).await.expect(200);
    assert_eq!(asked.header("x-tokenhub-run-id"), answered.header("x-tokenhub-run-id"));
    assert_eq!((&asked.body["model"], &asked.body["choices"]), (&json!("plan/review@1"), &answered.body["choices"]));

    let other = plan("review", &json!({"tags": {"ticket": "18"}}));
    hub.post_with("/v1/plan", &key, &other).await.expect(422);
    let missing = hub.post_with("/v1/plan", &[("Idempotency-Key", "new")], &body).await.expect(404);
    assert_eq!(missing.body["code"], "template_not_found", "{}", missing.text);
    hub.post("/v1/plan", &body).await.expect(404);
    hub.post("/v1/chat/completions", &chat).await.expect(404);
    assert_eq!(hub.provider.count(), calls, "nothing is bought again");
    hub.finish(Disturbance::None).await;
}
