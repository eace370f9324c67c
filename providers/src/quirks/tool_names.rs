//! Tools under the names that a model was trained on, and under the caller's again in what it answers.

use serde_json::{Map, Value};
use tokenhub_domain::ModelQuirks;

/// A Chat Completions request with the model's own names of its tools; one that cannot be read stays as it is.
pub(crate) fn request(quirks: &ModelQuirks, body: String) -> String {
    if quirks.tool_names.is_empty() {
        return body;
    }
    let Ok(mut request) = serde_json::from_str::<Map<String, Value>>(&body) else { return body };
    let rename = |name: &mut String| {
        if let Some((own, _)) = quirks.tool_names.iter().find(|(_, callers)| *callers == name) {
            name.clone_from(own);
        }
    };
    for tool in objects_of(request.get_mut("tools")) {
        rename_function(tool, rename);
    }
    if let Some(Value::Object(choice)) = request.get_mut("tool_choice") {
        rename_function(choice, rename);
    }
    for message in objects_of(request.get_mut("messages")) {
        if message.get("role").is_some_and(|role| role == "tool")
            && let Some(Value::String(name)) = message.get_mut("name")
        {
            rename(name);
        }
        for call in objects_of(message.get_mut("tool_calls")) {
            rename_function(call, rename);
        }
    }
    Value::Object(request).to_string()
}

/// The caller's name of a tool that the model calls `own`.
pub(super) fn callers_name<'a>(quirks: &'a ModelQuirks, own: &'a str) -> &'a str {
    quirks.tool_names.get(own).map_or(own, String::as_str)
}

/// Gives the calls of a message or of a piece of one the caller's names.
pub(super) fn restore(quirks: &ModelQuirks, message: &mut Map<String, Value>) {
    if quirks.tool_names.is_empty() {
        return;
    }
    for call in objects_of(message.get_mut("tool_calls")) {
        rename_function(call, |name| *name = callers_name(quirks, name).to_owned());
    }
}

pub(super) fn objects_of(list: Option<&mut Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    list.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn rename_function(holder: &mut Map<String, Value>, rename: impl Fn(&mut String)) {
    if let Some(Value::String(name)) = holder.get_mut("function").and_then(|function| function.get_mut("name")) {
        rename(name);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quirks() -> ModelQuirks {
        let tool_names = [("run_shell".to_owned(), "Bash".to_owned())].into();
        ModelQuirks { tool_names, ..ModelQuirks::default() }
    }

    #[test]
    fn a_request_has_the_models_names_wherever_a_tool_is_named() {
        let body = json!({"model": "m", "tools": [{"type": "function", "function": {"name": "Bash", "parameters": {"a": 1}}},
            {"type": "function", "function": {"name": "Read"}}],
            "tool_choice": {"type": "function", "function": {"name": "Bash"}},
            "messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "Bash", "arguments": "Bash"}}]},
                {"role": "tool", "tool_call_id": "c", "name": "Bash", "content": "Bash"}, {"role": "user", "name": "Bash"}]});
        let sent: Value = serde_json::from_str(&request(&quirks(), body.to_string())).unwrap();
        assert_eq!(sent["tools"][0]["function"], json!({"name": "run_shell", "parameters": {"a": 1}}));
        assert_eq!(sent["tools"][1]["function"]["name"], "Read");
        assert_eq!(sent["tool_choice"]["function"]["name"], "run_shell");
        assert_eq!(sent["messages"][0]["tool_calls"][0]["function"], json!({"name": "run_shell", "arguments": "Bash"}));
        assert_eq!(
            (&sent["messages"][1]["name"], &sent["messages"][1]["content"]),
            (&json!("run_shell"), &json!("Bash"))
        );
        assert_eq!(sent["messages"][2]["name"], "Bash", "a person's name");
        let kept = r#"{ "tool_choice":"auto"}"#;
        assert_eq!(request(&ModelQuirks::default(), kept.to_owned()), kept);
    }
}
