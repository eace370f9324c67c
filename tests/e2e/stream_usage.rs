//! The bill of an answer: what the upstream counted is what the ledger has, whole or streamed, and whatever protocol the
//! client speaks.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Map, Value, json};
use tokenhub_demo::{Part, Reply, Rule, ScriptedProvider, TokenDetails};
use tokenhub_domain::Dialect;

use crate::{
    dialogue,
    evidence::Evidence,
    harness::{Disturbance, TestHub, exchange, http},
};

/// Of the prompt, 40 tokens were read from a cache and 10 were written to one.
const INPUT_TOKENS: u64 = 150;
/// Of the answer, 15 tokens were spent on reasoning.
const OUTPUT_TOKENS: u64 = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    Whole,
    Streamed,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    client: Dialect,
    upstream: Dialect,
    delivery: Delivery,
}

impl Row {
    fn all() -> Vec<Self> {
        let pairs = Dialect::ALL.into_iter().flat_map(|client| Dialect::ALL.map(|upstream| (client, upstream)));
        let deliveries = [Delivery::Whole, Delivery::Streamed];
        pairs.flat_map(|(client, upstream)| deliveries.map(|delivery| Self { client, upstream, delivery })).collect()
    }

    fn model(self) -> String {
        format!("{}-{}-{:?}", self.client.as_str(), self.upstream.as_str(), self.delivery).to_lowercase()
    }
}

fn reply() -> Reply {
    let details = TokenDetails { cached_tokens: 40, cache_write_tokens: 10, reasoning_tokens: 15 };
    Reply::parts([Part::reasoning("let me see", Some("signed")), Part::Text("the answer is forty two".to_owned())])
        .usage(INPUT_TOKENS, OUTPUT_TOKENS)
        .token_details(details)
}

/// A request that asks for everything that a protocol tells of tokens.
fn request(client: Dialect, model: &str, delivery: Delivery) -> (&'static str, Value) {
    let (path, mut body) = dialogue::request(client, model);
    match (delivery, client) {
        (Delivery::Whole, _) => body["stream"] = json!(false),
        (Delivery::Streamed, Dialect::Chat) => body["stream_options"] = json!({"include_usage": true}),
        (Delivery::Streamed, Dialect::Responses | Dialect::Messages) => {}
    }
    (path, body)
}

/// The usage that an answer reports; of a stream what its events add up to.
fn reported(delivery: Delivery, text: &str) -> Value {
    let places = ["/usage", "/message/usage", "/response/usage"];
    let payloads = match delivery {
        Delivery::Whole => vec![serde_json::from_str(text).unwrap()],
        Delivery::Streamed => dialogue::events(text).into_iter().map(|(_, payload)| payload).collect(),
    };
    let found = payloads.iter().flat_map(|payload: &Value| places.into_iter().filter_map(|at| payload.pointer(at)));
    let mut all = Map::new();
    for usage in found.filter_map(Value::as_object) {
        all.extend(usage.clone());
    }
    Value::Object(all)
}

/// What the upstream says when nobody stands between.
async fn said_by_the_upstream(row: Row) -> Value {
    let provider = ScriptedProvider::start().await;
    provider.script(Rule::any([reply()]));
    let (path, body) = request(row.upstream, "any", row.delivery);
    let asked = http().post(format!("{}{path}", provider.base_url())).json(&body);
    reported(row.delivery, &exchange(asked).await.unwrap().expect(200).text)
}

/// Input, output, read from a cache and spent on reasoning, as a protocol's usage tells it.
fn counts(client: Dialect, usage: &Value) -> [u64; 4] {
    let (paths, cached_are_beside) = match client {
        Dialect::Chat => (
            [
                "/prompt_tokens",
                "/completion_tokens",
                "/prompt_tokens_details/cached_tokens",
                "/completion_tokens_details/reasoning_tokens",
            ],
            false,
        ),
        Dialect::Responses => (
            [
                "/input_tokens",
                "/output_tokens",
                "/input_tokens_details/cached_tokens",
                "/output_tokens_details/reasoning_tokens",
            ],
            false,
        ),
        Dialect::Messages => (
            ["/input_tokens", "/output_tokens", "/cache_read_input_tokens", "/output_tokens_details/thinking_tokens"],
            true,
        ),
    };
    let count = |path: &str| usage.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let mut counts = paths.map(count);
    if cached_are_beside {
        counts[0] += count("/cache_read_input_tokens") + count("/cache_creation_input_tokens");
    }
    counts
}

/// Also number 21 of the acceptance cases: tokens of a cache are counted once, inside the prompt or beside it.
#[tokio::test(flavor = "multi_thread")]
async fn case_21_the_ledger_has_what_the_upstream_counted_and_the_client_is_told_the_same() {
    let upstreams = Dialect::ALL.map(|dialect| dialogue::upstream(dialect.as_str(), dialect, "sk-up"));
    let models = Row::all().into_iter().map(|row| dialogue::model_at(row.upstream.as_str(), &row.model(), 1));
    let hub = TestHub::builder().temporal_off().upstreams(upstreams.to_vec()).models(models.collect()).start().await;
    hub.provider.script(Rule::any([reply()]));
    let asked = Row::all().into_iter().map(async |row| {
        let (path, body) = request(row.client, &row.model(), row.delivery);
        let answer = exchange(hub.request(Method::POST, path).json(&body)).await.unwrap().expect(200);
        (row, reported(row.delivery, &answer.text), said_by_the_upstream(row).await)
    });
    let answers = join_all(asked).await;
    let ledger = Evidence::of(&hub).await.ended(answers.len()).await;
    for (row, told, wanted) in answers {
        let entry = ledger.iter().find(|entry| entry.model.as_str() == row.model()).unwrap();
        let billed: Value = serde_json::from_str(entry.usage_json.as_deref().unwrap_or("null")).unwrap();
        assert_eq!(billed, wanted, "{row:?}");
        assert_eq!((entry.input_tokens, entry.output_tokens), (INPUT_TOKENS, OUTPUT_TOKENS), "{row:?}");
        let (told, said) = (counts(row.client, &told), counts(row.upstream, &wanted));
        assert_eq!(told, said, "{row:?}");
        assert_eq!(told[..3], [INPUT_TOKENS, OUTPUT_TOKENS, 40], "{row:?}");
        // A whole answer of Messages does not tell what thinking took.
        let is_told = row.upstream != Dialect::Messages || row.delivery == Delivery::Streamed;
        assert_eq!(told[3], if is_told { 15 } else { 0 }, "{row:?}");
    }
    hub.finish(Disturbance::None).await;
}
