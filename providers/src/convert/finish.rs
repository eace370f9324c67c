//! The table of finish reasons of the three protocols, read and written.
//!
//! Owns which reason stands for which. A reply and a stream use the same functions, so that both end alike. Knows no
//! bodies: what a reply contains is told in [`Produced`].

use tokenhub_domain::Dialect;

use super::{Finish, Loss};

/// What a reply contains, as far as its finish reason depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Produced {
    /// Calls of the client's tools.
    pub tool_calls: usize,
    /// Refusals that stand apart from the text (Chat's `refusal`, Responses' `refusal` parts).
    pub refusals: usize,
}

/// A finish reason in the words of a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireFinish {
    /// Chat `finish_reason`, Messages `stop_reason`, Responses `status`.
    pub reason: &'static str,
    /// Messages `stop_sequence`, Responses `incomplete_details.reason`; Chat has none.
    pub detail: Option<String>,
}

/// Why the model stopped. `raw` and `detail` are the fields that [`WireFinish`] names.
///
/// Tool calls turn an ordinary or unknown end into [`Finish::ToolCalls`], because a client that is told otherwise leaves
/// them unanswered; a limit, a pause and a filter win over them.
pub fn finish_of(dialect: Dialect, raw: Option<&str>, detail: Option<&str>, produced: Produced) -> Finish {
    let told = match dialect {
        Dialect::Chat => of_chat(raw),
        Dialect::Messages => of_messages(raw, detail),
        Dialect::Responses => of_responses(raw, detail),
    };
    match told {
        Finish::Stop | Finish::Other(_) if produced.tool_calls > 0 => Finish::ToolCalls,
        Finish::Stop if produced.refusals > 0 => Finish::ContentFilter,
        Finish::Stop
        | Finish::StopSequence(_)
        | Finish::Length
        | Finish::ToolCalls
        | Finish::ContentFilter
        | Finish::Pause
        | Finish::Other(_) => told,
    }
}

fn of_chat(raw: Option<&str>) -> Finish {
    match raw {
        None | Some("stop") => Finish::Stop,
        Some("length") => Finish::Length,
        Some("tool_calls" | "function_call") => Finish::ToolCalls,
        Some("content_filter") => Finish::ContentFilter,
        Some(other) => Finish::Other(other.to_owned()),
    }
}

fn of_messages(raw: Option<&str>, stop_sequence: Option<&str>) -> Finish {
    match raw {
        None | Some("end_turn") => Finish::Stop,
        Some("stop_sequence") => {
            Finish::StopSequence(stop_sequence.filter(|matched| !matched.is_empty()).map(str::to_owned))
        }
        Some("max_tokens" | "model_context_window_exceeded") => Finish::Length,
        Some("tool_use") => Finish::ToolCalls,
        Some("refusal") => Finish::ContentFilter,
        Some("pause_turn") => Finish::Pause,
        Some(other) => Finish::Other(other.to_owned()),
    }
}

fn of_responses(status: Option<&str>, reason: Option<&str>) -> Finish {
    match (status, reason) {
        (None | Some("completed"), _) => Finish::Stop,
        (Some("incomplete"), Some("max_output_tokens")) => Finish::Length,
        (Some("incomplete"), Some("content_filter")) => Finish::ContentFilter,
        (Some("incomplete"), Some(other)) | (Some(other), _) => Finish::Other(other.to_owned()),
    }
}

/// The words of `dialect` for `finish`.
pub fn finish_to_wire(dialect: Dialect, finish: &Finish, produced: Produced) -> WireFinish {
    match dialect {
        Dialect::Chat => to_chat(finish),
        Dialect::Messages => to_messages(finish),
        Dialect::Responses => to_responses(finish, produced),
    }
}

fn to_chat(finish: &Finish) -> WireFinish {
    let reason = match finish {
        Finish::Stop | Finish::StopSequence(_) | Finish::Pause | Finish::Other(_) => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::ContentFilter => "content_filter",
    };
    WireFinish { reason, detail: None }
}

fn to_messages(finish: &Finish) -> WireFinish {
    let reason = match finish {
        Finish::Stop | Finish::Other(_) => "end_turn",
        Finish::StopSequence(matched) => {
            return WireFinish { reason: "stop_sequence", detail: matched.clone() };
        }
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
        Finish::ContentFilter => "refusal",
        Finish::Pause => "pause_turn",
    };
    WireFinish { reason, detail: None }
}

/// A refusal that has a part of its own completes the response; only a filter that cut it leaves it incomplete.
fn to_responses(finish: &Finish, produced: Produced) -> WireFinish {
    let incomplete = |reason: &str| WireFinish { reason: "incomplete", detail: Some(reason.to_owned()) };
    match finish {
        Finish::Length => incomplete("max_output_tokens"),
        Finish::ContentFilter if produced.refusals == 0 => incomplete("content_filter"),
        Finish::Stop
        | Finish::StopSequence(_)
        | Finish::ToolCalls
        | Finish::ContentFilter
        | Finish::Pause
        | Finish::Other(_) => WireFinish { reason: "completed", detail: None },
    }
}

/// What `dialect` cannot say of `finish`.
pub fn finish_loss(dialect: Dialect, finish: &Finish) -> Option<Loss> {
    let reason = match (finish, dialect) {
        (Finish::Other(unknown), _) => format!("unknown finish reason {unknown:?}"),
        (Finish::Pause, Dialect::Chat | Dialect::Responses) => "a paused turn is reported as finished".to_owned(),
        (Finish::StopSequence(Some(_)), Dialect::Chat | Dialect::Responses) => {
            "the matched stop sequence cannot be told".to_owned()
        }
        (Finish::Pause, Dialect::Messages)
        | (
            Finish::Stop | Finish::StopSequence(_) | Finish::Length | Finish::ToolCalls | Finish::ContentFilter,
            Dialect::Chat | Dialect::Responses | Dialect::Messages,
        ) => return None,
    };
    Some(Loss { field: "finish_reason".to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Produced = Produced { tool_calls: 0, refusals: 0 };
    const CALLS: Produced = Produced { tool_calls: 1, refusals: 0 };
    const REFUSED: Produced = Produced { tool_calls: 0, refusals: 1 };

    fn across(from: Dialect, raw: &str, detail: Option<&str>, produced: Produced, to: Dialect) -> WireFinish {
        finish_to_wire(to, &finish_of(from, Some(raw), detail, produced), produced)
    }

    fn wire(reason: &'static str, detail: Option<&str>) -> WireFinish {
        WireFinish { reason, detail: detail.map(str::to_owned) }
    }

    #[test]
    fn every_row_of_the_table_maps_from_messages() {
        let rows = [
            ("end_turn", "stop", wire("completed", None)),
            ("stop_sequence", "stop", wire("completed", None)),
            ("max_tokens", "length", wire("incomplete", Some("max_output_tokens"))),
            ("model_context_window_exceeded", "length", wire("incomplete", Some("max_output_tokens"))),
            ("tool_use", "tool_calls", wire("completed", None)),
            ("pause_turn", "stop", wire("completed", None)),
            ("refusal", "content_filter", wire("incomplete", Some("content_filter"))),
            ("something_new", "stop", wire("completed", None)),
        ];
        for (stop_reason, chat, responses) in rows {
            assert_eq!(across(Dialect::Messages, stop_reason, None, NOTHING, Dialect::Chat).reason, chat);
            assert_eq!(across(Dialect::Messages, stop_reason, None, NOTHING, Dialect::Responses), responses);
        }
    }

    #[test]
    fn every_row_of_the_table_maps_to_messages() {
        let rows = [
            (Dialect::Chat, "stop", None, "end_turn"),
            (Dialect::Chat, "length", None, "max_tokens"),
            (Dialect::Chat, "tool_calls", None, "tool_use"),
            (Dialect::Chat, "function_call", None, "tool_use"),
            (Dialect::Chat, "content_filter", None, "refusal"),
            (Dialect::Chat, "eos", None, "end_turn"),
            (Dialect::Responses, "completed", None, "end_turn"),
            (Dialect::Responses, "incomplete", Some("max_output_tokens"), "max_tokens"),
            (Dialect::Responses, "incomplete", Some("content_filter"), "refusal"),
            (Dialect::Responses, "incomplete", Some("other"), "end_turn"),
            (Dialect::Responses, "cancelled", None, "end_turn"),
        ];
        for (from, raw, detail, stop_reason) in rows {
            assert_eq!(across(from, raw, detail, NOTHING, Dialect::Messages), wire(stop_reason, None), "{raw}");
        }
    }

    #[test]
    fn tool_calls_win_over_an_ordinary_end_and_lose_against_a_limit_a_pause_and_a_filter() {
        assert_eq!(finish_of(Dialect::Chat, Some("stop"), None, CALLS), Finish::ToolCalls);
        assert_eq!(finish_of(Dialect::Chat, None, None, CALLS), Finish::ToolCalls);
        assert_eq!(finish_of(Dialect::Chat, Some("eos"), None, CALLS), Finish::ToolCalls);
        assert_eq!(finish_of(Dialect::Responses, Some("completed"), None, CALLS), Finish::ToolCalls);
        assert_eq!(across(Dialect::Chat, "length", None, CALLS, Dialect::Messages).reason, "max_tokens");
        assert_eq!(finish_of(Dialect::Messages, Some("pause_turn"), None, CALLS), Finish::Pause);
        assert_eq!(finish_of(Dialect::Chat, Some("content_filter"), None, CALLS), Finish::ContentFilter);
    }

    #[test]
    fn a_refusal_of_its_own_is_a_refusal_for_messages_and_completes_a_response() {
        assert_eq!(across(Dialect::Chat, "stop", None, REFUSED, Dialect::Messages).reason, "refusal");
        assert_eq!(across(Dialect::Responses, "completed", None, REFUSED, Dialect::Chat).reason, "content_filter");
        assert_eq!(across(Dialect::Chat, "stop", None, REFUSED, Dialect::Responses), wire("completed", None));
    }

    #[test]
    fn a_stop_sequence_is_told_only_when_it_is_known() {
        let same = |matched| across(Dialect::Messages, "stop_sequence", matched, NOTHING, Dialect::Messages);
        assert_eq!(same(Some("END")), wire("stop_sequence", Some("END")));
        assert_eq!(same(Some("")), wire("stop_sequence", None));
        assert_eq!(same(None), wire("stop_sequence", None));
    }

    #[test]
    fn what_cannot_be_said_is_a_loss() {
        assert!(finish_loss(Dialect::Messages, &Finish::Other("x".to_owned())).is_some());
        assert!(finish_loss(Dialect::Chat, &Finish::Pause).is_some());
        assert!(finish_loss(Dialect::Messages, &Finish::Pause).is_none());
        assert!(finish_loss(Dialect::Chat, &Finish::StopSequence(Some("END".to_owned()))).is_some());
        assert!(finish_loss(Dialect::Chat, &Finish::Length).is_none());
    }
}
