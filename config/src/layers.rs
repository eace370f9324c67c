//! The layers, searched in order: flag, environment, file, default.
//!
//! Owns precedence, aliases, `X_FILE` and references; knows no setting's meaning.

use std::{fs, path::Path};

use crate::{
    ConfigError, Environment, Flags, Origin,
    file::{ConfigFile, FileValue},
    key::{Key, Secrecy},
};

/// A value and who gave it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

/// Where values are looked for.
pub(crate) struct Layers<'a> {
    pub(crate) flags: &'a Flags,
    pub(crate) environment: &'a Environment,
    pub(crate) file: Option<&'a ConfigFile>,
}

impl Layers<'_> {
    /// The value that wins, or none.
    pub(crate) fn find(&self, key: &'static Key) -> Result<Option<Found>, ConfigError> {
        // The environment is read even when a flag wins: a conflict in it is a mistake either way.
        let from_environment = self.in_environment(key)?;
        let from_flag = key
            .flag
            .and_then(|flag| self.flags.get(flag).map(|text| Found { text: text.clone(), origin: Origin::Flag(flag) }));
        if let Some(found) = from_flag.or(from_environment) {
            return Ok(Some(found));
        }
        if let Some(found) = self.in_file(key)? {
            return Ok(Some(found));
        }
        Ok(key.default.map(|text| Found { text: text.to_owned(), origin: Origin::Default }))
    }

    fn in_environment(&self, key: &'static Key) -> Result<Option<Found>, ConfigError> {
        let mut winner = None;
        for variable in key.variables {
            let found = match key.secrecy {
                Secrecy::Open => self
                    .environment
                    .get(variable)
                    .map(|text| Found { text: text.to_owned(), origin: Origin::Variable((*variable).to_owned()) }),
                Secrecy::Url | Secrecy::Secret => secret_variable(self.environment, variable)?,
            };
            let scaled = found.map(|found| in_unit_of(key, variable, found)).transpose()?;
            winner = winner.or(scaled);
        }
        Ok(winner)
    }

    fn in_file(&self, key: &'static Key) -> Result<Option<Found>, ConfigError> {
        let Some((file, value)) = self.file.and_then(|file| Some((file, file.values.get(key.name)?))) else {
            return Ok(None);
        };
        let FileValue { text, line } = value;
        let origin = Origin::File { path: file.path.clone(), line: *line };
        let text = match key.secrecy {
            Secrecy::Open => text.clone(),
            Secrecy::Url | Secrecy::Secret => match resolve_reference(self.environment, &origin.to_string(), text)? {
                Some(secret) => secret,
                None if key.secrecy == Secrecy::Url => text.clone(),
                None => {
                    let (path, key) = (file.path.clone(), key.name.to_owned());
                    return Err(ConfigError::LiteralSecret { path, line: *line, key });
                }
            },
        };
        Ok(Some(Found { text, origin }))
    }
}

/// The secret of variable `variable` or of the file that `<variable>_FILE` names.
pub(crate) fn secret_variable(environment: &Environment, variable: &str) -> Result<Option<Found>, ConfigError> {
    let file_variable = format!("{variable}_FILE");
    match (environment.get(variable), environment.get(&file_variable)) {
        (Some(_), Some(_)) => Err(ConfigError::BothSet { variable: variable.to_owned() }),
        (Some(text), None) => Ok(Some(Found { text: text.to_owned(), origin: Origin::Variable(variable.to_owned()) })),
        (None, Some(path)) => {
            let text = read_secret(&file_variable, Path::new(path))?;
            let origin = Origin::VariableFile { variable: file_variable, path: path.into() };
            Ok(Some(Found { text, origin }))
        }
        (None, None) => Ok(None),
    }
}

/// What `env::X` or `file::P` stands for; none when `text` is no reference.
pub(crate) fn resolve_reference(
    environment: &Environment,
    place: &str,
    text: &str,
) -> Result<Option<String>, ConfigError> {
    if let Some(variable) = text.strip_prefix("env::") {
        return match environment.get(variable) {
            Some(secret) => Ok(Some(secret.to_owned())),
            None => Err(ConfigError::ResolveReference { place: place.to_owned(), variable: variable.to_owned() }),
        };
    }
    text.strip_prefix("file::").map(|path| read_secret(place, Path::new(path))).transpose()
}

fn read_secret(named_by: &str, path: &Path) -> Result<String, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::ReadSecret {
        named_by: named_by.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    Ok(text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line)).to_owned())
}

/// Milliseconds out of a variable in seconds.
fn in_unit_of(key: &'static Key, variable: &str, found: Found) -> Result<Found, ConfigError> {
    const MILLIS_PER_SECOND: u64 = 1_000;
    if !(key.name.ends_with("_ms") && variable.ends_with("_SECS")) {
        return Ok(found);
    }
    let millis = found.text.trim().parse::<u64>().ok().and_then(|seconds| seconds.checked_mul(MILLIS_PER_SECOND));
    match millis {
        Some(millis) => Ok(Found { text: millis.to_string(), origin: found.origin }),
        None => Err(ConfigError::BadValue {
            name: key.name,
            origin: found.origin,
            value: found.text,
            expected: "a whole number of seconds",
        }),
    }
}
