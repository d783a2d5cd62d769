//! Where in a query's text something stands.

use crate::QueryError;

/// A range of bytes, and the 1-based line and column (in bytes, as Prometheus counts) of its start.
///
/// Spans never take part in comparisons: two trees are equal when they say the same.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    pub start: usize,
    pub end: usize,
    pub line: usize,
    pub column: usize,
}

impl PartialEq for Span {
    fn eq(&self, _: &Span) -> bool {
        true
    }
}

impl Span {
    /// From the start of `self` to the end of `last`.
    pub fn to(self, last: Span) -> Span {
        Span { end: last.end, ..self }
    }

    pub fn error(self, message: impl Into<String>) -> QueryError {
        QueryError::Parse { line: self.line, column: self.column, message: message.into() }
    }
}

/// `line:column`, as annotations print it.
impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}
