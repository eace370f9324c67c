//! Reading JSON with its path, so that a wrong field is named, and the list of what was lost on the way.
//!
//! Knows no protocol. `null` counts as absent everywhere, as clients send it for unset options.

use serde_json::{Map, Value};

use super::{ConvertError, Loss};

/// A value and where it stands in the source body.
#[derive(Clone, Debug)]
pub(crate) struct At<'a> {
    pub(crate) value: &'a Value,
    pub(crate) path: String,
}

impl<'a> At<'a> {
    /// The field `name` of a body.
    pub(crate) fn field_of(body: &'a Map<String, Value>, name: &str) -> Option<Self> {
        let value = body.get(name).filter(|value| !value.is_null())?;
        Some(Self { value, path: name.to_owned() })
    }

    /// A field of this object; `None` when this is no object.
    pub(crate) fn get(&self, name: &str) -> Option<Self> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        Some(Self { value, path: self.path_of(name) })
    }

    /// As [`At::get`] for a field that must be there.
    pub(crate) fn need(&self, name: &str) -> Result<Self, ConvertError> {
        self.get(name).ok_or_else(|| invalid(self.path_of(name), "is required"))
    }

    /// The path of a field of this object.
    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub(crate) fn object(&self) -> Result<&'a Map<String, Value>, ConvertError> {
        self.value.as_object().ok_or_else(|| self.invalid("must be an object"))
    }

    pub(crate) fn items(&self) -> Result<Vec<Self>, ConvertError> {
        let items = self.value.as_array().ok_or_else(|| self.invalid("must be a list"))?;
        let at = |(index, value)| Self { value, path: format!("{}[{index}]", self.path) };
        Ok(items.iter().enumerate().map(at).collect())
    }

    pub(crate) fn text(&self) -> Result<&'a str, ConvertError> {
        self.value.as_str().ok_or_else(|| self.invalid("must be a string"))
    }

    pub(crate) fn flag(&self) -> Result<bool, ConvertError> {
        self.value.as_bool().ok_or_else(|| self.invalid("must be true or false"))
    }

    pub(crate) fn whole_number(&self) -> Result<u64, ConvertError> {
        self.value.as_u64().ok_or_else(|| self.invalid("must be a whole number of 0 or more"))
    }

    pub(crate) fn number(&self) -> Result<f64, ConvertError> {
        self.value.as_f64().ok_or_else(|| self.invalid("must be a number"))
    }

    /// A string field, when it is there.
    pub(crate) fn text_field(&self, name: &str) -> Result<Option<&'a str>, ConvertError> {
        self.get(name).map(|field| field.text()).transpose()
    }

    /// A string field that must be there.
    pub(crate) fn need_text(&self, name: &str) -> Result<&'a str, ConvertError> {
        self.need(name)?.text()
    }

    /// The `type` of this object; an empty text when it has none.
    pub(crate) fn kind(&self) -> &'a str {
        self.value.get("type").and_then(Value::as_str).unwrap_or("")
    }

    pub(crate) fn invalid(&self, reason: impl Into<String>) -> ConvertError {
        invalid(self.path.clone(), reason)
    }
}

/// A refusal of the field at `param`.
pub(crate) fn invalid(param: impl Into<String>, reason: impl Into<String>) -> ConvertError {
    ConvertError::Invalid { param: param.into(), reason: reason.into() }
}

/// What was lost, in the order in which it was met.
#[derive(Debug, Default)]
pub(crate) struct Losses(pub(crate) Vec<Loss>);

impl Losses {
    pub(crate) fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Loss { field: field.into(), reason: reason.into() });
    }

    /// Records the fields of `object` that are not in `known`.
    pub(crate) fn add_unknown(&mut self, object: &At<'_>, known: &[&str]) {
        if let Some(fields) = object.value.as_object() {
            self.add_unknown_of(fields, &object.path, known);
        }
    }

    /// As [`Losses::add_unknown`] for the fields of the object at `path`.
    pub(crate) fn add_unknown_of(&mut self, fields: &Map<String, Value>, path: &str, known: &[&str]) {
        for (name, value) in fields {
            if !value.is_null() && !known.contains(&name.as_str()) {
                let field = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                self.add(field, "not known to the target's protocol");
            }
        }
    }
}
