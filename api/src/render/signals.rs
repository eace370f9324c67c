//! What was asked of a plan while it ran, as the plan object shows it.

use serde_json::{Value, json};
use tokenhub_activities::plan_events;
use tokenhub_store::SignalRow;

use super::time;

/// Every request, with who made it and when.
pub(crate) fn signals(rows: &[SignalRow]) -> Value {
    let shown = rows.iter().map(|row| {
        let mut fields = plan_events::signal(row.request);
        fields.insert("at".to_owned(), json!(time(row.at)));
        fields.insert("principal".to_owned(), json!(row.principal));
        Value::Object(fields)
    });
    shown.collect()
}
