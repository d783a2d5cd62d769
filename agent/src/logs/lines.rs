//! Framing: from a file's bytes to lines, each with its place in the file.
//!
//! # Contracts
//! - Every byte consumed belongs to exactly one line's range or to the gap before the next; ranges rise.
//! - What is consumed ends where no message is half read: an unterminated line, or a container's message whose last part is
//!   not there yet, is left for the next look. So nothing but an offset and [`Skipping`] is kept between two looks.
//! - A line's range depends on the bytes alone, not on how they were cut into reads: a store that saw some of it cuts
//!   exactly that when it is read again.
//! - A line over [`MAX_LINE_BYTES`] is cut there and marked; the rest is skipped, but covered by the next range.

use std::borrow::Cow;
use std::collections::HashMap;

use memchr::memchr;
use model::{Labels, LogColumns, MAX_LINE_BYTES};
use serde::{Deserialize, Serialize};

use super::parse::{Format, Level, Stream, level};

/// Bytes of text after which a batch is closed.
const BATCH_TEXT_BYTES: usize = 512 * 1024;
/// A read this long always holds a whole line, or more than the bound of one.
pub const MAX_READ_BYTES: usize = 2 * MAX_LINE_BYTES;

/// What is being passed over when a read begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Skipping {
    #[default]
    No,
    /// The rest of an overlong line.
    Line,
    /// The further parts of an overlong message of this stream.
    Parts(Stream),
}

impl Skipping {
    pub fn is_none(&self) -> bool {
        *self == Skipping::No
    }
}

/// What framing is told besides the bytes.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    pub format: Format,
    pub skipping: Skipping,
    pub last_t_ns: i64,
    pub now_ns: i64,
    /// Nothing will follow these bytes: an unterminated line is a line.
    pub is_end: bool,
    /// The bytes are as many as are ever read at once: something must be consumed.
    pub is_full: bool,
}

/// A batch in the making. Lines name [`Stream`]s by their index.
#[derive(Debug, Default)]
pub struct Framed {
    pub columns: LogColumns,
    pub metadata: Vec<Labels>,
    pub consumed: usize,
    pub last_t_ns: i64,
    pub skipping: Skipping,
    pub truncated: u64,
    pub invalid_utf8: u64,
}

/// Cuts `input` into lines until it ends or a batch is full.
pub fn frame(input: &[u8], context: &Context) -> Framed {
    let mut framer = Framer {
        context: *context,
        out: Framed {
            metadata: vec![Labels::default()],
            last_t_ns: context.last_t_ns,
            skipping: context.skipping,
            ..Framed::default()
        },
        cut: Cut { consumed: 0, lines: 0, text: 0, last_t_ns: context.last_t_ns, skipping: context.skipping },
        pending: [None, None, None],
        marks: HashMap::new(),
    };
    framer.run(input);
    framer.finish(input.len())
}

/// A place where a batch may end.
#[derive(Debug, Clone, Copy)]
struct Cut {
    consumed: usize,
    lines: usize,
    text: usize,
    last_t_ns: i64,
    skipping: Skipping,
}

/// The parts of a message that were seen so far.
struct Pending {
    text: Vec<u8>,
    t_ns: Option<i64>,
    level: Option<Level>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Marks {
    level: Option<Level>,
    truncated: bool,
    invalid_utf8: bool,
}

struct Framer {
    context: Context,
    out: Framed,
    cut: Cut,
    pending: [Option<Pending>; 3],
    marks: HashMap<Marks, u32>,
}

impl Framer {
    fn run(&mut self, input: &[u8]) {
        let mut at = 0;
        while at < input.len() && self.out.columns.text.len() < BATCH_TEXT_BYTES {
            let rest = &input[at..];
            let newline = memchr(b'\n', &rest[..rest.len().min(MAX_LINE_BYTES + 1)]);
            if self.out.skipping == Skipping::Line {
                let newline = memchr(b'\n', rest);
                at += newline.map_or(rest.len(), |newline| newline + 1);
                if newline.is_some() {
                    self.out.skipping = Skipping::No;
                }
                self.allow_cut(at);
                continue;
            }
            match newline {
                Some(newline) => {
                    at += newline + 1;
                    self.line(&rest[..newline], at);
                }
                None if rest.len() > MAX_LINE_BYTES => {
                    at += MAX_LINE_BYTES;
                    self.overlong(&rest[..MAX_LINE_BYTES], at);
                }
                None if self.context.is_end => {
                    at = input.len();
                    self.line(rest, at);
                }
                None => break,
            }
            self.allow_cut(at);
        }
        let is_stuck = self.context.is_full && self.cut.consumed == 0;
        if (self.context.is_end && at == input.len()) || is_stuck {
            self.give_up_waiting(at);
        }
    }

    fn allow_cut(&mut self, consumed: usize) {
        if self.pending.iter().all(Option::is_none) {
            self.cut = Cut {
                consumed,
                lines: self.out.columns.t_ns.len(),
                text: self.out.columns.text.len(),
                last_t_ns: self.out.last_t_ns,
                skipping: self.out.skipping,
            };
        }
    }

    /// One physical line, without its newline.
    fn line(&mut self, line: &[u8], end: usize) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return;
        }
        let parsed = self.context.format.parse(line, self.context.now_ns);
        if self.out.skipping == Skipping::Parts(parsed.stream) {
            if !parsed.is_partial {
                self.out.skipping = Skipping::No;
            }
            return;
        }
        let slot = parsed.stream.index();
        if parsed.is_partial || self.pending[slot].is_some() {
            let pending = self.pending[slot].get_or_insert_with(|| Pending {
                text: Vec::new(),
                t_ns: parsed.t_ns,
                level: parsed.level,
            });
            pending.text.extend_from_slice(&parsed.text);
            let is_over = pending.text.len() > MAX_LINE_BYTES;
            if parsed.is_partial && !is_over {
                return;
            }
            let whole = self.pending[slot].take().expect("just filled");
            self.emit(&whole.text, whole.t_ns, parsed.stream, whole.level, is_over, end);
            if parsed.is_partial {
                self.out.skipping = Skipping::Parts(parsed.stream);
            }
            return;
        }
        self.emit(&parsed.text, parsed.t_ns, parsed.stream, parsed.level, false, end);
    }

    fn overlong(&mut self, line: &[u8], end: usize) {
        let parsed = self.context.format.parse(line, self.context.now_ns);
        self.emit(&parsed.text, parsed.t_ns, parsed.stream, parsed.level, true, end);
        self.out.skipping = Skipping::Line;
    }

    /// Takes unfinished messages as they are.
    fn give_up_waiting(&mut self, end: usize) {
        for stream in Stream::ALL {
            if let Some(pending) = self.pending[stream.index()].take() {
                let goes_on = !self.context.is_end;
                self.emit(&pending.text, pending.t_ns, stream, pending.level, goes_on, end);
                if goes_on {
                    self.out.skipping = Skipping::Parts(stream);
                }
            }
        }
        self.allow_cut(end);
    }

    fn emit(
        &mut self,
        bytes: &[u8],
        t_ns: Option<i64>,
        stream: Stream,
        level: Option<Level>,
        truncated: bool,
        end: usize,
    ) {
        let (text, invalid_utf8, cut) = bounded_text(bytes);
        let level = level.or_else(|| level::detect(text.as_bytes()));
        let marks = Marks { level, truncated: truncated || cut, invalid_utf8 };
        let metadata = self.metadata(marks);
        let t_ns = t_ns.unwrap_or_else(|| {
            self.out.last_t_ns = self.context.now_ns.max(self.out.last_t_ns.saturating_add(1));
            self.out.last_t_ns
        });
        let columns = &mut self.out.columns;
        columns.stream.push(stream.index() as u32);
        columns.t_ns.push(t_ns);
        columns.metadata.push(metadata);
        columns.text.push_str(&text);
        columns.text_end.push(columns.text.len() as u32);
        columns.source_end.push(end as u32);
        self.out.truncated += u64::from(marks.truncated);
        self.out.invalid_utf8 += u64::from(invalid_utf8);
    }

    fn metadata(&mut self, marks: Marks) -> u32 {
        if marks == (Marks { level: None, truncated: false, invalid_utf8: false }) {
            return 0;
        }
        let sets = &mut self.out.metadata;
        *self.marks.entry(marks).or_insert_with(|| {
            let flag = |set: bool| if set { "true" } else { "" };
            sets.push(Labels::from_pairs([
                ("level", marks.level.map_or("", Level::name)),
                ("truncated", flag(marks.truncated)),
                ("invalid_utf8", flag(marks.invalid_utf8)),
            ]));
            (sets.len() - 1) as u32
        })
    }

    /// Drops what came after the last place where a batch may end.
    fn finish(mut self, input_len: usize) -> Framed {
        let cut = self.cut;
        assert!(cut.consumed <= input_len, "framing consumes what it was given");
        let columns = &mut self.out.columns;
        for column in [&mut columns.stream, &mut columns.metadata, &mut columns.text_end, &mut columns.source_end] {
            column.truncate(cut.lines);
        }
        columns.t_ns.truncate(cut.lines);
        columns.text.truncate(cut.text);
        self.out.consumed = cut.consumed;
        self.out.last_t_ns = cut.last_t_ns;
        self.out.skipping = cut.skipping;
        self.out
    }
}

/// Text of at most the line bound; whether bytes were replaced, and whether text was cut off.
fn bounded_text(bytes: &[u8]) -> (Cow<'_, str>, bool, bool) {
    let is_over = bytes.len() > MAX_LINE_BYTES;
    let bytes = &bytes[..bytes.len().min(MAX_LINE_BYTES)];
    match std::str::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(text), false, is_over),
        // A character that the bound cut in two is not the writer's fault.
        Err(error) if error.error_len().is_none() && bytes.len() == MAX_LINE_BYTES => {
            (String::from_utf8_lossy(&bytes[..error.valid_up_to()]), false, true)
        }
        Err(_) => {
            let mut text = String::from_utf8_lossy(bytes).into_owned();
            let is_cut = text.len() > MAX_LINE_BYTES;
            if is_cut {
                text.truncate(text.floor_char_boundary(MAX_LINE_BYTES));
            }
            (Cow::Owned(text), true, is_over || is_cut)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn context(format: Format) -> Context {
        Context { format, skipping: Skipping::No, last_t_ns: 0, now_ns: 1000, is_end: false, is_full: false }
    }

    fn texts(framed: &Framed) -> Vec<(&str, u32)> {
        let columns = &framed.columns;
        let starts = std::iter::once(0).chain(columns.text_end.iter().copied());
        let texts = starts.zip(&columns.text_end).map(|(from, to)| &columns.text[from as usize..*to as usize]);
        texts.zip(columns.source_end.iter().copied()).collect()
    }

    fn check(input: &str, context: &Context, expected: &[(&str, u32)], consumed: usize) {
        let framed = frame(input.as_bytes(), context);
        assert_eq!((texts(&framed).as_slice(), framed.consumed), (expected, consumed), "{input:?}");
    }

    #[test]
    fn lines_end_at_newlines_and_unfinished_ones_wait() {
        check("one\r\n\ntwo\nthr", &context(Format::Plain), &[("one", 5), ("two", 10)], 10);
        check("thr", &Context { is_end: true, ..context(Format::Plain) }, &[("thr", 3)], 3);
        check("", &context(Format::Plain), &[], 0);
    }

    #[test]
    fn parts_are_joined_per_stream_and_wait_for_the_last() {
        let at = "2026-11-20T06:25:00Z";
        let cri = Context { now_ns: 1_795_156_000_000_000_000, ..context(Format::Cri) };
        let part = format!("{at} stdout P hel\n");
        let other = format!("{at} stderr F err\n");
        let last = format!("{at} stdout F lo\n");
        let (p, o, l) = (part.len() as u32, other.len() as u32, last.len() as u32);
        check(&format!("{part}{other}{last}"), &cri, &[("err", p + o), ("hello", p + o + l)], (p + o + l) as usize);
        check(&format!("{other}{part}{other}"), &cri, &[("err", o)], o as usize);
        check(
            &format!("{part}{other}"),
            &Context { is_end: true, ..cri },
            &[("err", p + o), ("hel", p + o)],
            (p + o) as usize,
        );
    }

    #[test]
    fn an_overlong_line_is_cut_marked_and_covered() {
        let mut input = vec![b'x'; MAX_LINE_BYTES + 10];
        input.extend_from_slice(b"\nafter\n");
        let framed = frame(&input, &context(Format::Plain));
        assert_eq!(framed.columns.source_end, [MAX_LINE_BYTES as u32]);
        assert_eq!(framed.metadata[1].to_string(), r#"{truncated="true"}"#);
        assert_eq!((framed.consumed, framed.skipping, framed.truncated), (MAX_LINE_BYTES, Skipping::Line, 1));
        let rest = frame(&input[framed.consumed..], &Context { skipping: Skipping::Line, ..context(Format::Plain) });
        assert_eq!(texts(&rest), [("after", 17)]);
    }

    #[test]
    fn an_endless_message_is_cut_and_its_parts_are_skipped() {
        let cri = Context { now_ns: 1_795_156_000_000_000_000, is_full: true, ..context(Format::Cri) };
        let part = format!("2026-11-20T06:25:00Z stdout P {}\n", "y".repeat(16_384));
        let framed = frame(part.repeat(40).as_bytes(), &cri);
        assert_eq!((framed.columns.t_ns.len(), framed.truncated), (1, 1));
        assert_eq!(framed.columns.text.len(), MAX_LINE_BYTES);
        assert_eq!(framed.skipping, Skipping::Parts(Stream::Stdout));
        let end = "2026-11-20T06:25:00Z stdout F end\n2026-11-20T06:25:00Z stdout F next\n";
        check(end, &Context { skipping: framed.skipping, ..cri }, &[("next", end.len() as u32)], end.len());
    }

    #[test]
    fn invalid_utf8_is_kept_and_marked() {
        let framed = frame(b"bad \xff byte\n", &context(Format::Plain));
        assert_eq!(framed.columns.text, "bad \u{fffd} byte");
        assert_eq!(framed.metadata[1].to_string(), r#"{invalid_utf8="true"}"#);
    }

    #[test]
    fn lines_without_a_time_rise_from_the_last() {
        let framed = frame(b"a\nb\n", &Context { last_t_ns: 5000, ..context(Format::Plain) });
        assert_eq!((framed.columns.t_ns, framed.last_t_ns), (vec![5001, 5002], 5002));
    }

    proptest! {
        /// Lines and their places are the same however the bytes are cut into reads.
        #[test]
        fn cuts_do_not_matter(lines in proptest::collection::vec("[a-c]{0,6}", 0..30), step in 1usize..40) {
            let input = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
            let whole = frame(input.as_bytes(), &context(Format::Plain));
            let (mut at, mut window, mut pieces) = (0, step, Vec::new());
            while at < input.len() {
                let to = (at + window).min(input.len());
                let framed = frame(&input.as_bytes()[at..to], &context(Format::Plain));
                pieces.extend(texts(&framed).iter().map(|(text, end)| ((*text).to_owned(), *end + at as u32)));
                window = if framed.consumed == 0 { window + step } else { step };
                at += framed.consumed;
            }
            let expected: Vec<_> = texts(&whole).iter().map(|(text, end)| ((*text).to_owned(), *end)).collect();
            prop_assert_eq!(pieces, expected);
        }

        #[test]
        fn arbitrary_bytes_never_panic(input in proptest::collection::vec(any::<u8>(), 0..300), is_end: bool) {
            for format in [Format::Cri, Format::Docker, Format::Plain, Format::Syslog] {
                let framed = frame(&input, &Context { is_end, ..context(format) });
                prop_assert!(framed.consumed <= input.len());
            }
        }
    }
}
