//! Takes secrets out of text that a provider sent, because such text reaches clients, logs and histories.
//!
//! Pure. Removes the credential in use wherever it stands, and whatever has the form of a key or a bearer token.

/// What stands where a secret was.
const MASK: &str = "[redacted]";
/// A credential shorter than this is not searched for: masking it would destroy ordinary words.
const CREDENTIAL_CHARS_MIN: usize = 4;
/// What follows `sk-` in a key is at least this long, masked keys (`sk-ab***yz`) included.
const KEY_CHARS_MIN: usize = 6;

/// `text` without secrets, at most `max_bytes` long and cut at a character.
pub(crate) fn redact(text: &str, credential: Option<&str>, max_bytes: usize) -> String {
    let known = match credential {
        Some(secret) if secret.len() >= CREDENTIAL_CHARS_MIN => text.replace(secret, MASK),
        Some(_) | None => text.to_owned(),
    };
    bounded(&mask_shapes(&known), max_bytes)
}

fn mask_shapes(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    let mut follows_bearer = false;
    while !rest.is_empty() {
        let word_end = rest.find(|c: char| !is_token_char(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(word_end);
        if word.is_empty() {
            let gap_end = rest.find(is_token_char).unwrap_or(rest.len());
            clean.push_str(&rest[..gap_end]);
            rest = &rest[gap_end..];
            continue;
        }
        clean.push_str(if follows_bearer || is_key(word) { MASK } else { word });
        follows_bearer = word.eq_ignore_ascii_case("bearer");
        rest = after;
    }
    clean
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '*' | '+' | '/' | '=' | '~')
}

fn is_key(word: &str) -> bool {
    word.match_indices("sk-").any(|(at, _)| {
        let starts_a_word = word[..at].chars().next_back().is_none_or(|before| !before.is_ascii_alphanumeric());
        starts_a_word && word.len() - at - "sk-".len() >= KEY_CHARS_MIN
    })
}

fn bounded(text: &str, max_bytes: usize) -> String {
    text[..text.floor_char_boundary(max_bytes)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str) -> String {
        redact(text, Some("gsk_live_1234"), 1_000)
    }

    #[test]
    fn the_credential_keys_and_bearer_tokens_are_masked() {
        for (given, wanted) in [
            ("bad key gsk_live_1234!", "bad key [redacted]!"),
            ("xgsk_live_1234y", "x[redacted]y"),
            (
                "Incorrect API key provided: sk-proj-ab***wxyz. See docs",
                "Incorrect API key provided: [redacted] See docs",
            ),
            ("key=sk-abcdef123", "[redacted]"),
            ("header Authorization: Bearer abc.def-ghi was", "header Authorization: Bearer [redacted] was"),
            ("{\"auth\":\"bearer tok123\"}", "{\"auth\":\"bearer [redacted]\"}"),
        ] {
            assert_eq!(clean(given), wanted);
        }
    }

    #[test]
    fn ordinary_words_stay() {
        for text in ["ask-anything-you-like", "sk-ip", "the disk-full error", "naïve – text", ""] {
            assert_eq!(clean(text), text);
        }
        assert_eq!(redact("a cat", Some("a"), 100), "a cat");
    }

    #[test]
    fn a_secret_at_the_cut_is_gone_before_the_cut() {
        let text = format!("{}gsk_live_1234", "x".repeat(95));
        let cut = redact(&text, Some("gsk_live_1234"), 100);
        assert_eq!(cut, format!("{}[reda", "x".repeat(95)));
        assert_eq!(redact("ééé", None, 3), "é");
    }
}
