//! What was asked of a plan while it ran, as the plan object shows it.

use serde_json::{Map, Value, json};
use tokenhub_activities::plan_events;
use tokenhub_store::SignalRow;

use super::time;

/// Writes every request, with who made it and when, if there was one.
pub(crate) fn write_signals(object: &mut Map<String, Value>, rows: &[SignalRow]) {
    if rows.is_empty() {
        return;
    }
    let shown = rows.iter().map(|row| {
        let mut fields = plan_events::signal(row.request);
        fields.insert("at".to_owned(), json!(time(row.at)));
        fields.insert("principal".to_owned(), json!(row.principal));
        Value::Object(fields)
    });
    object.insert("signals".to_owned(), shown.collect());
}
