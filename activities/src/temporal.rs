//! The Temporal shell: each activity of the contract calls its function and translates faults.

#![expect(missing_docs, reason = "the macros generate items without documentation")]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::json;
use temporalio_common::{data_converters::PayloadConversionError, error::ApplicationFailure};
use temporalio_macros::activities;
use temporalio_sdk::activities::{ActivityContext, ActivityError};
use tokenhub_domain::{
    ApprovalRequest, ApprovalStanding, ClassifyRequest, DurabilityMark, FinishRequest, NextMove, Owner,
    ProviderResponseId, SelectRequest, Selection, SendOutcome, SendRequest, Verdict, VerifyRequest, WorkflowId,
};
use tokenhub_workflows::contract::{
    AwaitApproval, ClassifyAndEscalate, InRun, LogResult, LogStream, SelectModels, SendToProvider, StreamLog,
    VerifyAnswer, is_queue_of,
};

use crate::{
    ActivityFault, Keeping, World, approval, classify, log,
    presence::{Pacing, Presence, Withdrawal},
    select, send, verify,
};

/// Four beats fit the heartbeat timeout of the activity.
const BEAT_INTERVAL: Duration = Duration::from_millis(500);

/// The activities of a worker.
pub struct Activities {
    world: Arc<World>,
}

impl Activities {
    /// Activities over `world`.
    pub fn new(world: Arc<World>) -> Self {
        Self { world }
    }
}

struct OnTemporal {
    context: ActivityContext,
    pacing: Pacing,
    /// What the step waits for: the details of its beats.
    shown: Mutex<Option<ProviderResponseId>>,
}

impl OnTemporal {
    async fn beat(&self) -> Result<(), PayloadConversionError> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match shown {
            None => self.context.record_heartbeat(()).await,
            Some(response) => self.context.record_heartbeat(json!({"provider_response_id": response})).await,
        }
    }
}

impl Presence for OnTemporal {
    async fn keep_beating(&self) -> Infallible {
        loop {
            // The start of the activity counts as a beat, so a short call needs none: each is a request to the server.
            tokio::time::sleep(BEAT_INTERVAL).await;
            if let Err(error) = self.beat().await {
                tracing::warn!(%error, "a heartbeat could not be recorded");
            }
        }
    }

    async fn withdrawn(&self) {
        self.context.cancelled().await;
    }

    fn withdrawal(&self) -> Withdrawal {
        Withdrawal::Doubtful
    }

    fn show(&self, response: &ProviderResponseId) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(response.clone());
    }

    fn pacing(&self) -> Pacing {
        self.pacing
    }
}

#[activities]
impl Activities {
    /// See [`SelectModels`].
    #[activity(definition = SelectModels)]
    pub async fn select_models(
        self: Arc<Self>,
        context: ActivityContext,
        input: InRun<SelectRequest>,
    ) -> Result<Selection, ActivityError> {
        let owner = owner(&context);
        select::run(&self.world, &input.run, &owner, Keeping::Rows, &input.request).await.map_err(failure)
    }

    /// See [`SendToProvider`].
    #[activity(definition = SendToProvider)]
    pub async fn send_to_provider(
        self: Arc<Self>,
        context: ActivityContext,
        input: InRun<SendRequest>,
    ) -> Result<SendOutcome, ActivityError> {
        let provider = &input.request.deployment.provider;
        let pacing = if is_queue_of(&context.info().task_queue, provider) { Pacing::Temporal } else { Pacing::Here };
        let presence = OnTemporal { context, pacing, shown: Mutex::default() };
        send::run(&self.world, &input.run, Keeping::Rows, &input.request, &presence).await.map_err(failure)
    }

    /// See [`ClassifyAndEscalate`].
    #[expect(clippy::unused_async, reason = "an activity of the contract is async")]
    #[activity(definition = ClassifyAndEscalate)]
    pub async fn classify_and_escalate(
        self: Arc<Self>,
        _context: ActivityContext,
        input: InRun<ClassifyRequest>,
    ) -> Result<NextMove, ActivityError> {
        Ok(classify::run(&input.request))
    }

    /// See [`VerifyAnswer`].
    #[activity(definition = VerifyAnswer)]
    pub async fn verify_answer(
        self: Arc<Self>,
        context: ActivityContext,
        input: InRun<VerifyRequest>,
    ) -> Result<Verdict, ActivityError> {
        let presence = OnTemporal { context, pacing: Pacing::Here, shown: Mutex::default() };
        verify::run(&self.world, &input.run, &input.request, &presence).await.map_err(failure)
    }

    /// See [`AwaitApproval`].
    #[activity(definition = AwaitApproval)]
    pub async fn await_approval(
        self: Arc<Self>,
        _context: ActivityContext,
        input: InRun<ApprovalRequest>,
    ) -> Result<ApprovalStanding, ActivityError> {
        approval::run(&self.world, &input.run, &input.request).await.map_err(failure)
    }

    /// See [`LogResult`].
    #[activity(definition = LogResult)]
    pub async fn log_result(
        self: Arc<Self>,
        context: ActivityContext,
        input: InRun<FinishRequest>,
    ) -> Result<(), ActivityError> {
        let owner = owner(&context);
        log::run(&self.world, &input.run, &owner, Keeping::Rows, DurabilityMark::Durable, &input.request)
            .await
            .map_err(failure)
    }

    /// See [`LogStream`].
    #[activity(definition = LogStream)]
    pub async fn log_stream(self: Arc<Self>, _context: ActivityContext, input: StreamLog) -> Result<(), ActivityError> {
        log::log_stream(&self.world, &input).await.map_err(failure)
    }
}

fn owner(context: &ActivityContext) -> Owner {
    Owner::workflow(&WorkflowId::from(context.info().workflow_id.as_deref().unwrap_or_default()))
}

fn failure(fault: ActivityFault) -> ActivityError {
    tracing::warn!(fault = &fault as &dyn std::error::Error, "an activity could not be carried out");
    if matches!(fault, ActivityFault::Cancelled) {
        return ActivityError::cancelled();
    }
    let (type_name, non_retryable) = (fault.type_name().to_owned(), !fault.is_retryable());
    ActivityError::application(
        ApplicationFailure::builder(fault).type_name(type_name).non_retryable(non_retryable).build(),
    )
}
