//! Texts into values, with the setting and its origin named when one does not parse.
//!
//! Owns the small grammars (addresses, booleans, ranges); the meaning of a setting is the caller's.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZero,
    ops::RangeInclusive,
    str::FromStr,
};

use tokenhub_domain::{NanoDollars, limits};

use crate::{
    ConfigError, Origin, Origins,
    key::{KEYS, Key, Secrecy, key_named},
    layers::{Found, Layers},
    origin::{MASK, mask_url_password},
};

/// Every setting that has a value, by name.
pub(crate) struct Values(BTreeMap<&'static str, Found>);

impl Values {
    /// Looks every setting up.
    pub(crate) fn find_all(layers: &Layers<'_>) -> Result<Self, ConfigError> {
        let mut values = BTreeMap::new();
        for key in KEYS {
            if let Some(found) = layers.find(key)? {
                values.insert(key.name, found);
            }
        }
        Ok(Self(values))
    }

    pub(crate) fn get(&self, name: &'static str) -> Option<&Found> {
        self.0.get(name)
    }

    /// Replaces a value that was computed from others.
    pub(crate) fn set(&mut self, name: &'static str, text: String, origin: Origin) {
        self.0.insert(name, Found { text, origin });
    }

    /// The text of an optional setting.
    pub(crate) fn text(&self, name: &'static str) -> Option<String> {
        self.get(name).map(|found| found.text.clone())
    }

    /// An optional setting, parsed.
    pub(crate) fn optional<T>(
        &self,
        name: &'static str,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(found) = self.get(name) else { return Ok(None) };
        parse(found.text.trim()).map(Some).ok_or_else(|| bad_value(name, found, expected))
    }

    /// An optional setting whose parser says what it expects instead.
    pub(crate) fn checked<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(found) = self.get(name) else { return Ok(None) };
        parse(found.text.trim()).map(Some).map_err(|expected| bad_value(name, found, expected))
    }

    /// A setting that has a default, parsed.
    pub(crate) fn required<T>(
        &self,
        name: &'static str,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        self.optional(name, expected, parse)?.ok_or(ConfigError::BadValue {
            name,
            origin: Origin::Default,
            value: String::new(),
            expected,
        })
    }

    /// A whole number inside `range`.
    pub(crate) fn number<T: FromStr + PartialOrd>(
        &self,
        name: &'static str,
        range: RangeInclusive<T>,
        expected: &'static str,
    ) -> Result<T, ConfigError> {
        self.required(name, expected, |text| text.parse().ok().filter(|number| range.contains(number)))
    }

    /// Every setting as a row, secrets masked.
    pub(crate) fn origins(&self) -> Origins {
        let mut origins = Origins::default();
        for key in KEYS {
            match self.get(key.name) {
                Some(found) => origins.push(key.name, shown(key, &found.text), found.origin.clone()),
                None => origins.push(key.name, "-", Origin::Default),
            }
        }
        origins
    }
}

fn bad_value(name: &'static str, found: &Found, expected: &'static str) -> ConfigError {
    let value = key_named(name).map_or_else(|| MASK.to_owned(), |key| shown(key, &found.text));
    ConfigError::BadValue { name, origin: found.origin.clone(), value, expected }
}

fn shown(key: &Key, text: &str) -> String {
    match key.secrecy {
        Secrecy::Open => text.to_owned(),
        Secrecy::Url => mask_url_password(text),
        Secrecy::Secret => MASK.to_owned(),
    }
}

/// `IP:PORT`, `localhost:PORT`, or `:PORT` for every interface.
pub(crate) fn socket_addr(text: &str) -> Option<SocketAddr> {
    if let Some(port) = text.strip_prefix(':') {
        return Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port.parse().ok()?));
    }
    if let Some(port) = text.strip_prefix("localhost:") {
        return Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().ok()?));
    }
    text.parse().ok()
}

/// A yes or no in the usual spellings.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// How much to explore, 0 to 10.
pub(crate) fn temperature(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value| (0.0..=10.0).contains(value))
}

/// Threads of a process, 1 to 1024.
pub(crate) fn threads(text: &str) -> Option<usize> {
    text.parse().ok().filter(|threads| (1..=1_024).contains(threads))
}

/// As many as the machine has processors.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Dollars that a call may cost.
pub(crate) fn budget(text: &str) -> Option<NanoDollars> {
    let usd = text.parse::<f64>().ok().filter(|usd| (0.0..=limits::POLICY_BUDGET_USD_MAX).contains(usd))?;
    NanoDollars::from_usd(usd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_parse_in_the_spellings_that_people_use() {
        assert_eq!(socket_addr("127.0.0.1:0").unwrap().port(), 0);
        assert_eq!(socket_addr("localhost:81"), "127.0.0.1:81".parse().ok());
        assert_eq!(socket_addr(":8090"), "0.0.0.0:8090".parse().ok());
        assert_eq!(socket_addr("[::1]:80").unwrap().port(), 80);
        assert_eq!(socket_addr("hub.example:80"), None);
        assert_eq!(socket_addr("8080"), None);
    }
}
