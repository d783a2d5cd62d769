//! What `amtool` does without a server: checks a configuration, walks its routes, fills in templates.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;
use template::{Functions, Mode, Templates, TimeValue};

use crate::config::{Config, routes_only, template_files};
use crate::matchers::MatcherMode;
use crate::notify::{data_of_json, default_templates};
use crate::route::Route;

/// What a configuration holds.
#[derive(Debug)]
pub struct Found {
    pub has_global: bool,
    pub inhibit_rules: usize,
    pub receivers: usize,
    pub templates: usize,
}

/// Checks a file as the router would read it; its connections are prepared too.
pub fn check(path: &Path) -> Result<Found, String> {
    let config = Config::load(Some(path), MatcherMode::default()).map_err(|error| error.message)?;
    config.prepare()?;
    Ok(Found {
        has_global: config.has_global,
        inhibit_rules: config.inhibit_rules.len(),
        receivers: config.receivers.len(),
        templates: config.template_patterns,
    })
}

/// The routing tree of a configuration's text, whatever else is in it.
pub fn routes(text: &str) -> Result<Route, String> {
    routes_only(text, MatcherMode::default())
}

/// A route as trees show it.
pub fn describe(route: &Route, with_continue: bool, with_receiver: bool) -> String {
    let mut text = match route.matchers.is_empty() {
        true => "default-route".to_owned(),
        false => {
            let matchers: Vec<String> = route.matchers.iter().map(ToString::to_string).collect();
            format!("{{{}}}", matchers.join(","))
        }
    };
    if with_continue && route.go_on {
        text += "  continue: true";
    }
    if with_receiver {
        text += &format!("  receiver: {}", route.options.receiver);
    }
    text
}

/// Fills in a text with the files' templates at hand; without data, with two alerts of our own.
pub fn render(
    patterns: &[String],
    text: &str,
    is_html: bool,
    data: Option<&str>,
    now_ms: i64,
) -> Result<String, String> {
    let mut templates: Templates = default_templates();
    for pattern in patterns {
        for path in template_files(Path::new(pattern))? {
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            templates.parse(&path.display().to_string(), &text).map_err(|error| error.to_string())?;
        }
    }
    let data: Json = match data {
        Some(text) => serde_json::from_str(text).map_err(|error| error.to_string())?,
        None => example(now_ms),
    };
    let functions: Functions = template::alertmanager_functions(now_ms);
    let mode = if is_html { Mode::Html } else { Mode::Text };
    templates.expand(text, &data_of_json(&data), &functions, mode).map_err(|error| error.to_string())
}

/// Flags in one of amtool's own configuration files.
pub fn flags_of_file(text: &str) -> Result<BTreeMap<String, String>, String> {
    let values: BTreeMap<String, Json> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let word = |value: Json| match value {
        Json::String(text) => text,
        other => other.to_string(),
    };
    Ok(values.into_iter().map(|(name, value)| (name, word(value))).collect())
}

/// RFC 3339 of any year as milliseconds: clients send years in which nanoseconds do not fit into 64 bits.
pub fn parse_time_ms(text: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_millis())
}

/// A time by one of Go's layouts, in UTC.
pub fn format_time(ms: i64, layout: &str) -> String {
    TimeValue::from_ms(ms).format(layout)
}

/// What templates are tried with when no data are given: one alert that fires, one that has resolved.
fn example(now_ms: i64) -> Json {
    let minutes_ago = |minutes: i64| model::format_rfc3339_ms(now_ms - minutes * 60_000);
    let common = serde_json::json!({"commonlabelkey1": "commonlabelvalue1", "commonlabelkey2": "commonlabelvalue2"});
    let noted = serde_json::json!({
        "commonannotationkey1": "commonannotationvalue1", "commonannotationkey2": "commonannotationvalue2",
    });
    let with = |shared: &Json, own: &[(&str, &str)]| {
        let mut all = shared.clone();
        own.iter().for_each(|(name, value)| all[*name] = (*value).into());
        all
    };
    let firing = [("label1", "value1"), ("label2", "value2"), ("instance", "foo.bar:1234")];
    serde_json::json!({
        "receiver": "receiver",
        "status": "alertstatus",
        "alerts": [
            {
                "status": "firing", "labels": with(&common, &firing),
                "annotations": with(&noted, &[("annotation1", "value1"), ("annotation2", "value2")]),
                "startsAt": minutes_ago(5), "endsAt": minutes_ago(0),
                "generatorURL": "https://generatorurl.com", "fingerprint": "fingerprint1",
            },
            {
                "status": "resolved", "labels": with(&common, &[("foo", "bar"), ("baz", "qux")]),
                "annotations": with(&noted, &[("aaa", "bbb"), ("ccc", "ddd")]),
                "startsAt": minutes_ago(10), "endsAt": minutes_ago(0),
                "generatorURL": "https://generatorurl.com", "fingerprint": "fingerprint2",
            },
        ],
        "groupLabels": {"grouplabelkey1": "grouplabelvalue1", "grouplabelkey2": "grouplabelvalue2"},
        "commonLabels": common,
        "commonAnnotations": noted,
        "externalURL": "https://example.com",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_render(text: &str, is_html: bool, data: Option<&str>, expected: Result<&str, &str>) {
        match (render(&[], text, is_html, data, 1_000_000), expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{text}"),
            (Err(got), Err(expected)) => assert!(got.contains(expected), "{text}: {got}"),
            (got, expected) => panic!("{text}: {got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn templates_are_filled_in() {
        let instance = "{{ range .Alerts.Firing }}{{ .Labels.instance }}{{ end }} {{ len .Alerts }} {{ .Status }}";
        check_render(instance, false, None, Ok("foo.bar:1234 2 alertstatus"));
        check_render(r#"{{ "<" }}"#, true, None, Ok("&lt;"));
        check_render(r#"{{ "<" }}"#, false, None, Ok("<"));
        check_render("{{ (index .Alerts 0).StartsAt.Unix }}", false, None, Ok("700"));
        let data = r#"{"status":"firing","alerts":[{"labels":{"a":"b"}}],"commonLabels":{"a":"b"}}"#;
        check_render("{{ .CommonLabels.a }} {{ .GroupLabels.x }} {{ len .Alerts }}", false, Some(data), Ok("b  1"));
        check_render("{{ nonsense }}", false, None, Err("nonsense"));
        check_render("x", false, Some("{"), Err("EOF"));
    }

    #[test]
    fn routes_are_described() {
        let text =
            "route: {receiver: r, routes: [{matchers: [b=c, a=~d], continue: true, receiver: s}]}\nreceivers: odd";
        let root = routes(text).expect("routes");
        assert_eq!(describe(&root, true, true), "default-route  receiver: r");
        assert_eq!(describe(&root.children[0], true, true), r#"{a=~"d",b="c"}  continue: true  receiver: s"#);
        assert_eq!(describe(&root.children[0], false, false), r#"{a=~"d",b="c"}"#);
        assert!(routes("receivers: []").is_err());
    }
}
