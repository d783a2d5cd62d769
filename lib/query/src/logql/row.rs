//! A line while a pipeline works on it.

use std::borrow::Cow;

use model::{Labels, LabelsBuilder};

/// The label that says which stage failed on a line, and the one that says how.
pub const ERROR: &str = "__error__";
const ERROR_DETAILS: &str = "__error_details__";

/// A line on its way.
pub struct Row<'a> {
    pub stream: &'a Labels,
    pub labels: LabelsBuilder,
    pub line: Cow<'a, str>,
    pub t_ns: i64,
}

impl<'a> Row<'a> {
    /// A row behind its pipeline.
    pub fn of(stream: &'a Labels, labels: &Labels, t_ns: i64) -> Row<'a> {
        Row { stream, labels: labels.to_builder(), line: Cow::Borrowed(""), t_ns }
    }

    pub fn get(&self, name: &str) -> &str {
        self.labels.get(name).unwrap_or("")
    }

    pub fn has_error(&self) -> bool {
        self.labels.get(ERROR).is_some()
    }

    pub fn fail(&mut self, kind: &str, details: &str) {
        self.labels.set(ERROR, kind).set(ERROR_DETAILS, details);
    }

    /// A label that a parser found. The stream's own labels stay; what collides with them is called `…_extracted`.
    pub fn extracted(&mut self, name: &str, value: &str) {
        match self.stream.get(name) {
            Some(_) => self.labels.set(format!("{name}_extracted"), value),
            None => self.labels.set(name, value),
        };
    }
}
