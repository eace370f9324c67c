//! The root of a provider's API: its normal form, and the addresses that it may not point at.
//!
//! Base URLs come from the operator's configuration only. Link-local addresses are refused even there, because the
//! metadata services behind them hand out the credentials of the machine; names are checked again when they resolve.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::error::BaseUrlError;

/// Names under which clouds serve instance metadata.
const METADATA_HOSTS: [&str; 5] =
    ["metadata", "metadata.google.internal", "metadata.goog", "metadata.azure.internal", "instance-data"];
/// Metadata addresses outside the link-local ranges: one cloud's IPv4 and another's IPv6 service.
const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Whether a provider may live at a link-local address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkLocal {
    /// It may not.
    #[default]
    Refused,
    /// The operator said that it may.
    Allowed,
}

/// `text` without a trailing `/v1` and without trailing slashes, checked.
pub fn normalise_base_url(text: &str, link_local: LinkLocal) -> Result<String, BaseUrlError> {
    let trimmed = text.trim().trim_end_matches('/');
    let root = trimmed.strip_suffix("/v1").unwrap_or(trimmed).trim_end_matches('/');
    let url = Url::parse(root).map_err(|_| BaseUrlError::Syntax)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(BaseUrlError::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(BaseUrlError::Extras);
    }
    let Some(host) = url.host_str() else { return Err(BaseUrlError::Syntax) };
    if link_local == LinkLocal::Refused && is_forbidden_host(host) {
        return Err(BaseUrlError::LinkLocal);
    }
    Ok(root.to_owned())
}

/// Whether `url` is on this machine, where a proxy from the environment has no business.
pub(crate) fn is_loopback(url: &Url) -> bool {
    url.host_str()
        .is_some_and(|host| host == "localhost" || address_of(host).is_some_and(|address| address.is_loopback()))
}

pub(crate) fn is_forbidden_host(host: &str) -> bool {
    is_metadata_host(host) || address_of(host.trim_end_matches('.')).is_some_and(is_forbidden_address)
}

/// Whether a cloud serves the credentials of its machines under this name.
pub fn is_metadata_host(host: &str) -> bool {
    METADATA_HOSTS.contains(&host.trim_end_matches('.').to_ascii_lowercase().as_str())
}

fn address_of(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn is_forbidden_address(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4 == METADATA_V4,
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6 == METADATA_V6,
    }
}

/// The system's resolver without the addresses that a base URL may not name either.
#[derive(Debug)]
pub(crate) struct CheckedResolver;

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|address| !is_forbidden_address(address.ip())).collect();
            if allowed.is_empty() {
                return Err("the name resolves to no address that may be called".into());
            }
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> Result<String, BaseUrlError> {
        normalise_base_url(text, LinkLocal::Refused)
    }

    #[test]
    fn a_trailing_slash_and_a_trailing_version_are_removed_and_a_prefix_is_kept() {
        for (given, wanted) in [
            ("https://api.openai.com", "https://api.openai.com"),
            ("https://api.openai.com/", "https://api.openai.com"),
            ("https://api.openai.com/v1", "https://api.openai.com"),
            (" https://api.openai.com/v1// ", "https://api.openai.com"),
            ("https://openrouter.ai/api/v1", "https://openrouter.ai/api"),
            ("http://127.0.0.1:9/openai/v1beta", "http://127.0.0.1:9/openai/v1beta"),
        ] {
            assert_eq!(normal(given).as_deref(), Ok(wanted), "{given}");
        }
    }

    #[test]
    fn metadata_services_are_refused_in_every_spelling_unless_allowed() {
        for url in [
            "http://169.254.169.254/latest",
            "http://2852039166",
            "http://0xa9fea9fe/v1",
            "http://[fe80::1]:8080",
            "http://[::ffff:169.254.169.254]",
            "http://metadata.google.internal/v1",
            "http://METADATA.google.internal./v1",
            "http://100.100.100.200",
            "http://[fd00:ec2::254]",
        ] {
            assert_eq!(normal(url), Err(BaseUrlError::LinkLocal), "{url}");
            assert!(normalise_base_url(url, LinkLocal::Allowed).is_ok(), "{url}");
        }
        for url in ["http://10.0.0.1", "http://192.168.1.4:8000", "http://localhost:1", "http://[fd00::1]"] {
            assert!(normal(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn anything_but_a_plain_http_url_is_refused() {
        assert_eq!(normal("api.openai.com"), Err(BaseUrlError::Syntax));
        assert_eq!(normal(""), Err(BaseUrlError::Syntax));
        assert_eq!(normal("ftp://host"), Err(BaseUrlError::Scheme));
        assert_eq!(normal("https://user:secret@host"), Err(BaseUrlError::Extras));
        assert_eq!(normal("https://host/v1?key=1"), Err(BaseUrlError::Extras));
    }
}
