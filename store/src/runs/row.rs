//! A run as it is stored, typed.

use tokenhub_domain::{
    ApiKeyId, ContentHash, DurabilityMark, Labels, ModelId, Owner, PrincipalId, RequestId, RunId, RunKind, RunStatus,
    StopReason, Tags, TemplateName, TemplatePin, TenantId, UnixMicros, Usage, WorkflowId,
};

use crate::{
    StoreError,
    columns::{counted, counted_small, named, named_if_set},
    entities::runs,
};

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// The run.
    pub run_id: RunId,
    /// Its program.
    pub kind: RunKind,
    /// Whose data it is.
    pub tenant: TenantId,
    /// Who asked.
    pub principal: PrincipalId,
    /// With which key.
    pub api_key_id: ApiKeyId,
    /// By which HTTP request.
    pub request_id: RequestId,
    /// The catalogue version at the start.
    pub config_version: u64,
    /// What its caller finds it by.
    pub labels: Labels,
    /// The serialised `PlanSpec`.
    pub spec_json: String,
    /// The hash of its idempotency scope, while it is the current run of that scope.
    pub idempotency_scope: Option<String>,
    /// The hash of the body that it was asked with.
    pub body_hash: Option<String>,
    /// Counts the runs of one idempotency scope from 1.
    pub generation: u32,
    /// The workflow that is to carry it.
    pub workflow_id: Option<WorkflowId>,
    /// Where it stands.
    pub status: RunStatus,
    /// Why it ended.
    pub stop_reason: Option<StopReason>,
    /// Who claimed it last.
    pub owner: Option<Owner>,
    /// Counts the owners from 1; 0 before the first.
    pub epoch: i64,
    /// The end of a process's claim.
    pub lease_until: Option<UnixMicros>,
    /// Who carried it, once it has ended.
    pub durability: Option<DurabilityMark>,
    /// Whose answer it is.
    pub negotiated_model: Option<ModelId>,
    /// The serialised `Outcome`.
    pub outcome_json: Option<String>,
    /// The sums over its steps.
    pub usage: Usage,
    /// The number of its last event.
    pub last_seq: u64,
    /// When it was accepted.
    pub created_at: UnixMicros,
    /// When it was first claimed.
    pub started_at: Option<UnixMicros>,
    /// When it ended.
    pub finished_at: Option<UnixMicros>,
    /// When the row last changed.
    pub updated_at: UnixMicros,
}

impl RunRow {
    /// Whether the same request may be carried out once more: it has ended without an answer. One whose answer somebody
    /// refused, or nobody decided about, has one.
    pub fn may_be_repeated(&self) -> bool {
        let is_refused = matches!(self.stop_reason, Some(StopReason::Rejected | StopReason::ApprovalExpired));
        self.status.is_final() && !self.status.is_answered() && !is_refused
    }

    pub(crate) fn from_model(model: runs::Model) -> Result<Self, StoreError> {
        let status = RunStatus::parse(&model.status)
            .ok_or_else(|| StoreError::Decode { column: "runs.status", value: model.status.clone() })?;
        let kind = RunKind::parse(&model.kind)
            .ok_or_else(|| StoreError::Decode { column: "runs.kind", value: model.kind.clone() })?;
        Ok(Self {
            usage: super::usage_of(&model),
            labels: labels_of(&model)?,
            stop_reason: named_if_set("runs.stop_reason", model.stop_reason.as_deref())?,
            durability: model.durability.as_deref().map(|mark| named("runs.durability", mark)).transpose()?,
            run_id: RunId::new(model.run_id),
            kind,
            tenant: TenantId::new(model.tenant),
            principal: PrincipalId::new(model.principal),
            api_key_id: ApiKeyId::new(model.api_key_id),
            request_id: RequestId::new(model.request_id),
            config_version: counted(model.config_version),
            spec_json: model.spec_json,
            idempotency_scope: model.idempotency_scope,
            body_hash: model.body_hash,
            generation: counted_small(model.generation),
            workflow_id: model.workflow_id.map(WorkflowId::new),
            status,
            owner: model.owner.map(Owner),
            epoch: model.epoch,
            lease_until: model.lease_until.map(UnixMicros),
            negotiated_model: model.negotiated_model.map(ModelId::new),
            outcome_json: model.outcome_json,
            last_seq: counted(model.last_seq),
            created_at: UnixMicros(model.created_at),
            started_at: model.started_at.map(UnixMicros),
            finished_at: model.finished_at.map(UnixMicros),
            updated_at: UnixMicros(model.updated_at),
        })
    }
}

fn labels_of(model: &runs::Model) -> Result<Labels, StoreError> {
    let tags = match &model.tags {
        None => Tags::default(),
        Some(json) => {
            serde_json::from_str(json).map_err(|_| StoreError::Decode { column: "runs.tags", value: json.clone() })?
        }
    };
    let pinned = model.template.as_ref().zip(model.template_version).zip(model.template_hash.as_ref());
    let template = pinned.map(|((name, version), hash)| TemplatePin {
        name: TemplateName::from(name.as_str()),
        version: counted(version),
        hash: ContentHash(hash.clone()),
    });
    Ok(Labels { tags, template })
}
