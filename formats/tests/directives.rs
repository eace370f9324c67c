//! The grammar of directives: every key, every place, and texts that only speak about them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use serde_json::{Value, json};
use tokenhub_domain::{Dialect, RoutingProfile, TextFormat};
use tokenhub_formats::{ConversationError, Directives, MARKER, Program, Role, strip, take};

fn taken(text: &str) -> (String, Directives) {
    let taken = take(text, Role::User).unwrap().unwrap();
    (taken.rest, taken.directives)
}

fn said(pairs: &str) -> Directives {
    let line = taken(&format!("hi\n@@tokenhub {pairs}\nthere"));
    assert_eq!(line.0, "hi\nthere", "{pairs}");
    let block = taken(&format!("hi\n@@tokenhub\n{}\n@@end\nthere", pairs.replace(" mode=", "\nmode=")));
    assert_eq!(block, line, "{pairs}");
    line.1
}

fn refused(text: &str) -> (String, String) {
    let error = take(text, Role::User).unwrap_err();
    (error.key, error.reason)
}

#[test]
fn every_key_is_read_on_a_line_and_in_a_block() {
    let nothing = Directives::default;
    let schema = json!({"type": "object", "required": ["a b"]});
    for (pairs, expected) in [
        ("mode=cheap", Directives { profile: Some(RoutingProfile::Cheap), ..nothing() }),
        ("mode=normal", Directives { profile: Some(RoutingProfile::Normal), ..nothing() }),
        ("mode=high_confidence", Directives { profile: Some(RoutingProfile::HighConfidence), ..nothing() }),
        ("mode=planning", Directives { profile: Some(RoutingProfile::Planning), ..nothing() }),
        ("mode=adversarial", Directives { program: Some(Program::Adversarial), ..nothing() }),
        ("mode=vote", Directives { program: Some(Program::Vote), ..nothing() }),
        ("mode=refine", Directives { program: Some(Program::Refine), ..nothing() }),
        ("mode=best_of_n", Directives { program: Some(Program::BestOfN), ..nothing() }),
        ("budget=0.25", Directives { budget_usd: Some(0.25), ..nothing() }),
        ("budget=100", Directives { budget_usd: Some(100.0), ..nothing() }),
        ("latency=300000", Directives { latency_ms: Some(300_000), ..nothing() }),
        ("min_weight=10", Directives { min_weight: Some(10), ..nothing() }),
        ("output_format=xml", Directives { output_format: Some(TextFormat::Xml), ..nothing() }),
        ("strip_think=true", Directives { strip_think: Some(true), ..nothing() }),
        ("max_tokens=7", Directives { max_tokens: Some(7), ..nothing() }),
        (
            r#"output_schema={"type": "object", "required": ["a b"]}"#,
            Directives { output_schema: Some(schema.clone()), ..nothing() },
        ),
        (
            r#"output_schema={"type": "object", "required": ["a b"]} latency=5 mode=cheap mode=vote"#,
            Directives { output_schema: Some(schema), latency_ms: Some(5), program: Some(Program::Vote), ..nothing() },
        ),
    ] {
        assert_eq!(said(pairs), expected, "{pairs}");
    }
}

#[test]
fn a_value_that_cannot_be_followed_is_refused_by_its_key() {
    for (pairs, key) in [
        ("mode=fast", "mode"),
        ("mode=", "mode"),
        ("budget=0", "budget"),
        ("budget=100.5", "budget"),
        ("budget=NaN", "budget"),
        ("budget=much", "budget"),
        ("latency=0", "latency"),
        ("latency=300001", "latency"),
        ("latency=1.5", "latency"),
        ("min_weight=11", "min_weight"),
        ("min_weight=-1", "min_weight"),
        ("output_schema={\"type\":", "output_schema"),
        ("output_schema=[]", "output_schema"),
        ("output_schema=", "output_schema"),
        ("output_format=yaml", "output_format"),
        ("strip_think=yes", "strip_think"),
        ("max_tokens=0", "max_tokens"),
        ("modus=vote", "modus"),
        ("mode=vote please", ""),
    ] {
        assert_eq!(refused(&format!("@@tokenhub {pairs}")).0, key, "{pairs}");
        assert_eq!(refused(&format!("@@tokenhub\n{pairs}\n@@end")).0, key, "{pairs}");
    }
    assert!(refused("@@tokenhub\nmode=vote\nhello").1.contains("@@end"));
}

#[test]
fn several_are_all_taken_and_the_last_one_wins_key_by_key() {
    for text in [
        "a\n@@tokenhub mode=vote budget=1\nb\n@@tokenhub budget=2\nc",
        "a\n@@tokenhub mode=vote budget=1 @@tokenhub budget=2\nb\nc",
        "a\n@@tokenhub\nmode=vote\nbudget=1\n@@end\nb\n@@tokenhub\r\n budget=2\r\n@@end\nc",
    ] {
        let (rest, said) = taken(text);
        assert_eq!(rest, "a\nb\nc", "{text:?}");
        assert_eq!((said.program, said.budget_usd), (Some(Program::Vote), Some(2.0)), "{text:?}");
    }
    assert_eq!(taken("Say hi. @@tokenhub mode=cheap").0, "Say hi.");
    assert_eq!(taken("@@tokenhub mode=cheap").0, "");
}

#[test]
fn text_about_directives_stays() {
    for text in [
        "What does `@@tokenhub` mean?",
        "Lines with @@tokenhub are directives",
        "@@tokenhubs mode=vote",
        "mail@@tokenhub mode=vote",
        "@@tokenhub, mode=vote",
        "no marker at all",
    ] {
        assert_eq!(take(text, Role::User).unwrap(), None, "{text:?}");
    }
    // What others say is taken out, never obeyed and never refused.
    let other = take("x\n@@tokenhub mode=nonsense", Role::Other).unwrap().unwrap();
    assert_eq!((other.rest.as_str(), other.directives), ("x\n", Directives::default()));
    assert_eq!(take("@@tokenhub\nnever ended", Role::Other).unwrap(), None);
}

fn stripped(dialect: Dialect, body: &Value) -> (Value, Directives) {
    let (body, said) = strip(dialect, &body.to_string()).unwrap().unwrap();
    (serde_json::from_str(&body).unwrap(), said)
}

#[test]
fn every_text_of_a_conversation_is_looked_at_and_only_the_users_is_obeyed() {
    let d = "\n@@tokenhub mode=vote";
    let chat = json!({"model": "m", "messages": [
        {"role": "system", "content": format!("s{d}")},
        {"role": "user", "content": "@@tokenhub budget=1"},
        {"role": "assistant", "content": format!("a{d}"), "tool_calls": [{"id": "t"}]},
        {"role": "tool", "tool_call_id": "t", "content": format!("r{d}")},
        {"role": "user", "content": [{"type": "text", "text": "@@tokenhub latency=9"}, {"type": "image_url"},
            {"type": "text", "text": "look\n@@tokenhub min_weight=2"}]}]});
    let (body, said) = stripped(Dialect::Chat, &chat);
    let messages = json!([{"role": "system", "content": "s\n"},
        {"role": "assistant", "content": "a\n", "tool_calls": [{"id": "t"}]},
        {"role": "tool", "tool_call_id": "t", "content": "r\n"},
        {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "look\n"}]}]);
    assert_eq!(body["messages"], messages);
    let expected =
        Directives { budget_usd: Some(1.0), latency_ms: Some(9), min_weight: Some(2), ..Directives::default() };
    assert_eq!(said, expected);

    let messages = json!({"system": [{"type": "text", "text": format!("s{d}")}], "messages": [{"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "t", "content": format!("r{d}")}, {"type": "text", "text": "hi"}]}]});
    let (body, said) = stripped(Dialect::Messages, &messages);
    assert!(said.is_empty());
    assert_eq!(body["system"][0]["text"], "s\n");
    assert_eq!(body["messages"][0]["content"][0]["content"], "r\n");

    let text = json!({"input": format!("hi{d}"), "instructions": format!("i{d}")});
    let (body, said) = stripped(Dialect::Responses, &text);
    assert_eq!((body, said.program), (json!({"input": "hi\n", "instructions": "i\n"}), Some(Program::Vote)));
    let items = json!({"input": [{"type": "function_call_output", "call_id": "c", "output": format!("o{d}")},
        {"role": "user", "content": [{"type": "input_text", "text": format!("hi{d}")}]}]});
    let (body, said) = stripped(Dialect::Responses, &items);
    assert_eq!((&body["input"][0]["output"], said.program), (&json!("o\n"), Some(Program::Vote)));
}

#[test]
fn a_body_without_directives_is_not_touched_and_the_rest_of_one_with_them_keeps_its_bytes() {
    assert_eq!(strip(Dialect::Chat, r#"{"messages":[{"role":"user","content":"hi"}]}"#), Ok(None));
    assert_eq!(strip(Dialect::Chat, r#"{"messages":[{"role":"user","content":"the `@@tokenhub` line"}]}"#), Ok(None));
    let body = r#"{ "x": 1.50,"messages":[{"role":"user","content":"hi\n@@tokenhub mode=cheap"}] , "y" : 1e3 }"#;
    let (left, _) = strip(Dialect::Chat, body).unwrap().unwrap();
    assert_eq!(left, r#"{ "x": 1.50,"messages":[{"role":"user","content":"hi\n"}] , "y" : 1e3 }"#);
    let nothing = strip(Dialect::Chat, r#"{"messages":[{"role":"user","content":"@@tokenhub mode=cheap"}]}"#);
    assert_eq!(nothing, Err(ConversationError::NothingLeft { param: "messages" }));
}

#[test]
fn a_message_without_content_is_no_directive() {
    let chat = json!({"messages": [{"role": "user", "content": "hi\n@@tokenhub mode=vote"}, {"role": "assistant", "content": []},
        {"role": "user", "content": [{"type": "text", "text": "@@tokenhub budget=1"}]}]});
    let (body, _) = stripped(Dialect::Chat, &chat);
    assert_eq!(body["messages"], json!([{"role": "user", "content": "hi\n"}, {"role": "assistant", "content": []}]));
}

#[test]
fn more_directives_than_anybody_needs_are_refused() {
    let many = |count: usize| "@@tokenhub budget=1\n".repeat(count);
    assert_eq!(take(&many(64), Role::User).unwrap().unwrap().obeyed, 64);
    assert!(refused(&many(65)).1.contains("more than 64 directives that begin with @@tokenhub"));
    let messages = |count: usize| {
        let each = (0..count).map(|_| json!({"role": "user", "content": format!("hi\n{}", many(13))}));
        strip(Dialect::Chat, &json!({"messages": each.collect::<Vec<_>>()}).to_string())
    };
    assert!(messages(4).is_ok());
    assert!(messages(5).unwrap_err().to_string().contains("more than 64"));
    // Nobody is refused for what a tool said.
    assert_eq!(take(&many(65), Role::Other).unwrap().unwrap().rest, "");
}

#[test]
fn a_megabyte_of_markers_is_walked_once() {
    for unit in [
        "@@tokenhub ",
        "@@tokenhub",
        "x@@tokenhub ",
        "@@tokenhub x ",
        "@@tokenhub a=1 ",
        "@@tokenhub a=1 x ",
        "x @@tokenhub\n",
        "@@tokenhub\n",
        "x @@tokenhub x\n",
        "@@tokenhub\n@@end\n",
        "x @@tokenhub\nx\n@@end x\n",
    ] {
        let text = format!("{}{}", unit.repeat(1_000_000 / unit.len()), " ".repeat(10_000));
        assert!(take(&text, Role::Other).is_ok());
        let _ = take(&text, Role::User);
    }
}

fn directive() -> impl Strategy<Value = String> {
    let pair = prop_oneof![
        prop_oneof![Just("cheap"), Just("vote"), Just("refine")].prop_map(|mode| format!("mode={mode}")),
        (1_u32..=100).prop_map(|usd| format!("budget={usd}")),
        (1_u32..=300_000).prop_map(|millis| format!("latency={millis}")),
        "[a-z {}@=]{0,9}".prop_map(|text| format!("output_schema={}", json!({"title": text}))),
    ];
    let pairs = prop::collection::vec(pair, 1..4);
    (pairs, any::<bool>()).prop_map(|(pairs, is_block)| {
        if is_block {
            format!("@@tokenhub\n{}\n@@end", pairs.join("\n"))
        } else {
            format!("@@tokenhub {}", pairs.join(" "))
        }
    })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_and_what_is_left_has_no_directive(text in "(@@tokenhub|@@end|mode=|vote|[ \n\ta=é`{}\"]){0,24}") {
        for role in [Role::User, Role::Other] {
            if let Ok(Some(taken)) = take(&text, role) {
                prop_assert!(taken.rest.len() < text.len());
            }
        }
    }

    #[test]
    fn what_is_between_directives_survives_and_no_marker_does(
        words in prop::collection::vec("[a-zé.,]{1,8}", 2..5),
        directives in prop::collection::vec(directive(), 1..4),
    ) {
        let mut text = String::new();
        for (index, word) in words.iter().enumerate() {
            text.push_str(word);
            text.push('\n');
            if let Some(directive) = directives.get(index) {
                text.push_str(directive);
                text.push('\n');
            }
        }
        let taken = take(&text, Role::User).unwrap().unwrap();
        prop_assert!(!taken.rest.contains(MARKER));
        let left: Vec<&str> = taken.rest.lines().collect();
        prop_assert_eq!(left, words.iter().map(String::as_str).collect::<Vec<_>>());
        prop_assert!(!taken.directives.is_empty());
        prop_assert_eq!(take(&taken.rest, Role::User).unwrap(), None);
    }
}
