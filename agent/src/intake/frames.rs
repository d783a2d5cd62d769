//! Syslog's two framings over a stream of bytes (RFC 6587): octet counting, `LENGTH SP MESSAGE`, and messages that end with a
//! newline or NUL. Which it is, every message says by itself.

use memchr::memchr2;
use model::MAX_LINE_BYTES;

/// Digits of a length at most.
const MAX_DIGITS: usize = 9;

/// Cuts bytes into messages. Holds at most one message and what came with it.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
    start: usize,
    /// The rest of an overlong message: so many bytes, or up to a newline.
    skipping: Option<Rest>,
}

#[derive(Debug, Clone, Copy)]
enum Rest {
    Bytes(usize),
    Line,
}

/// A message, and whether it was cut.
#[derive(Debug, PartialEq)]
pub struct Frame {
    pub bytes: Vec<u8>,
    pub is_truncated: bool,
}

impl Frames {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, if it is there whole.
    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if !self.skip() {
                return None;
            }
            let rest = &self.buffer[self.start..];
            let found = match length(rest) {
                Some(Length::Unfinished) => return None,
                Some(Length::Is { digits, bytes }) => counted(&rest[digits + 1..], bytes, digits + 1)?,
                None => line(rest)?,
            };
            let (bytes, used, skipping) = found;
            let is_truncated = skipping.is_some();
            let bytes = self.buffer[self.start..][bytes].to_vec();
            self.start += used;
            self.skipping = skipping;
            if !bytes.is_empty() {
                return Some(Frame { bytes, is_truncated });
            }
        }
    }

    /// What is left when nothing will follow.
    pub fn last(&mut self) -> Option<Frame> {
        if let Some(frame) = self.next_frame() {
            return Some(frame);
        }
        let rest = self.buffer.split_off(self.start);
        self.buffer.clear();
        self.start = 0;
        let is_cut = matches!(length(&rest), Some(Length::Is { .. }));
        let is_message = self.skipping.is_none() && !is_cut && !rest.is_empty();
        is_message.then_some(Frame { bytes: rest, is_truncated: false })
    }

    /// Passes over the rest of an overlong message; false when more of it is to come.
    fn skip(&mut self) -> bool {
        let rest = &self.buffer[self.start..];
        let (used, left) = match self.skipping {
            None => (0, None),
            Some(Rest::Bytes(bytes)) if bytes > rest.len() => (rest.len(), Some(Rest::Bytes(bytes - rest.len()))),
            Some(Rest::Bytes(bytes)) => (bytes, None),
            Some(Rest::Line) => match memchr2(b'\n', 0, rest) {
                Some(at) => (at + 1, None),
                None => (rest.len(), Some(Rest::Line)),
            },
        };
        self.start += used;
        self.skipping = left;
        left.is_none()
    }
}

enum Length {
    Unfinished,
    Is { digits: usize, bytes: usize },
}

/// The length that a counted message begins with.
fn length(bytes: &[u8]) -> Option<Length> {
    let digits = bytes.iter().take(MAX_DIGITS + 1).take_while(|c| c.is_ascii_digit()).count();
    if digits == 0 || digits > MAX_DIGITS || bytes[0] == b'0' {
        return None;
    }
    match bytes.get(digits) {
        None => Some(Length::Unfinished),
        Some(b' ') if bytes.len() == digits + 1 => Some(Length::Unfinished),
        Some(b' ') if bytes[digits + 1] == b'<' => {
            let number = std::str::from_utf8(&bytes[..digits]).ok()?;
            Some(Length::Is { digits, bytes: number.parse().ok()? })
        }
        Some(_) => None,
    }
}

type Found = (std::ops::Range<usize>, usize, Option<Rest>);

/// A message of `len` bytes that begins `head` bytes on.
fn counted(rest: &[u8], len: usize, head: usize) -> Option<Found> {
    let taken = len.min(MAX_LINE_BYTES);
    if rest.len() < taken {
        return None;
    }
    let skipping = (len > taken).then_some(Rest::Bytes(len - taken));
    let text = &rest[..taken];
    let end = text.iter().rposition(|c| !matches!(c, b'\n' | b'\r' | 0)).map_or(0, |at| at + 1);
    Some((head..head + end, head + taken, skipping))
}

fn line(rest: &[u8]) -> Option<Found> {
    match memchr2(b'\n', 0, &rest[..rest.len().min(MAX_LINE_BYTES + 1)]) {
        Some(at) => {
            let end = if at > 0 && rest[at - 1] == b'\r' { at - 1 } else { at };
            Some((0..end, at + 1, None))
        }
        None if rest.len() > MAX_LINE_BYTES => Some((0..MAX_LINE_BYTES, MAX_LINE_BYTES, Some(Rest::Line))),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn in_pieces(input: &[u8], step: usize) -> Vec<Frame> {
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        for piece in input.chunks(step.max(1)) {
            frames.push(piece);
            found.extend(std::iter::from_fn(|| frames.next_frame()));
        }
        found.extend(frames.last());
        found
    }

    fn check(input: &[u8], expected: &[&str]) {
        for step in [1, 3, input.len()] {
            let found = in_pieces(input, step);
            let texts: Vec<_> = found.iter().map(|frame| String::from_utf8_lossy(&frame.bytes)).collect();
            assert_eq!(texts, expected, "by {step}");
        }
    }

    #[test]
    fn both_framings_may_be_mixed() {
        check(b"<1>a\r\n<2>b\0\n6 <3>c\nd5 <4>e\n<5>f", &["<1>a", "<2>b", "<3>c\nd", "<4>e", "<5>f"]);
        check(b"12 monkeys\n404 \n7", &["12 monkeys", "404 ", "7"]);
        check(b"10 <1>cut", &[]);
    }

    #[test]
    fn overlong_messages_are_cut_and_marked() {
        let text = "x".repeat(MAX_LINE_BYTES + 100);
        for input in [format!("{text}\n<1>y\n"), format!("{} <{}<1>y\n", text.len() + 1, text)] {
            let found = in_pieces(input.as_bytes(), 65_536);
            let cuts: Vec<_> = found.iter().map(|frame| (frame.bytes.len(), frame.is_truncated)).collect();
            assert_eq!(cuts, [(MAX_LINE_BYTES, true), (4, false)]);
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(input in "([0-9]{1,2} )?<[a-c0-9 \n]{0,12}\n?", step in 1usize..9) {
            prop_assert_eq!(in_pieces(input.as_bytes(), step), in_pieces(input.as_bytes(), input.len()));
        }

        #[test]
        fn arbitrary_bytes_never_panic(input in proptest::collection::vec(any::<u8>(), 0..300), step in 1usize..50) {
            in_pieces(&input, step);
        }
    }
}
