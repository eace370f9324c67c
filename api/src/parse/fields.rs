//! Typed access to the fields of a JSON object, with refusals that name the field as the caller wrote it.

use serde_json::{Map, Value};

use crate::error::Problem;

/// An object inside a request, and the path that leads to it.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    object: Option<&'a Map<String, Value>>,
    path: &'static str,
}

impl<'a> Fields<'a> {
    /// The object `name` of `parent`; an absent one reads as empty.
    pub(crate) fn of(parent: &'a Map<String, Value>, name: &'static str) -> Result<Self, Problem> {
        Self::within(parent.get(name), name)
    }

    /// An object deeper inside, at `path`; an absent one reads as empty.
    pub(crate) fn within(value: Option<&'a Value>, path: &'static str) -> Result<Self, Problem> {
        match value {
            None | Some(Value::Null) => Ok(Self { object: None, path }),
            Some(Value::Object(object)) => Ok(Self { object: Some(object), path }),
            Some(_) => Err(Problem::invalid(path, "must be an object")),
        }
    }

    /// The body itself.
    pub(crate) fn top(body: &'a Map<String, Value>) -> Self {
        Self { object: Some(body), path: "" }
    }

    /// The field's path, as errors name it.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The raw value; null counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.and_then(|object| object.get(name)).filter(|value| !value.is_null())
    }

    /// Refuses fields that are not in `known`.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        let unknown = self.object.and_then(|object| object.keys().find(|name| !known.contains(&name.as_str())));
        unknown.map_or(Ok(()), |name| Err(Problem::UnknownField { param: self.path(name) }))
    }

    /// A text; absent reads as empty.
    pub(crate) fn text(&self, name: &str) -> Result<&'a str, Problem> {
        match self.get(name) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text.trim()),
            Some(_) => Err(Problem::invalid(self.path(name), "must be a string")),
        }
    }

    /// A whole number from 0 to `max`.
    pub(crate) fn whole(&self, name: &str, max: u64) -> Result<Option<u64>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_u64() {
            Some(number) if number <= max => Ok(Some(number)),
            Some(_) | None => Err(Problem::invalid(self.path(name), format!("must be a whole number from 0 to {max}"))),
        }
    }

    /// A whole number from 0 to `max` that fits 32 bits; absent reads as 0.
    pub(crate) fn small(&self, name: &str, max: u32) -> Result<u32, Problem> {
        let number = self.whole(name, u64::from(max))?.unwrap_or(0);
        Ok(u32::try_from(number).unwrap_or(max))
    }

    /// A number from 0 to `max`.
    pub(crate) fn number(&self, name: &str, max: f64) -> Result<Option<f64>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if (0.0..=max).contains(&number) => Ok(Some(number)),
            Some(_) | None => Err(Problem::invalid(self.path(name), format!("must be a number from 0 to {max}"))),
        }
    }

    /// A yes or no; absent reads as no.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(Problem::invalid(self.path(name), "must be true or false")),
        }
    }
}
