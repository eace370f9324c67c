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
    let mut at = 0;
    while let Some(character) = text[at..].chars().next() {
        let rest = &text[at..];
        if let Some((inside, used)) = code(rest) {
            plain.push_str(inside);
            at += used;
        } else if let Some((inside, used)) = emphasis(text, at).or_else(|| link(rest)) {
            inline(inside, plain);
            at += used;
        } else {
            plain.push(character);
            at += character.len_utf8();
        }
    }
}

/// The inside of a code span that `rest` begins with, and how long the span is.
fn code(rest: &str) -> Option<(&str, usize)> {
    let ticks = rest.bytes().take_while(|byte| *byte == b'`').count();
    let mark = rest.get(..ticks).filter(|mark| !mark.is_empty())?;
    let end = rest[ticks..].find(mark)?;
    Some((rest[ticks..ticks + end].trim(), ticks + end + ticks))
}

/// The same for emphasis: a mark that touches its word on the inside, and for underscores nothing on the outside.
fn emphasis(text: &str, at: usize) -> Option<(&str, usize)> {
    let rest = &text[at..];
    let mark = ["***", "**", "__", "~~", "*", "_"].into_iter().find(|mark| rest.starts_with(mark))?;
    let inside = &rest[mark.len()..];
    let is_word = |character: char| character.is_alphanumeric();
    if inside.starts_with(char::is_whitespace)
        || (mark.starts_with('_') && text[..at].ends_with(is_word))
        || inside.starts_with(mark)
    {
        return None;
    }
    let ends = inside.match_indices(mark).map(|(end, _)| end);
    let end = ends.into_iter().find(|end| {
        let (before, after) = (&inside[..*end], &inside[end + mark.len()..]);
        let touches_word = mark.starts_with('_') && after.starts_with(is_word);
        let is_longer_mark = mark.len() == 1 && after.starts_with(mark);
        !before.is_empty() && !before.ends_with(char::is_whitespace) && !touches_word && !is_longer_mark
    })?;
    Some((&inside[..end], mark.len() + end + mark.len()))
}

/// The same for a link or a picture: its words.
fn link(rest: &str) -> Option<(&str, usize)> {
    let start = if rest.starts_with("![") { 2 } else { usize::from(rest.starts_with('[')) };
    if start == 0 {
        return None;
    }
    let words = rest[start..].find("](").filter(|end| !rest[start..start + end].contains(['[', '\n']))?;
    let address = start + words + 2;
    let end = rest[address..].find(')')?;
    Some((&rest[start..start + words], address + end + 1))
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
}
