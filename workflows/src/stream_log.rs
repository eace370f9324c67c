//! The durable log of an answer that was streamed outside any workflow.

#![expect(missing_docs, reason = "the macros generate items without documentation")]

use std::time::Duration;

use temporalio_workflow::{WorkflowCancellationToken, WorkflowContext, WorkflowResult, workflow, workflow_methods};

use crate::{
    contract::{LogStream, StreamLog},
    options,
};

/// As long as an operator may need to bring the database back.
const PATIENCE: Duration = Duration::from_hours(24);

/// Writes one line of the request log, however long the database is away.
#[workflow]
#[derive(Default)]
pub struct StreamLogWorkflow;

#[workflow_methods]
impl StreamLogWorkflow {
    /// Writes the line.
    #[run]
    pub async fn run(context: &mut WorkflowContext<Self>, log: StreamLog) -> WorkflowResult<()> {
        let options = options::local("log a streamed answer", PATIENCE, &WorkflowCancellationToken::new());
        context.execute_local_activity(LogStream, log, options).await?;
        Ok(())
    }
}
