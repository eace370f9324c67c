//! Secrets in free text: provider messages quote the key they refuse, and somebody logs the message.
//!
//! Owns the patterns. Works on text alone; typed secrets never get this far.

/// Beginnings of the keys that providers and TokenHub give out.
const KEY_PREFIXES: [&str; 8] = ["sk-", "tokenhub_", "gsk_", "xai-", "AIza", "hf_", "ghp_", "eyJ"];
/// Shorter texts with such a beginning are words, not keys.
const KEY_CHARS_MIN: usize = 12;
/// What is left of a secret, so that two of them can be told apart.
const SHOWN_CHARS: usize = 4;

/// `text` with every bearer token and every key masked, their last four characters kept.
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut after_bearer = false;
    let mut rest = text;
    while !rest.is_empty() {
        let word_end = rest.find(|c: char| !is_key_char(c)).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(word_end);
        push_word(&mut out, word, after_bearer);
        let gap_end = tail.find(is_key_char).unwrap_or(tail.len());
        let (gap, next) = tail.split_at(gap_end);
        out.push_str(gap);
        let announces = word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic");
        after_bearer = announces && !gap.is_empty() && gap.chars().all(|c| c == ' ' || c == ':');
        rest = next;
    }
    out
}

fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '*')
}

fn push_word(out: &mut String, word: &str, is_token: bool) {
    let is_key = KEY_PREFIXES.iter().any(|prefix| word.starts_with(prefix)) && word.len() >= KEY_CHARS_MIN;
    if !is_token && !is_key {
        out.push_str(word);
        return;
    }
    out.push_str("[redacted]");
    // A word is ASCII, so every index is a border.
    if word.len() >= KEY_CHARS_MIN {
        out.push_str(&word[word.len() - SHOWN_CHARS..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_bearer_tokens_are_masked_wherever_they_stand() {
        assert_eq!(
            redact("Incorrect API key provided: sk-proj-abcdefghijkl1234. Find yours"),
            "Incorrect API key provided: [redacted]234. Find yours"
        );
        assert_eq!(redact("Authorization: Bearer abc"), "Authorization: Bearer [redacted]");
        assert_eq!(redact("{\"key\":\"tokenhub_00112233445566\"}"), "{\"key\":\"[redacted]5566\"}");
        assert_eq!(redact("authorization=bearer  deadbeefdeadbeef,x"), "authorization=bearer  [redacted]beef,x");
    }

    #[test]
    fn other_text_is_kept_as_it_is() {
        for text in ["", "model gpt-5 not found", "a sk-ip task", "bearer", "größer als 5 €", "the bearer, of news"]
        {
            assert_eq!(redact(text), text);
        }
    }
}
