//! The script that a provider plays and the list of the calls that it saw.
//!
//! Shared by the server and by whoever writes the script; a rule takes effect for the next request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use memchr::memmem;
use serde_json::json;

use crate::calls::{CallLog, SeenCall};
use crate::reply::{Content, Reply, Rule};
use crate::wire::{ChatRequest, Delivery, Speech, tokens_in, usage};

/// A script; clones are the same script.
#[derive(Clone, Debug, Default)]
pub struct Script {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    rules: Mutex<Vec<ActiveRule>>,
    models: Mutex<Vec<String>>,
    calls: CallLog,
}

#[derive(Debug)]
struct ActiveRule {
    model: Option<String>,
    contains: Option<String>,
    replies: Vec<Arc<Prepared>>,
    used: usize,
}

/// A reply, and its bytes when they are always the same.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) reply: Reply,
    pub(crate) fast: Option<FastBodies>,
}

/// The bytes of a fast reply in each form.
#[derive(Debug)]
pub(crate) struct FastBodies {
    whole: Bytes,
    streamed: Bytes,
    streamed_with_usage: Bytes,
}

impl FastBodies {
    pub(crate) fn for_delivery(&self, delivery: Delivery) -> Bytes {
        match delivery {
            Delivery::Whole => self.whole.clone(),
            Delivery::Streamed => self.streamed.clone(),
            Delivery::StreamedWithUsage => self.streamed_with_usage.clone(),
        }
    }
}

impl Prepared {
    fn new(reply: Reply, model: Option<&str>) -> Self {
        let fast = match &reply.content {
            Content::Fast(text) => Some(fast_bodies(text, model.unwrap_or("fast"), &reply)),
            Content::Echo
            | Content::Text(_)
            | Content::Big(_)
            | Content::Message(_)
            | Content::Json(_)
            | Content::Raw { .. }
            | Content::Events(_)
            | Content::JudgeBy(_) => None,
        };
        Self { reply, fast }
    }
}

fn fast_bodies(text: &str, model: &str, reply: &Reply) -> FastBodies {
    /// Prompt tokens of a call whose prompt is not read.
    const PROMPT_TOKENS: u64 = 8;
    let (prompt_tokens, completion_tokens) = reply.usage.unwrap_or((PROMPT_TOKENS, tokens_in(text)));
    let message = json!({ "content": text });
    let finish_reason = reply.finish_reason.as_deref().unwrap_or("stop");
    let usage = usage(prompt_tokens, completion_tokens);
    let speech = Speech { id: "chatcmpl-fast", model, message: &message, finish_reason, usage };
    FastBodies {
        whole: speech.whole(),
        streamed: Bytes::from(speech.events(Delivery::Streamed).concat()),
        streamed_with_usage: Bytes::from(speech.events(Delivery::StreamedWithUsage).concat()),
    }
}

impl Script {
    /// Adds a rule before the ones there are.
    pub fn add(&self, rule: Rule) {
        let replies = rule.replies.into_iter().map(|reply| Arc::new(Prepared::new(reply, rule.model.as_deref())));
        let active = ActiveRule { replies: replies.collect(), model: rule.model, contains: rule.contains, used: 0 };
        lock(&self.inner.rules).insert(0, active);
    }

    /// Forgets every rule.
    pub fn clear(&self) {
        lock(&self.inner.rules).clear();
    }

    /// Sets the models that are listed; requests for others are answered all the same.
    pub fn set_models<T: Into<String>>(&self, models: impl IntoIterator<Item = T>) {
        *lock(&self.inner.models) = models.into_iter().map(Into::into).collect();
    }

    /// The models that are listed.
    pub fn models(&self) -> Vec<String> {
        lock(&self.inner.models).clone()
    }

    /// Every call since the last reset, in order of arrival; fast ones are not among them.
    pub fn calls(&self) -> Vec<SeenCall> {
        self.inner.calls.seen()
    }

    /// How many calls there were since the last reset, fast ones included.
    pub fn count(&self) -> u64 {
        self.inner.calls.count()
    }

    /// Forgets the calls and starts every rule from its first reply again.
    pub fn reset_counts(&self) {
        self.inner.calls.reset();
        for rule in lock(&self.inner.rules).iter_mut() {
            rule.used = 0;
        }
    }

    pub(crate) fn log(&self) -> &CallLog {
        &self.inner.calls
    }

    /// The reply whose turn it is.
    pub(crate) fn choose(&self, request: &ChatRequest) -> Arc<Prepared> {
        let mut rules = lock(&self.inner.rules);
        let Some(rule) = rules.iter_mut().find(|rule| rule.matches(request)) else { return Arc::default() };
        let turn = rule.used.min(rule.replies.len().saturating_sub(1));
        rule.used += 1;
        rule.replies.get(turn).cloned().unwrap_or_default()
    }
}

impl ActiveRule {
    fn matches(&self, request: &ChatRequest) -> bool {
        self.model.as_ref().is_none_or(|model| *model == request.model)
            && self.contains.as_ref().is_none_or(|text| contains(request, text))
    }
}

/// In the body as it came, or in the text of a message, where quotes and line ends are not escaped.
fn contains(request: &ChatRequest, text: &str) -> bool {
    memmem::find(&request.raw, text.as_bytes()).is_some()
        || request.messages().iter().any(|message| message.text.contains(text))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is complete in itself, so a panic elsewhere leaves nothing half-written.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(model: &str, text: &str) -> ChatRequest {
        let body = json!({"model": model, "messages": [{"role": "user", "content": text}]});
        ChatRequest::read(Bytes::from(body.to_string())).unwrap()
    }

    fn chosen(script: &Script, model: &str, text: &str) -> Content {
        script.choose(&request(model, text)).reply.content.clone()
    }

    fn text(text: &str) -> Content {
        Content::Text(text.to_owned())
    }

    #[test]
    fn replies_come_in_order_and_the_last_one_repeats() {
        let script = Script::default();
        script.add(Rule::any([Reply::text("a"), Reply::text("b")]));
        let seen: Vec<Content> = (0..3).map(|_| chosen(&script, "m", "x")).collect();
        assert_eq!(seen, [text("a"), text("b"), text("b")]);
        script.reset_counts();
        assert_eq!(chosen(&script, "m", "x"), text("a"));
    }

    #[test]
    fn the_newest_matching_rule_wins_and_without_one_there_is_an_echo() {
        let script = Script::default();
        script.add(Rule::model("m", [Reply::text("model")]));
        script.add(Rule::any([Reply::text("quoted")]).containing("say \"hi\"\n{\"winner\":"));
        assert_eq!(chosen(&script, "m", "say \"hi\"\n{\"winner\": k}"), text("quoted"));
        assert_eq!(chosen(&script, "m", "else"), text("model"));
        assert_eq!(chosen(&script, "other", "else"), Content::Echo);
        script.clear();
        assert_eq!(chosen(&script, "m", "else"), Content::Echo);
    }

    #[test]
    fn a_script_survives_the_way_through_json() {
        let rule = Rule::model(
            "m",
            [
                Reply::error(429, "rate_limit_exceeded", "slow").header("retry-after", "1"),
                Reply::judge_by("best").delay_ms(5).cut_after_bytes(3),
                Reply::big(10).split_bytes(1).usage(1, 2).finish_reason("length"),
                Reply::hang(),
            ],
        )
        .containing("x");
        let text = serde_json::to_string(&rule).unwrap();
        assert_eq!(serde_json::from_str::<Rule>(&text).unwrap(), rule);
        let short: Rule = serde_json::from_str(r#"{"replies":[{"content":{"text":"hi"}},{"ending":"hang"}]}"#).unwrap();
        assert_eq!(short, Rule::any([Reply::text("hi"), Reply::hang()]));
        assert!(serde_json::from_str::<Rule>(r#"{"repies":[]}"#).is_err());
    }
}
