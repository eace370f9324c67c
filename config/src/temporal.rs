//! Whether there is a Temporal server and where.
//!
//! Owns the rule that no address means no Temporal: a default of localhost would make every start without a server
//! look like an outage. TLS, API keys and metadata stay with Temporal's own loader; of its file only the address and the
//! namespace are read here, because they decide whether the loader is asked at all.

use std::{fs, path::Path};

use serde::Deserialize;

use crate::{
    ConfigError, Environment, Origin, file::line_of, parse::Values, parse::boolean, settings::TemporalSettings,
};

/// From what a test can wait for to a day.
const GRACES_MS: std::ops::RangeInclusive<u64> = 1_000..=86_400_000;

#[derive(Debug, Default, Deserialize)]
struct TemporalToml {
    #[serde(default)]
    profile: std::collections::BTreeMap<String, Profile>,
}

#[derive(Debug, Default, Deserialize)]
struct Profile {
    address: Option<String>,
    namespace: Option<String>,
}

/// The settings of the connection, or none when Temporal is switched off.
pub(crate) fn decide(
    values: &mut Values,
    environment: &Environment,
    warnings: &mut Vec<String>,
) -> Result<Option<TemporalSettings>, ConfigError> {
    let enabled = values.optional("temporal.enabled", "true or false", boolean)?;
    if enabled == Some(false) {
        return Ok(None);
    }
    if values.get("temporal.address").is_none() {
        read_profile(values, environment)?;
    }
    let Some(address) = values.optional("temporal.address", "host:port", host_and_port)? else {
        if enabled == Some(true) {
            warnings.push("Temporal is enabled but no address is set (TEMPORAL_ADDRESS): it stays off".to_owned());
        }
        return Ok(None);
    };
    let name = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(Some(TemporalSettings {
        address,
        namespace: values.required("temporal.namespace", "a namespace", name)?,
        task_queue: values.required("temporal.task_queue", "a task queue", name)?,
        ui_url: values.optional("temporal.ui_url", "an http or https address", web_address)?,
        execution_grace_ms: values.number("temporal.execution_grace_ms", GRACES_MS, "1000 to 86400000 milliseconds")?,
    }))
}

fn read_profile(values: &mut Values, environment: &Environment) -> Result<(), ConfigError> {
    let Some(path) = environment.get("TEMPORAL_CONFIG_FILE").map(Path::new) else { return Ok(()) };
    let text = fs::read_to_string(path).map_err(|source| ConfigError::ReadFile { path: path.to_owned(), source })?;
    let mut file: TemporalToml = toml::from_str(&text).map_err(|error| {
        let line = line_of(&text, error.span().as_ref());
        ConfigError::ParseFile { path: path.to_owned(), line, message: error.message().to_owned() }
    })?;
    let profile = file.profile.remove(environment.get("TEMPORAL_PROFILE").unwrap_or("default")).unwrap_or_default();
    let origin = Origin::VariableFile { variable: "TEMPORAL_CONFIG_FILE".to_owned(), path: path.to_owned() };
    if let Some(address) = profile.address {
        values.set("temporal.address", address, origin.clone());
    }
    let unset = values.get("temporal.namespace").is_none_or(|found| found.origin == Origin::Default);
    if let Some(namespace) = profile.namespace.filter(|_| unset) {
        values.set("temporal.namespace", namespace, origin);
    }
    Ok(())
}

fn host_and_port(text: &str) -> Option<String> {
    let authority = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or(text);
    let (host, port) = authority.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    (!host.is_empty() && !authority.contains('/')).then(|| authority.to_owned())
}

fn web_address(text: &str) -> Option<String> {
    let is_web = text.starts_with("http://") || text.starts_with("https://");
    is_web.then(|| text.trim_end_matches('/').to_owned())
}
