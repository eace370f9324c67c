//! How large a schema is once its references are followed: a few lines can stand for a check that never ends.

use serde_json::Value;

use super::references::{References, is_reference};

/// Most values of a schema, references followed; a check takes at least as many steps for one object.
const VALUES_MAX: usize = 20_000;
/// Longest chain of references, each in what the one before leads to.
const CHAIN_MAX: usize = 64;
/// Deepest value, references followed: whoever walks a schema takes a piece of the stack for each level.
const DEPTH_MAX: usize = 256;
/// Most regular expressions: each is compiled.
pub(super) const PATTERNS_MAX: usize = 64;

/// Whether a schema is small enough to be checked against.
pub(super) fn is_small(references: &References<'_>) -> bool {
    let mut count = Count { references, open: Vec::new(), depth: 0, values: 0 };
    count.add(references.root())
}

/// Whether the schema has so many regular expressions that they are refused.
pub(super) fn has_too_many_patterns(value: &Value) -> bool {
    patterns(value) > PATTERNS_MAX
}

fn patterns(value: &Value) -> usize {
    match value {
        Value::Object(fields) => {
            let own = fields.iter().map(|(name, field)| match (name.as_str(), field) {
                ("pattern", Value::String(_)) => 1,
                ("patternProperties", Value::Object(named)) => named.len(),
                _ => 0,
            });
            own.sum::<usize>() + fields.values().map(patterns).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(patterns).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

struct Count<'a> {
    references: &'a References<'a>,
    /// The references that are being followed: one that leads back to itself goes with the instance, not for ever.
    open: Vec<&'a str>,
    depth: usize,
    values: usize,
}

impl<'a> Count<'a> {
    /// Counts `value`; `false` when it is too much.
    fn add(&mut self, value: &'a Value) -> bool {
        self.values += 1;
        if self.values > VALUES_MAX || self.depth >= DEPTH_MAX {
            return false;
        }
        self.depth += 1;
        let is_small = match value {
            Value::Object(fields) => fields.iter().all(|(name, field)| match field.as_str() {
                Some(reference) if is_reference(name) => self.follow(reference),
                Some(_) | None => self.add(field),
            }),
            Value::Array(items) => items.iter().all(|item| self.add(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        };
        self.depth -= 1;
        is_small
    }

    fn follow(&mut self, reference: &'a str) -> bool {
        if self.open.contains(&reference) {
            return true;
        }
        if self.open.len() >= CHAIN_MAX {
            return false;
        }
        self.open.push(reference);
        let is_small = self.references.targets(reference).into_iter().all(|target| self.add(target));
        self.open.pop();
        is_small
    }
}
