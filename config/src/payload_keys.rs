//! The keys that encrypt what Temporal keeps of a run.
//!
//! Owns how they are written: `id:key` entries, the first of which encrypts. The keys show in no message.

use std::sync::Arc;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use secrecy::{ExposeSecret, SecretBox, zeroize::Zeroizing};
use tokenhub_domain::PayloadKeyId;

/// The id travels with every payload.
const ID_BYTES_MAX: usize = 64;
const KEY_BYTES: usize = 32;
/// Keys that still decrypt; each is looked through for a payload.
const KEYS_MAX: usize = 32;

const FORM: &str = "entries `id:key` with commas between them, at most 32";
const ID_FORM: &str = "ids of 1 to 64 letters, digits, `.`, `_` or `-`";
const KEY_FORM: &str = "keys of 32 bytes in base64, as `openssl rand -base64 32` makes them";
const TWICE: &str = "every id once";

/// One key.
#[derive(Clone, Debug)]
pub struct PayloadKey {
    /// Its name, which is no secret.
    pub id: PayloadKeyId,
    bytes: Arc<SecretBox<[u8; KEY_BYTES]>>,
}

impl PayloadKey {
    /// The key itself.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        self.bytes.expose_secret()
    }
}

/// The keys: the first encrypts, all decrypt. Without one nothing is encrypted.
#[derive(Clone, Debug, Default)]
pub struct PayloadKeys(Vec<PayloadKey>);

impl PayloadKeys {
    /// The keys, the one that encrypts first.
    pub fn iter(&self) -> impl Iterator<Item = &PayloadKey> {
        self.0.iter()
    }

    /// Whether nothing is encrypted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads them, or says what is expected instead. A file may have one on each line.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut keys: Vec<PayloadKey> = Vec::new();
        for entry in text.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty()) {
            let key = key(entry)?;
            if keys.iter().any(|other| other.id == key.id) {
                return Err(TWICE);
            }
            keys.push(key);
        }
        if keys.is_empty() || keys.len() > KEYS_MAX { Err(FORM) } else { Ok(Self(keys)) }
    }
}

fn key(entry: &str) -> Result<PayloadKey, &'static str> {
    let (id, encoded) = entry.split_once(':').ok_or(FORM)?;
    let is_id = |id: &str| id.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if id.is_empty() || id.len() > ID_BYTES_MAX || !is_id(id) {
        return Err(ID_FORM);
    }
    // Some tools leave the padding out.
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decoded = Zeroizing::new(GeneralPurpose::new(&STANDARD, config).decode(encoded).map_err(|_| KEY_FORM)?);
    let bytes = <[u8; KEY_BYTES]>::try_from(decoded.as_slice()).map_err(|_| KEY_FORM)?;
    Ok(PayloadKey { id: PayloadKeyId::new(id), bytes: Arc::new(SecretBox::new(Box::new(bytes))) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 32 bytes of 1.
    const ONES: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    /// 32 bytes of 2, without padding.
    const TWOS: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI";

    #[test]
    fn the_first_of_several_keys_is_the_one_that_encrypts() {
        for text in [format!("b:{ONES},a:{TWOS}"), format!(" b:{ONES}\r\na:{TWOS}\n")] {
            let keys = PayloadKeys::parse(&text).unwrap();
            let read: Vec<(&str, u8)> = keys.iter().map(|key| (key.id.as_str(), key.expose()[31])).collect();
            assert_eq!(read, [("b", 1), ("a", 2)]);
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_key() {
        for (text, expected) in [
            (",", FORM),
            ("AQEB", FORM),
            (":AQEB", ID_FORM),
            ("a b:AQEB", ID_FORM),
            ("a:AQEB", KEY_FORM),
            ("a:not base64!", KEY_FORM),
        ] {
            assert_eq!(PayloadKeys::parse(text).unwrap_err(), expected, "{text}");
        }
        assert_eq!(PayloadKeys::parse(&format!("a:{ONES},a:{TWOS}")).unwrap_err(), TWICE);
        let shown = format!("{:?}", PayloadKeys::parse(&format!("a:{ONES}")).unwrap());
        assert!(!shown.contains("1, 1") && !shown.contains("AQEB"), "{shown}");
    }
}
