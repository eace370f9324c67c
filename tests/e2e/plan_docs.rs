//! The documents that teach plans, read as a reader does: every snippet is pasted into a shell or a Python in the order in
//! which it stands, and what follows it must be what is printed.
//!
//! The installation is that of `make run`: the demo models in their own words, and a small local model.

mod document;
mod output;
mod session;

use std::fs;

use serde_json::{Value, json};
use tokenhub_demo::{Finished, Reply, Rule};

use crate::harness::{Disturbance, TestHub};
use document::{Document, Language};
use session::{Python, Shell};

/// What the local model says, and how long it takes.
const LOCAL_REPLY_MS: u64 = 400;
/// Where the documents suppose the API.
const DOCUMENTED_HOST: &str = "127.0.0.1:8080";

fn models() -> Vec<Value> {
    let offered = [("smollm2-135m-instruct", 6, 4_096)]
        .into_iter()
        .chain(["demo/concise", "demo/thorough", "demo/skeptic"].map(|id| (id, 5, 32_768)));
    offered
        .map(|(id, weight, window)| {
            json!({"id": id, "provider_id": "scripted", "weight": weight, "max_context_tokens": window})
        })
        .collect()
}

async fn as_after_make_run() -> TestHub {
    let hub = TestHub::builder()
        .models(models())
        .environment("TOKENHUB_START_DEADLINE_MS", "15000")
        .environment("TOKENHUB_LIVE_SIGNALS", "false")
        .start()
        .await;
    hub.provider.script(Rule::any([Reply::demo_model()]));
    let local = Reply::text("Yes, spaces are a good idea.").delay_ms(LOCAL_REPLY_MS);
    hub.provider.script(Rule::model("smollm2-135m-instruct", [local]));
    fs::write(hub.dir().join("data/client-key"), &hub.environment()["TOKENHUB_CLIENT_KEY"]).unwrap();
    hub
}

/// Runs every snippet of `document` and compares what it prints; what is not as the text says, place by place.
async fn follow(hub: &TestHub, document: &Document) -> Vec<String> {
    let host = hub.apis[0].1.trim_start_matches("http://");
    let (mut shell, mut python) = (Shell::start(hub).await, Python::start(hub).await);
    let mut wrong = Vec::new();
    for snippet in &document.snippets {
        let text = snippet.text.replace(DOCUMENTED_HOST, host);
        let ran = match snippet.language {
            Language::Shell => shell.run(&text).await,
            Language::Python => python.run(&text).await,
        };
        let difference = match (&snippet.output, ran) {
            (_, Err(printed)) => format!("fails with:\n{printed}"),
            (None, Ok(_)) => continue,
            (Some(expected), Ok(printed)) => match output::compare(expected, &printed) {
                Ok(()) => continue,
                Err(difference) => format!("{difference}\nand prints:\n{printed}"),
            },
        };
        wrong.push(format!("--- {} line {}:\n{}\n{difference}\n", document.name, snippet.line, snippet.text));
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn every_snippet_about_plans_does_what_the_text_says() {
    let page = Document::read("docs/plans.md", None);
    let section = Document::read("README.md", Some("## Plans"));
    for (document, shell, python) in [(&page, 8, 11), (&section, 1, 1)] {
        let count = |language| document.snippets.iter().filter(|snippet| snippet.language == language).count();
        let counts = (count(Language::Shell), count(Language::Python));
        assert!(counts.0 >= shell && counts.1 >= python, "{} lost snippets: {counts:?}", document.name);
        assert_eq!(document.not_executed, 0, "{}", document.name);
    }
    let hub = as_after_make_run().await;
    let mut wrong = follow(&hub, &section).await;
    wrong.extend(follow(&hub, &page).await);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let cut = hub.provider.count_where(|call| call.finished == Finished::Aborted);
    assert!(cut >= 1, "the plan that the reader stops has a call on its way");
    hub.finish(Disturbance::None).await;
}

#[test]
fn every_status_and_every_type_of_strategy_is_in_the_text() {
    let text = document::text_of("docs/plans.md");
    for status in tokenhub_domain::RunStatus::ALL {
        assert!(text.contains(&format!("`{}`", status.as_str())), "{}", status.as_str());
    }
    for kind in ["single", "hedge", "vote", "best_of_n", "adversarial", "refine", "cascade", "fuse"] {
        assert!(text.contains(&format!("| `{kind}` |")), "{kind}");
    }
}

#[test]
fn a_document_cannot_hide_a_snippet_and_a_wrong_output_is_seen() {
    let text = "# T\n```sh\ntrue\n```\nso:\n```text\nx…\n```\n<!-- not executed: kills -->\n```sh\nkill\n```\n";
    let document = Document::of("a test", text);
    assert_eq!((document.snippets.len(), document.not_executed), (1, 1));
    assert_eq!(document.snippets[0].output.as_ref().map(|output| output.text.as_str()), Some("x…"));
    for hidden in ["```\nls\n```\n", "```bash\nls\n```\n", "```json\n{}\n```\n", "```sh\nls\n"] {
        let read = std::panic::catch_unwind(|| Document::of("a test", hidden));
        assert!(read.is_err(), "{hidden}");
    }
    output::check_itself();
}
