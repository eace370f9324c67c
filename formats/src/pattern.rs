//! Texts checked by a regular expression.
//!
//! Owns the dialect: no back references and no look-around, so that a check takes linear time whatever the pattern is.

use regex::{Regex, RegexBuilder};
use tokenhub_domain::limits;

/// Largest compiled expression, and its largest cache: a few signs can stand for a thousand repetitions.
const COMPILED_BYTES_MAX: usize = 1024 * 1024;

/// An expression that is to be found in a text.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is too long.
    #[error("must not be longer than {} bytes", limits::CHECK_PATTERN_BYTES)]
    TooLong,
    /// It means too much.
    #[error("is too large, its repetitions followed")]
    TooLarge,
    /// It is none.
    #[error("must be a regular expression without look-around and back references: {0}")]
    Syntax(String),
}

impl Pattern {
    /// Reads `text`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.len() > limits::CHECK_PATTERN_BYTES {
            return Err(PatternError::TooLong);
        }
        let built = RegexBuilder::new(text).size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).build();
        built.map(Self).map_err(|error| {
            if matches!(error, regex::Error::CompiledTooBig(_)) {
                return PatternError::TooLarge;
            }
            // The last line says what; those before it draw a picture.
            PatternError::Syntax(error.to_string().lines().last().unwrap_or_default().trim().to_owned())
        })
    }

    /// Whether it is found somewhere in `text`.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_found_anywhere_unless_it_says_where() {
        let pattern = Pattern::parse(r"(?i)^answer:\s*\d+$").unwrap();
        assert!(pattern.is_in("Answer: 42") && !pattern.is_in("The answer: 42"));
        assert!(Pattern::parse("42").unwrap().is_in("It is 42."));
    }

    #[test]
    fn what_is_no_pattern_or_means_too_much_is_refused() {
        for text in ["(", "a{2,1}", r"(a)\1", "(?=a)", "[z-a]"] {
            assert!(matches!(Pattern::parse(text), Err(PatternError::Syntax(_))), "{text}");
        }
        assert_eq!(Pattern::parse("((a{100}){100}){100}").unwrap_err(), PatternError::TooLarge);
        assert_eq!(Pattern::parse(&"a".repeat(1_001)).unwrap_err(), PatternError::TooLong);
    }

    #[test]
    fn a_pattern_that_others_never_finish_takes_no_time() {
        let pattern = Pattern::parse("^(a+)+$").unwrap();
        assert!(!pattern.is_in(&format!("{}b", "a".repeat(100_000))));
    }
}
