//! Calls of one step at the same time, and providers that give no pieces: nothing mixes, and nothing fails.

use serde_json::json;
use tokenhub_demo::{Finished, Reply, Rule};

use super::{GAP_MS, assert_in_place, facts, is_delta, plan, single, text_of, texts, told, words};
use crate::{
    harness::{Disturbance, TestHub, eventually, model},
    plan_events::reading::{assert_numbered, names},
    scripted::{installation, installation_in_background},
};

#[tokio::test(flavor = "multi_thread")]
async fn deployments_that_answer_at_the_same_time_are_calls_of_their_own() {
    let at = |provider: &str, weight: u32| {
        let mut entry = model("m", weight);
        entry["provider_id"] = json!(provider);
        entry
    };
    let provider = |id: &str| json!({"id": id, "api_key": format!("key of {id}")});
    let hub = TestHub::builder()
        .upstreams(vec![provider("first"), provider("second")])
        .models(vec![at("first", 9), at("second", 1)])
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
        .environment("TOKENHUB_LIVE_SIGNALS", "false")
        .start()
        .await;
    for (provider, gap_ms) in [("first", 500), ("second", 50)] {
        let reply = Reply::text(words(provider)).gap_ms(gap_ms);
        hub.provider.script(Rule::any([reply]).credential(format!("key of {provider}")));
    }
    let seen = told(&hub, &plan(&json!({"type": "hedge", "model": "m", "after_ms": 700}))).await;
    assert_numbered(&facts(&seen));
    let completed = seen.iter().find(|event| event.name == "step.completed").unwrap();
    assert_eq!((&completed.data["attempt"], &completed.data["provider"]), (&json!(2), &json!("second")));
    assert_eq!(text_of(&seen, "answer", 2), words("second"));
    let lost = text_of(&seen, "answer", 1);
    assert!(!lost.is_empty() && words("first").starts_with(&lost), "{lost}");
    assert!(!seen.iter().any(|event| event.name == "step.restarted"), "nobody took another's place");
    let plan = &seen.last().unwrap().data["plan"];
    assert_eq!(plan["response"]["choices"][0]["message"]["content"], words("second"), "{plan}");
    eventually("the loser is aborted", super::PATIENCE, || async {
        hub.provider.calls().iter().any(|call| call.finished == Finished::Aborted).then_some(())
    })
    .await;
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_deployment_takes_the_place_of_one_that_failed_while_it_wrote() {
    let hub = installation().environment("TOKENHUB_PENALTIES", "false").temporal_off().start().await;
    let failing =
        Reply::text(words("alas")).gap_ms(GAP_MS).after_tokens(10, tokenhub_demo::Noise::error("server_error", "x"));
    hub.provider.script(Rule::model("alpha", [failing]));
    hub.provider.script(Rule::model("beta", [Reply::text(words("well")).gap_ms(GAP_MS)]));
    let body = plan(&json!({"type": "single"}));
    let seen = told(&hub, &body).await;
    assert_in_place(&seen);
    let calls = hub.provider.calls();
    let tries = calls.len() as u64;
    assert_eq!(calls.last().unwrap().model, "beta");
    assert!(tries > 1, "{:?}", names(&seen));
    for attempt in 1..tries {
        let shown = text_of(&seen, "answer", attempt);
        assert!(!shown.is_empty() && words("alas").starts_with(&shown), "{attempt}: {shown}");
    }
    assert_eq!(text_of(&seen, "answer", tries), words("well"));
    assert_eq!(seen.iter().filter(|event| event.name == "step.restarted").count() as u64, tries - 1);
    let answer = &seen.last().unwrap().data["plan"]["response"]["choices"][0]["message"]["content"];
    assert_eq!(*answer, words("well"));
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_works_in_the_background_and_one_that_does_not_stream_give_whole_answers() {
    let mut whole = model("whole", 5);
    whole["capabilities"] = json!({"streaming": false});
    let hub = installation().temporal_off().models(vec![whole]).start().await;
    hub.provider.script(Rule::any([Reply::text(words("word"))]));
    let in_background = installation_in_background().temporal_off().start().await;
    in_background.provider.script(Rule::any([Reply::text(words("word"))]));
    for (hub, model) in [(&hub, "whole"), (&in_background, "alpha")] {
        let seen = told(hub, &single(model)).await;
        assert_numbered(&facts(&seen));
        assert!(texts(&seen).is_empty() && !seen.iter().any(is_delta));
        let completed = seen.iter().find(|event| event.name == "step.completed").unwrap();
        assert_eq!((&completed.data["attempt"], completed.data.get("deltas")), (&json!(1), None));
        assert!(hub.provider.calls().iter().all(|call| call.body["stream"] != true));
        let answer = &seen.last().unwrap().data["plan"]["response"]["choices"][0]["message"]["content"];
        assert_eq!(*answer, words("word"), "{model}");
    }
    hub.finish(Disturbance::None).await;
    in_background.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_is_shown_as_the_step_that_it_is() {
    let hub = installation().temporal_off().start().await;
    let good = r#"{"colour": "blue"}"#;
    hub.provider.script(Rule::model("alpha", [Reply::text("it is blue"), Reply::text(good)]));
    let mut body = single("alpha");
    body["request"]["output_schema"] = json!({"type": "object", "required": ["colour"]});
    let seen = told(&hub, &body).await;
    assert_in_place(&seen);
    assert_eq!(
        (text_of(&seen, "answer", 1), text_of(&seen, "answer/repair", 1)),
        ("it is blue".to_owned(), good.to_owned())
    );
    assert_eq!(seen.last().unwrap().data["plan"]["status"], "completed");
    hub.finish(Disturbance::None).await;
}
