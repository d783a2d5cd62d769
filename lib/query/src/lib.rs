//! PromQL and LogQL: parsers with source spans, and engines over what a store offers.
//!
//! Pure: no I/O, no runtime, no storage. A store fills [`Series`] or [`Lines`]; an engine asks it once per selector and
//! is handed series, or lines, one after the other.

mod source;

pub use source::{LineSelect, Lines, QueryError, SelectedLine, SelectedSeries, Series, SeriesSelect, Visit};
