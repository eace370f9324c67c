//! A whole answer that is read as a stream, so that its text can be shown while it is written.
//!
//! The reader of streams sees to clocks, errors in place of events and broken ends, and what it hands on is put together to
//! the body of a whole answer, which is read like any other. So it comes to the same, whichever way was taken.

use futures_util::StreamExt;
use tokenhub_domain::{Dialect, ErrorClass, ProviderFailure, RawFields};

use super::{Endpoint, Opened};
use crate::answer::{Assembled, read_completion};
use crate::call::{Call, Completion, Reported, Streaming};

impl Endpoint {
    pub(crate) async fn complete_streamed(
        &self,
        call: Call<'_>,
        on_text: &mut (dyn FnMut(&str) + Send),
        reported: &mut Option<Reported>,
    ) -> Result<Completion, ProviderFailure> {
        match call.dialect {
            Dialect::Chat => {}
            Dialect::Responses | Dialect::Messages => return self.complete(call).await,
        }
        if asks_for_sound(&call.body) {
            let completion = self.complete(call).await?;
            on_text(&completion.text);
            return Ok(completion);
        }
        let secret = self.accounts.get(call.credential)?.secret();
        let (Streaming { losses, mut events }, upstream) = match self.open(call).await? {
            Opened::Stream(streaming, upstream) => (streaming, upstream),
            // Paid for, and all that was wished for but for the waiting.
            Opened::Whole(completion) => {
                on_text(&completion.text);
                return Ok(*completion);
            }
        };
        let mut answer = Assembled::default();
        let mut finish_reason = None;
        while let Some(event) = events.next().await {
            let event = event?;
            if let Some(usage) = event.usage {
                *reported = Some(Reported { usage, usage_json: event.usage_json });
            }
            finish_reason = event.finish_reason.or(finish_reason);
            answer.add(&event.raw, on_text).map_err(|error| broken(&error.to_string()))?;
        }
        // An end mark alone may come from whoever stands between us and a provider that broke off.
        if finish_reason.is_none() || !answer.has_ended() {
            return Err(broken("the stream ended without a finish reason"));
        }
        let body = answer.finish(on_text);
        let completion = read_completion(Dialect::Chat, body.to_string().into_bytes(), secret)?;
        // Bill and reason are in the provider's own words, whatever its protocol.
        let counted = Reported { usage: completion.usage, usage_json: completion.usage_json };
        let Reported { usage, usage_json } = reported.take().unwrap_or(counted);
        let finish_reason = match upstream {
            Dialect::Chat => completion.finish_reason,
            Dialect::Responses | Dialect::Messages => finish_reason,
        };
        Ok(Completion { usage, usage_json, finish_reason, losses, ..completion })
    }
}

/// Sound has other formats in a stream than in a whole answer (`audio.format` of the Chat Completions reference), so a
/// request for it is sent as it was meant.
fn asks_for_sound(body: &[u8]) -> bool {
    let body = std::str::from_utf8(body).unwrap_or_default();
    RawFields::read(body).is_ok_and(|fields| fields.get("audio").is_some_and(|audio| audio != "null"))
}

fn broken(message: &str) -> ProviderFailure {
    ProviderFailure::of(ErrorClass::StreamBroken, message)
}
