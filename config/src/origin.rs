//! Where each value came from, and the table that shows it.
//!
//! Owns the masking of secrets in that table: a row is made already masked, so nothing can print the value by mistake.

use std::{
    fmt::{self, Write as _},
    path::PathBuf,
};

use crate::{ClientKeys, catalogue::Built};

/// The place that gave a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A command-line flag.
    Flag(&'static str),
    /// An environment variable.
    Variable(String),
    /// A file named by an environment variable.
    VariableFile {
        /// The variable, `_FILE` included.
        variable: String,
        /// The file.
        path: PathBuf,
    },
    /// A line of a configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A document as a whole, where lines say nothing.
    Document(PathBuf),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(formatter, "--{name}"),
            Self::Variable(name) => formatter.write_str(name),
            Self::VariableFile { variable, path } => write!(formatter, "{variable} ({})", path.display()),
            Self::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Self::Document(path) => write!(formatter, "{}", path.display()),
            Self::Default => formatter.write_str("default"),
        }
    }
}

/// One setting as it was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginRow {
    /// The setting, as its path in `tokenhub.toml`.
    pub name: String,
    /// The value, masked when it is a secret; `-` when there is none.
    pub value: String,
    /// Who decided.
    pub origin: Origin,
}

/// Every setting with its value and its origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    rows: Vec<OriginRow>,
}

impl Origins {
    pub(crate) fn push(&mut self, name: impl Into<String>, value: impl Into<String>, origin: Origin) {
        self.rows.push(OriginRow { name: name.into(), value: value.into(), origin });
    }

    /// Whether each provider has a key, and who named the provider.
    pub(crate) fn push_providers(&mut self, built: &Built) {
        for (id, place) in &built.places {
            let key = if built.credentials.get(id).is_some_and(|keys| !keys.is_empty()) { MASK } else { "-" };
            self.push(format!("providers.{id}.api_key"), key, of_place(place));
        }
    }

    /// Whose tenant each further client key is, and who named it.
    pub(crate) fn push_client_keys(&mut self, keys: &ClientKeys) {
        for (key, place) in keys.with_places() {
            self.push(format!("client_keys.{}", key.name), key.tenant.as_str(), of_place(place));
        }
    }

    /// The rows, in the order of the documentation.
    pub fn rows(&self) -> &[OriginRow] {
        &self.rows
    }

    /// The row of one setting.
    pub fn of(&self, name: &str) -> Option<&OriginRow> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// A table of three columns: setting, value, origin.
    pub fn show(&self) -> String {
        let names = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        let values = self.rows.iter().map(|row| row.value.len()).max().unwrap_or(0);
        self.rows.iter().fold(String::new(), |mut table, row| {
            // Writing to a String cannot fail.
            let _ = writeln!(table, "{:names$}  {:values$}  {}", row.name, row.value, row.origin);
            table
        })
    }
}

/// A variable, or a document.
fn of_place(place: &str) -> Origin {
    let is_variable = place.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    if is_variable { Origin::Variable(place.to_owned()) } else { Origin::Document(place.into()) }
}

/// What is shown of a secret: that there is one.
pub(crate) const MASK: &str = "********";

/// `url` without the password it may carry.
pub(crate) fn mask_url_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let Some(at) = rest[..authority_end].rfind('@') else { return url.to_owned() };
    let user = rest[..at].split(':').next().unwrap_or_default();
    format!("{scheme}://{user}:{MASK}{}", &rest[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_masked_and_the_rest_is_kept() {
        assert_eq!(
            mask_url_password("postgres://hub:s3cret@db:5432/hub?sslmode=require"),
            "postgres://hub:********@db:5432/hub?sslmode=require"
        );
        assert_eq!(mask_url_password("sqlite:///data/hub.db?mode=rwc"), "sqlite:///data/hub.db?mode=rwc");
        assert_eq!(mask_url_password("postgres://db/hub"), "postgres://db/hub");
    }
}
