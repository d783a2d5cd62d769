//! JSON lines: every field flattened into labels, or chosen ones by path.

use serde_json::{Map, Value};

/// One step of a path: `a.b`, `a["b"]`, `a[0]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

pub(super) fn parse_path(text: &str) -> Result<Vec<Step>, String> {
    let bad = || format!("cannot parse expression [{text}]");
    let (mut steps, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let quoted = inner.starts_with('"').then(|| crate::literal::quoted_len(inner)).transpose();
            let step_len = quoted.map_err(|_| bad())?.or_else(|| inner.find(']')).ok_or_else(bad)?;
            let raw = &inner[..step_len];
            steps.push(match raw.starts_with('"') {
                true => Step::Key(crate::literal::unquote(raw).map_err(|_| bad())?),
                false => Step::Index(raw.trim().parse().map_err(|_| bad())?),
            });
            rest = inner[step_len..].strip_prefix(']').ok_or_else(bad)?;
            rest = rest.strip_prefix('.').unwrap_or(rest);
            continue;
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        if end == 0 {
            return Err(bad());
        }
        steps.push(Step::Key(rest[..end].to_owned()));
        rest = &rest[end..];
        rest = rest.strip_prefix('.').unwrap_or(rest);
    }
    if steps.is_empty() { Err(bad()) } else { Ok(steps) }
}

pub(super) fn parse_object(line: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(line).map_err(|error| error.to_string())
}

/// The value at a path as a label's value: scalars as text, objects and arrays as JSON.
pub(super) fn at_path(object: &Map<String, Value>, path: &[Step]) -> Option<String> {
    let (Step::Key(first), rest) = path.split_first()? else { return None };
    let mut value = object.get(first)?;
    for step in rest {
        value = match step {
            Step::Key(key) => value.get(key)?,
            Step::Index(index) => value.get(index)?,
        };
    }
    scalar(value).or_else(|| (!value.is_null()).then(|| value.to_string()))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Hands every scalar to `found`, nested names joined by `_`; arrays are left out. serde_json bounds the depth.
pub(super) fn flatten(object: &Map<String, Value>, prefix: &str, found: &mut dyn FnMut(&str, &str)) {
    for (key, value) in object {
        let mut name = sanitized(key);
        if !prefix.is_empty() {
            name = format!("{prefix}_{name}");
        }
        match value {
            Value::Object(inner) => flatten(inner, &name, found),
            _ => {
                if let Some(text) = scalar(value) {
                    found(&name, &text);
                }
            }
        }
    }
}

/// A label name from a key: what a name cannot hold becomes `_`.
pub(super) fn sanitized(key: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut name: String = key.trim().chars().map(|c| if is_allowed(c) { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let object = parse_object(r#"{"a": {"b c": [1, {"d": "x"}], "e": null}, "n": 1.5}"#).expect("an object");
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(at_path(&object, &parse_path(path).expect("a path")).as_deref(), expected, "{path}");
        };
        check(r#"a["b c"][1].d"#, Some("x"));
        check(r#"a["b c"]"#, Some(r#"[1,{"d":"x"}]"#));
        check("a.e", None);
        check("n", Some("1.5"));
        for bad in ["", ".", "a[", "a[x]", "a[\"x"] {
            assert!(parse_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flattening() {
        let object = parse_object(r#"{"a-b": {"c": true}, "0": 1, "l": [1], "z": null}"#).expect("an object");
        let mut found = Vec::new();
        flatten(&object, "", &mut |name, value| found.push(format!("{name}={value}")));
        found.sort();
        assert_eq!(found, ["_0=1", "a_b_c=true"]);
    }
}
