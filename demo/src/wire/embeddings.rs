//! The answer to `POST /v1/embeddings`: vectors that depend on the input alone.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value, json};

use crate::speech::tokens_in;

/// Numbers in a vector when the request does not say.
const DIMENSIONS: usize = 8;
/// More than any real model has.
const DIMENSIONS_MAX: usize = 16_384;

/// Embeds what the request's fields ask for.
pub(crate) fn answer(model: &str, asked: &Map<String, Value>) -> Value {
    let inputs = inputs(asked.get("input"));
    let dimensions = asked.get("dimensions").and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
    let dimensions = dimensions.unwrap_or(DIMENSIONS).min(DIMENSIONS_MAX);
    let as_base64 = asked.get("encoding_format").is_some_and(|format| format == "base64");
    let written = |numbers: &[f32]| {
        if as_base64 {
            json!(base64(&numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>()))
        } else {
            json!(numbers)
        }
    };
    let entry = |(index, text): (usize, &String)| json!({"object": "embedding", "index": index, "embedding": written(&vector(text, dimensions))});
    let data: Vec<Value> = inputs.iter().enumerate().map(entry).collect();
    let tokens: u64 = inputs.iter().map(|text| tokens_in(text)).sum();
    json!({"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
}

/// One text for each vector: a string, several, or token numbers.
fn inputs(input: Option<&Value>) -> Vec<String> {
    match input {
        Some(Value::Array(items)) if items.iter().all(Value::is_number) => {
            vec![Value::Array(items.clone()).to_string()]
        }
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect()
        }
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
    }
}

/// A vector of length one.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let number = |place: usize| {
        let mut hasher = DefaultHasher::new();
        (text, place).hash(&mut hasher);
        let [high, low, ..] = hasher.finish().to_be_bytes();
        f32::from(u16::from_be_bytes([high, low])) / f32::from(u16::MAX) - 0.5
    };
    let numbers: Vec<f32> = (0..dimensions).map(number).collect();
    let length = numbers.iter().map(|number| number * number).sum::<f32>().sqrt();
    numbers.iter().map(|number| number / length).collect()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |place: usize| u32::from(chunk.get(place).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_to_four_letters() {
        assert_eq!(
            ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
    }

    #[test]
    fn every_input_gets_a_vector_of_length_one() {
        let asked = json!({"input": ["a", "b", "a"], "dimensions": 3});
        let answer = answer("m", asked.as_object().unwrap());
        let vectors: Vec<Vec<f64>> = answer["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["embedding"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect())
            .collect();
        assert!(vectors[0] == vectors[2] && vectors[0] != vectors[1]);
        let length: f64 = vectors[0].iter().map(|number| number * number).sum();
        assert!(vectors[0].len() == 3 && (length - 1.0).abs() < 1e-6);
        assert_eq!(answer["usage"]["total_tokens"], 3);
    }
}
