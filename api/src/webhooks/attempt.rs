//! One try: a POST, and what its answer means.
//!
//! Follows no redirect and uses no proxy, because both would call an address that nobody looked at. Keeps no connection:
//! webhooks to one receiver are rare, and each connection is checked anew.

use std::{
    error::Error,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use reqwest::{
    Client, Response, StatusCode, Url,
    header::{CONTENT_TYPE, RETRY_AFTER},
    redirect,
};
use tokenhub_domain::DeliveryId;

use super::guard::{NoPublicAddress, PublicResolver, Trust};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the first byte of the connection to the end of the answer.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(15);
/// What is read of an answer that says no; what says yes is not read.
const ANSWER_BYTES: usize = 1_024;
const REASON_CHARS: usize = 500;

/// What is sent.
pub(super) struct Letter<'a> {
    /// The same over all tries.
    pub(super) id: &'a DeliveryId,
    /// Of this try, in seconds.
    pub(super) timestamp: i64,
    /// Over id, timestamp and body.
    pub(super) signature: String,
    /// The payload.
    pub(super) body: String,
}

/// What came of a try.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The receiver has it.
    Taken {
        /// Its status.
        status: u16,
    },
    /// The receiver wants no more of it.
    Gone {
        /// Its status.
        status: u16,
    },
    /// It may not be sent there, now or later.
    Refused(String),
    /// It may work later.
    Failed {
        /// The receiver's status, if it answered.
        status: Option<u16>,
        /// What went wrong.
        reason: String,
        /// How long the receiver wants to be left alone.
        retry_after_ms: Option<u64>,
    },
}

impl Verdict {
    /// A failure without an answer.
    pub(super) fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { status: None, reason: reason.into(), retry_after_ms: None }
    }
}

/// The clients of a process, made when they are first needed.
#[derive(Default)]
pub(super) struct Clients {
    checked: OnceLock<Client>,
    allowed: OnceLock<Client>,
    plain: OnceLock<Client>,
}

impl Clients {
    /// Sends `letter` to a URL that was looked at.
    pub(super) async fn send(&self, url: Url, trust: Trust, letter: Letter<'_>) -> Verdict {
        let client = match self.client(&url, trust) {
            Ok(client) => client,
            Err(error) => return Verdict::failed(told(&error)),
        };
        let request = client
            .post(url)
            .timeout(TOTAL_TIMEOUT)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", letter.id.as_str())
            .header("webhook-timestamp", letter.timestamp)
            .header("webhook-signature", letter.signature)
            .body(letter.body);
        match request.send().await {
            Ok(response) => answered(response).await,
            Err(error) => not_answered(error),
        }
    }

    fn client(&self, url: &Url, trust: Trust) -> Result<Client, reqwest::Error> {
        let cell = match (trust, url.scheme()) {
            (Trust::Checked, _) => &self.checked,
            (Trust::Allowed, "http") => &self.plain,
            (Trust::Allowed, _) => &self.allowed,
        };
        if let Some(client) = cell.get() {
            return Ok(client.clone());
        }
        let builder = Client::builder()
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(0)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .user_agent(concat!("tokenhub/", env!("CARGO_PKG_VERSION")));
        let client = match trust {
            Trust::Checked => builder.https_only(true).dns_resolver(PublicResolver),
            // Loading the system's certificates takes time and fails where there are none.
            Trust::Allowed if url.scheme() == "http" => builder.tls_certs_only([]),
            Trust::Allowed => builder,
        }
        .build()?;
        Ok(cell.get_or_init(|| client).clone())
    }
}

async fn answered(response: Response) -> Verdict {
    let status = response.status();
    if status.is_success() {
        return Verdict::Taken { status: status.as_u16() };
    }
    if status == StatusCode::GONE {
        return Verdict::Gone { status: status.as_u16() };
    }
    let retry_after_ms = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| retry_after_ms(text, SystemTime::now()));
    let reason = if status.is_redirection() {
        "the receiver answered with a redirect, which is not followed".to_owned()
    } else {
        format!("the receiver answered: {}", beginning(response).await)
    };
    Verdict::Failed { status: Some(status.as_u16()), reason: shortened(&reason), retry_after_ms }
}

fn not_answered(error: reqwest::Error) -> Verdict {
    let error = error.without_url();
    if let Some(refusal) = causes(&error).find_map(|cause| cause.downcast_ref::<NoPublicAddress>()) {
        return Verdict::Refused(refusal.to_string());
    }
    let reason = if error.is_timeout() { "the receiver did not answer in time".to_owned() } else { told(&error) };
    Verdict::failed(shortened(&reason))
}

/// The beginning of the body; the rest is not read.
async fn beginning(mut response: Response) -> String {
    let mut read = Vec::new();
    while read.len() < ANSWER_BYTES {
        let Ok(Some(chunk)) = response.chunk().await else { break };
        read.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES - read.len())]);
    }
    String::from_utf8_lossy(&read).into_owned()
}

/// Seconds, or a date.
fn retry_after_ms(text: &str, now: SystemTime) -> Option<u64> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(seconds.saturating_mul(1_000));
    }
    let at = httpdate::parse_http_date(text.trim()).ok()?;
    Some(at.duration_since(now).map_or(0, |left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)))
}

/// An error with its causes.
fn told(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause| (*cause).source())
}

fn shortened(text: &str) -> String {
    text.chars().take(REASON_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_wish_to_be_left_alone_is_seconds_or_a_date() {
        let now = UNIX_EPOCH + Duration::from_mins(1);
        assert_eq!(retry_after_ms("7", now), Some(7_000));
        assert_eq!(retry_after_ms("Thu, 01 Jan 1970 00:01:30 GMT", now), Some(30_000));
        assert_eq!(retry_after_ms("Thu, 01 Jan 1970 00:00:30 GMT", now), Some(0));
        assert_eq!(retry_after_ms("soon", now), None);
        assert_eq!(retry_after_ms("99999999999999999999", now), None);
    }
}
