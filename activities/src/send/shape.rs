//! An answer brought into the form that is wished for, and checked against its schema and its pattern.
//!
//! A part of the step that bought the answer: the verdict is journaled with it, so a replay never checks again, and a later
//! version that judges otherwise changes no run that is still open.

use std::{sync::Arc, time::Duration};

use tokenhub_domain::{Mismatch, Operation, ReplyForm, SendRequest};
use tokenhub_formats::{Pattern, Schema, Shaped, shape_body, shape_text};
use tokenhub_providers::Completion;
use tokio::sync::Semaphore;

use super::{Sending, attempt::insistently, body::load};
use crate::{ActivityFault, presence::Presence};

/// A check takes a millisecond. What takes this long is a schema that refers to itself in too many ways.
const CHECK_LIMIT: Duration = Duration::from_secs(5);

/// A check cannot be stopped: so many of those that do not end may burn a processor, and no more.
const CHECKS_AT_ONCE: usize = 8;

static CHECKS: Semaphore = Semaphore::const_new(CHECKS_AT_ONCE);

/// What the answer is checked by.
pub(super) struct Measures {
    schema: Option<Arc<Schema>>,
    pattern: Option<Pattern>,
}

/// An answer in the form that was wished for, and what its measures say.
pub(super) struct Content {
    pub(super) text: String,
    pub(super) mismatch: Option<Mismatch>,
    pub(super) lacks_pattern: bool,
}

/// What the answer is to match. Read before the call, as [`schema_of`] says.
pub(super) async fn measures_of<P: Presence>(sending: &Sending<'_, P>) -> Result<Measures, ActivityFault> {
    let schema = schema_of(sending).await?;
    let pattern = sending.request.output.pattern.as_deref().and_then(|text| {
        // The door refuses what is none, as it does with schemas.
        let read = Pattern::parse(text);
        read.inspect_err(|error| tracing::error!(%error, "an answer is not checked by its pattern")).ok()
    });
    Ok(Measures { schema, pattern })
}

/// The schema that the answer is to match. Read before the call: nothing is paid yet, and whatever fails is tried again.
async fn schema_of<P: Presence>(sending: &Sending<'_, P>) -> Result<Option<Arc<Schema>>, ActivityFault> {
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
    mut measures: Measures,
) -> Result<Content, ActivityFault> {
    let request = sending.request;
    let content = match request.form {
        ReplyForm::Body => std::mem::take(&mut completion.raw),
        ReplyForm::Text => std::mem::take(&mut completion.text),
    };
    if request.output.is_empty() || request.operation != Operation::Chat {
        return Ok(Content { text: content, mismatch: None, lacks_pattern: false });
    }
    // A refusal is nothing that could match.
    measures.schema = measures.schema.filter(|_| completion.refusal.is_none());
    let (shaped, lacks_pattern) = shaped(request, content, measures).await;
    let Some((text, violations)) = shaped.mismatch else {
        return Ok(Content { text: shaped.content, mismatch: None, lacks_pattern });
    };
    let contents = sending.world.store.contents();
    let text = insistently(|| contents.inline_or_store(&sending.run.tenant, text.clone())).await?;
    let mismatch = Some(Mismatch { text, violations: violations.join("\n") });
    Ok(Content { text: shaped.content, mismatch, lacks_pattern })
}

fn shape(request: &SendRequest, content: String, schema: Option<&Schema>) -> Shaped {
    match request.form {
        ReplyForm::Body => shape_body(request.dialect, content, &request.output, schema),
        ReplyForm::Text => shape_text(&content, &request.output, schema),
    }
}

/// Beside the runtime, so that no check holds up the other calls of this process.
async fn shaped(request: &SendRequest, content: String, measures: Measures) -> (Shaped, bool) {
    let (asked, text, has_pattern) = (request.clone(), content.clone(), measures.pattern.is_some());
    let check = async {
        let permit = CHECKS.acquire().await.ok()?;
        let check = tokio::task::spawn_blocking(move || {
            let _until_it_ends = permit;
            let shaped = shape(&asked, text, measures.schema.as_deref());
            let lacks_pattern = measures.pattern.is_some_and(|pattern| !pattern.is_in(&shaped.content));
            (shaped, lacks_pattern)
        });
        check.await.ok()
    };
    if let Ok(Some(shaped)) = tokio::time::timeout(CHECK_LIMIT, check).await {
        return shaped;
    }
    tracing::error!(step = %request.step, "an answer could not be checked in time");
    let violations = vec!["the answer could not be checked against the schema in time".to_owned()];
    // Whoever asked for a pattern alone has no use for a repair.
    let mismatch = request.output.schema.is_some().then(|| (content.clone(), violations));
    (Shaped { mismatch, content }, has_pattern)
}
