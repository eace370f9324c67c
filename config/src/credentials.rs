//! Where providers and models come from: the credentials file, `tokenhub.toml`, key variables, and the hub.
//!
//! Owns reading those sources and the file's permission check. Order matters only for messages: a provider is defined
//! once, whoever defines it.

use std::{fs::File, io::Read, os::unix::fs::PermissionsExt, path::Path};

use crate::{
    ConfigError, Environment,
    catalogue::Source,
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

/// Puts every source into one catalogue.
pub(crate) fn collect(
    environment: &Environment,
    file: Option<&ConfigFile>,
    credentials_file: Option<&Path>,
) -> Result<Configured, ConfigError> {
    let mut configured = Configured::new(environment);
    if let Some(file) = file {
        let place = file.path.display().to_string();
        let mut providers = file.providers.clone();
        for provider in &mut providers {
            dereference(environment, file, provider)?;
        }
        let entries = Entries { providers, models: file.models.clone(), aliases: file.aliases.clone() };
        configured.add(&place, Source::Operator, entries);
    }
    if let Some(path) = credentials_file {
        configured.add(&path.display().to_string(), Source::Operator, read_credentials_file(path)?);
    }
    for key in &KEY_VARIABLES {
        add_key_variable(&mut configured, environment, key)?;
    }
    if let Some(text) = environment.get(EPHEMERAL_VARIABLE) {
        let entries = parse_entries(EPHEMERAL_VARIABLE, text)?;
        configured.add(EPHEMERAL_VARIABLE, Source::Hub, entries);
    }
    Ok(configured)
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
        origin: None,
    };
    configured.add(key.variable, Source::Operator, Entries { providers: vec![provider], ..Entries::default() });
    Ok(())
}
