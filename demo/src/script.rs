//! The script that a provider plays and the list of the calls that it saw.
//!
//! Shared by the server and by whoever writes the script; a rule takes effect for the next request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::HeaderMap;
use memchr::memmem;

use crate::access::{Demands, Validation};
use crate::background::Background;
use crate::calls::{CallLog, SeenCall};
use crate::dialect::Route;
use crate::fast::FastBodies;
use crate::reply::{Content, ErrorBody, Reply};
use crate::request::{Request, credential_in};
use crate::rule::Rule;
use crate::validation::objection;

/// A script; clones are the same script.
#[derive(Clone, Debug, Default)]
pub struct Script {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    rules: Mutex<Vec<ActiveRule>>,
    models: Mutex<Vec<String>>,
    demands: Mutex<Demands>,
    calls: CallLog,
    lookups: CallLog,
    background: Background,
}

#[derive(Debug)]
struct ActiveRule {
    model: Option<String>,
    route: Option<Route>,
    credential: Option<String>,
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

impl Prepared {
    fn new(reply: Reply, model: Option<&str>) -> Self {
        let fast = match &reply.content {
            Content::Fast(text) => Some(FastBodies::new(text, model.unwrap_or("fast"), &reply)),
            Content::Echo
            | Content::Text(_)
            | Content::Big(_)
            | Content::Parts(_)
            | Content::Message(_)
            | Content::Error(_)
            | Content::Json(_)
            | Content::Raw { .. }
            | Content::Events(_)
            | Content::ByDialect(_)
            | Content::JudgeBy(_)
            | Content::DemoModel => None,
        };
        Self { reply, fast }
    }
}

impl Script {
    /// Adds a rule before the ones there are.
    pub fn add(&self, rule: Rule) {
        let replies = rule.replies.into_iter().map(|reply| Arc::new(Prepared::new(reply, rule.model.as_deref())));
        let active = ActiveRule {
            replies: replies.collect(),
            model: rule.model,
            route: rule.route,
            credential: rule.credential,
            contains: rule.contains,
            used: 0,
        };
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

    /// Demands this of every request from now on.
    pub fn demand(&self, demands: Demands) {
        *lock(&self.inner.demands) = demands;
    }

    /// Every call since the last reset, in order of arrival; fast ones are not among them.
    pub fn calls(&self) -> Vec<SeenCall> {
        self.inner.calls.seen()
    }

    /// Every request since the last reset that asked for models, or for a path that there is not.
    pub fn lookups(&self) -> Vec<SeenCall> {
        self.inner.lookups.seen()
    }

    /// Every look at a response in the background, and every withdrawal of one, since the last reset.
    pub fn looks(&self) -> Vec<SeenCall> {
        self.inner.background.looks()
    }

    /// Forgets every response in the background.
    pub fn forget_responses(&self) {
        self.inner.background.forget();
    }

    /// Ends every response that is worked on in the background, however long it was to take.
    pub fn end_responses(&self) {
        self.inner.background.end_all();
    }

    /// Cuts the connection of so many looks from now on.
    pub fn cut_looks(&self, count: u32) {
        self.inner.background.cut_looks(count);
    }

    /// How many calls there were since the last reset, fast ones included.
    pub fn count(&self) -> u64 {
        self.inner.calls.count()
    }

    /// Forgets the calls and starts every rule from its first reply again.
    pub fn reset_counts(&self) {
        self.inner.calls.reset();
        self.inner.lookups.reset();
        self.inner.background.reset();
        for rule in lock(&self.inner.rules).iter_mut() {
            rule.used = 0;
        }
    }

    /// What goes on in the background.
    pub(crate) fn background(&self) -> &Background {
        &self.inner.background
    }

    pub(crate) fn log(&self) -> &CallLog {
        &self.inner.calls
    }

    /// Where lookups are listed.
    pub(crate) fn lookup_log(&self) -> &CallLog {
        &self.inner.lookups
    }

    /// The reason why a request with these headers gets 401.
    pub(crate) fn turned_away(&self, headers: &HeaderMap) -> Option<ErrorBody> {
        lock(&self.inner.demands).turned_away(headers)
    }

    /// The reason why `request` gets 400.
    pub(crate) fn objection(&self, request: &Request) -> Option<ErrorBody> {
        let validation = lock(&self.inner.demands).validation;
        match validation {
            Validation::Lenient => None,
            Validation::Strict => objection(request),
        }
    }

    /// The reply whose turn it is.
    pub(crate) fn choose(&self, request: &Request) -> Arc<Prepared> {
        let mut rules = lock(&self.inner.rules);
        let Some(rule) = rules.iter_mut().find(|rule| rule.matches(request)) else { return Arc::default() };
        let turn = rule.used.min(rule.replies.len().saturating_sub(1));
        rule.used += 1;
        rule.replies.get(turn).cloned().unwrap_or_default()
    }
}

impl ActiveRule {
    fn matches(&self, request: &Request) -> bool {
        self.route.map_or(request.route.generates(), |route| route == request.route)
            && self.model.as_ref().is_none_or(|model| *model == request.model)
            && self.credential.as_deref().is_none_or(|held| credential_in(&request.head.headers) == Some(held))
            && self.contains.as_ref().is_none_or(|text| contains(request, text))
    }
}

/// In the body as it came, or in the text of a message, where quotes and line ends are not escaped.
fn contains(request: &Request, text: &str) -> bool {
    memmem::find(&request.raw, text.as_bytes()).is_some()
        || request.messages().iter().any(|message| message.text.contains(text))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is complete in itself, so a panic elsewhere leaves nothing half-written.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reply::{Finish, Noise, Omission, Part, TokenDetails};
    use crate::request::tests::request;

    fn chosen_on(route: Route, script: &Script, model: &str, text: &str) -> Content {
        let body = json!({"model": model, "messages": [{"role": "user", "content": text}]});
        script.choose(&request(route, &body)).reply.content.clone()
    }

    fn chosen(script: &Script, model: &str, text: &str) -> Content {
        chosen_on(Route::ChatCompletions, script, model, text)
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
    fn a_rule_without_a_route_is_for_answers_only() {
        let script = Script::default();
        script.add(Rule::any([Reply::text("a"), Reply::text("b")]));
        assert_eq!(chosen_on(Route::CountTokens, &script, "m", "x"), Content::Echo);
        assert_eq!(chosen_on(Route::Messages, &script, "m", "x"), text("a"));
        script.add(Rule::any([Reply::text("c")]).on(Route::Embeddings));
        assert_eq!(chosen_on(Route::Embeddings, &script, "m", "x"), text("c"));
        assert_eq!(chosen(&script, "m", "x"), text("b"));
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
                Reply::parts([Part::reasoning("r", Some("s")), Part::tool_call("c", "f", ["{", "}"])])
                    .finish(Finish::StopSequence("x".to_owned()))
                    .token_details(TokenDetails { cached_tokens: 1, ..TokenDetails::default() })
                    .first(Noise::KeepAlive)
                    .after_tokens(2, Noise::error("overloaded_error", "m"))
                    .without(Omission::Terminal)
                    .keep_alive_after_tokens(1)
                    .interleaved(),
            ],
        )
        .on(Route::Responses)
        .credential("k")
        .containing("x");
        let text = serde_json::to_string(&rule).unwrap();
        assert_eq!(serde_json::from_str::<Rule>(&text).unwrap(), rule);
        let short: Rule = serde_json::from_str(r#"{"replies":[{"content":{"text":"hi"}},{"ending":"hang"}]}"#).unwrap();
        assert_eq!(short, Rule::any([Reply::text("hi"), Reply::hang()]));
        assert!(serde_json::from_str::<Rule>(r#"{"repies":[]}"#).is_err());
    }
}
