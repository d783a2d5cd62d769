//! Pipelines: what happens to a line between the store and the result.

use std::borrow::Cow;

use model::{Labels, LabelsBuilder, Matcher};
use regex::Regex;

use super::filter::{LabelFilter, LineFilter};
use super::format::Template;
use super::json::{self, Step};
use super::logfmt;
use super::pattern::Pattern;
use super::row::Row;
use crate::SelectedLine;

#[derive(Debug, Clone)]
pub(super) enum Stage {
    Line(LineFilter),
    Label(LabelFilter),
    Json(Vec<(String, Vec<Step>)>),
    Logfmt { strict: bool, keep_empty: bool, fields: Vec<(String, String)> },
    Regexp(Regex),
    Pattern(Pattern),
    Unpack,
    Decolorize(Regex),
    LineFormat(Template),
    LabelFormat(Vec<(String, LabelSource)>),
    Drop(Vec<Chosen>),
    Keep(Vec<Chosen>),
}

#[derive(Debug, Clone)]
pub(super) enum LabelSource {
    Rename(String),
    Template(Template),
}

/// A label of `drop` or `keep`: by name, or only where its value matches.
#[derive(Debug, Clone)]
pub(super) enum Chosen {
    Name(String),
    Match(Matcher),
}

impl Chosen {
    fn is(&self, name: &str, value: &str) -> bool {
        match self {
            Chosen::Name(chosen) => chosen == name,
            Chosen::Match(matcher) => matcher.name == name && matcher.matches(value),
        }
    }
}

/// Compiled stages. Lines are run through it by a [`Runner`], one after the other.
#[derive(Debug, Clone, Default)]
pub struct Pipeline {
    pub(super) stages: Vec<Stage>,
}

/// A line that passed.
#[derive(Debug, Clone)]
pub struct Processed<'a> {
    /// Of the stream, its structured metadata, and what was parsed.
    pub labels: Labels,
    pub line: Cow<'a, str>,
}

impl Pipeline {
    /// Texts that every line that passes holds, as it came from the store.
    pub fn literals(&self) -> Vec<String> {
        let untouched = self
            .stages
            .iter()
            .take_while(|stage| !matches!(stage, Stage::Unpack | Stage::Decolorize(_) | Stage::LineFormat(_)));
        let literal = |stage: &Stage| match stage {
            Stage::Line(filter) => filter.literal().map(str::to_owned),
            _ => None,
        };
        untouched.filter_map(literal).collect()
    }

    /// Runs lines through the stages, remembering labels between them.
    pub fn runner(&self) -> Runner<'_> {
        let changes_labels = self.stages.iter().any(|stage| !matches!(stage, Stage::Line(_) | Stage::Decolorize(_)));
        Runner { pipeline: self, changes_labels, merged: Default::default() }
    }
}

/// Runs lines through a pipeline. Neighbouring lines mostly have the same labels: they are joined once.
pub struct Runner<'p> {
    pipeline: &'p Pipeline,
    changes_labels: bool,
    merged: (Labels, Labels, Labels),
}

impl Runner<'_> {
    /// `None` if a filter drops the line.
    pub fn run<'a>(&mut self, line: &SelectedLine<'a>) -> Option<Processed<'a>> {
        // Line filters come first in most pipelines; labels wait until they are needed.
        let first = self.pipeline.stages.iter().take_while(|stage| matches!(stage, Stage::Line(_))).count();
        let (filters, rest) = self.pipeline.stages.split_at(first);
        let passes = |stage: &Stage| matches!(stage, Stage::Line(filter) if filter.keeps(line.text));
        if !filters.iter().all(passes) {
            return None;
        }
        let labels = self.merge(line.labels, line.metadata);
        if rest.is_empty() {
            return Some(Processed { labels, line: Cow::Borrowed(line.text) });
        }
        let builder = if self.changes_labels { labels.to_builder() } else { LabelsBuilder::default() };
        let mut row = Row { stream: line.labels, labels: builder, line: Cow::Borrowed(line.text), t_ns: line.t_ns };
        if !rest.iter().all(|stage| stage.apply(&mut row)) {
            return None;
        }
        let labels = if self.changes_labels { row.labels.build() } else { labels };
        Some(Processed { labels, line: row.line })
    }

    fn merge(&mut self, stream: &Labels, metadata: &Labels) -> Labels {
        if self.merged.0 != *stream || self.merged.1 != *metadata {
            let mut labels = stream.to_builder();
            for label in metadata {
                match stream.get(&label.name) {
                    Some(_) => labels.set(format!("{}_extracted", label.name), label.value.clone()),
                    None => labels.set(label.name.clone(), label.value.clone()),
                };
            }
            self.merged = (stream.clone(), metadata.clone(), labels.build());
        }
        self.merged.2.clone()
    }
}

impl Stage {
    /// Whether the row goes on.
    fn apply(&self, row: &mut Row<'_>) -> bool {
        match self {
            Stage::Line(filter) => return filter.keeps(&row.line),
            Stage::Label(filter) => return filter.keeps(row),
            Stage::Json(paths) => parse_json(row, paths),
            Stage::Logfmt { strict, keep_empty, fields } => parse_logfmt(row, *strict, *keep_empty, fields),
            Stage::Regexp(regex) => {
                let line = row.line.clone();
                if let Some(captures) = regex.captures(&line) {
                    for name in regex.capture_names().flatten() {
                        row.extracted(name, captures.name(name).map_or("", |found| found.as_str()));
                    }
                }
            }
            Stage::Pattern(pattern) => {
                let line = row.line.clone();
                pattern.extract(&line, |name, value| row.extracted(name, value));
            }
            Stage::Unpack => unpack(row),
            Stage::Decolorize(codes) => {
                if let Cow::Owned(plain) = codes.replace_all(&row.line, "") {
                    row.line = Cow::Owned(plain);
                }
            }
            Stage::LineFormat(template) => row.line = Cow::Owned(template.render(row)),
            Stage::LabelFormat(formats) => {
                for (target, source) in formats {
                    let value = match source {
                        LabelSource::Template(template) => template.render(row),
                        LabelSource::Rename(from) => {
                            let value = row.get(from).to_owned();
                            row.labels.remove(from);
                            value
                        }
                    };
                    row.labels.set(target.as_str(), value);
                }
            }
            Stage::Drop(chosen) => choose(row, chosen, false),
            Stage::Keep(chosen) => choose(row, chosen, true),
        }
        true
    }
}

fn choose(row: &mut Row<'_>, chosen: &[Chosen], keep: bool) {
    let labels = std::mem::take(&mut row.labels).build();
    for label in &labels {
        let is_chosen = chosen.iter().any(|one| one.is(&label.name, &label.value));
        if is_chosen == keep || (keep && label.name.starts_with("__error")) {
            row.labels.set(label.name.clone(), label.value.clone());
        }
    }
}

fn parse_json(row: &mut Row<'_>, paths: &[(String, Vec<Step>)]) {
    let object = match json::parse_object(&row.line) {
        Ok(object) => object,
        Err(details) => return row.fail("JSONParserErr", &details),
    };
    if paths.is_empty() {
        return json::flatten(&object, "", &mut |name, value| row.extracted(name, value));
    }
    for (name, path) in paths {
        row.extracted(name, &json::at_path(&object, path).unwrap_or_default());
    }
}

fn parse_logfmt(row: &mut Row<'_>, strict: bool, keep_empty: bool, fields: &[(String, String)]) {
    let line = row.line.clone();
    let fault = logfmt::pairs(&line, strict, |key, value| {
        if value.is_empty() && !keep_empty {
            return;
        }
        if fields.is_empty() {
            return row.extracted(&json::sanitized(key), value);
        }
        for (name, _) in fields.iter().filter(|(_, wanted)| wanted == key) {
            row.extracted(name, value);
        }
    });
    if let (Some(details), true) = (fault, strict) {
        row.fail("LogfmtParserErr", &details);
    }
}

/// The inverse of Promtail's `pack`: an object of strings, the line under `_entry`.
fn unpack(row: &mut Row<'_>) {
    let object = match json::parse_object(&row.line) {
        Ok(object) => object,
        Err(details) => return row.fail("JSONParserErr", &details),
    };
    if !object.contains_key("_entry") {
        return;
    }
    for (key, value) in &object {
        match value.as_str() {
            Some(entry) if key == "_entry" => row.line = Cow::Owned(entry.to_owned()),
            Some(text) => row.extracted(&json::sanitized(key), text),
            None => {}
        }
    }
}
