//! Markdown as plain text: marks go, words and signs stay.
//!
//! A mark is one only where Markdown reads it so: `2 * 3` keeps its sign and `snake_case` its underscore. Code keeps every
//! character.

/// `text` without the marks of Markdown.
pub(crate) fn plain_text(text: &str) -> String {
    let mut lines = Vec::new();
    let mut in_code = false;
    for line in text.trim().lines() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("```") || trimmed.starts_with("~~~") {
            in_code = !in_code;
            continue;
        }
        lines.push(if in_code { line.to_owned() } else { plain_line(line) });
    }
    lines.join("\n")
}

fn plain_line(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let (space, rest) = line.split_at(indent);
    let hashes = rest.bytes().take_while(|byte| *byte == b'#').count();
    let rest = match rest[hashes..].strip_prefix(' ') {
        Some(title) if (1..=6).contains(&hashes) => title.trim_end_matches([' ', '#']),
        Some(_) | None => rest,
    };
    let rest = rest.strip_prefix("> ").unwrap_or(rest);
    // The mark of a list is no emphasis.
    let (bullet, rest) = match rest.strip_prefix("* ") {
        Some(item) => ("- ", item),
        None => ("", rest),
    };
    let mut plain = format!("{space}{bullet}");
    inline(rest, &mut plain);
    plain
}

/// Writes `text` without code marks, emphasis and the addresses of links.
fn inline(text: &str, plain: &mut String) {
    let mut marks = Marks { text, unclosed: [false; EMPHASIS.len()], ticks_max: TICKS_MAX, has_addresses: true };
    let mut at = 0;
    while let Some(character) = text[at..].chars().next() {
        let ticks = text[at..].bytes().take_while(|byte| *byte == b'`').count();
        if ticks > 0 {
            let (inside, used) = marks.code(at, ticks).unwrap_or((&text[at..at + ticks], ticks));
            plain.push_str(inside);
            at += used;
        } else if let Some((inside, used)) = marks.emphasis(at).or_else(|| marks.link(at)) {
            inline(inside, plain);
            at += used;
        } else {
            plain.push(character);
            at += character.len_utf8();
        }
    }
}

/// The marks of emphasis, the longer ones first.
const EMPHASIS: [&str; 6] = ["***", "**", "__", "~~", "*", "_"];
/// Longest mark of a code span.
const TICKS_MAX: usize = 16;

/// The marks of a text, and which of them are known to end nowhere in the rest of it: a text may hold a million of those,
/// and is not searched to its end for each.
struct Marks<'a> {
    text: &'a str,
    unclosed: [bool; EMPHASIS.len()],
    ticks_max: usize,
    has_addresses: bool,
}

impl<'a> Marks<'a> {
    /// The inside of a code span that begins with so many ticks, and how long the span is.
    fn code(&mut self, at: usize, ticks: usize) -> Option<(&'a str, usize)> {
        if ticks > self.ticks_max {
            return None;
        }
        let (mark, rest) = self.text[at..].split_at(ticks);
        let Some(end) = rest.find(mark) else {
            self.ticks_max = ticks - 1;
            return None;
        };
        Some((rest[..end].trim(), ticks + end + ticks))
    }

    /// The same for emphasis: a mark that touches its word on the inside, and for underscores nothing on the outside.
    fn emphasis(&mut self, at: usize) -> Option<(&'a str, usize)> {
        let rest = &self.text[at..];
        let kind = EMPHASIS.iter().position(|mark| rest.starts_with(mark))?;
        let mark = EMPHASIS[kind];
        let inside = &rest[mark.len()..];
        let is_word = |character: char| character.is_alphanumeric();
        if self.unclosed[kind]
            || inside.starts_with(char::is_whitespace)
            || (mark.starts_with('_') && self.text[..at].ends_with(is_word))
            || inside.starts_with(mark)
        {
            return None;
        }
        let end = inside.match_indices(mark).map(|(end, _)| end).find(|end| {
            let (before, after) = (&inside[..*end], &inside[end + mark.len()..]);
            let touches_word = mark.starts_with('_') && after.starts_with(is_word);
            let is_longer_mark = mark.len() == 1 && after.starts_with(mark);
            !before.is_empty() && !before.ends_with(char::is_whitespace) && !touches_word && !is_longer_mark
        });
        self.unclosed[kind] = end.is_none();
        end.map(|end| (&inside[..end], mark.len() + end + mark.len()))
    }

    /// The same for a link or a picture: its words.
    fn link(&mut self, at: usize) -> Option<(&'a str, usize)> {
        let rest = &self.text[at..];
        let start = if rest.starts_with("![") { 2 } else { usize::from(rest.starts_with('[')) };
        if start == 0 || !self.has_addresses {
            return None;
        }
        let inside = &rest[start..];
        let words = inside.find(['[', ']', '\n']).filter(|end| inside[*end..].starts_with("]("))?;
        let address = start + words + 2;
        let end = rest[address..].find(')');
        self.has_addresses = end.is_some();
        Some((&inside[..words], address + end? + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_go_and_signs_stay() {
        for (markdown, text) in [
            ("# Title #\n\nA **bold** and *soft* word.", "Title\n\nA bold and soft word."),
            ("2 * 3 * 4 = 24", "2 * 3 * 4 = 24"),
            ("2*3 = 6", "2*3 = 6"),
            ("snake_case_name and __init__", "snake_case_name and init"),
            ("Use `a * b` and ``c`d``.", "Use a * b and c`d."),
            ("* one\n* **two**\n  - three", "- one\n- two\n  - three"),
            ("```rust\nlet x = a * b; // # no\n```\nend", "let x = a * b; // # no\nend"),
            ("see [the page](https://page.example) and ![a picture](x.png)", "see the page and a picture"),
            ("***all*** of _it_ ~~gone~~", "all of it gone"),
            ("#hashtag costs 5$", "#hashtag costs 5$"),
            ("> quoted", "quoted"),
            ("**never closed", "**never closed"),
            ("ünïcödé **wörd**", "ünïcödé wörd"),
        ] {
            assert_eq!(plain_text(markdown), text, "{markdown:?}");
        }
    }

    #[test]
    fn a_million_marks_that_end_nowhere_are_read_once() {
        for unit in ["*a ", "**a ", "_a ", "~~a ", "***a **b *c ", "[", "![", "[a](b ", "[a]", "[ *a ", "`` ` a"] {
            let text = format!("x{}", unit.repeat(1_000_000 / unit.len()));
            assert!(plain_text(&text).len() > 100_000, "{unit:?}");
        }
        let ticks = "`".repeat(1_000_000);
        assert_eq!(plain_text(&format!("x{ticks}")), format!("x{ticks}"));
        let fewer: Vec<String> = (1..1_400).rev().map(|length| "`".repeat(length)).collect();
        plain_text(&format!("x {}", fewer.join(" ")));
    }
}
