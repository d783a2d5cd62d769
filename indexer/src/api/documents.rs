//! JSON documents as lines: what Elasticsearch's `_bulk` and JSON lines have in common.
//!
//! The message is the line, everything else its structured metadata, flattened. A document without a message, or with more
//! than metadata may hold, is a line as a whole. Labels of the stream are the fields that the request names
//! (`_stream_fields`), or those that say where a thing runs.

use ::query::promql::parse_series_name;
use ::service::http::Params;
use model::Labels;
use serde_json::{Map, Value as Json};

use super::intake::Entry;

const MESSAGES: [&str; 5] = ["message", "msg", "_msg", "log", "body"];
const TIMES: [&str; 5] = ["@timestamp", "_time", "timestamp", "time", "ts"];
/// Flattened names of the fields that are labels where the request names none.
const STREAM: [&str; 12] = [
    "host_name",
    "hostname",
    "service_name",
    "kubernetes_namespace_name",
    "kubernetes_namespace",
    "kubernetes_pod_name",
    "kubernetes_pod",
    "kubernetes_container_name",
    "container_name",
    "app",
    "job",
    "namespace",
];
const MAX_DEPTH: usize = 16;
const MAX_FIELDS: usize = 100;

/// How a request wants its documents read.
pub struct Reading {
    messages: Vec<String>,
    times: Vec<String>,
    stream: Vec<String>,
    extra: Labels,
}

impl Reading {
    /// `_msg_field`, `_time_field`, `_stream_fields` and `extra_labels`, as VictoriaLogs has them; headers too.
    pub fn of(params: &Params, header: impl Fn(&str) -> Option<String>) -> Result<Reading, String> {
        let get = |name: &str, other: &str| params.get(name).map(str::to_owned).or_else(|| header(other));
        let list = |text: Option<String>, default: &[&str]| match text {
            Some(text) => text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            None => default.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(),
        };
        let extra = match get("extra_labels", "x-extra-labels") {
            Some(text) => match parse_series_name(text.trim()) {
                Ok((labels, "")) => labels,
                _ => return Err(format!("extra_labels {text:?} is no label set")),
            },
            None => Labels::default(),
        };
        Ok(Reading {
            messages: list(get("_msg_field", "vl-msg-field"), &MESSAGES),
            times: list(get("_time_field", "vl-time-field"), &TIMES),
            stream: list(get("_stream_fields", "vl-stream-fields"), &STREAM).iter().map(|name| name_of(name)).collect(),
            extra,
        })
    }

    /// A document as a line of a stream; `label` is one that every stream of the request has.
    pub fn line(&self, document: Map<String, Json>, label: (&str, &str), now_ns: i64) -> (Labels, Entry) {
        let time = self.times.iter().find(|name| document.contains_key(*name));
        let t_ns = match time {
            Some(name) => time_ns(&document[name]),
            None => Some(now_ns),
        };
        let message = self.messages.iter().find(|name| document.get(*name).is_some_and(Json::is_string));
        let mut fields = Vec::new();
        flatten(&document, "", 0, &mut fields);
        let mut builder = self.extra.to_builder();
        builder.set(label.0, label.1);
        for (name, value) in fields.iter().filter(|(name, _)| self.stream.contains(name)) {
            builder.set(name.as_str(), value.as_str());
        }
        let labels = builder.build();
        let is_other = |name: &str| {
            let is = |chosen: Option<&String>| chosen.is_some_and(|chosen| name_of(chosen) == name);
            !is(message) && !is(time) && !self.stream.iter().any(|field| field == name)
        };
        fields.retain(|(name, value)| is_other(name) && !value.is_empty());
        let text = message.and_then(|name| document.get(name)).and_then(Json::as_str).map(str::to_owned);
        match text {
            Some(line) if fields.len() <= MAX_FIELDS => (labels, Entry { t_ns, line, metadata: fields }),
            _ => (labels, Entry { t_ns, line: Json::Object(document).to_string(), metadata: Vec::new() }),
        }
    }
}

fn name_of(key: &str) -> String {
    let mut name: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

/// Members by their names joined with `_`; arrays as JSON.
fn flatten(object: &Map<String, Json>, prefix: &str, depth: usize, into: &mut Vec<(String, String)>) {
    for (key, value) in object {
        let name = if prefix.is_empty() { name_of(key) } else { format!("{prefix}_{}", name_of(key)) };
        match value {
            Json::Object(inner) if depth < MAX_DEPTH => flatten(inner, &name, depth + 1, into),
            Json::Null => {}
            Json::String(text) => into.push((name, text.clone())),
            other => into.push((name, other.to_string())),
        }
    }
}

/// RFC 3339, or a number of seconds, milliseconds, microseconds or nanoseconds, told by its size.
fn time_ns(value: &Json) -> Option<i64> {
    match value {
        Json::String(text) => model::parse_rfc3339_ns(text).or_else(|| of_number(text.parse().ok()?)),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => of_whole(whole),
            None => of_number(number.as_f64()?),
        },
        _ => None,
    }
}

fn of_whole(number: i64) -> Option<i64> {
    let unit_ns = match number.unsigned_abs() {
        0..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    number.checked_mul(unit_ns)
}

fn of_number(number: f64) -> Option<i64> {
    if number.fract() == 0.0 && number.abs() < 9e18 {
        return of_whole(number as i64);
    }
    (number.abs() < 1e11).then_some((number * 1e9) as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(params: &str, document: Json, expected: (&str, Option<i64>, &str, &str)) {
        let reading = Reading::of(&Params::parse(params), |_| None).expect("a reading");
        let Json::Object(document) = document else { panic!("an object") };
        let (labels, entry) = reading.line(document, ("index", "x"), 7);
        let metadata = Labels::from_pairs(entry.metadata).to_string();
        let got = (labels.to_string(), entry.t_ns, entry.line, metadata);
        assert_eq!((got.0.as_str(), got.1, got.2.as_str(), got.3.as_str()), expected);
    }

    #[test]
    fn documents_are_lines_of_streams() {
        let beat = json!({"@timestamp": "1970-01-01T00:00:01.5Z", "message": "hi", "host": {"name": "h"}, "log": {"level": "warn"}, "n": 1});
        check("", beat, (r#"{host_name="h", index="x"}"#, Some(1_500_000_000), "hi", r#"{log_level="warn", n="1"}"#));
        check("", json!({"log": "a", "t": [1, 2]}), (r#"{index="x"}"#, Some(7), "a", r#"{t="[1,2]"}"#));
        check(
            "",
            json!({"a": {"b": 1}, "time": 1_700_000_000_123_i64}),
            (r#"{index="x"}"#, Some(1_700_000_000_123_000_000), r#"{"a":{"b":1},"time":1700000000123}"#, "{}"),
        );
        check("", json!({"msg": "x", "ts": 1.5}), (r#"{index="x"}"#, Some(1_500_000_000), "x", "{}"));
        check("", json!({"msg": "x", "ts": "soon"}), (r#"{index="x"}"#, None, "x", "{}"));
        check(
            "_msg_field=text&_time_field=when&_stream_fields=svc,k.v&extra_labels=%7Ba%3D%22b%22%7D",
            json!({"text": "x", "when": "3", "svc": "api", "k": {"v": "w"}, "app": "y"}),
            (r#"{a="b", index="x", k_v="w", svc="api"}"#, Some(3_000_000_000), "x", r#"{app="y"}"#),
        );
    }
}
