//! Servers that may say whether an answer will do.
//!
//! Callers name them, so only hosts that the operator lists are asked: without a list nobody is.

use crate::{AllowedHosts, ConfigError, parse::Values};

/// Who may be asked about an answer, and how long one try may take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifierSettings {
    /// The hosts; also private ones, and also by plain http.
    pub hosts: AllowedHosts,
    /// One try must end within this.
    pub timeout_ms: u64,
}

impl VerifierSettings {
    /// Whether that host may be asked at that port.
    pub fn allows(&self, (host, port): (&str, u16)) -> bool {
        self.hosts.allows(host, port)
    }
}

/// The settings of verifiers.
pub(crate) fn read(values: &Values) -> Result<VerifierSettings, ConfigError> {
    let hosts =
        values.optional("verifiers.hosts", "a list of hosts, each with or without a port", AllowedHosts::parse)?;
    Ok(VerifierSettings {
        hosts: hosts.unwrap_or_default(),
        timeout_ms: values.number("verifiers.timeout_ms", 1..=120_000, "1 to 120000 milliseconds")?,
    })
}
