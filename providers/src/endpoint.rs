//! An upstream over HTTP: one pooled client, one call at a time, no retries.
//!
//! Owns the borders between the error classes that only the transport can see: before the first byte, after it, and the
//! clocks. The connection is HTTP/1.1 with keep-alive; redirects are not followed, because they would carry the
//! credential elsewhere.

mod accounts;
mod background;
mod clients;
mod servers;
mod streamed;
mod translation;

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::Response;
use tokenhub_domain::{Dialect, ErrorClass, ModelId, ModelQuirks, Provider, ProviderFailure, ProviderId, limits};
use tokio::time::{Instant, timeout, timeout_at};

use crate::answer::{read_embeddings, read_models};
use crate::base_url::LinkLocal;
use crate::call::{Call, Completion, ListedModel, Streaming, Timeouts, Upstream};
use crate::classify::{ErrorEvidence, classify};
use crate::error::ProvidersError;
use crate::quirks;
use crate::redact::redact;
use crate::stream::{self, Clocks};
use crate::wire::Delivery;

use accounts::{Account, Accounts, forward};
use clients::Clients;
use servers::Servers;
use translation::{Translation, own_body};

/// The header that carries the ledger's id of the call.
const ATTEMPT_HEADER: &str = "x-tokenhub-attempt-id";
/// An error body that is not complete after this is read as far as it came; the status is evidence enough.
const ERROR_BODY_WAIT: Duration = Duration::from_secs(5);
/// Read of an error body: more than is kept, so that masking a secret happens before the cut.
const ERROR_BODY_BYTES: usize = 4 * limits::PROVIDER_ERROR_BYTES;
/// How long a model list may take.
const LIST_WAIT: Duration = Duration::from_secs(15);
/// Largest model list; the longest known one is under 1 MiB.
const LIST_BYTES: usize = 8 * 1024 * 1024;
/// Longest description of a transport failure.
const CAUSE_BYTES: usize = 512;

/// What a provider gives that was asked for a stream.
enum Opened {
    /// The stream, and the protocol that it comes in.
    Stream(Streaming, Dialect),
    /// The whole answer all the same.
    Whole(Box<Completion>),
}

/// An upstream that can be called.
#[derive(Debug)]
pub(crate) struct Endpoint {
    provider: ProviderId,
    clients: Clients,
    servers: Servers,
    dialects: Vec<Dialect>,
    background: bool,
    accounts: Accounts,
    timeouts: Timeouts,
    quirks: HashMap<ModelId, Arc<ModelQuirks>>,
}

impl Endpoint {
    pub(crate) fn new(upstream: Upstream, link_local: LinkLocal) -> Result<Self, ProvidersError> {
        let Upstream { provider, credentials, timeouts, quirks } = upstream;
        let refused = |source| ProvidersError::BaseUrl { provider: provider.id.clone(), source };
        let roots = std::iter::once(&provider.base_url).chain(&provider.replicas);
        let servers = Servers::new(roots.map(String::as_str), link_local).map_err(refused)?;
        let clients = Clients::new(&servers, timeouts, link_local)
            .map_err(|source| ProvidersError::Client { provider: provider.id.clone(), source })?;
        let accounts = Accounts::new(&provider, credentials)?;
        let quirks = quirks.into_iter().map(|(model, quirks)| (model, Arc::new(quirks))).collect();
        let Provider { id, dialects, background, .. } = provider;
        Ok(Self { provider: id, clients, servers, dialects, background, accounts, timeouts, quirks })
    }

    pub(crate) async fn complete(&self, call: Call<'_>) -> Result<Completion, ProviderFailure> {
        let limit = self.limit_of(&call);
        let mut translation = self.translate(&call, Delivery::Whole)?;
        let exchange = async {
            let account = self.accounts.get(call.credential)?;
            let response = self.post(&call, account, &mut translation, Delivery::Whole).await?;
            if !response.status().is_success() {
                return Err(failure_of(response, account).await);
            }
            let body = whole_body(response, limits::PROVIDER_ANSWER_BYTES, account).await?;
            self.read(&call, account, translation, body)
        };
        timeout(limit, exchange).await.unwrap_or_else(|_| Err(too_late(limit)))
    }

    /// A whole answer, without the quirks of the model and in the caller's protocol.
    fn read(
        &self,
        call: &Call<'_>,
        account: &Account,
        translation: Translation,
        body: Vec<u8>,
    ) -> Result<Completion, ProviderFailure> {
        let body = match self.quirks.get(call.model) {
            None => body,
            Some(quirks) => quirks::reply(quirks, call.attempt, body),
        };
        translation.answer(body, account.secret())
    }

    pub(crate) async fn stream(&self, call: Call<'_>) -> Result<Streaming, ProviderFailure> {
        match self.open(call).await? {
            Opened::Stream(streaming, _) => Ok(streaming),
            Opened::Whole(_) => {
                Err(ProviderFailure::of(ErrorClass::ServerError, "the provider does not stream this model"))
            }
        }
    }

    /// Asks for a stream.
    async fn open(&self, call: Call<'_>) -> Result<Opened, ProviderFailure> {
        let started = Instant::now();
        let limit = self.limit_of(&call);
        let first_token = Duration::from_millis(self.timeouts.first_token_ms);
        let clocks = Clocks {
            first_token: started + call.first_token_timeout.map_or(first_token, |wanted| wanted.min(first_token)),
            end: started + limit,
            idle: Duration::from_millis(self.timeouts.idle_ms),
        };
        let headers_by = started + Duration::from_millis(self.timeouts.headers_ms);
        let mut translation = self.translate(&call, Delivery::Streamed)?;
        let account = self.accounts.get(call.credential)?;
        let opening = self.post(&call, account, &mut translation, Delivery::Streamed);
        let response = match timeout_at(headers_by.min(clocks.first_token).min(clocks.end), opening).await {
            Ok(response) => response?,
            Err(_) if Instant::now() >= clocks.end => return Err(too_late(limit)),
            Err(_) => return Err(stream::no_first_token()),
        };
        if !response.status().is_success() {
            return Err(failure_of(response, account).await);
        }
        if is_json(response.headers()) {
            // Mostly an error that a gateway wrapped.
            let reading = whole_body(response, limits::PROVIDER_ANSWER_BYTES, account);
            let too_late = |_| ProviderFailure::of(ErrorClass::StepDeadline, "the answer did not end in time");
            let body = timeout_at(clocks.end, reading).await.map_err(too_late)??;
            return self.read(&call, account, translation, body).map(|answer| Opened::Whole(Box::new(answer)));
        }
        let upstream = translation.upstream;
        let (reading, losses) = translation.reading();
        let quirks = self.quirks.get(call.model).map(|quirks| (Arc::clone(quirks), call.attempt.clone()));
        let streaming = stream::open(response, clocks, account.credential(), (reading, quirks));
        Ok(Opened::Stream(Streaming { losses, ..streaming }, upstream))
    }

    pub(crate) async fn embed(&self, call: Call<'_>) -> Result<Completion, ProviderFailure> {
        let limit = self.limit_of(&call);
        let body = own_body(&call)?;
        let exchange = async {
            let account = self.accounts.get(call.credential)?;
            let server = self.servers.pick();
            let headers = headers_of(&call, account, Dialect::Chat);
            let sent = self.clients.get().post(server.embeddings_url()).headers(headers).body(body).send().await;
            server.note(sent.as_ref().err());
            let response = sent.map_err(|error| before_first_byte(error, account))?;
            if !response.status().is_success() {
                return Err(failure_of(response, account).await);
            }
            let body = whole_body(response, limits::PROVIDER_ANSWER_BYTES, account).await?;
            read_embeddings(body, account.secret())
        };
        timeout(limit, exchange).await.unwrap_or_else(|_| Err(too_late(limit)))
    }

    pub(crate) async fn list_models(&self) -> Result<Vec<ListedModel>, ProviderFailure> {
        let exchange = async {
            let account = self.accounts.first()?;
            let server = self.servers.pick();
            let mut headers = HeaderMap::with_capacity(3);
            headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
            account.authenticate(&mut headers, self.dialects.first().copied().unwrap_or_default());
            let sent = self.clients.get().get(server.models_url()).headers(headers).send().await;
            let response = sent.map_err(|error| before_first_byte(error, account))?;
            if !response.status().is_success() {
                return Err(failure_of(response, account).await);
            }
            read_models(&whole_body(response, LIST_BYTES, account).await?)
        };
        timeout(LIST_WAIT, exchange).await.unwrap_or_else(|_| Err(too_late(LIST_WAIT)))
    }

    fn translate(&self, call: &Call<'_>, delivery: Delivery) -> Result<Translation, ProviderFailure> {
        let now_secs = now_secs();
        let Some(quirks) = self.quirks.get(call.model) else {
            return Translation::of(call, &self.provider, &self.dialects, delivery, now_secs);
        };
        // Quirks are known in this protocol only; everything else is converted to it.
        let mut translation = Translation::of(call, &self.provider, &[Dialect::Chat], delivery, now_secs)?;
        translation.body = quirks::request(quirks, std::mem::take(&mut translation.body));
        Ok(translation)
    }

    fn limit_of(&self, call: &Call<'_>) -> Duration {
        call.timeout.min(Duration::from_millis(self.timeouts.total_ms))
    }

    async fn post(
        &self,
        call: &Call<'_>,
        account: &Account,
        translation: &mut Translation,
        delivery: Delivery,
    ) -> Result<Response, ProviderFailure> {
        let dialect = translation.upstream;
        let server = self.servers.pick();
        let mut headers = headers_of(call, account, dialect);
        headers.insert(ACCEPT, HeaderValue::from_static(delivery.media_type()));
        let body = std::mem::take(&mut translation.body);
        let sent = self.clients.get().post(server.chat_url(dialect)).headers(headers).body(body).send().await;
        server.note(sent.as_ref().err());
        sent.map_err(|error| before_first_byte(error, account))
    }
}

fn now_secs() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn headers_of(call: &Call<'_>, account: &Account, dialect: Dialect) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // An id of ours is always a legal header value; one that is not is left out rather than failing the call.
    if let Ok(attempt) = HeaderValue::from_str(call.attempt.as_str()) {
        headers.insert(ATTEMPT_HEADER, attempt);
    }
    if dialect == call.dialect {
        forward(call.forwarded, &mut headers);
    }
    account.authenticate(&mut headers, dialect);
    headers
}

fn before_first_byte(error: reqwest::Error, account: &Account) -> ProviderFailure {
    let place = if error.is_connect() { "could not connect" } else { "the connection broke before the answer" };
    transport_failure(ErrorClass::Transport, place, &error.without_url(), account)
}

fn transport_failure(class: ErrorClass, place: &str, error: &dyn Error, account: &Account) -> ProviderFailure {
    ProviderFailure::of(class, redact(&format!("{place}: {}", root_cause(error)), account.secret(), CAUSE_BYTES))
}

async fn whole_body(mut response: Response, limit_bytes: usize, account: &Account) -> Result<Vec<u8>, ProviderFailure> {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok());
    if announced.is_some_and(|length| length > limit_bytes) {
        return Err(too_large(limit_bytes));
    }
    let mut body = Vec::with_capacity(announced.unwrap_or(0));
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > limit_bytes => return Err(too_large(limit_bytes)),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => {
                let place = "the answer broke off";
                return Err(transport_failure(ErrorClass::StreamBroken, place, &error.without_url(), account));
            }
        }
    }
}

async fn failure_of(mut response: Response, account: &Account) -> ProviderFailure {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut body = Vec::new();
    // Whatever stops the reading, the status and the part that came are classified.
    let _ = timeout(ERROR_BODY_WAIT, read_up_to(&mut response, &mut body)).await;
    classify(&ErrorEvidence {
        status,
        retry_after_ms: header("retry-after-ms"),
        retry_after: header(RETRY_AFTER.as_str()),
        should_retry: header("x-should-retry"),
        headers: Some(&headers),
        body: &body,
        now: SystemTime::now(),
        credential: account.secret(),
    })
}

async fn read_up_to(response: &mut Response, body: &mut Vec<u8>) {
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = ERROR_BODY_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            return;
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    Bytes::copy_from_slice(content_type).to_ascii_lowercase().starts_with(b"application/json")
}

fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn too_late(limit: Duration) -> ProviderFailure {
    let message = format!("the call did not end within {} ms", limit.as_millis());
    ProviderFailure::of(ErrorClass::StepDeadline, message)
}

fn too_large(limit_bytes: usize) -> ProviderFailure {
    ProviderFailure::of(ErrorClass::ResultTooLarge, format!("the answer is larger than {limit_bytes} bytes"))
}
