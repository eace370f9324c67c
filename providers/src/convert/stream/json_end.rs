//! Whether the pieces of a JSON object add up to a whole one.

/// Follows brackets and strings, and nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct JsonEnd {
    depth: usize,
    place: Place,
    is_complete: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Outside,
    String,
    Escape,
}

impl JsonEnd {
    pub(crate) fn add(&mut self, text: &str) {
        for byte in text.bytes() {
            self.place = match (self.place, byte) {
                (Place::Escape, _) | (Place::Outside, b'"') => Place::String,
                (Place::String, b'\\') => Place::Escape,
                (Place::String, b'"') => Place::Outside,
                (place, _) => place,
            };
            match (self.place, byte) {
                (Place::Outside, b'{' | b'[') => self.depth += 1,
                (Place::Outside, b'}' | b']') => {
                    self.depth = self.depth.saturating_sub(1);
                    self.is_complete |= self.depth == 0;
                }
                (Place::Outside | Place::String | Place::Escape, _) => {}
            }
        }
    }

    /// An object or a list has ended.
    pub(crate) fn is_complete(self) -> bool {
        self.is_complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_complete_with_its_last_bracket_and_not_before() {
        for object in ["{}", r#"{"a":{"b":["}]","\"}",{}]}}"#, r#"{"\\":"\\"}"#, " {\"é😀\":1}"] {
            let mut end = JsonEnd::default();
            for (position, character) in object.char_indices() {
                assert!(!end.is_complete(), "{object} at {position}");
                end.add(character.encode_utf8(&mut [0; 4]));
            }
            assert!(end.is_complete(), "{object}");
        }
    }
}
