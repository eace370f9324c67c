//! Payloads in the JSON of Temporal's remote codecs: metadata and data in base64.
//!
//! Owns the form and names the payload that does not have it. What is in a payload is not looked at.

use base64::{
    Engine,
    alphabet::{Alphabet, STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose},
};
use serde_json::{Map, Value, json};
use temporalio_common::protos::temporal::api::common::v1::Payload;

use crate::error::Problem;

/// The payloads of `body`, each with the JSON that it came in.
pub(crate) fn read(body: &[u8]) -> Result<Vec<(Payload, Value)>, Problem> {
    let mut body: Value = serde_json::from_slice(body).map_err(|error| Problem::ParseBody(error.to_string()))?;
    let payloads =
        body.get_mut("payloads").map(Value::take).ok_or(Problem::MissingField { param: "payloads".into() })?;
    let Value::Array(payloads) = payloads else { return Err(Problem::invalid("payloads", "must be an array")) };
    payloads.into_iter().enumerate().map(|(index, value)| Ok((payload(index, &value)?, value))).collect()
}

/// The JSON of one payload.
pub(crate) fn write(payload: &Payload) -> Value {
    let encode = |bytes: &[u8]| Value::String(general_purpose::STANDARD.encode(bytes));
    let metadata: Map<String, Value> = payload.metadata.iter().map(|(name, it)| (name.clone(), encode(it))).collect();
    json!({"metadata": metadata, "data": encode(&payload.data)})
}

fn payload(index: usize, value: &Value) -> Result<Payload, Problem> {
    let at = format!("payloads[{index}]");
    let fields = value.as_object().ok_or_else(|| Problem::invalid(at.as_str(), "must be an object"))?;
    let mut payload = Payload::default();
    match fields.get("metadata") {
        None | Some(Value::Null) => {}
        Some(Value::Object(metadata)) => {
            for (name, value) in metadata {
                payload.metadata.insert(name.clone(), bytes(&format!("{at}.metadata.{name}"), value)?);
            }
        }
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            return Err(Problem::invalid(format!("{at}.metadata"), "must be an object"));
        }
    }
    if let Some(data) = fields.get("data").filter(|data| !data.is_null()) {
        payload.data = bytes(&format!("{at}.data"), data)?;
    }
    Ok(payload)
}

/// Either alphabet, with or without padding: JSON of protobuf messages is read so.
fn bytes(at: &str, value: &Value) -> Result<Vec<u8>, Problem> {
    let decode = |text: &str, alphabet: &Alphabet| {
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        GeneralPurpose::new(alphabet, config).decode(text).ok()
    };
    value
        .as_str()
        .and_then(|text| decode(text, &STANDARD).or_else(|| decode(text, &URL_SAFE)))
        .ok_or_else(|| Problem::invalid(at, "must be a text in base64"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Shape;

    fn refused(body: &str) -> (String, u16) {
        let report = read(body.as_bytes()).unwrap_err().report(Shape::Problem);
        (report.param.unwrap_or_default(), report.status.as_u16())
    }

    #[test]
    fn a_payload_is_read_and_written_in_the_form_of_remote_codecs() {
        let body = r#"{"payloads":[{"metadata":{"encoding":"anNvbi9wbGFpbg=="},"data":"Inh+fyI="}]}"#;
        let payloads = read(body.as_bytes()).unwrap();
        assert_eq!(payloads[0].0.metadata["encoding"], b"json/plain");
        assert_eq!(payloads[0].0.data, b"\"x~\x7f\"");
        assert_eq!(json!({"payloads": [write(&payloads[0].0)]}).to_string(), body);
    }

    #[test]
    fn both_alphabets_and_missing_padding_are_read() {
        for text in ["+/8=", "-_8=", "+/8", "-_8"] {
            let body = json!({"payloads": [{"data": text}]}).to_string();
            assert_eq!(read(body.as_bytes()).unwrap()[0].0.data, [0xfb, 0xff], "{text}");
        }
        assert_eq!(read(br#"{"payloads":[{}, {"metadata":null,"data":null}]}"#).unwrap().len(), 2);
    }

    #[test]
    fn a_payload_of_another_form_is_named() {
        assert_eq!(refused("{}"), ("payloads".into(), 400));
        assert_eq!(refused(r#"{"payloads":{}}"#), ("payloads".into(), 400));
        assert_eq!(refused(r#"{"payloads":[{},7]}"#), ("payloads[1]".into(), 400));
        assert_eq!(refused(r#"{"payloads":[{},{"data":"%"}]}"#), ("payloads[1].data".into(), 400));
        assert_eq!(refused(r#"{"payloads":[{"metadata":{"a":1}}]}"#), ("payloads[0].metadata.a".into(), 400));
        assert_eq!(refused(r#"{"payloads":[{"metadata":"x"}]}"#), ("payloads[0].metadata".into(), 400));
        assert_eq!(refused("no").1, 400);
    }
}
