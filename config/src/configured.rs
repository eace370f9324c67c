//! Everything that was written about providers, models and aliases, source by source, and the catalogue it comes to.
//!
//! Owns how a record of an administrator lies over an entry of the same name: its fields win, the others stay, and `null`
//! takes a field back to its default (RFC 7396). What an entry may be is decided in [`crate::catalogue`]. Must not know
//! where records are kept.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::{
    ConfigError, Environment,
    catalogue::{Builder, Built, Source},
    entries::{AliasEntry, Concealed, CredentialEntry, Entries, ModelEntry, ProviderEntry},
};

/// Where records come from, for messages.
pub(crate) const RECORDS: &str = "the database";

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// An upstream.
    Provider,
    /// A model at an upstream.
    Model,
    /// A name that stands for models.
    Alias,
}

impl RecordKind {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Alias => "alias",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Provider, Self::Model, Self::Alias].into_iter().find(|kind| kind.as_str() == name)
    }

    /// The field that names an entry.
    pub fn name_field(self) -> &'static str {
        match self {
            Self::Provider | Self::Model => "id",
            Self::Alias => "name",
        }
    }
}

/// What tells an entry from all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// What it is about.
    pub kind: RecordKind,
    /// Its name.
    pub id: String,
    /// Who serves it; empty but for a model.
    pub provider: String,
}

impl RecordKey {
    /// The entry of a provider or an alias.
    pub fn named(kind: RecordKind, id: impl Into<String>) -> Self {
        Self { kind, id: id.into(), provider: String::new() }
    }

    /// The entry of a model.
    pub fn model(id: impl Into<String>, provider: impl Into<String>) -> Self {
        Self { kind: RecordKind::Model, id: id.into(), provider: provider.into() }
    }
}

/// What an administrator wrote about one entry.
#[derive(Clone, Debug)]
pub struct Record {
    /// Which entry.
    pub key: RecordKey,
    /// The fields that were written, `null` for those taken back; no secret is among them.
    pub fields: Map<String, Value>,
    /// `api_key` or `credentials`, where they were written.
    pub secrets: Option<RecordSecrets>,
    /// Whether keys are stored that this process cannot read. A provider is not called without its key: it is off here.
    pub is_locked: bool,
}

/// The keys of a provider's record; a debug print does not show them.
#[derive(Clone, Debug)]
pub struct RecordSecrets(Vec<CredentialEntry>);

impl RecordSecrets {
    /// From the JSON of `api_key` (a text) or `credentials` (a list of `{id, api_key}`).
    pub fn parse(value: &Value) -> Option<Self> {
        match value {
            Value::String(key) => {
                Some(Self(vec![CredentialEntry { id: String::new(), api_key: Concealed(key.clone()) }]))
            }
            Value::Array(_) => serde_json::from_value(value.clone()).ok().map(Self),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        }
    }
}

/// A record that does not fit the rest, and why.
#[derive(Debug)]
pub(crate) struct Misfit {
    pub(crate) key: RecordKey,
    pub(crate) problem: ConfigError,
}

/// Every source as it was read.
#[derive(Clone, Debug, Default)]
pub struct Configured {
    parts: Vec<Part>,
    environment: Environment,
}

#[derive(Clone, Debug)]
struct Part {
    place: String,
    source: Source,
    entries: Entries,
}

impl Configured {
    pub(crate) fn new(environment: &Environment) -> Self {
        Self { parts: Vec::new(), environment: environment.clone() }
    }

    pub(crate) fn add(&mut self, place: &str, source: Source, entries: Entries) {
        self.parts.push(Part { place: place.to_owned(), source, entries });
    }

    /// Gives a provider that is already defined its key, unless it has one. False when it is not defined.
    pub(crate) fn fill_credential(&mut self, provider: &str, secret: &str) -> bool {
        let entries = self.parts.iter_mut().flat_map(|part| part.entries.providers.iter_mut());
        let Some(entry) = entries.into_iter().find(|entry| entry.id == provider) else { return false };
        if entry.credentials.is_empty() && entry.api_key.as_ref().is_none_or(|key| key.0.is_empty()) {
            entry.api_key = Some(Concealed(secret.to_owned()));
        }
        true
    }

    /// What the sources come to by themselves.
    pub(crate) fn build(&self) -> Result<Built, ConfigError> {
        self.checked().map(Builder::finish)
    }

    fn checked(&self) -> Result<Builder, ConfigError> {
        let mut builder = Builder::default();
        for Part { place, source, entries } in &self.parts {
            let mut entries = entries.clone();
            for provider in &mut entries.providers {
                self.look_up_key(provider);
            }
            builder.add(place, *source, entries)?;
        }
        Ok(builder)
    }

    /// What the sources with `records` over them come to, and the records that do not fit: a provider may have gone from
    /// its file since. One of them harms no other; the sources alone must fit.
    pub(crate) fn with_fitting(&self, records: &[Record]) -> Result<(Built, Vec<Misfit>), ConfigError> {
        if let Ok(built) = self.with(records).and_then(|all| all.build()) {
            return Ok((built, Vec::new()));
        }
        self.checked()?;
        let (mut fitting, mut misfits) = (Vec::with_capacity(records.len()), Vec::new());
        // Models need their providers.
        for kind in [RecordKind::Provider, RecordKind::Model, RecordKind::Alias] {
            for record in records.iter().filter(|record| record.key.kind == kind) {
                fitting.push(record.clone());
                if let Err(problem) = self.with(&fitting).and_then(|all| all.checked()) {
                    fitting.pop();
                    misfits.push(Misfit { key: record.key.clone(), problem });
                }
            }
        }
        Ok((self.with(&fitting)?.build()?, misfits))
    }

    /// Where the variable is not set, the provider is off: it is not called without its key.
    fn look_up_key(&self, provider: &mut ProviderEntry) {
        let Some(name) = provider.api_key_env.as_deref() else { return };
        if provider.api_key.is_some() || !provider.credentials.is_empty() {
            return;
        }
        match self.environment.get(name) {
            Some(key) => provider.api_key = Some(Concealed(key.to_owned())),
            None => provider.enabled = false,
        }
    }

    /// The sources with `records` over them.
    pub(crate) fn with(&self, records: &[Record]) -> Result<Self, ConfigError> {
        let mut all = self.clone();
        let mut added = Entries::default();
        for record in records {
            all.lay_over(record, &mut added)?;
        }
        all.add(RECORDS, Source::Operator, added);
        Ok(all)
    }

    fn lay_over(&mut self, record: &Record, added: &mut Entries) -> Result<(), ConfigError> {
        let RecordKey { id, provider, .. } = &record.key;
        match record.key.kind {
            RecordKind::Provider => {
                let known = self.parts.iter_mut().flat_map(|part| &mut part.entries.providers);
                let known = known.into_iter().find(|entry| &entry.id == id);
                let mut entry: ProviderEntry = merged(record, known.as_deref())?;
                let names_variable = record.fields.get("api_key_env").is_some_and(|name| !name.is_null());
                entry.enabled &= !record.is_locked;
                match (&record.secrets, &known) {
                    (Some(RecordSecrets(keys)), _) => set_keys(&mut entry, keys.clone()),
                    (None, Some(known)) if !names_variable => {
                        entry.api_key.clone_from(&known.api_key);
                        entry.credentials.clone_from(&known.credentials);
                    }
                    (None, Some(_) | None) => {}
                }
                place(entry, known, &mut added.providers);
            }
            RecordKind::Model => {
                let known = self.parts.iter_mut().flat_map(|part| &mut part.entries.models);
                let known = known.into_iter().find(|entry| &entry.id == id && &entry.provider_id == provider);
                place(merged::<ModelEntry>(record, known.as_deref())?, known, &mut added.models);
            }
            RecordKind::Alias => {
                let known = self.parts.iter_mut().flat_map(|part| &mut part.entries.aliases);
                let known = known.into_iter().find(|entry| &entry.name == id);
                place(merged::<AliasEntry>(record, known.as_deref())?, known, &mut added.aliases);
            }
        }
        Ok(())
    }

    /// Where the entry is written, records aside.
    pub fn place_of(&self, key: &RecordKey) -> Option<&str> {
        let holds = |part: &&Part| match key.kind {
            RecordKind::Provider => part.entries.providers.iter().any(|entry| entry.id == key.id),
            RecordKind::Model => {
                part.entries.models.iter().any(|entry| entry.id == key.id && entry.provider_id == key.provider)
            }
            RecordKind::Alias => part.entries.aliases.iter().any(|entry| entry.name == key.id),
        };
        self.parts.iter().find(holds).map(|part| part.place.as_str())
    }

    /// The variable that `fields` names for a key, if this process does not have it.
    pub fn missing_variable<'a>(&self, fields: &'a Map<String, Value>) -> Option<&'a str> {
        let named = fields.get("api_key_env").and_then(Value::as_str)?;
        self.environment.get(named).is_none().then_some(named)
    }
}

fn set_keys(entry: &mut ProviderEntry, keys: Vec<CredentialEntry>) {
    let (unnamed, named): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.id.is_empty());
    entry.api_key = unnamed.into_iter().next().map(|key| key.api_key);
    entry.credentials = named;
}

fn place<T>(entry: T, known: Option<&mut T>, added: &mut Vec<T>) {
    match known {
        Some(known) => *known = entry,
        None => added.push(entry),
    }
}

/// The entry that `known` becomes with the fields of `record`.
fn merged<T: Serialize + DeserializeOwned>(record: &Record, known: Option<&T>) -> Result<T, ConfigError> {
    let unreadable = |source| ConfigError::ParseProviders { place: RECORDS.to_owned(), source };
    let mut fields = match known {
        Some(entry) => serde_json::to_value(entry).map_err(unreadable)?,
        None => json!({}),
    };
    if let Some(object) = fields.as_object_mut() {
        object.extend(record.fields.clone());
        object.insert(record.key.kind.name_field().to_owned(), record.key.id.clone().into());
        if record.key.kind == RecordKind::Model {
            object.insert("provider_id".to_owned(), record.key.provider.clone().into());
        }
        object.retain(|_, value| !value.is_null());
    }
    serde_json::from_value(fields).map_err(unreadable)
}

/// The first of `fields` that an entry of `kind` does not have or that has another type there, and what is wrong.
pub fn misread_field(kind: RecordKind, fields: &Map<String, Value>) -> Option<(String, String)> {
    fields.iter().filter(|(_, value)| !value.is_null()).find_map(|(name, value)| {
        let minimal = match kind {
            RecordKind::Provider => json!({"id": "x"}),
            RecordKind::Model => json!({"id": "x", "provider_id": "x"}),
            RecordKind::Alias => json!({"name": "x", "variants": []}),
        };
        let mut object = minimal;
        object.as_object_mut()?.insert(name.clone(), value.clone());
        let error = match kind {
            RecordKind::Provider => serde_json::from_value::<ProviderEntry>(object).err(),
            RecordKind::Model => serde_json::from_value::<ModelEntry>(object).err(),
            RecordKind::Alias => serde_json::from_value::<AliasEntry>(object).err(),
        };
        error.map(|error| (name.clone(), error.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::{ModelId, NanoDollars};

    use super::*;

    fn configured() -> Configured {
        let mut configured = Configured::new(&Environment::default().with("SPARE_KEY", "from a variable"));
        let entries = json!({"providers": [{"id": "p", "base_url": "http://h", "api_key": "of the file"}],
            "models": [{"id": "org/m", "provider_id": "p", "weight": 3, "max_context_tokens": 10, "input_per_1k": 0.5}]});
        configured.add("a file", Source::Operator, serde_json::from_value(entries).unwrap());
        configured
    }

    fn record(key: RecordKey, fields: Value) -> Record {
        let Value::Object(fields) = fields else { panic!("an object") };
        Record { key, fields, secrets: None, is_locked: false }
    }

    #[test]
    fn a_record_wins_field_by_field_and_null_takes_a_field_back() {
        let fields = json!({"weight": 9, "max_context_tokens": null});
        let all = configured().with(&[record(RecordKey::model("org/m", "p"), fields)]).unwrap();
        let model = all.build().unwrap().catalogue.models.remove(0);
        assert_eq!((model.id, model.weight, model.max_context_tokens), (ModelId::from("org/m"), 9, None));
        assert_eq!(model.input_price.cost_of(1_000), NanoDollars(500_000_000), "the file's price stays");
    }

    #[test]
    fn a_key_is_kept_unless_another_one_is_written_and_can_be_named_by_a_variable() {
        use secrecy::ExposeSecret;
        let key_with = |fields: Value, secrets: Option<Value>| {
            let mut written = record(RecordKey::named(RecordKind::Provider, "p"), fields);
            written.secrets = secrets.and_then(|value| RecordSecrets::parse(&value));
            let built = configured().with(&[written]).unwrap().build().unwrap();
            let keys = built.credentials[&"p".into()].values();
            keys.map(|key| key.expose_secret().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(key_with(json!({"enabled": false}), None), ["of the file"]);
        assert_eq!(key_with(json!({}), Some(json!("another"))), ["another"]);
        assert_eq!(
            key_with(json!({}), Some(json!([{"id": "a", "api_key": "1"}, {"id": "b", "api_key": "2"}]))),
            ["1", "2"]
        );
        let new = record(
            RecordKey::named(RecordKind::Provider, "q"),
            json!({"base_url": "http://q", "api_key_env": "SPARE_KEY"}),
        );
        let built = configured().with(&[new]).unwrap().build().unwrap();
        assert_eq!(built.credentials[&"q".into()][&"".into()].expose_secret(), "from a variable");
    }

    #[test]
    fn a_record_that_does_not_fit_harms_no_other() {
        let gone = record(RecordKey::model("org/m", "gone"), json!({"weight": 1}));
        let heavy = record(RecordKey::model("new", "p"), json!({"weight": 99}));
        let good = record(RecordKey::model("org/m", "p"), json!({"weight": 9}));
        let (built, misfits) = configured().with_fitting(&[gone, heavy, good]).unwrap();
        let weights: Vec<_> = built.catalogue.models.iter().map(|model| model.weight).collect();
        assert_eq!(weights, [9]);
        let keys: Vec<_> = misfits.into_iter().map(|misfit| misfit.key).collect();
        assert_eq!(keys, [RecordKey::model("org/m", "gone"), RecordKey::model("new", "p")]);
    }

    #[test]
    fn a_provider_whose_key_is_not_to_be_had_is_off_and_a_named_variable_wins_over_the_files_key() {
        use secrecy::ExposeSecret;
        let provider = |fields: Value, is_locked: bool| {
            let mut written = record(RecordKey::named(RecordKind::Provider, "p"), fields);
            written.is_locked = is_locked;
            let built = configured().with(&[written]).unwrap().build().unwrap();
            let keys = built.credentials[&"p".into()].values().map(|key| key.expose_secret().to_owned()).collect();
            (built.catalogue.providers[0].enabled, keys)
        };
        let own = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        assert_eq!(provider(json!({"enabled": true}), true), (false, own(&["of the file"])));
        assert_eq!(provider(json!({"api_key_env": "SPARE_KEY"}), false), (true, own(&["from a variable"])));
        assert_eq!(provider(json!({"api_key_env": "NOT_SET"}), false), (false, own(&[])));
    }

    #[test]
    fn a_field_that_is_unknown_or_of_another_type_is_named() {
        let misread = |kind, fields: Value| misread_field(kind, fields.as_object().unwrap()).map(|(field, _)| field);
        assert_eq!(misread(RecordKind::Model, json!({"weight": "heavy"})).as_deref(), Some("weight"));
        assert_eq!(misread(RecordKind::Model, json!({"weight": null, "wait": 1})).as_deref(), Some("wait"));
        assert_eq!(misread(RecordKind::Alias, json!({"variants": [{"model": 1}]})).as_deref(), Some("variants"));
        assert_eq!(misread(RecordKind::Provider, json!({"base_url": "http://h", "enabled": true})), None);
    }
}
