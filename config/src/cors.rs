//! Which pages may call the API from a browser.

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
    fn what_is_no_origin_is_refused() {
        for text in ["", " , ", "page.example", "https://", "https://a/path", "https://a b", "none, https://a"] {
            assert_eq!(CorsOrigins::parse(text), None, "{text}");
        }
        assert_eq!(CorsOrigins::parse("https://a,*"), Some(CorsOrigins::Any));
    }
}
