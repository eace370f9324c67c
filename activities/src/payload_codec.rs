//! What Temporal keeps of a run, encrypted: inputs, results, details and texts of failures.
//!
//! Owns the form of an encrypted payload: the whole original payload as protobuf, sealed and bound to the id of its key,
//! which stands in the metadata under the names that Temporal's own examples use. Every client and worker has this codec,
//! also without keys: an encrypted payload must be an error there, and never an input that merely does not parse.
//! Must not know where payloads come from. Payloads that are not encrypted are read as they are: histories from before
//! the keys, and from processes that have none.

use std::{collections::HashMap, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use prost::Message;
use temporalio_common::{
    data_converters::{
        DataConverter, DefaultFailureConverter, PayloadCodec as TemporalCodec, PayloadConversionError,
        PayloadConverter, SerializationContextData,
    },
    protos::temporal::api::common::v1::Payload,
};
use tokenhub_config::PayloadKeys;
use tokenhub_domain::PayloadKeyId;
use tokenhub_store::{Cipher, CipherError};
use tokio_util::sync::CancellationToken;

const ENCODING: &str = "encoding";
const ENCRYPTED: &[u8] = b"binary/encrypted";
const KEY_ID: &str = "encryption-key-id";
/// Most of an unknown id that is repeated in an error: it comes from outside.
const SHOWN_ID_CHARS: usize = 64;

/// A payload that cannot be encrypted or decrypted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadFault {
    /// No key has its id.
    #[error("the payload is encrypted with the key `{id}`, which is not among TOKENHUB_PAYLOAD_KEYS here")]
    UnknownKey {
        /// The id.
        id: PayloadKeyId,
    },
    /// It is encrypted, and does not say with which key.
    #[error("the payload is encrypted and names no key in its metadata `encryption-key-id`")]
    NoKeyId,
    /// It is not what the key of this id encrypted.
    #[error("the payload is damaged, or was encrypted with another key that has the id `{id}`, too")]
    Damaged {
        /// The id.
        id: PayloadKeyId,
    },
    /// The cipher failed.
    #[error("the payload could not be encrypted")]
    Encrypt,
}

/// Encrypts with the first key and decrypts with all of them. Cheap to clone.
#[derive(Clone)]
pub struct PayloadCodec {
    ring: Arc<Vec<(PayloadKeyId, Cipher)>>,
    locked_out: CancellationToken,
}

impl PayloadCodec {
    /// With these keys; without one it encrypts nothing.
    pub fn new(keys: &PayloadKeys) -> Result<Self, CipherError> {
        let ring: Result<Vec<_>, CipherError> =
            keys.iter().map(|key| Ok((key.id.clone(), Cipher::new(key.expose())?))).collect();
        Ok(Self { ring: Arc::new(ring?), locked_out: CancellationToken::new() })
    }

    /// Whether it encrypts.
    pub fn is_on(&self) -> bool {
        !self.ring.is_empty()
    }

    /// Waits until an encrypted payload has come to this process, which has no key at all. Whatever it would do with
    /// more of them uses up their tries.
    pub async fn locked_out(&self) {
        self.locked_out.cancelled().await;
    }

    /// What clients convert with. Texts of failures become payloads, and so are encrypted, only where there is a key: an
    /// operator without one would not see them any more.
    pub fn data_converter(&self) -> DataConverter {
        DataConverter::new(PayloadConverter::default(), DefaultFailureConverter::new(self.is_on()), self.clone())
    }

    /// The payload as Temporal may keep it.
    pub fn encrypt(&self, payload: Payload) -> Result<Payload, PayloadFault> {
        let Some((id, cipher)) = self.ring.first() else { return Ok(payload) };
        let data = cipher.seal(&payload.encode_to_vec(), &place(id)).map_err(|_| PayloadFault::Encrypt)?;
        let metadata = HashMap::from([
            (ENCODING.to_owned(), ENCRYPTED.to_vec()),
            (KEY_ID.to_owned(), id.as_str().as_bytes().to_vec()),
        ]);
        Ok(Payload { metadata, data, ..Payload::default() })
    }

    /// The payload as it was before; one that is not encrypted comes back as it is.
    pub fn decrypt(&self, payload: Payload) -> Result<Payload, PayloadFault> {
        if payload.metadata.get(ENCODING).map(Vec::as_slice) != Some(ENCRYPTED) {
            return Ok(payload);
        }
        if self.ring.is_empty() {
            self.locked_out.cancel();
        }
        let named = payload.metadata.get(KEY_ID).ok_or(PayloadFault::NoKeyId)?;
        let Some((id, cipher)) = self.ring.iter().find(|(id, _)| id.as_str().as_bytes() == named.as_slice()) else {
            return Err(PayloadFault::UnknownKey { id: shown(named) });
        };
        let damaged = || PayloadFault::Damaged { id: id.clone() };
        let plain = cipher.open(&payload.data, &place(id)).map_err(|_| damaged())?;
        Payload::decode(plain.as_slice()).map_err(|_| damaged())
    }
}

/// What a sealed payload is bound to, so that it is not taken for something else that the same key sealed.
fn place(id: &PayloadKeyId) -> Vec<u8> {
    format!("temporal payload|{id}").into_bytes()
}

fn shown(id: &[u8]) -> PayloadKeyId {
    let text = String::from_utf8_lossy(id);
    PayloadKeyId::new(text.chars().filter(|c| !c.is_control()).take(SHOWN_ID_CHARS).collect::<String>())
}

fn all(
    payloads: Vec<Payload>,
    convert: impl Fn(Payload) -> Result<Payload, PayloadFault>,
) -> BoxFuture<'static, Result<Vec<Payload>, PayloadConversionError>> {
    let converted: Result<Vec<Payload>, PayloadFault> = payloads.into_iter().map(convert).collect();
    futures::future::ready(converted.map_err(|fault| PayloadConversionError::EncodingError(fault.into()))).boxed()
}

impl TemporalCodec for PayloadCodec {
    fn encode(
        &self,
        _context: &SerializationContextData,
        payloads: Vec<Payload>,
    ) -> BoxFuture<'static, Result<Vec<Payload>, PayloadConversionError>> {
        all(payloads, |payload| self.encrypt(payload))
    }

    fn decode(
        &self,
        _context: &SerializationContextData,
        payloads: Vec<Payload>,
    ) -> BoxFuture<'static, Result<Vec<Payload>, PayloadConversionError>> {
        all(payloads, |payload| self.decrypt(payload))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 32 bytes of 1 and of 2.
    const ONES: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    const TWOS: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

    fn codec(keys: &str) -> PayloadCodec {
        PayloadCodec::new(&PayloadKeys::parse(keys).unwrap()).unwrap()
    }

    fn without_keys() -> PayloadCodec {
        PayloadCodec::new(&PayloadKeys::default()).unwrap()
    }

    fn text(text: &str) -> Payload {
        let metadata = HashMap::from([(ENCODING.to_owned(), b"json/plain".to_vec())]);
        Payload { metadata, data: text.as_bytes().to_vec(), ..Payload::default() }
    }

    fn holds(bytes: &[u8], text: &str) -> bool {
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    #[test]
    fn an_encrypted_payload_names_its_key_hides_everything_else_and_is_never_the_same_twice() {
        let codec = codec(&format!("2026-11:{ONES}"));
        let encrypted = codec.encrypt(text("canary")).unwrap();
        assert_eq!(encrypted.metadata[ENCODING], b"binary/encrypted");
        assert_eq!(encrypted.metadata[KEY_ID], b"2026-11");
        assert!(!holds(&encrypted.encode_to_vec(), "canary") && !holds(&encrypted.encode_to_vec(), "json/plain"));
        assert_ne!(codec.encrypt(text("canary")).unwrap().data, encrypted.data);
        assert_eq!(codec.decrypt(encrypted).unwrap(), text("canary"));
    }

    #[test]
    fn the_first_key_encrypts_and_all_decrypt() {
        let (old, both) = (codec(&format!("a:{ONES}")), codec(&format!("b:{TWOS},a:{ONES}")));
        let by_old = old.encrypt(text("x")).unwrap();
        assert_eq!(both.decrypt(by_old).unwrap(), text("x"));
        let by_new = both.encrypt(text("x")).unwrap();
        assert_eq!(by_new.metadata[KEY_ID], b"b");
        let refused = old.decrypt(by_new).unwrap_err();
        assert_eq!(refused, PayloadFault::UnknownKey { id: "b".into() });
        assert!(refused.to_string().contains("`b`"), "{refused}");
    }

    #[test]
    fn another_key_of_the_same_id_opens_nothing() {
        let encrypted = codec(&format!("a:{ONES}")).encrypt(text("x")).unwrap();
        let refused = codec(&format!("a:{TWOS}")).decrypt(encrypted).unwrap_err();
        assert_eq!(refused, PayloadFault::Damaged { id: "a".into() });
    }

    #[test]
    fn an_encrypted_payload_without_the_id_of_a_key_is_refused() {
        let codec = codec(&format!("a:{ONES}"));
        let mut encrypted = codec.encrypt(text("x")).unwrap();
        encrypted.metadata.remove(KEY_ID);
        assert_eq!(codec.decrypt(encrypted).unwrap_err(), PayloadFault::NoKeyId);
    }

    #[test]
    fn without_keys_nothing_is_encrypted_and_what_is_encrypted_is_an_error_that_is_noticed() {
        let codec = without_keys();
        assert_eq!(codec.encrypt(text("x")).unwrap(), text("x"));
        assert_eq!(codec.decrypt(text("x")).unwrap(), text("x"));
        assert!(codec.locked_out().now_or_never().is_none());
        let encrypted = self::codec(&format!("a:{ONES}")).encrypt(text("x")).unwrap();
        assert_eq!(codec.decrypt(encrypted).unwrap_err(), PayloadFault::UnknownKey { id: "a".into() });
        assert!(codec.locked_out().now_or_never().is_some());
    }

    #[test]
    fn an_id_from_outside_is_cut_before_it_is_repeated() {
        let mut encrypted = codec(&format!("a:{ONES}")).encrypt(text("x")).unwrap();
        encrypted.metadata.insert(KEY_ID.to_owned(), format!("\n{}", "z".repeat(10_000)).into_bytes());
        let refused = codec(&format!("a:{ONES}")).decrypt(encrypted).unwrap_err();
        assert_eq!(refused, PayloadFault::UnknownKey { id: "z".repeat(SHOWN_ID_CHARS).as_str().into() });
    }

    prop_compose! {
        fn payload()(
            metadata in prop::collection::hash_map("[a-z-]{0,12}", prop::collection::vec(any::<u8>(), 0..40), 0..4),
            data in prop::collection::vec(any::<u8>(), 0..2_000),
        ) -> Payload {
            Payload { metadata, data, ..Payload::default() }
        }
    }

    proptest! {
        #[test]
        fn any_payload_comes_back_as_it_was(payload in payload()) {
            let codec = codec(&format!("a:{ONES}"));
            let encrypted = codec.encrypt(payload.clone()).unwrap();
            prop_assert_eq!(codec.decrypt(encrypted).unwrap(), payload);
        }

        #[test]
        fn a_single_changed_bit_is_refused(payload in payload(), place in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let codec = codec(&format!("a:{ONES}"));
            let mut encrypted = codec.encrypt(payload).unwrap();
            let place = place.index(encrypted.data.len());
            encrypted.data[place] ^= 1 << bit;
            prop_assert_eq!(codec.decrypt(encrypted).unwrap_err(), PayloadFault::Damaged { id: "a".into() });
        }

        #[test]
        fn cut_and_invented_data_is_refused(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let codec = codec(&format!("a:{ONES}"));
            let mut encrypted = codec.encrypt(text("x")).unwrap();
            encrypted.data = data;
            prop_assert_eq!(codec.decrypt(encrypted).unwrap_err(), PayloadFault::Damaged { id: "a".into() });
        }
    }
}
