//! Rate limits and the headers in which each dialect tells of them.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::dialect::Dialect;

/// What is left of the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimits {
    /// Of requests.
    pub requests: Allowance,
    /// Of tokens.
    pub tokens: Allowance,
}

/// One limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Allowance {
    /// How many there are in a period.
    pub limit: u64,
    /// How many are left.
    pub remaining: u64,
    /// When they are all there again, in milliseconds from now.
    pub reset_ms: u64,
}

impl RateLimits {
    /// Adds the headers of `dialect`.
    pub(crate) fn write(&self, dialect: Dialect, headers: &mut HeaderMap) {
        let mut set = |name: String, value: String| {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        };
        for (kind, allowance) in [("requests", self.requests), ("tokens", self.tokens)] {
            match dialect {
                Dialect::Chat | Dialect::Responses => {
                    set(format!("x-ratelimit-limit-{kind}"), allowance.limit.to_string());
                    set(format!("x-ratelimit-remaining-{kind}"), allowance.remaining.to_string());
                    set(format!("x-ratelimit-reset-{kind}"), duration(allowance.reset_ms));
                }
                Dialect::Messages => {
                    set(format!("anthropic-ratelimit-{kind}-limit"), allowance.limit.to_string());
                    set(format!("anthropic-ratelimit-{kind}-remaining"), allowance.remaining.to_string());
                    set(format!("anthropic-ratelimit-{kind}-reset"), moment(allowance.reset_ms));
                }
            }
        }
    }
}

/// As in `12ms`, `1s`, `6m0s`.
fn duration(duration_ms: u64) -> String {
    if duration_ms < 1_000 {
        return format!("{duration_ms}ms");
    }
    let (minutes, seconds, millis) = (duration_ms / 60_000, duration_ms / 1_000 % 60, duration_ms % 1_000);
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = match minutes {
        0 => Ok(()),
        minutes => write!(text, "{minutes}m"),
    };
    let _ = match millis {
        0 => write!(text, "{seconds}s"),
        millis => write!(text, "{seconds}.{millis:03}s"),
    };
    text
}

fn moment(from_now_ms: u64) -> String {
    let at: DateTime<Utc> = (SystemTime::now() + Duration::from_millis(from_now_ms)).into();
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_a_duration_in_one_dialect_and_a_moment_in_the_other() {
        assert_eq!([12, 1_000, 1_500, 360_000].map(duration), ["12ms", "1s", "1.500s", "6m0s"]);
        let mut headers = HeaderMap::new();
        let limits =
            RateLimits { requests: Allowance { limit: 5, remaining: 4, reset_ms: 0 }, ..RateLimits::default() };
        limits.write(Dialect::Messages, &mut headers);
        assert_eq!(headers["anthropic-ratelimit-requests-remaining"], "4");
        let reset = headers["anthropic-ratelimit-requests-reset"].to_str().unwrap();
        assert!(reset.ends_with('Z') && DateTime::parse_from_rfc3339(reset).is_ok());
    }
}
