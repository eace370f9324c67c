//! An answer brought into the form that is wished for, and checked against its schema.
//!
//! A part of the step that bought the answer: the verdict is journaled with it, so a replay never checks again, and a later
//! version that judges otherwise changes no run that is still open.

use std::{sync::Arc, time::Duration};

use tokenhub_domain::{Mismatch, Operation, ReplyForm, SendRequest};
use tokenhub_formats::{Schema, Shaped, shape_body, shape_text};
use tokenhub_providers::Completion;
use tokio::sync::Semaphore;

use super::{Sending, attempt::insistently, body::load};
use crate::{ActivityFault, presence::Presence};

/// A check takes a millisecond. What takes this long is a schema that refers to itself in too many ways.
const CHECK_LIMIT: Duration = Duration::from_secs(5);

/// A check cannot be stopped: so many of those that do not end may burn a processor, and no more.
const CHECKS_AT_ONCE: usize = 8;

static CHECKS: Semaphore = Semaphore::const_new(CHECKS_AT_ONCE);

/// The schema that the answer is to match. Read before the call: nothing is paid yet, and whatever fails is tried again.
pub(super) async fn schema_of<P: Presence>(sending: &Sending<'_, P>) -> Result<Option<Arc<Schema>>, ActivityFault> {
    let request = sending.request;
    let (Some(schema), Operation::Chat) = (&request.output.schema, request.operation) else { return Ok(None) };
    let text = load(sending, schema).await?;
    let Some(text) = text.as_inline().map(str::to_owned) else { return Ok(None) };
    // The door refuses what is no schema, so this is one unless another version let it in; then nothing is checked.
    let read = tokio::task::spawn_blocking(move || Schema::parse(&text));
    Ok(match read.await {
        Ok(Ok(schema)) => Some(Arc::new(schema)),
        Ok(Err(error)) => {
            tracing::error!(%error, "an answer is not checked against its schema");
            None
        }
        Err(_) => None,
    })
}

/// The content of `completion` in the form that the request wants, and how it falls short of its schema.
pub(super) async fn content_of<P: Presence>(
    sending: &Sending<'_, P>,
    completion: &mut Completion,
    schema: Option<Arc<Schema>>,
) -> Result<(String, Option<Mismatch>), ActivityFault> {
    let request = sending.request;
    let content = match request.form {
        ReplyForm::Body => std::mem::take(&mut completion.raw),
        ReplyForm::Text => std::mem::take(&mut completion.text),
    };
    if request.output.is_empty() || request.operation != Operation::Chat {
        return Ok((content, None));
    }
    // A refusal is nothing that could match.
    let schema = schema.filter(|_| completion.refusal.is_none());
    let shaped = shaped(request, content, schema).await;
    let Some((text, violations)) = shaped.mismatch else { return Ok((shaped.content, None)) };
    let contents = sending.world.store.contents();
    let text = insistently(|| contents.inline_or_store(&sending.run.tenant, text.clone())).await?;
    Ok((shaped.content, Some(Mismatch { text, violations: violations.join("\n") })))
}

fn shape(request: &SendRequest, content: String, schema: Option<&Schema>) -> Shaped {
    match request.form {
        ReplyForm::Body => shape_body(request.dialect, content, &request.output, schema),
        ReplyForm::Text => shape_text(&content, &request.output, schema),
    }
}

/// Beside the runtime, so that no check holds up the other calls of this process.
async fn shaped(request: &SendRequest, content: String, schema: Option<Arc<Schema>>) -> Shaped {
    let (asked, text) = (request.clone(), content.clone());
    let check = async {
        let permit = CHECKS.acquire().await.ok()?;
        let check = tokio::task::spawn_blocking(move || {
            let _until_it_ends = permit;
            shape(&asked, text, schema.as_deref())
        });
        check.await.ok()
    };
    if let Ok(Some(shaped)) = tokio::time::timeout(CHECK_LIMIT, check).await {
        return shaped;
    }
    tracing::error!(step = %request.step, "an answer could not be checked against its schema in time");
    let violations = vec!["the answer could not be checked against the schema in time".to_owned()];
    Shaped { mismatch: Some((content.clone(), violations)), content }
}
