//! AES-256-GCM with a random nonce for everything it seals: what texts in the database and payloads at Temporal share.
//!
//! Owns the form of what is sealed: twelve bytes of the nonce, the cipher text with its tag. Must not know whose key it
//! has nor where the bytes are kept; those who use it put the name of the key beside them.

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

/// Bytes of a key.
pub const CIPHER_KEY_BYTES: usize = 32;

/// Bytes that cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// They are not what was sealed, or are bound to something else, or another key sealed them.
    #[error("the bytes are not what this key sealed for this place")]
    Damaged,
    /// The system gave no randomness, or the cipher failed.
    #[error("the bytes could not be sealed")]
    Failed,
}

/// Seals and opens with one key.
pub struct Cipher {
    key: LessSafeKey,
    random: SystemRandom,
}

impl Cipher {
    /// With this key.
    pub fn new(key: &[u8; CIPHER_KEY_BYTES]) -> Result<Self, CipherError> {
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| CipherError::Failed)?;
        Ok(Self { key: LessSafeKey::new(key), random: SystemRandom::new() })
    }

    /// Seals `plain`; only who names the same `place` opens it.
    pub fn seal(&self, plain: &[u8], place: &[u8]) -> Result<Vec<u8>, CipherError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| CipherError::Failed)?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let (_, body) = sealed.split_at_mut(NONCE_LEN);
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), body)
            .map_err(|_| CipherError::Failed)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// What was sealed for `place`.
    pub fn open(&self, sealed: &[u8], place: &[u8]) -> Result<Vec<u8>, CipherError> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or(CipherError::Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CipherError::Damaged)?;
        let mut body = body.to_vec();
        let length =
            self.key.open_in_place(nonce, Aad::from(place), &mut body).map_err(|_| CipherError::Damaged)?.len();
        body.truncate(length);
        Ok(body)
    }
}
