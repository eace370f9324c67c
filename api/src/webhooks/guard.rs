//! Where a webhook may go: to public addresses by https, and to hosts that the operator trusts.
//!
//! Clients choose the address, and this process stands inside a network that they may not see. An address is looked at
//! twice: what a URL spells out when it is accepted, and what a name resolves to at the moment of the connection, which
//! goes to the very address that was looked at. So a name that changes in between gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use tokenhub_config::AllowedHosts;
use tokenhub_domain::limits;

/// Whose word it is that a host may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Nobody's: its addresses must be public.
    Checked,
    /// The operator's.
    Allowed,
}

/// Why a URL is not called.
#[derive(Debug, thiserror::Error)]
pub(super) enum UrlRefusal {
    #[error("must be an absolute https URL")]
    Syntax,
    #[error("must not be longer than {} bytes", limits::WEBHOOK_URL_BYTES)]
    TooLong,
    #[error("must begin with https://")]
    Scheme,
    #[error("must have no user, password or fragment")]
    Extras,
    #[error("must not point at {0}, which is no public address")]
    NotPublic(String),
}

/// The URL and who answers for its host.
pub(super) fn check(text: &str, allowed: &AllowedHosts) -> Result<(Url, Trust), UrlRefusal> {
    if text.len() > limits::WEBHOOK_URL_BYTES {
        return Err(UrlRefusal::TooLong);
    }
    let url = Url::parse(text).map_err(|_| UrlRefusal::Syntax)?;
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(UrlRefusal::Syntax);
    };
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(UrlRefusal::Extras);
    }
    let is_allowed = allowed.allows(host, port);
    match url.scheme() {
        "https" => {}
        "http" if is_allowed => {}
        _ => return Err(UrlRefusal::Scheme),
    }
    if is_allowed {
        return Ok((url, Trust::Allowed));
    }
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_private = literal.is_ok_and(|address| !is_public(address));
    if is_private || tokenhub_providers::is_metadata_host(host) {
        return Err(UrlRefusal::NotPublic(host.to_owned()));
    }
    Ok((url, Trust::Checked))
}

/// A name behind which no public address stands.
#[derive(Debug, thiserror::Error)]
#[error("{0} resolves to no public address")]
pub(super) struct NoPublicAddress(String);

/// The system's resolver without the addresses that are not public.
#[derive(Debug)]
pub(super) struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let public: Vec<SocketAddr> = found.into_iter().filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(NoPublicAddress(name.as_str().to_owned()).into());
            }
            let addresses: Addrs = Box::new(public.into_iter());
            Ok(addresses)
        })
    }
}

/// Whether everybody on the internet means the same by `address` (IANA's registries of special purposes).
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let is_special = match address.octets() {
        // This network, protocol assignments, relays of 6to4, and what is reserved.
        [0 | 240..=255, ..] | [192, 0, 0, _] | [192, 88, 99, _] => true,
        // Shared between carriers and their customers.
        [100, second, ..] => (64..128).contains(&second),
        // Benchmarks.
        [198, second, ..] => (18..20).contains(&second),
        [..] => false,
    };
    !(is_special
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation())
}

/// Of the one range that is handed out, what is no tunnel and no example. A translated address counts as what it means.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, third, fourth, fifth, sixth, high, low] = address.segments();
    if [first, second, third, fourth, fifth, sixth] == [0x64, 0xff9b, 0, 0, 0, 0] {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    let is_handed_out = (0x2000..0x4000).contains(&first);
    let is_special = match first {
        // Protocol assignments with Teredo, and examples.
        0x2001 => second < 0x200 || second == 0xdb8,
        // 6to4, which has an IPv4 address inside.
        0x2002 => true,
        // Examples.
        0x3fff => second < 0x1000,
        _ => false,
    };
    is_handed_out && !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(url: &str) -> Result<Trust, String> {
        check(url, &AllowedHosts::default()).map(|(_, trust)| trust).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn addresses_that_are_not_public_are_refused_in_every_spelling() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "100.100.100.200",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:10.0.0.1]",
            "[::127.0.0.1]",
            "[fe80::1]",
            "[fec0::1]",
            "[fc00::1]",
            "[fd00:ec2::254]",
            "[ff02::1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b::a9fe:a9fe]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::1]",
            "[2001:0:1::1]",
            "[2001:db8::1]",
            "[3fff::1]",
            "[100::1]",
            "metadata.google.internal",
            "METADATA.google.internal.",
        ] {
            let refusal = checked(&format!("https://{host}/hook")).unwrap_err();
            assert!(refusal.ends_with("which is no public address"), "{host}: {refusal}");
        }
        for host in [
            "1.1.1.1",
            "100.63.0.1",
            "100.128.0.1",
            "172.32.0.1",
            "198.20.0.1",
            "[2606:4700::1111]",
            "[64:ff9b::101:101]",
            "hooks.example",
        ] {
            assert_eq!(checked(&format!("https://{host}:8443/hook?a=b")), Ok(Trust::Checked), "{host}");
        }
    }

    #[test]
    fn only_plain_https_urls_are_taken() {
        for (url, told) in [
            ("", "absolute"),
            ("hooks.example/a", "absolute"),
            ("https://", "absolute"),
            ("mailto:a@hooks.example", "absolute"),
            ("http://hooks.example/a", "https://"),
            ("ftp://hooks.example/a", "https://"),
            ("https://user:word@hooks.example/a", "user"),
            ("https://hooks.example/a#b", "fragment"),
        ] {
            assert!(checked(url).unwrap_err().contains(told), "{url}: {:?}", checked(url));
        }
        let long = format!("https://hooks.example/{}", "a".repeat(limits::WEBHOOK_URL_BYTES));
        assert!(checked(&long).unwrap_err().contains("longer"));
    }

    #[tokio::test]
    async fn a_name_of_this_machine_resolves_to_nothing() {
        let Err(error) = PublicResolver.resolve("localhost".parse().unwrap()).await else { panic!("it resolves") };
        assert!(error.downcast_ref::<NoPublicAddress>().is_some(), "{error}");
    }
}
