//! Pipelines: what happens to a line between the store and the result.

use std::borrow::Cow;

use model::{Labels, Matcher};
use regex::Regex;

use super::filter::{LabelFilter, LineFilter};
use super::format::Template;
use super::json::{self, Kind, Step};
use super::logfmt;
use super::pattern::Pattern;
use super::row::{ERROR, ERROR_DETAILS, Fields, Origin, PRESERVE_ERROR, Row};
use crate::{AnyOf, SelectedLine, WordTest};

#[derive(Debug, Clone)]
pub(super) enum Stage {
    Line(LineFilter),
    Label(LabelFilter),
    /// Labels and the paths that they are taken from; all that is there if none is named.
    Json(Vec<(String, String, Vec<Step>)>),
    Logfmt {
        strict: bool,
        keep_empty: bool,
        fields: Vec<(String, String)>,
    },
    Regexp(String, Regex),
    Pattern(String, Pattern),
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
    /// The labels with their origins, where a stage may have changed them.
    pub(super) changed: Option<Fields>,
}

/// Labels by where they come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Categories {
    pub stream: Labels,
    pub metadata: Labels,
    pub parsed: Labels,
}

impl Processed<'_> {
    pub fn categories(&self, line: &SelectedLine<'_>) -> Categories {
        let merged;
        let fields = match &self.changed {
            Some(fields) => fields,
            None => {
                merged = Fields::of(line.labels, line.metadata);
                &merged
            }
        };
        let of = |origin: Origin| fields.chosen(|field| field.origin == origin);
        Categories { stream: of(Origin::Stream), metadata: of(Origin::Metadata), parsed: of(Origin::Parsed) }
    }
}

impl Pipeline {
    /// Whether every line passes as it is.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// The stages that see lines as they came from the store.
    fn untouched(&self) -> impl Iterator<Item = &LineFilter> {
        let changes = |stage: &&Stage| matches!(stage, Stage::Unpack | Stage::Decolorize(_) | Stage::LineFormat(_));
        self.stages.iter().take_while(move |stage| !changes(stage)).filter_map(|stage| match stage {
            Stage::Line(filter) => Some(filter),
            _ => None,
        })
    }

    /// What every line that passes holds, as it came from the store.
    pub fn literals(&self) -> Vec<AnyOf> {
        self.untouched().filter_map(LineFilter::required).collect()
    }

    /// What words of every line that passes match, as it came from the store.
    pub fn word_tests(&self) -> Vec<WordTest> {
        self.untouched().filter_map(LineFilter::word_test).collect()
    }

    /// Whether a line passes if, and only if, it is as [`Pipeline::literals`] and [`Pipeline::word_tests`] say, and changes
    /// in nothing.
    pub(super) fn is_told(&self) -> bool {
        self.stages.iter().all(|stage| matches!(stage, Stage::Line(filter) if filter.is_told()))
    }

    /// The parsers among its stages.
    pub fn parsers(&self) -> Vec<&'static str> {
        let name = |stage: &Stage| match stage {
            Stage::Json(_) => Some("json"),
            Stage::Logfmt { .. } => Some("logfmt"),
            Stage::Regexp(..) => Some("regexp"),
            Stage::Pattern(..) => Some("pattern"),
            Stage::Unpack => Some("unpack"),
            _ => None,
        };
        self.stages.iter().filter_map(name).collect()
    }

    /// Whether a filter asks for faulty lines.
    pub(super) fn names_error(&self) -> bool {
        self.stages.iter().any(|stage| matches!(stage, Stage::Label(filter) if filter.names_error()))
    }

    /// Runs lines through the stages, remembering labels between them.
    pub fn runner(&self) -> Runner<'_> {
        self.runner_of(false)
    }

    /// For a metric query, faulty lines are marked where it asks for them.
    pub(super) fn runner_of(&self, preserves_errors: bool) -> Runner<'_> {
        let changes = |stage: &Stage| !matches!(stage, Stage::Line(_) | Stage::Decolorize(_));
        let changes_labels = self.stages.iter().any(changes);
        Runner { pipeline: self, changes_labels, preserves_errors, merged: Merged::default() }
    }
}

/// The labels of a line before the pipeline, remembered: neighbouring lines mostly have the same.
#[derive(Default)]
struct Merged {
    stream: Labels,
    metadata: Labels,
    labels: Labels,
    fields: Fields,
}

/// Runs lines through a pipeline.
pub struct Runner<'p> {
    pipeline: &'p Pipeline,
    changes_labels: bool,
    preserves_errors: bool,
    merged: Merged,
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
        self.merge(line.labels, line.metadata);
        if rest.is_empty() {
            let labels = self.merged.labels.clone();
            return Some(Processed { labels, line: Cow::Borrowed(line.text), changed: None });
        }
        let mut row = self.row(line);
        if !rest.iter().all(|stage| stage.apply(&mut row)) {
            return None;
        }
        let (fields, line) = (row.fields, row.line);
        let labels = if self.changes_labels { fields.labels() } else { self.merged.labels.clone() };
        Some(Processed { labels, line, changed: self.changes_labels.then_some(fields) })
    }

    fn row<'a>(&self, line: &SelectedLine<'a>) -> Row<'a> {
        Row {
            stream: line.labels,
            fields: self.merged.fields.clone(),
            line: Cow::Borrowed(line.text),
            t_ns: line.t_ns,
            preserves_errors: self.preserves_errors,
        }
    }

    /// The row behind the pipeline, for what a range aggregation does with it.
    pub(super) fn row_behind<'a>(&self, line: &SelectedLine<'a>, processed: Processed<'a>) -> Row<'a> {
        let mut row = self.row(line);
        row.line = processed.line;
        if let Some(fields) = processed.changed {
            row.fields = fields;
        }
        row
    }

    fn merge(&mut self, stream: &Labels, metadata: &Labels) {
        if self.merged.stream != *stream || self.merged.metadata != *metadata || self.merged.labels.is_empty() {
            let fields = Fields::of(stream, metadata);
            let labels = if metadata.is_empty() { stream.clone() } else { fields.labels() };
            self.merged = Merged { stream: stream.clone(), metadata: metadata.clone(), labels, fields };
        }
    }
}

impl Stage {
    /// Whether the row goes on.
    fn apply(&self, row: &mut Row<'_>) -> bool {
        match self {
            Stage::Line(filter) => return filter.keeps(&row.line),
            Stage::Label(filter) => return filter.keeps(row),
            Stage::Json(paths) if paths.is_empty() => parse_json(row),
            Stage::Json(paths) => pick_json(row, paths),
            Stage::Logfmt { strict, keep_empty, fields } if fields.is_empty() => {
                parse_logfmt(row, *strict, *keep_empty)
            }
            Stage::Logfmt { strict, fields, .. } => pick_logfmt(row, *strict, fields),
            Stage::Regexp(_, regex) => {
                let line = row.line.clone();
                if let Some(captures) = regex.captures(&line) {
                    for name in regex.capture_names().flatten() {
                        row.extract(name, captures.name(name).map_or("", |found| found.as_str()));
                    }
                }
            }
            Stage::Pattern(_, pattern) => {
                let line = row.line.clone();
                pattern.extract(&line, |name, value| row.extract(name, value));
            }
            Stage::Unpack => unpack(row),
            Stage::Decolorize(codes) => {
                if let Cow::Owned(plain) = codes.replace_all(&row.line, "") {
                    row.line = Cow::Owned(plain);
                }
            }
            Stage::LineFormat(template) => match template.render(&row.fields, &row.line, row.t_ns) {
                Ok(line) => row.line = Cow::Owned(line),
                Err(details) => row.fail("TemplateFormatErr", &details),
            },
            Stage::LabelFormat(formats) => format_labels(row, formats),
            Stage::Drop(chosen) => {
                row.fields.retain(|field| !chosen.iter().any(|one| one.is(&field.label.name, &field.label.value)));
            }
            Stage::Keep(chosen) => row.fields.retain(|field| {
                let (name, value) = (&*field.label.name, &*field.label.value);
                matches!(name, ERROR | ERROR_DETAILS | PRESERVE_ERROR) || chosen.iter().any(|one| one.is(name, value))
            }),
        }
        true
    }
}

/// Templates see the labels as they were before the first of them.
fn format_labels(row: &mut Row<'_>, formats: &[(String, LabelSource)]) {
    let mut seen: Option<Fields> = None;
    for (target, source) in formats {
        match source {
            LabelSource::Template(template) => {
                let fields = seen.get_or_insert_with(|| row.fields.clone());
                match template.render(fields, &row.line, row.t_ns) {
                    Ok(value) => row.set(target, &value),
                    Err(details) => row.fail("TemplateFormatErr", &details),
                }
            }
            LabelSource::Rename(from) => {
                if let Some(field) = row.fields.find(from) {
                    let value = field.label.value.clone();
                    row.fields.set(target, value, Origin::Parsed);
                    if from != target {
                        row.fields.remove(from);
                    }
                }
            }
        }
    }
}

const JSON_ERROR: &str = "JSONParserErr";

fn parse_json(row: &mut Row<'_>) {
    let line = row.line.clone();
    if let Err(details) = json::flatten(&line, &mut |name, value| row.extract(name, value)) {
        row.fail_parsing(JSON_ERROR, details);
    }
}

/// Labels by path; one that is not there is empty.
fn pick_json(row: &mut Row<'_>, paths: &[(String, String, Vec<Step>)]) {
    let line = row.line.clone();
    match line.as_bytes().first() {
        None => return,
        Some(b'"' | b'{' | b'[') => {}
        Some(_) => return row.fail_parsing(JSON_ERROR, ""),
    }
    for (name, _, path) in paths {
        let value = match json::at_path(&line, path) {
            Ok(value) => value,
            Err(details) => {
                row.fail_parsing(JSON_ERROR, details);
                None
            }
        };
        match value {
            Some(raw) => {
                let name = row.parsed_name(name).into_owned();
                row.set(&name, &raw.value());
            }
            None if row.fields.find(name).is_none() => row.set(name, ""),
            None => {}
        }
    }
}

const LOGFMT_ERROR: &str = "LogfmtParserErr";

fn parse_logfmt(row: &mut Row<'_>, strict: bool, keep_empty: bool) {
    let line = row.line.clone();
    let fault = logfmt::pairs(&line, strict, |key, value| {
        if !value.is_empty() || keep_empty {
            row.extract(&json::sanitized(key), &value.replace('\u{FFFD}', " "));
        }
    });
    if let (Some(details), true) = (fault, strict) {
        row.fail_parsing(LOGFMT_ERROR, &details);
    }
}

/// Labels by key; one that is not there is empty.
fn pick_logfmt(row: &mut Row<'_>, strict: bool, fields: &[(String, String)]) {
    let line = row.line.clone();
    for (name, _) in fields {
        if row.parsed_name(name) == *name {
            row.set(name, "");
        }
    }
    let fault = logfmt::pairs(&line, strict, |key, value| {
        let key = json::sanitized(key);
        for (name, _) in fields.iter().filter(|(_, wanted)| *wanted == key) {
            let name = row.parsed_name(name).into_owned();
            row.set(&name, value);
        }
    });
    if let (Some(details), true) = (fault, strict) {
        row.fail_parsing(LOGFMT_ERROR, &details);
    }
}

/// The inverse of Promtail's `pack`: an object of strings, the line under `_entry`.
fn unpack(row: &mut Row<'_>) {
    let line = row.line.clone();
    if line.is_empty() {
        return;
    }
    if !line.starts_with('{') {
        return row.fail_parsing(JSON_ERROR, "expecting json object(6), but it is not");
    }
    let (mut entry, mut found) = (None, Vec::new());
    let outcome = json::each_member(&line, &mut |key, value| {
        if value.kind == Kind::Text {
            let text = value.value().into_owned();
            if key == "_entry" { entry = Some(text) } else { found.push((json::sanitized(key), text)) }
        }
        Ok(())
    });
    match (outcome, entry) {
        (Err(details), _) => row.fail_parsing(JSON_ERROR, details),
        (Ok(()), Some(entry)) => {
            found.iter().for_each(|(name, value)| row.extract(name, value));
            row.line = Cow::Owned(entry);
        }
        (Ok(()), None) => {}
    }
}
