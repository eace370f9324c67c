//! `tokenhub.toml`: its keys with their lines, and its providers, models, aliases and client keys.
//!
//! Owns the refusal of unknown keys by name, line and nearest name. Values stay text here; the settings parse them.

use std::{
    collections::BTreeMap,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use crate::{
    ConfigError,
    client_keys::ClientKeyEntry,
    entries::{AliasEntry, ModelEntry, ProviderEntry},
    key::KEYS,
};

/// A value as it stands in the file.
#[derive(Debug)]
pub(crate) struct FileValue {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// A configuration file that was read and whose keys all exist.
#[derive(Debug, Default)]
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    pub(crate) values: BTreeMap<String, FileValue>,
    pub(crate) providers: Vec<ProviderEntry>,
    pub(crate) models: Vec<ModelEntry>,
    pub(crate) aliases: Vec<AliasEntry>,
    pub(crate) client_keys: Vec<ClientKeyEntry>,
    /// Where each client key of the file begins.
    client_key_lines: Vec<(String, usize)>,
    /// Where each provider of the file begins.
    provider_lines: Vec<(String, usize)>,
}

/// The arrays that are more than values.
#[derive(Debug, Default, Deserialize)]
struct Arrays {
    #[serde(default)]
    providers: Vec<ProviderEntry>,
    #[serde(default)]
    models: Vec<ModelEntry>,
    #[serde(default)]
    aliases: Vec<AliasEntry>,
    #[serde(default)]
    client_keys: Vec<ClientKeyEntry>,
}

const ARRAYS: [&str; 4] = ["providers", "models", "aliases", "client_keys"];

/// The file of the working directory that is read when no other is named.
const DEFAULT_PATH: &str = "tokenhub.toml";

impl ConfigFile {
    /// Reads `named`, or the default file when there is one.
    pub(crate) fn read(named: Option<&Path>) -> Result<Option<Self>, ConfigError> {
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text).map(Some),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ConfigError::ReadFile { path: path.to_owned(), source }),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let refuse = |error: &toml::de::Error| ConfigError::ParseFile {
            path: path.to_owned(),
            line: line_of(text, error.span().as_ref()),
            message: error.message().to_owned(),
        };
        let table = DeTable::parse(text).map_err(|error| refuse(&error))?;
        let mut file = Self { path: path.to_owned(), ..Self::default() };
        file.collect("", table.get_ref(), text)?;
        let arrays: Arrays = toml::from_str(text).map_err(|error| refuse(&error))?;
        let lines = |array: &str| -> Vec<usize> {
            let starts = table.get_ref().get(array).and_then(|value| value.get_ref().as_array());
            starts.into_iter().flatten().map(|entry| line_of(text, Some(&entry.span()))).collect()
        };
        let ids = arrays.providers.iter().map(|provider| provider.id.clone());
        file.provider_lines = ids.zip(lines("providers")).collect();
        let names = arrays.client_keys.iter().map(|key| key.name.clone());
        file.client_key_lines = names.zip(lines("client_keys")).collect();
        file.providers = arrays.providers;
        file.client_keys = arrays.client_keys;
        file.models = arrays.models;
        file.aliases = arrays.aliases;
        Ok(file)
    }

    /// The line of the provider `id`, for messages.
    pub(crate) fn line_of_provider(&self, id: &str) -> usize {
        self.provider_lines.iter().find(|(name, _)| name == id).map_or(1, |(_, line)| *line)
    }

    /// The line of the client key `name`, for messages.
    pub(crate) fn line_of_client_key(&self, name: &str) -> usize {
        self.client_key_lines.iter().find(|(key, _)| key == name).map_or(1, |(_, line)| *line)
    }

    fn collect(&mut self, prefix: &str, table: &DeTable<'_>, text: &str) -> Result<(), ConfigError> {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.get_ref());
            let line = line_of(text, Some(&key.span()));
            let known = KEYS.iter().any(|key| key.name == name);
            let section = format!("{name}.");
            match value.get_ref() {
                DeValue::Table(inner) if KEYS.iter().any(|key| key.name.starts_with(&section)) => {
                    self.collect(&section, inner, text)?;
                }
                DeValue::Array(_) if prefix.is_empty() && ARRAYS.contains(&name.as_str()) => {}
                other if known => {
                    let text = scalar(other).ok_or_else(|| ConfigError::ParseFile {
                        path: self.path.clone(),
                        line,
                        message: format!("`{name}` takes one value, not a table or a list"),
                    })?;
                    self.values.insert(name, FileValue { text, line });
                }
                DeValue::String(_)
                | DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_)
                | DeValue::Table(_) => {
                    return Err(ConfigError::UnknownKey {
                        path: self.path.clone(),
                        line,
                        suggestion: nearest(&name, known_names()),
                        key: name,
                    });
                }
            }
        }
        Ok(())
    }
}

fn known_names() -> impl Iterator<Item = &'static str> {
    let sections = ["log", "temporal", "breaker", "timeouts", "routing", "webhooks", "verifiers", "worker", "up"];
    KEYS.iter().map(|key| key.name).chain(ARRAYS).chain(sections)
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(|n| n.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Datetime(time) => Some(time.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// The line, from 1, at which a span of the parser begins.
pub(crate) fn line_of(text: &str, span: Option<&Range<usize>>) -> usize {
    let start = span.map_or(0, |span| span.start.min(text.len()));
    1 + text.get(..start).unwrap_or(text).matches('\n').count()
}

/// The name nearest to `name`, unless none is near enough to be what was meant.
pub(crate) fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<String> {
    let most = name.len().div_ceil(3).max(1);
    known
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned())
}

/// Insertions, deletions and replacements that make `b` out of `a`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
        let text = "listen_addr = \"127.0.0.1:1\"\n\n[breaker]\nfailure = 3\n";
        let message = ConfigFile::parse(Path::new("hub.toml"), text).unwrap_err().to_string();
        assert_eq!(message, "hub.toml:4: unknown key `breaker.failure`, did you mean `breaker.failures`?");
        let far = ConfigFile::parse(Path::new("hub.toml"), "zzzzzzzzzzzz = 1").unwrap_err().to_string();
        assert_eq!(far, "hub.toml:1: unknown key `zzzzzzzzzzzz`");
    }

    #[test]
    fn an_unknown_field_of_a_provider_is_refused_with_its_line() {
        let text = "[[providers]]\nid = \"a\"\nbase_url = \"http://x\"\nbase_ulr = \"y\"\n";
        let message = ConfigFile::parse(Path::new("hub.toml"), text).unwrap_err().to_string();
        assert!(message.starts_with("hub.toml:4: unknown field `base_ulr`"), "{message}");
    }

    #[test]
    fn broken_syntax_is_refused_with_its_line() {
        let message = ConfigFile::parse(Path::new("hub.toml"), "[log]\nlevel = \n").unwrap_err().to_string();
        assert!(message.starts_with("hub.toml:2: "), "{message}");
    }

    #[test]
    fn numbers_keep_their_value_in_every_notation() {
        let text = "[breaker]\nfailures = 0x1F\nopen_ms = 30_000\n";
        let file = ConfigFile::parse(Path::new("hub.toml"), text).unwrap();
        assert_eq!(file.values["breaker.failures"].text, "31");
        assert_eq!(file.values["breaker.open_ms"].text, "30000");
        assert_eq!(file.values["breaker.open_ms"].line, 3);
    }
}
