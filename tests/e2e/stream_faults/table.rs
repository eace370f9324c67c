//! The table: what the first provider does, what is to come of it, and for whom.

use tokenhub_demo::{ByDialect, Content, ErrorBody, Noise, Omission, Part, Reply};
use tokenhub_domain::{Dialect, ErrorClass};
use tokenhub_store::{LedgerRow, LedgerState};

const FIRST: &str = "first";
pub(super) const SECOND: &str = "second";
/// What the first provider says before it fails.
pub(super) const FAILING_TEXT: &str = "alas this answer does not end well";
pub(super) const INPUT_TOKENS: u64 = 11;
pub(super) const OUTPUT_TOKENS: u64 = 7;

/// What the first provider does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    CutBeforeHeaders,
    SilenceBeforeHeaders,
    CutBeforeFirstToken,
    CutInTheMiddle,
    CutInsideAToolCall,
    NoiseInTheMiddle,
    SilenceBeforeFirstToken,
    SilenceInTheMiddle,
    NothingButKeepAlives,
    KeepAlivesInTheMiddle,
    EmptyStream,
    EndMarkBehindNothing,
    RubbishBeforeFirstToken,
    RubbishInTheMiddle,
    ErrorFirst,
    ErrorBehindAPing,
    ErrorInTheMiddle,
    BareErrorInTheMiddle,
    ErrorInPlaceOfAStream,
    NoUsage,
    NoFinish,
    NoLastEvent,
}

impl Fault {
    pub(super) const ALL: [Self; 22] = [
        Self::CutBeforeHeaders,
        Self::SilenceBeforeHeaders,
        Self::CutBeforeFirstToken,
        Self::CutInTheMiddle,
        Self::CutInsideAToolCall,
        Self::NoiseInTheMiddle,
        Self::SilenceBeforeFirstToken,
        Self::SilenceInTheMiddle,
        Self::NothingButKeepAlives,
        Self::KeepAlivesInTheMiddle,
        Self::EmptyStream,
        Self::EndMarkBehindNothing,
        Self::RubbishBeforeFirstToken,
        Self::RubbishInTheMiddle,
        Self::ErrorFirst,
        Self::ErrorBehindAPing,
        Self::ErrorInTheMiddle,
        Self::BareErrorInTheMiddle,
        Self::ErrorInPlaceOfAStream,
        Self::NoUsage,
        Self::NoFinish,
        Self::NoLastEvent,
    ];

    pub(super) fn reply(self) -> Reply {
        let said = Reply::text(FAILING_TEXT).usage(INPUT_TOKENS, OUTPUT_TOKENS);
        let error = || Noise::error("overloaded_error", "too much to do");
        match self {
            Self::CutBeforeHeaders => said.cut_before_bytes(),
            Self::SilenceBeforeHeaders => Reply::hang(),
            Self::CutBeforeFirstToken => said.cut_after_tokens(0),
            Self::CutInTheMiddle => said.cut_after_tokens(2),
            Self::CutInsideAToolCall => Reply::parts([Part::tool_call("call_1", "look", ["{\"at\":", "\"it", "\"}"])])
                .usage(INPUT_TOKENS, OUTPUT_TOKENS)
                .cut_after_tokens(2),
            // None of it is a fault.
            Self::NoiseInTheMiddle => said
                .after_tokens(2, Noise::KeepAlive)
                .after_tokens(2, Noise::Comment("busy".to_owned()))
                .after_tokens(2, Noise::PauseMs(300)),
            Self::SilenceBeforeFirstToken => said.stall_after_tokens(0),
            Self::SilenceInTheMiddle => said.stall_after_tokens(2),
            Self::NothingButKeepAlives => said.keep_alive_after_tokens(0).gap_ms(50),
            Self::KeepAlivesInTheMiddle => said.keep_alive_after_tokens(2).gap_ms(50),
            Self::EmptyStream => Reply::empty_stream(),
            Self::EndMarkBehindNothing => nothing_but_its_end(),
            Self::RubbishBeforeFirstToken => said.after_tokens(0, Noise::Malformed),
            Self::RubbishInTheMiddle => said.after_tokens(2, Noise::Malformed),
            Self::ErrorFirst => said.first(error()),
            Self::ErrorBehindAPing => said
                .first(Noise::KeepAlive)
                .first(Noise::Comment("busy".to_owned()))
                .after_tokens(0, Noise::KeepAlive)
                .after_tokens(0, error()),
            Self::ErrorInTheMiddle => said.after_tokens(2, error()),
            Self::BareErrorInTheMiddle => {
                let code = Some("overloaded_error".to_owned());
                let error = ErrorBody { message: "too much to do".to_owned(), kind: code.clone(), code, param: None };
                said.after_tokens(2, Noise::ErrorEvent(error))
            }
            Self::ErrorInPlaceOfAStream => Reply::error(200, "api_error", "something went wrong"),
            Self::NoUsage => said.without(Omission::Usage),
            Self::NoFinish => said.without(Omission::Finish),
            Self::NoLastEvent => said.without(Omission::Terminal),
        }
    }

    /// What is to come of it for such a client at such an upstream.
    pub(super) fn outcome(self, client: Dialect, upstream: Dialect) -> Outcome {
        use ErrorClass::{FirstTokenTimeout, Overloaded, ServerError, StreamBroken, Transport};
        match self {
            Self::CutBeforeFirstToken
            | Self::RubbishBeforeFirstToken
            | Self::EmptyStream
            | Self::EndMarkBehindNothing => Outcome::failover(StreamBroken, 2),
            Self::CutBeforeHeaders => Outcome::failover(Transport, 3),
            Self::SilenceBeforeHeaders | Self::SilenceBeforeFirstToken | Self::NothingButKeepAlives => {
                Outcome::failover(FirstTokenTimeout, 1)
            }
            Self::ErrorFirst | Self::ErrorBehindAPing => Outcome::failover(Overloaded, 3),
            Self::ErrorInPlaceOfAStream => Outcome::failover(ServerError, 3),
            Self::CutInTheMiddle
            | Self::SilenceInTheMiddle
            | Self::KeepAlivesInTheMiddle
            | Self::RubbishInTheMiddle => Outcome::broken(StreamBroken, early_tokens(upstream)),
            Self::CutInsideAToolCall => {
                Outcome { text: Text::PieceOfCall, ..Outcome::broken(StreamBroken, early_tokens(upstream)) }
            }
            Self::ErrorInTheMiddle | Self::BareErrorInTheMiddle => Outcome::broken(Overloaded, early_tokens(upstream)),
            Self::NoiseInTheMiddle => Outcome::whole(upstream, (INPUT_TOKENS, OUTPUT_TOKENS)),
            Self::NoUsage => Outcome::whole(upstream, (0, 0)),
            Self::NoFinish => match upstream {
                // Its last event and its reason are one.
                Dialect::Responses => Outcome::broken(StreamBroken, (0, 0)),
                // The client reads the provider's own words, with nothing added to them.
                Dialect::Chat | Dialect::Messages if client == upstream => {
                    Outcome::whole_without_reason(all_but_the_reasons_event(upstream))
                }
                Dialect::Chat | Dialect::Messages => Outcome::broken(StreamBroken, all_but_the_reasons_event(upstream)),
            },
            Self::NoLastEvent => match upstream {
                // The finish reason says that nothing is missing; some servers leave out the mark.
                Dialect::Chat => Outcome::whole(upstream, (INPUT_TOKENS, OUTPUT_TOKENS)),
                Dialect::Messages => Outcome::broken(StreamBroken, (INPUT_TOKENS, OUTPUT_TOKENS)),
                Dialect::Responses => Outcome::broken(StreamBroken, (0, 0)),
            },
        }
    }
}

/// An end that ends nothing; Responses has no such thing, and begins only.
fn nothing_but_its_end() -> Reply {
    let events = |events: &[&str]| Content::Events(events.iter().map(|event| (*event).to_owned()).collect());
    let start = r#"{"type":"message_start","message":{"id":"m","role":"assistant","content":[],"usage":{}}}"#;
    let created = r#"{"type":"response.created","sequence_number":0,"response":{"id":"r","status":"in_progress"}}"#;
    Reply::by_dialect(ByDialect {
        chat: events(&["[DONE]"]),
        messages: events(&[start, r#"{"type":"message_stop"}"#]),
        responses: events(&[created]),
    })
}

/// Only Messages tells of tokens before its end: all of the prompt, and one of the answer.
fn early_tokens(upstream: Dialect) -> (u64, u64) {
    match upstream {
        Dialect::Messages => (INPUT_TOKENS, 1),
        Dialect::Chat | Dialect::Responses => (0, 0),
    }
}

/// In Messages the final counts come with the reason.
fn all_but_the_reasons_event(upstream: Dialect) -> (u64, u64) {
    match upstream {
        Dialect::Chat => (INPUT_TOKENS, OUTPUT_TOKENS),
        Dialect::Messages | Dialect::Responses => early_tokens(upstream),
    }
}

/// What is to come of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) attempts: Vec<Attempt>,
    pub(super) last: Last,
    pub(super) text: Text,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    at: &'static str,
    state: LedgerState,
    class: Option<ErrorClass>,
    finish_reason: Option<String>,
    tokens: (u64, u64),
}

/// What the client is told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// The protocol's own good end.
    End,
    /// The protocol's own error, and no end before or behind it.
    Error(ErrorClass),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// All that the first provider has to say.
    OfFirst,
    /// A part of it.
    PartOfFirst,
    /// None, and a tool call that is not complete.
    PieceOfCall,
    /// All that the second one says, and nothing of the first.
    OfSecond,
}

impl Outcome {
    fn failover(class: ErrorClass, tries: usize) -> Self {
        let failed =
            || Attempt { at: FIRST, state: LedgerState::Void, class: Some(class), finish_reason: None, tokens: (0, 0) };
        // The second provider always speaks Chat.
        let answered = Attempt::answered(SECOND, Dialect::Chat, (INPUT_TOKENS, OUTPUT_TOKENS));
        let attempts = (0..tries).map(|_| failed()).chain([answered]).collect();
        Self { attempts, last: Last::End, text: Text::OfSecond }
    }

    /// Tokens were used: it is settled, with the class where the finish reason would be.
    fn broken(class: ErrorClass, tokens: (u64, u64)) -> Self {
        let finish_reason = Some(class.as_str().to_owned());
        let attempt = Attempt { at: FIRST, state: LedgerState::Settled, class: None, finish_reason, tokens };
        Self { attempts: vec![attempt], last: Last::Error(class), text: Text::PartOfFirst }
    }

    fn whole(upstream: Dialect, tokens: (u64, u64)) -> Self {
        let attempts = vec![Attempt::answered(FIRST, upstream, tokens)];
        Self { attempts, last: Last::End, text: Text::OfFirst }
    }

    fn whole_without_reason(tokens: (u64, u64)) -> Self {
        let attempt = Attempt { at: FIRST, state: LedgerState::Settled, class: None, finish_reason: None, tokens };
        Self { attempts: vec![attempt], last: Last::End, text: Text::OfFirst }
    }
}

impl Attempt {
    fn answered(at: &'static str, upstream: Dialect, tokens: (u64, u64)) -> Self {
        let reason = match upstream {
            Dialect::Chat => "stop",
            Dialect::Messages => "end_turn",
            Dialect::Responses => "completed",
        };
        Self { at, state: LedgerState::Settled, class: None, finish_reason: Some(reason.to_owned()), tokens }
    }

    pub(super) fn of(row: &LedgerRow) -> Self {
        Self {
            at: if row.provider.as_str() == SECOND { SECOND } else { FIRST },
            state: row.state,
            class: row.error_class,
            finish_reason: row.finish_reason.clone(),
            tokens: (row.input_tokens, row.output_tokens),
        }
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) fault: Fault,
    pub(super) client: Dialect,
    pub(super) upstream: Dialect,
}

impl Row {
    pub(super) fn all() -> Vec<Self> {
        let pairs = Dialect::ALL.into_iter().flat_map(|client| Dialect::ALL.map(|upstream| (client, upstream)));
        pairs.flat_map(|(client, upstream)| Fault::ALL.map(|fault| Self { fault, client, upstream })).collect()
    }

    pub(super) fn model(self) -> String {
        format!("{:?}-{:?}-{:?}", self.fault, self.client, self.upstream).to_lowercase()
    }
}

/// The id of the failing provider that speaks `dialect`.
pub(super) fn first(dialect: Dialect) -> String {
    format!("{FIRST}-{}", dialect.as_str())
}
