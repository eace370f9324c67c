//! Tags: kept with a run, found by a list at any API, known to Temporal and written into the ledger.

use std::time::Duration;

use reqwest::Method;
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};

use super::{installation, plan, put, refining};
use crate::harness::{Disturbance, Operator, TestHub, eventually, exchange};

const PATIENCE: Duration = Duration::from_mins(1);

fn tagged(tags: &Value, strategy: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "which colour?"}]);
    json!({"request": {"messages": messages}, "strategy": strategy, "tags": tags})
}

async fn listed(hub: &TestHub, api: usize, query: &str) -> Value {
    exchange(hub.request_to(api, Method::GET, &format!("/v1/plan?{query}"))).await.unwrap().expect(200).body
}

fn ids_of(page: &Value) -> Vec<String> {
    page["data"].as_array().unwrap().iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_are_found_by_tag_with_the_other_filters_page_by_page_at_every_api() {
    let hub = installation().temporal_off().apis(2).start().await;
    let single = json!({"type": "single", "model": "alpha"});
    let vote = json!({"type": "vote", "voters": 2, "method": "majority"});
    let mut ids = Vec::new();
    for (api, (team, strategy)) in
        [("search", &single), ("ads", &single), ("search", &vote), ("search", &single)].into_iter().enumerate()
    {
        let body = tagged(&json!({"team": team, "run": "a:b"}), strategy);
        let done = exchange(hub.request_to(api % 2, Method::POST, "/v1/plan").json(&body)).await.unwrap().expect(200);
        assert_eq!(done.body["tags"], json!({"team": team, "run": "a:b"}));
        ids.push(done.body["id"].as_str().unwrap().to_owned());
    }
    let of = |places: &[usize]| places.iter().map(|place| ids[*place].clone()).collect::<Vec<_>>();
    for api in [0, 1] {
        assert_eq!(ids_of(&listed(&hub, api, "tag=team:search").await), of(&[3, 2, 0]));
        assert_eq!(ids_of(&listed(&hub, api, "tag=run:a:b").await), of(&[3, 2, 1, 0]));
        assert_eq!(ids_of(&listed(&hub, api, "tag=team:search&strategy=single&status=completed").await), of(&[3, 0]));
        assert!(ids_of(&listed(&hub, api, "tag=team:sea").await).is_empty());
        let first = listed(&hub, api, "tag=team:search&limit=2").await;
        assert_eq!((ids_of(&first), &first["has_more"]), (of(&[3, 2]), &json!(true)));
        assert_eq!(first["data"][0]["tags"]["team"], "search");
        let rest = listed(&hub, api, &format!("tag=team:search&limit=2&after={}", ids[2])).await;
        assert_eq!((ids_of(&rest), &rest["has_more"]), (of(&[0]), &json!(false)));
    }
    let orchestration = json!({"request": {"messages": [{"role": "user", "content": "x"}]}, "tags": {"form": "older"}});
    let older = hub.post("/v1/plan", &orchestration).await.expect(200).body;
    assert_eq!(older["tags"]["form"], "older");
    for query in ["tag=team", "tag=:x", "tag=a:b&tag=c:d"] {
        hub.get(&format!("/v1/plan?{query}")).await.unwrap().expect(400);
    }
    let wrong = tagged(&json!({"team": ["search"]}), &single);
    assert_eq!(hub.post("/v1/plan", &wrong).await.expect(400).body["param"], "tags.team");
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn temporal_and_the_ledger_know_template_and_tags() {
    let hub = installation().start().await;
    put(&hub, "review", &refining("brief")).await.expect(201);
    let body = plan("review", &json!({"tags": {"team": "search"}}));
    let done = hub.post_with("/v1/plan", &[("x-tokenhub-durability", "required")], &body).await.expect(200).body;
    let operator = Operator::connect(&hub.temporal).await;
    let filter = "TokenHubTemplate = 'review@1' AND TokenHubTags = 'team:search'";
    let found = eventually("the run is listed", PATIENCE, || async {
        let found = operator.list(filter).await;
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(found.await, operator.workflows_of(done["id"].as_str().unwrap()).await);

    let path = format!("sqlite://{}?mode=ro", hub.dir().join("data/tokenhub.db").display());
    let database = sea_orm::Database::connect(path).await.unwrap();
    eventually("both calls are in the ledger with their tags", PATIENCE, || async {
        let text = r#"SELECT count(*) FROM ledger WHERE tags = '{"team":"search"}'"#;
        let counted = database.query_one_raw(Statement::from_string(database.get_database_backend(), text)).await;
        (counted.unwrap().unwrap().try_get_by_index::<i64>(0).unwrap() == 2).then_some(())
    })
    .await;
    database.close().await.unwrap();
    hub.finish(Disturbance::None).await;
}
