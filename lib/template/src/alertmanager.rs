//! The functions that Alertmanager gives to notification templates (its `docs/notifications`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::go_time::{TimeValue, parse};
use crate::number::humanize_duration;
use crate::prometheus::{add_regexes, capital, words};
use crate::value::{Functions, Value, argument};

pub fn functions(now_ms: i64) -> Functions {
    let mut functions = Functions::default();
    add_texts(&mut functions);
    add_regexes(&mut functions);
    add_collections(&mut functions);
    add_times(&mut functions, now_ms);
    functions
}

fn add_texts(functions: &mut Functions) {
    functions.add_text("toUpper", str::to_uppercase);
    functions.add_text("toLower", str::to_lowercase);
    functions.add_text("title", |text| words(text, |word| capital(&word.to_lowercase())));
    functions.add_text("trimSpace", |text| text.trim().to_owned());
    functions.add_text("base64encode", |text| STANDARD.encode(text));
    functions.add("base64decode", |arguments| {
        let bytes = STANDARD.decode(argument(arguments, 0)?.text()?).map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned().into())
    });
    functions.add("urlUnescape", |arguments| {
        let text = argument(arguments, 0)?.text()?;
        unescape(text).map(Value::from).ok_or_else(|| format!("invalid URL escape in {text:?}"))
    });
    functions.add("safeHtml", |arguments| Ok(Value::Safe(argument(arguments, 0)?.text()?.to_owned())));
    functions.add("safeUrl", |arguments| Ok(Value::Safe(argument(arguments, 0)?.text()?.to_owned())));
    functions.add("join", |arguments| {
        let separator = argument(arguments, 0)?.text()?;
        let entries = argument(arguments, 1)?.entries().ok_or("join needs a list")?;
        let items: Vec<String> = entries.iter().map(|(_, item)| item.print()).collect();
        Ok(items.join(separator).into())
    });
}

/// Go's `url.QueryUnescape`.
pub fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                (digit(rest.next()?)? * 16 + digit(rest.next()?)?) as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn add_collections(functions: &mut Functions) {
    functions.add("stringSlice", |arguments| Ok(Value::list(arguments.iter().cloned())));
    functions.add("list", |arguments| Ok(Value::list(arguments.iter().cloned())));
    functions.add("append", |arguments| {
        let entries = argument(arguments, 0)?.entries().ok_or("append needs a list")?;
        Ok(Value::list(entries.into_iter().map(|(_, item)| item).chain(arguments[1..].iter().cloned())))
    });
    functions.add("dict", |arguments| {
        if arguments.len() % 2 != 0 {
            return Err("dict needs pairs of keys and values".to_owned());
        }
        let pairs = arguments.chunks(2).map(|pair| Ok((pair[0].text()?.to_owned(), pair[1].clone())));
        Ok(Value::map(pairs.collect::<Result<Vec<_>, String>>()?))
    });
    functions.add("toJson", |arguments| Ok(to_json(argument(arguments, 0)?).to_string().into()));
}

fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Nil => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::String(text) | Value::Safe(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(items) => items.iter().map(|(key, value)| (key.clone(), to_json(value))).collect(),
        Value::Object(object) => match object.entries() {
            Some(entries) if entries.iter().all(|(key, _)| matches!(key, Value::Int(_))) => {
                entries.iter().map(|(_, value)| to_json(value)).collect()
            }
            Some(entries) => entries.iter().map(|(key, value)| (key.print(), to_json(value))).collect(),
            None => object.print().into(),
        },
    }
}

fn time(value: &Value) -> Result<TimeValue, String> {
    match value {
        Value::Object(object) => {
            let ms = object.member("UnixMilli", &[]).ok_or("expected a time")??.number()?;
            Ok(TimeValue::from_ms(ms as i64))
        }
        other => Err(format!("expected a time; got {}", other.kind())),
    }
}

fn add_times(functions: &mut Functions, now_ms: i64) {
    functions.add("now", move |_| Ok(Value::object(TimeValue::from_ms(now_ms))));
    functions.add("date", |arguments| {
        let layout = argument(arguments, 0)?.text()?;
        match argument(arguments, 1)? {
            Value::Object(object) => object.member("Format", &[layout.into()]).ok_or("expected a time")?,
            other => Err(format!("expected a time; got {}", other.kind())),
        }
    });
    functions.add("tz", |arguments| {
        let zone = argument(arguments, 0)?.text()?;
        Ok(Value::object(time(argument(arguments, 1)?)?.in_zone(zone)?))
    });
    // Go durations are nanoseconds.
    functions
        .add("since", move |arguments| Ok(Value::Int((now_ms - time(argument(arguments, 0)?)?.to_ms()) * 1_000_000)));
    functions.add("humanizeDuration", |arguments| {
        let value = argument(arguments, 0)?;
        let seconds = if let Value::Int(ns) = value { *ns as f64 / 1e9 } else { value.number()? };
        Ok(humanize_duration(seconds).into())
    });
    let to_date = |arguments: &[Value]| {
        let (layout, text) = (argument(arguments, 0)?.text()?, argument(arguments, 1)?.text()?);
        parse(layout, text)
    };
    functions.add("toDate", move |arguments| Ok(to_date(arguments).map_or(Value::Nil, Value::object)));
    functions.add("mustToDate", move |arguments| to_date(arguments).map(Value::object));
}
