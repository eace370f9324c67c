//! What one event is to the reader, whatever its protocol.
//!
//! Pure. Borrows from the event's bytes and builds no tree: on the fast path this runs for every token.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tokenhub_domain::Dialect;

use super::{chat, messages, responses};
use crate::call::{EventKind, StreamEvent};
use crate::sse::Event;

/// What was seen in an event.
#[derive(Debug)]
pub(super) enum Sight<'a> {
    Event {
        kind: EventKind,
        usage: Option<&'a RawValue>,
        /// In the provider's words.
        finish_reason: Option<Cow<'a, str>>,
    },
    /// An error in place of an event: the body to classify.
    Failure(Cow<'a, [u8]>),
    /// Not of this protocol, and without a meaning.
    Skipped,
}

impl<'a> Sight<'a> {
    pub(super) fn plain(kind: EventKind) -> Self {
        Self::Event { kind, usage: None, finish_reason: None }
    }

    fn of(dialect: Dialect, event: &'a Event) -> Result<Self, serde_json::Error> {
        match dialect {
            Dialect::Chat => chat::look(&event.data),
            Dialect::Messages => messages::look(&event.name, &event.data),
            Dialect::Responses => responses::look(&event.name, &event.data),
        }
    }
}

/// What `event` is; nothing when it is not JSON.
pub(super) fn look(dialect: Dialect, event: &Event) -> Option<Sight<'_>> {
    if event.data.trim_ascii() == b"[DONE]" {
        // Some gateways end every protocol with Chat's mark.
        return Some(match dialect {
            Dialect::Chat => Sight::plain(EventKind::Done),
            Dialect::Messages | Dialect::Responses => Sight::Skipped,
        });
    }
    let sight = match Sight::of(dialect, event) {
        Ok(sight) => sight,
        // JSON of an unknown form is the client's to read.
        Err(_) if serde_json::from_slice::<IgnoredAny>(&event.data).is_ok() => Sight::plain(EventKind::Preamble),
        Err(_) => return None,
    };
    Some(match sight {
        Sight::Event { .. } | Sight::Skipped if event.name.as_ref() == b"error" => {
            Sight::Failure(Cow::Borrowed(&event.data))
        }
        Sight::Event { .. } | Sight::Failure(_) | Sight::Skipped => sight,
    })
}

/// Whether an event says only that the connection lives.
pub(super) fn is_keep_alive(event: &StreamEvent) -> bool {
    const NAMES: [&str; 2] = ["ping", "keepalive"];
    /// Whatever says more is longer.
    const BYTES_MAX: usize = 128;
    if event.kind != EventKind::Preamble || event.raw.len() > BYTES_MAX {
        return false;
    }
    let told = serde_json::from_slice::<Kind<'_>>(&event.raw).ok().and_then(|kind| kind.kind);
    NAMES.contains(&kind_name(told.as_ref(), &event.name))
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
}

/// The type of an event: of its data, or of the line above it.
pub(super) fn kind_name<'a>(told: Option<&'a Text<'a>>, name: &'a [u8]) -> &'a str {
    told.map_or_else(|| std::str::from_utf8(name).unwrap_or_default(), |told| told.0.as_ref())
}

/// A string, borrowed where it has no escapes.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Whether a value shows something. Its text is not decoded: half of a surrogate pair is legal in a piece of a stream.
pub(super) fn shows(value: &RawValue) -> bool {
    !matches!(value.get(), "null" | "\"\"" | "[]" | "{}")
}

/// The fields of a `delta` or a block, as far as the reader is concerned.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    /// A field other than role and type shows something.
    pub(super) shows: bool,
    pub(super) kind: Option<Cow<'a, str>>,
    pub(super) stop_reason: Option<Cow<'a, str>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object or null")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Fields::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        while let Some(Text(field)) = map.next_key::<Text<'de>>()? {
            match field.as_ref() {
                "role" => drop(map.next_value::<IgnoredAny>()?),
                "type" => fields.kind = map.next_value::<Option<Text<'de>>>()?.map(|text| text.0),
                "stop_reason" => fields.stop_reason = map.next_value::<Option<Text<'de>>>()?.map(|text| text.0),
                _ => fields.shows |= shows(map.next_value::<&'de RawValue>()?),
            }
        }
        Ok(fields)
    }
}

/// The choices of a Chat chunk, folded into one look.
#[derive(Debug, Default)]
pub(super) struct Choices<'a> {
    pub(super) count: usize,
    pub(super) shows: bool,
    pub(super) finish_reason: Option<Cow<'a, str>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Choices<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ChoicesVisitor)
    }
}

struct ChoicesVisitor;

impl<'de> Visitor<'de> for ChoicesVisitor {
    type Value = Choices<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of choices")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut choices = Choices::default();
        while let Some(choice) = list.next_element::<Choice<'de>>()? {
            choices.count += 1;
            choices.shows |= choice.delta.is_some_and(|delta| delta.shows);
            // Some servers send an empty reason with every chunk.
            let reason = choice.finish_reason.map(|reason| reason.0).filter(|reason| !reason.is_empty());
            choices.finish_reason = choices.finish_reason.or(reason);
        }
        Ok(choices)
    }
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<Fields<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
}
