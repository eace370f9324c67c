//! An answer brought into the form that is wished for, and checked against its schema.
//!
//! A part of the step that bought the answer: the verdict is journaled with it, so a replay never checks again, and a later
//! version that judges otherwise changes no run that is still open.

use std::time::Duration;

use tokenhub_domain::{Mismatch, Operation, ReplyForm, SendRequest, Text};
use tokenhub_formats::{Schema, Shaped, shape_body, shape_text};
use tokenhub_providers::Completion;

use super::{Sending, attempt::insistently, body::load};
use crate::{ActivityFault, presence::Presence};

/// A check takes a millisecond. What takes this long is a schema that refers to itself in too many ways.
const CHECK_LIMIT: Duration = Duration::from_secs(5);

/// The content of `completion` in the form that the request wants, and how it falls short of its schema.
pub(super) async fn content_of<P: Presence>(
    sending: &Sending<'_, P>,
    completion: &mut Completion,
) -> Result<(String, Option<Mismatch>), ActivityFault> {
    let request = sending.request;
    let content = match request.form {
        ReplyForm::Body => std::mem::take(&mut completion.raw),
        ReplyForm::Text => std::mem::take(&mut completion.text),
    };
    if request.output.is_empty() || request.operation != Operation::Chat {
        return Ok((content, None));
    }
    let schema = match &request.output.schema {
        // A refusal is nothing that could match.
        Some(schema) if completion.refusal.is_none() => read(&load(sending, schema).await?),
        Some(_) | None => None,
    };
    let shaped = match schema {
        None => shape(request, content, None),
        Some(schema) => checked(request, content, schema).await,
    };
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
async fn checked(request: &SendRequest, content: String, schema: Schema) -> Shaped {
    let (asked, text) = (request.clone(), content.clone());
    let check = tokio::task::spawn_blocking(move || shape(&asked, text, Some(&schema)));
    if let Ok(Ok(shaped)) = tokio::time::timeout(CHECK_LIMIT, check).await {
        return shaped;
    }
    tracing::error!(step = %request.step, "an answer could not be checked against its schema in time");
    let violations = vec!["the answer could not be checked against the schema in time".to_owned()];
    Shaped { mismatch: Some((content.clone(), violations)), content }
}

/// The door refuses what is no schema, so this is one unless another version let it in; then nothing is checked.
fn read(schema: &Text) -> Option<Schema> {
    let read = Schema::parse(schema.as_inline()?);
    read.inspect_err(|error| tracing::error!(%error, "an answer is not checked against its schema")).ok()
}
