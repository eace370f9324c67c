//! Token counts of the three protocols, read into the neutral form and written from it.
//!
//! Chat and Responses count cached tokens inside the input; Messages counts them beside it. Reasoning is inside the output
//! everywhere. Owns these sums; knows no prices and no streams.

use serde_json::{Value, json};
use tokenhub_domain::Dialect;

use super::UsageCounts;

/// Reads a protocol's `usage` object. A count that is missing or no number is 0.
pub fn usage(dialect: Dialect, usage: &Value) -> UsageCounts {
    match dialect {
        Dialect::Chat => of_chat(usage),
        Dialect::Responses => of_responses(usage),
        Dialect::Messages => of_messages(usage),
    }
}

/// Writes a protocol's `usage` object.
pub fn render_usage(dialect: Dialect, counts: &UsageCounts) -> Value {
    match dialect {
        Dialect::Chat => to_chat(counts),
        Dialect::Responses => to_responses(counts),
        Dialect::Messages => to_messages(counts),
    }
}

/// The first of `paths`, member names each after a slash, that holds a count. `Value::pointer` would copy every name.
fn count(usage: &Value, paths: &[&str]) -> Option<u64> {
    let at = |path: &&str| path.split('/').skip(1).try_fold(usage, |value, name| value.get(name));
    paths.iter().find_map(|path| at(path).and_then(Value::as_u64))
}

/// Compatible servers use other names for the same counts; some tell only the total.
fn of_chat(usage: &Value) -> UsageCounts {
    let input = count(usage, &["/prompt_tokens", "/input_tokens"]).unwrap_or(0);
    let output = count(usage, &["/completion_tokens", "/output_tokens"])
        .unwrap_or_else(|| count(usage, &["/total_tokens"]).unwrap_or(0).saturating_sub(input));
    UsageCounts {
        input,
        output,
        cache_read: count(
            usage,
            &[
                "/prompt_tokens_details/cached_tokens",
                "/prompt_cache_hit_tokens",
                "/input_tokens_details/cached_tokens",
            ],
        )
        .unwrap_or(0),
        cache_write: count(usage, &["/prompt_tokens_details/cache_write_tokens", "/cache_write_tokens"]).unwrap_or(0),
        reasoning: count(
            usage,
            &["/completion_tokens_details/reasoning_tokens", "/output_tokens_details/reasoning_tokens"],
        )
        .unwrap_or(0),
    }
}

fn of_responses(usage: &Value) -> UsageCounts {
    let input = count(usage, &["/input_tokens"]).unwrap_or(0);
    UsageCounts {
        input,
        output: count(usage, &["/output_tokens"])
            .unwrap_or_else(|| count(usage, &["/total_tokens"]).unwrap_or(0).saturating_sub(input)),
        cache_read: count(usage, &["/input_tokens_details/cached_tokens"]).unwrap_or(0),
        cache_write: count(usage, &["/input_tokens_details/cache_write_tokens"]).unwrap_or(0),
        reasoning: count(usage, &["/output_tokens_details/reasoning_tokens"]).unwrap_or(0),
    }
}

fn of_messages(usage: &Value) -> UsageCounts {
    let cache_read = count(usage, &["/cache_read_input_tokens"]).unwrap_or(0);
    let by_lifetime = |name: &str| usage.pointer("/cache_creation").and_then(|creation| count(creation, &[name]));
    let cache_write = count(usage, &["/cache_creation_input_tokens"]).unwrap_or_else(|| {
        let parts = ["/ephemeral_5m_input_tokens", "/ephemeral_1h_input_tokens"];
        parts.into_iter().filter_map(by_lifetime).fold(0, u64::saturating_add)
    });
    UsageCounts {
        input: count(usage, &["/input_tokens"]).unwrap_or(0).saturating_add(cache_read).saturating_add(cache_write),
        output: count(usage, &["/output_tokens"]).unwrap_or(0),
        cache_read,
        cache_write,
        reasoning: count(usage, &["/output_tokens_details/thinking_tokens"]).unwrap_or(0),
    }
}

fn to_chat(counts: &UsageCounts) -> Value {
    let mut prompt_details = json!({"cached_tokens": counts.cache_read});
    if counts.cache_write > 0 {
        prompt_details["cache_write_tokens"] = json!(counts.cache_write);
    }
    json!({
        "prompt_tokens": counts.input,
        "completion_tokens": counts.output,
        "total_tokens": counts.input.saturating_add(counts.output),
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning},
    })
}

/// Clients of this protocol require the three totals and every detail.
fn to_responses(counts: &UsageCounts) -> Value {
    json!({
        "input_tokens": counts.input,
        "input_tokens_details": {"cached_tokens": counts.cache_read, "cache_write_tokens": counts.cache_write},
        "output_tokens": counts.output,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.input.saturating_add(counts.output),
    })
}

/// The input without what was read from a cache or written to one, never below 0.
fn to_messages(counts: &UsageCounts) -> Value {
    let mut usage = json!({
        "input_tokens": counts.input.saturating_sub(counts.cache_read).saturating_sub(counts.cache_write),
        "cache_creation_input_tokens": counts.cache_write,
        "cache_read_input_tokens": counts.cache_read,
        "output_tokens": counts.output,
    });
    if counts.reasoning > 0 {
        usage["output_tokens_details"] = json!({"thinking_tokens": counts.reasoning});
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_chat_tokens_leave_the_input_of_messages_and_come_back() {
        let chat = json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110,
            "prompt_tokens_details": {"cached_tokens": 40}});
        let messages = render_usage(Dialect::Messages, &usage(Dialect::Chat, &chat));
        assert_eq!(messages["input_tokens"], 60);
        assert_eq!(messages["cache_read_input_tokens"], 40);
        assert_eq!(messages["output_tokens"], 10);
        let back = render_usage(Dialect::Chat, &usage(Dialect::Messages, &messages));
        assert_eq!(back["prompt_tokens"], 100);
        assert_eq!(back["completion_tokens"], 10);
        assert_eq!(back["prompt_tokens_details"]["cached_tokens"], 40);
    }

    #[test]
    fn cache_reads_and_writes_of_messages_are_part_of_a_chat_prompt() {
        let messages = json!({"input_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20,
            "output_tokens": 7});
        let chat = render_usage(Dialect::Chat, &usage(Dialect::Messages, &messages));
        assert_eq!(chat["prompt_tokens"], 125);
        assert_eq!(chat["prompt_tokens_details"], json!({"cached_tokens": 100, "cache_write_tokens": 20}));
        assert_eq!(chat["total_tokens"], 132);
    }

    #[test]
    fn other_names_for_the_same_counts_are_read() {
        let hit = json!({"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 4});
        assert_eq!(usage(Dialect::Chat, &hit).cache_read, 4);
        let total = json!({"prompt_tokens": 9, "total_tokens": 12});
        assert_eq!(usage(Dialect::Chat, &total).output, 3);
        let lifetimes = json!({"input_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 2,
            "ephemeral_1h_input_tokens": 3}});
        assert_eq!(usage(Dialect::Messages, &lifetimes).input, 6);
    }

    #[test]
    fn absent_and_wrong_counts_are_zero_and_no_count_falls_below_it() {
        for dialect in Dialect::ALL {
            assert_eq!(usage(dialect, &Value::Null), UsageCounts::default());
            assert_eq!(usage(dialect, &json!({"input_tokens": null, "output_tokens": "x"})), UsageCounts::default());
        }
        let more_cached_than_read = UsageCounts { input: 10, cache_read: 20, ..UsageCounts::default() };
        assert_eq!(render_usage(Dialect::Messages, &more_cached_than_read)["input_tokens"], 0);
    }

    #[test]
    fn reasoning_is_part_of_the_output_and_never_added() {
        let responses = json!({"input_tokens": 1, "output_tokens": 50, "total_tokens": 51,
            "output_tokens_details": {"reasoning_tokens": 45}});
        let counts = usage(Dialect::Responses, &responses);
        assert_eq!((counts.output, counts.reasoning), (50, 45));
        assert_eq!(render_usage(Dialect::Chat, &counts)["total_tokens"], 51);
        assert_eq!(render_usage(Dialect::Messages, &counts)["output_tokens"], 50);
    }
}
