//! One field of a JSON object set in its text, with every other byte as it was.

use serde_json::Value;
use tokenhub_domain::RawFields;

/// `body` with `value` as its field `name`. `None` when it is no object.
pub fn set_field(body: &str, name: &str, value: &Value) -> Option<String> {
    let fields = RawFields::read(body).ok()?;
    let written = value.to_string();
    if let Some(old) = fields.get(name) {
        let start = offset_in(body, old)?;
        return Some([&body[..start], &written, &body[start + old.len()..]].concat());
    }
    let end = body.rfind('}')?;
    let comma = if fields.is_empty() { "" } else { "," };
    let name = Value::from(name).to_string();
    Some([&body[..end], comma, &name, ":", &written, &body[end..]].concat())
}

/// Where `part`, a slice of `whole`, begins in it.
fn offset_in(whole: &str, part: &str) -> Option<usize> {
    let offset = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    (offset + part.len() <= whole.len()).then_some(offset)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_replaced_or_added_and_the_rest_keeps_its_bytes() {
        let set = |body: &str| set_field(body, "a", &json!([1])).unwrap();
        assert_eq!(set(r#"{ "x":1.50 ,"a" : {"b":2} , "y" : 1e3}"#), r#"{ "x":1.50 ,"a" : [1] , "y" : 1e3}"#);
        assert_eq!(set(r#"{"x":"}"} "#), r#"{"x":"}","a":[1]} "#);
        assert_eq!(set("{ }"), r#"{ "a":[1]}"#);
        assert_eq!(set(r#"{"a":1,"a":2}"#), r#"{"a":1,"a":[1]}"#, "parsers take the last one");
        assert_eq!(set_field("[]", "a", &json!(1)), None);
    }
}
