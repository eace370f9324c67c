//! The programs of the compose file, started as it starts them: on PostgreSQL, several of each.

use std::process::Command;

use serde_json::json;

use crate::{
    databases,
    harness::{Disturbance, TestHub, binary},
};

#[tokio::test(flavor = "multi_thread")]
async fn apis_and_workers_share_one_postgresql_and_a_plan_crosses_them() {
    let Some(database) = databases::postgres().await else { return };
    let migrated = Command::new(binary("tokenhub"))
        .arg("migrate")
        .env("DATABASE_URL", &database.url)
        .env("TOKENHUB_DATA_DIR", database.data_dir())
        .output()
        .unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));

    let hub = TestHub::builder().environment("DATABASE_URL", &database.url).workers(2).apis(2).start().await;
    let body = json!({
        "request": {"messages": [{"role": "user", "content": "hi"}]},
        "orchestration": {"mode": "vote", "method": "majority"},
    });
    let plan = hub.post("/v1/plan", &body).await.expect(200);
    assert_eq!(plan.header("x-tokenhub-durability"), "durable");
    assert_eq!(plan.body["status"], "completed");
    assert_eq!(plan.body["usage"]["calls"], 3);

    let id = plan.body["id"].as_str().unwrap();
    let other_api = hub.request_to(1, reqwest::Method::GET, &format!("/v1/plan/{id}"));
    let read = crate::harness::exchange(other_api).await.unwrap().expect(200);
    assert_eq!(read.body["response"], plan.body["response"]);
    hub.finish(Disturbance::None).await;
}
