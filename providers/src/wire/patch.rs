//! Replaces top-level fields of a JSON object and leaves every other byte as it came.

use tokenhub_domain::RawFields;

/// One field and its new value, as JSON text.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pub(crate) field: &'static str,
    pub(crate) json: String,
}

/// The body is no JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a JSON object")]
pub(crate) struct NotAnObject;

/// `body` with every edit made: a field that is there is replaced where it stands, wherever it stands more than once;
/// one that is not comes first.
pub(crate) fn patch(body: &str, fields: &RawFields<'_>, edits: &[Edit]) -> Result<String, NotAnObject> {
    let mut changes: Vec<(usize, usize, &str)> = Vec::with_capacity(edits.len());
    let mut missing = String::new();
    for edit in edits {
        let before = changes.len();
        for value in fields.all(edit.field) {
            let start = value.as_ptr() as usize - body.as_ptr() as usize;
            changes.push((start, start + value.len(), &edit.json));
        }
        if changes.len() == before {
            let comma = if fields.is_empty() && missing.is_empty() { "" } else { "," };
            // Before the first field; the comma belongs behind it.
            missing = format!("\"{}\":{}{comma}{missing}", edit.field, edit.json);
        }
    }
    changes.sort_unstable_by_key(|(start, _, _)| *start);
    let open = body.find('{').ok_or(NotAnObject)? + 1;
    let added: usize = changes.iter().map(|(_, _, json)| json.len()).sum();
    let mut patched = String::with_capacity(body.len() + missing.len() + added);
    patched.push_str(&body[..open]);
    patched.push_str(&missing);
    let mut copied = open;
    for (start, end, json) in changes {
        patched.push_str(&body[copied..start]);
        patched.push_str(json);
        copied = end;
    }
    patched.push_str(&body[copied..]);
    Ok(patched)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patched(body: &str, edits: &[(&'static str, &str)]) -> Result<String, NotAnObject> {
        let edits: Vec<Edit> = edits.iter().map(|(field, json)| Edit { field, json: (*json).to_owned() }).collect();
        patch(body, &RawFields::read(body).map_err(|_| NotAnObject)?, &edits)
    }

    #[test]
    fn a_field_is_replaced_where_it_stands_and_nothing_else_changes() {
        let body =
            "\n{ \"z\" : 1.50 , \"model\":\"a\" ,\t\"big\":123456789012345678901234567890, \"x\":{\"model\":1}}  ";
        assert_eq!(
            patched(body, &[("model", "\"b/c\"")]).unwrap(),
            "\n{ \"z\" : 1.50 , \"model\":\"b/c\" ,\t\"big\":123456789012345678901234567890, \"x\":{\"model\":1}}  "
        );
    }

    #[test]
    fn a_missing_field_comes_first_and_an_empty_object_gets_no_comma() {
        assert_eq!(patched(r#"{"a":1}"#, &[("model", "2")]).unwrap(), r#"{"model":2,"a":1}"#);
        assert_eq!(patched("{ }", &[("model", "2")]).unwrap(), r#"{"model":2 }"#);
        assert_eq!(patched("{}", &[("model", "2"), ("stream", "true")]).unwrap(), r#"{"stream":true,"model":2}"#);
    }

    #[test]
    fn every_field_of_the_name_is_replaced_escaped_spellings_included() {
        assert_eq!(
            patched(r#"{"model":1,"mod\u0065l":[2],"model":3}"#, &[("model", "0")]).unwrap(),
            r#"{"model":0,"mod\u0065l":0,"model":0}"#
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in ["", "[]", "1", "{\"a\":", "{} x"] {
            assert_eq!(patched(body, &[]), Err(NotAnObject), "{body}");
        }
    }

    proptest! {
        #[test]
        fn a_patched_object_parses_to_the_object_with_the_fields_set(
            fields in prop::collection::btree_map("[a-e]{1,2}", "[ -~]{0,6}", 0..6),
            model in "[ -~]{0,8}",
        ) {
            let body = serde_json::to_string(&fields).unwrap();
            let json = serde_json::to_string(&model).unwrap();
            let text = patched(&body, &[("aa", &json), ("model", &json)]).unwrap();
            let mut expected = fields;
            expected.insert("aa".to_owned(), model.clone());
            expected.insert("model".to_owned(), model);
            prop_assert_eq!(serde_json::from_str::<std::collections::BTreeMap<String, String>>(&text).unwrap(), expected);
        }
    }
}
