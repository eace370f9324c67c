//! The body of a call: its prompt with every stored part loaded, rendered.

use bytes::Bytes;
use tokenhub_domain::{Derived, Prompt, PromptError, Repair, Segment, Text, render};

use super::{Sending, attempt::patiently};
use crate::{ActivityFault, presence::Presence};

/// The request body that is to be sent.
pub(super) async fn body<P: Presence>(sending: &Sending<'_, P>) -> Result<Bytes, ActivityFault> {
    let loaded = match &sending.request.prompt {
        Prompt::Repair(repair) => {
            let question = question(sending, &repair.question).await?;
            let answer = load(sending, &repair.answer).await?;
            Prompt::Repair(Box::new(Repair { question, answer, complaint: repair.complaint.clone() }))
        }
        asked @ (Prompt::Original(_) | Prompt::Derived(_)) => question(sending, asked).await?,
    };
    Ok(render(&loaded, sending.request.dialect)?.into())
}

async fn question<P: Presence>(sending: &Sending<'_, P>, prompt: &Prompt) -> Result<Prompt, ActivityFault> {
    Ok(match prompt {
        Prompt::Original(original) => Prompt::Original(load(sending, original).await?),
        Prompt::Derived(derived) => {
            let mut parts = Vec::with_capacity(derived.parts.len());
            for part in &derived.parts {
                parts.push(match part {
                    Segment::Answer(answer) => Segment::Answer(load(sending, answer).await?),
                    Segment::Literal(_) | Segment::OriginalRequest => part.clone(),
                });
            }
            Prompt::Derived(Derived { original: load(sending, &derived.original).await?, parts, ..derived.clone() })
        }
        // No program has a repair repaired.
        Prompt::Repair(_) => return Err(PromptError::PartNotLoaded.into()),
    })
}

/// A text that may be stored, inline.
pub(super) async fn load<P: Presence>(sending: &Sending<'_, P>, text: &Text) -> Result<Text, ActivityFault> {
    match text {
        Text::Inline(_) => Ok(text.clone()),
        Text::Stored(_) => {
            let contents = sending.world.store.contents();
            Ok(Text::Inline(patiently(|| contents.load(&sending.run.tenant, text)).await?))
        }
    }
}
