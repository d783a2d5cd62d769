//! Alertmanager's configuration: as written → checked and joined with `global`.
//!
//! Every field of the schema is known. What an integration cannot do yet is refused by name, so that nobody relies on
//! a page that never comes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{DurationMs, Labels, MatchOp, Matcher};
use serde::Deserialize;
use serde::de::IgnoredAny;
use template::Templates;

use crate::environment;
use crate::inhibit::InhibitRule;
use crate::matchers::MatcherMode;
use crate::notify::{Global, Integration, RawReceiver, default_templates};
use crate::route::{Route, RouteOptions};
use crate::time_interval::TimeInterval;

#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct ConfigError {
    pub path: PathBuf,
    pub message: String,
}

/// What the router runs on.
#[derive(Debug)]
pub struct Config {
    pub root: Route,
    pub receivers: BTreeMap<String, Vec<Integration>>,
    /// What receivers can be chosen by in the API; `name` is among them.
    pub receiver_labels: BTreeMap<String, Labels>,
    /// Whether an alert may go to several routes.
    pub has_continue: bool,
    pub inhibit_rules: Vec<InhibitRule>,
    pub time_intervals: HashMap<String, Vec<TimeInterval>>,
    pub templates: Templates,
    /// How many patterns of template files there are.
    pub template_patterns: usize,
    pub has_global: bool,
    pub resolve_timeout_ms: i64,
    /// The text as loaded, for `/api/v2/status`.
    pub original: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawConfig {
    global: Option<Global>,
    templates: Vec<String>,
    route: Option<RawRoute>,
    receivers: Vec<RawReceiver>,
    inhibit_rules: Vec<RawInhibitRule>,
    time_intervals: Vec<NamedInterval>,
    mute_time_intervals: Vec<NamedInterval>,
    tracing: Option<IgnoredAny>,
    event_recorder: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    receiver: Option<String>,
    group_by: Option<Vec<String>>,
    #[serde(default, rename = "continue")]
    go_on: bool,
    #[serde(default, rename = "match")]
    equal: BTreeMap<String, String>,
    #[serde(default)]
    match_re: BTreeMap<String, String>,
    #[serde(default)]
    matchers: Vec<String>,
    group_wait: Option<DurationMs>,
    group_interval: Option<DurationMs>,
    repeat_interval: Option<DurationMs>,
    #[serde(default)]
    mute_time_intervals: Vec<String>,
    #[serde(default)]
    active_time_intervals: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    routes: Vec<RawRoute>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawInhibitRule {
    name: String,
    source_match: BTreeMap<String, String>,
    source_match_re: BTreeMap<String, String>,
    source_matchers: Vec<String>,
    target_match: BTreeMap<String, String>,
    target_match_re: BTreeMap<String, String>,
    target_matchers: Vec<String>,
    equal: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedInterval {
    #[serde(default)]
    name: String,
    #[serde(default)]
    time_intervals: Vec<TimeInterval>,
}

/// The configuration of a process that was given none: everything is kept and shown, nothing is sent.
const DEFAULT: &str = "route:\n  receiver: default\n  group_by: [alertname]\nreceivers:\n- name: default\n";

impl Config {
    /// Reads a file, or without one the default: one receiver named `default` that sends nothing.
    pub fn load(path: Option<&Path>, mode: MatcherMode) -> Result<Config, ConfigError> {
        let Some(path) = path else {
            return Config::parse(DEFAULT, Path::new("."), mode).map_err(|m| fail(Path::new("default"), m));
        };
        let text = std::fs::read_to_string(path).map_err(|error| fail(path, error.to_string()))?;
        Config::parse(&text, path.parent().unwrap_or(Path::new(".")), mode).map_err(|message| fail(path, message))
    }

    /// Makes the connections' clients, so that certificates that cannot be read are known before they are needed.
    pub fn prepare(&self) -> Result<(), String> {
        for (name, integrations) in &self.receivers {
            for http in integrations.iter().filter_map(|integration| integration.http()) {
                http.client().map_err(|error| format!("receiver {name:?}: {error}"))?;
            }
        }
        Ok(())
    }

    /// The names of the time intervals that keep a route quiet now; empty when it may speak.
    pub fn muting_intervals<'a>(&self, options: &'a RouteOptions, now_ms: i64) -> Vec<&'a str> {
        let holds = |name: &&String| {
            let intervals = self.time_intervals.get(*name);
            intervals.is_some_and(|intervals| intervals.iter().any(|one| one.contains(now_ms)))
        };
        let active = &options.active_time_intervals;
        if !active.is_empty() && !active.iter().any(|name| holds(&name)) {
            return active.iter().map(String::as_str).collect();
        }
        options.mute_time_intervals.iter().filter(holds).map(String::as_str).collect()
    }

    /// Parses a text; template files are relative to `base`.
    pub fn parse(text: &str, base: &Path, mode: MatcherMode) -> Result<Config, String> {
        let filled = environment::fill_in(text, |name| std::env::var(name).ok())?;
        let raw: RawConfig = serde_saphyr::from_str(&filled).map_err(|error| error.to_string())?;
        let idle = [raw.tracing.as_ref().map(|_| "tracing"), raw.event_recorder.as_ref().map(|_| "event_recorder")];
        for name in idle.into_iter().flatten() {
            tracing::warn!("alertmanager configuration: {name} is accepted but does nothing yet");
        }
        let intervals = time_intervals(raw.mute_time_intervals.into_iter().chain(raw.time_intervals))?;
        let has_global = raw.global.is_some();
        let global = raw.global.unwrap_or_default().check(base.to_owned())?;
        let receiver_labels = raw.receivers.iter().map(|raw| (raw.name.clone(), raw.labels())).collect();
        let receivers = receivers(raw.receivers, &global)?;
        let root = root(raw.route.ok_or("no routes provided")?, mode)?;
        check_names(&root, &receivers, &intervals)?;
        let inhibit_rules =
            raw.inhibit_rules.into_iter().map(|raw| inhibit_rule(raw, mode)).collect::<Result<_, _>>()?;
        let resolve_timeout_ms = global.resolve_timeout.0;
        let templates = templates(&raw.templates, base)?;
        let mut has_continue = false;
        root.walk(&mut |route| has_continue |= route.go_on);
        Ok(Config {
            root,
            receivers,
            receiver_labels,
            has_continue,
            inhibit_rules,
            time_intervals: intervals,
            templates,
            template_patterns: raw.templates.len(),
            has_global,
            resolve_timeout_ms,
            original: text.to_owned(),
        })
    }
}

/// Only the routes of a text: what a server shows of its configuration has its secrets masked.
pub fn routes_only(text: &str, mode: MatcherMode) -> Result<Route, String> {
    #[derive(Deserialize)]
    struct Routes {
        route: Option<RawRoute>,
    }
    let raw: Routes = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    root(raw.route.ok_or("no routes provided")?, mode)
}

fn fail(path: &Path, message: String) -> ConfigError {
    ConfigError { path: path.to_owned(), message }
}

fn time_intervals(named: impl Iterator<Item = NamedInterval>) -> Result<HashMap<String, Vec<TimeInterval>>, String> {
    let mut intervals = HashMap::new();
    for interval in named {
        if interval.name.is_empty() {
            return Err("missing name in time interval".to_owned());
        }
        if intervals.insert(interval.name.clone(), interval.time_intervals).is_some() {
            return Err(format!("time interval {:?} is not unique", interval.name));
        }
    }
    Ok(intervals)
}

fn receivers(raw: Vec<RawReceiver>, global: &Global) -> Result<BTreeMap<String, Vec<Integration>>, String> {
    let mut receivers = BTreeMap::new();
    for receiver in raw {
        let name = receiver.name.clone();
        if name.is_empty() {
            return Err("missing name in receiver".to_owned());
        }
        let integrations = receiver.build(global).map_err(|message| format!("receiver {name:?}: {message}"))?;
        if receivers.insert(name.clone(), integrations).is_some() {
            return Err(format!("notification config name {name:?} is not unique"));
        }
    }
    Ok(receivers)
}

fn root(raw: RawRoute, mode: MatcherMode) -> Result<Route, String> {
    let has_matchers = !raw.matchers.is_empty() || !raw.equal.is_empty() || !raw.match_re.is_empty();
    if raw.receiver.as_ref().is_none_or(String::is_empty) {
        return Err("root route must specify a default receiver".to_owned());
    }
    if has_matchers {
        return Err("root route must not have any matchers".to_owned());
    }
    if !raw.mute_time_intervals.is_empty() {
        return Err("root route must not have any mute time intervals".to_owned());
    }
    if !raw.active_time_intervals.is_empty() {
        return Err("root route must not have any active time intervals".to_owned());
    }
    if raw.go_on {
        return Err("cannot have continue in root route".to_owned());
    }
    let defaults = RouteOptions {
        place: 0,
        key: String::new(),
        receiver: String::new(),
        group_by: Some(Vec::new()),
        group_wait_ms: 30_000,
        group_interval_ms: 300_000,
        repeat_interval_ms: 4 * 3_600_000,
        mute_time_intervals: Vec::new(),
        active_time_intervals: Vec::new(),
        labels: BTreeMap::new(),
    };
    route(raw, "", &defaults, &mut Reading { mode, place: 0 })
}

/// How far reading the routes has come.
struct Reading {
    mode: MatcherMode,
    /// Of the next route; children come before their parent.
    place: usize,
}

fn route(raw: RawRoute, parent_key: &str, parent: &RouteOptions, reading: &mut Reading) -> Result<Route, String> {
    let matchers = matchers(&raw.equal, &raw.match_re, &raw.matchers, reading.mode)?;
    let printed: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    let separator = if parent_key.is_empty() { "" } else { "/" };
    let key = format!("{parent_key}{separator}{{{}}}", printed.join(","));
    let ms = |given: Option<DurationMs>, inherited: i64| given.map_or(inherited, |duration| duration.0);
    let mut options = RouteOptions {
        place: 0,
        key,
        receiver: raw.receiver.filter(|name| !name.is_empty()).unwrap_or_else(|| parent.receiver.clone()),
        group_by: match raw.group_by {
            None => parent.group_by.clone(),
            Some(names) => group_by(names, reading.mode)?,
        },
        group_wait_ms: ms(raw.group_wait, parent.group_wait_ms),
        group_interval_ms: ms(raw.group_interval, parent.group_interval_ms),
        repeat_interval_ms: ms(raw.repeat_interval, parent.repeat_interval_ms),
        mute_time_intervals: raw.mute_time_intervals,
        active_time_intervals: raw.active_time_intervals,
        labels: parent.labels.iter().map(|(name, text)| (name.clone(), text.clone())).chain(raw.labels).collect(),
    };
    if options.group_interval_ms <= 0 {
        return Err("group_interval cannot be zero".to_owned());
    }
    if options.repeat_interval_ms <= 0 {
        return Err("repeat_interval cannot be zero".to_owned());
    }
    let children = raw.routes.into_iter().map(|child| route(child, &options.key, &options, reading));
    let children = children.collect::<Result<_, _>>()?;
    options.place = reading.place;
    reading.place += 1;
    Ok(Route { matchers, go_on: raw.go_on, options: Arc::new(options), children })
}

fn group_by(names: Vec<String>, mode: MatcherMode) -> Result<Option<Vec<String>>, String> {
    let is_all = |name: &String| name == "...";
    if let Some(name) = names.iter().find(|name| !is_all(name) && !mode.is_valid_name(name)) {
        return Err(format!("invalid label name {name:?} in group_by list"));
    }
    if names.iter().any(is_all) {
        return match names.len() {
            1 => Ok(None),
            _ => Err("cannot have wildcard group_by (`...`) and other labels at the same time".to_owned()),
        };
    }
    let mut seen = HashSet::new();
    if let Some(name) = names.iter().find(|name| !seen.insert(*name)) {
        return Err(format!("duplicated label {name:?} in group_by"));
    }
    Ok(Some(names))
}

fn matchers(
    equal: &BTreeMap<String, String>,
    regex: &BTreeMap<String, String>,
    lists: &[String],
    mode: MatcherMode,
) -> Result<Vec<Matcher>, String> {
    let mut matchers: Vec<Matcher> =
        equal.iter().map(|(name, value)| Matcher::equal(name.clone(), value.clone())).collect();
    for (name, pattern) in regex {
        // Alertmanager keeps them anchored, and group keys show it.
        let pattern = format!("^(?:{pattern})$");
        matchers.push(Matcher::new(name.clone(), MatchOp::Regex, pattern).map_err(|error| error.to_string())?);
    }
    for list in lists {
        matchers.extend(mode.list(list)?);
    }
    matchers.sort_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
    Ok(matchers)
}

fn inhibit_rule(raw: RawInhibitRule, mode: MatcherMode) -> Result<InhibitRule, String> {
    let source = matchers(&raw.source_match, &raw.source_match_re, &raw.source_matchers, mode);
    let target = matchers(&raw.target_match, &raw.target_match_re, &raw.target_matchers, mode);
    let name = raw.name;
    let named = |message: String| format!("inhibit rule {name:?}: {message}");
    if let Some(label) = raw.equal.iter().find(|label| !mode.is_valid_name(label)) {
        return Err(named(format!("invalid label name {label:?} in equal list")));
    }
    Ok(InhibitRule { source: source.map_err(named)?, target: target.map_err(named)?, equal: raw.equal })
}

/// Every receiver and time interval that a route names must be there.
fn check_names(
    root: &Route,
    receivers: &BTreeMap<String, Vec<Integration>>,
    intervals: &HashMap<String, Vec<TimeInterval>>,
) -> Result<(), String> {
    let mut fault = None;
    root.walk(&mut |route| {
        let options = &route.options;
        if !receivers.contains_key(&options.receiver) {
            fault = Some(format!("undefined receiver {:?} used in route", options.receiver));
        }
        let named = options.mute_time_intervals.iter().chain(&options.active_time_intervals);
        if let Some(name) = named.into_iter().find(|name| !intervals.contains_key(*name)) {
            fault = Some(format!("undefined time interval {name:?} used in route"));
        }
    });
    fault.map_or(Ok(()), Err)
}

/// Our default templates, and over them the user's files.
fn templates(patterns: &[String], base: &Path) -> Result<Templates, String> {
    let mut templates = default_templates();
    for pattern in patterns {
        let pattern = base.join(pattern);
        for path in template_files(&pattern)? {
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            templates.parse(&path.display().to_string(), &text).map_err(|error| error.to_string())?;
        }
    }
    Ok(templates)
}

/// The files behind a pattern; `*` may stand in the last element.
pub fn template_files(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let Some((start, end)) = name.split_once('*') else {
        // As in Alertmanager a pattern may match nothing, also one without a star.
        if !pattern.exists() {
            tracing::warn!(path = %pattern.display(), "there is no such template file");
            return Ok(Vec::new());
        }
        return Ok(vec![pattern.to_owned()]);
    };
    let dir = pattern.parent().unwrap_or(Path::new("."));
    // A pattern may match nothing, also because its directory is not there.
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("{}: {error}", dir.display())),
    };
    let is_match = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
    };
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_match).collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(), &str>) {
        match (Config::parse(text, Path::new("."), MatcherMode::Fallback), expected) {
            (Ok(_), Ok(())) => {}
            (Err(message), Err(part)) => assert!(message.contains(part), "{message} does not say {part:?}"),
            (got, expected) => panic!("{text}: {:?} instead of {expected:?}", got.map(drop)),
        }
    }

    #[test]
    fn good_and_bad_files() {
        check(DEFAULT, Ok(()));
        check("receivers: []", Err("no routes"));
        check("route: {receiver: x}\nreceivers: [{name: y}]", Err("undefined receiver \"x\""));
        check("route: {receiver: x, matchers: [a=b]}\nreceivers: [{name: x}]", Err("root route must not"));
        check("route: {receiver: x, group_by: ['...', a]}\nreceivers: [{name: x}]", Err("wildcard"));
        check("route: {receiver: x}\nreceivers: [{name: x}, {name: x}]", Err("not unique"));
        check("route: {receiver: x, nonsense: 1}\nreceivers: [{name: x}]", Err("nonsense"));
        check(
            "route: {receiver: x, routes: [{match_re: {a: '('}}]}\nreceivers: [{name: x}]",
            Err("regular expression"),
        );
        check(
            "route: {receiver: x}\nreceivers: [{name: x, slack_configs: [{}]}]",
            Err("no Slack API URL nor App token"),
        );
        check("route: {receiver: x}\nreceivers: [{name: x, slack_configs: [{odd: 1}]}]", Err("odd"));
        check("route: {receiver: x}\nreceivers: [{name: x, webhook_configs: [null]}]", Err("missing webhook config"));
        check("route: {receiver: x}\nreceivers: [{name: x, labels: {name: y}}]", Err("must match receiver name \"x\""));
        check("route: {receiver: x}\nreceivers: [{name: x, slak_configs: [{}]}]", Err("slak_configs"));
        check("route: {receiver: x}\nreceivers: [{name: x, email_configs: [{to: a@b}]}]", Err("smarthost"));
        check(
            "route: {receiver: x, routes: [{mute_time_intervals: [n]}]}\nreceivers: [{name: x}]",
            Err("undefined time interval"),
        );
        check("templates: [/nowhere/*.tmpl]\nroute: {receiver: x}\nreceivers: [{name: x}]", Ok(()));
        check("global: {slack_api_url: 'http://x'}\nroute: {receiver: x}\nreceivers: [{name: x}]", Ok(()));
    }

    /// Files of our own; the first line of a bad one says what its error must hold.
    #[test]
    fn the_corpus() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        let read = |kind: &str| {
            let names =
                std::fs::read_dir(dir.join(kind)).expect("a directory").map(|entry| entry.expect("an entry").path());
            let files: Vec<_> = names.map(|path| (std::fs::read_to_string(&path).expect("readable"), path)).collect();
            assert!(files.len() > 5, "{kind}");
            files
        };
        let parse = |text: &str| Config::parse(text, Path::new("."), MatcherMode::Fallback).map(drop);
        for (text, path) in read("good") {
            assert_eq!(parse(&text), Ok(()), "{}", path.display());
        }
        let mut wrong = Vec::new();
        for (text, path) in read("bad") {
            let expected = text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("a first line");
            match parse(&text) {
                Err(error) if error.contains(expected) => {}
                got => wrong.push(format!("{}: {got:?} instead of {expected:?}", path.display())),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn an_alert_goes_to_the_deepest_route_that_takes_it() {
        let text = "route:\n  receiver: root\n  group_by: [alertname]\n  routes:\n  - matchers: ['team=\"a\"']\n    receiver: a\n\
                    \x20   continue: true\n    routes: [{match: {severity: page}, receiver: pager, group_by: ['...']}]\n\
                    \x20 - match_re: {team: 'a|b'}\n    receiver: b\nreceivers: [{name: root}, {name: a}, {name: b}, {name: pager}]\n";
        let config = Config::parse(text, Path::new("."), MatcherMode::Fallback).expect("good");
        let find = |pairs: &[(&str, &str)]| {
            let labels = Labels::from_pairs(pairs.iter().copied());
            let found = config.root.find(&labels).into_iter().map(|route| route.options.receiver.clone());
            found.collect::<Vec<_>>()
        };
        assert_eq!(find(&[("team", "x")]), ["root"]);
        assert_eq!(find(&[("team", "a")]), ["a", "b"]);
        assert_eq!(find(&[("team", "a"), ("severity", "page")]), ["pager", "b"]);
        assert_eq!(find(&[("team", "b")]), ["b"]);
        let labels = Labels::from_pairs([("team", "a"), ("severity", "page"), ("alertname", "x")]);
        let route = config.root.find(&labels)[0];
        assert_eq!(route.options.group_labels(&labels), labels);
        assert_eq!(route.options.key, r#"{}/{team="a"}/{severity="page"}"#);
    }

    #[test]
    fn route_labels_are_inherited() {
        let text = "route:\n  receiver: r\n  labels: {a: one, b: two}\n  routes: [{matchers: [x=y], labels: {b: three}}]\n\
                    receivers: [{name: r}]";
        let root = Config::parse(text, Path::new("."), MatcherMode::Fallback).expect("good").root;
        let labels: Vec<(&str, &str)> =
            root.children[0].options.labels.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(labels, [("a", "one"), ("b", "three")]);
    }
}
