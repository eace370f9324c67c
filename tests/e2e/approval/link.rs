//! The link that decides without a key: a page that decides nothing by being read, and works once.

use reqwest::Method;
use serde_json::json;

use super::{LONG_MS, begin, ended, ending, installation, read, refine, signal, waiting};
use crate::harness::{Answer, Disturbance, TestHub, exchange, http};
use tokenhub_demo::{Reply, Rule};

/// As a browser asks: without a key.
async fn browse(hub: &TestHub, method: Method, path: &str, form: Option<&str>) -> Answer {
    let mut request = http().request(method, format!("{}{path}", hub.apis[0].1));
    if let Some(form) = form {
        request = request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned());
    }
    exchange(request).await.unwrap()
}

async fn link_of(hub: &TestHub, id: &str) -> String {
    waiting(hub, 0, id).await.body["waiting"]["link"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_decides_once_and_reading_it_decides_nothing() {
    let hub = installation().start().await;
    hub.provider.script(Rule::any([Reply::text("<script>alert('x')</script>")]));
    let id = begin(&hub, &refine(LONG_MS, "fail")).await;
    let link = link_of(&hub, &id).await;
    assert!(link.starts_with(&format!("/v1/plan/{id}/approval?token=")), "{link}");
    for _ in 0..2 {
        let page = browse(&hub, Method::GET, &link, None).await.expect(200);
        assert!(page.header("content-type").starts_with("text/html"));
        assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
        assert_eq!((page.header("cache-control"), page.header("referrer-policy")), ("no-store", "no-referrer"));
        assert!(page.text.contains("&lt;script&gt;alert(") && !page.text.contains("<script"), "{}", page.text);
        assert_eq!(page.text.matches("<form method=\"post\">").count(), 2, "{}", page.text);
    }
    browse(&hub, Method::HEAD, &link, None).await.expect(200);
    assert!(read(&hub, 0, &id).await.body["waiting"].is_object(), "nobody has decided");
    let approve = Some("decision=approve");
    for wrong in [format!("{link}A"), format!("/v1/plan/{id}/approval?token="), format!("/v1/plan/{id}/approval")] {
        browse(&hub, Method::GET, &wrong, None).await.expect(404);
        browse(&hub, Method::POST, &wrong, approve).await.expect(404);
    }
    browse(&hub, Method::GET, &link.replace(&id, "plan_of_nobody"), None).await.expect(404);
    browse(&hub, Method::POST, &link, Some("decision=maybe")).await.expect(400);
    assert!(read(&hub, 0, &id).await.body["waiting"].is_object(), "nobody has decided");
    let done = browse(&hub, Method::POST, &link, approve).await.expect(200);
    assert!(done.text.contains("approved"), "{}", done.text);
    browse(&hub, Method::POST, &link, approve).await.expect(410);
    browse(&hub, Method::POST, &link, Some("decision=reject")).await.expect(410);
    browse(&hub, Method::GET, &link, None).await.expect(410);
    let plan = ended(&hub, 0, &id).await;
    assert_eq!(ending(&plan), ("completed", "max_rounds"), "{}", plan.text);
    let audit = &plan.body["approval"];
    assert_eq!((&audit["decided_by"], &audit["principal"]), (&json!("link"), &json!(null)), "{audit}");
    browse(&hub, Method::POST, &link, approve).await.expect(410);
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_rejects_too_and_is_worth_nothing_after_a_decision_by_key_or_the_end_of_the_time() {
    let hub = installation().temporal_off().start().await;
    let rejected = begin(&hub, &refine(LONG_MS, "approve")).await;
    let link = link_of(&hub, &rejected).await;
    browse(&hub, Method::POST, &link, Some("decision=reject")).await.expect(200);
    assert_eq!(ending(&ended(&hub, 0, &rejected).await), ("cancelled", "rejected"));

    let by_key = begin(&hub, &refine(LONG_MS, "fail")).await;
    let link = link_of(&hub, &by_key).await;
    signal(&hub, 0, &by_key, &json!({"type": "reject"})).await.expect(200);
    browse(&hub, Method::POST, &link, Some("decision=approve")).await.expect(410);
    assert_eq!(ending(&ended(&hub, 0, &by_key).await), ("cancelled", "rejected"));

    let late = begin(&hub, &refine(4_000, "fail")).await;
    let link = link_of(&hub, &late).await;
    assert_eq!(ending(&ended(&hub, 0, &late).await), ("failed", "approval_expired"));
    browse(&hub, Method::GET, &link, None).await.expect(410);
    browse(&hub, Method::POST, &link, Some("decision=approve")).await.expect(410);
    hub.finish(Disturbance::None).await;
}
