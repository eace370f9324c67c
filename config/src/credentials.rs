//! Where providers, models and client keys come from: the credentials file, `tokenhub.toml`, key variables, and the hub.
//!
//! Owns reading those sources and the file's permission check. Order matters only for messages: a provider is defined
//! once, whoever defines it.

use std::{fs::File, io::Read, os::unix::fs::PermissionsExt, path::Path};

use crate::{
    ConfigError, Environment,
    catalogue::Source,
    client_keys::{ClientKeyEntry, Written},
    configured::Configured,
    entries::{Concealed, Entries, ProviderEntry},
    file::ConfigFile,
    layers::{resolve_reference, secret_variable},
};

/// A provider that a key alone enables.
struct KeyVariable {
    provider: &'static str,
    kind: &'static str,
    variable: &'static str,
    base_url_variable: Option<&'static str>,
    base_url: &'static str,
}

const KEY_VARIABLES: [KeyVariable; 3] = [
    KeyVariable {
        provider: "openai",
        kind: "openai",
        variable: "OPENAI_API_KEY",
        base_url_variable: Some("OPENAI_BASE_URL"),
        base_url: "https://api.openai.com",
    },
    KeyVariable {
        provider: "anthropic",
        kind: "anthropic",
        variable: "ANTHROPIC_API_KEY",
        base_url_variable: Some("ANTHROPIC_BASE_URL"),
        base_url: "https://api.anthropic.com",
    },
    KeyVariable {
        provider: "openrouter",
        kind: "openai",
        variable: "OPENROUTER_API_KEY",
        base_url_variable: Some("OPENROUTER_BASE_URL"),
        base_url: "https://openrouter.ai/api",
    },
];

/// The variable by which `tokenhub up` hands its local and demo models to its children.
const EPHEMERAL_VARIABLE: &str = "TOKENHUB_EPHEMERAL_PROVIDERS";

/// Everything that the sources say.
pub(crate) struct Collected {
    pub(crate) configured: Configured,
    pub(crate) client_keys: Vec<Written>,
}

/// Reads every source.
pub(crate) fn collect(
    environment: &Environment,
    file: Option<&ConfigFile>,
    credentials_file: Option<&Path>,
) -> Result<Collected, ConfigError> {
    let mut configured = Configured::new(environment);
    let mut client_keys = Vec::new();
    if let Some(file) = file {
        let place = file.path.display().to_string();
        let mut providers = file.providers.clone();
        for provider in &mut providers {
            dereference(environment, file, provider)?;
        }
        let keys = file.client_keys.iter().map(|key| dereferenced(environment, file, key));
        client_keys.push((place.clone(), keys.collect::<Result<_, _>>()?));
        let (models, aliases) = (file.models.clone(), file.aliases.clone());
        configured.add(&place, Source::Operator, Entries { providers, models, aliases, ..Entries::default() });
    }
    if let Some(path) = credentials_file {
        let mut entries = read_credentials_file(path)?;
        let place = path.display().to_string();
        client_keys.push((place.clone(), std::mem::take(&mut entries.client_keys)));
        configured.add(&place, Source::Operator, entries);
    }
    for key in &KEY_VARIABLES {
        add_key_variable(&mut configured, environment, key)?;
    }
    if let Some(text) = environment.get(EPHEMERAL_VARIABLE) {
        let entries = parse_entries(EPHEMERAL_VARIABLE, text)?;
        configured.add(EPHEMERAL_VARIABLE, Source::Hub, entries);
    }
    Ok(Collected { configured, client_keys })
}

/// Replaces the references in a provider of `tokenhub.toml` by the secrets they name.
fn dereference(environment: &Environment, file: &ConfigFile, provider: &mut ProviderEntry) -> Result<(), ConfigError> {
    let place = format!("{}: provider `{}`", file.path.display(), provider.id);
    let named = provider.credentials.iter_mut().map(|credential| &mut credential.api_key);
    for Concealed(key) in provider.api_key.iter_mut().chain(named) {
        let Some(secret) = resolve_reference(environment, &place, key)? else {
            let (path, key) = (file.path.clone(), format!("providers.{}.api_key", provider.id));
            return Err(ConfigError::LiteralSecret { path, line: file.line_of_provider(&provider.id), key });
        };
        *key = secret;
    }
    Ok(())
}

/// A client key of `tokenhub.toml` with the secret that its reference names.
fn dereferenced(
    environment: &Environment,
    file: &ConfigFile,
    entry: &ClientKeyEntry,
) -> Result<ClientKeyEntry, ConfigError> {
    let mut entry = entry.clone();
    if let Some(Concealed(key)) = &mut entry.key {
        let (path, line) = (file.path.clone(), file.line_of_client_key(&entry.name));
        let place = format!("{}:{line}", path.display());
        *key = resolve_reference(environment, &place, key)?.ok_or(ConfigError::LiteralSecret {
            path,
            line,
            key: "client_keys.key".to_owned(),
        })?;
    }
    Ok(entry)
}

fn read_credentials_file(path: &Path) -> Result<Entries, ConfigError> {
    const OTHERS: u32 = 0o077;
    let unreadable = |source| ConfigError::ReadFile { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(ConfigError::CredentialsMode { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unreadable)?;
    parse_entries(&path.display().to_string(), &text)
}

fn parse_entries(place: &str, text: &str) -> Result<Entries, ConfigError> {
    serde_json::from_str(text).map_err(|source| ConfigError::ParseProviders { place: place.to_owned(), source })
}

fn add_key_variable(
    configured: &mut Configured,
    environment: &Environment,
    key: &KeyVariable,
) -> Result<(), ConfigError> {
    let Some(found) = secret_variable(environment, key.variable)? else { return Ok(()) };
    if configured.fill_credential(key.provider, &found.text) {
        return Ok(());
    }
    let base_url = key.base_url_variable.and_then(|variable| environment.get(variable)).unwrap_or(key.base_url);
    let provider = ProviderEntry {
        id: key.provider.to_owned(),
        kind: Some(key.kind.to_owned()),
        base_url: Some(base_url.to_owned()),
        base_urls: Vec::new(),
        protocols: Vec::new(),
        credential_header: None,
        credentials: Vec::new(),
        api_key: Some(Concealed(found.text)),
        api_key_env: None,
        enabled: true,
        autoload_models: true,
        prices_of: None,
        background: false,
        max_requests_per_second: None,
        origin: None,
    };
    configured.add(key.variable, Source::Operator, Entries { providers: vec![provider], ..Entries::default() });
    Ok(())
}
