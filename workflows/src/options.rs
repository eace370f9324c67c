//! Timeouts and retries of every activity, with the reason of each number.

use std::time::Duration;

use temporalio_workflow::{
    ActivityCancellationType, ActivityOptions, LocalActivityOptions, RetryPolicy, WorkflowCancellationToken,
};
use tokenhub_domain::{RunContext, SendRequest, VerifyRequest};

use crate::priority;

/// A dead worker is noticed after this long; the activity beats four times as often.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(2);
/// What an attempt may take beyond the provider's own time: journal, ledger, the wait for a lease to run out.
const SEND_OVERHEAD: Duration = Duration::from_secs(15);
/// A backstop only: provider failures are values, so only dead workers use attempts.
const ATTEMPTS_MAX: u32 = 10;
/// One execution of a local activity; it only touches the database.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a local activity is retried while the database is away.
pub(crate) const LOCAL_PATIENCE: Duration = Duration::from_mins(10);
/// Waits between local retries stay below this, so that they need no timer in the history.
const LOCAL_BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Options of a provider call.
pub(crate) fn send(
    run: &RunContext,
    request: &SendRequest,
    cancellation: &WorkflowCancellationToken,
    own_queue: Option<String>,
) -> ActivityOptions {
    let summary = format!("{} · {} · try {}", request.role.as_str(), request.deployment.model, request.try_number);
    // A deadline that is moved while the call is under way must find room here.
    long(run, request.longest_ms(), (activity_id(request), summary), cancellation, own_queue)
}

/// Options of a question to a verifier.
pub(crate) fn verify(
    run: &RunContext,
    request: &VerifyRequest,
    cancellation: &WorkflowCancellationToken,
) -> ActivityOptions {
    let summary = format!("check · {}", request.step);
    long(run, request.timeout_ms, (format!("check|{}", request.step), summary), cancellation, None)
}

/// Options of a step that takes long and beats.
fn long(
    run: &RunContext,
    timeout_ms: u64,
    (activity_id, summary): (String, String),
    cancellation: &WorkflowCancellationToken,
    own_queue: Option<String>,
) -> ActivityOptions {
    let timeout = Duration::from_millis(timeout_ms);
    // By the common queue every worker comes at once; here the call waits for its turn, but not beyond its time.
    let turn_timeout = own_queue.as_ref().map(|_| timeout);
    ActivityOptions::with_start_to_close_timeout(timeout + SEND_OVERHEAD)
        .maybe_task_queue(own_queue)
        .maybe_schedule_to_start_timeout(turn_timeout)
        .heartbeat_timeout(HEARTBEAT_TIMEOUT)
        .retry_policy(
            RetryPolicy::builder()
                .initial_interval(Duration::from_millis(100))
                .backoff_coefficient(2.0)
                .maximum_interval(Duration::from_secs(1))
                .maximum_attempts(ATTEMPTS_MAX)
                .build(),
        )
        .cancellation_type(ActivityCancellationType::TryCancel)
        .cancellation_token(cancellation.clone())
        .activity_id(activity_id)
        // A workflow that an older version started has none that its calls could inherit.
        .priority(priority(run))
        .summary(summary)
        .build()
}

/// Names the step, so that a replay notices when a program asks for its steps in another order: every provider call has
/// the same activity type, and the SDK's own ids only count.
fn activity_id(request: &SendRequest) -> String {
    let SendRequest { step, deployment, try_number, .. } = request;
    format!("{step}|{}|{}|{try_number}", deployment.account(), deployment.model)
}

/// Options of a short step that only touches the database.
pub(crate) fn local(
    summary: &str,
    patience: Duration,
    cancellation: &WorkflowCancellationToken,
) -> LocalActivityOptions {
    LocalActivityOptions::builder()
        .start_to_close_timeout(LOCAL_TIMEOUT)
        .schedule_to_close_timeout(patience)
        .retry_policy(
            RetryPolicy::builder()
                .initial_interval(Duration::from_millis(100))
                .backoff_coefficient(2.0)
                .maximum_interval(LOCAL_BACKOFF_MAX)
                .build(),
        )
        .timer_backoff_threshold(LOCAL_BACKOFF_MAX)
        .cancellation_token(cancellation.clone())
        .summary(summary.to_owned())
        .build()
}
