//! Entries into a catalogue: every id, address, weight and price is checked once, here.
//!
//! Owns the rules of what a provider and a model may be. Knows nothing of files; the place of an entry comes with it,
//! for the messages.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::SecretString;
use tokenhub_domain::{
    CallRate, Capabilities, Catalogue, CredentialId, Dialect, Model, ModelId, ModelQuirks, PricePerMillion,
    PriceSource, Provider, ProviderId, ProviderKind, ProviderOrigin, limits,
};

use crate::{
    ConfigError,
    aliases::Aliases,
    entries::{Concealed, CredentialEntry, Entries, ModelEntry, ProviderEntry},
    published,
};

/// The prefix of the names under which plans are offered as models.
pub(crate) const RESERVED_MODEL_PREFIX: &str = "plan/";

const OPENAI_BASE_URL: &str = "https://api.openai.com";

/// The keys of every provider, by their names.
pub type Secrets = BTreeMap<ProviderId, BTreeMap<CredentialId, SecretString>>;

/// Who wrote the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A person: everything is a configured provider.
    Operator,
    /// `tokenhub up`: entries say themselves what they are.
    Hub,
}

/// What is wrong with an entry, and in which of its fields.
#[derive(Debug)]
pub(crate) struct Flaw {
    pub(crate) field: &'static str,
    pub(crate) problem: String,
}

impl Flaw {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}

/// A catalogue in the making.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    providers: Vec<Provider>,
    models: Vec<Model>,
    aliases: Aliases,
    credentials: Secrets,
    places: BTreeMap<ProviderId, String>,
}

/// What the sources came to.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) catalogue: Catalogue,
    pub(crate) credentials: Secrets,
    pub(crate) places: BTreeMap<ProviderId, String>,
}

impl Builder {
    /// Takes the entries of one place.
    pub(crate) fn add(&mut self, place: &str, source: Source, entries: Entries) -> Result<(), ConfigError> {
        for entry in entries.providers {
            self.add_provider(place, source, entry)?;
        }
        for entry in entries.models {
            self.add_model(place, &entry)?;
        }
        for entry in entries.aliases {
            let name = entry.name.clone();
            let alias = self.aliases.checked(entry);
            alias.map_err(|Flaw { field, problem }| ConfigError::BadAlias {
                place: place.to_owned(),
                name,
                field,
                problem,
            })?;
        }
        Ok(())
    }

    /// The catalogue, once every source was added.
    pub(crate) fn finish(self) -> Built {
        let Self { providers, models, aliases, credentials, places } = self;
        let aliases = aliases.finish();
        let mut catalogue = Catalogue { version: 1, providers, models, aliases };
        published::fill_in(&mut catalogue);
        Built { catalogue, credentials, places }
    }

    fn add_provider(&mut self, place: &str, source: Source, entry: ProviderEntry) -> Result<(), ConfigError> {
        let id = ProviderId::new(entry.id.clone());
        let refuse = |field, problem: String| {
            Err(ConfigError::BadProvider { place: place.to_owned(), id: id.clone(), field, problem })
        };
        if let Some(problem) = problem_of_id(&entry.id) {
            return refuse("id", format!("the id {problem}"));
        }
        if let Some(other) = self.places.get(&id) {
            return refuse("id", format!("already defined in {other}"));
        }
        let Some(kind) = kind_named(entry.kind.as_deref()) else {
            let name = entry.kind.unwrap_or_default();
            return refuse("type", format!("unknown type `{name}`, expected `openai`, `anthropic` or `vllm`"));
        };
        if let Some(name) = entry.prices_of.as_deref().filter(|name| !published::is_known(name)) {
            return refuse("prices_of", format!("prices_of `{name}` is no provider of the published prices"));
        }
        if let Some(name) = entry.api_key_env.as_deref().filter(|name| is_of_ours(name)) {
            return refuse("api_key_env", format!("the variable {name} is TokenHub's own, and no provider's key"));
        }
        let max_rate = match rate_of(&entry) {
            Ok(max_rate) => max_rate,
            Err(problem) => return refuse("max_requests_per_second", problem),
        };
        let (base_url, replicas) = match roots_of(&entry, kind) {
            Ok(roots) => roots,
            Err(problem) => return refuse("base_url", problem),
        };
        let origin = match (source, entry.origin) {
            (Source::Operator, Some(_)) => return refuse("origin", "unknown field `origin`".to_owned()),
            (Source::Operator, None) => ProviderOrigin::Configured,
            (Source::Hub, origin) => origin.unwrap_or_default(),
        };
        let secrets = match secrets_of(entry.api_key, entry.credentials) {
            Ok(secrets) => secrets,
            Err(problem) => return refuse("credentials", problem),
        };
        let dialects = dialects_of(entry.protocols, kind, &base_url);
        if let Some(problem) = problem_of_background(entry.background, &dialects, &replicas) {
            return refuse("background", problem.to_owned());
        }
        let named: Vec<CredentialId> = secrets.iter().map(|(id, _)| id.clone()).filter(|id| !id.is_empty()).collect();
        self.credentials.insert(id.clone(), secrets.into_iter().collect());
        self.places.insert(id.clone(), place.to_owned());
        self.providers.push(Provider {
            dialects,
            replicas,
            credential_header: entry.credential_header.unwrap_or_else(|| kind.credential_header()),
            credentials: named,
            enabled: entry.enabled,
            origin,
            autoload_models: entry.autoload_models,
            prices_of: entry.prices_of,
            background: entry.background,
            max_rate,
            ..Provider::new(id, kind, base_url)
        });
        Ok(())
    }

    fn add_model(&mut self, place: &str, entry: &ModelEntry) -> Result<(), ConfigError> {
        let id = ModelId::new(entry.id.clone());
        let provider_id = ProviderId::new(entry.provider_id.clone());
        let refused =
            |Flaw { field, problem }| ConfigError::BadModel { place: place.to_owned(), id: id.clone(), field, problem };
        let model = self.checked_model(entry, &id, &provider_id).map_err(refused)?;
        self.models.push(model);
        Ok(())
    }

    fn checked_model(&mut self, entry: &ModelEntry, id: &ModelId, provider: &ProviderId) -> Result<Model, Flaw> {
        if let Some(problem) = problem_of_id(id.as_str()) {
            return Err(Flaw::new("id", format!("the id {problem}")));
        }
        if id.as_str().starts_with(RESERVED_MODEL_PREFIX) {
            return Err(Flaw::new("id", format!("the prefix `{RESERVED_MODEL_PREFIX}` is reserved for plans")));
        }
        if !self.places.contains_key(provider) {
            return Err(Flaw::new("provider_id", format!("its provider `{provider}` is not defined")));
        }
        if self.models.iter().any(|model| &model.id == id && &model.provider_id == provider) {
            return Err(Flaw::new("id", format!("defined twice at provider `{provider}`")));
        }
        if entry.weight > limits::WEIGHT_MAX {
            return Err(Flaw::new("weight", format!("weight {} is above {}", entry.weight, limits::WEIGHT_MAX)));
        }
        let quirks = quirks_of(entry).map_err(|problem| Flaw::new("tool_name_map", problem))?;
        let at = self.providers.iter().find(|one| &one.id == provider);
        if let Some(problem) = at.filter(|_| !quirks.is_empty()).and_then(problem_of_quirks) {
            return Err(Flaw::new("gemma4_output", problem));
        }
        let known = Model::new(id.clone(), provider.clone());
        Ok(Model {
            weight: entry.weight,
            max_context_tokens: entry.max_context_tokens.filter(|tokens| *tokens > 0),
            max_output_tokens: entry.max_output_tokens.filter(|tokens| *tokens > 0),
            input_price: price("input_per_1k", entry.input_per_1k.unwrap_or_default())?,
            output_price: price("output_per_1k", entry.output_per_1k.unwrap_or_default())?,
            price_source: match (entry.input_per_1k, entry.output_per_1k) {
                (None, None) => PriceSource::Unknown,
                _ => PriceSource::Manual,
            },
            enabled: entry.enabled,
            quirks,
            capabilities: known.capabilities.overridden_by(&Capabilities(entry.capabilities.clone())),
            fallbacks: entry.fallbacks.clone(),
            ..known
        })
    }
}

fn quirks_of(entry: &ModelEntry) -> Result<ModelQuirks, String> {
    let tool_names = entry.tool_name_map.clone().unwrap_or_default();
    let mut callers = BTreeSet::new();
    for (own, name) in &tool_names {
        if own.is_empty() || name.is_empty() {
            return Err("tool_name_map has an empty name".to_owned());
        }
        if !callers.insert(name) {
            return Err(format!("tool_name_map gives two tools the name `{name}`"));
        }
    }
    Ok(ModelQuirks { gemma4_output: entry.gemma4_output.unwrap_or_default(), tool_names })
}

fn rate_of(entry: &ProviderEntry) -> Result<Option<CallRate>, String> {
    let Some(calls) = entry.max_requests_per_second else { return Ok(None) };
    let rate = CallRate::per_second(calls);
    rate.map(Some).ok_or_else(|| format!("max_requests_per_second {calls} is not a rate of 0.0012 to 10000"))
}

/// Whether a variable may hold a secret of ours, which no provider must be sent.
fn is_of_ours(variable: &str) -> bool {
    ["TOKENHUB_", "TEMPORAL_", "DATABASE_"].iter().any(|own| variable.starts_with(own))
}

fn kind_named(name: Option<&str>) -> Option<ProviderKind> {
    match name {
        None | Some("openai" | "") => Some(ProviderKind::Openai),
        Some("anthropic") => Some(ProviderKind::Anthropic),
        Some("vllm") => Some(ProviderKind::Vllm),
        Some(_) => None,
    }
}

fn default_base_url(kind: ProviderKind) -> Option<&'static str> {
    match kind {
        ProviderKind::Openai => Some(OPENAI_BASE_URL),
        ProviderKind::Anthropic => Some("https://api.anthropic.com"),
        ProviderKind::Vllm => None,
    }
}

/// The first server of a provider, and the others.
fn roots_of(entry: &ProviderEntry, kind: ProviderKind) -> Result<(String, Vec<String>), String> {
    let mut roots = Vec::with_capacity(1 + entry.base_urls.len());
    for base_url in entry.base_url.iter().chain(&entry.base_urls) {
        let root = normal_base_url(base_url);
        roots.push(root.ok_or_else(|| format!("base_url `{base_url}` is not an http or https address"))?);
    }
    if roots.is_empty() {
        roots.extend(default_base_url(kind).map(str::to_owned));
    }
    let mut roots = roots.into_iter();
    let first = roots.next().ok_or("base_url is missing")?;
    Ok((first, roots.collect()))
}

fn problem_of_quirks(provider: &Provider) -> Option<&'static str> {
    if !provider.dialects.contains(&Dialect::Chat) {
        return Some("gemma4_output and tool_name_map need a provider that speaks `chat`");
    }
    let problem = "gemma4_output and tool_name_map go by `chat`, and the `background` of the provider by `responses`";
    provider.background.then_some(problem)
}

fn problem_of_background(is_wanted: bool, dialects: &[Dialect], replicas: &[String]) -> Option<&'static str> {
    if !is_wanted {
        return None;
    }
    if !dialects.contains(&Dialect::Responses) {
        return Some("background needs a provider that speaks `responses`");
    }
    let problem = "background needs a single base_url: no other server knows a response that one has begun";
    (!replicas.is_empty()).then_some(problem)
}

fn dialects_of(protocols: Vec<Dialect>, kind: ProviderKind, base_url: &str) -> Vec<Dialect> {
    if protocols.is_empty() { default_dialects(kind, base_url) } else { distinct(protocols) }
}

/// OpenAI itself also speaks Responses; of what is only compatible with it, the operator has to say so.
fn default_dialects(kind: ProviderKind, base_url: &str) -> Vec<Dialect> {
    let mut dialects = kind.dialects();
    if base_url == OPENAI_BASE_URL {
        dialects.push(Dialect::Responses);
    }
    dialects
}

fn distinct(dialects: Vec<Dialect>) -> Vec<Dialect> {
    let mut seen = Vec::with_capacity(dialects.len());
    for dialect in dialects {
        if !seen.contains(&dialect) {
            seen.push(dialect);
        }
    }
    seen
}

/// The keys of a provider in the order of their use.
fn secrets_of(
    api_key: Option<Concealed>,
    named: Vec<CredentialEntry>,
) -> Result<Vec<(CredentialId, SecretString)>, String> {
    let api_key = api_key.filter(|key| !key.0.is_empty());
    if api_key.is_some() && !named.is_empty() {
        return Err("api_key and credentials exclude each other".to_owned());
    }
    let mut secrets: Vec<(CredentialId, SecretString)> = Vec::with_capacity(named.len() + 1);
    secrets.extend(api_key.map(|key| (CredentialId::default(), key.0.into())));
    for entry in named {
        if let Some(problem) = problem_of_id(&entry.id) {
            return Err(format!("the id of a credential {problem}"));
        }
        let id = CredentialId::new(entry.id);
        if secrets.iter().any(|(other, _)| other == &id) {
            return Err(format!("the credential `{id}` is defined twice"));
        }
        if entry.api_key.0.is_empty() {
            return Err(format!("the credential `{id}` has no api_key"));
        }
        secrets.push((id, entry.api_key.0.into()));
    }
    Ok(secrets)
}

fn price(field: &'static str, usd: f64) -> Result<PricePerMillion, Flaw> {
    PricePerMillion::from_usd_per_thousand(usd)
        .filter(|price| price.0 >= 0)
        .ok_or_else(|| Flaw::new(field, format!("{field} {usd} is not a price")))
}

/// Any printable characters make an id; they end up in headers, columns and labels.
pub(crate) fn problem_of_id(id: &str) -> Option<&'static str> {
    if id.is_empty() {
        Some("is empty")
    } else if id.len() > limits::MODEL_ID_BYTES {
        Some("is longer than 256 bytes")
    } else if id.chars().any(char::is_control) || id.trim() != id {
        Some("holds control characters or surrounding spaces")
    } else {
        None
    }
}

/// The root of the API: `https://host/v1/` and `https://host` are the same provider.
fn normal_base_url(text: &str) -> Option<String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    if rest.is_empty() || rest.starts_with('/') || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let trimmed = text.trim_end_matches('/');
    Some(trimmed.strip_suffix("/v1").unwrap_or(trimmed).trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use tokenhub_domain::CredentialHeader;

    use super::*;

    fn entries(json: &str) -> Entries {
        serde_json::from_str(json).unwrap()
    }

    fn refused(json: &str) -> String {
        Builder::default().add("here", Source::Operator, entries(json)).unwrap_err().to_string()
    }

    #[test]
    fn ids_of_models_hold_any_printable_character() {
        let mut builder = Builder::default();
        let json = r#"{"providers":[{"id":"p","base_url":"http://h/v1/"}],
            "models":[{"id":"org/model:7b-q4.K+x@2025 ü","provider_id":"p","input_per_1k":0.01}]}"#;
        builder.add("here", Source::Operator, entries(json)).unwrap();
        let built = builder.finish();
        assert_eq!(built.catalogue.models[0].id.as_str(), "org/model:7b-q4.K+x@2025 ü");
        assert_eq!(built.catalogue.models[0].weight, 5);
        assert_eq!(built.catalogue.models[0].input_price, PricePerMillion(10_000_000_000));
        assert_eq!(built.catalogue.providers[0].base_url, "http://h");
    }

    #[test]
    fn entries_that_make_no_sense_are_refused_with_place_and_id() {
        let provider = r#""providers":[{"id":"p","base_url":"http://h"}]"#;
        assert_eq!(
            refused(&format!(r#"{{{provider},"models":[{{"id":"plan/x","provider_id":"p"}}]}}"#)),
            "here: model `plan/x`: the prefix `plan/` is reserved for plans"
        );
        assert!(refused(r#"{"models":[{"id":"m","provider_id":"q"}]}"#).contains("provider `q` is not defined"));
        assert!(
            refused(&format!(r#"{{{provider},"models":[{{"id":"a\nb","provider_id":"p"}}]}}"#)).contains("control")
        );
        let overweight = format!(r#"{{{provider},"models":[{{"id":"m","provider_id":"p","weight":11}}]}}"#);
        assert!(refused(&overweight).contains("weight 11 is above 10"));
        let negative = format!(r#"{{{provider},"models":[{{"id":"m","provider_id":"p","output_per_1k":-1}}]}}"#);
        assert!(refused(&negative).contains("output_per_1k -1 is not a price"));
        assert!(refused(r#"{"providers":[{"id":"p","base_url":"ftp://h"}]}"#).contains("ftp://h"));
        assert!(refused(r#"{"providers":[{"id":"p","type":"vllm"}]}"#).contains("base_url is missing"));
        assert!(refused(r#"{"providers":[{"id":"p","origin":"demo"}]}"#).contains("unknown field `origin`"));
        let stopped = r#"{"providers":[{"id":"p","max_requests_per_second":0}]}"#;
        assert!(refused(stopped).contains("max_requests_per_second 0 is not a rate"));
        assert!(refused(r#"{"providers":[{"id":"p"},{"id":"p"}]}"#).contains("already defined in here"));
    }

    #[test]
    fn a_provider_has_the_protocols_and_the_header_of_its_family_unless_it_says_otherwise() {
        let mut builder = Builder::default();
        let json = r#"{"providers":[
            {"id":"claude","type":"anthropic","api_key":"k"},
            {"id":"openai"},
            {"id":"azure","base_url":"https://a/openai/v1","credential_header":"api-key","protocols":["chat","responses","chat"]},
            {"id":"farm","type":"vllm","base_urls":["http://a:1/v1","http://b:1"]}]}"#;
        builder.add("here", Source::Operator, entries(json)).unwrap();
        let providers = builder.finish().catalogue.providers;
        let seen: Vec<_> = providers.iter().map(|one| (&one.dialects[..], one.credential_header)).collect();
        assert_eq!(
            seen,
            [
                (&[Dialect::Messages][..], CredentialHeader::XApiKey),
                (&[Dialect::Chat, Dialect::Responses], CredentialHeader::Bearer),
                (&[Dialect::Chat, Dialect::Responses], CredentialHeader::ApiKey),
                (&[Dialect::Chat], CredentialHeader::Bearer),
            ]
        );
        assert_eq!(providers[0].base_url, "https://api.anthropic.com");
        assert_eq!(
            (providers[3].base_url.as_str(), &providers[3].replicas[..]),
            ("http://a:1", &["http://b:1".to_owned()][..])
        );
    }

    #[test]
    fn quirks_belong_to_models_of_chat_providers_and_name_each_tool_once() {
        let of = |kind: &str, quirks: &str| {
            let mut builder = Builder::default();
            let json = format!(
                r#"{{"providers":[{{"id":"p","type":"{kind}","base_url":"http://h"}}],
                    "models":[{{"id":"m","provider_id":"p",{quirks}}}]}}"#
            );
            builder.add("here", Source::Operator, entries(&json)).map_err(|error| error.to_string())?;
            Ok::<_, String>(builder.finish().catalogue.models.remove(0).quirks)
        };
        let named = of("vllm", r#""gemma4_output":true,"tool_name_map":{"run_shell":"Bash"}"#).unwrap();
        assert!(named.gemma4_output && named.tool_names["run_shell"] == "Bash");
        assert!(of("vllm", r#""gemma4_output":null,"tool_name_map":null"#).unwrap().is_empty());
        assert!(of("anthropic", r#""gemma4_output":true"#).unwrap_err().contains("speaks `chat`"));
        assert!(of("vllm", r#""tool_name_map":{"a":"x","b":"x"}"#).unwrap_err().contains("two tools the name `x`"));
        assert!(of("vllm", r#""tool_name_map":{"":"x"}"#).unwrap_err().contains("an empty name"));
    }

    #[test]
    fn background_needs_responses_at_one_server_and_no_quirks_of_chat() {
        let of = |provider: &str, model: &str| {
            let mut builder = Builder::default();
            let json = format!(
                r#"{{"providers":[{{"id":"p","background":true,{provider}}}],
                    "models":[{{"id":"m","provider_id":"p"{model}}}]}}"#
            );
            builder.add("here", Source::Operator, entries(&json)).map_err(|error| error.to_string())?;
            Ok::<_, String>(builder.finish().catalogue.providers.remove(0).background)
        };
        let speaks = r#""base_url":"http://h","protocols":["chat","responses"]"#;
        assert_eq!(of(speaks, ""), Ok(true));
        assert_eq!(of(r#""api_key":"k""#, ""), Ok(true), "OpenAI itself speaks it");
        let message = "here: provider `p`: background needs a provider that speaks `responses`";
        assert_eq!(of(r#""base_url":"http://h""#, ""), Err(message.to_owned()));
        assert!(of(r#""type":"anthropic""#, "").unwrap_err().contains("speaks `responses`"));
        let several = r#""base_urls":["http://a","http://b"],"protocols":["responses"]"#;
        assert!(of(several, "").unwrap_err().contains("a single base_url"));
        let quirks = r#","gemma4_output":true"#;
        assert!(of(speaks, quirks).unwrap_err().contains("model `m`: gemma4_output and tool_name_map go by `chat`"));
    }

    #[test]
    fn several_credentials_keep_their_order_and_their_names_are_unique() {
        let mut builder = Builder::default();
        let json =
            r#"{"providers":[{"id":"p","credentials":[{"id":"team","api_key":"b"},{"id":"spare","api_key":"a"}]}]}"#;
        builder.add("here", Source::Operator, entries(json)).unwrap();
        let built = builder.finish();
        assert_eq!(built.catalogue.providers[0].credentials, ["team".into(), "spare".into()]);
        assert_eq!(built.credentials[&ProviderId::from("p")].len(), 2);
        let twice = r#"{"providers":[{"id":"p","credentials":[{"id":"a","api_key":"x"},{"id":"a","api_key":"y"}]}]}"#;
        assert!(refused(twice).contains("defined twice"));
        let both = r#"{"providers":[{"id":"p","api_key":"x","credentials":[{"id":"a","api_key":"y"}]}]}"#;
        assert!(refused(both).contains("exclude each other"));
    }
}
