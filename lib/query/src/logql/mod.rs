//! LogQL, the language of Loki 3: parser with spans, pipelines, and an engine over [`Lines`](crate::Lines).
//!
//! A log query is a stream selector and a [`Pipeline`] of stages. A metric query is a PromQL tree whose selectors are
//! range aggregations over log queries: operators, vector matching and aggregations are PromQL's own, evaluated by the
//! same engine ([`crate::Engine`]); only the leaves differ ([`RangeAggregation`]).
//!
//! Beyond Loki's grammar, what cannot be had is refused by name while parsing, never ignored: `variants`, `distinct`, `@`.
//! What differs from Loki is written down in `docs/logql.md`.

mod collect;
mod engine;
mod filter;
mod format;
mod go_regex;
mod ip;
mod json;
mod lexer;
mod literal;
mod logfmt;
mod metric;
mod parser;
mod pattern;
mod pipeline;
mod print;
mod range;
mod row;
mod selector;
mod stages;
#[cfg(test)]
mod tests;

pub use engine::{Grouped, LogEngine, LogEntry, LogQuery, LogStream};
pub use lexer::parse_duration_ns;
pub use metric::MetricExpr;
pub use pipeline::{Categories, Pipeline, Processed, Runner};
pub use range::RangeAggregation;
pub(crate) use row::EXTRACTED;
pub use selector::LogSelector;

use model::Matcher;

use crate::QueryError;

/// A parsed query.
#[derive(Debug, Clone)]
pub enum LogExpr {
    /// Lines: `{app="x"} |= "error"`.
    Log(LogSelector),
    /// Numbers: `rate({app="x"}[5m])`.
    Metric(MetricExpr),
}

/// Parses and checks a query.
pub fn parse(text: &str) -> Result<LogExpr, QueryError> {
    parser::Parser::new(text)?.query()
}

/// A range aggregation alone: the whole text is one.
pub(crate) fn parse_range_aggregation(text: &str) -> Result<RangeAggregation, QueryError> {
    parser::Parser::new(text)?.only_range_aggregation()
}

/// Whether a word names a range function.
pub(crate) fn range_function(word: &str) -> bool {
    range::RangeOp::ALL.iter().any(|(name, _)| name.eq_ignore_ascii_case(word))
}

/// Whether a word names a function that metrics have not.
pub(crate) fn reads_only_lines(word: &str) -> bool {
    matches!(word, "bytes_rate" | "bytes_over_time" | "rate_counter" | "approx_count_distinct")
}

/// The matchers of a stream selector that stands alone; `{}` has none.
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, QueryError> {
    parser::Parser::new(text)?.only_matchers()
}

/// A fault of the query as a whole.
fn fault(message: impl Into<String>) -> QueryError {
    QueryError::Parse { line: 0, column: 0, message: message.into() }
}

/// An error as Loki words it: `parse error at line 1, col 5: …`.
pub fn describe(error: &QueryError) -> String {
    match error {
        QueryError::Parse { line: 0, message, .. } => format!("parse error : {message}"),
        QueryError::Parse { line, column, message } => format!("parse error at line {line}, col {column}: {message}"),
        other => other.to_string(),
    }
}
