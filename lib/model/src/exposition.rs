//! The text formats: Prometheus 0.0.4 and OpenMetrics 1.0, one sample per line.
//!
//! `name{label="value",…} value [timestamp]`; 0.0.4 timestamps are milliseconds, OpenMetrics' are seconds and its samples
//! may have exemplars behind ` # `. Comments carry types, help and units. One bad line refuses the whole exposition, as
//! Prometheus does; a comment that says nothing known is passed over.

use crate::{Exemplar, Labels, LabelsBuilder, METRIC_NAME, MetricKind, MetricMetadata, is_label_name};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    Prometheus,
    OpenMetrics,
}

impl TextFormat {
    pub fn of_content_type(content_type: &str) -> TextFormat {
        let is_open = content_type.trim_start().starts_with("application/openmetrics-text");
        if is_open { TextFormat::OpenMetrics } else { TextFormat::Prometheus }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct TextSample {
    pub labels: Labels,
    pub value: f64,
    pub t_ms: Option<i64>,
    /// Its time is 0 where it has none.
    pub exemplar: Option<Exemplar>,
}

/// What a text says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exposition {
    pub samples: Vec<TextSample>,
    /// Of the families that have a type, help or unit, in the text's order.
    pub metadata: Vec<MetricMetadata>,
}

#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {reason}")]
pub struct TextError {
    pub line: usize,
    pub reason: &'static str,
}

/// The whole text, or its first fault.
pub fn parse(text: &str, format: TextFormat) -> Result<Exposition, TextError> {
    let mut exposition = Exposition::default();
    walk(text, format, &mut exposition, Err)?;
    Ok(exposition)
}

/// What is good of a text, as an import takes it; `fault` is told of every line that is not.
pub fn parse_good(text: &str, format: TextFormat, mut fault: impl FnMut(TextError)) -> Exposition {
    let mut exposition = Exposition::default();
    let passed = walk::<()>(text, format, &mut exposition, |error| {
        fault(error);
        Ok(())
    });
    debug_assert!(passed.is_ok(), "no fault ends it");
    exposition
}

fn walk<E>(
    text: &str,
    format: TextFormat,
    exposition: &mut Exposition,
    mut fault: impl FnMut(TextError) -> Result<(), E>,
) -> Result<(), E> {
    let mut lines = Lines::new(text, format);
    while let Some(line) = lines.next_sample() {
        match sample(line, format) {
            Ok(sample) => exposition.samples.push(sample),
            Err(reason) => fault(lines.error(reason))?,
        }
    }
    exposition.metadata = std::mem::take(&mut lines.metadata);
    lines.end().or_else(fault)
}

/// Walks over the lines of samples; comments on the way are collected.
pub struct Lines<'a> {
    rest: &'a str,
    format: TextFormat,
    line: usize,
    has_end: bool,
    pub metadata: Vec<MetricMetadata>,
}

impl<'a> Lines<'a> {
    pub fn new(text: &'a str, format: TextFormat) -> Lines<'a> {
        Lines { rest: text, format, line: 0, has_end: false, metadata: Vec::new() }
    }

    /// The next line of a sample, without blanks before it.
    pub fn next_sample(&mut self) -> Option<&'a str> {
        while !self.rest.is_empty() {
            let end = memchr::memchr(b'\n', self.rest.as_bytes()).unwrap_or(self.rest.len());
            let line = &self.rest[..end];
            let line = line.strip_suffix('\r').unwrap_or(line);
            self.rest = self.rest.get(end + 1..).unwrap_or("");
            self.line += 1;
            if self.format == TextFormat::OpenMetrics && line == "# EOF" {
                (self.has_end, self.rest) = (true, "");
                return None;
            }
            let line = line.trim_start_matches([' ', '\t']);
            match line.strip_prefix('#') {
                Some(comment) => describe(comment, &mut self.metadata),
                None if line.is_empty() => {}
                None => return Some(line),
            }
        }
        None
    }

    /// A fault of the line that was answered last.
    pub fn error(&self, reason: &'static str) -> TextError {
        TextError { line: self.line, reason }
    }

    /// Whether the text ended as its format wants it.
    pub fn end(&self) -> Result<(), TextError> {
        if self.format == TextFormat::OpenMetrics && !self.has_end {
            return Err(self.error("data does not end with # EOF"));
        }
        Ok(())
    }
}

/// `TYPE name kind`, `HELP name text`, `UNIT name unit`; the comments of a family stand together.
fn describe(comment: &str, metadata: &mut Vec<MetricMetadata>) {
    let Some((what @ ("TYPE" | "HELP" | "UNIT"), rest)) = comment.trim_start().split_once([' ', '\t']) else { return };
    let rest = rest.trim_start();
    let (name, text) = match rest.strip_prefix('"').map(quoted) {
        Some(Ok((name, text))) => (name, text),
        Some(Err(_)) => return,
        None => {
            let (name, text) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
            (name.to_owned(), text)
        }
    };
    if metadata.last().is_none_or(|last| last.name != name) {
        metadata.push(MetricMetadata { name, kind: MetricKind::Unknown, help: String::new(), unit: String::new() });
    }
    let Some(family) = metadata.last_mut() else { return };
    match what {
        "TYPE" => {
            let named = |kind: &&MetricKind| kind.as_str() == text.trim();
            family.kind = MetricKind::ALL.iter().find(named).copied().unwrap_or_default();
        }
        "HELP" => family.help = text.replace("\\n", "\n").replace("\\\\", "\\"),
        _ => family.unit = text.trim().to_owned(),
    }
}

fn sample(line: &str, format: TextFormat) -> Result<TextSample, &'static str> {
    let (series, rest) = split_series(line)?;
    let labels = read_series(series)?.build();
    let Point { value, t_ms, exemplar } = read_point(rest, format)?;
    Ok(TextSample { labels, value, t_ms, exemplar })
}

/// Cuts a line behind its series: the name and the labels in braces.
pub fn split_series(line: &str) -> Result<(&str, &str), &'static str> {
    let bytes = line.as_bytes();
    let name_end = memchr::memchr3(b'{', b' ', b'\t', bytes).ok_or("expected a value")?;
    let mut at = name_end;
    while matches!(bytes.get(at), Some(b' ' | b'\t')) {
        at += 1;
    }
    if bytes.get(at) != Some(&b'{') {
        return Ok(line.split_at(name_end));
    }
    let mut is_quoted = false;
    while let Some(found) = memchr::memchr3(b'"', b'\\', b'}', &bytes[at..]) {
        at += found + 1;
        match bytes[at - 1] {
            b'"' => is_quoted = !is_quoted,
            b'\\' if is_quoted => at = (at + 1).min(bytes.len()),
            b'}' if !is_quoted => return line.split_at_checked(at).ok_or("expected a label"),
            _ => {}
        }
    }
    Err(if is_quoted { "a quote is not closed" } else { "expected a label" })
}

/// The labels of a series, by its text.
pub fn read_series(series: &str) -> Result<LabelsBuilder, &'static str> {
    let mut labels = LabelsBuilder::default();
    let name_end = series.find(['{', ' ', '\t']).unwrap_or(series.len());
    let (name, rest) = series.split_at(name_end);
    if !name.is_empty() {
        if !crate::is_metric_name(name) {
            return Err("not a metric name");
        }
        labels.set(METRIC_NAME, name);
    }
    if let Some(inside) = rest.trim_start_matches([' ', '\t']).strip_prefix('{') {
        label_set(inside, &mut labels)?;
    }
    if labels.get(METRIC_NAME).is_none() {
        return Err("a sample without a metric name");
    }
    Ok(labels)
}

/// What follows a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub value: f64,
    pub t_ms: Option<i64>,
    /// Its time is 0 where it has none.
    pub exemplar: Option<Exemplar>,
}

/// `value [timestamp] [# exemplar]`.
pub fn read_point(mut rest: &str, format: TextFormat) -> Result<Point, &'static str> {
    let mut exemplar = None;
    if format == TextFormat::OpenMetrics
        && let Some((before, after)) = rest.split_once(" # ")
    {
        (rest, exemplar) = (before, Some(exemplar_of(after)?));
    }
    let mut fields = rest.split_ascii_whitespace();
    let value = number(fields.next().ok_or("expected a value")?).ok_or("not a number")?;
    let t_ms = match (fields.next(), format) {
        (None, _) => None,
        (Some(t), TextFormat::Prometheus) => Some(t.parse().map_err(|_| "not a timestamp in milliseconds")?),
        (Some(t), TextFormat::OpenMetrics) => {
            let seconds: f64 = t.parse().map_err(|_| "not a timestamp in seconds")?;
            Some((seconds * 1000.0).round() as i64)
        }
    };
    if fields.next().is_some() {
        return Err("unexpected text after the timestamp");
    }
    Ok(Point { value, t_ms, exemplar })
}

/// `{labels} value [seconds]`.
fn exemplar_of(text: &str) -> Result<Exemplar, &'static str> {
    let mut labels = LabelsBuilder::default();
    let inside = text.trim_start().strip_prefix('{').ok_or("an exemplar begins with its labels")?;
    let mut fields = label_set(inside, &mut labels)?.split_ascii_whitespace();
    let value = number(fields.next().ok_or("an exemplar without a value")?).ok_or("not a number")?;
    let seconds: f64 = fields.next().unwrap_or("0").parse().map_err(|_| "not a timestamp in seconds")?;
    Ok(Exemplar { labels: labels.build(), value, t_ms: (seconds * 1000.0).round() as i64 })
}

/// Reads labels up to the closing brace and returns what follows it. A quoted name alone is the metric's.
fn label_set<'a>(mut rest: &'a str, labels: &mut LabelsBuilder) -> Result<&'a str, &'static str> {
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (name, is_quoted, after) = match rest.strip_prefix('"') {
            Some(inside) => {
                let (name, after) = quoted(inside)?;
                (name, true, after)
            }
            None => {
                let end = rest.find(['=', ' ', '\t', '}', ',']).ok_or("expected a label")?;
                (rest[..end].to_owned(), false, &rest[end..])
            }
        };
        let after = after.trim_start_matches([' ', '\t']);
        rest = match after.strip_prefix('=') {
            Some(value) if is_quoted || is_label_name(&name) => {
                let value = value.trim_start_matches([' ', '\t']);
                let (value, after) = quoted(value.strip_prefix('"').ok_or("a label value must be quoted")?)?;
                labels.set(name, value);
                after
            }
            None if is_quoted && labels.get(METRIC_NAME).is_none() => {
                labels.set(METRIC_NAME, name);
                after
            }
            _ => return Err("not a label"),
        };
        rest = rest.trim_start_matches([' ', '\t']);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return Err("expected , or } after a label"),
        }
    }
}

/// Text up to the closing quote; `\\`, `\"` and `\n` are escapes.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('\\' | '"'))) => value.push(c),
                Some((_, c)) => value.extend(['\\', c]),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err("a quote is not closed")
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Expected<'a> = Result<&'a [(&'a str, f64, Option<i64>)], &'a str>;

    fn check(text: &str, format: TextFormat, expected: Expected<'_>) {
        match (parse(text, format), expected) {
            (Ok(exposition), Ok(expected)) => {
                let got: Vec<_> = exposition.samples.iter().map(|s| (s.labels.to_string(), s.value, s.t_ms)).collect();
                let expected: Vec<_> = expected.iter().map(|(l, v, t)| ((*l).to_owned(), *v, *t)).collect();
                assert_eq!(got, expected, "{text}");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, expected) => panic!("{text}: {got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn both_formats() {
        use TextFormat::{OpenMetrics, Prometheus};
        let text = "# HELP a b\n# TYPE a counter\na 1\na_total{x=\"1\", y=\"a\\\"b\\\\\\n\",} 2.5e3 1500\nb{} +Inf\n\n";
        check(
            text,
            Prometheus,
            Ok(&[
                (r#"{__name__="a"}"#, 1.0, None),
                (r#"{__name__="a_total", x="1", y="a\"b\\\n"}"#, 2500.0, Some(1500)),
                (r#"{__name__="b"}"#, f64::INFINITY, None),
            ]),
        );
        let text = "a_total 1 1.5 # {trace_id=\"x\"} 1.0\n{\"b.c\",\"d e\"=\"f\"} 2\n# EOF\n";
        check(
            text,
            OpenMetrics,
            Ok(&[(r#"{__name__="a_total"}"#, 1.0, Some(1500)), (r#"{__name__="b.c", d e="f"}"#, 2.0, None)]),
        );
        check("a 1\n", OpenMetrics, Err("# EOF"));
        check("a 1\nb{x=1} 2", Prometheus, Err("line 2: a label value must be quoted"));
        for bad in ["a", "a{", "a{x=\"1\" 1", "a one", "a 1 2 3", "{} 1", "1a 1", "a infinity"] {
            check(bad, Prometheus, Err("line 1"));
        }
    }

    #[test]
    fn comments_and_exemplars_are_read() {
        let text = "# HELP a_total Things\\ndone.\n# TYPE a_total counter\n# UNIT a_total seconds\n# TYPE \"b.c\" gauge\n\
                    # nothing\na_total 1 # {trace_id=\"x\"} 0.5 1.5\n# EOF\n";
        let exposition = parse(text, TextFormat::OpenMetrics).expect("good text");
        let shown: Vec<_> = exposition
            .metadata
            .iter()
            .map(|m| (m.name.as_str(), m.kind.as_str(), m.help.as_str(), m.unit.as_str()))
            .collect();
        assert_eq!(shown, [("a_total", "counter", "Things\ndone.", "seconds"), ("b.c", "gauge", "", "")]);
        let exemplar = exposition.samples[0].exemplar.clone().expect("an exemplar");
        assert_eq!((exemplar.labels.get("trace_id"), exemplar.value, exemplar.t_ms), (Some("x"), 0.5, 1500));
        assert!(parse("a 1 # x\n# EOF", TextFormat::OpenMetrics).is_err());
    }

    #[test]
    fn an_import_takes_the_good_lines() {
        let mut faults = Vec::new();
        let read = parse_good("a 1\nb\n# x\nc 3 4 5\nd 4\n", TextFormat::OpenMetrics, |fault| faults.push(fault.line));
        let names: Vec<_> = read.samples.iter().filter_map(|sample| sample.labels.metric_name()).collect();
        assert_eq!((names, faults), (vec!["a", "d"], vec![2, 4, 5]));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[a-b{}\"=\\\\, 0-9.#\n]{0,60}|.{0,60}") {
            for format in [TextFormat::Prometheus, TextFormat::OpenMetrics] {
                let whole = parse(&text, format);
                let mut faults = Vec::new();
                let good = parse_good(&text, format, |fault| faults.push(fault));
                prop_assert_eq!(whole.is_err(), !faults.is_empty());
                prop_assert_eq!(whole.err(), faults.first().cloned());
                prop_assert!(faults.len() + good.samples.len() <= text.lines().count() + 1);
            }
        }

        #[test]
        fn what_is_written_is_read(value in any::<f64>(), label in "[^\"\\\\\n]{1,10}") {
            let text = format!("m{{l=\"{label}\"}} {value}");
            let samples = parse(&text.replace("inf", "Inf"), TextFormat::Prometheus).expect("good text").samples;
            prop_assert_eq!(samples[0].value.to_bits(), if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() });
            prop_assert_eq!(samples[0].labels.get("l"), Some(label.as_str()));
        }
    }
}
