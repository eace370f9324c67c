//! The fields of a JSON object with the bytes of each value: bodies of many megabytes are looked into without a tree.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Fields of a usual request.
const USUAL_FIELDS: usize = 16;

/// The fields of a JSON object, in their order, duplicates included.
pub struct RawFields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> RawFields<'a> {
    /// The fields of `body`; an error of the data kind means that it is JSON and no object.
    pub fn read(body: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(body)
    }

    /// The value of `name` as it is written; of several with this name the last, as parsers have it.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.get())
    }

    /// Every value of `name`.
    pub fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a str> + 's {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.get())
    }

    /// The object without the fields called `name`; the values of the others keep their bytes.
    pub fn without(&self, name: &str) -> String {
        let kept = self.0.iter().filter(|(known, _)| known != name);
        let written: Vec<String> =
            kept.map(|(known, value)| format!("{}:{}", serde_json::Value::from(&**known), value.get())).collect();
        format!("{{{}}}", written.join(","))
    }

    /// Each with its value, in their order.
    pub fn into_fields(self) -> impl Iterator<Item = (Cow<'a, str>, &'a RawValue)> {
        self.0.into_iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawFields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::with_capacity(USUAL_FIELDS);
                while let Some(RawText(name)) = map.next_key()? {
                    fields.push((name, map.next_value()?));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Collect).map(Self)
    }
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
pub struct RawText<'a>(#[serde(borrow)] pub Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_several_counts_and_values_keep_their_bytes() {
        let fields = RawFields::read(r#"{"a": 1.50 ,"\u0061":{"b" : [] },"c":null}"#).unwrap();
        assert_eq!(fields.get("a"), Some(r#"{"b" : [] }"#));
        assert_eq!(fields.all("a").collect::<Vec<_>>(), ["1.50", r#"{"b" : [] }"#]);
        assert_eq!((fields.get("c"), fields.get("d")), (Some("null"), None));
        assert_eq!(fields.without("c"), r#"{"a":1.50,"a":{"b" : [] }}"#);
        assert_eq!(fields.without("a"), r#"{"c":null}"#);
        let names: Vec<_> = fields.into_fields().map(|(name, _)| name.into_owned()).collect();
        assert_eq!(names, ["a", "a", "c"]);
        assert!(RawFields::read("[]").is_err_and(|error| error.is_data()));
        assert!(RawFields::read("{").is_err_and(|error| !error.is_data()));
    }
}
