//! Data URLs: inline images and documents of Chat and Responses.
//!
//! Read with care, because a careless reading sends a broken picture instead of refusing it. Nothing is ever fetched.

use super::ConvertError;
use super::read::At;
use super::request::Source;

/// The image or document at `url`: inline data or a web address, nothing else.
pub(crate) fn source_of(url: &At<'_>) -> Result<Source, ConvertError> {
    let text = url.text()?;
    if let Some(rest) = text.strip_prefix("data:") {
        return inline(url, rest);
    }
    if text.starts_with("https://") || text.starts_with("http://") {
        return Ok(Source::Url(text.to_owned()));
    }
    Err(url.invalid("must be an http(s) address or a data URL"))
}

/// `[media type][;parameters];base64,data`; parameters are left out of the result.
fn inline(url: &At<'_>, rest: &str) -> Result<Source, ConvertError> {
    let (head, base64) = rest.split_once(',').ok_or_else(|| url.invalid("the data URL has no comma"))?;
    let mut pieces = head.split(';').map(str::trim);
    let media_type = pieces.next().unwrap_or("").to_ascii_lowercase();
    if !media_type.contains('/') {
        return Err(url.invalid("the data URL has no media type"));
    }
    if pieces.next_back() != Some("base64") {
        return Err(url.invalid("the data URL must be marked ;base64"));
    }
    check_base64(url, base64)?;
    Ok(Source::Data { media_type, base64: base64.to_owned() })
}

/// Refuses what is not padded standard base64.
pub(crate) fn check_base64(at: &At<'_>, base64: &str) -> Result<(), ConvertError> {
    let body = base64.trim_end_matches('=');
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    let is_valid = !body.is_empty()
        && base64.len().is_multiple_of(4)
        && base64.len() - body.len() <= 2
        && body.bytes().all(is_digit);
    if is_valid { Ok(()) } else { Err(at.invalid("the data is not valid base64")) }
}

/// The data URL of inline data.
pub(crate) fn data_url(media_type: &str, base64: &str) -> String {
    format!("data:{media_type};base64,{base64}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(url: &str) -> Result<String, String> {
        let value = json!(url);
        let at = At { value: &value, path: "u".to_owned() };
        match source_of(&at) {
            Ok(Source::Data { media_type, base64 }) => Ok(format!("{media_type} {base64}")),
            Ok(Source::Url(url)) => Ok(url),
            Ok(Source::FileId) => Ok("file".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn parameters_are_left_out_and_the_media_type_is_lower_case() {
        assert_eq!(read("data:image/PNG;base64,QUJD").as_deref(), Ok("image/png QUJD"));
        assert_eq!(read("data:image/png;name=a.png;base64,QUI=").as_deref(), Ok("image/png QUI="));
        assert_eq!(read("https://example.com/a.png").as_deref(), Ok("https://example.com/a.png"));
    }

    #[test]
    fn whatever_is_not_inline_base64_or_a_web_address_is_refused() {
        let refused = [
            "data:image/png,QUJD",
            "data:;base64,QUJD",
            "data:image/png;base64,QUJ",
            "data:image/png;base64,Q*JD",
            "data:image/png;base64,",
            "data:image/png;base64",
            "data:image/png;base64,====",
            "file:///etc/passwd",
            "gs://bucket/a.png",
            "QUJD",
        ];
        for url in refused {
            assert!(read(url).is_err(), "{url}");
        }
    }
}
