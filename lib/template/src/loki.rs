//! The functions that Loki gives to `line_format` and `label_format` (its `docs/sources/query/template_functions`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono_tz::Tz;

use crate::alertmanager::unescape;
use crate::builtins::escape_query;
use crate::convert;
use crate::go_time::{TimeValue, parse, parse_in};
use crate::prometheus::{capital, words};
use crate::value::{Functions, Value, argument};

/// Blanks, copies and padding that a function may make.
const MAX_BYTES: usize = 1024 * 1024;

type Outcome = Result<Value, String>;

pub fn functions() -> Functions {
    let mut functions = Functions::default();
    add_texts(&mut functions);
    add_cutting(&mut functions);
    add_deprecated(&mut functions);
    add_regexes(&mut functions);
    add_numbers(&mut functions);
    add_floats(&mut functions);
    add_times(&mut functions);
    // What stands for these is known line by line.
    functions.add("__line__", |_| Ok("".into()));
    functions.add("__timestamp__", |_| Ok(Value::object(TimeValue::from_ns(0))));
    functions
}

fn text(arguments: &[Value], i: usize) -> Result<&str, String> {
    argument(arguments, i)?.text()
}

fn int(arguments: &[Value], i: usize) -> Result<i64, String> {
    argument(arguments, i).map(to_int)
}

fn add_texts(functions: &mut Functions) {
    functions.add_text("lower", str::to_lowercase);
    functions.add_text("upper", str::to_uppercase);
    functions.add_text("title", |text| words(text, capital));
    functions.add_text("trim", |text| text.trim().to_owned());
    functions.add_text("b64enc", |text| STANDARD.encode(text));
    functions.add_text("b64dec", |text| match STANDARD.decode(text) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => error.to_string(),
    });
    functions.add_text("urlencode", escape_query);
    functions.add("urldecode", |arguments| {
        let text = text(arguments, 0)?;
        unescape(text).map(Value::from).ok_or_else(|| format!("invalid URL escape {text:?}"))
    });
    functions.add("contains", |a| Ok(Value::Bool(text(a, 1)?.contains(text(a, 0)?))));
    functions.add("hasPrefix", |a| Ok(Value::Bool(text(a, 1)?.starts_with(text(a, 0)?))));
    functions.add("hasSuffix", |a| Ok(Value::Bool(text(a, 1)?.ends_with(text(a, 0)?))));
    functions.add("replace", |a| Ok(bounded_replace(text(a, 2)?, text(a, 0)?, text(a, 1)?, usize::MAX)?.into()));
    functions.add("default", |a| match a.get(1) {
        Some(given) if given.is_true() => Ok(given.clone()),
        _ => argument(a, 0).cloned(),
    });
    functions.add("fromJson", |a| {
        Ok(serde_json::from_str(text(a, 0)?).map_or(Value::Nil, |json: serde_json::Value| from_json(&json)))
    });
}

fn bounded_replace(text: &str, from: &str, to: &str, count: usize) -> Result<String, String> {
    if text.len().saturating_mul(to.len().max(1)) > 64 * MAX_BYTES {
        return Err("too long".to_owned());
    }
    Ok(text.replacen(from, to, count))
}

fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Value::String(text.clone()),
        serde_json::Value::Array(items) => Value::list(items.iter().map(from_json)),
        serde_json::Value::Object(items) => Value::map(items.iter().map(|(key, item)| (key.as_str(), from_json(item)))),
    }
}

/// The text from the character before byte `at`; Go would cut the character.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

fn size(count: i64) -> Result<usize, String> {
    usize::try_from(count).ok().filter(|count| *count <= MAX_BYTES).ok_or_else(|| format!("bad count {count}"))
}

fn add_cutting(functions: &mut Functions) {
    functions.add("trunc", |a| {
        let (count, text) = (int(a, 0)?, text(a, 1)?);
        let kept = if count >= 0 {
            &text[..floor(text, usize::try_from(count).unwrap_or(usize::MAX))]
        } else {
            let cut = text.len().saturating_sub(usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX));
            &text[floor(text, cut)..]
        };
        Ok(kept.into())
    });
    functions.add("substr", |a| {
        let (start, end, text) = (int(a, 0)?, int(a, 1)?, text(a, 2)?);
        let end = usize::try_from(end).map_or(text.len(), |end| floor(text, end));
        let start = usize::try_from(start).map_or(0, |start| floor(text, start));
        Ok(text.get(start..end).unwrap_or("").into())
    });
    functions.add("trimAll", |a| {
        let cut: Vec<char> = text(a, 0)?.chars().collect();
        Ok(text(a, 1)?.trim_matches(&cut[..]).into())
    });
    functions.add("trimPrefix", |a| {
        let (prefix, text) = (text(a, 0)?, text(a, 1)?);
        Ok(text.strip_prefix(prefix).unwrap_or(text).into())
    });
    functions.add("trimSuffix", |a| {
        let (suffix, text) = (text(a, 0)?, text(a, 1)?);
        Ok(text.strip_suffix(suffix).unwrap_or(text).into())
    });
    functions.add("repeat", |a| {
        let (count, text) = (size(int(a, 0)?.max(0))?, text(a, 1)?);
        size((count * text.len()) as i64).map(|_| text.repeat(count).into())
    });
    functions.add("indent", |a| indent(int(a, 0)?, text(a, 1)?));
    functions.add("nindent", |a| Ok(format!("\n{}", indent(int(a, 0)?, text(a, 1)?)?.print()).into()));
    functions.add("alignLeft", |a| align(int(a, 0)?, text(a, 1)?, true));
    functions.add("alignRight", |a| align(int(a, 0)?, text(a, 1)?, false));
}

fn indent(count: i64, text: &str) -> Outcome {
    let pad = " ".repeat(size(count)?);
    size((pad.len().saturating_mul(text.lines().count())) as i64)?;
    Ok(format!("{pad}{}", text.replace('\n', &format!("\n{pad}"))).into())
}

fn align(count: i64, text: &str, left: bool) -> Outcome {
    if count < 0 {
        return Ok(text.into());
    }
    let (wanted, length) = (size(count)?, text.chars().count());
    let pad = " ".repeat(wanted.saturating_sub(length));
    Ok(match left {
        true => text.chars().take(wanted).collect::<String>() + &pad,
        false => pad + &text.chars().skip(length.saturating_sub(wanted)).collect::<String>(),
    }
    .into())
}

/// Go's own functions under their old names: the text comes first.
fn add_deprecated(functions: &mut Functions) {
    functions.add_text("ToLower", str::to_lowercase);
    functions.add_text("ToUpper", str::to_uppercase);
    functions.add_text("TrimSpace", |text| text.trim().to_owned());
    functions.add("Replace", |a| {
        let count = usize::try_from(int(a, 3)?).unwrap_or(usize::MAX);
        Ok(bounded_replace(text(a, 0)?, text(a, 1)?, text(a, 2)?, count)?.into())
    });
    type Cut = for<'t> fn(&'t str, &[char]) -> &'t str;
    let cuts: [(&'static str, Cut); 3] = [
        ("Trim", |text, set| text.trim_matches(set)),
        ("TrimLeft", |text, set| text.trim_start_matches(set)),
        ("TrimRight", |text, set| text.trim_end_matches(set)),
    ];
    for (name, cut) in cuts {
        functions.add(name, move |a| {
            let set: Vec<char> = text(a, 1)?.chars().collect();
            Ok(cut(text(a, 0)?, &set).into())
        });
    }
    functions.add("TrimPrefix", |a| {
        let text = (text(a, 0)?, text(a, 1)?);
        Ok(text.0.strip_prefix(text.1).unwrap_or(text.0).into())
    });
    functions.add("TrimSuffix", |a| {
        let text = (text(a, 0)?, text(a, 1)?);
        Ok(text.0.strip_suffix(text.1).unwrap_or(text.0).into())
    });
}

fn add_regexes(functions: &mut Functions) {
    let compile = |pattern: &str| {
        let limits = regex::RegexBuilder::new(pattern).size_limit(1 << 20).build();
        limits.map_err(|error| format!("error parsing regexp: {error}"))
    };
    functions.add("regexReplaceAll", move |a| {
        Ok(compile(text(a, 0)?)?.replace_all(text(a, 1)?, text(a, 2)?).into_owned().into())
    });
    functions.add("regexReplaceAllLiteral", move |a| {
        let regex = compile(text(a, 0)?)?;
        Ok(regex.replace_all(text(a, 1)?, regex::NoExpand(text(a, 2)?)).into_owned().into())
    });
    functions.add("count", move |a| Ok(Value::Int(compile(text(a, 0)?)?.find_iter(text(a, 1)?).count() as i64)));
}

/// A whole number out of anything; 0 where there is none.
fn to_int(value: &Value) -> i64 {
    match value {
        Value::Int(value) => *value,
        Value::Float(value) => *value as i64,
        Value::Bool(value) => i64::from(*value),
        Value::String(text) | Value::Safe(text) => {
            let text = text.strip_suffix(".0").unwrap_or(text);
            let hex = text.strip_prefix("0x").map(|hex| i64::from_str_radix(hex, 16));
            hex.unwrap_or_else(|| text.parse()).unwrap_or(0)
        }
        _ => 0,
    }
}

fn to_float(value: &Value) -> f64 {
    match value {
        Value::Float(value) => *value,
        Value::String(text) | Value::Safe(text) => convert::float(text).unwrap_or(0.0),
        other => to_int(other) as f64,
    }
}

fn add_numbers(functions: &mut Functions) {
    functions.add("int", |a| argument(a, 0).map(|value| Value::Int(to_int(value))));
    type Fold = fn(i64, i64) -> i64;
    let folds: [(&'static str, Fold); 4] =
        [("add", i64::wrapping_add), ("mul", i64::wrapping_mul), ("max", i64::max), ("min", i64::min)];
    for (name, fold) in folds {
        functions.add(name, move |a| {
            argument(a, 0)?;
            Ok(Value::Int(a.iter().map(to_int).reduce(fold).unwrap_or(0)))
        });
    }
    functions.add("sub", |a| Ok(Value::Int(int(a, 0)?.wrapping_sub(int(a, 1)?))));
    let zero = || "runtime error: integer divide by zero".to_owned();
    functions.add("div", move |a| int(a, 0)?.checked_div(int(a, 1)?).map(Value::Int).ok_or_else(zero));
    functions.add("mod", move |a| int(a, 0)?.checked_rem(int(a, 1)?).map(Value::Int).ok_or_else(zero));
}

/// Sums and products of decimals as people write them: 0.1 + 0.2 is 0.3.
fn decimal(value: f64) -> Value {
    Value::Float(format!("{value:.15e}").parse().unwrap_or(value))
}

fn add_floats(functions: &mut Functions) {
    functions.add("float64", |a| argument(a, 0).map(|value| Value::Float(to_float(value))));
    type Fold = fn(f64, f64) -> f64;
    let folds: [(&'static str, Fold); 6] = [
        ("addf", |a, b| a + b),
        ("subf", |a, b| a - b),
        ("mulf", |a, b| a * b),
        ("divf", |a, b| a / b),
        ("maxf", f64::max),
        ("minf", f64::min),
    ];
    for (name, fold) in folds {
        functions.add(name, move |a| {
            argument(a, 0)?;
            Ok(decimal(a.iter().map(to_float).reduce(fold).unwrap_or(0.0)))
        });
    }
    functions.add("ceil", |a| argument(a, 0).map(|value| Value::Float(to_float(value).ceil())));
    functions.add("floor", |a| argument(a, 0).map(|value| Value::Float(to_float(value).floor())));
    functions.add("round", |a| {
        let (value, digits) = (argument(a, 0).map(to_float)?, int(a, 1)?.clamp(0, 300) as i32);
        let rounds_on = a.get(2).map_or(0.5, to_float);
        let scaled = value * 10f64.powi(digits);
        let rounded = if scaled.fract().abs() >= rounds_on { scaled.trunc() + scaled.signum() } else { scaled.trunc() };
        Ok(Value::Float(rounded / 10f64.powi(digits)))
    });
    functions.add("bytes", |a| convert::bytes(text(a, 0)?).map(|bytes| Value::Float(bytes as f64)));
    for name in ["duration", "duration_seconds"] {
        functions.add(name, |a| convert::duration_ns(text(a, 0)?).map(|ns| Value::Float(ns as f64 / 1e9)));
    }
}

fn add_times(functions: &mut Functions) {
    functions.add("now", |_| Ok(Value::object(TimeValue::from_ns(model::now_ns()))));
    functions.add("date", |a| {
        let time = time_of(argument(a, 1)?)?;
        Ok(time.format(text(a, 0)?).into())
    });
    functions.add("toDate", |a| Ok(time(parse(text(a, 0)?, text(a, 1)?))));
    functions.add("toDateInZone", |a| {
        let zone: Tz = text(a, 1)?.parse().unwrap_or(Tz::UTC);
        Ok(time(parse_in(text(a, 0)?, text(a, 2)?, zone)))
    });
    functions.add("unixToTime", |a| unix_to_time(text(a, 0)?));
    let units = [("unixEpoch", 1_000_000_000), ("unixEpochMillis", 1_000_000), ("unixEpochNanos", 1)];
    for (name, unit_ns) in units {
        functions.add(name, move |a| {
            let time = time_of(argument(a, 0)?)?;
            Ok(time.to_ns().div_euclid(unit_ns).to_string().into())
        });
    }
}

/// Text that is no time is the beginning of time, as Go's zero value.
fn time(parsed: Result<TimeValue, String>) -> Value {
    Value::object(parsed.unwrap_or_else(|_| TimeValue::from_ms(-62_135_596_800_000)))
}

/// A time, or one given in seconds.
fn time_of(value: &Value) -> Result<TimeValue, String> {
    match value {
        Value::Object(object) => {
            let ns = object.member("UnixNano", &[]).ok_or("expected a time")??;
            Ok(TimeValue::from_ns(to_int(&ns)))
        }
        Value::Int(seconds) => Ok(TimeValue::from_ms(seconds.saturating_mul(1000))),
        other => Err(format!("wrong type for value; expected time.Time; got {}", other.kind())),
    }
}

/// Days, seconds, milliseconds, microseconds or nanoseconds, told by the number of digits.
fn unix_to_time(text: &str) -> Outcome {
    let bad = || format!("unable to parse time '{text}'");
    let number: i64 = text.parse().map_err(|_| bad())?;
    let unit_ns: i64 = match text.len() {
        5 => 86_400_000_000_000,
        10 => 1_000_000_000,
        13 => 1_000_000,
        16 => 1_000,
        19 => 1,
        _ => return Err(bad()),
    };
    number.checked_mul(unit_ns).map(|ns| Value::object(TimeValue::from_ns(ns))).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, Templates};

    fn check(template: &str, expected: &str) {
        let mut templates = Templates::new();
        templates.parse("line", template).expect("parses");
        let dot = Value::map([("a", "Hello"), ("n", "7"), ("j", "{\"x\":[1,2.5]}")].map(|(k, v)| (k, Value::from(v))));
        let locals =
            [("__line__", "the line".into()), ("__timestamp__", Value::object(TimeValue::from_ns(1_500_000_000)))];
        let rendered = templates.execute_with("line", &dot, &functions(), &locals, Mode::Text);
        assert_eq!(rendered.unwrap_or_else(|error| error.message), expected, "{template}");
    }

    #[test]
    fn texts() {
        check(
            "{{ .a | lower }} {{ upper .a }} {{ title \"a bc\" }} {{ __line__ | trim }}",
            "hello HELLO A Bc the line",
        );
        check("{{ trunc 2 .a }} {{ trunc -2 .a }} {{ substr 1 3 .a }} {{ substr 1 -1 .a }}", "He lo el ello");
        check("{{ trimAll \"$\" \"$5$\" }} {{ trimPrefix \"H\" .a }} {{ trimSuffix \"o\" .a }}", "5 ello Hell");
        check("{{ .a | replace \"l\" \"L\" }} {{ Replace .a \"l\" \"L\" 1 }}", "HeLLo HeLlo");
        check("[{{ alignLeft 7 .a }}|{{ alignRight 7 .a }}|{{ alignRight 2 .a }}]", "[Hello  |  Hello|lo]");
        check("{{ indent 2 \"a\\nb\" }}{{ nindent 1 \"c\" }}", "  a\n  b\n c");
        check("{{ repeat 3 \"ab\" }} {{ b64enc .a }} {{ b64dec \"SGk=\" }}", "ababab SGVsbG8= Hi");
        check("{{ urlencode \"a b&c\" }} {{ urldecode \"a+b%26c\" }}", "a+b%26c a b&c");
        check("{{ default \"-\" .none }}{{ default \"-\" .a }}", "-Hello");
        check("{{ if and (contains \"ell\" .a) (hasPrefix \"H\" .a) (hasSuffix \"o\" .a) }}yes{{ end }}", "yes");
        check(
            "{{ Trim \"xax\" \"x\" }}{{ TrimLeft \"xax\" \"x\" }}{{ TrimSuffix \"ab\" \"b\" }}{{ ToUpper \"a\" }}",
            "aaxaA",
        );
        check("{{ regexReplaceAll \"l(.)\" .a \"<$1>\" }} {{ count \"l\" .a }}", "He<l>o 2");
        check("{{ regexReplaceAllLiteral \"l\" .a \"$1\" }}", "He$1$1o");
        check("{{ range $v := (fromJson .j).x }}{{ $v }};{{ end }}", "1;2.5;");
    }

    #[test]
    fn numbers() {
        check("{{ add 3 2 .n }} {{ sub 5 2 }} {{ mul 1 2 3 }} {{ div 10 3 }} {{ mod 10 3 }}", "12 3 6 3 1");
        check("{{ addf 3.5 2 5 }} {{ subf 5.5 1.5 }} {{ mulf 5.5 2 2.5 }} {{ divf 10 2 4 }}", "10.5 4 27.5 1.25");
        check("{{ max 1 2 3 }} {{ min 1 2 3 }} {{ maxf 1 2.5 }} {{ minf 1 2.5 }}", "3 1 2.5 1");
        check(
            "{{ ceil 123.001 }} {{ floor 123.9 }} {{ round 123.555555 3 }} {{ addf 0.1 0.2 }}",
            "124 123 123.556 0.3",
        );
        check(
            "{{ int \"3\" }} {{ float64 \"3.5\" }} {{ bytes \"1.5KB\" }} {{ \"1h30m\" | duration }}",
            "3 3.5 1500 5400",
        );
        check("{{ div 1 0 }}", "error calling div: runtime error: integer divide by zero");
        check("{{ bytes \"x\" }}", "error calling bytes: strconv.ParseFloat: parsing \"\": invalid syntax");
    }

    #[test]
    fn times() {
        check("{{ __timestamp__ | date \"2006-01-02T15:04:05.00\" }}", "1970-01-01T00:00:01.50");
        check("{{ __timestamp__ | unixEpoch }} {{ unixEpochMillis __timestamp__ }}", "1 1500");
        check("{{ toDateInZone \"2006-01-02\" \"Europe/Berlin\" \"2021-11-02\" | unixEpoch }}", "1635807600");
        check("{{ date \"2006-01-02\" (unixToTime \"1679577215\") }}", "2023-03-23");
        check("{{ unixToTime \"17\" }}", "error calling unixToTime: unable to parse time '17'");
        check("{{ repeat 99999999 \"x\" }}", "error calling repeat: bad count 99999999");
    }
}
