//! Cuts a byte stream into server-sent events.
//!
//! Pure: bytes in, payloads out, whatever the chunk borders. Lines end in LF, CR LF or CR; comments, `id` and `retry`
//! are dropped. A payload of one `data` line is a slice of what came in. It has a size cap, because an upstream that
//! never sends a blank line would otherwise grow the buffer for ever.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr2};

/// Largest event that is accepted: a tool call or an inline image arrives as one line.
pub const EVENT_BYTES: usize = 8 * 1024 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// One event that carries data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The `event` field, empty when there was none.
    pub name: Bytes,
    /// The `data` lines, joined by LF.
    pub data: Bytes,
}

/// An event larger than the cap; the framer is of no use afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {limit_bytes} bytes")]
pub struct EventTooLarge {
    /// The cap.
    pub limit_bytes: usize,
}

/// Collects bytes until they are events.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    /// Start of the buffer that is known to hold no line end.
    scanned: usize,
    /// The last line ended in CR, so an LF that follows belongs to it.
    after_cr: bool,
    at_start: bool,
    name: Bytes,
    data: Pending,
    limit_bytes: usize,
}

#[derive(Debug)]
enum Pending {
    Nothing,
    OneLine(Bytes),
    Lines(BytesMut),
}

impl Pending {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::OneLine(line) => line.len(),
            Self::Lines(lines) => lines.len(),
        }
    }

    fn add(self, line: Bytes) -> Self {
        let mut lines = match self {
            Self::Nothing => return Self::OneLine(line),
            Self::OneLine(first) => BytesMut::from(first),
            Self::Lines(lines) => lines,
        };
        lines.extend_from_slice(b"\n");
        lines.extend_from_slice(&line);
        Self::Lines(lines)
    }
}

impl Framer {
    /// A framer that accepts events of at most `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            scanned: 0,
            after_cr: false,
            at_start: true,
            name: Bytes::new(),
            data: Pending::Nothing,
            limit_bytes,
        }
    }

    /// Bytes of an event, or of a comment, whose end has not come.
    pub(crate) fn unfinished_bytes(&self) -> usize {
        self.buffer.len() + self.data.len()
    }

    /// Takes the next bytes, cut anywhere.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole event, if there is one yet.
    pub fn next_event(&mut self) -> Result<Option<Event>, EventTooLarge> {
        if !self.passed_byte_order_mark() {
            return Ok(None);
        }
        while let Some(found) = memchr2(b'\n', b'\r', &self.buffer[self.scanned..]) {
            let end = self.scanned + found;
            let terminator = self.buffer[end];
            let mut line = self.buffer.split_to(end + 1).freeze();
            line.truncate(end);
            self.scanned = 0;
            let is_rest_of_crlf = self.after_cr && terminator == b'\n' && line.is_empty();
            self.after_cr = terminator == b'\r';
            if is_rest_of_crlf {
                continue;
            }
            if let Some(event) = self.take_line(line) {
                return Ok(Some(event));
            }
            self.check_size()?;
        }
        self.scanned = self.buffer.len();
        self.check_size()?;
        Ok(None)
    }

    /// What the end of the stream makes of an event without its blank line: some servers leave out the last one.
    pub fn finish(mut self) -> Option<Event> {
        let rest = self.buffer.split().freeze();
        let last = if rest.is_empty() { None } else { self.take_line(rest) };
        last.or_else(|| self.take_line(Bytes::new()))
    }

    fn passed_byte_order_mark(&mut self) -> bool {
        if self.at_start {
            let seen = self.buffer.len().min(BYTE_ORDER_MARK.len());
            if self.buffer[..seen] == BYTE_ORDER_MARK[..seen] {
                if seen < BYTE_ORDER_MARK.len() {
                    return false;
                }
                self.buffer.advance(seen);
            }
            self.at_start = false;
        }
        true
    }

    fn check_size(&self) -> Result<(), EventTooLarge> {
        // Whole lines behind the current event are not part of it; only an unfinished line is.
        let unfinished = if self.scanned == self.buffer.len() { self.buffer.len() } else { 0 };
        if self.data.len() + self.name.len() + unfinished > self.limit_bytes {
            return Err(EventTooLarge { limit_bytes: self.limit_bytes });
        }
        Ok(())
    }

    fn take_line(&mut self, line: Bytes) -> Option<Event> {
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            return match std::mem::replace(&mut self.data, Pending::Nothing) {
                Pending::Nothing => None,
                Pending::OneLine(data) => Some(Event { name, data }),
                Pending::Lines(data) => Some(Event { name, data: data.freeze() }),
            };
        }
        let (field, value) = match memchr(b':', &line) {
            Some(colon) => {
                let skipped = if line.get(colon + 1) == Some(&b' ') { colon + 2 } else { colon + 1 };
                (line.slice(..colon), line.slice(skipped..))
            }
            None => (line, Bytes::new()),
        };
        match field.as_ref() {
            b"data" => self.data = std::mem::replace(&mut self.data, Pending::Nothing).add(value),
            b"event" => self.name = value,
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything that `stream` holds when it arrives in chunks of the given sizes, repeated.
    fn framed(stream: &[u8], sizes: &[usize]) -> Vec<(String, String)> {
        let mut framer = Framer::new(EVENT_BYTES);
        let mut events = Vec::new();
        let mut rest = stream;
        let mut sizes = sizes.iter().copied().cycle();
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(sizes.next().unwrap().clamp(1, rest.len()));
            rest = after;
            framer.push(chunk);
            while let Some(event) = framer.next_event().unwrap() {
                events.push(event);
            }
        }
        events.extend(framer.finish());
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        events.into_iter().map(|event| (text(event.name), text(event.data))).collect()
    }

    fn data(stream: &str) -> Vec<String> {
        framed(stream.as_bytes(), &[usize::MAX]).into_iter().map(|(_, data)| data).collect()
    }

    #[test]
    fn every_line_end_separates_and_comments_and_other_fields_are_dropped() {
        for end in ["\n", "\r\n", "\r"] {
            let stream =
                [": ping", "", "data: a", "", "id: 7", "retry: 1", "data:b", "other: x", "", ":", "data: c", "", ""];
            assert_eq!(data(&stream.join(end)), ["a", "b", "c"], "{end:?}");
        }
    }

    #[test]
    fn data_lines_are_joined_and_one_leading_space_is_dropped() {
        assert_eq!(data("data: a\ndata:  b\ndata\ndata:\n\n"), ["a\n b\n\n"]);
        assert_eq!(data("data\n\n"), [""]);
        assert_eq!(data("event: x\n\ndata: y\n\n"), ["y"]);
    }

    #[test]
    fn the_event_name_belongs_to_one_event() {
        let events = framed(b"event: error\ndata: 1\n\ndata: 2\n\n", &[usize::MAX]);
        assert_eq!(events, [("error".to_owned(), "1".to_owned()), (String::new(), "2".to_owned())]);
    }

    #[test]
    fn a_byte_order_mark_is_skipped_only_at_the_start() {
        assert_eq!(framed("\u{FEFF}data: a\n\n".as_bytes(), &[1]), [(String::new(), "a".to_owned())]);
        assert_eq!(data("data: a\n\n\u{FEFF}data: b\n\n"), ["a"]);
    }

    #[test]
    fn the_end_of_the_stream_ends_the_last_event() {
        assert_eq!(data("data: a\n\ndata: [DONE]"), ["a", "[DONE]"]);
        assert_eq!(data("data: a\n"), ["a"]);
        assert!(data(": nothing").is_empty());
    }

    #[test]
    fn an_event_above_the_cap_is_refused_and_many_small_ones_in_one_chunk_are_not() {
        let small = "data: 12345678\n\n".repeat(100);
        let mut framer = Framer::new(16);
        framer.push(small.as_bytes());
        let mut count = 0;
        while framer.next_event().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 100);
        framer.push(b"data: 123456789");
        assert_eq!(framer.next_event(), Ok(None));
        framer.push(b"0123");
        assert_eq!(framer.next_event(), Err(EventTooLarge { limit_bytes: 16 }));

        let mut lines = Framer::new(16);
        lines.push(b"data: 12345678\ndata: 12345678\n");
        assert_eq!(lines.next_event(), Err(EventTooLarge { limit_bytes: 16 }));
    }

    proptest! {
        #[test]
        fn chunk_borders_change_nothing(
            lines in prop::collection::vec(
                prop_oneof!["data: [a-zé€😀 :]{0,9}", "data:[a-z]{0,3}", ": [a-zé]{0,5}", "event: [a-z]{0,4}", "", ""],
                0..20,
            ),
            ends in prop::collection::vec(prop_oneof!["\n", "\r\n", "\r"], 20),
            sizes in prop::collection::vec(1_usize..7, 1..10),
        ) {
            let stream: String = lines.iter().zip(&ends).flat_map(|(line, end)| [line.as_str(), end.as_str()]).collect();
            prop_assert_eq!(framed(stream.as_bytes(), &sizes), framed(stream.as_bytes(), &[usize::MAX]));
        }

        #[test]
        fn payloads_come_out_as_they_went_in(
            payloads in prop::collection::vec("[^\r\n]{1,40}", 1..10),
            sizes in prop::collection::vec(1_usize..9, 1..10),
        ) {
            let stream: String = payloads.iter().flat_map(|payload| ["data: ", payload, "\n\n"]).collect();
            let out: Vec<String> = framed(stream.as_bytes(), &sizes).into_iter().map(|(_, data)| data).collect();
            prop_assert_eq!(out, payloads);
        }
    }
}
