//! Fields that lines have: their structured metadata, what the query parses, or, where it parses nothing, what JSON or
//! logfmt find. A bounded number of the newest lines is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use ::query::logql::{LogExpr, LogQuery, LogSelector, Runner, parse, parse_duration_ns};
use ::query::{QueryError, SelectedLine};
use ::service::http::{Params, StrongRead, Tenant};
use axum::Json;
use axum::extract::{Path, State};
use model::Labels;
use serde_json::{Map, Value as Json_, json};

use super::params::{HOUR_NS, log_selector, required, time_range};
use super::query::{Answer, Reading};
use super::{Api, LokiError};

/// Lines that are looked at.
const DEFAULT_LINES: usize = 1000;
const MAX_LINES: usize = 5000;
/// Fields, and values of one, that an answer holds.
const DEFAULT_LIMIT: usize = 1000;
const MAX_LIMIT: usize = 10_000;
/// Objects within objects whose paths are told.
const MAX_DEPTH: usize = 16;

/// What was found of a field.
#[derive(Default)]
struct Field {
    values: BTreeSet<String>,
    parsers: BTreeSet<&'static str>,
    /// Where in a JSON line it stands.
    path: Vec<String>,
}

#[derive(Default)]
struct Found(BTreeMap<String, Field>);

impl Found {
    fn add(&mut self, labels: &Labels, parsers: &[&'static str]) {
        for label in labels.iter().filter(|label| !label.name.starts_with("__") && !label.value.is_empty()) {
            if !self.0.contains_key(&*label.name) && self.0.len() >= MAX_LIMIT {
                continue;
            }
            let field = self.0.entry(label.name.to_string()).or_default();
            if field.values.len() < MAX_LIMIT {
                field.values.insert(label.value.to_string());
            }
            field.parsers.extend(parsers);
        }
    }

    /// Tells fields that JSON has where they stand in a line.
    fn locate(&mut self, line: &str) {
        let Ok(Json_::Object(object)) = serde_json::from_str(line) else { return };
        let mut paths = Vec::new();
        walk(&object, &mut Vec::new(), &mut paths);
        for (name, path) in paths {
            match self.0.get_mut(&name) {
                Some(field) if field.path.is_empty() => field.path = path,
                _ => {}
            }
        }
    }
}

fn walk(object: &Map<String, Json_>, at: &mut Vec<String>, paths: &mut Vec<(String, Vec<String>)>) {
    for (key, value) in object {
        at.push(key.clone());
        match value {
            Json_::Object(inner) if at.len() < MAX_DEPTH => walk(inner, at, paths),
            Json_::Object(_) | Json_::Array(_) | Json_::Null => {}
            _ => {
                let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let joined = at.join("_");
                paths.push((joined.chars().map(|c| if is_allowed(c) { c } else { '_' }).collect(), at.clone()));
            }
        }
        at.pop();
    }
}

/// Loki's name of what kind a value is.
fn kind_of(value: &str) -> &'static str {
    let starts_as_number = value.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_digit());
    if value.parse::<i64>().is_ok() {
        "int"
    } else if starts_as_number && value.parse::<f64>().is_ok() {
        "float"
    } else if matches!(value, "true" | "True" | "TRUE" | "t" | "T" | "false" | "False" | "FALSE" | "f" | "F") {
        "boolean"
    } else if starts_as_number && parse_duration_ns(value).is_some() {
        "duration"
    } else if is_size(value) {
        "bytes"
    } else {
        "string"
    }
}

fn is_size(value: &str) -> bool {
    let unit = value.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | ','));
    let prefix = unit.trim().to_ascii_lowercase();
    let prefix = prefix.strip_suffix('b').unwrap_or(&prefix);
    let number = &value[..value.len() - unit.len()];
    number.replace(',', "").parse::<f64>().is_ok()
        && matches!(prefix.strip_suffix('i').unwrap_or(prefix), "" | "k" | "m" | "g" | "t" | "p" | "e")
}

/// A pipeline of one parser, for lines whose query has none.
fn parser(stage: &str) -> LogSelector {
    match parse(&format!("{{x=\"y\"}} | {stage}")) {
        Ok(LogExpr::Log(selector)) => selector,
        other => unreachable!("a parser alone is a query: {other:?}"),
    }
}

/// What a parser finds in a line, unless it fails.
fn parsed(runner: &mut Runner<'_>, line: &SelectedLine<'_>, text: &str) -> Option<Labels> {
    let bare = Labels::default();
    let line = SelectedLine { labels: &bare, metadata: &bare, t_ns: line.t_ns, text };
    let labels = runner.run(&line)?.categories(&line).parsed;
    (labels.get("__error__").is_none() && !labels.is_empty()).then_some(labels)
}

async fn find(api: &Api, tenant: String, strong: StrongRead, params: &Params) -> Result<Found, LokiError> {
    let selector = log_selector(required(params, "query")?)?;
    let (start_ns, end_ns) = time_range(params, HOUR_NS)?;
    let lines = number(params, "line_limit", DEFAULT_LINES)?.min(MAX_LINES);
    api.strong(strong).await?;
    let of_tenant = tenant.clone();
    let look = move |reading: &Reading| -> Result<Found, QueryError> {
        let (json, logfmt) = (parser("json"), parser("logfmt --strict"));
        let (mut as_json, mut as_logfmt) = (json.pipeline.runner(), logfmt.pipeline.runner());
        let parsers = selector.pipeline.parsers();
        let mut found = Found::default();
        let query = LogQuery {
            start_ns,
            end_ns,
            backward: true,
            limit: lines,
            deadline: Some(reading.deadline),
            ..LogQuery::new(&of_tenant, &selector)
        };
        reading.engine.visit(&reading.source, &query, &mut |line, processed| {
            let categories = processed.categories(line);
            found.add(&categories.metadata, &[]);
            found.add(&categories.parsed, &parsers);
            if parsers.is_empty() {
                if let Some(labels) = parsed(&mut as_json, line, &processed.line) {
                    found.add(&labels, &["json"]);
                } else if let Some(labels) = parsed(&mut as_logfmt, line, &processed.line) {
                    found.add(&labels, &["logfmt"]);
                }
            }
            if processed.line.starts_with('{') {
                found.locate(&processed.line);
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    };
    api.evaluate(&tenant, look).await
}

fn number(params: &Params, name: &str, default: usize) -> Result<usize, LokiError> {
    let Some(text) = params.get(name) else { return Ok(default) };
    text.parse().map_err(|_| LokiError::bad(format!("invalid {name} {text:?}")))
}

pub async fn detected_fields(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Answer {
    let limit = number(&params, "limit", DEFAULT_LIMIT)?.min(MAX_LIMIT);
    let found = find(&api, tenant, strong, &params).await?;
    let field = |(name, field): (String, Field)| {
        let kind = field.values.first().map_or("string", |value| kind_of(value));
        let parsers = if field.parsers.is_empty() { Json_::Null } else { json!(field.parsers) };
        let mut answer = json!({"label": name, "type": kind, "cardinality": field.values.len(), "parsers": parsers});
        if !field.path.is_empty() {
            answer["jsonPath"] = json!(field.path);
        }
        answer
    };
    let fields: Vec<Json_> = found.0.into_iter().take(limit).map(field).collect();
    Ok(Json(json!({"fields": fields, "limit": limit})))
}

pub async fn values(
    State(api): State<Api>,
    Path(name): Path<String>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Answer {
    let limit = number(&params, "limit", DEFAULT_LIMIT)?.min(MAX_LIMIT);
    let mut found = find(&api, tenant, strong, &params).await?;
    let values = found.0.remove(&name).unwrap_or_default().values;
    Ok(Json(json!({"values": values.into_iter().take(limit).collect::<Vec<_>>(), "limit": limit})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let check = |value: &str, expected: &str| assert_eq!(kind_of(value), expected, "{value}");
        check("12", "int");
        check("-1.5", "float");
        check("true", "boolean");
        check("1m30s", "duration");
        check("2.5KiB", "bytes");
        check("200 MB", "bytes");
        check("inf", "string");
        check("1.2.3.4", "string");
        check("GET", "string");
        check("b", "string");
    }
}
