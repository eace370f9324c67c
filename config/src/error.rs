//! What can be wrong with a configuration.
//!
//! One variant per operation that failed. A message names the place (variable, flag, file and line) and never a secret.

use std::{io, path::PathBuf};

use tokenhub_domain::{ModelId, ProviderId};

use crate::Origin;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A configuration file could not be read.
    #[error("cannot read the configuration file {}", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A configuration file is not TOML of the right form.
    #[error("{}:{line}: {message}", path.display())]
    ParseFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A configuration file holds a key that does not exist.
    #[error("{}:{line}: unknown key `{key}`{}", path.display(), suggestion.as_ref().map_or(String::new(), |near| format!(", did you mean `{near}`?")))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The nearest key that exists.
        suggestion: Option<String>,
    },
    /// A flag was passed on that no setting has.
    #[error("no setting has the flag --{flag}")]
    UnknownFlag {
        /// Its name.
        flag: &'static str,
    },
    /// A value does not parse or is out of range.
    #[error("{origin}: `{value}` is not valid for {name}, expected {expected}")]
    BadValue {
        /// The setting.
        name: &'static str,
        /// Where the value came from.
        origin: Origin,
        /// The value, masked when it is a secret.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A secret and its file variant are both given.
    #[error("{variable} and {variable}_FILE are both set, keep one of them")]
    BothSet {
        /// The variable.
        variable: String,
    },
    /// A secret's file could not be read.
    #[error("cannot read the file {} that {named_by} names", path.display())]
    ReadSecret {
        /// Who names it.
        named_by: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A secret stands in a configuration file itself.
    #[error("{}:{line}: `{key}` holds a secret, write `env::NAME` or `file::PATH` instead of its value", path.display())]
    LiteralSecret {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
    },
    /// A reference `env::X` names a variable that is not set.
    #[error("{place}: the variable {variable} is not set")]
    ResolveReference {
        /// Where the reference stands.
        place: String,
        /// The variable.
        variable: String,
    },
    /// The credentials file can be read by others.
    #[error("the credentials file {} has mode {mode:04o}, it must have no group or other bits (chmod 600)", path.display())]
    CredentialsMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A JSON source of providers has another form than documented.
    #[error("{place} is not a valid list of providers and models")]
    ParseProviders {
        /// The file or variable.
        place: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A JSON list of client keys has another form than documented.
    #[error("{place} is not a valid list of client keys: {problem}")]
    ParseClientKeys {
        /// The file or variable.
        place: String,
        /// Where, or in which field.
        problem: String,
    },
    /// A client key makes no sense.
    #[error("{place}: client key `{name}`: {problem}")]
    BadClientKey {
        /// The file or variable.
        place: String,
        /// Which.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A provider makes no sense.
    #[error("{place}: provider `{id}`: {problem}")]
    BadProvider {
        /// The file or variable.
        place: String,
        /// Which.
        id: ProviderId,
        /// In which field.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// An alias makes no sense.
    #[error("{place}: alias `{name}`: {problem}")]
    BadAlias {
        /// The file or variable.
        place: String,
        /// Which.
        name: String,
        /// In which field.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A model makes no sense.
    #[error("{place}: model `{id}`: {problem}")]
    BadModel {
        /// The file or variable.
        place: String,
        /// Which.
        id: ModelId,
        /// In which field.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
}
