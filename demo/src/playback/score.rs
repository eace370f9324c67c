//! What is played, step by step: the events of a stream with all that comes between, and where it ends.
//!
//! Faults are placed here; the show only carries them out.

use bytes::Bytes;

use crate::dialect::Dialect;
use crate::reply::{Ending, Noise, Omission, Reply};
use crate::speech::Speech;
use crate::wire::errors::{StreamForm, in_stream};
use crate::wire::sse::{Role, Sentence, keep_alive, malformed};

/// What there is to play.
#[derive(Debug)]
pub(crate) enum Matter<'a> {
    /// A body in one.
    Body(Bytes),
    /// The events of a stream, and the speech that an error in it would end.
    Stream(Vec<Sentence>, &'a Speech<'a>),
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Write(Bytes),
    PauseMs(u64),
}

/// What comes after the last step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Close,
    Cut,
    Silence,
    /// This, again and again.
    Repeat(Bytes),
}

/// All steps.
#[derive(Debug)]
pub(crate) struct Score {
    pub(crate) acts: Vec<Act>,
    pub(crate) end: End,
}

/// How `reply` plays `matter`.
pub(crate) fn of(reply: &Reply, dialect: Dialect, matter: Matter<'_>) -> Score {
    let (acts, end) = match matter {
        Matter::Body(bytes) => body_acts(reply, dialect, bytes),
        Matter::Stream(sentences, speech) => stream_acts(reply, dialect, sentences, speech),
    };
    let (acts, end) = match reply.ending {
        Ending::Whole
        | Ending::Hang
        | Ending::CutBeforeBytes
        | Ending::CutAfterTokens(_)
        | Ending::StallAfterTokens(_)
        | Ending::KeepAliveAfterTokens(_) => (acts, end),
        Ending::HangInHeaders => (Vec::new(), End::Silence),
        Ending::CutAfterBytes(limit) => (truncated(acts, limit), End::Cut),
        Ending::StallAfterBytes(limit) => (truncated(acts, limit), End::Silence),
        Ending::KeepAliveAfterBytes(limit) => (truncated(acts, limit), End::Repeat(keep_alive(dialect))),
    };
    let acts = match (reply.split_bytes, reply.split_inside_characters) {
        (Some(size), _) => split(acts, |bytes| (size.max(1)..bytes.len()).step_by(size.max(1)).collect()),
        (None, true) => split(acts, inside_characters),
        (None, false) => acts,
    };
    Score { acts, end }
}

/// The place in tokens at which a reply breaks off, and how.
fn break_off(ending: Ending, dialect: Dialect) -> Option<(usize, End)> {
    match ending {
        Ending::CutAfterTokens(tokens) => Some((tokens, End::Cut)),
        Ending::StallAfterTokens(tokens) => Some((tokens, End::Silence)),
        Ending::KeepAliveAfterTokens(tokens) => Some((tokens, End::Repeat(keep_alive(dialect)))),
        Ending::Whole
        | Ending::Hang
        | Ending::HangInHeaders
        | Ending::CutBeforeBytes
        | Ending::CutAfterBytes(_)
        | Ending::StallAfterBytes(_)
        | Ending::KeepAliveAfterBytes(_) => None,
    }
}

fn body_acts(reply: &Reply, dialect: Dialect, bytes: Bytes) -> (Vec<Act>, End) {
    match break_off(reply.ending, dialect) {
        None => (vec![Act::Write(bytes)], End::Close),
        Some((0, end)) => (Vec::new(), end),
        Some((_, end)) => (vec![Act::Write(bytes.slice(..bytes.len() / 2))], end),
    }
}

fn stream_acts(reply: &Reply, dialect: Dialect, mut sentences: Vec<Sentence>, speech: &Speech<'_>) -> (Vec<Act>, End) {
    sentences.retain(|sentence| !is_omitted(&reply.omit, sentence.role));
    let break_off = break_off(reply.ending, dialect).map(|(tokens, end)| (place(&sentences, Some(tokens)), end));
    let mut acts = Vec::with_capacity(sentences.len());
    for position in 0..=sentences.len() {
        for interlude in reply.interludes.iter().filter(|one| place(&sentences, one.after_tokens) == position) {
            let error = |error, form| in_stream(dialect, error, form, speech, position);
            acts.push(match &interlude.what {
                Noise::Comment(text) => Act::Write(Bytes::from(format!(": {text}\n\n"))),
                Noise::KeepAlive => Act::Write(keep_alive(dialect)),
                Noise::PauseMs(pause_ms) => Act::PauseMs(*pause_ms),
                Noise::Malformed => Act::Write(malformed(dialect)),
                Noise::Raw(text) => Act::Write(Bytes::from(text.clone())),
                Noise::Error(body) => {
                    acts.push(Act::Write(error(body, StreamForm::Failed)));
                    return (acts, End::Close);
                }
                Noise::ErrorEvent(body) => {
                    acts.push(Act::Write(error(body, StreamForm::Bare)));
                    return (acts, End::Close);
                }
            });
        }
        match &break_off {
            Some((place, end)) if *place == position => return (acts, end.clone()),
            Some(_) | None => {}
        }
        acts.extend(sentences.get(position).map(|sentence| Act::Write(sentence.bytes.clone())));
    }
    (acts, End::Close)
}

fn is_omitted(omissions: &[Omission], role: Role) -> bool {
    omissions.iter().any(|omission| match omission {
        Omission::Usage => role == Role::Usage,
        Omission::Finish => matches!(role, Role::Finish | Role::FinishAndTerminal),
        Omission::Terminal => matches!(role, Role::Terminal | Role::FinishAndTerminal),
    })
}

/// Where in a stream so many tokens have been said: before the first one for 0, at the very start for nothing, and after
/// the last one when there are not as many.
fn place(sentences: &[Sentence], after_tokens: Option<usize>) -> usize {
    let mut tokens = sentences.iter().enumerate().filter(|(_, one)| one.role == Role::Token).map(|(place, _)| place);
    let wordless = || sentences.iter().position(|one| one.role != Role::Frame).unwrap_or(sentences.len());
    match after_tokens {
        None => 0,
        Some(0) => tokens.next().unwrap_or_else(wordless),
        Some(count) => tokens.take(count).last().map_or_else(wordless, |place| place + 1),
    }
}

fn truncated(acts: Vec<Act>, limit: usize) -> Vec<Act> {
    let mut left = limit;
    let mut kept = Vec::with_capacity(acts.len());
    for act in acts {
        match act {
            Act::Write(bytes) => {
                let size = bytes.len().min(left);
                left -= size;
                if size > 0 {
                    kept.push(Act::Write(bytes.slice(..size)));
                }
            }
            Act::PauseMs(_) if left > 0 => kept.push(act),
            Act::PauseMs(_) => {}
        }
    }
    kept
}

/// Joins what is written between two pauses and cuts it where `cuts` says.
fn split(acts: Vec<Act>, cuts: impl Fn(&[u8]) -> Vec<usize>) -> Vec<Act> {
    let mut pieces = Vec::new();
    let mut joined = Vec::new();
    let flush = |joined: &mut Vec<u8>, pieces: &mut Vec<Act>| {
        let whole = Bytes::from(std::mem::take(joined));
        let ends = cuts(&whole).into_iter().chain([whole.len()]);
        let mut start = 0;
        for end in ends.filter(|end| *end > 0) {
            pieces.push(Act::Write(whole.slice(start..end)));
            start = end;
        }
    };
    for act in acts {
        match act {
            Act::Write(bytes) => joined.extend_from_slice(&bytes),
            Act::PauseMs(_) => {
                flush(&mut joined, &mut pieces);
                pieces.push(act);
            }
        }
    }
    flush(&mut joined, &mut pieces);
    pieces
}

/// After the first byte of every character that has more than one.
fn inside_characters(bytes: &[u8]) -> Vec<usize> {
    const FIRST_OF_SEVERAL: u8 = 0b1100_0000;
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte >= FIRST_OF_SEVERAL);
    starts.map(|(place, _)| place + 1).filter(|end| *end < bytes.len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &'static str) -> Act {
        Act::Write(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn steps_are_cut_to_a_length_and_into_pieces() {
        let acts = || vec![write("abc"), Act::PauseMs(1), write("def")];
        assert_eq!(truncated(acts(), 4), [write("abc"), Act::PauseMs(1), write("d")]);
        assert_eq!(truncated(acts(), 3), [write("abc")]);
        let four = |bytes: &[u8]| (4..bytes.len()).step_by(4).collect();
        assert_eq!(split(vec![write("abc"), write("def")], four), [write("abcd"), write("ef")]);
        assert_eq!(split(acts(), four), acts());
    }

    #[test]
    fn a_piece_can_end_inside_a_character() {
        let pieces = split(vec![Act::Write(Bytes::from("aéb"))], inside_characters);
        let bytes = |bytes: &'static [u8]| Act::Write(Bytes::from_static(bytes));
        assert_eq!(pieces, [bytes(b"a\xc3"), bytes(b"\xa9b")]);
    }

    #[test]
    fn places_are_counted_in_tokens() {
        let roles = [Role::Frame, Role::Token, Role::Frame, Role::Token, Role::Finish, Role::Terminal];
        let sentences = roles.map(|role| Sentence { bytes: Bytes::new(), role });
        let places = [None, Some(0), Some(1), Some(2), Some(9)].map(|tokens| place(&sentences, tokens));
        assert_eq!(places, [0, 1, 2, 4, 4]);
        let wordless = [Role::Frame, Role::Finish].map(|role| Sentence { bytes: Bytes::new(), role });
        assert_eq!([Some(0), Some(3)].map(|tokens| place(&wordless, tokens)), [1, 1]);
    }
}
