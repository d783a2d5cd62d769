//! Templates filled in for one notice, and texts cut to what a receiver takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Alert, Labels};
use serde_json::Value as Json;
use template::{Functions, Mode, Templates, Value};

use super::{Memory, Notice, NotifyError};
use crate::route::RouteOptions;

const ELLIPSIS: &str = "…";

pub struct Render<'a> {
    pub notice: &'a Notice,
    pub route_labels: Labels,
    templates: &'a Templates,
    dot: Value,
    functions: Functions,
}

impl<'a> Render<'a> {
    pub fn new(notice: &'a Notice, templates: &'a Templates) -> Render<'a> {
        let route_labels = route_labels(notice, templates);
        let mut functions = template::alertmanager_functions(notice.now_ms);
        let known = route_labels.clone();
        functions.add("routeLabels", move |arguments| {
            let name = arguments.first().ok_or("routeLabels needs a name")?.text()?;
            Ok(known.get(name).unwrap_or("").into())
        });
        let dot = notice.to_value(&route_labels);
        Render { notice, route_labels, templates, dot, functions }
    }

    fn expand(&self, template: &str, mode: Mode) -> Result<String, NotifyError> {
        self.templates.expand(template, &self.dot, &self.functions, mode).map_err(NotifyError::for_good)
    }

    pub fn text(&self, template: &str) -> Result<String, NotifyError> {
        self.expand(template, Mode::Text)
    }

    pub fn html(&self, template: &str) -> Result<String, NotifyError> {
        self.expand(template, Mode::Html)
    }

    /// A text of at most so many characters; says in the log when something was cut off.
    pub fn cut(&self, field: &str, template: &str, max_runes: usize) -> Result<String, NotifyError> {
        Ok(self.cut_text(field, self.text(template)?, max_runes))
    }

    pub fn cut_text(&self, field: &str, text: String, max_runes: usize) -> String {
        let Some(short) = cut_runes(&text, max_runes) else { return text };
        tracing::warn!(group = self.notice.group_key, max_runes, "{field} is cut");
        short
    }

    /// A list of names separated by commas; empty ones are left out.
    pub fn list(&self, template: &str) -> Result<Vec<String>, NotifyError> {
        Ok(split(&self.text(template)?))
    }

    /// A tree with every text and key in it filled in. A text that then reads as YAML of another kind (a number, a
    /// list, what `toJson` prints) becomes that.
    pub fn tree(&self, tree: &Json) -> Result<Json, NotifyError> {
        Ok(match tree {
            Json::String(template) => typed(self.text(template)?),
            Json::Array(items) => items.iter().map(|item| self.tree(item)).collect::<Result<_, _>>()?,
            Json::Object(items) => {
                let pairs = items.iter().map(|(key, value)| Ok((self.text(key)?, self.tree(value)?)));
                Json::Object(pairs.collect::<Result<_, NotifyError>>()?)
            }
            other => other.clone(),
        })
    }
}

/// A route's labels as a group of its alerts would have them. Alerts are asked for only where there are labels.
pub fn route_labels_of(
    options: &RouteOptions,
    group_labels: &Labels,
    alerts: impl FnOnce() -> Vec<Alert>,
    templates: &Templates,
    now_ms: i64,
) -> Labels {
    if options.labels.is_empty() {
        return Labels::default();
    }
    let notice = Notice {
        receiver: options.receiver.clone(),
        group_key: options.group_key(group_labels),
        group_labels: group_labels.clone(),
        route_labels: options.labels.clone(),
        external_url: String::new(),
        reason: "",
        idempotency_key: String::new(),
        alerts: alerts(),
        memory: Memory::new(),
        now_ms,
    };
    route_labels(&notice, templates)
}

/// The route's labels filled in, those that name others with them. One that fails is empty, and the log says why.
fn route_labels(notice: &Notice, templates: &Templates) -> Labels {
    if notice.route_labels.is_empty() {
        return Labels::default();
    }
    let source = Arc::new(RouteLabels {
        texts: notice.route_labels.clone(),
        templates: templates.clone(),
        dot: notice.to_value(&Labels::default()),
        now_ms: notice.now_ms,
    });
    let filled = notice.route_labels.keys().map(|name| {
        let text = source.fill(name, &[]).unwrap_or_else(|error| {
            tracing::warn!(group = notice.group_key, label = name, error, "a route label cannot be filled in");
            String::new()
        });
        (name.clone(), text)
    });
    Labels::from_pairs(filled)
}

struct RouteLabels {
    texts: BTreeMap<String, String>,
    templates: Templates,
    dot: Value,
    now_ms: i64,
}

impl RouteLabels {
    /// `under` are the labels that are being filled in just now: one of them again would never end.
    fn fill(self: &Arc<Self>, name: &str, under: &[String]) -> Result<String, String> {
        let Some(text) = self.texts.get(name) else { return Ok(String::new()) };
        let path: Vec<String> = under.iter().cloned().chain([name.to_owned()]).collect();
        if under.iter().any(|busy| busy == name) {
            return Err(format!("route label cycle detected: {}", path.join(" -> ")));
        }
        let mut functions = template::alertmanager_functions(self.now_ms);
        let source = self.clone();
        functions.add("routeLabels", move |arguments| {
            let name = arguments.first().ok_or("routeLabels needs a name")?.text()?;
            source.fill(name, &path).map(Value::from)
        });
        self.templates.expand(text, &self.dot, &functions, Mode::Text).map_err(|error| error.to_string())
    }
}

/// An object of the fields that say something: no empty text or list, no `false`.
pub fn filled<'a>(fields: impl IntoIterator<Item = (&'a str, Json)>) -> Json {
    let says = |value: &Json| match value {
        Json::Null | Json::Bool(false) => false,
        Json::String(text) => !text.is_empty(),
        Json::Array(items) => !items.is_empty(),
        Json::Object(items) => !items.is_empty(),
        Json::Bool(true) | Json::Number(_) => true,
    };
    let fields = fields.into_iter().filter(|(_, value)| says(value));
    Json::Object(fields.map(|(name, value)| (name.to_owned(), value)).collect())
}

pub fn split(text: &str) -> Vec<String> {
    text.trim().split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn typed(text: String) -> Json {
    match serde_saphyr::from_str::<Json>(&text) {
        Ok(Json::String(_)) | Err(_) => Json::String(text),
        // YAML would take a telephone number, `+49…` or `0049…`, for a number.
        Ok(Json::Number(_)) if serde_json::from_str::<Json>(&text).is_err() => Json::String(text),
        Ok(other) => other,
    }
}

/// The start of a text that is longer than so many characters, the last of them an ellipsis.
pub fn cut_runes(text: &str, max: usize) -> Option<String> {
    text.char_indices().nth(max)?;
    Some(match max {
        0..=3 => text.chars().take(max).collect(),
        _ => text.chars().take(max - 1).chain(ELLIPSIS.chars()).collect(),
    })
}

/// The start of a text that is longer than so many bytes, ending in an ellipsis; no character is broken.
pub fn cut_bytes(text: &str, max: usize) -> Option<String> {
    if text.len() <= max {
        return None;
    }
    if max < ELLIPSIS.len() {
        return Some(".".repeat(max));
    }
    Some(format!("{}{ELLIPSIS}", &text[..text.floor_char_boundary(max - ELLIPSIS.len())]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::default_templates;

    fn check(text: &str, max: usize, expected: (Option<&str>, Option<&str>)) {
        let (runes, bytes) = (cut_runes(text, max), cut_bytes(text, max));
        assert_eq!((runes.as_deref(), bytes.as_deref()), expected, "{text} to {max}");
    }

    #[test]
    fn long_texts_are_cut() {
        check("abcd", 4, (None, None));
        check("abcde", 4, (Some("abc…"), Some("a…")));
        check("abcde", 3, (Some("abc"), Some("…")));
        check("abcde", 2, (Some("ab"), Some("..")));
        check("ääää", 5, (None, Some("ä…")));
        check("", 0, (None, None));
    }

    #[test]
    fn trees_are_filled_in_and_typed() {
        let (notice, templates) = (notice(), default_templates());
        let render = Render::new(&notice, &templates);
        let tree = serde_json::json!({
            "{{ .Status }}": "{{ .Alerts.Firing | len }}",
            "text": "{{ .GroupLabels.alertname }}",
            "list": ["{{ .CommonLabels | toJson }}", true, null, 7],
            "odd": "value1:value2 {",
            "phone": "+49",
        });
        let expected = serde_json::json!({
            "firing": 1,
            "text": "Down",
            "list": [{"alertname": "Down", "severity": "page"}, true, null, 7],
            "odd": "value1:value2 {",
            "phone": "+49",
        });
        assert_eq!(render.tree(&tree).expect("fills in"), expected);
        assert_eq!(render.list(" a,,{{ .Status }} ").expect("a list"), ["a", "firing"]);
    }

    #[test]
    fn route_labels_may_name_one_another() {
        let text = |text: &str| text.to_owned();
        let route_labels = BTreeMap::from([
            (text("reason"), text("{{ .GroupLabels.alertname }}")),
            (text("why"), text("{{ .Status }}: {{ routeLabels \"reason\" }}{{ routeLabels \"none\" }}")),
            (text("a"), text("{{ routeLabels \"b\" }}")),
            (text("b"), text("{{ routeLabels \"a\" }}")),
        ]);
        let (notice, templates) = (Notice { route_labels, ..notice() }, default_templates());
        let render = Render::new(&notice, &templates);
        let told = render.text("{{ routeLabels \"why\" }}, {{ .RouteLabels.reason }}, {{ routeLabels \"a\" }}.");
        assert_eq!(told.expect("fills in"), "firing: Down, Down, .");
    }
}
