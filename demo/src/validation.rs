//! Whether a real provider would take a request: the rules whose breach a gateway is to blame for.

use crate::reply::ErrorBody;
use crate::request::Request;

/// What a real provider would object to, if anything.
pub(crate) fn objection(_request: &Request) -> Option<ErrorBody> {
    None
}
