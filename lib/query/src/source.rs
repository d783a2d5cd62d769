//! What a store must offer to be queried.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use model::{Histogram, Labels, Matcher};
use regex::bytes::Regex;

use crate::Edges;
use crate::logql::EXTRACTED;

/// Why a query got no answer. The HTTP edge maps these to Prometheus' error types.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueryError {
    /// The text is not a query (`bad_data`, 400). Positions are 1-based.
    #[error("{line}:{column}: parse error: {message}")]
    Parse { line: usize, column: usize, message: String },
    /// The parameters make no sense (`bad_data`, 400).
    #[error("{0}")]
    BadData(String),
    /// The query is well formed but cannot be evaluated (`execution`, 422).
    #[error("{0}")]
    Execution(String),
    /// A limit on samples, series, lines or memory was passed (`execution`, 422).
    #[error("query processing would {0}")]
    Limit(String),
    /// A limit of the tenant's was passed, by its name (`execution`, 422; 400 in Loki's API).
    #[error("{message}")]
    Refused { limit: &'static str, message: String },
    /// `timeout`, 503.
    #[error("query timed out in {0}")]
    Timeout(&'static str),
    /// `canceled`, 503.
    #[error("query was canceled in {0}")]
    Canceled(&'static str),
    /// The store failed (`internal`, 500).
    #[error("{0}")]
    Storage(String),
}

impl QueryError {
    /// For people: the error, the line of the query that it is in, and a caret under the place.
    pub fn pointed(&self, text: &str) -> String {
        let QueryError::Parse { line, column, .. } = self else { return self.to_string() };
        // A fault of the whole query has no place in it.
        let Some(index) = line.checked_sub(1) else { return self.to_string() };
        let wrong = text.lines().nth(index).unwrap_or("");
        let before: String = wrong.char_indices().take_while(|(at, _)| at + 1 < *column).map(|(_, c)| c).collect();
        let blank: String = before.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        format!("{self}\n  {wrong}\n  {blank}^")
    }
}

/// What a visitor answers: go on, or stop early.
pub type Visit = ControlFlow<()>;

/// One selector's request to a metric store.
#[derive(Debug, Clone)]
pub struct SeriesSelect<'a> {
    pub tenant: &'a str,
    pub matchers: &'a [Matcher],
    /// Inclusive bounds of the samples wanted.
    pub start_ms: i64,
    pub end_ms: i64,
    pub wants: Wants,
    /// Stop with [`QueryError::Timeout`] past this.
    pub deadline: Option<Instant>,
}

/// What of the samples will be looked at: a hint that lets a store read less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wants {
    #[default]
    Values,
    /// Timestamps, and whether a value is the staleness marker.
    Presence,
}

/// Samples of one series in rising time, each instant once. Staleness markers are kept; of a stale histogram the sum is
/// the marker, and `values` holds it too.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    pub timestamps_ms: Vec<i64>,
    pub values: Vec<f64>,
    /// Samples that are native histograms, by index, rising; `values` holds a placeholder there.
    pub histograms: Vec<(u32, Arc<Histogram>)>,
    /// When counting began, one per sample (0: unknown), or empty where none is known.
    pub starts_ms: Vec<i64>,
}

impl Samples {
    pub fn clear(&mut self) {
        self.timestamps_ms.clear();
        self.values.clear();
        self.histograms.clear();
        self.starts_ms.clear();
    }

    pub fn len(&self) -> usize {
        self.timestamps_ms.len()
    }

    pub fn is_empty(&self) -> bool {
        self.timestamps_ms.is_empty()
    }
}

/// A store of series.
pub trait Series: Send + Sync {
    /// Finds the series that match and may have a sample in the range.
    fn select<'s>(&'s self, request: &SeriesSelect<'_>) -> Result<Box<dyn SeriesSet + 's>, QueryError>;
}

/// What one selector found: series by rising labels, each once, read one by one, from several threads at once.
pub trait SeriesSet: Send + Sync {
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn labels(&self, i: usize) -> &Labels;

    /// The samples of series `i` in the range, replacing what `into` held. May be none.
    fn read(&self, i: usize, into: &mut Samples) -> Result<(), QueryError>;
}

/// A set whose samples are at hand. The rows are in rising order of their labels.
impl SeriesSet for Vec<(Labels, Samples)> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn labels(&self, i: usize) -> &Labels {
        &self[i].0
    }

    fn read(&self, i: usize, into: &mut Samples) -> Result<(), QueryError> {
        into.clone_from(&self[i].1);
        Ok(())
    }
}

/// One selector's request to a log store.
#[derive(Debug, Clone)]
pub struct LineSelect<'a> {
    pub tenant: &'a str,
    pub matchers: &'a [Matcher],
    /// `start_ns` is inclusive, `end_ns` exclusive.
    pub start_ns: i64,
    pub end_ns: i64,
    /// Newest first.
    pub backward: bool,
    /// A wanted line holds a text of each; the store hands out no others.
    pub contains: &'a [AnyOf],
    /// Nor does it hand out lines without a word for each of these.
    pub words: &'a [WordTest],
    /// The labels by which what is counted is told apart, if they are known: others may be left out of [`Lines::tally`].
    pub told_by: Option<&'a [String]>,
    pub deadline: Option<Instant>,
}

impl LineSelect<'_> {
    /// Whether what is counted may be told apart by a label of a line's own: by its name, or by that which it has where the
    /// stream has one of its name.
    pub fn may_be_told_by(&self, label: &str) -> bool {
        let is_its = |name: &String| name == label || name.strip_suffix(EXTRACTED) == Some(label);
        self.told_by.is_none_or(|names| names.iter().any(is_its))
    }
}

/// Texts of which a line holds at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnyOf {
    pub texts: Vec<String>,
    /// Of ASCII letters.
    pub ignore_case: bool,
}

impl AnyOf {
    pub fn one(text: impl Into<String>) -> AnyOf {
        AnyOf { texts: vec![text.into()], ignore_case: false }
    }

    /// Whether a text holds one of them.
    pub fn is_in(&self, text: &str) -> bool {
        let holds = |one: &String| match self.ignore_case {
            false => memchr::memmem::find(text.as_bytes(), one.as_bytes()).is_some(),
            true => {
                one.is_empty()
                    || text.as_bytes().windows(one.len()).any(|part| part.eq_ignore_ascii_case(one.as_bytes()))
            }
        };
        self.texts.iter().any(holds)
    }
}

/// What some word of a line is asked for, a word being a run of ASCII letters, digits and bytes past ASCII.
#[derive(Debug, Clone)]
pub struct WordTest {
    /// Its matches are parts of words, so a line matches if, and only if, one of its words does.
    pub regex: Regex,
    /// What a word that matches holds, if something is known.
    pub holds: Option<AnyOf>,
    /// No match is shorter.
    pub min_bytes: usize,
}

/// One line as a log store hands it out.
#[derive(Debug, Clone, Copy)]
pub struct SelectedLine<'a> {
    pub labels: &'a Labels,
    pub metadata: &'a Labels,
    pub t_ns: i64,
    pub text: &'a str,
}

/// How many lines of one label set count at one of the edges asked for.
#[derive(Debug, Clone, Copy)]
pub struct Tally<'a> {
    pub labels: &'a Labels,
    pub metadata: &'a Labels,
    /// The place of the edge.
    pub edge: usize,
    pub lines: u64,
    /// The bytes of their texts, if asked for.
    pub bytes: u64,
}

/// Takes lines of one thread of a [`Lines::scan`].
pub type LineVisitor<'a> = Box<dyn FnMut(SelectedLine<'_>) -> Visit + Send + 'a>;

/// A store of lines.
pub trait Lines: Send + Sync {
    /// Hands the matching lines to `visit` in time order over all streams (falling when `backward`), ties in the order of
    /// their origin. Stops without reading the rest when `visit` breaks.
    fn select(
        &self,
        request: &LineSelect<'_>,
        visit: &mut dyn FnMut(SelectedLine<'_>) -> Visit,
    ) -> Result<(), QueryError>;

    /// Counts each matching line once at the first of the rising `edges` (ns) that it is not behind; what is behind the last
    /// counts nowhere.
    fn tally(
        &self,
        request: &LineSelect<'_>,
        edges: &[i64],
        with_bytes: bool,
        visit: &mut (dyn FnMut(Tally<'_>) -> Visit + Send),
    ) -> Result<(), QueryError> {
        let mut places = Edges::new(edges);
        self.select(request, &mut |line| {
            let SelectedLine { labels, metadata, t_ns, text } = line;
            let (edge, bytes) = (places.of(t_ns), if with_bytes { text.len() as u64 } else { 0 });
            if places.is_behind_all(edge) {
                return ControlFlow::Continue(());
            }
            visit(Tally { labels, metadata, edge, lines: 1, bytes })
        })
    }

    /// Hands each matching line to one of the visitors, in no order, from as many threads as there are visitors. One that
    /// breaks gets no more.
    fn scan(&self, request: &LineSelect<'_>, visitors: &mut [LineVisitor<'_>]) -> Result<(), QueryError> {
        match visitors.first_mut() {
            Some(visitor) => self.select(request, visitor),
            None => Ok(()),
        }
    }
}
