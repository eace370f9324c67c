//! How large a schema is once its references are followed: a few lines can stand for a check that never ends.

use serde_json::Value;

/// Most values of a schema, references followed; a check takes at least as many steps for one object.
const VALUES_MAX: usize = 20_000;
/// Most references that are no JSON pointers, and so cannot be followed here.
const OTHER_REFERENCES_MAX: usize = 16;

/// Whether `schema` is small enough to be checked against.
pub(super) fn is_small(schema: &Value) -> bool {
    let mut count = Count { root: schema, open: Vec::new(), values: 0, other_references: 0 };
    count.add(schema)
}

struct Count<'a> {
    root: &'a Value,
    /// The references that are being followed: one that leads back to itself goes with the instance, not for ever.
    open: Vec<&'a str>,
    values: usize,
    other_references: usize,
}

impl<'a> Count<'a> {
    /// Counts `value`; `false` when it is too much.
    fn add(&mut self, value: &'a Value) -> bool {
        self.values += 1;
        if self.values > VALUES_MAX {
            return false;
        }
        match value {
            Value::Object(fields) => fields.iter().all(|(name, field)| match (name.as_str(), field) {
                ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(reference)) => self.follow(reference),
                _ => self.add(field),
            }),
            Value::Array(items) => items.iter().all(|item| self.add(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        }
    }

    fn follow(&mut self, reference: &'a str) -> bool {
        if self.open.contains(&reference) {
            return true;
        }
        let Some(target) = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)) else {
            self.other_references += 1;
            return self.other_references <= OTHER_REFERENCES_MAX;
        };
        self.open.push(reference);
        let is_small = self.add(target);
        self.open.pop();
        is_small
    }
}
