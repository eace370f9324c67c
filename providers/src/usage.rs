//! Token counts out of a provider's `usage` object.
//!
//! Pure. Knows the field names of Chat Completions and the ones that compatible servers use instead; knows no prices.

use serde_json::Value;
use tokenhub_domain::TokenUsage;

/// The counts in `usage`; a count that is missing or no number is 0.
pub fn usage_of(usage: &Value) -> TokenUsage {
    let count = |names: [&str; 2]| names.iter().find_map(|name| usage.get(name).and_then(Value::as_u64));
    let input_tokens = count(["prompt_tokens", "input_tokens"]).unwrap_or(0);
    let output_tokens = count(["completion_tokens", "output_tokens"])
        .unwrap_or_else(|| usage.get("total_tokens").and_then(Value::as_u64).unwrap_or(0).saturating_sub(input_tokens));
    TokenUsage { input_tokens, output_tokens }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn counts(usage: &Value) -> (u64, u64) {
        let usage = usage_of(usage);
        (usage.input_tokens, usage.output_tokens)
    }

    #[test]
    fn cached_and_reasoning_tokens_are_already_inside_the_counts() {
        let usage = json!({"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140,
            "prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 30}});
        assert_eq!(counts(&usage), (100, 40));
    }

    #[test]
    fn other_names_totals_and_rubbish_are_read_without_failing() {
        assert_eq!(counts(&json!({"input_tokens": 3, "output_tokens": 4})), (3, 4));
        assert_eq!(counts(&json!({"prompt_tokens": 3, "total_tokens": 10})), (3, 7));
        assert_eq!(counts(&json!({"prompt_tokens": null, "completion_tokens": "many"})), (0, 0));
        assert_eq!(counts(&Value::Null), (0, 0));
    }
}
