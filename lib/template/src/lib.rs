//! Go's text/template, for annotations, notifications and `line_format`.
//!
//! Complete enough for what Prometheus and Alertmanager hand to it: define/template/block, if, range, with, variables,
//! pipelines, trim markers, fields and methods, `missingkey=zero`, and an HTML mode that escapes what is printed.
//! Bounded: output, steps and nesting have limits, so that no template can hold a process up.
//!
//! Semantics are those of <https://pkg.go.dev/text/template>; the functions those of the two projects' documentation.

mod alertmanager;
mod builtins;
mod check;
pub mod convert;
mod exec;
mod go_time;
mod lexer;
mod loki;
mod number;
mod parser;
mod printf;
mod prometheus;
mod value;

pub use alertmanager::functions as alertmanager_functions;
pub use go_time::TimeValue;
pub use loki::functions as loki_functions;
pub use number::{format_float, humanize, humanize_duration};
pub use prometheus::{Context as PrometheusContext, Query, functions as prometheus_functions};
pub use value::{Functions, Kv, Object, Value};

use std::collections::HashMap;
use std::sync::Arc;

use parser::Node;

/// What a template may print at most.
pub const MAX_OUTPUT_BYTES: usize = 1024 * 1024;

/// Where and why a template failed, as Go says it: `template: name:line:column: …`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: {name}:{line}:{column}: {message}")]
pub struct TemplateError {
    pub name: String,
    pub line: usize,
    pub column: usize,
    pub message: String,
}

/// Whether printed values are escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Text,
    /// Every printed value is HTML-escaped unless it came out of `safeHtml`.
    Html,
}

/// Named templates that may call one another.
#[derive(Debug, Clone, Default)]
pub struct Templates {
    bodies: HashMap<String, Arc<Vec<Node>>>,
}

impl Templates {
    pub fn new() -> Templates {
        Templates::default()
    }

    /// Adds a text under a name, and what it `define`s; a later definition replaces an earlier one.
    pub fn parse(&mut self, name: &str, text: &str) -> Result<(), TemplateError> {
        let parsed = parser::parse(name, text)?;
        for (defined, body) in parsed.defined {
            self.bodies.insert(defined, Arc::new(body));
        }
        self.bodies.insert(name.to_owned(), Arc::new(parsed.body));
        Ok(())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.bodies.contains_key(name)
    }

    /// Parses a text and refuses functions and variables that it could not have, as Go does when it parses.
    /// `variables` are those that whoever runs it declares before it.
    pub fn check(name: &str, text: &str, functions: &Functions, variables: &[&str]) -> Result<(), TemplateError> {
        let parsed = parser::parse(name, text)?;
        let defined = parsed.defined.iter().map(|(name, body)| (name.as_str(), body));
        defined
            .chain([(name, &parsed.body)])
            .try_for_each(|(name, body)| check::check(name, body, functions, variables))
    }

    /// Runs a named template on `dot`.
    pub fn execute(&self, name: &str, dot: &Value, functions: &Functions, mode: Mode) -> Result<String, TemplateError> {
        self.execute_with(name, dot, functions, &[], mode)
    }

    /// The same; `locals` are values that the template calls like functions without arguments.
    pub fn execute_with(
        &self,
        name: &str,
        dot: &Value,
        functions: &Functions,
        locals: &[(&str, Value)],
        mode: Mode,
    ) -> Result<String, TemplateError> {
        exec::run(&self.bodies, name, dot, functions, locals, mode)
    }

    /// Runs a text that may call the named templates.
    pub fn expand(&self, text: &str, dot: &Value, functions: &Functions, mode: Mode) -> Result<String, TemplateError> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        let mut with_text = self.clone();
        with_text.parse("", text)?;
        with_text.execute("", dot, functions, mode)
    }
}

#[cfg(test)]
mod tests;
