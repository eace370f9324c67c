//! The faults of TokenHub (Go) in routing and lifecycle, B-18 to B-35: what it does, what we do instead, and the proof.
//!
//! One row for each fault and a test of the same name that shows our behaviour from outside. Where another module tests a
//! whole subject, the row here shows only the point in which the two differ.

mod answers;
mod evidence;
mod lifecycle;

mod limits;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, TestHub, TestHubBuilder, exchange, http};

const ADMIN_TOKEN: &str = "tokenhub_of_an_administrator";
const CHAT: &str = "/v1/chat/completions";

/// One fault.
struct Fault {
    /// Its number.
    id: &'static str,
    /// What TokenHub (Go) does.
    theirs: &'static str,
    /// What we do.
    ours: &'static str,
}

/// Rows of the table, each with its test.
macro_rules! faults {
    ($($id:ident: $theirs:literal => $ours:literal, $check:path;)+) => {
        /// The table.
        const FAULTS: &[Fault] = &[$(Fault { id: stringify!($id), theirs: $theirs, ours: $ours }),+];

        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $id() {
                $check().await;
            }
        )+
    };
}

faults! {
    b_18: "a model of an unknown provider is registered in memory and refused by the database, and the answer is ok"
        => "refused with its field; it exists nowhere", lifecycle::a_model_needs_its_provider;
    b_19: "a deleted provider's key stays in the vault"
        => "the key goes with its provider", lifecycle::a_key_goes_with_its_provider;
    b_20: "providers that come after the start are never probed"
        => "a provider is looked at as soon as it is there", lifecycle::a_late_provider_is_looked_at;
    b_21: "an unknown, disabled or too expensive model is silently replaced, 200"
        => "404 or a refusal that names the reason; nobody is called", limits::a_named_model_is_never_replaced;
    b_22: "the last resort ignores budget, weight and window"
        => "no limit gives way, also when everybody within it fails", limits::no_limit_gives_way_to_a_failure;
    b_23: "a hidden cap of 0.05 dollars on each request"
        => "no cap unless one is set", limits::nothing_is_capped_unless_somebody_says_so;
    b_24: "an answer that takes over 30 s is cut, called transient and bought twice more"
        => "one call, and its answer", answers::a_long_answer_is_waited_for_and_bought_once;
    b_25: "five clients that go away take a provider down"
        => "a client that goes away says nothing about the provider", evidence::clients_that_go_away_hurt_nobody;
    b_26: "Retry-After is read and ignored, and a 429 cools nobody"
        => "the time is waited, kept to by later requests, and passed on", evidence::retry_after_is_kept_to;
    b_27: "streams count as 0 ms, probes as traffic, errors for ever, and degraded means nothing"
        => "time to the first token, traffic only, fading failures, degraded ranks behind",
        evidence::latency_is_that_of_traffic_and_degraded_counts;
    b_28: "a failure is logged without its model, and sampling never learns from it"
        => "the failed deployment is in the ledger and in its posterior", evidence::a_failure_is_its_deployments;
    b_29: "hedged calls leave no trace in health, and what the losers cost is not counted"
        => "a failure counts whoever wins, and every loser is settled", evidence::losers_are_settled_and_failures_count;
    b_30: "streams have no usage and no cost, and an error event in a 200 is a success"
        => "usage is asked for and billed, and the error event fails over", answers::a_stream_is_billed_and_judged;
    b_31: "tools go untranslated to Anthropic, results lose their ids, unknown fields vanish"
        => "tools are converted with their ids, and what is not known goes through", answers::tools_and_unknown_fields_survive;
    b_32: "number, enum, items and nested schemas are not checked, and nothing is repaired"
        => "every rule is checked, and one repair is asked for", answers::a_schema_means_what_it_says;
    b_33: "the judge sees the models' names, and critiques cost nothing"
        => "answers without names, and every call is in the sum", answers::a_judge_sees_answers_and_the_bill_sees_the_critic;
    b_34: "calls of a named model leave no trace in health"
        => "they count as any other", evidence::a_named_models_failures_count;
    b_35: "ordinary requests never explore, and sampling is explored on top"
        => "every way explores by the set temperature, and what was drawn stays first", evidence::exploration_is_everywhere_and_once;
}

#[test]
fn every_fault_has_one_row_that_says_both_sides() {
    let numbers: Vec<u32> = FAULTS.iter().map(|fault| fault.id[2..].parse().unwrap()).collect();
    assert_eq!(numbers, (18..=35).collect::<Vec<u32>>());
    assert!(FAULTS.iter().all(|fault| !fault.theirs.is_empty() && fault.theirs != fault.ours));
}

/// In process only: what is tested here does not depend on who carries a request, as other modules show.
fn installation() -> TestHubBuilder {
    TestHub::builder().temporal_off().environment("TOKENHUB_ADMIN_TOKEN", ADMIN_TOKEN)
}

fn body(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "a question"}]})
}

/// `body` with the fields of `more`.
fn with(mut body: Value, more: &Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn chat(hub: &TestHub, body: &Value) -> Answer {
    hub.post_with(CHAT, &[("x-tokenhub-durability", "none")], body).await
}

async fn admin(hub: &TestHub, method: Method, path: &str, body: &Value) -> Answer {
    let url = format!("{}/admin/v1/{path}", hub.apis[0].1);
    let request = http().request(method, url).bearer_auth(ADMIN_TOKEN);
    exchange(if body.is_null() { request } else { request.json(body) }).await.unwrap()
}

/// What is known of the only model of that name.
async fn health_of(hub: &TestHub, id: &str) -> Value {
    let health = admin(hub, Method::GET, "health", &Value::Null).await.expect(200).body;
    let models = health["providers"].as_array().unwrap().iter().flat_map(|one| one["models"].as_array().unwrap());
    models.into_iter().find(|one| one["model_id"] == id).cloned().unwrap_or_else(|| panic!("no {id} in {health:#}"))
}
