//! Texts that the database holds and nobody reads there: AES-256-GCM, bound to the place where they are kept.
//!
//! Owns the form of a sealed text: four bytes that name the key, twelve of the nonce, the cipher text with its tag. Must
//! not know whose texts they are. The key is the SHA-256 of a secret of any length.

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use sha2::{Digest, Sha256};

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

/// Seals and opens with one secret.
pub struct Seal {
    key: LessSafeKey,
    name: [u8; NAME_BYTES],
    random: SystemRandom,
}

impl Seal {
    /// From a secret text.
    pub fn new(secret: &str) -> Result<Self, SealError> {
        let key = Sha256::digest(secret.as_bytes());
        let digest = Sha256::digest(key);
        let mut name = [0; NAME_BYTES];
        name.copy_from_slice(digest.get(..NAME_BYTES).ok_or(SealError::Failed)?);
        let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| SealError::Failed)?;
        Ok(Self { key: LessSafeKey::new(key), name, random: SystemRandom::new() })
    }

    /// Seals `text` for `place`.
    pub fn seal(&self, text: &str, place: &str) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| SealError::Failed)?;
        let mut body = text.as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place.as_bytes()), &mut body)
            .map_err(|_| SealError::Failed)?;
        Ok([&self.name[..], &nonce, &body].concat())
    }

    /// The text that was sealed for `place`.
    pub fn open(&self, sealed: &[u8], place: &str) -> Result<String, SealError> {
        let (name, rest) = sealed.split_at_checked(NAME_BYTES).ok_or(SealError::Damaged)?;
        if name != self.name {
            return Err(SealError::OtherKey);
        }
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Damaged)?;
        let mut body = body.to_vec();
        let text =
            self.key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut body).map_err(|_| SealError::Damaged)?;
        String::from_utf8(text.to_vec()).map_err(|_| SealError::Damaged)
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
}
