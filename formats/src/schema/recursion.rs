//! Schemas that refer to themselves: which of them take no more time than the text is long.
//!
//! A tree is fine, since every level of the schema goes one level down the text. Where two ways lead into a cycle at the
//! same place of the text, each level doubles the work of the one below, and a hundred brackets never end.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{SchemaError, references::References};

/// Most references and branches, one in the other, that a schema which refers to itself applies to one value: the text may
/// be a hundred levels deep, and each step of each level takes a piece of the stack.
const STEPS_HERE_MAX: usize = 6;

/// Which values of an instance a part of a schema is applied to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The same value.
    Here,
    /// The value of one property.
    Property,
    /// The values of all properties whose name matches, which others may apply to as well.
    Pattern,
    /// What no other keyword applies to: the rest of the properties, their names.
    Rest,
    /// Items that no other keyword but `contains` applies to.
    Item,
    /// All items, whatever else applies to them.
    Contains,
}

#[derive(Default)]
struct Part {
    edges: Vec<(Place, usize)>,
    /// Whether it asks what other keywords applied to, for which the validator applies them once more.
    asks_again: bool,
}

/// Refuses a schema whose check may take exponential time.
pub(super) fn check(references: &References<'_>) -> Result<(), SchemaError> {
    let parts = parts_of(references)?;
    let targets = |part: &Part, only_here: bool| -> Vec<usize> {
        let edges = part.edges.iter().filter(|(place, _)| !only_here || *place == Place::Here);
        edges.map(|(_, to)| *to).collect()
    };
    let here: Vec<Vec<usize>> = parts.iter().map(|part| targets(part, true)).collect();
    let (into_here_cycle, steps_here) = walks(&here);
    if into_here_cycle.contains(&true) {
        return Err(SchemaError("refers to itself without end at the same place of the text".to_owned()));
    }
    let forward: Vec<Vec<usize>> = parts.iter().map(|part| targets(part, false)).collect();
    let (into_cycle, _) = walks(&forward);
    if steps_here > STEPS_HERE_MAX && into_cycle.contains(&true) {
        return Err(SchemaError(format!(
            "is too large to check: it refers to itself and takes more than {STEPS_HERE_MAX} steps at one place of the text"
        )));
    }
    let (out_of_cycle, _) = walks(&reversed(&forward));
    let forks = parts.iter().enumerate().any(|(index, part)| out_of_cycle[index] && forks(part, &into_cycle));
    if forks {
        return Err(SchemaError(
            "is too large to check: it refers to itself along more than one branch at the same place of the text"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Whether more than one way leads from `part` into a cycle at the same place.
fn forks(part: &Part, into_cycle: &[bool]) -> bool {
    let ways: Vec<Place> = part.edges.iter().filter(|(_, to)| into_cycle[*to]).map(|(place, _)| *place).collect();
    let count = |place: Place| ways.iter().filter(|way| **way == place).count();
    let (here, pattern, contains) = (count(Place::Here), count(Place::Pattern), count(Place::Contains));
    (here > 0 && ways.len() > 1)
        || pattern > 1
        || (pattern > 0 && count(Place::Property) > 0)
        || (contains > 0 && count(Place::Item) > 0)
        || (part.asks_again && here + contains > 0)
}

/// Every schema that can be reached from the root, and what it applies where.
fn parts_of(references: &References<'_>) -> Result<Vec<Part>, SchemaError> {
    let mut parts = vec![Part::default()];
    let mut known = HashMap::from([(std::ptr::from_ref(references.root()), 0)]);
    let mut open = vec![(0, references.root())];
    while let Some((index, value)) = open.pop() {
        let Some(fields) = value.as_object() else { continue };
        let mut applied = applied_by(fields);
        applied.extend(references.targets_of(fields)?.into_iter().map(|target| (Place::Here, target)));
        for (place, target) in applied {
            let to = *known.entry(std::ptr::from_ref(target)).or_insert_with(|| {
                parts.push(Part::default());
                open.push((parts.len() - 1, target));
                parts.len() - 1
            });
            parts[index].edges.push((place, to));
        }
        parts[index].asks_again =
            fields.contains_key("unevaluatedProperties") || fields.contains_key("unevaluatedItems");
    }
    Ok(parts)
}

fn applied_by(fields: &Map<String, Value>) -> Vec<(Place, &Value)> {
    let mut applied = Vec::new();
    for (name, field) in fields {
        let place = match name.as_str() {
            "allOf" | "anyOf" | "oneOf" | "not" | "if" | "then" | "else" | "dependentSchemas" | "dependencies" => {
                Place::Here
            }
            "properties" => Place::Property,
            "patternProperties" => Place::Pattern,
            "additionalProperties" | "unevaluatedProperties" | "propertyNames" => Place::Rest,
            "items" | "prefixItems" | "additionalItems" | "unevaluatedItems" => Place::Item,
            "contains" => Place::Contains,
            _ => continue,
        };
        if let Some(named) = field.as_object().filter(|_| is_map(name)) {
            applied.extend(named.values().map(|part| (place, part)));
        } else if let Some(listed) = field.as_array() {
            applied.extend(listed.iter().map(|part| (place, part)));
        } else {
            applied.push((place, field));
        }
    }
    applied
}

/// Whether the keyword `name` holds schemas by name.
fn is_map(name: &str) -> bool {
    matches!(name, "properties" | "patternProperties" | "dependentSchemas" | "dependencies")
}

/// From which points one can go on for ever, and the most steps from any other.
fn walks(successors: &[Vec<usize>]) -> (Vec<bool>, usize) {
    let predecessors = reversed(successors);
    let mut ways: Vec<usize> = successors.iter().map(Vec::len).collect();
    let mut ended: Vec<usize> = (0..ways.len()).filter(|point| ways[*point] == 0).collect();
    let mut steps = vec![0; ways.len()];
    while let Some(point) = ended.pop() {
        for before in &predecessors[point] {
            steps[*before] = steps[*before].max(steps[point] + 1);
            ways[*before] -= 1;
            if ways[*before] == 0 {
                ended.push(*before);
            }
        }
    }
    let longest = steps.into_iter().max().unwrap_or_default();
    (ways.into_iter().map(|left| left > 0).collect(), longest)
}

fn reversed(successors: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut predecessors = vec![Vec::new(); successors.len()];
    for (point, after) in successors.iter().enumerate() {
        for next in after {
            predecessors[*next].push(point);
        }
    }
    predecessors
}
