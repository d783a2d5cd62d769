//! The functions that text/template itself brings.

use std::cmp::Ordering;

use crate::printf;
use crate::value::{Value, argument};

/// Whether there is a built-in of this name.
pub fn exists(name: &str) -> bool {
    matches!(name, "and" | "or") || call(name, &[]).is_some()
}

/// Calls a built-in; `None` when there is none of this name. (`and` and `or` are in `exec`: they stop early.)
pub fn call(name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
    Some(match name {
        "not" => argument(arguments, 0).map(|value| Value::Bool(!value.is_true())),
        "eq" => equal(arguments),
        "ne" => equal(arguments).map(|value| Value::Bool(!value.is_true())),
        "lt" => ordered(arguments, |order| order == Ordering::Less),
        "le" => ordered(arguments, |order| order != Ordering::Greater),
        "gt" => ordered(arguments, |order| order == Ordering::Greater),
        "ge" => ordered(arguments, |order| order != Ordering::Less),
        "len" => len(arguments),
        "index" => index(arguments),
        "slice" => slice(arguments),
        "print" => Ok(print(arguments).into()),
        "println" => Ok((arguments.iter().map(Value::print).collect::<Vec<_>>().join(" ") + "\n").into()),
        "printf" => printf::format(arguments).map(Value::from),
        "html" => Ok(Value::Safe(escape_html(&print(arguments)))),
        "js" => Ok(escape_js(&print(arguments)).into()),
        "urlquery" => Ok(escape_query(&print(arguments)).into()),
        _ => return None,
    })
}

/// Like Go's `fmt.Sprint`: a blank between operands when neither is a string.
fn print(arguments: &[Value]) -> String {
    let mut text = String::new();
    let is_text = |value: &Value| matches!(value, Value::String(_) | Value::Safe(_));
    for (i, value) in arguments.iter().enumerate() {
        if i > 0 && !is_text(value) && !is_text(&arguments[i - 1]) {
            text.push(' ');
        }
        text += &value.print();
    }
    text
}

/// Compares two values of one basic kind; ints and floats do not mix, as in Go.
fn compare(left: &Value, right: &Value) -> Result<Option<Ordering>, String> {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => Ok(Some(a.cmp(b))),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Ok(Some(a.cmp(b))),
        (Value::String(a) | Value::Safe(a), Value::String(b) | Value::Safe(b)) => Ok(Some(a.cmp(b))),
        (Value::Nil, Value::Nil) => Ok(Some(Ordering::Equal)),
        (Value::Nil, _) | (_, Value::Nil) => Ok(None),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

/// Whether the first equals any of the others.
fn equal(arguments: &[Value]) -> Result<Value, String> {
    let first = argument(arguments, 0)?;
    argument(arguments, 1)?;
    for other in &arguments[1..] {
        if compare(first, other)? == Some(Ordering::Equal) {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn ordered(arguments: &[Value], holds: impl Fn(Ordering) -> bool) -> Result<Value, String> {
    let order = compare(argument(arguments, 0)?, argument(arguments, 1)?)?;
    Ok(Value::Bool(order.is_some_and(holds)))
}

fn len(arguments: &[Value]) -> Result<Value, String> {
    let value = argument(arguments, 0)?;
    let length = match value {
        Value::String(text) | Value::Safe(text) => text.len(),
        other => other.entries().ok_or_else(|| format!("len of type {}", other.kind()))?.len(),
    };
    Ok(Value::Int(length as i64))
}

fn index(arguments: &[Value]) -> Result<Value, String> {
    let mut value = argument(arguments, 0)?.clone();
    for key in &arguments[1..] {
        value = match (&value, key) {
            (Value::Map(items), key) => items.get(key.text()?).cloned().unwrap_or_else(|| "".into()),
            (Value::String(text), Value::Int(i)) => {
                let byte = usize::try_from(*i).ok().and_then(|i| text.as_bytes().get(i).copied());
                Value::Int(byte.ok_or_else(|| format!("index out of range: {i}"))?.into())
            }
            (other, Value::Int(i)) => {
                let entries = other.entries().ok_or_else(|| format!("can't index item of type {}", other.kind()))?;
                let entry = usize::try_from(*i).ok().and_then(|i| entries.get(i).cloned());
                entry.ok_or_else(|| format!("index out of range: {i}"))?.1
            }
            (Value::Object(object), key) => {
                object.member(key.text()?, &[]).ok_or_else(|| format!("no entry for key {}", key.print()))??
            }
            (other, _) => return Err(format!("can't index item of type {}", other.kind())),
        };
    }
    Ok(value)
}

fn slice(arguments: &[Value]) -> Result<Value, String> {
    let bound = |i: usize, default: usize| match arguments.get(i) {
        None => Ok(default),
        Some(Value::Int(n)) => usize::try_from(*n).map_err(|_| format!("index out of range: {n}")),
        Some(other) => Err(format!("cannot index slice with type {}", other.kind())),
    };
    match argument(arguments, 0)? {
        Value::String(text) => {
            let (start, end) = (bound(1, 0)?, bound(2, text.len())?);
            Ok(text.get(start..end).ok_or("slice bounds out of range")?.into())
        }
        Value::List(items) => {
            let (start, end) = (bound(1, 0)?, bound(2, items.len())?);
            Ok(Value::list(items.get(start..end).ok_or("slice bounds out of range")?.iter().cloned()))
        }
        other => Err(format!("can't slice item of type {}", other.kind())),
    }
}

pub fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '&' => escaped += "&amp;",
            '"' => escaped += "&#34;",
            '\'' => escaped += "&#39;",
            '\0' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

fn escape_js(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped += "\\\\",
            '\'' => escaped += "\\'",
            '"' => escaped += "\\\"",
            '<' | '>' | '&' | '=' => escaped += &format!("\\u{:04X}", u32::from(c)),
            c if u32::from(c) < 0x20 => escaped += &format!("\\u{:04X}", u32::from(c)),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Go's `url.QueryEscape`.
pub fn escape_query(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            b' ' => escaped.push('+'),
            other => escaped += &format!("%{other:02X}"),
        }
    }
    escaped
}
