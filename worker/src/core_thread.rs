//! The thread of Temporal's core that every workflow needs: a panic in it ends the process.
//!
//! The core does not notice that it has lost this thread. The process would go on polling, and no workflow would get on
//! with it; dead, it is replaced by whoever supervises it, and Temporal hands its workflows to others within seconds. A
//! workflow's own code runs elsewhere, and its panics fail a task.

use std::{panic, process, thread};

/// What the core calls it.
pub const CORE_THREAD: &str = "workflow-processing";

/// What it says when the worker that it served is gone, which a new one has replaced in this process.
const ABANDONED: [&str; 2] = ["Activation processor channel not dropped", "Fetch channel must not be dropped"];

/// From now on the process does not outlive that thread.
pub fn end_with_core_thread() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        report(panic);
        let message = panic.payload_as_str().unwrap_or_default();
        let is_needed = !ABANDONED.iter().any(|abandoned| message.starts_with(abandoned));
        if is_needed && thread::current().name() == Some(CORE_THREAD) {
            tracing::error!("the thread of all workflows has panicked; the worker ends, to be started anew");
            process::abort();
        }
    }));
}
