//! The one document inside an answer: JSON or XML without the fences and the words around it, and a text without thoughts.

use serde_json::{Map, Value};

const THINK_OPEN: &str = "<think>";
const THINK_CLOSE: &str = "</think>";
const FENCE: &str = "```";

/// `text` without what stands between `<think>` and `</think>`. A thought that nobody ended, or whose beginning the
/// provider kept, is one all the same.
pub(crate) fn without_thoughts(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    if let Some(end) = rest.find(THINK_CLOSE)
        && !rest[..end].contains(THINK_OPEN)
    {
        rest = rest[end + THINK_CLOSE.len()..].trim_start();
    }
    while let Some(start) = rest.find(THINK_OPEN) {
        kept.push_str(&rest[..start]);
        let inside = &rest[start + THINK_OPEN.len()..];
        rest = inside.find(THINK_CLOSE).map_or("", |end| inside[end + THINK_CLOSE.len()..].trim_start());
    }
    kept.push_str(rest);
    kept
}

/// The JSON in `text`: the whole text, the first fenced block that is JSON, or the only object between words.
pub(crate) fn json(text: &str) -> Option<&str> {
    let whole = text.trim();
    if is_json(whole) {
        return Some(whole);
    }
    fenced(text).map(|(_, block)| block.trim()).find(|block| is_json(block)).or_else(|| only_object(text))
}

/// The XML in `text`: the first fenced block that is XML, or everything from the first tag to the last.
pub(crate) fn xml(text: &str) -> Option<&str> {
    let is_xml = |block: &str| block.starts_with('<') && block.ends_with('>');
    let block = fenced(text).map(|(_, block)| block.trim()).find(|block| is_xml(block));
    block.or_else(|| {
        let (start, end) = (text.find('<')?, text.rfind('>')?);
        text.get(start..=end).filter(|document| document.contains("</") || document.ends_with("/>"))
    })
}

/// A text that is one fenced block as a whole, without the fence.
pub(crate) fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let is_whole = text.starts_with(FENCE) && text.ends_with(FENCE) && text.matches(FENCE).count() == 2;
    let block = fenced(text).next().filter(|(language, _)| is_whole && matches!(*language, "markdown" | "md"));
    block.map_or(text, |(_, block)| block.trim())
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// The fenced blocks, each with the word behind its fence.
fn fenced(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut parts = text.split(FENCE).skip(1);
    std::iter::from_fn(move || {
        let block = parts.next()?;
        parts.next();
        Some(block.split_once('\n').map_or(("", block), |(language, block)| (language.trim(), block)))
    })
}

/// The only JSON object in `text`; `None` when there is none or more than one.
fn only_object(text: &str) -> Option<&str> {
    let mut found = None;
    let mut at = 0;
    while let Some(start) = text[at..].find('{').map(|start| at + start) {
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Map<String, Value>>();
        at = if let Some(Ok(_)) = values.next() {
            if found.is_some() {
                return None;
            }
            let end = start + values.byte_offset();
            found = Some(&text[start..end]);
            end
        } else {
            start + 1
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_found_whole_fenced_or_as_the_only_object() {
        for (text, expected) in [
            (" {\"a\": 1}\n", Some("{\"a\": 1}")),
            ("[1, 2]", Some("[1, 2]")),
            ("\"word\"", Some("\"word\"")),
            ("Here:\n```json\n{\"a\":1}\n```\nDone.", Some("{\"a\":1}")),
            ("```\nnot json\n```\n```\n[1]\n```", Some("[1]")),
            ("The answer is {\"a\": {\"b\": \"}\"}} as asked [1].", Some("{\"a\": {\"b\": \"}\"}}")),
            ("{\"a\":1} or {\"a\":2}", None),
            ("no", None),
            ("", None),
            ("{\"a\":", None),
        ] {
            assert_eq!(json(text), expected, "{text:?}");
        }
        assert_eq!(json(&"{\"a\":".repeat(3_000)), None);
    }

    #[test]
    fn xml_is_found_fenced_or_between_words() {
        for (text, expected) in [
            ("Sure:\n```xml\n<a><b/></a>\n```", Some("<a><b/></a>")),
            ("Sure: <a>x > y</a> there", Some("<a>x > y</a>")),
            ("1 < 2 and 3 > 2", None),
            ("no", None),
        ] {
            assert_eq!(xml(text), expected, "{text:?}");
        }
    }

    #[test]
    fn thoughts_go_with_their_marks() {
        for (text, expected) in [
            ("<think>a\nb</think>\n\nanswer", "answer"),
            ("x <think>a</think>y<think>b</think> z", "x yz"),
            ("hidden start</think>answer", "answer"),
            ("answer <think>never ended", "answer "),
            ("plain", "plain"),
        ] {
            assert_eq!(without_thoughts(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_fence_around_everything_is_no_part_of_the_document() {
        assert_eq!(unfenced("```markdown\n# Title\n```"), "# Title");
        assert_eq!(unfenced(" # Title\n```sh\nls\n``` "), "# Title\n```sh\nls\n```");
        assert_eq!(unfenced("```sh\nls\n```"), "```sh\nls\n```");
    }
}
