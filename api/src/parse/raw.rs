//! A request body seen field by field, without a tree of it: bodies of many megabytes go to providers as they came.
//!
//! Owns the reading of raw JSON. Must not know which fields a protocol has.

use std::borrow::Cow;

use tokenhub_domain::{RawFields, RawText};

use crate::error::Problem;

/// A longer string that reads like base64 is an attachment and no text.
const ATTACHMENT_BYTES_MIN: usize = 8 * 1024;
/// How much of a string is looked at for that.
const ATTACHMENT_SAMPLE_BYTES: usize = 512;
/// What an attachment counts in a text's bytes: 1,600 tokens, a large picture.
const ATTACHMENT_AS_TEXT_BYTES: u64 = 6_400;

/// The fields of a JSON object, in their order.
pub(crate) struct RawObject<'a>(RawFields<'a>);

/// A value that is there and not null.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a>(&'a str);

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// A number, true or false.
    Scalar,
}

impl<'a> RawObject<'a> {
    /// The fields of `body`; the refusal has line and column.
    pub(crate) fn read(body: &'a str) -> Result<Self, Problem> {
        RawFields::read(body).map(Self).map_err(|error| {
            // The syntax was not at fault, so it is the outermost value.
            Problem::ParseBody(if error.is_data() { "it must be an object".to_owned() } else { error.to_string() })
        })
    }

    /// The value of `name`. Of several with this name it is the last, as parsers have it; null counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<Raw<'a>> {
        self.0.get(name).filter(|value| *value != "null").map(Raw)
    }
}

impl<'a> Raw<'a> {
    /// What it is.
    pub(crate) fn kind(self) -> Kind {
        match self.0.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(_) | None => Kind::Scalar,
        }
    }

    /// The text of a string.
    pub(crate) fn text(self) -> Option<Cow<'a, str>> {
        serde_json::from_str::<RawText<'a>>(self.0).ok().map(|RawText(text)| text)
    }

    /// Yes or no.
    pub(crate) fn flag(self) -> Option<bool> {
        serde_json::from_str(self.0).ok()
    }

    /// A whole number above zero.
    pub(crate) fn positive(self) -> Option<u64> {
        serde_json::from_str(self.0).ok().filter(|number| *number > 0)
    }

    /// The texts of an array that holds nothing else.
    pub(crate) fn list(self) -> Option<Vec<String>> {
        serde_json::from_str(self.0).ok()
    }

    /// Whether an object in it has one of `kinds`, quotation marks included, as its `type`.
    pub(crate) fn has_type(self, kinds: &[&str]) -> bool {
        let is_type = |at: usize| {
            let before = self.0.get(..at).unwrap_or_default().trim_end().strip_suffix(':').unwrap_or_default();
            before.trim_end().ends_with("\"type\"")
        };
        kinds.iter().any(|kind| memchr::memmem::find_iter(self.0.as_bytes(), kind).any(is_type))
    }

    /// The fields of an object.
    pub(crate) fn object(self) -> Option<RawObject<'a>> {
        RawFields::read(self.0).ok().map(RawObject)
    }

    /// Its length as it is written.
    pub(crate) fn bytes(self) -> u64 {
        self.0.len() as u64
    }

    /// Elements and text, in one pass.
    pub(crate) fn scan(self) -> Scan {
        scan(self.0.as_bytes())
    }
}

/// What one pass over a value finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Elements of an array.
    pub(crate) elements: usize,
    /// The first element that is no object.
    pub(crate) misfit: Option<usize>,
    /// Bytes of the strings that are values and no keys, as they are written; an attachment counts a fixed number.
    pub(crate) text_bytes: u64,
}

impl Scan {
    fn element(&mut self, fits: Fit) {
        if fits == Fit::Other && self.misfit.is_none() {
            self.misfit = Some(self.elements);
        }
        self.elements += 1;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Object,
    Other,
}

/// `json` is valid: the whole body was parsed before.
fn scan(json: &[u8]) -> Scan {
    let mut found = Scan::default();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = json.get(at) {
        let is_element = depth == 1 && json.first() == Some(&b'[');
        at += 1;
        match byte {
            b'{' | b'[' => {
                if is_element {
                    found.element(if *byte == b'{' { Fit::Object } else { Fit::Other });
                }
                depth += 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                if is_element {
                    found.element(Fit::Other);
                }
                let end = string_end(json, at);
                let rest = json.get(end + 1..).unwrap_or_default();
                if !rest.trim_ascii_start().starts_with(b":") {
                    found.text_bytes += text_bytes(json.get(at..end).unwrap_or_default());
                }
                at = end + 1;
            }
            b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => {
                if is_element {
                    found.element(Fit::Other);
                }
                let rest = json.get(at..).unwrap_or_default();
                let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n');
                at += rest.iter().position(ends).unwrap_or(rest.len());
            }
        }
    }
    found
}

/// The place of the quotation mark that ends the string whose first byte is at `start`.
fn string_end(json: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    json.len()
}

fn text_bytes(text: &[u8]) -> u64 {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-_\\".contains(byte);
    let is_attachment = text.len() > ATTACHMENT_BYTES_MIN
        && (text.starts_with(b"data:") || text.iter().take(ATTACHMENT_SAMPLE_BYTES).all(is_base64));
    if is_attachment { ATTACHMENT_AS_TEXT_BYTES } else { text.len() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(json: &str) -> Scan {
        serde_json::from_str::<serde_json::Value>(json).unwrap();
        scan(json.as_bytes())
    }

    #[test]
    fn null_counts_as_absent_and_the_last_of_two_equal_names_counts() {
        let object = RawObject::read(r#" {"a":1, "b":null,"a" : [2] ,"\u0063":"x"} "#).ok().unwrap();
        assert_eq!(object.get("a").map(Raw::kind), Some(Kind::Array));
        assert!(object.get("b").is_none() && object.get("z").is_none());
        assert_eq!(object.get("c").and_then(Raw::text).as_deref(), Some("x"));
    }

    #[test]
    fn a_syntax_error_has_its_place_and_another_value_is_no_object() {
        let refusal = |body: &str| RawObject::read(body).err().unwrap().to_string();
        assert!(refusal("{\"a\":\n[1,}").ends_with("at line 2 column 4"), "{}", refusal("{\"a\":\n[1,}"));
        assert!(refusal("").contains("line 1 column 0"));
        for body in ["[]", "7", "\"x\"", "null"] {
            assert!(refusal(body).ends_with("it must be an object"), "{body}");
        }
    }

    #[test]
    fn elements_are_counted_and_the_first_that_is_no_object_is_found() {
        let of = |json: &str| (scanned(json).elements, scanned(json).misfit);
        assert_eq!(of("[]"), (0, None));
        assert_eq!(of(r#"[{"a":[1,2,{"b":"]}"}]} , {}]"#), (2, None));
        assert_eq!(of(r#"[{}, 17 ,"x"]"#), (3, Some(1)));
        assert_eq!(of("[{},{},[{}]]"), (3, Some(2)));
        assert_eq!(of(r#"["a\\\"]",{}]"#), (2, Some(0)));
        assert_eq!(of(r#"{"a":1,"b":"c"}"#), (0, None));
    }

    #[test]
    fn text_is_what_stands_in_values_and_not_in_keys() {
        assert_eq!(scanned(r#"[{"role" : "user","content":"1234567890"}]"#).text_bytes, 14);
        assert_eq!(scanned(r#""one text""#).text_bytes, 8);
        assert_eq!(scanned(r#"{"n":12.5,"t":true,"e":"a\"b"}"#).text_bytes, 4);
    }

    #[test]
    fn an_attachment_is_no_text_and_a_long_text_is() {
        let picture = "iVBORw0KGgo".repeat(100_000);
        assert_eq!(scanned(&format!(r#"{{"data":"{picture}"}}"#)).text_bytes, ATTACHMENT_AS_TEXT_BYTES);
        let url = format!(r#"{{"url":"data:image/png;base64,{picture}"}}"#);
        assert_eq!(scanned(&url).text_bytes, ATTACHMENT_AS_TEXT_BYTES);
        let prose = "word and ".repeat(10_000);
        assert_eq!(scanned(&format!(r#"{{"text":"{prose}"}}"#)).text_bytes, 90_000);
        let short = "iVBORw0KGgo";
        assert_eq!(scanned(&format!(r#"{{"data":"{short}"}}"#)).text_bytes, 11);
    }
}
