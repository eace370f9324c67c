//! Which models are relatives: those of one vendor tend to prefer each other's answers.
//!
//! Read from the name alone, so that it is the same everywhere and needs no list of models.

use crate::ModelId;

/// Names of models, by how they begin, and the vendor that they are of.
const BY_NAME: [(&str, &str); 20] = [
    ("chatgpt", "openai"),
    ("gpt", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("claude", "anthropic"),
    ("gemini", "google"),
    ("gemma", "google"),
    ("llama", "meta"),
    ("mistral", "mistral"),
    ("mixtral", "mistral"),
    ("codestral", "mistral"),
    ("ministral", "mistral"),
    ("magistral", "mistral"),
    ("qwen", "qwen"),
    ("qwq", "qwen"),
    ("deepseek", "deepseek"),
    ("grok", "xai"),
    ("command", "cohere"),
    ("phi", "microsoft"),
];

/// The vendor of `model` where its name tells it; else what stands before the first slash of the name, or its first word.
pub fn family_of(model: &ModelId) -> String {
    let name = model.as_str().to_ascii_lowercase();
    let own = name.rsplit('/').next().unwrap_or_default();
    let is_whole_word = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphabetic());
    let known = BY_NAME.iter().find(|(begins, _)| own.strip_prefix(begins).is_some_and(is_whole_word));
    if let Some((_, vendor)) = known {
        return (*vendor).to_owned();
    }
    match name.split_once('/') {
        Some((vendor, _)) => vendor.to_owned(),
        None => own.split(|c: char| !c.is_alphabetic()).find(|word| !word.is_empty()).unwrap_or(own).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_family_is_the_vendor_whoever_serves_the_model() {
        for (model, family) in [
            ("gpt-4o", "openai"),
            ("openai/gpt-4o-mini", "openai"),
            ("azure/o3-mini", "openai"),
            ("claude-sonnet-4-5", "anthropic"),
            ("anthropic/claude-3.5-haiku", "anthropic"),
            ("meta-llama/Llama-3.3-70B", "meta"),
            ("llama3", "meta"),
            ("groq/llama-3.1-8b", "meta"),
            ("demo/concise", "demo"),
            ("commander-1", "commander"),
            ("alpha", "alpha"),
            ("smollm2-135m-instruct", "smollm"),
            ("7b", "b"),
            ("", ""),
        ] {
            assert_eq!(family_of(&model.into()), family, "{model}");
        }
    }
}
