//! The functions that Prometheus gives to alert annotations and labels (its `docs/configuration/template_reference`).

use std::sync::Arc;

use model::{Labels, Sample};

use crate::builtins::escape_query;
use crate::format_float;
use crate::go_time::TimeValue;
use crate::number::{humanize, humanize_1024, humanize_duration};
use crate::value::{Functions, Value, argument};

/// Answers `{{ query "…" }}`.
pub type Query = Arc<dyn Fn(&str) -> Result<Vec<(Labels, Sample)>, String> + Send + Sync>;

/// What the functions need to know of their surroundings.
#[derive(Clone)]
pub struct Context {
    pub external_url: String,
    pub now_ms: i64,
    pub query: Query,
}

pub fn functions(context: &Context) -> Functions {
    let mut functions = Functions::default();
    add_numbers(&mut functions);
    add_texts(&mut functions);
    add_vectors(&mut functions);
    add_surroundings(&mut functions, context);
    functions
}

fn add_numbers(functions: &mut Functions) {
    let mut number = |name, print: fn(f64) -> String| {
        functions.add(name, move |arguments| Ok(print(argument(arguments, 0)?.number()?).into()));
    };
    number("humanize", humanize);
    number("humanize1024", humanize_1024);
    number("humanizeDuration", humanize_duration);
    number("humanizePercentage", |ratio| format!("{}%", crate::number::format_significant(ratio * 100.0, 4)));
    number("humanizeTimestamp", |seconds| {
        if seconds.is_finite() {
            TimeValue::from_ms((seconds * 1000.0) as i64).format("2006-01-02 15:04:05.999999999 -0700 MST")
        } else {
            format_float(seconds)
        }
    });
    functions.add("toTime", |arguments| {
        let seconds = argument(arguments, 0)?.number()?;
        Ok(Value::object(TimeValue::from_ms((seconds * 1000.0) as i64)))
    });
    functions.add("toDuration", |arguments| Ok(Value::Int((argument(arguments, 0)?.number()? * 1e9) as i64)));
    functions.add("parseDuration", |arguments| {
        let ms = model::parse_duration(argument(arguments, 0)?.text()?).map_err(|error| error.to_string())?;
        Ok(Value::Float(ms as f64 / 1000.0))
    });
}

fn add_texts(functions: &mut Functions) {
    functions.add_text("title", |text| words(text, capital));
    functions.add_text("toUpper", str::to_uppercase);
    functions.add_text("toLower", str::to_lowercase);
    functions.add_text("urlQueryEscape", escape_query);
    functions.add_text("stripPort", |text| strip_port(text).to_owned());
    functions.add_text("stripDomain", |text| {
        let host = strip_port(text);
        if host.parse::<std::net::IpAddr>().is_ok() {
            return text.to_owned();
        }
        let name = host.split('.').next().unwrap_or(host);
        format!("{name}{}", &text[host.len()..])
    });
    functions.add_text("graphLink", |expr| format!("/graph?g0.expr={}&g0.tab=0", escape_query(expr)));
    functions.add_text("tableLink", |expr| format!("/graph?g0.expr={}&g0.tab=1", escape_query(expr)));
    functions.add("safeHtml", |arguments| Ok(Value::Safe(argument(arguments, 0)?.text()?.to_owned())));
    add_regexes(functions);
}

/// `match` and `reReplaceAll`, which both projects have.
pub fn add_regexes(functions: &mut Functions) {
    let compile = |pattern: &str| regex::Regex::new(pattern).map_err(|error| error.to_string());
    functions.add("match", move |arguments| {
        let regex = compile(argument(arguments, 0)?.text()?)?;
        Ok(Value::Bool(regex.is_match(argument(arguments, 1)?.text()?)))
    });
    functions.add("reReplaceAll", move |arguments| {
        let regex = compile(argument(arguments, 0)?.text()?)?;
        let (replacement, text) = (argument(arguments, 1)?.text()?, argument(arguments, 2)?.text()?);
        Ok(regex.replace_all(text, replacement).into_owned().into())
    });
}

/// The host of `host:port` or `[v6]:port`.
fn strip_port(text: &str) -> &str {
    if let Some(inside) = text.strip_prefix('[') {
        return inside.split(']').next().unwrap_or(text);
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => text,
    }
}

pub fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Applies a function to every word, keeping the blanks between them.
pub fn words(text: &str, change: impl Fn(&str) -> String) -> String {
    text.split_inclusive(char::is_whitespace).map(change).collect()
}

fn sample_value(labels: &Labels, sample: Sample) -> Value {
    Value::map([("Labels", Value::from(labels)), ("Value", Value::Float(sample.value))])
}

/// A field of the sample that `query` gave.
fn field(arguments: &[Value], i: usize, name: &str) -> Result<Value, String> {
    match argument(arguments, i)? {
        Value::Map(items) => items.get(name).cloned().ok_or_else(|| format!("no {name}")),
        other => Err(format!("expected a sample; got {}", other.kind())),
    }
}

fn add_vectors(functions: &mut Functions) {
    functions.add("first", |arguments| {
        let entries = argument(arguments, 0)?.entries().unwrap_or_default();
        entries
            .into_iter()
            .next()
            .map(|(_, sample)| sample)
            .ok_or_else(|| "first() called on vector with no elements".to_owned())
    });
    functions.add("value", |arguments| field(arguments, 0, "Value"));
    functions.add("strvalue", |arguments| label(&field(arguments, 0, "Labels")?, "__value__"));
    functions.add("label", |arguments| label(&field(arguments, 1, "Labels")?, argument(arguments, 0)?.text()?));
    functions.add("args", |arguments| {
        Ok(Value::map(arguments.iter().enumerate().map(|(i, v)| (format!("arg{i}"), v.clone()))))
    });
    functions.add("sortByLabel", |arguments| {
        let name = argument(arguments, 0)?.text()?.to_owned();
        let entries = argument(arguments, 1)?.entries().unwrap_or_default();
        let mut samples: Vec<Value> = entries.into_iter().map(|(_, sample)| sample).collect();
        samples.sort_by_cached_key(|sample| match sample {
            Value::Map(items) => {
                items.get("Labels").and_then(|labels| label(labels, &name).ok()).map(|value| value.print())
            }
            _ => None,
        });
        Ok(Value::list(samples))
    });
}

fn label(labels: &Value, name: &str) -> Result<Value, String> {
    match labels {
        Value::Object(object) => object.member(name, &[]).unwrap_or_else(|| Ok("".into())),
        other => Err(format!("expected labels; got {}", other.kind())),
    }
}

fn add_surroundings(functions: &mut Functions, context: &Context) {
    let query = context.query.clone();
    functions.add("query", move |arguments| {
        let samples = query(argument(arguments, 0)?.text()?)?;
        Ok(Value::list(samples.iter().map(|(labels, sample)| sample_value(labels, *sample))))
    });
    let url = context.external_url.clone();
    let path = url
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('/'))
        .map_or(String::new(), |(_, p)| format!("/{p}"));
    functions.add("externalURL", move |_| Ok(url.clone().into()));
    functions.add("pathPrefix", move |_| Ok(path.clone().into()));
    let now = context.now_ms as f64 / 1000.0;
    functions.add("now", move |_| Ok(Value::Float(now)));
}
