//! Which requests a reply is for.
//!
//! Plain data that also travels as JSON, like the replies.

use serde::{Deserialize, Serialize};

use crate::dialect::Route;
use crate::reply::Reply;

/// Replies for the requests that match. The rule added last wins; its replies are used in order, the last one for ever.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Only requests for this model.
    pub model: Option<String>,
    /// Only requests on this route; without one, every request for an answer, and none for a list, a count or a vector.
    pub route: Option<Route>,
    /// Only requests with this credential, whichever header it is in.
    pub credential: Option<String>,
    /// Only requests whose body, or the text of whose messages, contains this.
    pub contains: Option<String>,
    /// In order of use.
    pub replies: Vec<Reply>,
}

impl Rule {
    /// A rule for every request.
    pub fn any(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self { replies: replies.into_iter().collect(), ..Self::default() }
    }

    /// A rule for one model.
    pub fn model(model: impl Into<String>, replies: impl IntoIterator<Item = Reply>) -> Self {
        Self { model: Some(model.into()), ..Self::any(replies) }
    }

    /// Narrows the rule to requests that contain `text`.
    #[must_use]
    pub fn containing(mut self, text: impl Into<String>) -> Self {
        self.contains = Some(text.into());
        self
    }

    /// Narrows the rule to requests on `route`.
    #[must_use]
    pub fn on(mut self, route: Route) -> Self {
        self.route = Some(route);
        self
    }

    /// Narrows the rule to requests with this credential.
    #[must_use]
    pub fn credential(mut self, credential: impl Into<String>) -> Self {
        self.credential = Some(credential.into());
        self
    }
}
