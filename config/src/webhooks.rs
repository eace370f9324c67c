//! What webhooks are signed with, where they may go, and how long a failed one waits.
//!
//! Owns the two grammars: secrets as the Standard Webhooks specification writes them, and hosts that are trusted
//! although they are not on the public internet. Must not know how an address is checked.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretSlice};

use crate::{ConfigError, parse::Values};

const SECRET_FORM: &str = "whsec_ and 24 to 64 bytes in base64, or several of these with blanks or commas between them";
const SECRET_PREFIX: &str = "whsec_";
/// What the specification allows: shorter ones can be guessed, longer ones gain nothing.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// How webhooks are delivered.
#[derive(Clone, Debug, Default)]
pub struct WebhookSettings {
    /// Each of them signs; without one no webhook is accepted and none is delivered.
    pub secrets: Vec<WebhookSecret>,
    /// Who may be called although it is not public, and without TLS.
    pub allowed_hosts: AllowedHosts,
    /// The first pause after a failure, to which the later ones keep their proportion.
    pub retry_ms: u64,
}

/// A key that signs.
#[derive(Clone)]
pub struct WebhookSecret(SecretSlice<u8>);

impl WebhookSecret {
    /// Its bytes.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }

    /// One or more, with blanks or commas between them.
    pub(crate) fn parse_list(text: &str) -> Option<Vec<Self>> {
        let secrets = words(text).map(Self::parse).collect::<Option<Vec<_>>>()?;
        (!secrets.is_empty()).then_some(secrets)
    }

    fn parse(text: &str) -> Option<Self> {
        let key = STANDARD.decode(text.strip_prefix(SECRET_PREFIX)?).ok()?;
        SECRET_BYTES.contains(&key.len()).then(|| Self(SecretSlice::from(key)))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WebhookSecret")
    }
}

/// The settings of webhooks.
pub(crate) fn read(values: &Values) -> Result<WebhookSettings, ConfigError> {
    let secrets = values.optional("webhooks.secret", SECRET_FORM, WebhookSecret::parse_list)?;
    let allowed = values.optional(
        "webhooks.allowed_hosts",
        "a list of hosts, each with or without a port",
        AllowedHosts::parse,
    )?;
    Ok(WebhookSettings {
        secrets: secrets.unwrap_or_default(),
        allowed_hosts: allowed.unwrap_or_default(),
        retry_ms: values.number("webhooks.retry_ms", 1..=3_600_000, "1 to 3600000 milliseconds")?,
    })
}

/// Hosts that the operator trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedHosts(Vec<(String, Option<u16>)>);

impl AllowedHosts {
    /// `host` or `host:port`, an IPv6 address in brackets, with blanks or commas between them.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        words(text).map(host_and_port).collect::<Option<Vec<_>>>().map(Self)
    }

    /// Whether `host`, as a URL has it, may be called at `port`.
    pub fn allows(&self, host: &str, port: u16) -> bool {
        self.0.iter().any(|(name, at)| name.eq_ignore_ascii_case(host) && at.is_none_or(|at| at == port))
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty())
}

fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port.parse().ok()?)),
        Some(_) | None => (text, None),
    };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
    let is_host =
        if is_bracketed { host[1..host.len() - 1].parse::<std::net::Ipv6Addr>().is_ok() } else { is_name(host) };
    (is_host && !host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 24 bytes.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn every_secret_of_a_list_signs_and_a_wrong_one_spoils_the_list() {
        assert_eq!(WebhookSecret::parse_list(SECRET).unwrap()[0].expose().len(), 24);
        for list in [format!("{SECRET} {SECRET}"), format!("{SECRET},{SECRET}"), format!("{SECRET}, {SECRET},")] {
            assert_eq!(WebhookSecret::parse_list(&list).unwrap().len(), 2, "{list}");
        }
        let short = "whsec_c2hvcnQ=";
        for wrong in
            ["", " , ", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_%%%", short, &format!("{SECRET} x")]
        {
            assert!(WebhookSecret::parse_list(wrong).is_none(), "{wrong}");
        }
        assert!(!format!("{:?}", WebhookSecret::parse_list(SECRET)).contains("MfKQ"));
    }

    #[test]
    fn a_host_is_allowed_at_every_port_or_at_one() {
        let hosts = AllowedHosts::parse("hooks.internal, 127.0.0.1:8443 [::1]:80,[fd00::1]").unwrap();
        for (host, port, is_allowed) in [
            ("hooks.internal", 1, true),
            ("HOOKS.internal", 443, true),
            ("127.0.0.1", 8443, true),
            ("127.0.0.1", 443, false),
            ("[::1]", 80, true),
            ("[::1]", 81, false),
            ("[fd00::1]", 81, true),
            ("internal", 443, false),
        ] {
            assert_eq!(hosts.allows(host, port), is_allowed, "{host}:{port}");
        }
        assert_eq!(AllowedHosts::parse(""), Some(AllowedHosts::default()));
        for wrong in ["https://a", "a:b", "::1", "[::1", "*", "a/b", ":80"] {
            assert_eq!(AllowedHosts::parse(wrong), None, "{wrong}");
        }
    }
}
