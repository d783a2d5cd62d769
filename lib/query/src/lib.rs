//! PromQL and LogQL: parsers with source spans, and engines over what a store offers.
//!
//! Pure: no I/O, no runtime, no storage. A store fills [`Series`] or [`Lines`]; an engine asks it once per selector and
//! is handed series, or lines, one after the other.

pub mod logql;
pub mod promql;
pub mod script;

mod engine;
mod literal;
mod memory;
mod source;
mod span;

pub use engine::{Answer, Engine, Value};
pub use literal::format_number;
pub use memory::MemorySeries;
pub use promql::{Expr, parse, selectors};
pub use source::{LineSelect, Lines, QueryError, SelectedLine, SelectedSeries, Series, SeriesSelect, Visit};
pub use span::Span;
