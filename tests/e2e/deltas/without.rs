//! Plans that did not ask for it, what a request may say, and a database that takes no pieces.

use reqwest::Method;
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};

use super::{GAP_MS, facts, is_delta, open, plan, plan_id, script_vote, single, store_of, text_of, told, words};
use crate::{
    harness::{Disturbance, exchange},
    plan_events::reading::{EventStream, assert_numbered},
    scripted::installation,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_does_not_ask_for_deltas_is_as_ever() {
    let hub = installation().start().await;
    let mut body = script_vote(&hub);
    for deltas in [json!(false), Value::Null] {
        body["deltas"] = deltas;
        let seen = told(&hub, &body).await;
        assert_numbered(&seen);
        assert!(seen.iter().all(|event| event.data.get("attempt").is_none() && event.data.get("deltas").is_none()));
        assert_eq!(seen.last().unwrap().data["plan"]["status"], "completed");
    }
    let calls = hub.provider.calls();
    assert_eq!(calls.len(), 8);
    assert!(calls.iter().all(|call| call.body["stream"] != true && call.body.get("stream_options").is_none()));
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deltas_may_be_asked_for_wherever_a_plan_is_described_and_by_their_name_refused() {
    let hub = installation().temporal_off().start().await;
    hub.provider.script(Rule::any([Reply::text(words("word")).gap_ms(GAP_MS)]));
    let mut body = single("alpha");
    body["stream"] = false.into();
    for wrong in [json!("yes"), json!(1), json!({})] {
        body["deltas"] = wrong;
        for path in ["/v1/plan", "/v1/plan/estimate"] {
            assert_eq!(hub.post(path, &body).await.expect(400).body["param"], "deltas", "{path}");
        }
    }
    body["deltas"] = true.into();
    hub.post("/v1/plan/estimate", &body).await.expect(200);
    assert_eq!(hub.provider.count(), 0);

    // In the background, with the events read apart.
    body["background"] = true.into();
    let id = hub.post("/v1/plan", &body).await.expect(202).body["id"].as_str().unwrap().to_owned();
    let events = |id: &str| EventStream::open(hub.request(Method::GET, &format!("/v1/plan/{id}/events")));
    assert_eq!(text_of(&events(&id).await.rest().await, "answer", 1), words("word"));

    let two_steps = plan(&json!({"type": "refine", "rounds": 1, "model": "alpha"}));
    let first = told(&hub, &two_steps).await;
    let fork = format!("/v1/plan/{}/fork", plan_id(&first));
    let forked = |more: Value| {
        let mut body = json!({"from_step": "improvement/1", "stream": true});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        EventStream::open(hub.request(Method::POST, &fork).json(&body))
    };
    let inherited = forked(json!({})).await.rest().await;
    assert_eq!(text_of(&inherited, "improvement/1", 1), words("word"));
    assert_eq!(text_of(&inherited, "answer", 1), "", "what is kept was not written again");
    assert!(!forked(json!({"deltas": false})).await.rest().await.iter().any(is_delta));

    let template = json!({"strategy": {"type": "single", "model": "alpha"}, "deltas": true});
    exchange(hub.request(Method::PUT, "/v1/plan/templates/shown").json(&template)).await.unwrap().expect(201);
    let mut body =
        json!({"template": "shown", "stream": true, "request": {"messages": [{"role": "user", "content": "?"}]}});
    assert_eq!(text_of(&told(&hub, &body).await, "answer", 1), words("word"));
    body["deltas"] = false.into();
    assert!(!told(&hub, &body).await.iter().any(is_delta));
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_pieces_costs_the_pieces_and_nothing_else() {
    let hub = installation().start().await;
    let url = format!("sqlite://{}?mode=rw", hub.dir().join("data/tokenhub.db").display());
    let database = sea_orm::Database::connect(&url).await.unwrap();
    database.execute_unprepared("DROP TABLE plan_deltas").await.unwrap();
    let seen = told(&hub, &script_vote(&hub)).await;
    assert_numbered(&seen);
    let plan = &seen.last().unwrap().data["plan"];
    assert_eq!(
        (&plan["status"], &plan["response"]["responses"][0]["content"]),
        (&json!("completed"), &json!(words("red")))
    );
    let completed = seen.iter().find(|event| event.name == "step.completed").unwrap();
    assert!(completed.data["deltas"].as_u64().unwrap() > 0, "it says that there were some: {completed:?}");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_events_has_none_and_those_of_a_step_that_has_ended_can_be_removed() {
    let hub = installation().temporal_off().start().await;
    hub.provider.script(Rule::any([Reply::text(words("word")).gap_ms(GAP_MS)]));
    let mut stream = open(&hub, &single("alpha")).await;
    let seen = stream.until(is_delta).await;
    let listed = hub.get(&format!("/v1/plan/{}/events?format=json", plan_id(&seen))).await.unwrap().expect(200);
    let names: Vec<&str> =
        listed.body["data"].as_array().unwrap().iter().map(|it| it["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["plan.created", "plan.started", "step.started"]);
    assert_numbered(&facts(&[seen, stream.rest().await].concat()));
    // They are removed by age, once their step has ended.
    let purged = store_of(&hub).await.plan_deltas().purge(std::time::SystemTime::now().into()).await.unwrap();
    assert!(purged > 0);
    hub.finish(Disturbance::None).await;
}
