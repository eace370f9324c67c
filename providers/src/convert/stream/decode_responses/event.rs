//! The events of a Responses stream, as far as they are read.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::text::Wire;

#[derive(Deserialize)]
pub(super) struct ResponsesEvent<'a> {
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) output_index: Option<usize>,
    #[serde(default)]
    pub(super) content_index: usize,
    #[serde(default)]
    pub(super) summary_index: usize,
    #[serde(borrow, default)]
    pub(super) delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) text: Option<Wire<'a>>,
    #[serde(borrow, default)]
    pub(super) refusal: Option<Wire<'a>>,
    #[serde(borrow, default)]
    pub(super) arguments: Option<Wire<'a>>,
    #[serde(default)]
    pub(super) annotation: Option<Value>,
    #[serde(borrow, default)]
    pub(super) item: Option<Item<'a>>,
    #[serde(borrow, default)]
    pub(super) response: Option<Whole<'a>>,
    #[serde(borrow, default)]
    pub(super) error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Item<'a> {
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) call_id: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(borrow, default)]
    pub(super) arguments: Option<Wire<'a>>,
    #[serde(borrow, default)]
    pub(super) input: Option<Wire<'a>>,
    #[serde(borrow, default)]
    pub(super) content: Option<Vec<Part<'a>>>,
    #[serde(borrow, default)]
    pub(super) summary: Option<Vec<Part<'a>>>,
    #[serde(default)]
    pub(super) encrypted_content: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Part<'a> {
    #[serde(borrow, default)]
    pub(super) text: Option<Wire<'a>>,
    #[serde(borrow, default)]
    pub(super) refusal: Option<Wire<'a>>,
    #[serde(default)]
    pub(super) annotations: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct Whole<'a> {
    #[serde(default)]
    pub(super) status: Option<String>,
    #[serde(default)]
    pub(super) incomplete_details: Option<Details>,
    #[serde(default)]
    pub(super) usage: Option<Value>,
    #[serde(borrow, default)]
    pub(super) output: Option<Vec<Item<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct Details {
    #[serde(default)]
    pub(super) reason: Option<String>,
}
