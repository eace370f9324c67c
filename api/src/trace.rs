//! `X-TokenHub-Trace`: which models were asked for an answer, for a caller who wants to know.
//!
//! A header and no part of the body, because the body's form belongs to the caller's protocol.

use axum::{
    http::{HeaderMap, HeaderName},
    response::Response,
};
use serde_json::{Value, json};
use tokenhub_activities::stream::TriedCall;
use tokenhub_domain::{ErrorClass, StepRecord};

use crate::render;

const TRACE: HeaderName = HeaderName::from_static("x-tokenhub-trace");
/// Clients and proxies refuse headers of many kilobytes; of more entries than this, the last ones are told.
const ENTRIES_MAX: usize = 32;
const ANSWERED: &str = "answered";

/// Writes the trace when the request asks for it.
pub(crate) fn write(response: &mut Response, request: &HeaderMap, trace: impl FnOnce() -> Vec<Value>) {
    let is_asked_for = request.get(TRACE).is_some_and(|value| matches!(value.as_bytes(), b"1" | b"true"));
    if !is_asked_for {
        return;
    }
    let mut entries = trace();
    entries.drain(..entries.len().saturating_sub(ENTRIES_MAX));
    render::insert(response.headers_mut(), TRACE, &Value::Array(entries).to_string());
}

/// One entry for each step of a run, with the deployment that was asked last.
pub(crate) fn of_steps(steps: &[StepRecord]) -> Vec<Value> {
    let entry = |step: &StepRecord| {
        json!({
            "model": step.model, "provider": step.provider, "class": class(step.error_class), "ms": step.latency_ms,
            "attempts": step.attempts,
        })
    };
    steps.iter().map(entry).collect()
}

/// One entry for each call of a stream, up to the first content.
pub(crate) fn of_calls(calls: &[TriedCall]) -> Vec<Value> {
    let entry = |call: &TriedCall| {
        json!({
            "model": call.deployment.model, "provider": call.deployment.provider, "class": class(call.error_class),
            "ms": call.elapsed_ms,
        })
    };
    calls.iter().map(entry).collect()
}

fn class(error_class: Option<ErrorClass>) -> &'static str {
    error_class.map_or(ANSWERED, ErrorClass::as_str)
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::HeaderValue};
    use tokenhub_domain::Deployment;

    use super::*;

    fn call(model: &str, error_class: Option<ErrorClass>) -> TriedCall {
        TriedCall { deployment: Deployment::new(model, "p"), error_class, elapsed_ms: 7 }
    }

    fn written(asked: Option<&'static str>, calls: &[TriedCall]) -> Option<String> {
        let mut request = HeaderMap::new();
        if let Some(asked) = asked {
            request.insert(TRACE, HeaderValue::from_static(asked));
        }
        let mut response = Response::new(Body::empty());
        write(&mut response, &request, || of_calls(calls));
        response.headers().get(TRACE).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_trace_is_told_to_those_who_ask_for_it_and_nobody_else() {
        let calls = [call("a", Some(ErrorClass::Overloaded)), call("b", None)];
        assert_eq!(
            written(Some("1"), &calls).unwrap(),
            r#"[{"model":"a","provider":"p","class":"overloaded","ms":7},{"model":"b","provider":"p","class":"answered","ms":7}]"#
        );
        assert_eq!(written(None, &calls), None);
        assert_eq!(written(Some("0"), &calls), None);
    }

    #[test]
    fn of_very_many_calls_the_last_are_told() {
        let calls: Vec<TriedCall> = (0..100).map(|index| call(&format!("m{index}"), None)).collect();
        let told: Vec<Value> = serde_json::from_str(&written(Some("1"), &calls).unwrap()).unwrap();
        assert_eq!((told.len(), &told[ENTRIES_MAX - 1]["model"]), (ENTRIES_MAX, &"m99".into()));
    }
}
