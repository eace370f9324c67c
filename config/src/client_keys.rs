//! Further client keys: whose data each opens, and how its runs share the workers with those of others.
//!
//! Owns how they are written and which are refused. Keeps digests and never a key; no message shows one.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokenhub_domain::{Share, TenantId, Urgency, limits};

use crate::{ConfigError, entries::Concealed, parse::Values};

const DIGEST_BYTES: usize = 32;
/// What Temporal clamps weights to.
const WEIGHTS: std::ops::RangeInclusive<f64> = 0.001..=1_000.0;
const MILLI: f64 = 1_000.0;
/// Every request compares its key with all of them.
const KEYS_MAX: usize = 10_000;

const NAME_RULE: &str = "must be 1 to 64 letters, digits, `.`, `_` or `-`";

/// A client key as people write it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientKeyEntry {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) key: Option<Concealed>,
    /// Instead of the key: its SHA-256 in hex.
    #[serde(default)]
    key_sha256: Option<Concealed>,
    tenant: String,
    #[serde(default)]
    priority: Option<Concealed>,
    #[serde(default)]
    weight: Option<f64>,
    #[serde(default)]
    max_unfinished_runs: Option<u64>,
}

/// What a client key opens.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientKey {
    /// Its name, which is no secret and stays when the key is replaced.
    pub name: String,
    /// SHA-256 of the key.
    pub digest: [u8; DIGEST_BYTES],
    /// Whose data it sees.
    pub tenant: TenantId,
    /// The place of its runs among others.
    pub share: Share,
    /// Runs of its tenant that may be unfinished when it begins another one; none is no limit.
    pub unfinished_runs_max: Option<u64>,
}

/// Every further client key, names and keys once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientKeys {
    keys: Vec<ClientKey>,
    /// The source of each, by name.
    places: BTreeMap<String, String>,
}

/// Entries and the file or variable that they stand in.
pub(crate) type Written = (String, Vec<ClientKeyEntry>);

impl ClientKeys {
    /// Those of the files and of the list.
    pub(crate) fn read(
        values: &Values,
        mut sources: Vec<Written>,
        own: Option<&SecretString>,
    ) -> Result<Self, ConfigError> {
        if let Some(found) = values.get("client_key_list") {
            let place = found.origin.to_string();
            let entries = parse(&place, &found.text)?;
            sources.push((place, entries));
        }
        Self::of(sources, own)
    }

    /// Checks what all sources say together. `own` is the client key that needs no entry, where it is configured.
    fn of(sources: Vec<Written>, own: Option<&SecretString>) -> Result<Self, ConfigError> {
        let mut all = Self::default();
        let own = own.map(|key| digest_of(key.expose_secret()));
        for (place, entries) in sources {
            for entry in entries {
                let name = entry.name.clone();
                let refused =
                    |problem: String| ConfigError::BadClientKey { place: place.clone(), name: shown(&name), problem };
                let key = checked(entry).map_err(|problem| refused(problem.to_owned()))?;
                if let Some(other) = all.places.get(&key.name) {
                    return Err(refused(format!("is already defined in {other}")));
                }
                if let Some(other) = all.keys.iter().find(|other| other.digest == key.digest) {
                    return Err(refused(format!("has the same key as `{}`", other.name)));
                }
                if own == Some(key.digest) {
                    return Err(refused("has the same key as client_key".to_owned()));
                }
                if all.keys.len() >= KEYS_MAX {
                    return Err(refused(format!("is one more than {KEYS_MAX}")));
                }
                all.places.insert(key.name.clone(), place.clone());
                all.keys.push(key);
            }
        }
        Ok(all)
    }

    /// The keys.
    pub fn iter(&self) -> impl Iterator<Item = &ClientKey> {
        self.keys.iter()
    }

    /// The keys with the file or variable of each.
    pub(crate) fn with_places(&self) -> impl Iterator<Item = (&ClientKey, &str)> {
        self.keys.iter().map(|key| (key, self.places.get(&key.name).map_or("", String::as_str)))
    }
}

/// The list in a variable. What it says shows in no message, because it holds keys.
fn parse(place: &str, text: &str) -> Result<Vec<ClientKeyEntry>, ConfigError> {
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let is_harmless = ["unknown field", "missing field"].iter().any(|start| message.starts_with(start));
        let problem = if is_harmless { message } else { format!("line {}, column {}", error.line(), error.column()) };
        ConfigError::ParseClientKeys { place: place.to_owned(), problem }
    })
}

/// SHA-256 of a key.
fn digest_of(key: &str) -> [u8; DIGEST_BYTES] {
    Sha256::digest(key.as_bytes()).into()
}

fn checked(entry: ClientKeyEntry) -> Result<ClientKey, &'static str> {
    if !is_name(&entry.name) {
        return Err(NAME_RULE);
    }
    if !is_name(&entry.tenant) {
        return Err("tenant must be 1 to 64 letters, digits, `.`, `_` or `-`");
    }
    let digest = match (&entry.key, &entry.key_sha256) {
        (Some(_), Some(_)) => return Err("has both key and key_sha256, keep one of them"),
        (None, None) => return Err("has neither key nor key_sha256"),
        (Some(Concealed(key)), None) => of_key(key).ok_or("key must be a text without spaces")?,
        (None, Some(Concealed(hex))) => of_hex(hex).ok_or("key_sha256 must be 64 digits in hex")?,
    };
    let urgency = match &entry.priority {
        None => Urgency::default(),
        Some(Concealed(name)) => Urgency::parse(name).ok_or("priority must be interactive, background or batch")?,
    };
    let weight = entry.weight.unwrap_or(1.0);
    if !WEIGHTS.contains(&weight) {
        return Err("weight must be 0.001 to 1000");
    }
    if entry.max_unfinished_runs == Some(0) {
        return Err("max_unfinished_runs must be at least 1");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 1,000,000")]
    let weight_milli = (weight * MILLI).round() as u32;
    Ok(ClientKey {
        name: entry.name,
        digest,
        tenant: TenantId::new(entry.tenant),
        share: Share { urgency, weight_milli },
        unfinished_runs_max: entry.max_unfinished_runs,
    })
}

/// Tenants are parts of workflow ids, where `:` separates, and both stand in tables and search attributes.
fn is_name(text: &str) -> bool {
    (1..=limits::TENANT_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// A name as a message may show it: somebody may have put a key in its place.
fn shown(name: &str) -> String {
    if is_name(name) { name.to_owned() } else { "?".to_owned() }
}

fn of_key(key: &str) -> Option<[u8; DIGEST_BYTES]> {
    (!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic())).then(|| digest_of(key))
}

fn of_hex(hex: &str) -> Option<[u8; DIGEST_BYTES]> {
    if hex.len() != DIGEST_BYTES * 2 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; DIGEST_BYTES];
    for (place, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(place * 2..place * 2 + 2)?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-canary-of-acme";
    /// As `sha256sum` says it.
    const DIGEST: &str = "5574877F65AD24DDDE29E624DD2242974B859F0060CAE3C82DD0F2A70A5255A2";

    fn of(text: &str) -> Result<ClientKeys, String> {
        let own = SecretString::from("sk-own");
        let entries = parse("KEYS", text).map_err(|error| error.to_string())?;
        ClientKeys::of(vec![("KEYS".to_owned(), entries)], Some(&own)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_is_given_itself_or_by_its_digest_and_only_the_digest_is_kept() {
        let plain = of(&format!(r#"[{{"name": "ci", "key": "{KEY}", "tenant": "acme"}}]"#)).unwrap();
        let hashed = of(&format!(r#"[{{"name": "ci", "key_sha256": "{DIGEST}", "tenant": "acme"}}]"#)).unwrap();
        assert_eq!(plain, hashed);
        assert!(!format!("{plain:?}").contains(KEY));
        let said = r#"[{"name": "a", "key": "k", "tenant": "t", "priority": "batch", "weight": 2.5, "max_unfinished_runs": 9}]"#;
        let key = of(said).unwrap().iter().next().unwrap().clone();
        assert_eq!(key.share, Share { urgency: Urgency::Batch, weight_milli: 2_500 });
        assert_eq!(key.unfinished_runs_max, Some(9));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name_and_shows_no_key() {
        let long = "t".repeat(65);
        for (entry, said) in [
            (r#""name": "a b", "key": "sk-canary", "tenant": "t""#.to_owned(), "client key `?`: must be 1 to 64"),
            (format!(r#""name": "a", "key": "sk-canary", "tenant": "{long}""#), "client key `a`: tenant must be"),
            (r#""name": "a", "key": "sk-canary", "tenant": "a:b""#.to_owned(), "tenant must be"),
            (r#""name": "a", "key": "sk canary", "tenant": "t""#.to_owned(), "key must be a text without spaces"),
            (r#""name": "a", "key_sha256": "sk-canary", "tenant": "t""#.to_owned(), "64 digits in hex"),
            (r#""name": "a", "tenant": "t""#.to_owned(), "neither key nor key_sha256"),
            (r#""name": "a", "key": "sk-canary", "tenant": "t", "priority": "urgent""#.to_owned(), "priority must be"),
            (r#""name": "a", "key": "sk-canary", "tenant": "t", "weight": 0"#.to_owned(), "weight must be"),
            (r#""name": "a", "key": "sk-own", "tenant": "t""#.to_owned(), "has the same key as client_key"),
            (r#""name": "a", "key": "sk-canary", "tenant": "t", "tennant": "x""#.to_owned(), "unknown field `tennant`"),
            (r#""key": "sk-canary", "tenant": "t""#.to_owned(), "missing field `name`"),
        ] {
            let message = of(&format!("[{{{entry}}}]")).unwrap_err();
            assert!(message.contains(said), "{entry}: {message}");
            assert!(!message.contains("canary") && message.starts_with("KEYS"), "{message}");
        }
        for text in [r#""sk-canary""#, r#"[{"name": "a", "key": "k", "tenant": "t", "weight": "sk-canary"}]"#] {
            let message = of(text).unwrap_err();
            assert!(message.contains("line 1, column") && !message.contains("canary"), "{message}");
        }
    }

    #[test]
    fn names_and_keys_are_there_once() {
        let two = |first: &str, second: &str| of(&format!("[{{{first}}}, {{{second}}}]")).unwrap_err();
        let (a, b) = (r#""name": "a", "key": "sk-1", "tenant": "t""#, r#""name": "b", "key": "sk-1", "tenant": "u""#);
        assert!(two(a, b).contains("client key `b`: has the same key as `a`"));
        assert!(
            two(a, &b.replace(r#""b""#, r#""a""#).replace("sk-1", "sk-2"))
                .contains("client key `a`: is already defined in KEYS")
        );
    }
}
