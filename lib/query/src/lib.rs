//! PromQL and LogQL: parsers with source spans, and engines over what a store offers.
//!
//! Pure: no I/O, no runtime, no storage. A store fills [`Series`] or [`Lines`]; an engine asks it once per selector and
//! reads the series that it found one by one, or is handed its lines one after the other.

pub mod logql;
mod logscript;
pub mod promql;
pub mod script;

mod edges;
mod engine;
mod literal;
mod memory;
mod memory_lines;
mod mixed;
mod source;
mod span;
mod value;

pub use edges::Edges;
pub use engine::{Counting, Engine, SAMPLE_BYTES, SharedRoom};
pub use literal::{format_number, write_number};
pub use logscript::{LogScriptStore, run_log_script};
pub use memory::MemorySeries;
pub use memory_lines::MemoryLines;
pub use mixed::{MixedExpr, Sources, parse_mixed};
pub use promql::{Expr, parse, selectors};
pub use source::{
    AnyOf, LineSelect, LineVisitor, Lines, QueryError, Samples, SelectedLine, Series, SeriesSelect, SeriesSet, Tally,
    Visit, Wants, WordTest,
};
pub use span::Span;
pub use value::{Answer, Element, Point, Row, Value, Work, float_samples};
