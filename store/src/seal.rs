//! Texts that the database holds and nobody reads there: AES-256-GCM, bound to the place where they are kept.
//!
//! Owns the form of a sealed text: four bytes that name the key, twelve of the nonce, the cipher text with its tag. Must
//! not know whose texts they are. The key is the SHA-256 of a secret of any length.

use sha2::{Digest, Sha256};

use crate::{Cipher, CipherError};

/// Bytes that name the key.
const NAME_BYTES: usize = 4;

/// A text that cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It was sealed with another secret.
    #[error("it was sealed with another secret key")]
    OtherKey,
    /// It is not what was sealed, or not in its place.
    #[error("it is damaged, or not in the place for which it was sealed")]
    Damaged,
    /// The system gave no randomness, or the cipher failed.
    #[error("it could not be sealed")]
    Failed,
}

impl From<CipherError> for SealError {
    fn from(error: CipherError) -> Self {
        match error {
            CipherError::Damaged => Self::Damaged,
            CipherError::Failed => Self::Failed,
        }
    }
}

/// Seals and opens with one secret.
pub struct Seal {
    cipher: Cipher,
    name: [u8; NAME_BYTES],
}

impl Seal {
    /// From a secret text.
    pub fn new(secret: &str) -> Result<Self, SealError> {
        let key: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        let digest = Sha256::digest(key);
        let mut name = [0; NAME_BYTES];
        name.copy_from_slice(digest.get(..NAME_BYTES).ok_or(SealError::Failed)?);
        Ok(Self { cipher: Cipher::new(&key)?, name })
    }

    /// Seals `text` for `place`.
    pub fn seal(&self, text: &str, place: &str) -> Result<Vec<u8>, SealError> {
        let body = self.cipher.seal(text.as_bytes(), place.as_bytes())?;
        Ok([&self.name[..], &body].concat())
    }

    /// The text that was sealed for `place`.
    pub fn open(&self, sealed: &[u8], place: &str) -> Result<String, SealError> {
        let (name, body) = sealed.split_at_checked(NAME_BYTES).ok_or(SealError::Damaged)?;
        if name != self.name {
            return Err(SealError::OtherKey);
        }
        let text = self.cipher.open(body, place.as_bytes())?;
        String::from_utf8(text).map_err(|_| SealError::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_with_its_secret_in_its_place_only() {
        let seal = Seal::new("a secret").unwrap();
        let sealed = seal.seal("sk-canary", "provider|p").unwrap();
        assert!(!String::from_utf8_lossy(&sealed).contains("canary"));
        assert_ne!(sealed, seal.seal("sk-canary", "provider|p").unwrap(), "a nonce is used once");
        assert_eq!(seal.open(&sealed, "provider|p").unwrap(), "sk-canary");
        assert!(matches!(seal.open(&sealed, "provider|q"), Err(SealError::Damaged)));
        assert!(matches!(Seal::new("another").unwrap().open(&sealed, "provider|p"), Err(SealError::OtherKey)));
        let mut changed = sealed;
        *changed.last_mut().unwrap() ^= 1;
        assert!(matches!(seal.open(&changed, "provider|p"), Err(SealError::Damaged)));
        assert!(matches!(seal.open(b"abc", "provider|p"), Err(SealError::Damaged)));
    }

    #[test]
    fn what_earlier_versions_stored_still_opens() {
        let stored = "2736f8d2000102030405060708090a0b8b72981f9d36c4a60a1cf38962395ba51fe076079f439a0f38";
        let stored: Vec<u8> =
            (0..stored.len()).step_by(2).map(|at| u8::from_str_radix(&stored[at..at + 2], 16).unwrap()).collect();
        assert_eq!(Seal::new("a secret").unwrap().open(&stored, "provider|p").unwrap(), "sk-canary");
    }
}
