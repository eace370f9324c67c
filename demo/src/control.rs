//! The control paths of a scripted provider in its own process: script it, count its calls, start afresh.
//!
//! Only the scripted face has them; they begin with two underscores, which no API path does.

use bytes::Bytes;
use hyper::{Method, Response};
use serde::Deserialize;
use serde_json::json;

use crate::access::Demands;
use crate::playback::show::{Body, answer};
use crate::rule::Rule;
use crate::script::Script;

#[derive(Deserialize)]
#[serde(untagged)]
enum Rules {
    One(Rule),
    Many(Vec<Rule>),
}

/// Answers a control request; nothing when the path is none of them.
pub(crate) fn control(script: &Script, method: &Method, path: &str, body: &Bytes) -> Option<Response<Body>> {
    let result = match (method, path) {
        (&Method::GET, "/__calls") => serde_json::to_vec(&script.calls()),
        (&Method::GET, "/__count") => Ok(json!({"count": script.count()}).to_string().into_bytes()),
        (&Method::GET, "/__looks") => serde_json::to_vec(&script.looks()),
        (&Method::GET, "/__lookups") => serde_json::to_vec(&script.lookups()),
        (&Method::POST, "/__demands") => serde_json::from_slice::<Demands>(body).map(|demands| {
            script.demand(demands);
            done()
        }),
        (&Method::POST, "/__script") => serde_json::from_slice(body).map(|rules| {
            match rules {
                Rules::One(rule) => script.add(rule),
                Rules::Many(rules) => rules.into_iter().for_each(|rule| script.add(rule)),
            }
            done()
        }),
        (&Method::POST, "/__models") => serde_json::from_slice::<Vec<String>>(body).map(|models| {
            script.set_models(models);
            done()
        }),
        (&Method::POST, "/__reset") => {
            script.reset_counts();
            Ok(done())
        }
        (&Method::POST, "/__reset/all") => {
            script.clear();
            script.reset_counts();
            Ok(done())
        }
        _ => return None,
    };
    Some(match result {
        Ok(body) => answer(200, "application/json", Bytes::from(body)),
        Err(error) => answer(400, "text/plain", Bytes::from(error.to_string())),
    })
}

fn done() -> Vec<u8> {
    b"{}".to_vec()
}
