//! Framing: from a file's bytes to messages, each with its place in the file.
//!
//! # Contracts
//! - A message's place is where it was known to be over: the end of its last line, or, where only the next line tells, one
//!   byte into that. Places rise strictly, and stores know a message by its place.
//! - A place depends on the bytes alone, not on how they were cut into reads: a store that saw some of it cuts exactly that
//!   when it is read again. Where time decides ([`Context::ends_at`]), the decision is durable before it ships.
//! - What is consumed ends at the last message taken. Where other messages are not over by then, `resume` is where the oldest
//!   of them begins: reading begins there again, and what ended before `done` is framed anew but not taken. So nothing but two offsets and [`Skipping`] is kept
//!   between two looks. A message spans at most [`MAX_SPAN_BYTES`].
//! - Messages go on from a file that was rotated away into the one begun after it ([`Context::prefix`]).
//! - A line over [`MAX_LINE_BYTES`] is cut there and marked; the rest is skipped, but covered by the next range. Of a message
//!   of several lines the rest becomes a message of its own.

use memchr::memchr;
use model::{Labels, LogColumns, MAX_LINE_BYTES};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::compose::{Composer, Message};
use super::encoding::Encoding;
use super::filter::{Bucket, Dropped, Filter};
use super::multiline::{Joining, State};
use super::parse::content::Content;
use super::parse::{Format, Level, Stream};

/// Bytes of text after which a batch is closed.
const BATCH_TEXT_BYTES: usize = 512 * 1024;
/// A message whose bytes reach further is over.
const MAX_SPAN_BYTES: usize = MAX_LINE_BYTES + MAX_LINE_BYTES / 2;
/// A read this long, from the oldest message that is not over, always holds what lets it go on: a span and a line.
pub const MAX_READ_BYTES: usize = 3 * MAX_LINE_BYTES;

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

/// What a source says about its lines.
#[derive(Debug, Default)]
pub struct Rules {
    pub multiline: Option<Joining>,
    pub content: Option<Content>,
    pub filter: Filter,
}

/// What framing is told besides the bytes.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub rules: &'a Rules,
    pub format: Format,
    pub encoding: Encoding,
    pub skipping: Skipping,
    pub last_t_ns: i64,
    pub now_ns: i64,
    /// Lines before this are too old.
    pub oldest_ns: i64,
    pub bucket: Option<&'a Mutex<Bucket>>,
    /// The end of the file before this one, with messages that were not over there.
    pub prefix: &'a [u8],
    /// So much of the input was taken before.
    pub done: usize,
    /// Nothing will follow these bytes: an unterminated line is a line.
    pub is_end: bool,
    /// Here everything is over, whatever comes later.
    pub ends_at: Option<usize>,
}

impl<'a> Context<'a> {
    pub fn new(rules: &'a Rules, format: Format, now_ns: i64) -> Context<'a> {
        Context {
            rules,
            format,
            encoding: Encoding::Utf8,
            skipping: Skipping::No,
            last_t_ns: 0,
            now_ns,
            oldest_ns: i64::MIN,
            bucket: None,
            prefix: &[],
            done: 0,
            is_end: false,
            ends_at: None,
        }
    }
}

/// What came of the bytes. Lines name [`Stream`]s by their index; places are relative to `done`.
#[derive(Debug, Default)]
pub struct Framed {
    pub columns: LogColumns,
    pub metadata: Vec<Labels>,
    /// The place of the last message taken; all that was read when every message is over.
    pub consumed: usize,
    /// Where the oldest message that is not over begins; `consumed` when there is none.
    pub resume: usize,
    /// How far was read.
    pub read: usize,
    pub is_holding: bool,
    /// It begins in the prefix.
    pub needs_prefix: bool,
    /// Messages that are not over have no unfinished part: only the next line, or time, can end them.
    pub waits: bool,
    pub last_t_ns: i64,
    /// At `resume`.
    pub skipping: Skipping,
    pub truncated: u64,
    pub invalid_utf8: u64,
    pub dropped: Dropped,
}

/// Cuts `input` into messages until it ends or a batch is full.
pub fn frame(input: &[u8], context: &Context<'_>) -> Framed {
    let mut framer = Framer {
        context: *context,
        composer: Composer::new(context.last_t_ns),
        skipping: context.skipping,
        in_prefix: true,
        pending: [None, None, None],
        last_end: context.done,
    };
    framer.cut(context.prefix, true);
    framer.in_prefix = false;
    let is_ended = context.ends_at.is_some_and(|at| at <= input.len());
    let input = if is_ended { &input[..context.ends_at.unwrap_or(0)] } else { input };
    let at = framer.cut(input, is_ended || context.is_end);
    if is_ended && at == input.len() {
        framer.end_all(at);
    }
    framer.finish(at)
}

/// A message that is not over.
#[derive(Debug)]
struct Pending {
    text: Vec<u8>,
    t_ns: Option<i64>,
    level: Option<Level>,
    state: State,
    /// The last line of it goes on in another part.
    is_partial: bool,
    /// `None` in the prefix.
    start: Option<usize>,
    /// What was passed over when it began.
    skipping: Skipping,
}

struct Framer<'a> {
    context: Context<'a>,
    composer: Composer,
    skipping: Skipping,
    in_prefix: bool,
    pending: [Option<Pending>; 3],
    /// The place of the last message taken.
    last_end: usize,
}

/// A line with its container's envelope taken off, and where it is.
struct Line<'a> {
    text: &'a [u8],
    stream: Stream,
    is_partial: bool,
    start: usize,
    end: usize,
}

impl Framer<'_> {
    /// Takes line by line; answers how far.
    fn cut(&mut self, input: &[u8], is_end: bool) -> usize {
        let encoding = self.context.encoding;
        let mut at = 0;
        while at < input.len() && self.composer.columns.text.len() < BATCH_TEXT_BYTES {
            let rest = &input[at..];
            if self.skipping == Skipping::Line {
                let newline = encoding.newline(rest);
                at += newline.map_or(rest.len(), |(_, next)| next);
                if newline.is_some() {
                    self.skipping = Skipping::No;
                }
                continue;
            }
            let start = at;
            let found = match encoding {
                Encoding::Utf8 => memchr(b'\n', &rest[..rest.len().min(MAX_LINE_BYTES + 1)]).map(|at| (at, at + 1)),
                _ => encoding.newline(&rest[..rest.len().min(MAX_LINE_BYTES + 2)]),
            };
            match found {
                Some((end, next)) => {
                    at += next;
                    self.line(&rest[..end], start, at);
                }
                None if rest.len() > MAX_LINE_BYTES => {
                    at += MAX_LINE_BYTES;
                    self.overlong(&rest[..MAX_LINE_BYTES], start, at);
                }
                None if is_end => {
                    at = input.len();
                    self.line(rest, start, at);
                }
                None => break,
            }
        }
        at
    }

    /// One physical line, without its newline.
    fn line(&mut self, line: &[u8], start: usize, end: usize) {
        let decoded = self.context.encoding.decode(line);
        let line = decoded.strip_suffix(b"\r").unwrap_or(&decoded);
        let is_blank = line.is_empty();
        if is_blank && self.pending[Stream::Unnamed.index()].is_none() {
            return;
        }
        let parsed = self.context.format.parse(line, self.context.now_ns);
        if self.skipping == Skipping::Parts(parsed.stream) {
            if !parsed.is_partial {
                self.skipping = Skipping::No;
            }
            return;
        }
        let (t_ns, level, stream, is_partial) = (parsed.t_ns, parsed.level, parsed.stream, parsed.is_partial);
        let line = Line { text: &parsed.text, stream, is_partial, start, end };
        let slot = stream.index();
        let mut pending = self.pending[slot].take();
        if let Some(joined) = &mut pending
            && self.join(joined, &line)
        {
            self.keep_or_end(pending, &line);
            return;
        }
        if let Some(over) = pending {
            self.end_before(over, &line);
        }
        if is_blank {
            return;
        }
        let state = self.context.rules.multiline.as_ref().map_or(State::Whole, |joining| joining.begin(line.text));
        if state == State::Whole && !is_partial {
            self.take(line.text, t_ns, stream, level, false, end);
            return;
        }
        let start = (!self.in_prefix).then_some(start);
        let text = line.text.to_vec();
        let begun = Pending { text, t_ns, level, state, is_partial, start, skipping: self.skipping };
        self.keep_or_end(Some(begun), &line);
    }

    /// Adds a line to a message, if it belongs to it and there is room.
    fn join(&self, pending: &mut Pending, line: &Line<'_>) -> bool {
        if pending.is_partial {
            pending.text.extend_from_slice(line.text);
            pending.is_partial = line.is_partial;
            return true;
        }
        let Some(joining) = &self.context.rules.multiline else { return false };
        let Some(state) = joining.join(pending.state, line.text) else { return false };
        if pending.text.len() + 1 + line.text.len() > MAX_LINE_BYTES || self.span(pending, line.end) > MAX_SPAN_BYTES {
            return false;
        }
        pending.text.push(b'\n');
        pending.text.extend_from_slice(line.text);
        (pending.state, pending.is_partial) = (state, line.is_partial);
        true
    }

    fn span(&self, pending: &Pending, end: usize) -> usize {
        match (self.in_prefix, pending.start) {
            (false, Some(start)) => end - start,
            // Where in the prefix is not known: it is taken whole.
            (false, None) => end + self.context.prefix.len(),
            (true, _) => end,
        }
    }

    /// A message that a line was added to waits for more, unless it is complete or too long.
    fn keep_or_end(&mut self, pending: Option<Pending>, line: &Line<'_>) {
        let Some(pending) = pending else { return };
        let is_over = pending.text.len() > MAX_LINE_BYTES || self.span(&pending, line.end) > MAX_SPAN_BYTES;
        if is_over {
            self.take(&pending.text, pending.t_ns, line.stream, pending.level, true, line.end);
            if pending.is_partial {
                self.skipping = Skipping::Parts(line.stream);
            }
        } else if pending.is_partial || pending.state != State::Whole {
            self.pending[line.stream.index()] = Some(pending);
        } else {
            self.take(&pending.text, pending.t_ns, line.stream, pending.level, false, line.end);
        }
    }

    /// The line that tells that a message is over is not of it.
    fn end_before(&mut self, over: Pending, line: &Line<'_>) {
        let is_full = over.text.len() + 1 + line.text.len() > MAX_LINE_BYTES;
        let goes_on = || {
            let joining = self.context.rules.multiline.as_ref();
            joining.is_some_and(|joining| joining.join(over.state, line.text).is_some())
        };
        let truncated = is_full && goes_on();
        self.take(over.text.trim_ascii_end(), over.t_ns, line.stream, over.level, truncated, line.start + 1);
    }

    fn overlong(&mut self, line: &[u8], start: usize, end: usize) {
        let decoded = self.context.encoding.decode(line);
        let parsed = self.context.format.parse(&decoded, self.context.now_ns);
        let (t_ns, level, stream) = (parsed.t_ns, parsed.level, parsed.stream);
        let line = Line { text: &parsed.text, stream, is_partial: false, start, end };
        if let Some(over) = self.pending[stream.index()].take() {
            self.end_before(over, &line);
        }
        self.take(line.text, t_ns, stream, level, true, end);
        self.skipping = Skipping::Line;
    }

    /// Time, or the end of the file, decides that all is over; each message has a place of its own.
    fn end_all(&mut self, at: usize) {
        let count = self.pending.iter().flatten().count();
        let mut place = (at + 1).saturating_sub(count).max(self.last_end + 1).min(at);
        for stream in Stream::ALL {
            if let Some(over) = self.pending[stream.index()].take() {
                self.take(over.text.trim_ascii_end(), over.t_ns, stream, over.level, false, place);
                place = (place + 1).min(at);
            }
        }
    }

    fn take(
        &mut self,
        bytes: &[u8],
        t_ns: Option<i64>,
        stream: Stream,
        level: Option<Level>,
        truncated: bool,
        end: usize,
    ) {
        if self.in_prefix || end <= self.context.done {
            return;
        }
        self.last_end = end;
        let end = (end - self.context.done) as u32;
        self.composer.add(Message { bytes, t_ns, stream, level, truncated, end }, &self.context);
    }

    fn finish(self, read: usize) -> Framed {
        let oldest = self.pending.iter().flatten().min_by_key(|pending| pending.start);
        let consumed = if oldest.is_some() { self.last_end } else { read };
        let begins = oldest.map_or(consumed, |pending| pending.start.unwrap_or(0));
        let Composer { columns, metadata, last_t_ns, truncated, invalid_utf8, dropped, .. } = self.composer;
        Framed {
            columns,
            metadata,
            consumed,
            resume: begins.min(consumed),
            read,
            is_holding: oldest.is_some(),
            needs_prefix: oldest.is_some_and(|pending| pending.start.is_none()),
            waits: oldest.is_some() && self.pending.iter().flatten().all(|pending| !pending.is_partial),
            last_t_ns,
            skipping: oldest.map_or(self.skipping, |pending| pending.skipping),
            truncated,
            invalid_utf8,
            dropped,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use service::config::Multiline;

    use super::*;

    const NOW_NS: i64 = 1_795_156_000_000_000_000;

    fn joined(multiline: &str) -> Rules {
        let multiline: Multiline = serde_json::from_str(multiline).expect("a good rule");
        Rules { multiline: Some(Joining::new(&multiline)), ..Rules::default() }
    }

    fn texts(framed: &Framed) -> Vec<(String, u32)> {
        let columns = &framed.columns;
        let starts = std::iter::once(0).chain(columns.text_end.iter().copied());
        let texts =
            starts.zip(&columns.text_end).map(|(from, to)| columns.text[from as usize..*to as usize].to_owned());
        texts.zip(columns.source_end.iter().copied()).collect()
    }

    /// `resume` tells where what is not over begins.
    fn check(input: &str, context: &Context<'_>, expected: &[(&str, usize)], resume: usize) {
        let framed = frame(input.as_bytes(), context);
        let expected: Vec<_> = expected.iter().map(|(text, end)| ((*text).to_owned(), *end as u32)).collect();
        assert_eq!((texts(&framed), framed.resume), (expected, resume), "{input:?}");
    }

    fn cri(stream: &str, part: &str, text: &str) -> String {
        format!("2026-11-20T06:25:00Z {stream} {part} {text}\n")
    }

    #[test]
    fn lines_end_at_newlines_and_unfinished_ones_wait() {
        let rules = Rules::default();
        let plain = Context::new(&rules, Format::Plain, 1000);
        check("one\r\n\ntwo\nthr", &plain, &[("one", 5), ("two", 10)], 10);
        check("thr", &Context { is_end: true, ..plain }, &[("thr", 3)], 3);
        check("", &plain, &[], 0);
    }

    #[test]
    fn parts_are_joined_per_stream_and_wait_for_the_last() {
        let rules = Rules::default();
        let context = Context::new(&rules, Format::Cri, NOW_NS);
        let (part, other, last) = (cri("stdout", "P", "hel"), cri("stderr", "F", "err"), cri("stdout", "F", "lo"));
        let (p, o, l) = (part.len(), other.len(), last.len());
        check(&format!("{part}{other}{last}"), &context, &[("err", p + o), ("hello", p + o + l)], p + o + l);
        // What ended before is not taken again, but what did not is.
        let taken = Context { done: p + o, ..context };
        check(&format!("{part}{other}{last}"), &taken, &[("hello", l)], p + o + l);
        check(&format!("{other}{part}{other}"), &context, &[("err", o), ("err", o + p + o)], o);
        assert_eq!(frame(format!("{other}{part}").as_bytes(), &context).consumed, o);
        let ended = Context { ends_at: Some(p + o), ..context };
        check(&format!("{part}{other}{last}"), &ended, &[("err", p + o), ("hel", p + o)], p + o);
        // From the file before.
        let prefix = format!("{other}{part}");
        let rotated = Context { prefix: prefix.as_bytes(), ..context };
        check(&format!("{other}{last}"), &rotated, &[("err", o), ("hello", o + l)], o + l);
        assert!(frame(other.as_bytes(), &rotated).needs_prefix);
    }

    #[test]
    fn events_of_several_lines_end_where_the_next_begins() {
        let rules = joined(r#"{"start": "^\\S"}"#);
        let plain = Context::new(&rules, Format::Plain, 1000);
        check("a\n b\n\n c\nd\n", &plain, &[("a\n b\n\n c", 10)], 9);
        check("a\n b\nd\n", &Context { ends_at: Some(7), ..plain }, &[("a\n b", 6), ("d", 7)], 7);
        check("a\n b\nd\n", &Context { ends_at: Some(2), ..plain }, &[("a", 2)], 2);
        check(" b\nd\n", &Context { prefix: b"a\n", ..plain }, &[("a\n b", 4)], 3);
        let traces = joined("\"java\"");
        let context = Context::new(&traces, Format::Cri, NOW_NS);
        let lines = ["a.BError: x", "\tat c", "after"].map(|text| cri("stderr", "F", text));
        let other = cri("stdout", "F", "between");
        let input = format!("{}{other}{}{}", lines[0], lines[1], lines[2]);
        let (trace_end, between_end) = (input.len() - lines[2].len() + 1, lines[0].len() + other.len());
        let expected = [("between", between_end), ("a.BError: x\n\tat c", trace_end), ("after", input.len())];
        check(&input, &context, &expected, input.len());
    }

    #[test]
    fn an_overlong_line_is_cut_marked_and_covered() {
        let rules = Rules::default();
        let plain = Context::new(&rules, Format::Plain, 1000);
        let mut input = vec![b'x'; MAX_LINE_BYTES + 10];
        input.extend_from_slice(b"\nafter\n");
        let framed = frame(&input, &plain);
        assert_eq!(framed.columns.source_end, [MAX_LINE_BYTES as u32]);
        assert_eq!(framed.metadata[1].to_string(), r#"{truncated="true"}"#);
        assert_eq!((framed.consumed, framed.skipping, framed.truncated), (MAX_LINE_BYTES, Skipping::Line, 1));
        let rest = frame(&input[framed.consumed..], &Context { skipping: Skipping::Line, ..plain });
        assert_eq!(texts(&rest), [("after".to_owned(), 17)]);
    }

    #[test]
    fn an_endless_message_is_cut_and_its_parts_are_skipped() {
        let rules = Rules::default();
        let context = Context::new(&rules, Format::Cri, NOW_NS);
        let part = cri("stdout", "P", &"y".repeat(16_384));
        let framed = frame(part.repeat(40).as_bytes(), &context);
        assert_eq!((framed.columns.t_ns.len(), framed.truncated), (1, 1));
        assert_eq!(framed.columns.text.len(), MAX_LINE_BYTES);
        assert_eq!(framed.skipping, Skipping::Parts(Stream::Stdout));
        let end = format!("{}{}", cri("stdout", "F", "end"), cri("stdout", "F", "next"));
        check(&end, &Context { skipping: framed.skipping, ..context }, &[("next", end.len())], end.len());
    }

    #[test]
    fn an_endless_event_is_cut_and_marked_and_goes_on_as_another() {
        let rules = joined(r#"{"start": "^start"}"#);
        let input = format!("start\n{}end\n", format!("{}\n", "y".repeat(9_999)).repeat(60));
        let framed =
            frame(input.as_bytes(), &Context { ends_at: Some(input.len()), ..Context::new(&rules, Format::Plain, 1) });
        let bytes: usize = texts(&framed).iter().map(|(text, _)| text.len() + 1).sum();
        assert_eq!((framed.columns.t_ns.len(), bytes, framed.truncated), (2, input.len(), 1));
    }

    #[test]
    fn invalid_utf8_is_kept_and_marked() {
        let rules = Rules::default();
        let framed = frame(b"bad \xff byte\n", &Context::new(&rules, Format::Plain, 1));
        assert_eq!(framed.columns.text, "bad \u{fffd} byte");
        assert_eq!(framed.metadata[1].to_string(), r#"{invalid_utf8="true"}"#);
    }

    #[test]
    fn lines_without_a_time_rise_from_the_last() {
        let rules = Rules::default();
        let framed = frame(b"a\nb\n", &Context { last_t_ns: 5000, ..Context::new(&rules, Format::Plain, 1000) });
        assert_eq!((framed.columns.t_ns, framed.last_t_ns), (vec![5001, 5002], 5002));
    }

    /// Reads in pieces as the reader does, from where the oldest unfinished message begins.
    fn in_pieces(input: &[u8], context: &Context<'_>, step: usize) -> Vec<(String, usize)> {
        let (mut resume, mut done, mut window, mut pieces, mut skipping) = (0, 0, step, Vec::new(), Skipping::No);
        while done < input.len() {
            let to = (resume + window).min(input.len());
            let framed = frame(&input[resume..to], &Context { done: done - resume, skipping, ..*context });
            pieces.extend(texts(&framed).into_iter().map(|(text, end)| (text, end as usize + done)));
            let consumed = resume + framed.consumed;
            if to == input.len() && resume + framed.read == to {
                break;
            }
            window = if consumed == done { window + step } else { step + consumed - resume - framed.resume };
            (resume, done, skipping) = (resume + framed.resume, consumed, framed.skipping);
        }
        pieces
    }

    proptest! {
        /// Messages and their places are the same however the bytes are cut into reads.
        #[test]
        fn cuts_do_not_matter(
            lines in proptest::collection::vec(("[a-c ]{0,6}", any::<bool>(), any::<bool>()), 0..30),
            step in 1usize..40,
            is_cri: bool,
        ) {
            let line = |(text, is_partial, is_stderr): &(String, bool, bool)| match is_cri {
                true => cri(if *is_stderr { "stderr" } else { "stdout" }, if *is_partial { "P" } else { "F" }, text),
                false => format!("{text}\n"),
            };
            let input = lines.iter().map(line).collect::<String>();
            let format = if is_cri { Format::Cri } else { Format::Plain };
            for rules in [Rules::default(), joined(r#"{"start": "^a"}"#)] {
                let context = Context::new(&rules, format, NOW_NS);
                let whole: Vec<_> = texts(&frame(input.as_bytes(), &context)).into_iter().map(|(text, end)| (text, end as usize)).collect();
                prop_assert!(whole.windows(2).all(|pair| pair[0].1 < pair[1].1), "places rise");
                prop_assert_eq!(in_pieces(input.as_bytes(), &context, step), whole);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            input in proptest::collection::vec(any::<u8>(), 0..300),
            prefix in proptest::collection::vec(any::<u8>(), 0..50),
            is_end: bool,
            ends_at in proptest::option::of(0usize..400),
        ) {
            let rules = joined(r#"{"start": "^a"}"#);
            for format in [Format::Cri, Format::Docker, Format::Plain, Format::Syslog] {
                for encoding in [Encoding::Utf8, Encoding::Utf16Le, Encoding::Utf16Be] {
                    let context = Context { is_end, ends_at, encoding, prefix: &prefix, ..Context::new(&rules, format, 1) };
                    let framed = frame(&input, &context);
                    prop_assert!(framed.consumed <= input.len() && framed.resume <= framed.consumed);
                    prop_assert!(framed.columns.source_end.is_sorted());
                }
            }
        }
    }
}
