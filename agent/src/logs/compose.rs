//! A batch in the making: messages become lines of text with their marks, or are dropped by what was configured.

use std::borrow::Cow;
use std::collections::HashMap;

use model::{Labels, LabelsBuilder, LogColumns, MAX_LINE_BYTES};

use super::filter::{Dropped, Reason};
use super::lines::{Context, Rules};
use super::parse::content::Fields;
use super::parse::{Level, Stream, level};

/// A whole message.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub bytes: &'a [u8],
    pub t_ns: Option<i64>,
    pub stream: Stream,
    pub level: Option<Level>,
    pub truncated: bool,
    /// Its place, from the start of the batch's range.
    pub end: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Marks {
    level: Option<Level>,
    truncated: bool,
    invalid_utf8: bool,
}

#[derive(Debug)]
pub struct Composer {
    pub columns: LogColumns,
    pub metadata: Vec<Labels>,
    pub last_t_ns: i64,
    pub truncated: u64,
    pub invalid_utf8: u64,
    pub dropped: Dropped,
    marks: HashMap<Marks, u32>,
    last_marks: (Marks, u32),
    fields: Fields,
}

impl Composer {
    pub fn new(last_t_ns: i64) -> Composer {
        Composer {
            columns: LogColumns::default(),
            metadata: vec![Labels::default()],
            last_t_ns,
            truncated: 0,
            invalid_utf8: 0,
            dropped: Dropped::default(),
            marks: HashMap::new(),
            last_marks: (Marks::default(), 0),
            fields: Fields::default(),
        }
    }

    pub fn add(&mut self, message: Message<'_>, context: &Context<'_>) {
        let rules: &Rules = context.rules;
        let (text, invalid_utf8, cut) = bounded_text(message.bytes);
        let (mut t_ns, mut level) = (message.t_ns, message.level);
        self.fields.clear();
        if let Some(content) = &rules.content {
            let found = content.read(&text, context.format, context.now_ns, &mut self.fields);
            t_ns = found.t_ns.or(t_ns);
            level = found.level.or(level);
        }
        if t_ns.is_some_and(|t_ns| t_ns < context.oldest_ns) {
            return self.dropped.add(Reason::TooOld);
        }
        let text = match rules.filter.apply(text) {
            Ok(text) => text,
            Err(reason) => return self.dropped.add(reason),
        };
        if let Some(bucket) = context.bucket
            && !bucket.lock().take(text.len(), context.now_ns)
        {
            return self.dropped.add(Reason::RateLimit);
        }
        let level = level.or_else(|| level::detect(text.as_bytes()));
        let marks = Marks { level, truncated: message.truncated || cut, invalid_utf8 };
        let metadata = if self.fields.is_empty() { self.marked(marks) } else { self.with_fields(marks, rules) };
        let t_ns = t_ns.unwrap_or_else(|| {
            self.last_t_ns = context.now_ns.max(self.last_t_ns.saturating_add(1));
            self.last_t_ns
        });
        let columns = &mut self.columns;
        columns.stream.push(message.stream.index() as u32);
        columns.t_ns.push(t_ns);
        columns.metadata.push(metadata);
        columns.text.push_str(&text);
        columns.text_end.push(columns.text.len() as u32);
        columns.source_end.push(message.end);
        self.truncated += u64::from(marks.truncated);
        self.invalid_utf8 += u64::from(invalid_utf8);
    }

    /// The metadata set of lines without fields.
    fn marked(&mut self, marks: Marks) -> u32 {
        if marks != self.last_marks.0 {
            let sets = &mut self.metadata;
            let index = *self.marks.entry(marks).or_insert_with(|| {
                sets.push(labels_of(marks).build());
                (sets.len() - 1) as u32
            });
            self.last_marks = (marks, index);
        }
        self.last_marks.1
    }

    fn with_fields(&mut self, marks: Marks, rules: &Rules) -> u32 {
        let mut labels = labels_of(marks);
        for (name, value) in self.fields.iter().filter(|(name, _)| !rules.filter.drops_field(name)) {
            labels.set(name, value);
        }
        let labels = labels.build();
        if self.metadata.last() != Some(&labels) {
            self.metadata.push(labels);
        }
        (self.metadata.len() - 1) as u32
    }
}

fn labels_of(marks: Marks) -> LabelsBuilder {
    let flag = |set: bool| if set { "true" } else { "" };
    let mut labels = LabelsBuilder::default();
    labels.set("level", marks.level.map_or("", Level::name));
    labels.set("truncated", flag(marks.truncated));
    labels.set("invalid_utf8", flag(marks.invalid_utf8));
    labels
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
