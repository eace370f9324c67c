//! Responses in the background: begun by one call, looked at by others until they have ended, and withdrawn.
//!
//! Owns what is HTTP about it. A look that could not be taken is an error and says nothing about the response; how often
//! somebody looks, and for how long, is the caller's business.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{ACCEPT, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokenhub_domain::{Dialect, ErrorClass, ProviderFailure, ProviderResponseId, RawFields, limits};
use tokio::time::timeout;

use super::translation::Translation;
use super::{Account, Endpoint, before_first_byte, failure_of, headers_of, now_secs, too_late, whole_body};
use crate::call::{Begun, Call, Completion, Sight};
use crate::wire::{Delivery, in_background, in_foreground};

/// How long one look may take: an answer may be large.
const LOOK_WAIT: Duration = Duration::from_secs(30);
/// How long a withdrawal may take; nobody waits for more than its leaving.
const WITHDRAW_WAIT: Duration = Duration::from_secs(5);
/// A background response is kept by the provider for a while, and whoever says no to that is answered without.
const STORE: &str = "store";

impl Endpoint {
    /// Whether `call` can be made in the background: the operator wants it, the caller does not forbid that the answer is
    /// stored at the provider, and the request can be said in the protocol that it takes.
    pub(crate) fn takes_in_background(&self, call: &Call<'_>) -> bool {
        // Few providers work so, and a body may be large.
        if !self.background {
            return false;
        }
        let body = std::str::from_utf8(&call.body).unwrap_or_default();
        let forbids = RawFields::read(body).is_ok_and(|fields| fields.get(STORE) == Some("false"));
        !forbids && self.translate_background(call).is_ok()
    }

    /// Begins a response in the background.
    pub(crate) async fn begin(&self, call: &Call<'_>) -> Result<Begun, ProviderFailure> {
        let limit = self.limit_of(call);
        let translation = self.translate_background(call)?;
        let exchange = async {
            let account = self.accounts.get(call.credential)?;
            let server = self.servers.pick();
            let body = in_background(&translation.body).map_err(|_| unreadable())?;
            let request = self.clients.get().post(server.chat_url(Dialect::Responses)).body(body);
            let sent = asking(call, account, request).send().await;
            server.note(sent.as_ref().err());
            let response = sent.map_err(|error| before_first_byte(error, account))?;
            let response = successful(response, account).await?;
            let body = whole_body(response, limits::PROVIDER_ANSWER_BYTES, account).await?;
            let id = ResponseHead::read(&body).map(|head| head.id).unwrap_or_default();
            let sight = sight_of(call, body, account, || Ok(translation))?;
            match (&sight, id.is_empty()) {
                (Sight::Working, true) => Err(unreadable()),
                (Sight::Working | Sight::Answered(_) | Sight::Failed(_) | Sight::Forgotten, _) => {
                    Ok(Begun { response: id, sight })
                }
            }
        };
        timeout(limit, exchange).await.unwrap_or_else(|_| Err(too_late(limit)))
    }

    /// Looks how far a response is. `call` is the one that began it.
    pub(crate) async fn look(&self, call: &Call<'_>, response: &ProviderResponseId) -> Result<Sight, ProviderFailure> {
        let exchange = async {
            let account = self.accounts.get(call.credential)?;
            let server = self.servers.pick();
            let sent = asking(call, account, self.clients.get().get(server.response_url(response))).send().await;
            server.note(sent.as_ref().err());
            let found = sent.map_err(|error| before_first_byte(error, account))?;
            if found.status() == StatusCode::NOT_FOUND {
                return Ok(Sight::Forgotten);
            }
            let found = successful(found, account).await?;
            let body = whole_body(found, limits::PROVIDER_ANSWER_BYTES, account).await?;
            sight_of(call, body, account, || self.translate_background(call))
        };
        timeout(LOOK_WAIT, exchange).await.unwrap_or_else(|_| Err(too_late(LOOK_WAIT)))
    }

    /// Tells the provider that nobody wants a response any more.
    pub(crate) async fn withdraw(&self, call: &Call<'_>, response: &ProviderResponseId) -> Result<(), ProviderFailure> {
        let exchange = async {
            let account = self.accounts.get(call.credential)?;
            let url = self.servers.pick().withdrawal_url(response);
            let sent = asking(call, account, self.clients.get().post(url)).send().await;
            successful(sent.map_err(|error| before_first_byte(error, account))?, account).await.map(|_| ())
        };
        timeout(WITHDRAW_WAIT, exchange).await.unwrap_or_else(|_| Err(too_late(WITHDRAW_WAIT)))
    }

    /// The only protocol that knows the background, whatever else the provider speaks.
    fn translate_background(&self, call: &Call<'_>) -> Result<Translation, ProviderFailure> {
        Translation::of(call, &self.provider, &[Dialect::Responses], Delivery::Whole, now_secs())
    }
}

fn asking(call: &Call<'_>, account: &Account, request: RequestBuilder) -> RequestBuilder {
    let mut headers = headers_of(call, account, Dialect::Responses);
    headers.insert(ACCEPT, HeaderValue::from_static(Delivery::Whole.media_type()));
    request.headers(headers)
}

/// What is read of any response.
struct ResponseHead {
    id: ProviderResponseId,
    status: String,
}

impl ResponseHead {
    fn read(body: &[u8]) -> Result<Self, ProviderFailure> {
        let response: Value = serde_json::from_slice(body).map_err(|_| unreadable())?;
        let text = |field: &str| response.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Self { id: ProviderResponseId::new(text("id")), status: text("status") })
    }
}

/// What a response says of itself.
fn sight_of(
    call: &Call<'_>,
    body: Vec<u8>,
    account: &Account,
    translation: impl FnOnce() -> Result<Translation, ProviderFailure>,
) -> Result<Sight, ProviderFailure> {
    let head = ResponseHead::read(&body)?;
    Ok(match head.status.as_str() {
        "queued" | "in_progress" => Sight::Working,
        "cancelled" => Sight::Failed(ended("the response was cancelled at the provider")),
        status => match translation()?.answer(body, account.secret()) {
            Ok(_) if status == "failed" => Sight::Failed(ended("the response failed, and no reason is given")),
            Ok(completion) => Sight::Answered(Box::new(as_whole(call.dialect, completion))),
            Err(failure) => Sight::Failed(failure),
        },
    })
}

/// The answer as it would have come to a caller who waited: that it was made in the background is no business of theirs.
fn as_whole(dialect: Dialect, completion: Completion) -> Completion {
    match dialect {
        Dialect::Responses => match in_foreground(&completion.raw).map(Cow::into_owned) {
            Ok(raw) => Completion { raw, ..completion },
            Err(_) => completion,
        },
        Dialect::Chat | Dialect::Messages => completion,
    }
}

async fn successful(response: Response, account: &Account) -> Result<Response, ProviderFailure> {
    if response.status().is_success() { Ok(response) } else { Err(failure_of(response, account).await) }
}

fn ended(reason: &str) -> ProviderFailure {
    ProviderFailure::of(ErrorClass::ServerError, reason)
}

fn unreadable() -> ProviderFailure {
    ProviderFailure::of(ErrorClass::ServerError, "the provider's answer is no response in the background")
}
