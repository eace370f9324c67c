//! What the steps of a plan write is shown while they write it, piece by piece: what is shown is what comes out, it never
//! mixes with what another call of the step has written, and it costs and changes nothing.

mod again;
mod apart;
mod broken_off;
mod killed;
mod without;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use tokenhub_demo::{Reply, Rule};
use tokenhub_domain::{Dialect, ErrorClass, RunId, STEP_DELTA, SendOutcome, TenantId};
use tokenhub_store::{LedgerState, Store};

use crate::{
    databases, dialogue,
    evidence::Evidence,
    harness::{Disturbance, Operator, TestHub, TestHubBuilder},
    plan_events::reading::{EventStream, Told, assert_numbered, names},
    scripted::installation,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// What calls of the voters and of the judge report.
const VOTER_TOKENS: (u64, u64) = (101, 40);
const JUDGE_TOKENS: (u64, u64) = (307, 5);
/// Between two words.
const GAP_MS: u64 = 10;
const WORDS: usize = 40;

/// A text of many words, each of which holds `mark`.
fn words(mark: &str) -> String {
    (0..WORDS).flat_map(|number| [mark.to_owned(), number.to_string(), " ".to_owned()]).collect()
}

fn plan(strategy: &Value) -> Value {
    json!({"request": {"messages": [{"role": "user", "content": "which colour?"}]}, "strategy": strategy,
        "deltas": true, "stream": true})
}

fn single(model: &str) -> Value {
    plan(&json!({"type": "single", "model": model}))
}

async fn open(hub: &TestHub, body: &Value) -> EventStream {
    EventStream::open(hub.request(Method::POST, "/v1/plan").json(body)).await
}

async fn told(hub: &TestHub, body: &Value) -> Vec<Told> {
    open(hub, body).await.rest().await
}

fn is_delta(event: &Told) -> bool {
    event.name == STEP_DELTA
}

/// What is numbered: all but the deltas.
fn facts(seen: &[Told]) -> Vec<Told> {
    seen.iter().filter(|event| !is_delta(event)).cloned().collect()
}

fn plan_id(seen: &[Told]) -> &str {
    seen.iter().find_map(|event| event.data["plan_id"].as_str()).expect("the id of the plan")
}

/// The calls whose text was shown, and their texts. Asserts that no piece is missing or there twice.
#[track_caller]
fn texts(seen: &[Told]) -> BTreeMap<(String, u64), String> {
    let mut texts: BTreeMap<(String, u64), (u64, String)> = BTreeMap::new();
    for event in seen.iter().filter(|event| is_delta(event)) {
        assert_eq!(event.data.as_object().unwrap().len(), 4, "{event:?}");
        let call = (event.data["step"].as_str().unwrap().to_owned(), event.data["attempt"].as_u64().unwrap());
        let (next, text) = texts.entry(call).or_default();
        assert_eq!(event.data["seq"], *next, "{event:?}");
        *next += 1;
        text.push_str(event.data["text"].as_str().unwrap());
    }
    texts.into_iter().map(|(call, (_, text))| (call, text)).collect()
}

/// The text of one call; empty where none was shown.
#[track_caller]
fn text_of(seen: &[Told], step: &str, attempt: u64) -> String {
    texts(seen).remove(&(step.to_owned(), attempt)).unwrap_or_default()
}

/// Asserts that what a call writes is shown between its beginning and its end.
#[track_caller]
fn assert_in_place(seen: &[Told]) {
    for (place, delta) in seen.iter().enumerate().filter(|(_, event)| is_delta(event)) {
        let is_of_call = |event: &&Told| {
            !is_delta(event) && ["step", "attempt"].iter().all(|field| event.data.get(field) == delta.data.get(field))
        };
        let (before, behind) = (seen[..place].iter().filter(is_of_call), seen[place..].iter().filter(is_of_call));
        let is_end = |event: &Told| ["step.completed", "step.failed"].contains(&event.name.as_str());
        assert!(before.clone().count() > 0 && !before.clone().any(is_end), "{delta:?} in {:?}", names(seen));
        assert!(behind.clone().all(is_end), "{delta:?} in {:?}", names(seen));
    }
}

async fn store_of(hub: &TestHub) -> Store {
    let in_data_dir = format!("sqlite://{}?mode=rw", hub.dir().join("data/tokenhub.db").display());
    Store::open(hub.environment().get("DATABASE_URL").unwrap_or(&in_data_dir)).await.unwrap()
}

/// Asserts that the text of every step that has answered is what was shown of the call that answered, all of it.
async fn assert_all_is_shown(hub: &TestHub, seen: &[Told]) {
    let store = store_of(hub).await;
    let rows = store.journal().of_run(&TenantId::default_tenant(), &RunId::from(plan_id(seen))).await.unwrap();
    let mut steps = BTreeSet::new();
    for entry in rows.into_iter().filter_map(|row| Some((row.step, row.entry?))) {
        let (step, entry) = entry;
        let SendOutcome::Answered(reply) = serde_json::from_str(&entry.outcome_json).unwrap() else { continue };
        let content = store.contents().load(&TenantId::default_tenant(), &reply.content).await.unwrap();
        let completed = seen
            .iter()
            .find(|event| event.name == "step.completed" && event.data["attempt_id"] == json!(reply.attempt));
        let completed = &completed.expect("its end").data;
        let text = match serde_json::from_str::<Value>(&content) {
            Ok(body) if body["choices"].is_array() => {
                body["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
            }
            Ok(_) | Err(_) => content,
        };
        let attempt = completed["attempt"].as_u64().unwrap();
        assert_eq!(text_of(seen, step.as_str(), attempt), text, "{step}");
        let deltas = seen
            .iter()
            .filter(|event| is_delta(event) && event.data["step"] == json!(step) && event.data["attempt"] == attempt);
        assert_eq!(completed["deltas"], deltas.count(), "{completed}");
        steps.insert(step.to_string());
    }
    let completed = seen.iter().filter(|event| event.name == "step.completed");
    assert_eq!(steps, completed.map(|event| event.data["step"].as_str().unwrap().to_owned()).collect());
}

/// Three voters and a judge who write slowly.
fn script_vote(hub: &TestHub) -> Value {
    for (model, mark) in [("alpha", "red"), ("beta", "blue"), ("gamma", "green")] {
        let reply = Reply::text(words(mark)).gap_ms(GAP_MS).usage(VOTER_TOKENS.0, VOTER_TOKENS.1);
        hub.provider.script(Rule::model(model, [reply]));
    }
    let verdict = Reply::judge_by("blue7 ").usage(JUDGE_TOKENS.0, JUDGE_TOKENS.1);
    hub.provider.script(Rule::model("delta", [verdict]));
    plan(&json!({"type": "vote", "voters": 3, "judge_model": "delta"}))
}

async fn a_vote_is_shown(builder: TestHubBuilder, durable: bool) {
    let hub = builder.start().await;
    let seen = told(&hub, &script_vote(&hub)).await;
    assert_numbered(&facts(&seen));
    assert_in_place(&seen);
    assert_all_is_shown(&hub, &seen).await;
    for (ballot, mark) in [(1, "red"), (2, "blue"), (3, "green")] {
        assert_eq!(text_of(&seen, &format!("ballot/{ballot}"), 1), words(mark));
    }
    assert!(text_of(&seen, "judge", 1).contains("winner"), "{:?}", texts(&seen));
    let pieces = seen.iter().filter(|event| is_delta(event) && event.data["step"] == "ballot/1").count();
    assert!((3..=WORDS).contains(&pieces), "{pieces} pieces of a text that took {} ms", WORDS as u64 * GAP_MS);
    let plan = &seen.last().unwrap().data["plan"];
    assert_eq!((&plan["status"], &plan["durable"]), (&json!("completed"), &json!(durable)), "{plan}");
    assert_eq!(plan["response"]["responses"][1]["content"], words("blue"));

    let calls = hub.provider.calls();
    assert_eq!(calls.len(), 4);
    for call in calls {
        let asked = (&call.body["stream"], &call.body["stream_options"]["include_usage"]);
        assert_eq!(asked, (&json!(true), &json!(true)));
    }
    let rows = Evidence::of(&hub).await.ended(4).await;
    for row in rows {
        let expected = if row.step.as_str() == "judge" { JUDGE_TOKENS } else { VOTER_TOKENS };
        assert_eq!((row.state, row.input_tokens, row.output_tokens), (LedgerState::Settled, expected.0, expected.1));
        assert_eq!(row.finish_reason.as_deref(), Some("stop"));
    }
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_shows_every_ballot_and_the_verdict_while_they_are_written() {
    a_vote_is_shown(installation(), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_process_a_vote_shows_the_same() {
    a_vote_is_shown(installation().temporal_off(), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgresql_a_vote_shows_the_same() {
    let Some(database) = databases::postgres().await else { return };
    a_vote_is_shown(installation().environment("DATABASE_URL", &database.url), true).await;
}

/// S23.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_is_told_as_restarted_and_the_answer_is_what_the_last_call_wrote() {
    let hub = installation().environment("TOKENHUB_PENALTIES", "false").start().await;
    let cut = Reply::text(words("alas")).gap_ms(GAP_MS).cut_after_tokens(20);
    hub.provider.script(Rule::model("alpha", [cut, Reply::text(words("well")).gap_ms(GAP_MS)]));
    let stream = open(&hub, &single("alpha")).await;
    let workflow = stream.header("x-tokenhub-workflow-id").to_owned();
    let seen = stream.rest().await;
    assert_numbered(&facts(&seen));
    assert_in_place(&seen);
    assert_all_is_shown(&hub, &seen).await;
    let steps: Vec<(&str, &Value)> = seen
        .iter()
        .filter(|event| event.name.starts_with("step.") && !is_delta(event))
        .map(|event| (event.name.as_str(), &event.data["attempt"]))
        .collect();
    let (first, second) = (json!(1), json!(2));
    let expected = [
        ("step.started", &first),
        ("step.failed", &first),
        ("step.started", &second),
        ("step.restarted", &second),
        ("step.completed", &second),
    ];
    assert_eq!(steps, expected);
    let failed = seen.iter().find(|event| event.name == "step.failed").unwrap();
    assert_eq!(failed.data["error_class"], ErrorClass::StreamBroken.as_str());
    let lost = text_of(&seen, "answer", 1);
    assert!(!lost.is_empty() && words("alas").starts_with(&lost), "{lost}");
    let plan = &seen.last().unwrap().data["plan"];
    assert_eq!(plan["response"]["choices"][0]["message"]["content"], words("well"), "{plan}");
    assert_eq!((&plan["steps"][0]["attempts"], &plan["usage"]["duplicate_calls"]), (&json!(2), &json!(0)));
    assert_eq!(hub.provider.count(), 2);
    nothing_of_it_is_in_the_history(&hub, &workflow).await;
    hub.finish(Disturbance::None).await;
}

/// What was thrown away never came near Temporal, and a plan whose answers are shown has the history of any other.
async fn nothing_of_it_is_in_the_history(hub: &TestHub, workflow: &str) {
    let operator = Operator::connect(&hub.temporal).await;
    let bytes: Vec<u8> = operator.history(workflow).await.iter().flat_map(prost::Message::encode_to_vec).collect();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("well7 "), "the answer is there, so the search finds what there is");
    assert!(!holds("alas"), "a piece of a call that broke off is in the history");

    hub.provider.script(Rule::model("beta", [Reply::text(words("well")).gap_ms(GAP_MS)]));
    let mut counts = Vec::new();
    for deltas in [true, false] {
        let mut body = single("beta");
        body["deltas"] = deltas.into();
        let stream = open(hub, &body).await;
        let workflow = stream.header("x-tokenhub-workflow-id").to_owned();
        assert_eq!(stream.rest().await.iter().any(is_delta), deltas);
        operator.ended(&workflow, PATIENCE).await;
        let kinds = operator.history(&workflow).await.iter().map(|event| event.event_type).collect::<Vec<_>>();
        counts.push(kinds);
    }
    assert_eq!(counts[0], counts[1]);
}

/// The fields that say something.
fn told_fields(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let told = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(told.map(|(name, value)| (name.clone(), told_fields(value))).collect())
        }
        Value::Array(items) => items.iter().map(told_fields).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// An answer with all that a protocol tells of tokens.
fn detailed() -> Reply {
    let details = tokenhub_demo::TokenDetails { cached_tokens: 40, cache_write_tokens: 10, ..Default::default() };
    Reply::text(words("colour")).gap_ms(GAP_MS).usage(150, 60).token_details(details)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_protocol_a_provider_speaks_its_words_are_shown_and_the_bill_and_the_answer_are_those_of_a_whole_one()
{
    let id = |dialect: Dialect| format!("speaks-{}", dialect.as_str());
    let upstreams = Dialect::ALL.map(|dialect| dialogue::upstream(&id(dialect), dialect, "sk-some"));
    let models = Dialect::ALL.map(|dialect| dialogue::model_at(&id(dialect), &id(dialect), 5));
    let hub = TestHub::builder().temporal_off().upstreams(upstreams.to_vec()).models(models.to_vec()).start().await;
    hub.provider.script(Rule::any([detailed()]));
    for dialect in Dialect::ALL {
        let mut plans = Vec::new();
        for deltas in [true, false] {
            let mut body = single(&id(dialect));
            body["deltas"] = deltas.into();
            let seen = told(&hub, &body).await;
            assert_in_place(&seen);
            assert_eq!(
                text_of(&seen, "answer", 1),
                if deltas { words("colour") } else { String::new() },
                "{dialect:?}"
            );
            let mut plan = seen.last().unwrap().data["plan"].clone();
            assert_eq!(plan["response"]["choices"][0]["message"]["content"], words("colour"), "{dialect:?}");
            // What is new in every answer, and what the scripted provider has in whole ones only.
            for field in ["id", "created", "system_fingerprint"] {
                plan["response"].as_object_mut().unwrap().remove(field);
            }
            plans.push((told_fields(&plan["response"]), plan["usage"].clone()));
        }
        assert_eq!(plans[0].1, plans[1].1, "{dialect:?}");
        assert_eq!(plans[0].0, plans[1].0, "{dialect:?}");
    }
    let rows = Evidence::of(&hub).await.ended(6).await;
    for dialect in Dialect::ALL {
        let of: Vec<_> = rows.iter().filter(|row| row.provider.as_str() == id(dialect)).collect();
        let counted = |place: usize| {
            (of[place].usage_json.as_deref().map(|json| serde_json::from_str::<Value>(json).unwrap()), of[place].cost)
        };
        assert_eq!(of.len(), 2);
        assert_eq!(counted(0).1, counted(1).1, "{dialect:?}");
        assert_eq!((of[0].input_tokens, of[0].output_tokens), (of[1].input_tokens, of[1].output_tokens));
        assert_eq!(of[0].finish_reason, of[1].finish_reason, "{dialect:?}");
        assert!(counted(0).0.is_some(), "{dialect:?}");
    }
    hub.finish(Disturbance::None).await;
}
