//! Everything that can go wrong in a stream, for every client protocol at every upstream protocol: who answers in the end,
//! what the client is told last, and what the ledger has of each attempt.
//!
//! Two providers have each model. The first one fails as scripted, so that it shows whether the second one is asked.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use reqwest::Method;
use tokenhub_demo::{Noise, Omission, Reply, Rule};
use tokenhub_domain::{Dialect, ErrorClass};
use tokenhub_store::{LedgerRow, LedgerState};

use crate::{
    dialogue::{self, beginnings, events, is_end, text_of, told_error},
    evidence::Evidence,
    harness::{Disturbance, TestHub, exchange},
};

const FIRST: &str = "first";
const SECOND: &str = "second";
/// What the first provider says before it fails, and what the second one says.
const FAILING_TEXT: &str = "alas this answer does not end well";
const GOOD_TEXT: &str = "all is well that ends well";
/// Long enough that a loaded machine does not miss it without reason.
const FIRST_TOKEN_MS: &str = "3000";
const IDLE_MS: &str = "2000";
const INPUT_TOKENS: u64 = 11;
const OUTPUT_TOKENS: u64 = 7;

/// What the first provider does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    CutBeforeFirstToken,
    CutInTheMiddle,
    SilenceBeforeFirstToken,
    SilenceInTheMiddle,
    NothingButKeepAlives,
    EmptyStream,
    RubbishBeforeFirstToken,
    RubbishInTheMiddle,
    ErrorFirst,
    ErrorBehindAPing,
    ErrorInTheMiddle,
    ErrorInPlaceOfAStream,
    NoUsage,
    NoFinish,
    NoLastEvent,
}

impl Fault {
    const ALL: [Self; 15] = [
        Self::CutBeforeFirstToken,
        Self::CutInTheMiddle,
        Self::SilenceBeforeFirstToken,
        Self::SilenceInTheMiddle,
        Self::NothingButKeepAlives,
        Self::EmptyStream,
        Self::RubbishBeforeFirstToken,
        Self::RubbishInTheMiddle,
        Self::ErrorFirst,
        Self::ErrorBehindAPing,
        Self::ErrorInTheMiddle,
        Self::ErrorInPlaceOfAStream,
        Self::NoUsage,
        Self::NoFinish,
        Self::NoLastEvent,
    ];

    fn reply(self) -> Reply {
        let said = Reply::text(FAILING_TEXT).usage(INPUT_TOKENS, OUTPUT_TOKENS);
        let error = || Noise::error("overloaded_error", "too much to do");
        match self {
            Self::CutBeforeFirstToken => said.cut_after_tokens(0),
            Self::CutInTheMiddle => said.cut_after_tokens(2),
            Self::SilenceBeforeFirstToken => said.stall_after_tokens(0),
            Self::SilenceInTheMiddle => said.stall_after_tokens(2),
            Self::NothingButKeepAlives => said.keep_alive_after_tokens(0).gap_ms(50),
            Self::EmptyStream => Reply::empty_stream(),
            Self::RubbishBeforeFirstToken => said.after_tokens(0, Noise::Malformed),
            Self::RubbishInTheMiddle => said.after_tokens(2, Noise::Malformed),
            Self::ErrorFirst => said.first(error()),
            Self::ErrorBehindAPing => said
                .first(Noise::KeepAlive)
                .first(Noise::Comment("busy".to_owned()))
                .after_tokens(0, Noise::KeepAlive)
                .after_tokens(0, error()),
            Self::ErrorInTheMiddle => said.after_tokens(2, error()),
            Self::ErrorInPlaceOfAStream => Reply::error(200, "api_error", "something went wrong"),
            Self::NoUsage => said.without(Omission::Usage),
            Self::NoFinish => said.without(Omission::Finish),
            Self::NoLastEvent => said.without(Omission::Terminal),
        }
    }

    /// What is to come of it for such a client at such an upstream.
    fn outcome(self, client: Dialect, upstream: Dialect) -> Outcome {
        use ErrorClass::{FirstTokenTimeout, Overloaded, ServerError, StreamBroken};
        match self {
            Self::CutBeforeFirstToken | Self::RubbishBeforeFirstToken | Self::EmptyStream => {
                Outcome::failover(StreamBroken, 2)
            }
            Self::SilenceBeforeFirstToken | Self::NothingButKeepAlives => Outcome::failover(FirstTokenTimeout, 1),
            Self::ErrorFirst | Self::ErrorBehindAPing => Outcome::failover(Overloaded, 3),
            Self::ErrorInPlaceOfAStream => Outcome::failover(ServerError, 3),
            Self::CutInTheMiddle | Self::SilenceInTheMiddle | Self::RubbishInTheMiddle => {
                Outcome::broken(StreamBroken, early_tokens(upstream))
            }
            Self::ErrorInTheMiddle => Outcome::broken(Overloaded, early_tokens(upstream)),
            Self::NoUsage => Outcome::whole(upstream, (0, 0)),
            Self::NoFinish => match upstream {
                // Its last event and its reason are one.
                Dialect::Responses => Outcome::broken(StreamBroken, (0, 0)),
                // The client reads the provider's own words, with nothing added to them.
                Dialect::Chat | Dialect::Messages if client == upstream => {
                    Outcome::whole_without_reason(all_but_the_reasons_event(upstream))
                }
                Dialect::Chat | Dialect::Messages => Outcome::broken(StreamBroken, all_but_the_reasons_event(upstream)),
            },
            Self::NoLastEvent => match upstream {
                // The finish reason says that nothing is missing; some servers leave out the mark.
                Dialect::Chat => Outcome::whole(upstream, (INPUT_TOKENS, OUTPUT_TOKENS)),
                Dialect::Messages => Outcome::broken(StreamBroken, (INPUT_TOKENS, OUTPUT_TOKENS)),
                Dialect::Responses => Outcome::broken(StreamBroken, (0, 0)),
            },
        }
    }
}

/// Only Messages tells of tokens before its end: all of the prompt, and one of the answer.
fn early_tokens(upstream: Dialect) -> (u64, u64) {
    match upstream {
        Dialect::Messages => (INPUT_TOKENS, 1),
        Dialect::Chat | Dialect::Responses => (0, 0),
    }
}

/// In Messages the final counts come with the reason.
fn all_but_the_reasons_event(upstream: Dialect) -> (u64, u64) {
    match upstream {
        Dialect::Chat => (INPUT_TOKENS, OUTPUT_TOKENS),
        Dialect::Messages | Dialect::Responses => early_tokens(upstream),
    }
}

/// What is to come of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    attempts: Vec<Attempt>,
    last: Last,
    text: Text,
}

#[derive(Debug, PartialEq, Eq)]
struct Attempt {
    at: &'static str,
    state: LedgerState,
    class: Option<ErrorClass>,
    finish_reason: Option<String>,
    tokens: (u64, u64),
}

/// What the client is told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// The protocol's own good end.
    End,
    /// The protocol's own error, and no end before or behind it.
    Error(ErrorClass),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    /// All that the first provider has to say.
    OfFirst,
    /// A part of it.
    PartOfFirst,
    /// All that the second one says, and nothing of the first.
    OfSecond,
}

impl Outcome {
    fn failover(class: ErrorClass, tries: usize) -> Self {
        let failed =
            || Attempt { at: FIRST, state: LedgerState::Void, class: Some(class), finish_reason: None, tokens: (0, 0) };
        // The second provider always speaks Chat.
        let answered = Attempt::answered(SECOND, Dialect::Chat, (INPUT_TOKENS, OUTPUT_TOKENS));
        let attempts = (0..tries).map(|_| failed()).chain([answered]).collect();
        Self { attempts, last: Last::End, text: Text::OfSecond }
    }

    /// Tokens were used: it is settled, with the class where the finish reason would be.
    fn broken(class: ErrorClass, tokens: (u64, u64)) -> Self {
        let finish_reason = Some(class.as_str().to_owned());
        let attempt = Attempt { at: FIRST, state: LedgerState::Settled, class: None, finish_reason, tokens };
        Self { attempts: vec![attempt], last: Last::Error(class), text: Text::PartOfFirst }
    }

    fn whole(upstream: Dialect, tokens: (u64, u64)) -> Self {
        let attempts = vec![Attempt::answered(FIRST, upstream, tokens)];
        Self { attempts, last: Last::End, text: Text::OfFirst }
    }

    fn whole_without_reason(tokens: (u64, u64)) -> Self {
        let attempt = Attempt { at: FIRST, state: LedgerState::Settled, class: None, finish_reason: None, tokens };
        Self { attempts: vec![attempt], last: Last::End, text: Text::OfFirst }
    }
}

impl Attempt {
    fn answered(at: &'static str, upstream: Dialect, tokens: (u64, u64)) -> Self {
        let reason = match upstream {
            Dialect::Chat => "stop",
            Dialect::Messages => "end_turn",
            Dialect::Responses => "completed",
        };
        Self { at, state: LedgerState::Settled, class: None, finish_reason: Some(reason.to_owned()), tokens }
    }

    fn of(row: &LedgerRow) -> Self {
        Self {
            at: if row.provider.as_str() == SECOND { SECOND } else { FIRST },
            state: row.state,
            class: row.error_class,
            finish_reason: row.finish_reason.clone(),
            tokens: (row.input_tokens, row.output_tokens),
        }
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
struct Row {
    fault: Fault,
    client: Dialect,
    upstream: Dialect,
}

impl Row {
    fn all() -> Vec<Self> {
        let pairs = Dialect::ALL.into_iter().flat_map(|client| Dialect::ALL.map(|upstream| (client, upstream)));
        pairs.flat_map(|(client, upstream)| Fault::ALL.map(|fault| Self { fault, client, upstream })).collect()
    }

    fn model(self) -> String {
        format!("{:?}-{:?}-{:?}", self.fault, self.client, self.upstream).to_lowercase()
    }
}

/// The id of the failing provider that speaks `dialect`.
fn first(dialect: Dialect) -> String {
    format!("{FIRST}-{}", dialect.as_str())
}

/// What each protocol calls a failure of this class.
fn name_of(class: ErrorClass, client: Dialect) -> &'static str {
    match (class, client) {
        (ErrorClass::StreamBroken, Dialect::Messages) => "api_error",
        (ErrorClass::StreamBroken, _) => "stream_broken",
        (ErrorClass::Overloaded, Dialect::Messages) => "overloaded_error",
        (ErrorClass::Overloaded, _) => "server_is_overloaded",
        (other, _) => panic!("no row ends in {other:?}"),
    }
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
