//! The arguments of a call as Gemma 4 writes them: `{city:<|"|>Oslo<|"|>,days:3}`, which is nearly JSON.

use serde_json::{Map, Value};

/// What stands around a string.
const QUOTE: &str = "<|\"|>";
/// Deeper arguments are not taken for arguments.
const DEPTH_MAX: usize = 32;

/// Reads an object with its braces; nothing when it is none.
pub(super) fn read(text: &str) -> Option<Map<String, Value>> {
    let mut reader = Reader { rest: text.trim() };
    let object = reader.object(0)?;
    reader.rest.trim().is_empty().then_some(object)
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn object(&mut self, depth: usize) -> Option<Map<String, Value>> {
        self.take("{")?;
        let mut object = Map::new();
        while self.take("}").is_none() {
            let key = if self.is_quoted() { self.quoted()? } else { self.until(&[':'])?.trim().to_owned() };
            self.take(":")?;
            object.insert(key, self.value(depth)?);
            if self.take(",").is_none() && !self.rest.trim_start().starts_with('}') {
                return None;
            }
        }
        Some(object)
    }

    fn list(&mut self, depth: usize) -> Option<Vec<Value>> {
        self.take("[")?;
        let mut list = Vec::new();
        while self.take("]").is_none() {
            list.push(self.value(depth)?);
            if self.take(",").is_none() && !self.rest.trim_start().starts_with(']') {
                return None;
            }
        }
        Some(list)
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth >= DEPTH_MAX {
            return None;
        }
        if self.is_quoted() {
            return self.quoted().map(Value::String);
        }
        match self.rest.trim_start().as_bytes().first()? {
            b'{' => self.object(depth + 1).map(Value::Object),
            b'[' => self.list(depth + 1).map(Value::Array),
            _ => {
                let literal = self.until(&[',', '}', ']'])?.trim();
                // A word without quotes is still a word.
                Some(serde_json::from_str(literal).unwrap_or_else(|_| Value::String(literal.to_owned())))
            }
        }
    }

    fn is_quoted(&self) -> bool {
        let start = self.rest.trim_start();
        start.starts_with(QUOTE) || start.starts_with('"')
    }

    /// A string in the model's own quotes, or in those of JSON.
    fn quoted(&mut self) -> Option<String> {
        if self.take(QUOTE).is_some() {
            let (text, rest) = self.rest.split_once(QUOTE)?;
            self.rest = rest;
            return Some(text.to_owned());
        }
        let start = self.rest.trim_start();
        let mut strings = serde_json::Deserializer::from_str(start).into_iter::<String>();
        let text = strings.next()?.ok()?;
        self.rest = start.get(strings.byte_offset()..)?;
        Some(text)
    }

    fn take(&mut self, mark: &str) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(mark)?;
        Some(())
    }

    fn until(&mut self, ends: &[char]) -> Option<&'a str> {
        let (text, rest) = self.rest.split_at(self.rest.find(ends)?);
        self.rest = rest;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(text: &str) -> Option<Value> {
        read(text).map(Value::Object)
    }

    #[test]
    fn strings_numbers_lists_and_objects_are_read() {
        assert_eq!(of("{}"), Some(json!({})));
        assert_eq!(
            of(r#"{city:<|"|>São, {Paulo}<|"|>,days:3, exact : true ,none:null}"#),
            Some(json!({"city": "São, {Paulo}", "days": 3, "exact": true, "none": null}))
        );
        assert_eq!(
            of(r#"{list:[1,<|"|>b<|"|>,[]],inner:{<|"|>a b<|"|>:-1.5,"c":"d\n,"}}"#),
            Some(json!({"list": [1, "b", []], "inner": {"a b": -1.5, "c": "d\n,"}}))
        );
        assert_eq!(of("{unit:celsius}"), Some(json!({"unit": "celsius"})), "a word without quotes");
    }

    #[test]
    fn what_is_no_object_is_not_read() {
        for text in ["", "city", "{city}", "{city:", "{a:<|\"|>b}", "{a:1} and more", "[1]", "{a:[1}"] {
            assert_eq!(of(text), None, "{text}");
        }
        let deep = format!("{}1{}", "{a:".repeat(100), "}".repeat(100));
        assert_eq!(of(&deep), None);
    }
}
