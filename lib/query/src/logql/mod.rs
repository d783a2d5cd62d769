//! LogQL, the language of Loki 3: parser with spans, pipelines, and an engine over [`Lines`](crate::Lines).
//!
//! A log query is a stream selector and a [`Pipeline`] of stages. A metric query is a PromQL tree whose selectors are
//! range aggregations over log queries: operators, vector matching and aggregations are PromQL's own, evaluated by the
//! same engine ([`crate::Engine`]); only the leaves differ ([`RangeAggregation`]).
//!
//! What Loki has and this has not is refused by name while parsing, never ignored: `ip()`, templates beyond
//! `{{.label}}`, `{{__line__}}` and `{{__timestamp__}}`, `distinct`, `@`, `variants`, and the sketches `approx_topk`.
//! One difference is by design: a label with an empty value is an absent one, as everywhere in Binnacle.

mod engine;
mod filter;
mod format;
mod json;
mod lexer;
mod logfmt;
mod metric;
mod parser;
mod pattern;
mod pipeline;
mod range;
mod row;
mod selector;
mod stages;
#[cfg(test)]
mod tests;
mod units;

pub use engine::{LogEngine, LogEntry, LogStream};
pub use metric::MetricExpr;
pub use pipeline::{Pipeline, Processed, Runner};
pub use range::RangeAggregation;
pub use selector::LogSelector;
pub use units::{format_duration_ns, parse_bytes, parse_duration_ns};

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

/// An error as Loki words it: `parse error at line 1, col 5: …`.
pub fn describe(error: &QueryError) -> String {
    match error {
        QueryError::Parse { line, column, message } => format!("parse error at line {line}, col {column}: {message}"),
        other => other.to_string(),
    }
}
