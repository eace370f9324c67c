//! Any reply, told in any pieces, arrives whole: in every pair of protocols, and twice converted.

use proptest::prelude::*;
use serde_json::{Value, json};
use tokenhub_domain::Dialect;

use super::whole::{whole, whole_body};
use super::writing::{Part, Told};
use super::{InEvent, complete};
use crate::convert::reasoning::wrap_signature;
use crate::convert::reply;

const TEXT: &str = "[a-zé€😀\"\\\\\n{}]{1,12}";

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        TEXT.prop_map(Part::Text),
        TEXT.prop_map(Part::Reasoning),
        (TEXT, TEXT).prop_map(|(key, value)| Part::Call(json!({key: [value, {}]}).to_string())),
        Just(Part::Call("{}".to_owned())),
    ]
}

fn told() -> impl Strategy<Value = Told> {
    let shapes = (any::<bool>(), prop::collection::vec(1_usize..6, 1..5), prop::collection::vec(0_usize..4, 1..9));
    let parts = prop::collection::vec(part(), 0..6);
    (parts, shapes, any::<[bool; 3]>()).prop_map(|(parts, (limited, cuts, turns), left_out)| Told {
        parts,
        limited,
        cuts,
        turns,
        left_out,
    })
}

fn said(told: &Told, pick: impl Fn(&Part) -> Option<&String>) -> Vec<String> {
    told.parts.iter().filter_map(|part| pick(part).cloned()).collect()
}

fn finish_of(to: Dialect, told: &Told, calls: usize) -> &'static str {
    match (to, told.limited, calls) {
        (Dialect::Chat, true, _) => "length",
        (Dialect::Chat, false, 0) => "stop",
        (Dialect::Chat, false, _) => "tool_calls",
        (Dialect::Messages, true, _) => "max_tokens",
        (Dialect::Messages, false, 0) => "end_turn",
        (Dialect::Messages, false, _) => "tool_use",
        (Dialect::Responses, true, _) => "incomplete max_output_tokens",
        (Dialect::Responses, false, _) => "completed",
    }
}

fn counts(to: Dialect, usage: &Value) -> [u64; 3] {
    let paths = match to {
        Dialect::Chat => ["/prompt_tokens", "/prompt_tokens_details/cached_tokens", "/completion_tokens"],
        Dialect::Messages => ["/input_tokens", "/cache_read_input_tokens", "/output_tokens"],
        Dialect::Responses => ["/input_tokens", "/input_tokens_details/cached_tokens", "/output_tokens"],
    };
    paths.map(|path| usage.pointer(path).and_then(Value::as_u64).unwrap())
}

/// Two neighbours of a kind are one text in Chat, where a thought between them has no name of its own.
fn check(from: Dialect, to: Dialect, told: &Told) {
    let reply = whole(to, &complete(from, to, &told.events(from)));
    let calls = said(told, |part| if let Part::Call(arguments) = part { Some(arguments) } else { None });
    assert_eq!(reply.text, said(told, |part| if let Part::Text(text) = part { Some(text) } else { None }).concat());
    let thoughts = said(told, |part| if let Part::Reasoning(text) = part { Some(text) } else { None });
    assert_eq!(reply.reasoning, thoughts.concat());
    assert_eq!(reply.calls.iter().map(|call| call.arguments.clone()).collect::<Vec<_>>(), calls);
    assert_eq!(reply.finish, finish_of(to, told, calls.len()));
    let wanted = if to == Dialect::Messages { [60, 40, 10] } else { [100, 40, 10] };
    assert_eq!(counts(to, &reply.usage), wanted);
    let signed = if from == Dialect::Chat || to == Dialect::Chat { 0 } else { thoughts.len() };
    assert_eq!(reply.signatures, vec![wrap_signature(&super::context().issuer, "sig"); signed]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rule_17_all_pieces_together_are_the_whole_reply(told in told()) {
        for from in Dialect::ALL {
            for to in Dialect::ALL {
                check(from, to, &told);
                if from != to {
                    check_against_body(from, to, &told);
                }
            }
        }
    }
}

/// A stream says what the body of the same reply says.
fn check_against_body(from: Dialect, to: Dialect, told: &Told) {
    let events = complete(from, to, &told.events(from));
    let body = Value::Object(reply(from, to, &told.body(from), &super::context()).unwrap().body);
    assert_eq!(whole(to, &events), whole_body(to, &body), "{from:?} to {to:?}");
    // The body of a Chat reply has lost the order of its parts.
    if to == Dialect::Responses && from != Dialect::Chat {
        let last: Value = serde_json::from_str(&events.last().unwrap().data).unwrap();
        assert_eq!(last["response"], body);
    }
}

proptest! {
    // Each case is 54 conversions.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_converted_stream_is_itself_a_stream_that_can_be_converted(told in told()) {
        for from in Dialect::ALL {
            for between in Dialect::ALL {
                let once = complete(from, between, &told.events(from));
                let events: Vec<InEvent> = once.iter().map(|event| (event.name, event.data.clone())).collect();
                for to in Dialect::ALL {
                    let (direct, detour) = (complete(from, to, &told.events(from)), complete(between, to, &events));
                    let (mut direct, mut detour) = (whole(to, &direct), whole(to, &detour));
                    // Each conversion wraps signatures once more, and Chat loses them.
                    direct.signatures.clear();
                    detour.signatures.clear();
                    prop_assert_eq!(direct, detour);
                }
            }
        }
    }
}
