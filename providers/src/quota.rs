//! When a provider's limit ends, by the headers and the body of a 429.
//!
//! Pure. Tells a window that closes a whole account (five hours, a week) from the small limits that refill within minutes.
//! Reads only what says by itself that it is used up: the same headers come with every answer.

use std::time::{Duration, SystemTime};

use chrono::DateTime;
use http::HeaderMap;
use serde_json::Value;

/// Anthropic's windows of a subscription. Others exist for single models; they do not close the account.
const UNIFIED: &str = "anthropic-ratelimit-unified";
const UNIFIED_WINDOWS: [&str; 2] = ["5h", "7d"];
/// The windows of a Codex subscription.
const CODEX_WINDOWS: [&str; 2] = ["x-codex-primary", "x-codex-secondary"];
/// What is limited by the minute or the day: the header of what is left, and of when it is whole again.
const SMALL_LIMITS: [(&str, &str); 7] = [
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
];
/// Their headers tell when the limit is whole again; it holds the next request long before.
const SMALL_LIMIT_WAIT_MAX: Duration = Duration::from_secs(10);
/// A number at or above this is a moment, one below it a number of seconds.
const MOMENT_SECS_MIN: f64 = 1_000_000_000.0;
/// A moment at or above this is in milliseconds.
const MOMENT_MILLIS_MIN: f64 = 1_000_000_000_000.0;

/// What is used up, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UsedUp {
    /// Until the window of the account opens again.
    pub(crate) window: Option<Duration>,
    /// Until a small limit, or the window of a single model, is there again.
    pub(crate) limit: Option<Duration>,
}

/// Reads a 429.
pub(crate) fn used_up(headers: &HeaderMap, body: &[u8], now: SystemTime) -> UsedUp {
    let signs = Signs { headers, now };
    let window = [signs.unified(), signs.codex(), of_body(body, now)].into_iter().flatten().max();
    let limits = SMALL_LIMITS.iter().filter(|(left, _)| signs.number(left).is_some_and(|left| left <= 0.0));
    let limit = limits.filter_map(|(_, reset)| signs.until(reset)).max();
    UsedUp { window, limit: limit.map(|wait| wait.min(SMALL_LIMIT_WAIT_MAX)).max(signs.unified_of_model()) }
}

#[derive(Clone, Copy)]
struct Signs<'a> {
    headers: &'a HeaderMap,
    now: SystemTime,
}

impl Signs<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.text(name)?.parse().ok()
    }

    fn until(&self, name: &str) -> Option<Duration> {
        until(self.text(name)?, self.now)
    }

    fn is_rejected(&self, prefix: &str) -> bool {
        self.text(&format!("{prefix}-status")).is_some_and(|status| status == "rejected")
    }

    /// The longest of the closed windows. Where none is named, the one that decided.
    fn unified(&self) -> Option<Duration> {
        // A window may be more than full and the account open, where further use is paid for.
        if self.text(&format!("{UNIFIED}-status")).is_some_and(|status| status != "rejected") {
            return None;
        }
        let windows = UNIFIED_WINDOWS.map(|window| format!("{UNIFIED}-{window}"));
        let is_full = |prefix: &str| self.number(&format!("{prefix}-utilization")).is_some_and(|used| used >= 1.0);
        let closed = windows.iter().filter(|prefix| self.is_rejected(prefix) || is_full(prefix));
        let named = closed.filter_map(|prefix| self.until(&format!("{prefix}-reset"))).max();
        let decided = || {
            let claim = self.text(&format!("{UNIFIED}-representative-claim"));
            let is_of_account = claim.is_none_or(|claim| matches!(claim, "five_hour" | "seven_day"));
            let reset = self.until(&format!("{UNIFIED}-reset"));
            reset.filter(|_| self.is_rejected(UNIFIED) && is_of_account)
        };
        named.or_else(decided)
    }

    /// The account is open and one model's week is used up.
    fn unified_of_model(&self) -> Option<Duration> {
        let claim = self.text(&format!("{UNIFIED}-representative-claim"))?;
        let is_of_model = claim.starts_with("seven_day_") && self.is_rejected(UNIFIED);
        self.until(&format!("{UNIFIED}-reset")).filter(|_| is_of_model)
    }

    fn codex(&self) -> Option<Duration> {
        let is_full = |prefix: &&str| self.number(&format!("{prefix}-used-percent")).is_some_and(|used| used >= 100.0);
        let reset = |prefix: &str| {
            let names = [format!("{prefix}-reset-after-seconds"), format!("{prefix}-reset-at")];
            names.iter().find_map(|name| self.until(name))
        };
        CODEX_WINDOWS.iter().filter(|prefix| is_full(prefix)).filter_map(|prefix| reset(prefix)).max()
    }
}

/// `{"error": {"type": "usage_limit_reached", "resets_in_seconds": 3600}}`, or with `resets_at`.
fn of_body(body: &[u8], now: SystemTime) -> Option<Duration> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let error = body.get("error")?;
    if error.get("type").or(error.get("code"))?.as_str()? != "usage_limit_reached" {
        return None;
    }
    ["resets_in_seconds", "resets_at"].iter().find_map(|name| {
        let value = error.get(name)?;
        until(&value.as_str().map_or_else(|| value.to_string(), str::to_owned), now)
    })
}

/// A wait in any of its spellings: seconds, `6m0s`, a moment as a number or as RFC 3339. Nothing when it is over.
fn until(text: &str, now: SystemTime) -> Option<Duration> {
    let since_epoch = |moment: Duration| SystemTime::UNIX_EPOCH.checked_add(moment)?.duration_since(now).ok();
    let wait = if let Ok(number) = text.parse::<f64>() {
        if number >= MOMENT_MILLIS_MIN {
            since_epoch(Duration::try_from_secs_f64(number / 1_000.0).ok()?)?
        } else if number >= MOMENT_SECS_MIN {
            since_epoch(Duration::try_from_secs_f64(number).ok()?)?
        } else {
            Duration::try_from_secs_f64(number).ok()?
        }
    } else if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        SystemTime::from(moment).duration_since(now).ok()?
    } else {
        spelled_out(text)?
    };
    Some(wait).filter(|wait| !wait.is_zero())
}

/// `1h2m3.5s`, `12ms`.
fn spelled_out(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 5] = [("ms", 0.001), ("h", 3_600.0), ("m", 60.0), ("s", 1.0), ("d", 86_400.0)];
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, factor) = UNITS.iter().find(|(unit, _)| behind.starts_with(unit))?;
        seconds += number.parse::<f64>().ok()? * factor;
        rest = behind.strip_prefix(unit)?;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const NOW_SECS: u64 = 1_800_000_000;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW_SECS)
    }

    fn of(headers: &[(&'static str, &str)]) -> (Option<u64>, Option<u64>) {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        let used_up = used_up(&headers.iter().map(pair).collect(), b"", now());
        (used_up.window.map(|wait| wait.as_secs()), used_up.limit.map(|wait| wait.as_secs()))
    }

    #[test]
    fn the_closed_window_of_an_account_counts_and_the_longest_of_two() {
        let five_hours = (NOW_SECS + 7_200).to_string();
        let week = (NOW_SECS + 300_000).to_string();
        let resets = [
            ("anthropic-ratelimit-unified-5h-reset", five_hours.as_str()),
            ("anthropic-ratelimit-unified-7d-reset", week.as_str()),
        ];
        let with = |more: &[(&'static str, &str)]| of(&[&resets[..], more].concat());
        assert_eq!(with(&[]), (None, None), "both windows are open");
        assert_eq!(with(&[("anthropic-ratelimit-unified-5h-status", "rejected")]), (Some(7_200), None));
        assert_eq!(with(&[("anthropic-ratelimit-unified-7d-utilization", "1.0")]), (Some(300_000), None));
        let both = [
            ("anthropic-ratelimit-unified-5h-status", "rejected"),
            ("anthropic-ratelimit-unified-7d-status", "rejected"),
        ];
        assert_eq!(with(&both), (Some(300_000), None));
        let paid_for =
            [("anthropic-ratelimit-unified-7d-utilization", "1.02"), ("anthropic-ratelimit-unified-status", "allowed")];
        assert_eq!(with(&paid_for), (None, None));
        assert_eq!(with(&[("anthropic-ratelimit-unified-5h-status", "allowed_warning")]), (None, None));
    }

    #[test]
    fn a_rejection_without_a_named_window_is_the_accounts_unless_it_is_a_models() {
        let reset = (NOW_SECS + 60).to_string();
        let with = |claim: &str| {
            of(&[
                ("anthropic-ratelimit-unified-status", "rejected"),
                ("anthropic-ratelimit-unified-reset", &reset),
                ("anthropic-ratelimit-unified-representative-claim", claim),
            ])
        };
        assert_eq!(with("seven_day"), (Some(60), None));
        assert_eq!(with("seven_day_opus"), (None, Some(60)));
    }

    #[test]
    fn a_codex_window_is_closed_at_a_hundred_per_cent_and_the_body_may_say_so_alone() {
        let with =
            |used| of(&[("x-codex-secondary-used-percent", used), ("x-codex-secondary-reset-after-seconds", "9000")]);
        assert_eq!((with("99.5"), with("100")), ((None, None), (Some(9_000), None)));
        let body = |fields: &str| {
            let body = format!(r#"{{"error":{{"type":"usage_limit_reached","message":"m",{fields}}}}}"#);
            used_up(&HeaderMap::new(), body.as_bytes(), now()).window.map(|wait| wait.as_secs())
        };
        assert_eq!(body(r#""resets_in_seconds":3600"#), Some(3_600));
        assert_eq!(body(&format!(r#""resets_at":{}"#, NOW_SECS + 10)), Some(10));
        assert_eq!(body(r#""plan_type":"plus""#), None);
        let other = br#"{"error":{"type":"rate_limit_error","resets_in_seconds":9}}"#;
        assert_eq!(used_up(&HeaderMap::new(), other, now()), UsedUp::default());
    }

    #[test]
    fn a_small_limit_counts_once_it_is_used_up_in_any_spelling() {
        let requests =
            |left, reset| of(&[("x-ratelimit-remaining-requests", left), ("x-ratelimit-reset-requests", reset)]);
        assert_eq!((requests("3", "6m0s"), requests("0", "6m0s")), ((None, None), (None, Some(10))));
        assert_eq!(requests("0", "120ms"), (None, Some(0)));
        assert_eq!(spelled_out("1h2m3.5s"), Some(Duration::from_millis(3_723_500)));
        assert_eq!(requests("0", "soon"), (None, None));
        let moment =
            |text| of(&[("anthropic-ratelimit-tokens-remaining", "0"), ("anthropic-ratelimit-tokens-reset", text)]);
        assert_eq!(moment("2027-01-15T08:00:07Z"), (None, Some(7)));
        assert_eq!(moment("2026-01-15T08:01:00Z"), (None, None), "it is over");
        assert_eq!(until("1e22", now()), None, "a moment that no clock can tell");
        let plain = |text: &str| of(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", text)]);
        assert_eq!(plain(&((NOW_SECS + 5) * 1_000).to_string()), (None, Some(5)));
        assert_eq!((plain("30"), plain("-1"), plain("NaN")), ((None, Some(10)), (None, None), (None, None)));
    }
}
