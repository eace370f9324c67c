//! The `capabilities` beside a strategy: what whoever answers must be able to do.

use serde_json::{Map, Value};
use tokenhub_domain::Capability;

use crate::error::Problem;

const CAPABILITIES: &str = "capabilities";
const RULE: &str = "must be a list of capabilities, or an object that says true or false of each";

/// What is asked for: `["vision"]` or `{"vision": true}`. One that does not exist is refused by its name.
pub(super) fn parse(body: &Map<String, Value>) -> Result<Vec<Capability>, Problem> {
    match body.get(CAPABILITIES) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(names)) => {
            let name = |value: &Value| named(value.as_str().ok_or_else(|| Problem::invalid(CAPABILITIES, RULE))?);
            names.iter().map(name).collect()
        }
        Some(Value::Object(said)) => {
            let mut needs = Vec::new();
            for (name, value) in said {
                let capability = named(name)?;
                match value {
                    Value::Bool(true) => needs.push(capability),
                    Value::Bool(false) | Value::Null => {}
                    Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                        return Err(Problem::invalid(format!("{CAPABILITIES}.{name}"), "must be true or false"));
                    }
                }
            }
            Ok(needs)
        }
        Some(_) => Err(Problem::invalid(CAPABILITIES, RULE)),
    }
}

fn named(name: &str) -> Result<Capability, Problem> {
    let found = Capability::ALL.into_iter().find(|capability| capability.as_str() == name);
    found.ok_or_else(|| {
        let known = Capability::ALL.map(Capability::as_str).join(", ");
        Problem::invalid(format!("{CAPABILITIES}.{name}"), format!("is none; there are {known}"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Shape;

    #[test]
    fn capabilities_are_a_list_or_a_table_and_each_wrong_one_is_named() {
        let of = |said: Value| parse(json!({ CAPABILITIES: said }).as_object().unwrap());
        assert_eq!(of(json!(["vision", "tools"])).unwrap(), [Capability::Vision, Capability::Tools]);
        assert_eq!(of(json!({"vision": true, "tools": false})).unwrap(), [Capability::Vision]);
        assert_eq!(of(Value::Null).unwrap(), []);
        for (said, param) in [
            (json!(["sight"]), "capabilities.sight"),
            (json!({"sight": true}), "capabilities.sight"),
            (json!({"vision": 1}), "capabilities.vision"),
            (json!([1]), "capabilities"),
            (json!("vision"), "capabilities"),
        ] {
            assert_eq!(of(said).unwrap_err().report(Shape::Problem).param.as_deref(), Some(param));
        }
    }
}
