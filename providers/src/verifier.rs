//! Verifiers: servers that say whether an answer will do. One question, one answer or why there is none.
//!
//! Callers name the address, but only hosts that the operator has listed are called, as those of providers are: no
//! metadata service, no redirect and no proxy, which would lead elsewhere. Retries nothing.

use std::{error::Error, sync::OnceLock, time::Duration};

use reqwest::{Client, Response, Url, header::CONTENT_TYPE, redirect};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokenhub_domain::{Verdict, limits};

use crate::base_url::{CheckedResolver, is_forbidden_host};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REASON_CHARS: usize = 300;

/// The address of a verifier, looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierUrl(Url);

/// Why an address is none of a verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifierUrlError {
    /// It is none.
    #[error("must be an absolute http or https URL")]
    Syntax,
    /// It is too long.
    #[error("must not be longer than {} bytes", limits::VERIFIER_URL_BYTES)]
    TooLong,
    /// It carries what belongs elsewhere.
    #[error("must have no user, password or fragment")]
    Extras,
    /// It leads to the credentials of a machine.
    #[error("must not point at a link-local address or a metadata service")]
    LinkLocal,
}

impl VerifierUrl {
    /// Reads `text`.
    pub fn parse(text: &str) -> Result<Self, VerifierUrlError> {
        if text.len() > limits::VERIFIER_URL_BYTES {
            return Err(VerifierUrlError::TooLong);
        }
        let url = Url::parse(text).map_err(|_| VerifierUrlError::Syntax)?;
        let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else {
            return Err(VerifierUrlError::Syntax);
        };
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(VerifierUrlError::Extras);
        }
        if is_forbidden_host(host) {
            return Err(VerifierUrlError::LinkLocal);
        }
        Ok(Self(url))
    }

    /// Host and port, as a list of hosts has them.
    pub fn authority(&self) -> (&str, u16) {
        (self.0.host_str().unwrap_or_default(), self.0.port_or_known_default().unwrap_or_default())
    }

    /// What is called.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// A question without an answer.
#[derive(Debug)]
pub struct VerifierFailure {
    /// What went wrong, without the address.
    pub reason: String,
    /// Whether it may work later.
    pub is_transient: bool,
}

/// The clients of a process, made when they are first needed.
#[derive(Debug, Default)]
pub struct VerifierClient {
    plain: OnceLock<Client>,
    secure: OnceLock<Client>,
}

/// What a verifier says. Members beside these are its own business.
#[derive(Deserialize)]
struct Said {
    pass: bool,
    #[serde(default)]
    score: Option<f64>,
    #[serde(default)]
    feedback: Option<String>,
}

impl VerifierClient {
    /// Posts `body` and reads the verdict, all within `timeout`.
    pub async fn ask(&self, url: &VerifierUrl, body: String, timeout: Duration) -> Result<Verdict, VerifierFailure> {
        let client = self.client(&url.0).map_err(|error| failed(&error, false))?;
        let asked = client
            .post(url.0.clone())
            .timeout(timeout)
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await;
        match asked {
            Ok(response) => answered(response).await,
            Err(error) => Err(not_answered(error)),
        }
    }

    fn client(&self, url: &Url) -> Result<Client, reqwest::Error> {
        let cell = if url.scheme() == "http" { &self.plain } else { &self.secure };
        if let Some(client) = cell.get() {
            return Ok(client.clone());
        }
        let builder = Client::builder()
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .dns_resolver(CheckedResolver)
            .user_agent(concat!("tokenhub/", env!("CARGO_PKG_VERSION")));
        // Loading the system's certificates takes time and fails where there are none.
        let builder = if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
        let client = builder.build()?;
        Ok(cell.get_or_init(|| client).clone())
    }
}

async fn answered(mut response: Response) -> Result<Verdict, VerifierFailure> {
    let status = response.status();
    if !status.is_success() {
        let is_transient = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
        return Err(VerifierFailure {
            reason: format!("the verifier answered with {}", status.as_u16()),
            is_transient,
        });
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(not_answered)? {
        if body.len() + chunk.len() > limits::VERIFIER_ANSWER_BYTES {
            let reason = format!("the verifier's answer is larger than {} bytes", limits::VERIFIER_ANSWER_BYTES);
            return Err(VerifierFailure { reason, is_transient: false });
        }
        body.extend_from_slice(&chunk);
    }
    read(&body).ok_or_else(|| VerifierFailure {
        reason: "the verifier's answer is not {\"pass\": true or false, …}".to_owned(),
        is_transient: false,
    })
}

fn read(body: &[u8]) -> Option<Verdict> {
    // Of a list serde would take the members by their place.
    let object: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let Said { pass, score, feedback } = serde_json::from_value(Value::Object(object)).ok()?;
    let feedback = feedback.map(|text| beginning(text.trim(), limits::CHECK_FEEDBACK_BYTES).to_owned());
    Some(Verdict { passed: pass, score, feedback: feedback.filter(|text| !text.is_empty()), error: None })
}

/// The first whole characters of `text`.
fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn not_answered(error: reqwest::Error) -> VerifierFailure {
    let error = error.without_url();
    if error.is_timeout() {
        return VerifierFailure { reason: "the verifier did not answer in time".to_owned(), is_transient: true };
    }
    failed(&error, true)
}

fn failed(error: &(dyn Error + 'static), is_transient: bool) -> VerifierFailure {
    let causes = std::iter::successors(Some(error), |cause| (*cause).source());
    let reason = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let reason = format!("the verifier could not be asked: {reason}").chars().take(REASON_CHARS).collect();
    VerifierFailure { reason, is_transient }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_plain_url_that_leads_to_no_metadata() {
        for (text, error) in [
            ("", VerifierUrlError::Syntax),
            ("verify.example/a", VerifierUrlError::Syntax),
            ("ftp://verify.example/a", VerifierUrlError::Syntax),
            ("file:///etc/passwd", VerifierUrlError::Syntax),
            ("http://me:word@verify.example/a", VerifierUrlError::Extras),
            ("http://verify.example/a#b", VerifierUrlError::Extras),
            ("http://169.254.169.254/latest", VerifierUrlError::LinkLocal),
            ("http://2852039166/", VerifierUrlError::LinkLocal),
            ("http://metadata.google.internal/", VerifierUrlError::LinkLocal),
        ] {
            assert_eq!(VerifierUrl::parse(text), Err(error), "{text}");
        }
        let long = format!("http://verify.example/{}", "a".repeat(limits::VERIFIER_URL_BYTES));
        assert_eq!(VerifierUrl::parse(&long), Err(VerifierUrlError::TooLong));
        let url = VerifierUrl::parse("http://Verify.example/a?b=c").unwrap();
        assert_eq!((url.authority(), url.as_str()), (("verify.example", 80), "http://verify.example/a?b=c"));
        assert_eq!(VerifierUrl::parse("https://[::1]:8443/").unwrap().authority(), ("[::1]", 8443));
    }

    #[test]
    fn a_verdict_is_an_object_with_a_pass_and_its_feedback_is_cut_off() {
        assert_eq!(read(br#"{"pass": true, "more": []}"#), Some(Verdict::passed()));
        let told = read(br#"{"pass": false, "score": 0.5, "feedback": " too long "}"#).unwrap();
        assert_eq!((told.score, told.feedback.as_deref(), told.passed), (Some(0.5), Some("too long"), false));
        for rubbish in [&b"yes"[..], b"", b"[true]", br#"{"pass": "true"}"#, br#"{"score": 1}"#, b"\xff"] {
            assert_eq!(read(rubbish), None);
        }
        let long = serde_json::json!({"pass": false, "feedback": "\u{e9}".repeat(limits::CHECK_FEEDBACK_BYTES)});
        let feedback = read(long.to_string().as_bytes()).unwrap().feedback.unwrap();
        assert!(feedback.len() <= limits::CHECK_FEEDBACK_BYTES && feedback.len() > limits::CHECK_FEEDBACK_BYTES - 4);
    }
}
