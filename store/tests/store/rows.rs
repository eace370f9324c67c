//! Values that the tests store.

use tokenhub_domain::{
    AttemptId, Deployment, DurabilityMark, InstanceId, NanoDollars, Owner, PricePerMillion, PriceSource, Role, RunId,
    RunKind, RunStatus, StepId, StepKey, StopReason, TenantId, UnixMicros, Usage, WorkflowId,
};
use tokenhub_store::{AttemptOpen, FinishRow, IdempotencyScope, NewRun, Settlement, Waste};

/// The time at which the tests play.
pub(crate) const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);

pub(crate) fn tenant() -> TenantId {
    TenantId::default_tenant()
}

pub(crate) fn process(name: &str) -> Owner {
    Owner::process(&InstanceId::from(name))
}

pub(crate) fn workflow(name: &str) -> Owner {
    Owner::workflow(&WorkflowId::from(name))
}

pub(crate) fn run(run_id: &RunId) -> NewRun {
    NewRun {
        run_id: run_id.clone(),
        kind: RunKind::Vote,
        tenant: tenant(),
        principal: "someone".into(),
        api_key_id: "key_1".into(),
        request_id: "req_1".into(),
        idempotency: None,
        spec_json: r#"{"kind":"vote","note":"null: \u0000"}"#.to_owned(),
        workflow_id: Some(WorkflowId::from("vote:default")),
        config_version: 7,
        labels: tokenhub_domain::Labels::default(),
        webhook: None,
        created_at: NOW,
        first_event: None,
    }
}

pub(crate) fn scoped_run(scope: &str, body: &str) -> NewRun {
    let idempotency = Some(IdempotencyScope { scope_hash: scope.to_owned(), body_hash: body.to_owned() });
    NewRun { idempotency, ..run(&RunId::generate_plan()) }
}

pub(crate) fn result(status: RunStatus) -> FinishRow {
    FinishRow {
        epoch: None,
        status,
        stop_reason: StopReason::Decided,
        outcome_json: format!(r#"{{"status":"{}"}}"#, status.as_str()),
        durability: DurabilityMark::Durable,
        negotiated_model: Some("org/model:1".into()),
        usage: Usage {
            calls: 4,
            duplicate_calls: 1,
            input_tokens: 10,
            output_tokens: 20,
            cost: NanoDollars(30),
            ..Usage::default()
        },
        finished_at: NOW.plus_millis(500),
        event: None,
    }
}

pub(crate) fn step_key(try_number: u32) -> StepKey {
    StepKey::of(&"plan_1".into(), &"ballot/1".into(), &Deployment::new("org/model:1", "provider"), try_number)
}

pub(crate) fn attempt(try_number: u32) -> AttemptOpen {
    AttemptOpen {
        attempt_id: AttemptId::generate(),
        tenant: tenant(),
        run_id: RunId::from("plan_1"),
        step: StepId::from("ballot/1"),
        step_key: step_key(try_number),
        role: Role::Voter,
        provider: "provider".into(),
        model: "org/model:1".into(),
        principal: "someone".into(),
        api_key_id: "key_1".into(),
        request_id: "req_1".into(),
        config_version: 7,
        tags: tokenhub_domain::Tags::default(),
        estimated_cost: NanoDollars(99),
        at: NOW,
    }
}

pub(crate) fn settlement() -> Settlement {
    Settlement {
        usage_json: Some(r#"{"prompt_tokens":10}"#.to_owned()),
        input_tokens: 10,
        output_tokens: 20,
        cost: NanoDollars(50),
        input_price: PricePerMillion(1_000_000),
        output_price: PricePerMillion(2_000_000),
        price_source: PriceSource::Manual,
        finish_reason: Some("stop".to_owned()),
        error_class: None,
        status_code: None,
        latency_ms: 12,
        waste: Waste::Used,
        at: NOW.plus_millis(12),
    }
}
