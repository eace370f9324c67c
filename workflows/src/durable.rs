//! The Temporal executor of [`Steps`]: every step is an activity or a timer, so what has happened is never repeated.
//!
//! Turns requests into commands and failures into [`StepError`]; decides nothing.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    future::{Future, pending},
    pin::pin,
    rc::Rc,
    time::Duration,
};

use temporalio_workflow::{
    ActivityExecutionError, TimerOptions, WorkflowCancellationToken, WorkflowContext, workflows,
};
use tokenhub_domain::{
    ApprovalRequest, ApprovalStanding, ClassifyRequest, FinishRequest, NextMove, ProviderId, RunContext, SelectRequest,
    Selection, SendOutcome, SendRequest, Steering, StepError, UnixMicros, Verdict, VerifyRequest,
};
use tokenhub_orchestrate::Steps;

use crate::{
    board::Board,
    contract::{
        AwaitApproval, ClassifyAndEscalate, InRun, LogResult, SelectModels, SendToProvider, VerifyAnswer, queue_of,
    },
    fault,
    options::{self, LOCAL_PATIENCE},
};

/// A workflow that is told when there is something to look at.
pub trait Signalled: 'static {
    /// How often it was told.
    fn signals(&self) -> u32;

    /// What it was asked for.
    fn steering(&self) -> Steering;
}

/// The steps of one workflow execution.
pub struct Durable<W> {
    context: WorkflowContext<W>,
    cancellation: WorkflowCancellationToken,
    run: RunContext,
    /// Signals that were waited for.
    heard: Rc<Cell<u32>>,
    board: Rc<RefCell<Board>>,
    /// Providers that may only be called so often, as the selections of the run found them.
    paced: Rc<RefCell<BTreeSet<ProviderId>>>,
}

impl<W> Durable<W> {
    /// The executor of the workflow behind `context`.
    pub fn new(context: WorkflowContext<W>, run: RunContext) -> Self {
        let cancellation = context.cancellation_token();
        Self { context, cancellation, run, heard: Rc::default(), board: Rc::default(), paced: Rc::default() }
    }

    fn own_queue(&self, provider: &ProviderId) -> Option<String> {
        self.paced.borrow().contains(provider).then(|| queue_of(self.context.task_queue(), provider))
    }

    fn shown(&self) -> Shown<W> {
        Shown { context: self.context.clone(), board: Rc::clone(&self.board) }
    }

    fn in_run<R>(&self, request: R) -> InRun<R> {
        InRun { run: self.run.clone(), request }
    }
}

/// The board as the Temporal UI has it.
struct Shown<W> {
    context: WorkflowContext<W>,
    board: Rc<RefCell<Board>>,
}

impl<W> Shown<W> {
    fn change<T>(&self, change: impl FnOnce(&mut Board) -> T) -> T {
        let mut board = self.board.borrow_mut();
        let changed = change(&mut board);
        self.context.set_current_details(board.render());
        changed
    }
}

impl<W: Signalled> Steps for Durable<W> {
    fn select(&self, request: SelectRequest) -> impl Future<Output = Result<Selection, StepError>> {
        let options = options::local("claim the run and rank the models", LOCAL_PATIENCE, &self.cancellation);
        let call = self.context.execute_local_activity(SelectModels, self.in_run(request), options);
        let paced = Rc::clone(&self.paced);
        async move {
            let selection = call.await.map_err(|error| step_error(&error))?;
            if let Selection::Claimed(lists) = &selection {
                paced.borrow_mut().extend(lists.iter().flat_map(|list| list.paced.iter().cloned()));
            }
            Ok(selection)
        }
    }

    fn send(&self, request: SendRequest) -> impl Future<Output = Result<SendOutcome, StepError>> {
        fault::reach(request.step.as_str());
        let options =
            options::send(&self.run, &request, &self.cancellation, self.own_queue(&request.deployment.provider));
        let shown = self.shown();
        let place = shown.change(|board| board.began(&request));
        let call = self.context.execute_activity(SendToProvider, self.in_run(request), options);
        async move {
            let result = call.await.map_err(|error| step_error(&error));
            shown.change(|board| board.ended(place, &result));
            result
        }
    }

    fn classify(&self, request: ClassifyRequest) -> impl Future<Output = Result<NextMove, StepError>> {
        let summary = format!("{} after try {}", request.failure.class.as_str(), request.tries);
        let options = options::local(&summary, LOCAL_PATIENCE, &self.cancellation);
        let call = self.context.execute_local_activity(ClassifyAndEscalate, self.in_run(request), options);
        async move { call.await.map_err(|error| step_error(&error)) }
    }

    fn verify(&self, request: VerifyRequest) -> impl Future<Output = Result<Verdict, StepError>> {
        let options = options::verify(&self.run, &request, &self.cancellation);
        let call = self.context.execute_activity(VerifyAnswer, self.in_run(request), options);
        async move { call.await.map_err(|error| step_error(&error)) }
    }

    fn record(&self, request: FinishRequest) -> impl Future<Output = Result<(), StepError>> {
        fault::reach(fault::RECORD);
        // Detached: a cancelled run is recorded too.
        let options = options::local("record the outcome", LOCAL_PATIENCE, &WorkflowCancellationToken::new());
        let call = self.context.execute_local_activity(LogResult, self.in_run(request), options);
        async move { call.await.map_err(|error| step_error(&error)) }
    }

    fn approval(&self, request: ApprovalRequest) -> impl Future<Output = Result<ApprovalStanding, StepError>> {
        let options = options::local("ask for a decision", LOCAL_PATIENCE, &self.cancellation);
        let call = self.context.execute_local_activity(AwaitApproval, self.in_run(request), options);
        async move { call.await.map_err(|error| step_error(&error)) }
    }

    fn wait_for_signal(&self, millis: u64) -> impl Future<Output = Result<(), StepError>> {
        let own = self.cancellation.child_token();
        let options = TimerOptions::builder(Duration::from_millis(millis))
            .cancellation_token(own.clone())
            .summary("wait for a decision".to_owned())
            .build();
        let timer = self.context.timer(options);
        let (context, cancellation, heard) = (self.context.clone(), self.cancellation.clone(), Rc::clone(&self.heard));
        let shown = self.shown();
        shown.change(|board| board.waits(true));
        async move {
            let mut timer = pin!(timer);
            let before = heard.get();
            let is_over = {
                let mut told = pin!(context.wait_condition(|workflow: &W| workflow.signals() != before));
                workflows::select! {
                    _ = told => false,
                    _ = timer => true,
                }
            };
            heard.set(context.state(Signalled::signals));
            shown.change(|board| board.waits(false));
            if !is_over {
                own.cancel();
                timer.await;
            }
            if cancellation.is_cancelled() { Err(StepError::Cancelled) } else { Ok(()) }
        }
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

    fn steering(&self) -> Steering {
        self.context.state(Signalled::steering)
    }

    async fn steered(&self, known: Steering) {
        let told = self.context.wait_condition(|workflow: &W| workflow.steering() != known);
        // A workflow that is cancelled is asked for nothing more: its steps end by themselves.
        if told.await.is_err() {
            pending::<()>().await;
        }
    }

    fn now(&self) -> UnixMicros {
        self.context.workflow_time().map(UnixMicros::from).unwrap_or_default()
    }

    fn group(&self) -> Self {
        Self {
            context: self.context.clone(),
            cancellation: self.cancellation.child_token(),
            run: self.run.clone(),
            heard: Rc::clone(&self.heard),
            board: Rc::clone(&self.board),
            paced: Rc::clone(&self.paced),
        }
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
