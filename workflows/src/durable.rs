//! The Temporal executor of [`Steps`]: every step is an activity or a timer, so what has happened is never repeated.
//!
//! Turns requests into commands and failures into [`StepError`]; decides nothing.

use std::{future::Future, time::Duration};

use temporalio_workflow::{ActivityExecutionError, TimerOptions, WorkflowCancellationToken, WorkflowContext};
use tokenhub_domain::{
    ClassifyRequest, FinishRequest, NextMove, RunContext, SelectRequest, Selection, SendOutcome, SendRequest,
    StepError, UnixMicros,
};
use tokenhub_orchestrate::Steps;

use crate::{
    contract::{ClassifyAndEscalate, InRun, LogResult, SelectModels, SendToProvider},
    options::{self, LOCAL_PATIENCE},
};

/// The steps of one workflow execution.
pub struct Durable<W> {
    context: WorkflowContext<W>,
    cancellation: WorkflowCancellationToken,
    run: RunContext,
}

impl<W> Durable<W> {
    /// The executor of the workflow behind `context`.
    pub fn new(context: WorkflowContext<W>, run: RunContext) -> Self {
        let cancellation = context.cancellation_token();
        Self { context, cancellation, run }
    }

    fn in_run<R>(&self, request: R) -> InRun<R> {
        InRun { run: self.run.clone(), request }
    }
}

impl<W: 'static> Steps for Durable<W> {
    fn select(&self, request: SelectRequest) -> impl Future<Output = Result<Selection, StepError>> {
        let options = options::local("claim the run and rank the models", LOCAL_PATIENCE, &self.cancellation);
        let call = self.context.execute_local_activity(SelectModels, self.in_run(request), options);
        async move { call.await.map_err(|error| step_error(&error)) }
    }

    fn send(&self, request: SendRequest) -> impl Future<Output = Result<SendOutcome, StepError>> {
        let options = options::send(&request, &self.cancellation);
        let call = self.context.execute_activity(SendToProvider, self.in_run(request), options);
        async move { call.await.map_err(|error| step_error(&error)) }
    }

    fn classify(&self, request: ClassifyRequest) -> impl Future<Output = Result<NextMove, StepError>> {
        let summary = format!("{} after try {}", request.failure.class.as_str(), request.tries);
        let options = options::local(&summary, LOCAL_PATIENCE, &self.cancellation);
        let call = self.context.execute_local_activity(ClassifyAndEscalate, self.in_run(request), options);
        async move { call.await.map_err(|error| step_error(&error)) }
    }

    fn record(&self, request: FinishRequest) -> impl Future<Output = Result<(), StepError>> {
        // Detached: a cancelled run is recorded too.
        let options = options::local("record the outcome", LOCAL_PATIENCE, &WorkflowCancellationToken::new());
        let call = self.context.execute_local_activity(LogResult, self.in_run(request), options);
        async move { call.await.map_err(|error| step_error(&error)) }
    }

    fn sleep(&self, millis: u64) -> impl Future<Output = Result<(), StepError>> {
        let options = TimerOptions::builder(Duration::from_millis(millis))
            .cancellation_token(self.cancellation.clone())
            .summary("wait before the next try".to_owned())
            .build();
        let timer = self.context.timer(options);
        let cancellation = self.cancellation.clone();
        async move {
            timer.await;
            if cancellation.is_cancelled() { Err(StepError::Cancelled) } else { Ok(()) }
        }
    }

    fn now(&self) -> UnixMicros {
        self.context.workflow_time().map(UnixMicros::from).unwrap_or_default()
    }

    fn group(&self) -> Self {
        Self { context: self.context.clone(), cancellation: self.cancellation.child_token(), run: self.run.clone() }
    }

    fn cancel(&self, reason: &str) {
        self.cancellation.cancel_with_reason(reason);
    }
}

fn step_error(error: &ActivityExecutionError) -> StepError {
    if error.as_cancelled().is_some() {
        StepError::Cancelled
    } else if error.as_timeout().is_some() {
        StepError::TimedOut
    } else {
        StepError::Unavailable(error.to_string())
    }
}
