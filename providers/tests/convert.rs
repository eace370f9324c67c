//! Golden pairs: one request or reply in each protocol against what it becomes in the two others.
//!
//! `convert/<from>_<to>/<case>.in.json` is converted and compared with `.out.json`, losses included. A missing or unknown
//! file fails. `UPDATE_GOLDEN=1` writes the expectations anew; read every change before it is kept.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokenhub_domain::{AttemptId, Dialect};
use tokenhub_providers::convert::{self, Abilities, ConvertError, Issuer, ReplyContext, Target};

const REQUESTS: [&str; 10] = [
    "text",
    "system",
    "tools",
    "parallel_tools",
    "tool_results",
    "image",
    "reasoning",
    "structured",
    "refusal",
    "max_tokens",
];
const REPLIES: [&str; 7] = ["text", "tools", "parallel_tools", "reasoning", "refusal", "max_tokens", "cached_usage"];

fn issuer() -> Issuer {
    Issuer { provider: "upstream".into(), model: "m-1".into() }
}

/// A name that is too long for Chat and Responses, and what it is there.
fn long_name() -> (String, String) {
    let name = "mcp__warehouse__".repeat(5);
    let wire = convert::wire_tool_name(Dialect::Chat, &name).into_owned();
    (wire, name)
}

fn convert_request(from: Dialect, to: Dialect, body: &Value) -> Result<Value, ConvertError> {
    let target = Target { issuer: issuer(), max_output_tokens: Some(16_000), abilities: Abilities::default() };
    let converted = convert::request(from, to, body.as_object().unwrap(), &target)?;
    let mut out = json!({"body": converted.body, "losses": converted.losses});
    if !converted.tool_names.is_empty() {
        out["tool_names"] = json!(converted.tool_names);
    }
    Ok(out)
}

fn convert_reply(from: Dialect, to: Dialect, body: &Value) -> Result<Value, ConvertError> {
    let context = ReplyContext {
        attempt: AttemptId::new("att_0a1b"),
        model: "asked-for".to_owned(),
        created_secs: 1_700_000_000,
        issuer: issuer(),
        tool_names: BTreeMap::from([long_name()]),
        free_form_tools: BTreeSet::new(),
    };
    let converted = convert::reply(from, to, body, &context)?;
    Ok(json!({"body": converted.body, "losses": converted.losses}))
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn check(folder: &Path, case: &str, seen: Result<Value, ConvertError>) {
    let path = folder.join(format!("{case}.out.json"));
    let seen = seen.unwrap_or_else(|error| json!({"error": error.to_string()}));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, format!("{seen:#}\n")).unwrap();
    }
    // As text, because the order of fields is part of what is sent.
    assert_eq!(format!("{:#}", read(&path)), format!("{seen:#}"), "{}", path.display());
}

fn cases() -> BTreeSet<String> {
    let requests = REQUESTS.iter().map(|case| format!("request_{case}"));
    requests.chain(REPLIES.iter().map(|case| format!("reply_{case}"))).collect()
}

fn pairs() -> impl Iterator<Item = (Dialect, Dialect, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/convert");
    let all = Dialect::ALL.into_iter().flat_map(|from| Dialect::ALL.map(|to| (from, to)));
    all.filter(|(from, to)| from != to)
        .map(move |(from, to)| (from, to, root.join(format!("{}_{}", from.as_str(), to.as_str()))))
}

#[test]
fn every_golden_pair_converts_as_written() {
    for (from, to, folder) in pairs() {
        for case in cases() {
            // Messages has no refusal in a history.
            if from == Dialect::Messages && case == "request_refusal" {
                continue;
            }
            let body = read(&folder.join(format!("{case}.in.json")));
            let seen = if case.starts_with("request_") { convert_request } else { convert_reply };
            check(&folder, &case, seen(from, to, &body));
        }
    }
}

#[test]
fn no_golden_file_is_without_a_case() {
    let known: BTreeSet<String> =
        cases().iter().flat_map(|case| [format!("{case}.in.json"), format!("{case}.out.json")]).collect();
    for (_, _, folder) in pairs() {
        for entry in fs::read_dir(&folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(known.contains(&name), "{}/{name}", folder.display());
        }
    }
}
