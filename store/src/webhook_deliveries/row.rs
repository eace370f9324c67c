//! A webhook on its way as it is stored, typed.

use tokenhub_domain::{DeliveryId, PlanEvent, RunId, TenantId, UnixMicros, Webhook};

use crate::{StoreError, columns::counted_small, entities::webhook_deliveries::Model};

/// What parts the names in the column of wished events.
const SEPARATOR: char = ',';

/// Where a webhook stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// Its run has not ended.
    Waiting,
    /// It is to be sent, now or at its next try.
    Pending,
    /// Its receiver has taken it.
    Delivered,
    /// It was given up.
    Dead,
}

impl DeliveryState {
    const ALL: [Self; 4] = [Self::Waiting, Self::Pending, Self::Delivered, Self::Dead];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }

    /// The state named `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// One webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// What its receiver knows it by, the same over all tries.
    pub id: DeliveryId,
    /// Whose run it is about.
    pub tenant: TenantId,
    /// Its run.
    pub run_id: RunId,
    /// Where it goes.
    pub url: String,
    /// What its receiver wants to hear of; everything when it is empty.
    pub events: Vec<PlanEvent>,
    /// Where it stands.
    pub state: DeliveryState,
    /// What happened, once the run has ended.
    pub event: Option<PlanEvent>,
    /// Tries that were begun, since it was last asked for.
    pub tries: u32,
    /// When it is to be sent.
    pub next_at: Option<UnixMicros>,
    /// Since when it is to be sent.
    pub due_since: Option<UnixMicros>,
    /// The status of the latest answer.
    pub last_status: Option<u16>,
    /// Why the latest try was none.
    pub last_error: Option<String>,
    /// When the run was accepted.
    pub created_at: UnixMicros,
    /// When its receiver took it.
    pub delivered_at: Option<UnixMicros>,
}

impl DeliveryRow {
    pub(super) fn from_model(model: Model) -> Result<Self, StoreError> {
        let state = DeliveryState::parse(&model.state)
            .ok_or_else(|| StoreError::Decode { column: "webhook_deliveries.state", value: model.state.clone() })?;
        Ok(Self {
            id: DeliveryId::new(model.id),
            tenant: TenantId::new(model.tenant),
            run_id: RunId::new(model.run_id),
            url: model.url,
            events: events_of(&model.events)?,
            state,
            event: model.event.as_deref().map(event_of).transpose()?,
            tries: counted_small(model.tries),
            next_at: model.next_at.map(UnixMicros),
            due_since: model.due_since.map(UnixMicros),
            last_status: model.last_status.and_then(|status| u16::try_from(status).ok()),
            last_error: model.last_error,
            created_at: UnixMicros(model.created_at),
            delivered_at: model.delivered_at.map(UnixMicros),
        })
    }
}

/// The row of a webhook whose run begins now.
pub(super) fn waiting(tenant: &str, run_id: &str, webhook: &Webhook, now: i64) -> Model {
    let events: Vec<&str> = webhook.events.iter().map(|event| event.as_str()).collect();
    Model {
        id: DeliveryId::generate().to_string(),
        tenant: tenant.to_owned(),
        run_id: run_id.to_owned(),
        url: webhook.url.clone(),
        events: events.join(&SEPARATOR.to_string()),
        state: DeliveryState::Waiting.as_str().to_owned(),
        event: None,
        last_error: None,
        leased_by: None,
        tries: 0,
        next_at: None,
        due_since: None,
        last_status: None,
        lease_until: None,
        delivered_at: None,
        created_at: now,
        updated_at: now,
    }
}

pub(super) fn events_of(names: &str) -> Result<Vec<PlanEvent>, StoreError> {
    names.split(SEPARATOR).filter(|name| !name.is_empty()).map(event_of).collect()
}

fn event_of(name: &str) -> Result<PlanEvent, StoreError> {
    PlanEvent::parse(name)
        .ok_or_else(|| StoreError::Decode { column: "webhook_deliveries.event", value: name.to_owned() })
}
