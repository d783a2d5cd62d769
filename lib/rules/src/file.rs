//! Rule files: Prometheus' schema, and `type: logs` for groups of LogQL rules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::DurationMs;
use regex::Regex;
use serde::Deserialize;
use template::{Functions, PrometheusContext, Templates, prometheus_functions};

use crate::lines;

/// The language of a group's expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
pub enum Kind {
    #[default]
    #[serde(rename = "metrics", alias = "prometheus")]
    Promql,
    #[serde(rename = "logs", alias = "loki")]
    Logql,
}

#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct FileError {
    pub path: PathBuf,
    pub message: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    #[serde(default)]
    groups: Vec<RawGroup>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGroup {
    name: String,
    #[serde(default, rename = "type")]
    kind: Kind,
    interval: Option<DurationMs>,
    #[serde(default)]
    limit: usize,
    query_offset: Option<DurationMs>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    rules: Vec<RawRule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    record: Option<String>,
    alert: Option<String>,
    expr: String,
    #[serde(default, rename = "for")]
    hold: DurationMs,
    #[serde(default)]
    keep_firing_for: DurationMs,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// A group as written, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupSpec {
    pub file: String,
    pub name: String,
    pub kind: Kind,
    pub interval_ms: i64,
    pub query_offset_ms: i64,
    /// 0: no limit.
    pub limit: usize,
    pub rules: Vec<RuleSpec>,
}

/// A rule as written, checked; the group's labels are joined in.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSpec {
    /// The recorded metric or the alert.
    pub name: String,
    pub is_alert: bool,
    pub expr: String,
    pub hold_ms: i64,
    pub keep_firing_ms: i64,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// What [`PRELUDE`] declares.
const TEMPLATE_VARIABLES: [&str; 4] = ["labels", "externalLabels", "externalURL", "value"];

/// What templates of a rule may say without declaring it.
pub const PRELUDE: &str =
    "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// Reads the files that the patterns name, in order. Relative patterns are relative to `base`; `*`, `?` and `[…]` may
/// stand in the last element of a path.
pub fn load_files(
    patterns: &[String],
    base: &Path,
    interval_ms: i64,
    query_offset_ms: i64,
) -> Result<Vec<GroupSpec>, FileError> {
    let mut groups = Vec::new();
    for path in files(patterns, base)? {
        let fail = |message: String| FileError { path: path.clone(), message };
        let text = std::fs::read_to_string(&path).map_err(|error| fail(error.to_string()))?;
        groups.extend(parse(&path.display().to_string(), &text, interval_ms, query_offset_ms).map_err(fail)?);
    }
    Ok(groups)
}

/// The files that patterns name, in order.
pub fn files(patterns: &[String], base: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut paths = Vec::new();
    for pattern in patterns {
        paths.extend(expand(&base.join(pattern))?);
    }
    Ok(paths)
}

/// The files behind a pattern, sorted; a path without wildcards must exist when it is read.
fn expand(pattern: &Path) -> Result<Vec<PathBuf>, FileError> {
    let fail = |message: String| FileError { path: pattern.to_owned(), message };
    let last = pattern.file_name().and_then(|name| name.to_str()).unwrap_or("");
    if !last.contains(['*', '?', '[']) {
        return Ok(vec![pattern.to_owned()]);
    }
    let escaped = regex::escape(last).replace("\\*", ".*").replace("\\?", ".").replace("\\[", "[").replace("\\]", "]");
    let names = Regex::new(&format!("^(?s:{escaped})$")).map_err(|error| fail(error.to_string()))?;
    let dir = pattern.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error.to_string())),
    };
    let found = entries.filter_map(Result::ok).filter(|entry| names.is_match(&entry.file_name().to_string_lossy()));
    let mut paths: Vec<PathBuf> = found.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    Ok(paths)
}

/// Parses and checks one file's text.
pub fn parse(file: &str, text: &str, interval_ms: i64, query_offset_ms: i64) -> Result<Vec<GroupSpec>, String> {
    let raw: RuleFile = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let mut names = std::collections::HashSet::new();
    let mut groups = Vec::new();
    for group in raw.groups {
        if group.name.is_empty() {
            return Err("groupname must not be empty".to_owned());
        }
        if !names.insert(group.name.clone()) {
            return Err(format!("groupname: {:?} is repeated in the same file", group.name));
        }
        let interval_ms = group.interval.map_or(interval_ms, |interval| interval.0);
        if interval_ms <= 0 {
            return Err(format!("group {:?}: interval must be above 0", group.name));
        }
        let functions = template_functions(group.kind);
        let mut rules = Vec::new();
        for (i, rule) in group.rules.into_iter().enumerate() {
            let place = format!("group {:?}, rule {}", group.name, i + 1);
            rules.push(
                check_rule(rule, &group.labels, group.kind, &functions)
                    .map_err(|message| format!("{place}: {message}"))?,
            );
        }
        let query_offset_ms = group.query_offset.map_or(query_offset_ms, |offset| offset.0);
        let (name, limit, kind) = (group.name, group.limit, group.kind);
        groups.push(GroupSpec { file: file.to_owned(), name, kind, interval_ms, query_offset_ms, limit, rules });
    }
    Ok(groups)
}

fn check_rule(
    raw: RawRule,
    group_labels: &BTreeMap<String, String>,
    kind: Kind,
    functions: &Functions,
) -> Result<RuleSpec, String> {
    let (name, is_alert) = match (raw.record, raw.alert) {
        (Some(_), Some(_)) => return Err("only one of 'record' and 'alert' must be set".to_owned()),
        (Some(name), None) => (name, false),
        (None, Some(name)) => (name, true),
        (None, None) => return Err("one of 'record' or 'alert' must be set".to_owned()),
    };
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    if !is_alert && (!raw.annotations.is_empty() || raw.hold.0 != 0 || raw.keep_firing_for.0 != 0) {
        return Err(format!("{name}: 'annotations', 'for' and 'keep_firing_for' are for alerts only"));
    }
    check_expr(kind, &raw.expr).map_err(|message| format!("{name}: expr: {message}"))?;
    for (label, text) in raw.labels.iter().chain(&raw.annotations) {
        let checked = Templates::check(label, text, functions, &TEMPLATE_VARIABLES);
        checked.map_err(|error| format!("{name}: {label}: {error}"))?;
    }
    if raw.labels.contains_key(model::METRIC_NAME) {
        return Err(format!("{name}: invalid label name: __name__"));
    }
    let mut labels = group_labels.clone();
    labels.extend(raw.labels);
    let (hold_ms, keep_firing_ms) = (raw.hold.0, raw.keep_firing_for.0);
    Ok(RuleSpec { name, is_alert, expr: raw.expr, hold_ms, keep_firing_ms, labels, annotations: raw.annotations })
}

/// The functions that templates of rules may call; only their names matter here.
fn template_functions(kind: Kind) -> Functions {
    let query: template::Query = Arc::new(|_| Ok(Vec::new()));
    let mut functions = prometheus_functions(&PrometheusContext { external_url: String::new(), now_ms: 0, query });
    if kind == Kind::Logql {
        lines::add(&mut functions, |_| Ok(Vec::new()));
    }
    functions
}

fn check_expr(kind: Kind, expr: &str) -> Result<(), String> {
    match kind {
        Kind::Promql => query::parse_mixed(expr).map(drop).map_err(|error| error.to_string()),
        Kind::Logql => query::logql::parse(expr).map(drop).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<usize, &str>) {
        match (parse("r.yml", text, 60_000, 0), expected) {
            (Ok(groups), Ok(rules)) => assert_eq!(groups.iter().map(|group| group.rules.len()).sum::<usize>(), rules),
            (Err(message), Err(part)) => assert!(message.contains(part), "{message} does not say {part:?}"),
            (got, expected) => panic!("{text}: {got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn good_files() {
        check("groups: []", Ok(0));
        check(
            "groups:\n- name: a\n  interval: 30s\n  limit: 5\n  labels: {team: x}\n  rules:\n\
             \x20 - record: job:up:sum\n    expr: sum by (job) (up)\n\
             \x20 - {alert: Down, expr: up == 0, for: 5m, keep_firing_for: 1m, annotations: {s: '{{ $value }}'}}\n\
             - name: b\n  type: logs\n  rules: [{alert: E, expr: 'count_over_time({a=\"b\"} |= \"x\" [5m]) > 1', \
             annotations: {a: '{{ range lines 3 }}{{ .Line }}{{ end }}'}}]\n",
            Ok(3),
        );
    }

    #[test]
    fn mistakes_are_named() {
        check("groups: [{name: a, nonsense: 1}]", Err("nonsense"));
        check("groups: [{name: a}, {name: a}]", Err("repeated"));
        check("groups: [{name: a, rules: [{expr: up}]}]", Err("one of 'record' or 'alert'"));
        check("groups: [{name: a, rules: [{record: x, expr: 'sum('}]}]", Err("parse error"));
        check("groups: [{name: a, rules: [{record: x, expr: up, for: 1m}]}]", Err("for alerts only"));
        check("groups: [{name: a, rules: [{alert: x, expr: up, annotations: {a: '{{ if }}'}}]}]", Err("a:1"));
        // They used to be found out only when the alert fired.
        check(
            "groups: [{name: a, rules: [{alert: x, expr: up, annotations: {a: '{{ nosuch }}'}}]}]",
            Err("not defined"),
        );
        check(
            "groups: [{name: a, rules: [{alert: x, expr: up, annotations: {a: '{{ $nosuch }}'}}]}]",
            Err("undefined variable"),
        );
        check("groups: [{name: a, type: logs, rules: [{alert: x, expr: 'up'}]}]", Err("parse error"));
        check(
            "groups: [{name: a, rules: [{alert: x, expr: up, annotations: {a: '{{ range lines }}{{ .Line }}{{ end }}'}}]}]",
            Err("not defined"),
        );
    }

    #[test]
    fn wildcards_find_files_in_order() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["b.rules.yml", "a.rules.yml", "c.txt"] {
            std::fs::write(dir.path().join(name), format!("groups: [{{name: {}}}]", &name[..1])).expect("written");
        }
        let groups = load_files(&["*.rules.yml".into(), "none/*.yml".into()], dir.path(), 1000, 0).expect("loads");
        assert_eq!(groups.iter().map(|group| group.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(load_files(&["missing.yml".into()], dir.path(), 1000, 0).is_err());
    }
}
