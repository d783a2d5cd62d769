//! Go's `printf` for the values that templates have.

use crate::number::{format_exponent, format_float, format_significant};
use crate::value::Value;

/// Flags, width and precision between `%` and the verb.
#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    zero: bool,
    sharp: bool,
    space: bool,
    width: usize,
    precision: Option<usize>,
}

const MAX_WIDTH: usize = 10_000;

pub fn format(arguments: &[Value]) -> Result<String, String> {
    let (first, values) = arguments.split_first().ok_or("wrong number of args for printf: want at least 1 got 0")?;
    let mut rest = first.text()?;
    let mut values = values.iter();
    let mut text = String::new();
    while let Some(at) = rest.find('%') {
        text += &rest[..at];
        let (spec, after) = spec(&rest[at + 1..]);
        let Some(verb) = after.chars().next() else {
            text += "%!(NOVERB)";
            return Ok(text);
        };
        rest = &after[verb.len_utf8()..];
        if verb == '%' {
            text.push('%');
            continue;
        }
        match values.next() {
            Some(value) => text += &pad(verbatim(verb, value, &spec), &spec),
            None => text += &format!("%!{verb}(MISSING)"),
        }
    }
    text += rest;
    let extra: Vec<String> = values.map(|value| format!("{}={}", value.kind(), value.print())).collect();
    if !extra.is_empty() {
        text += &format!("%!(EXTRA {})", extra.join(", "));
    }
    Ok(text)
}

fn spec(text: &str) -> (Spec, &str) {
    let mut spec = Spec::default();
    let mut rest = text;
    while let Some(flag) = rest.chars().next() {
        match flag {
            '-' => spec.minus = true,
            '+' => spec.plus = true,
            '0' => spec.zero = true,
            '#' => spec.sharp = true,
            ' ' => spec.space = true,
            _ => break,
        }
        rest = &rest[1..];
    }
    let (width, after) = number(rest);
    spec.width = width.unwrap_or(0);
    rest = after;
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = number(after);
        spec.precision = Some(precision.unwrap_or(0));
        rest = after;
    }
    (spec, rest)
}

fn number(text: &str) -> (Option<usize>, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].parse().ok().map(|n: usize| n.min(MAX_WIDTH)), &text[end..])
}

fn verbatim(verb: char, value: &Value, spec: &Spec) -> String {
    let wrong = || format!("%!{verb}({}={})", value.kind(), value.print());
    let signed = |text: String, negative: bool| match (negative, spec.plus, spec.space) {
        (false, true, _) => format!("+{text}"),
        (false, false, true) => format!(" {text}"),
        _ => text,
    };
    match (verb, value) {
        ('v', _) => value.print(),
        ('T', _) => value.kind().to_owned(),
        ('s', Value::String(_) | Value::Safe(_) | Value::List(_) | Value::Map(_) | Value::Object(_)) => {
            let text = value.print();
            spec.precision.map_or(text.clone(), |precision| text.chars().take(precision).collect())
        }
        ('q', Value::String(_) | Value::Safe(_)) => format!("{:?}", value.print()),
        ('t', Value::Bool(_)) => value.print(),
        ('d', Value::Int(n)) => signed(n.to_string(), *n < 0),
        ('c', Value::Int(n)) => u32::try_from(*n).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string(),
        ('x', Value::Int(n)) => format!("{}{n:x}", if spec.sharp { "0x" } else { "" }),
        ('X', Value::Int(n)) => format!("{}{n:X}", if spec.sharp { "0X" } else { "" }),
        ('o', Value::Int(n)) => format!("{n:o}"),
        ('b', Value::Int(n)) => format!("{n:b}"),
        ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('f' | 'F', Value::Float(n)) if n.is_finite() => {
            signed(format!("{n:.*}", spec.precision.unwrap_or(6)), *n < 0.0)
        }
        ('e', Value::Float(n)) if n.is_finite() => signed(format_exponent(*n, spec.precision.unwrap_or(6)), *n < 0.0),
        ('g', Value::Float(n)) if n.is_finite() => {
            let text = spec.precision.map_or_else(|| format_float(*n), |precision| format_significant(*n, precision));
            signed(text, *n < 0.0)
        }
        ('f' | 'F' | 'e' | 'g', Value::Float(n)) => format_float(*n),
        _ => wrong(),
    }
}

fn pad(text: String, spec: &Spec) -> String {
    let missing = spec.width.saturating_sub(text.chars().count());
    if missing == 0 {
        return text;
    }
    if spec.minus {
        return text + &" ".repeat(missing);
    }
    let is_number = text.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit());
    if spec.zero && is_number {
        let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    " ".repeat(missing) + &text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format_text: &str, values: &[Value], expected: &str) {
        let arguments: Vec<Value> = std::iter::once(format_text.into()).chain(values.iter().cloned()).collect();
        assert_eq!(format(&arguments).expect("formats"), expected, "{format_text}");
    }

    #[test]
    fn verbs_flags_and_mistakes() {
        check("%s is %d", &["x".into(), Value::Int(3)], "x is 3");
        check(
            "%.2f|%8.1f|%-6d|%06.2f",
            &[Value::Float(1.005), Value::Float(2.25), Value::Int(7), Value::Float(-1.5)],
            "1.00|     2.2|7     |-01.50",
        );
        check("%q %v %t", &["a\"b".into(), Value::Nil, Value::Bool(true)], "\"a\\\"b\" <nil> true");
        check("%x %X %c %%", &[Value::Int(255), Value::Int(255), Value::Int(65)], "ff FF A %");
        check("%.3g %e", &[Value::Float(1234.5), Value::Float(1500.0)], "1.23e+03 1.500000e+03");
        check("%d", &["x".into()], "%!d(string=x)");
        check("%s %s", &["x".into()], "x %!s(MISSING)");
        check("x", &[Value::Int(1)], "x%!(EXTRA int=1)");
        check("100%", &[], "100%!(NOVERB)");
    }
}
