//! A line while a pipeline works on it.

use std::borrow::Cow;
use std::sync::Arc;

use model::{Label, Labels};

/// The label that says which stage failed on a line, the one that says how, and the one that says that the query asked
/// for such lines.
pub const ERROR: &str = "__error__";
pub const ERROR_DETAILS: &str = "__error_details__";
pub const PRESERVE_ERROR: &str = "__preserve_error__";

/// What a parser's label is called when its own name is taken.
pub const EXTRACTED: &str = "_extracted";

/// Where a line has a label from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Stream,
    Metadata,
    Parsed,
}

#[derive(Debug, Clone)]
pub struct Field {
    pub label: Label,
    pub origin: Origin,
}

/// The labels of a line: sorted by name, each once. A value may be empty, which is not the same as absent.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<Field>);

impl Fields {
    /// Those of a stream and of a line's structured metadata; where both have a name, the stream's keeps it.
    pub fn of(stream: &Labels, metadata: &Labels) -> Fields {
        let field = |label: &Label| Field { label: label.clone(), origin: Origin::Stream };
        let mut fields = Fields(stream.iter().map(field).collect());
        for label in metadata {
            match stream.get(&label.name) {
                Some(_) => fields.set(&format!("{}{EXTRACTED}", label.name), label.value.clone(), Origin::Metadata),
                None => fields.set(&label.name, label.value.clone(), Origin::Metadata),
            }
        }
        fields
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|field| field.label.name.as_ref().cmp(name))
    }

    pub fn find(&self, name: &str) -> Option<&Field> {
        self.place(name).ok().map(|at| &self.0[at])
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.find(name).map(|field| field.label.value.as_ref())
    }

    pub fn set(&mut self, name: &str, value: impl Into<Arc<str>>, origin: Origin) {
        match self.place(name) {
            Ok(at) => {
                self.0[at].label.value = value.into();
                self.0[at].origin = origin;
            }
            Err(at) => {
                let label = Label { name: name.into(), value: value.into() };
                self.0.insert(at, Field { label, origin });
            }
        }
    }

    pub fn remove(&mut self, name: &str) {
        if let Ok(at) = self.place(name) {
            self.0.remove(at);
        }
    }

    pub fn retain(&mut self, keep: impl FnMut(&Field) -> bool) {
        self.0.retain(keep);
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Field> {
        self.0.iter()
    }

    pub fn labels(&self) -> Labels {
        self.chosen(|_| true)
    }

    pub fn chosen(&self, is_chosen: impl Fn(&Field) -> bool) -> Labels {
        Labels::with_empty_values(self.0.iter().filter(|field| is_chosen(field)).map(|field| field.label.clone()))
    }
}

/// A line on its way.
pub struct Row<'a> {
    /// What the line had before the pipeline: parsers go round its names even when they have been dropped.
    pub stream: &'a Labels,
    pub fields: Fields,
    pub line: Cow<'a, str>,
    pub t_ns: i64,
    /// Whether the query asks for faulty lines, by a filter on their error.
    pub preserves_errors: bool,
}

impl Row<'_> {
    /// The value of a label, empty where there is none.
    pub fn text(&self, name: &str) -> &str {
        self.fields.get(name).unwrap_or("")
    }

    pub fn has_error(&self) -> bool {
        !self.text(ERROR).is_empty()
    }

    pub fn fail(&mut self, kind: &str, details: &str) {
        self.set(ERROR, kind);
        if !details.is_empty() {
            self.set(ERROR_DETAILS, details);
        }
    }

    /// A parser failed on the line.
    pub fn fail_parsing(&mut self, kind: &str, details: &str) {
        self.fail(kind, details);
        self.fields.remove(PRESERVE_ERROR);
        if self.preserves_errors {
            self.set(PRESERVE_ERROR, "true");
        }
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.fields.set(name, value, Origin::Parsed);
    }

    /// What a parser calls a label: labels of the stream and of the metadata keep their names.
    pub fn parsed_name<'n>(&self, name: &'n str) -> Cow<'n, str> {
        let is_taken = self.stream.get(name).is_some()
            || self.fields.find(name).is_some_and(|field| field.origin == Origin::Metadata);
        if is_taken { Cow::Owned(format!("{name}{EXTRACTED}")) } else { Cow::Borrowed(name) }
    }

    /// A label that a parser found. The first that finds a name sets it.
    pub fn extract(&mut self, name: &str, value: &str) {
        if name.is_empty() {
            return;
        }
        let name = self.parsed_name(name);
        if self.fields.find(&name).is_none_or(|field| field.origin != Origin::Parsed) {
            self.set(&name, value);
        }
    }
}
