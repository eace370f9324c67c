//! What a change of one entry does to what is stored.

use serde_json::{Map, Value};
use tokenhub_activities::{CatalogueFault, Edit, KeptRecord, NewSecrets};
use tokenhub_config::{RecordKey, RecordKind};
use tokenhub_domain::Deployment;

use super::{not_found, problem_of, version_of};
use crate::{
    error::{CatalogueRefusal, Problem},
    parse::record::Written,
    state::Admin,
};

/// The field with the name of the variable that has a provider's key.
const KEY_VARIABLE: &str = "api_key_env";
/// The fields with the prices of a model.
const PRICES: [&str; 2] = ["input_per_1k", "output_per_1k"];

/// What stops a change.
enum Stopped {
    Refused(Problem),
    Fault(CatalogueFault),
}

impl From<CatalogueFault> for Stopped {
    fn from(fault: CatalogueFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Problem> for Stopped {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

impl From<CatalogueRefusal> for Stopped {
    fn from(refusal: CatalogueRefusal) -> Self {
        Self::Refused(refusal.into())
    }
}

async fn make(admin: &Admin, plan: impl Fn(&[KeptRecord]) -> Result<Edit, Stopped>) -> Result<(), Problem> {
    admin.curator.change(plan).await.map_err(|stopped| match stopped {
        Stopped::Refused(problem) => problem,
        Stopped::Fault(fault) => problem_of(fault),
    })
}

/// A new entry; the name must be free.
pub(super) async fn create(admin: &Admin, key: &RecordKey, written: &Written) -> Result<(), Problem> {
    make(admin, |kept| {
        let stored = kept.iter().any(|kept| &kept.record.key == key).then(|| "the database".to_owned());
        if let Some(place) = stored.or_else(|| place_of(admin, key)) {
            let (kind, id) = (key.kind.as_str(), key.id.clone());
            return Err(CatalogueRefusal::AlreadyThere { kind, id, place }.into());
        }
        Ok(put(key, without_nulls(written.fields.clone()), written))
    })
    .await
}

/// The named fields of an entry change, wherever it comes from.
pub(super) async fn patch(admin: &Admin, key: &RecordKey, written: &Written) -> Result<(), Problem> {
    make(admin, |kept| {
        check_version(kept, key, written.version)?;
        let stored = kept.iter().find(|kept| &kept.record.key == key);
        let is_below = place_of(admin, key).is_some();
        if stored.is_none() && !is_below && !is_listed(admin, key) {
            return Err(not_found(key).into());
        }
        let mut fields = stored.map(|kept| kept.record.fields.clone()).unwrap_or_default();
        fields.extend(written.fields.clone());
        complete_prices(admin, key, &mut fields, &written.fields);
        // A field that a file gives has to be taken back for good.
        Ok(put(key, if is_below { fields } else { without_nulls(fields) }, written))
    })
    .await
}

/// An entry becomes what is written, whether it was there or not.
pub(super) async fn replace(admin: &Admin, key: &RecordKey, written: &Written) -> Result<(), Problem> {
    make(admin, |kept| {
        check_version(kept, key, written.version)?;
        Ok(put(key, written.fields.clone(), written))
    })
    .await
}

/// What is stored of an entry goes, and with a provider of which nothing else is known its models.
pub(super) async fn delete(admin: &Admin, key: &RecordKey, version: Option<u64>) -> Result<(), Problem> {
    make(admin, |kept| {
        check_version(kept, key, version)?;
        let below = place_of(admin, key);
        if !kept.iter().any(|kept| &kept.record.key == key) {
            let (kind, id) = (key.kind.as_str(), key.id.clone());
            return match below.or_else(|| is_listed(admin, key).then(|| "its provider's list".to_owned())) {
                Some(place) => Err(CatalogueRefusal::Elsewhere { kind, id, place }.into()),
                None => Err(not_found(key).into()),
            };
        }
        let mut remove = vec![key.clone()];
        if key.kind == RecordKind::Provider && below.is_none() {
            let models = kept.iter().map(|kept| &kept.record.key);
            remove.extend(models.filter(|it| it.kind == RecordKind::Model && it.provider == key.id).cloned());
        }
        Ok(Edit { put: Vec::new(), remove })
    })
    .await
}

fn check_version(kept: &[KeptRecord], key: &RecordKey, wanted: Option<u64>) -> Result<(), Stopped> {
    let current = version_of(kept, key);
    if wanted.is_none_or(|wanted| wanted == current) {
        return Ok(());
    }
    Err(CatalogueRefusal::Changed { kind: key.kind.as_str(), id: key.id.clone(), current }.into())
}

/// The latest word on a provider's key counts: a key takes the place of a variable's name, and the other way round.
fn put(key: &RecordKey, mut fields: Map<String, Value>, written: &Written) -> Edit {
    let names_variable = written.fields.get(KEY_VARIABLE).is_some_and(|name| !name.is_null());
    let secrets = match &written.keys {
        None if names_variable => NewSecrets::Dropped,
        None => NewSecrets::Kept,
        Some(Value::Null) => NewSecrets::Dropped,
        Some(keys) => {
            fields.remove(KEY_VARIABLE);
            NewSecrets::Given(keys.clone())
        }
    };
    Edit { put: vec![(key.clone(), fields, secrets)], remove: Vec::new() }
}

/// Who says one price means to keep the other, whoever said that one.
fn complete_prices(admin: &Admin, key: &RecordKey, fields: &mut Map<String, Value>, written: &Map<String, Value>) {
    if key.kind != RecordKind::Model || !PRICES.iter().any(|name| written.get(*name).is_some_and(Value::is_number)) {
        return;
    }
    let catalogue = admin.world.catalogue.load();
    let Some(model) = catalogue.model(&deployment_of(key)) else { return };
    for (name, price) in PRICES.into_iter().zip([model.input_price, model.output_price]) {
        if !fields.contains_key(name) {
            fields.insert(name.to_owned(), price.cost_of(1_000).as_usd().into());
        }
    }
}

fn without_nulls(mut fields: Map<String, Value>) -> Map<String, Value> {
    fields.retain(|_, value| !value.is_null());
    fields
}

/// Where the entry stands, the database aside.
fn place_of(admin: &Admin, key: &RecordKey) -> Option<String> {
    admin.curator.live().settings().configured.place_of(key).map(str::to_owned)
}

/// Whether a provider lists the model.
fn is_listed(admin: &Admin, key: &RecordKey) -> bool {
    key.kind == RecordKind::Model && admin.world.catalogue.load().model(&deployment_of(key)).is_some()
}

fn deployment_of(key: &RecordKey) -> Deployment {
    Deployment::new(key.id.as_str(), key.provider.as_str())
}
