//! Which pages may call the API from a browser.

use crate::{ConfigError, TemporalSettings, parse::Values};

/// The origins of pages that a browser lets read answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Every page.
    #[default]
    Any,
    /// These, as browsers write them: `https://page.example`, with a port where it is not the usual one.
    Listed(Vec<String>),
}

impl CorsOrigins {
    /// `*`, `none`, or origins with commas between them.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [] => None,
            ["none"] => Some(Self::Listed(Vec::new())),
            words if words.contains(&"*") => Some(Self::Any),
            words => words.iter().map(|word| origin(word)).collect::<Option<Vec<String>>>().map(Self::Listed),
        }
    }

    /// Pages that may have payloads decoded: those that are named, or the Temporal UI where it is known.
    pub(crate) fn of_codec(values: &Values, temporal: Option<&TemporalSettings>) -> Result<Self, ConfigError> {
        let named = values.optional("codec_cors_origin", "none or a list of origins", Self::listed)?;
        let ui = || temporal.and_then(|temporal| temporal.ui_url.as_deref()).and_then(Self::of_page);
        Ok(named.or_else(ui).unwrap_or_else(Self::nobody))
    }

    /// As [`Self::parse`], where every page would be too many.
    fn listed(text: &str) -> Option<Self> {
        Self::parse(text).filter(|origins| *origins != Self::Any)
    }

    /// The origin of the page at `url`.
    fn of_page(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let host = rest.split(['/', '?', '#']).next()?;
        Self::listed(&format!("{scheme}://{host}"))
    }

    /// No page.
    fn nobody() -> Self {
        Self::Listed(Vec::new())
    }

    /// Whether a page of `origin` may read.
    pub fn allows(&self, origin: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(listed) => listed.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(origin)),
        }
    }
}

/// Scheme, host and port, and nothing behind them: a path would never match what a browser says.
fn origin(text: &str) -> Option<String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let (scheme, host) = text.split_once("://")?;
    let is_scheme = !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let is_host = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:[]".contains(c));
    (is_scheme && is_host).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_allows_its_origins_and_nobody_else() {
        let listed = CorsOrigins::parse("https://Page.example/, http://localhost:5173").unwrap();
        assert!(listed.allows(b"https://page.example") && listed.allows(b"http://localhost:5173"));
        for other in ["http://page.example", "https://page.example:8443", "https://page.example.evil", "null", ""] {
            assert!(!listed.allows(other.as_bytes()), "{other}");
        }
        assert!(CorsOrigins::parse("*").unwrap().allows(b"https://anybody"));
        assert!(!CorsOrigins::parse("none").unwrap().allows(b"https://anybody"));
    }

    #[test]
    fn a_page_stands_for_its_origin_and_no_list_of_named_pages_is_everybody() {
        let ui = CorsOrigins::of_page("http://127.0.0.1:8233/namespaces/default").unwrap();
        assert!(ui.allows(b"http://127.0.0.1:8233") && !ui.allows(b"http://127.0.0.1:8234"));
        assert_eq!(CorsOrigins::of_page("nothing"), None);
        assert_eq!(CorsOrigins::listed("*"), None);
        assert_eq!(CorsOrigins::listed("https://a,*"), None);
        assert_eq!(CorsOrigins::listed("none"), Some(CorsOrigins::nobody()));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in ["", " , ", "page.example", "https://", "https://a/path", "https://a b", "none, https://a"] {
            assert_eq!(CorsOrigins::parse(text), None, "{text}");
        }
        assert_eq!(CorsOrigins::parse("https://a,*"), Some(CorsOrigins::Any));
    }
}
