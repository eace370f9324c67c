//! A request body, byte by byte, and how it travels in JSON without loss.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A body as it came. In JSON it is a string, or a list of numbers when it is not UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawBody(pub Bytes);

impl Serialize for RawBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_seq(self.0.iter()),
        }
    }
}

impl<'de> Deserialize<'de> for RawBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Bytes(Vec<u8>),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::Text(text) => Bytes::from(text),
            Form::Bytes(bytes) => Bytes::from(bytes),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_body_survives_the_way_through_json() {
        for body in [b"{\"a\": \"\xc3\xa9\"}".as_slice(), b"\xff\x00", b""] {
            let body = RawBody(Bytes::from_static(body));
            let text = serde_json::to_string(&body).unwrap();
            assert_eq!(serde_json::from_str::<RawBody>(&text).unwrap(), body);
        }
    }
}
