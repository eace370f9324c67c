//! The text of Gemma 4 where its server passes it on as it is: thoughts and calls stand between marks of their own.
//!
//! Reads it piece by piece, and gives the same for every way of cutting it. What only looks like a mark stays text.

use serde_json::Value;

use super::arguments;

const THOUGHT_OPEN: &str = "<|channel>thought";
const THOUGHT_CLOSE: &str = "<channel|>";
const CALL_OPEN: &str = "<|tool_call>";
const CALL_CLOSE: &str = "<tool_call|>";
const CALL_WORD: &str = "call:";

/// Something that the model said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Text(String),
    Thought(String),
    Call { name: String, arguments: String },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Text,
    /// Right behind the mark, whose line ends with it.
    ThoughtStart,
    Thought,
    Call,
}

/// One text in the making.
#[derive(Clone, Debug, Default)]
pub(super) struct Gemma4 {
    place: Place,
    /// Read and not yet said: the beginning of a mark perhaps, blanks before one perhaps, or a call.
    pending: String,
    has_marks: bool,
    /// Blanks between a mark and the words behind it are no part of the answer.
    is_after_mark: bool,
}

impl Gemma4 {
    /// The next piece, and what can be said for certain by now.
    pub(super) fn push(&mut self, piece: &str) -> Vec<Said> {
        self.pending.push_str(piece);
        let mut said = Vec::new();
        while self.advance(&mut said) {}
        said
    }

    /// What is left once nothing more comes.
    pub(super) fn finish(&mut self) -> Vec<Said> {
        let mut said = Vec::new();
        let rest = std::mem::take(&mut self.pending);
        match self.place {
            Place::Text if self.has_marks => self.say_text(rest.trim_end(), &mut said),
            Place::Text => self.say_text(&rest, &mut said),
            Place::ThoughtStart | Place::Thought => say_thought(&rest, &mut said),
            // It was cut off: nobody can call with half of it.
            Place::Call => self.say_text(&format!("{CALL_OPEN}{rest}"), &mut said),
        }
        self.place = Place::Text;
        said
    }

    /// Says what it can. True: a mark was passed, and there may be more.
    fn advance(&mut self, said: &mut Vec<Said>) -> bool {
        match self.place {
            Place::Text => self.advance_text(said),
            Place::ThoughtStart => {
                let Some(first) = self.pending.chars().next() else { return false };
                if first == '\n' {
                    self.pending.remove(0);
                }
                self.place = Place::Thought;
                true
            }
            Place::Thought => self.advance_thought(said),
            Place::Call => {
                let Some(at) = self.pending.find(CALL_CLOSE) else { return false };
                let call = self.take(at, CALL_CLOSE);
                match read_call(&call) {
                    Some(call) => said.push(call),
                    None => self.say_text(&format!("{CALL_OPEN}{call}{CALL_CLOSE}"), said),
                }
                self.enter(Place::Text)
            }
        }
    }

    fn advance_thought(&mut self, said: &mut Vec<Said>) -> bool {
        if let Some(at) = self.pending.find(THOUGHT_CLOSE) {
            say_thought(&self.take(at, THOUGHT_CLOSE), said);
            return self.enter(Place::Text);
        }
        let certain = self.pending.len() - held_bytes(&self.pending, &[THOUGHT_CLOSE]);
        say_thought(&self.take(certain, ""), said);
        false
    }

    fn advance_text(&mut self, said: &mut Vec<Said>) -> bool {
        let found = |mark: &'static str, place| self.pending.find(mark).map(|at| (at, mark, place));
        let marks = [found(THOUGHT_OPEN, Place::ThoughtStart), found(CALL_OPEN, Place::Call)];
        if let Some((at, mark, place)) = marks.into_iter().flatten().min_by_key(|(at, _, _)| *at) {
            let text = self.take(at, mark);
            self.say_text(text.trim_end(), said);
            return self.enter(place);
        }
        let certain = self.pending.len() - held_bytes(&self.pending, &[THOUGHT_OPEN, CALL_OPEN]);
        let certain = self.pending.get(..certain).map_or(0, |text| text.trim_end().len());
        let text = self.take(certain, "");
        self.say_text(&text, said);
        false
    }

    fn enter(&mut self, place: Place) -> bool {
        (self.place, self.has_marks, self.is_after_mark) = (place, true, true);
        true
    }

    /// The pending text up to `at`, which it loses together with the mark behind it.
    fn take(&mut self, at: usize, mark: &str) -> String {
        let rest = self.pending.split_off(at);
        let taken = std::mem::take(&mut self.pending);
        rest.strip_prefix(mark).unwrap_or(&rest).clone_into(&mut self.pending);
        taken
    }

    fn say_text(&mut self, text: &str, said: &mut Vec<Said>) {
        let text = if self.is_after_mark { text.trim_start() } else { text };
        if !text.is_empty() {
            self.is_after_mark = false;
            said.push(Said::Text(text.to_owned()));
        }
    }
}

fn say_thought(text: &str, said: &mut Vec<Said>) {
    if !text.is_empty() {
        said.push(Said::Thought(text.to_owned()));
    }
}

/// How much of the end of `text` may become one of `marks`.
fn held_bytes(text: &str, marks: &[&str]) -> usize {
    let held =
        |mark: &&str| (1..mark.len()).rev().find(|length| mark.get(..*length).is_some_and(|it| text.ends_with(it)));
    marks.iter().filter_map(held).max().unwrap_or(0)
}

fn read_call(text: &str) -> Option<Said> {
    let call = text.trim().strip_prefix(CALL_WORD)?;
    let (name, _) = call.split_once('{')?;
    let arguments = arguments::read(call.get(name.len()..)?)?;
    let name = name.trim();
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-.:".contains(c));
    is_name.then(|| Said::Call { name: name.to_owned(), arguments: Value::Object(arguments).to_string() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What was said, with neighbours of one kind joined.
    fn read(pieces: &[&str]) -> Vec<Said> {
        let mut reader = Gemma4::default();
        let mut said: Vec<Said> = pieces.iter().flat_map(|piece| reader.push(piece)).collect();
        said.extend(reader.finish());
        said.into_iter().fold(Vec::new(), |mut joined, next| {
            match (joined.last_mut(), &next) {
                (Some(Said::Text(last)), Said::Text(more)) | (Some(Said::Thought(last)), Said::Thought(more)) => {
                    last.push_str(more);
                }
                _ => joined.push(next),
            }
            joined
        })
    }

    fn text(text: &str) -> Said {
        Said::Text(text.to_owned())
    }

    fn thought(text: &str) -> Said {
        Said::Thought(text.to_owned())
    }

    fn call(name: &str, arguments: &str) -> Said {
        Said::Call { name: name.to_owned(), arguments: arguments.to_owned() }
    }

    const WHOLE: &str = "<|channel>thought\nThe user wants 天気 <b>.\n<channel|>\n\nI look. \n<|tool_call>call:get_weather\
        {city:<|\"|>Oslo<|\"|>,days:2}<tool_call|><|tool_call>call:now{}<tool_call|>\nDone. ";

    fn whole() -> Vec<Said> {
        vec![
            thought("The user wants 天気 <b>.\n"),
            text("I look."),
            call("get_weather", r#"{"city":"Oslo","days":2}"#),
            call("now", "{}"),
            text("Done."),
        ]
    }

    #[test]
    fn thoughts_and_calls_are_told_from_the_text_around_them() {
        assert_eq!(read(&[WHOLE]), whole());
    }

    #[test]
    fn a_text_without_marks_stays_as_it_is() {
        for plain in [" a <b> <|c|> \n", "<|channel>final", "x<|tool_cal", "<channel|><tool_call|>", ""] {
            let expected: Vec<Said> = if plain.is_empty() { Vec::new() } else { vec![text(plain)] };
            assert_eq!(read(&[plain]), expected, "{plain}");
        }
    }

    #[test]
    fn what_is_not_whole_or_no_call_is_not_called() {
        assert_eq!(read(&["a<|tool_call>call:f{x:1"]), [text("a<|tool_call>call:f{x:1")]);
        assert_eq!(read(&["<|tool_call>f{}<tool_call|>"]), [text("<|tool_call>f{}<tool_call|>")]);
        assert_eq!(read(&["<|tool_call>call:a b{}<tool_call|>"]), [text("<|tool_call>call:a b{}<tool_call|>")]);
        assert_eq!(read(&["<|channel>thought\nhm"]), [thought("hm")]);
    }

    #[test]
    fn text_is_said_as_soon_as_it_is_certain() {
        let mut reader = Gemma4::default();
        assert_eq!(reader.push("one two "), [text("one two")]);
        assert_eq!(reader.push("three <"), [text(" three")]);
        assert_eq!(reader.push("|tool"), []);
        assert_eq!(reader.push("box|>"), [text(" <|toolbox|>")]);
    }

    proptest! {
        #[test]
        fn every_way_of_cutting_gives_the_same(cuts in prop::collection::vec(0..WHOLE.len(), 0..12)) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|at| WHOLE.is_char_boundary(*at)).collect();
            cuts.extend([0, WHOLE.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|pair| &WHOLE[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&pieces), whole());
        }
    }
}
