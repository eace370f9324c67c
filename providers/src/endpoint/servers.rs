//! The servers of one provider: asked in turn, and one that could not be reached is left out for a while.
//!
//! Knows addresses and whether they answered lately, nothing of what is asked.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::Url;
use tokenhub_domain::{Dialect, ProviderResponseId};

use crate::base_url::{LinkLocal, normalise_base_url};
use crate::error::BaseUrlError;

/// How long a server that could not be reached is left out while another is there.
const LEFT_OUT: Duration = Duration::from_secs(5);

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    chat: Url,
    responses: Url,
    messages: Url,
    embeddings: Url,
    models: Url,
    out_until: Mutex<Option<Instant>>,
}

impl Server {
    fn new(root: &str, link_local: LinkLocal) -> Result<Self, BaseUrlError> {
        let root = normalise_base_url(root, link_local)?;
        let root = if has_version(&root) { root } else { format!("{root}/v1") };
        let url = |path: &str| Url::parse(&format!("{root}/{path}")).map_err(|_| BaseUrlError::Syntax);
        Ok(Self {
            chat: url("chat/completions")?,
            responses: url("responses")?,
            messages: url("messages")?,
            embeddings: url("embeddings")?,
            models: url("models")?,
            out_until: Mutex::default(),
        })
    }

    /// Where chats of this protocol are taken.
    pub(super) fn chat_url(&self, dialect: Dialect) -> Url {
        match dialect {
            Dialect::Chat => self.chat.clone(),
            Dialect::Responses => self.responses.clone(),
            Dialect::Messages => self.messages.clone(),
        }
    }

    /// Where a response in the background is found.
    pub(super) fn response_url(&self, response: &ProviderResponseId) -> Url {
        below(self.responses.clone(), &[response.as_str()])
    }

    /// Where it is withdrawn.
    pub(super) fn withdrawal_url(&self, response: &ProviderResponseId) -> Url {
        below(self.responses.clone(), &[response.as_str(), "cancel"])
    }

    /// Where texts become vectors.
    pub(super) fn embeddings_url(&self) -> Url {
        self.embeddings.clone()
    }

    /// Where the models are listed.
    pub(super) fn models_url(&self) -> Url {
        self.models.clone()
    }

    /// Takes note of whether the server could be reached.
    pub(super) fn note(&self, error: Option<&reqwest::Error>) {
        let is_away = error.is_some_and(reqwest::Error::is_connect);
        let mut out_until = self.out_until.lock().unwrap_or_else(PoisonError::into_inner);
        *out_until = is_away.then(|| Instant::now() + LEFT_OUT);
    }

    fn is_out(&self, now: Instant) -> bool {
        self.out_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now < until)
    }
}

/// Every segment is escaped: an id comes from outside.
fn below(mut url: Url, segments: &[&str]) -> Url {
    if let Ok(mut path) = url.path_segments_mut() {
        path.extend(segments);
    }
    url
}

/// Some compatible providers have their own version in the path, and nothing behind it.
fn has_version(root: &str) -> bool {
    root.split('/').skip(3).any(|segment| {
        let digits = segment.strip_prefix('v').unwrap_or_default();
        digits.starts_with(|first: char| first.is_ascii_digit()) && digits.chars().all(|it| it.is_ascii_alphanumeric())
    })
}

/// Every server of a provider.
#[derive(Debug)]
pub(super) struct Servers {
    all: Vec<Server>,
    turn: AtomicUsize,
}

impl Servers {
    /// `roots` has at least one.
    pub(super) fn new<'a>(roots: impl Iterator<Item = &'a str>, link_local: LinkLocal) -> Result<Self, BaseUrlError> {
        let all = roots.map(|root| Server::new(root, link_local)).collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() { Err(BaseUrlError::Syntax) } else { Ok(Self { all, turn: AtomicUsize::new(0) }) }
    }

    /// Whose turn it is. When all are left out, they are asked in turn all the same.
    pub(super) fn pick(&self) -> &Server {
        if let [only] = &self.all[..] {
            return only;
        }
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let in_turn = |offset: usize| &self.all[first.wrapping_add(offset) % self.all.len()];
        (0..self.all.len()).map(in_turn).find(|server| !server.is_out(now)).unwrap_or_else(|| in_turn(0))
    }

    /// Whether `holds` of every server.
    pub(super) fn all(&self, holds: impl Fn(&Url) -> bool) -> bool {
        self.all.iter().all(|server| holds(&server.models))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat_url(root: &str) -> String {
        Server::new(root, LinkLocal::Refused).unwrap().chat_url(Dialect::Chat).to_string()
    }

    #[test]
    fn a_response_is_one_segment_of_its_path_whatever_its_id_holds() {
        let server = Server::new("https://h.example/v1", LinkLocal::Refused).unwrap();
        let urls =
            |id: &str| (server.response_url(&id.into()).to_string(), server.withdrawal_url(&id.into()).to_string());
        let root = "https://h.example/v1/responses";
        assert_eq!(urls("resp_1"), (format!("{root}/resp_1"), format!("{root}/resp_1/cancel")));
        assert_eq!(urls("a/b?c").0, format!("{root}/a%2Fb%3Fc"));
    }

    #[test]
    fn the_version_is_added_once_and_a_providers_own_stays() {
        for (root, url) in [
            ("https://api.openai.com", "https://api.openai.com/v1/chat/completions"),
            ("https://api.openai.com/v1/", "https://api.openai.com/v1/chat/completions"),
            ("https://h.example/openai/v1", "https://h.example/openai/v1/chat/completions"),
            ("https://g.example/v1beta/openai", "https://g.example/v1beta/openai/chat/completions"),
            ("https://z.example/api/paas/v4", "https://z.example/api/paas/v4/chat/completions"),
            ("https://vllm.example/very", "https://vllm.example/very/v1/chat/completions"),
        ] {
            assert_eq!(chat_url(root), url, "{root}");
        }
    }

    #[test]
    fn servers_take_turns_and_one_that_is_away_is_left_out() {
        let roots = ["http://a", "http://b", "http://c"];
        let servers = Servers::new(roots.into_iter(), LinkLocal::Refused).unwrap();
        let picked = |count: usize| -> String {
            (0..count).filter_map(|_| servers.pick().models_url().host_str().map(str::to_owned)).collect()
        };
        assert_eq!(picked(4), "abca");
        *servers.all[1].out_until.lock().unwrap() = Some(Instant::now() + LEFT_OUT);
        assert_eq!(picked(4), "ccac");
        for server in &servers.all {
            *server.out_until.lock().unwrap() = Some(Instant::now() + LEFT_OUT);
        }
        assert_eq!(picked(3).len(), 3);
        servers.all[0].note(None);
        assert_eq!(picked(3), "aaa");
    }
}
