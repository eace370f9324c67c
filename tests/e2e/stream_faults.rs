//! Everything that can go wrong in a stream, for every client protocol at every upstream protocol: who answers in the end,
//! what the client is told last, and what the ledger has of each attempt.
//!
//! Two providers have each model. The first one fails as scripted, so that it shows whether the second one is asked.

mod table;

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::Value;
use tokenhub_demo::{Reply, Rule};
use tokenhub_domain::{Dialect, ErrorClass};
use tokenhub_store::LedgerState;

use crate::{
    dialogue::{self, beginnings, events, is_end, text_of, told_error},
    evidence::Evidence,
    harness::{Disturbance, TestHub, exchange},
};
use table::{Attempt, FAILING_TEXT, Fault, INPUT_TOKENS, Last, OUTPUT_TOKENS, Outcome, Row, SECOND, Text, first};

/// What the second provider says.
const GOOD_TEXT: &str = "all is well that ends well";
/// Long enough that a loaded machine does not miss it without reason.
const FIRST_TOKEN_MS: &str = "3000";
const IDLE_MS: &str = "2000";

/// What a client is told of the classes that a row may end in: in the protocols of OpenAI, and in Messages.
const ERROR_NAMES: [(ErrorClass, [&str; 2]); 2] = [
    (ErrorClass::StreamBroken, ["stream_broken", "api_error"]),
    (ErrorClass::Overloaded, ["server_is_overloaded", "overloaded_error"]),
];

fn name_of(class: ErrorClass, client: Dialect) -> &'static str {
    let (_, [openai, anthropic]) = ERROR_NAMES.into_iter().find(|(named, _)| *named == class).expect("a named class");
    match client {
        Dialect::Chat | Dialect::Responses => openai,
        Dialect::Messages => anthropic,
    }
}

/// Whether an event says why the model stopped.
fn says_why(client: Dialect, (_, payload): &(&str, Value)) -> bool {
    let place = match client {
        Dialect::Chat => "/choices/0/finish_reason",
        Dialect::Messages => "/delta/stop_reason",
        Dialect::Responses => "/response/incomplete_details/reason",
    };
    payload.pointer(place).is_some_and(|reason| !reason.is_null())
}

/// Every way in which the answer is not what the row says.
fn faults_of_answer(row: Row, outcome: &Outcome, body: &str) -> Vec<String> {
    let events = events(body);
    let (client, text) = (row.client, text_of(row.client, &events));
    let mut faults = Vec::new();
    if beginnings(client, &events) != 1 {
        faults.push("the answer does not begin once".to_owned());
    }
    let says_what_it_should = match outcome.text {
        Text::OfFirst => text == FAILING_TEXT,
        Text::OfSecond => text == GOOD_TEXT && !body.contains("alas"),
        Text::PieceOfCall => text.is_empty() && body.contains("look"),
        Text::PartOfFirst => !text.is_empty() && FAILING_TEXT.starts_with(&text),
    };
    if !says_what_it_should {
        faults.push(format!("the text is {text:?}"));
    }
    let ends = events.iter().filter(|event| is_end(client, event)).count();
    let errors = events.iter().filter(|event| told_error(client, event).is_some()).count();
    let last = events.last().expect("an event");
    let is_as_told = match outcome.last {
        Last::End => is_end(client, last) && ends == 1 && errors == 0,
        Last::Error(class) => told_error(client, last) == Some(name_of(class, client)) && ends == 0 && errors == 1,
    };
    if !is_as_told {
        faults.push(format!("{ends} ends, {errors} errors and last {last:?}"));
    }
    // Messages tells its reason before its end.
    let tells_reason = row.fault == Fault::NoLastEvent && row.upstream == Dialect::Messages;
    if matches!(outcome.last, Last::Error(_)) && !tells_reason && events.iter().any(|event| says_why(client, event)) {
        faults.push("a reason is made up".to_owned());
    }
    let closes = |(name, _): &(&str, Value)| ["content_block_stop", "response.output_item.done"].contains(name);
    if outcome.text == Text::PieceOfCall && events.iter().any(closes) {
        faults.push("half a tool call is said to be complete".to_owned());
    }
    if row.client == Dialect::Responses {
        let numbers: Vec<u64> = events.iter().filter_map(|(_, it)| it["sequence_number"].as_u64()).collect();
        if !numbers.windows(2).all(|pair| pair[0] < pair[1]) || numbers.len() != events.len() {
            faults.push(format!("the sequence numbers are {numbers:?}"));
        }
    }
    faults
}

async fn installation() -> TestHub {
    let mut upstreams = vec![dialogue::upstream(SECOND, Dialect::Chat, "sk-second")];
    for dialect in Dialect::ALL {
        upstreams.push(dialogue::upstream(&first(dialect), dialect, "sk-first"));
    }
    let at = |provider: &str, row: Row, weight: u32| dialogue::model_at(provider, &row.model(), weight);
    let rows = Row::all();
    let models = rows.iter().flat_map(|row| [at(&first(row.upstream), *row, 9), at(SECOND, *row, 1)]).collect();
    let hub = TestHub::builder()
        .temporal_off()
        .upstreams(upstreams)
        .models(models)
        .environment("TOKENHUB_FIRST_TOKEN_TIMEOUT_MS", FIRST_TOKEN_MS)
        .environment("TOKENHUB_IDLE_TIMEOUT_MS", IDLE_MS)
        .start()
        .await;
    for row in rows {
        hub.provider.script(Rule::model(row.model(), [row.fault.reply()]).credential("sk-first"));
        let good = Reply::text(GOOD_TEXT).usage(INPUT_TOKENS, OUTPUT_TOKENS);
        hub.provider.script(Rule::model(row.model(), [good]).credential("sk-second"));
    }
    hub
}

/// The attempts for each model, in order, once all of them have ended.
async fn attempts(hub: &TestHub) -> BTreeMap<String, Vec<Attempt>> {
    let mut attempts: BTreeMap<String, Vec<Attempt>> = BTreeMap::new();
    for row in Evidence::of(hub).await.ended(hub.provider.calls().len()).await {
        attempts.entry(row.model.to_string()).or_default().push(Attempt::of(&row));
    }
    attempts
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_stream_is_failed_over_or_told_and_billed_as_the_table_says() {
    let hub = installation().await;
    let asked = Row::all().into_iter().map(async |row| {
        let (path, body) = dialogue::request(row.client, &row.model());
        let answer = exchange(hub.request(Method::POST, path).json(&body)).await.unwrap();
        (row, answer)
    });
    let answers = join_all(asked).await;
    let attempts = attempts(&hub).await;
    let mut wrong = Vec::new();
    for (row, answer) in answers {
        let outcome = row.fault.outcome(row.client, row.upstream);
        if answer.status.as_u16() == 200 {
            let faults = faults_of_answer(row, &outcome, &answer.text);
            wrong.extend(faults.into_iter().map(|fault| format!("{row:?}: {fault}")));
        } else {
            wrong.push(format!("{row:?}: {} {}", answer.status, answer.text));
        }
        let made = attempts.get(&row.model()).map_or(&[][..], Vec::as_slice);
        if made != outcome.attempts {
            wrong.push(format!("{row:?}: attempts\n    {made:?} instead of\n    {:?}", outcome.attempts));
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_8_a_mistake_of_the_client_is_told_in_its_protocol_and_nobody_else_is_asked() {
    let hub = installation().await;
    // Words that mean something elsewhere.
    let refusal = Reply::failure(400, "max tokens must be >= 1, see billing and rate limit");
    hub.provider.script(Rule::any([refusal]).credential("sk-first"));
    for row in Row::all().into_iter().filter(|row| row.fault == Fault::NoUsage) {
        let (path, body) = dialogue::request(row.client, &row.model());
        let before = hub.provider.calls().len();
        let refused = exchange(hub.request(Method::POST, path).json(&body)).await.unwrap().expect(400);
        assert_eq!(refused.body["error"]["type"], "invalid_request_error", "{row:?}");
        assert!(refused.text.contains("max tokens must be >= 1"), "{}", refused.text);
        assert_eq!(hub.provider.calls().len(), before + 1, "{row:?}");
    }
    let ledger = Evidence::of(&hub).await.ended(hub.provider.calls().len()).await;
    assert!(ledger.iter().all(|row| row.state == LedgerState::Void && row.error_class == Some(ErrorClass::BadRequest)));
    hub.finish(Disturbance::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_11_what_breaks_behind_the_first_content_is_told_within_a_second_and_nobody_else_is_asked() {
    let hub = installation().await;
    for row in Row::all().into_iter().filter(|row| row.fault == Fault::CutInTheMiddle) {
        let (path, body) = dialogue::request(row.client, &row.model());
        let before = hub.provider.calls().len();
        let answer = exchange(hub.request(Method::POST, path).json(&body)).await.unwrap().expect(200);
        assert!(answer.took < Duration::from_secs(1), "{row:?}: {:?}", answer.took);
        assert_eq!(hub.provider.calls().len(), before + 1, "{row:?}");
    }
    hub.finish(Disturbance::None).await;
}
