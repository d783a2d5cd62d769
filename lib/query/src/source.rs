//! What a store must offer to be queried.

use std::ops::ControlFlow;
use std::time::Instant;

use model::{Labels, Matcher};

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
    /// Stop with [`QueryError::Timeout`] past this.
    pub deadline: Option<Instant>,
}

/// One series with its samples in the range, in rising time, each instant once. Staleness markers are kept.
#[derive(Debug, Clone)]
pub struct SelectedSeries {
    pub labels: Labels,
    pub timestamps_ms: Vec<i64>,
    pub values: Vec<f64>,
}

/// A store of series.
pub trait Series: Send + Sync {
    /// Hands every series that matches and has a sample in the range to `visit`, each once, in any order.
    fn select(
        &self,
        request: &SeriesSelect<'_>,
        visit: &mut dyn FnMut(SelectedSeries) -> Visit,
    ) -> Result<(), QueryError>;
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
    /// Substrings that every wanted line holds: the store may use them to skip, the engine verifies.
    pub contains: &'a [String],
    pub deadline: Option<Instant>,
}

/// One line as a log store hands it out.
#[derive(Debug, Clone, Copy)]
pub struct SelectedLine<'a> {
    pub labels: &'a Labels,
    pub metadata: &'a Labels,
    pub t_ns: i64,
    pub text: &'a str,
}

/// A store of lines.
pub trait Lines: Send + Sync {
    /// Hands the matching lines to `visit` in time order over all streams (falling when `backward`), ties in the order of
    /// their origin. Stops without reading the rest when `visit` breaks.
    fn select(
        &self,
        request: &LineSelect<'_>,
        visit: &mut dyn FnMut(SelectedLine<'_>) -> Visit,
    ) -> Result<(), QueryError>;
}
