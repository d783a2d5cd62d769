//! Names of metrics, labels and units as Prometheus has them, from OpenTelemetry's.

use service::config::{Otlp, TranslationStrategy};

const UNITS: [(&str, &str); 26] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("%", "percent"),
    ("1", ""),
];
/// Behind a slash.
const PER_UNITS: [(&str, &str); 7] =
    [("s", "second"), ("m", "minute"), ("h", "hour"), ("d", "day"), ("w", "week"), ("mo", "month"), ("y", "year")];

/// What a name depends on beside name and unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Other,
}

/// The metric's name, or why it has none.
pub fn metric_name(name: &str, unit: &str, kind: Kind, strategy: TranslationStrategy) -> Result<String, String> {
    if !strategy.escapes() {
        let built = if strategy.adds_suffixes() { with_suffixes(name, unit, kind) } else { name.to_owned() };
        return if built.is_empty() { Err("a metric without a name".to_owned()) } else { Ok(built) };
    }
    let built = if strategy.adds_suffixes() { tokens(name, unit, kind).join("_") } else { escaped(name) };
    let built = if built.starts_with(|c: char| c.is_ascii_digit()) { format!("_{built}") } else { built };
    if built.is_empty() {
        return Err(format!("normalization for metric {name:?} resulted in empty name"));
    }
    if built != name && built.bytes().all(|byte| byte == b'_') {
        return Err(format!("normalization for metric {name:?} resulted in invalid name {built:?}"));
    }
    Ok(built)
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

/// Runs of other characters become one underscore; those at the ends vanish.
fn escaped(name: &str) -> String {
    let parts = name.split(|c| !is_name_char(c) && c != '_').filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("_")
}

/// The words of a name, with those that tell unit and kind last.
fn tokens(name: &str, unit: &str, kind: Kind) -> Vec<String> {
    let words = name.split(|c| !is_name_char(c)).filter(|word| !word.is_empty());
    let mut words: Vec<String> = words.map(str::to_owned).collect();
    let (main, per) = unit_words(unit);
    let (mut main, mut per) = (clean(&main), clean(&per));
    if words.contains(&main) {
        main.clear();
    }
    per = if per == "per_" { String::new() } else { per.strip_suffix('_').unwrap_or(&per).to_owned() };
    if words.contains(&per) {
        per.clear();
    }
    if !per.is_empty() {
        main = main.strip_suffix('_').unwrap_or(&main).to_owned();
    }
    words.extend([main, per].into_iter().filter(|word| !word.is_empty()));
    let mut put_last = |last: &str| {
        words.retain(|word| word != last);
        words.push(last.to_owned());
    };
    match kind {
        Kind::Counter => put_last("total"),
        Kind::Gauge if unit == "1" => put_last("ratio"),
        Kind::Gauge | Kind::Other => {}
    }
    words
}

/// Suffixes alone; the name stays as it is.
fn with_suffixes(name: &str, unit: &str, kind: Kind) -> String {
    let (main, per) = unit_words(unit);
    let mut name = name.to_owned();
    let mut last = Vec::new();
    let mut move_last = |name: &mut String, suffix: &str| {
        if name.ends_with(suffix) && name.len() > suffix.len() + 1 {
            let cut = name.len() - suffix.len();
            // The character before is taken for a delimiter.
            let delimiter = name[..cut].chars().next_back().map_or(0, char::len_utf8);
            name.truncate(cut - delimiter);
        }
        last.push(suffix.to_owned());
    };
    match kind {
        Kind::Gauge if unit == "1" => move_last(&mut name, "ratio"),
        Kind::Counter => move_last(&mut name, "total"),
        Kind::Gauge | Kind::Other => {}
    }
    if !per.is_empty() {
        move_last(&mut name, &per);
    }
    if !main.is_empty() && !name.ends_with(&main) {
        name = format!("{name}_{main}");
    }
    last.iter().rev().fold(name, |name, suffix| format!("{name}_{suffix}"))
}

/// A unit as metadata tells it.
pub fn unit_name(unit: &str) -> String {
    let (main, per) = unit_words(unit);
    let words: Vec<String> = [clean(&main), clean(&per)].into_iter().filter(|word| !word.is_empty()).collect();
    let joined = words.join("_");
    let start = joined.strip_prefix('_').unwrap_or(&joined);
    start.strip_suffix('_').unwrap_or(start).to_owned()
}

/// What is before a slash, and `per_` with what is behind it. Annotations in braces are no units.
fn unit_words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let word = |text: &str, table: &[(&str, &str)]| {
        let text = text.trim();
        if text.contains(['{', '}']) {
            return String::new();
        }
        table.iter().find(|(short, _)| *short == text).map_or(text, |(_, long)| long).to_owned()
    };
    let per = word(per, &PER_UNITS);
    (word(main, &UNITS), if per.is_empty() { per } else { format!("per_{per}") })
}

/// Only characters of names, no two underscores in a row, none first.
fn clean(unit: &str) -> String {
    let mut cleaned = String::with_capacity(unit.len());
    for c in unit.chars() {
        let c = if is_name_char(c) { c } else { '_' };
        if c != '_' || !cleaned.is_empty() && !cleaned.ends_with('_') {
            cleaned.push(c);
        }
    }
    cleaned
}

/// A label's name, or why it has none.
pub fn label_name(name: &str, config: &Otlp) -> Result<String, String> {
    if name.is_empty() {
        return Err("label name is empty".to_owned());
    }
    let is_blank = |name: &str| name.bytes().all(|byte| byte == b'_');
    if !config.translation_strategy.escapes() {
        return if is_blank(name) {
            Err(format!("label name {name:?} contains only underscores"))
        } else {
            Ok(name.to_owned())
        };
    }
    let plain = if config.label_name_preserve_multiple_underscores {
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
    } else {
        collapsed(name)
    };
    let needs_key = config.label_name_underscore_sanitization && plain.starts_with('_') && !plain.starts_with("__");
    let built = match plain.chars().next() {
        Some(first) if first.is_ascii_digit() => format!("key_{plain}"),
        _ if needs_key => format!("key{plain}"),
        _ => plain,
    };
    if is_blank(&built) {
        return Err(format!("normalization for label name {name:?} resulted in invalid name {built:?}"));
    }
    Ok(built)
}

/// Runs of other characters become one underscore, but for the pairs around a reserved name.
fn collapsed(name: &str) -> String {
    let inside = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
    let mut built = String::with_capacity(name.len());
    for c in inside.unwrap_or(name).chars() {
        match c.is_ascii_alphanumeric() {
            true => built.push(c),
            false if !built.ends_with('_') => built.push('_'),
            false => {}
        }
    }
    if inside.is_some() { format!("__{built}__") } else { built }
}

#[cfg(test)]
mod tests {
    use TranslationStrategy::{
        NoTranslation, NoUTF8EscapingWithSuffixes, UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes,
    };
    use proptest::prelude::*;

    use super::*;

    fn check(name: &str, unit: &str, kind: Kind, expected: [&str; 4]) {
        let strategies = [
            UnderscoreEscapingWithSuffixes,
            UnderscoreEscapingWithoutSuffixes,
            NoUTF8EscapingWithSuffixes,
            NoTranslation,
        ];
        for (strategy, expected) in strategies.into_iter().zip(expected) {
            let built = metric_name(name, unit, kind, strategy).unwrap_or_else(|error| error);
            assert_eq!(built, expected, "{name} in {unit:?}, {strategy:?}");
        }
    }

    #[test]
    fn metrics() {
        use Kind::{Counter, Gauge, Other};
        let http = "http.server.duration";
        check(
            http,
            "s",
            Other,
            ["http_server_duration_seconds", "http_server_duration", "http.server.duration_seconds", http],
        );
        check("a.b", "By/s", Gauge, ["a_b_bytes_per_second", "a_b", "a.b_bytes_per_second", "a.b"]);
        check(
            "requests.count",
            "1",
            Counter,
            ["requests_count_total", "requests_count", "requests.count_total", "requests.count"],
        );
        check("used.ratio.x", "1", Gauge, ["used_x_ratio", "used_ratio_x", "used.ratio.x_ratio", "used.ratio.x"]);
        check("x.total", "{packet}", Counter, ["x_total", "x_total", "x_total", "x.total"]);
        check("x__y", "%", Gauge, ["x_y_percent", "x__y", "x__y_percent", "x__y"]);
        check("2xx", "", Gauge, ["_2xx", "_2xx", "2xx", "2xx"]);
        check("t.seconds", "s", Gauge, ["t_seconds", "t_seconds", "t.seconds", "t.seconds"]);
        check("speed", "km/h", Gauge, ["speed_km_per_hour", "speed", "speed_km_per_hour", "speed"]);
        check("x", "a:b c", Gauge, ["x_a:b_c", "x", "x_a:b c", "x"]);
        let empty = "normalization for metric \"éé\" resulted in empty name";
        check("éé", "", Gauge, [empty, empty, "éé", "éé"]);
    }

    #[test]
    fn units_and_labels() {
        assert_eq!(
            ["By/s", "1", "{x}/s", "%", "°C"].map(unit_name),
            ["bytes_per_second", "", "per_second", "percent", "C"]
        );
        let config = Otlp::default();
        let name = |name: &str| label_name(name, &config).unwrap_or_else(|error| error);
        assert_eq!(["a.b", "1a", "_a", "__a__", "a..b"].map(name), ["a_b", "key_1a", "key_a", "__a__", "a__b"]);
        assert!(label_name("..", &config).is_err_and(|error| error.contains("invalid name \"__\"")));
        let collapsing = Otlp { label_name_preserve_multiple_underscores: false, ..config.clone() };
        assert_eq!(label_name("__a..b__", &collapsing).as_deref(), Ok("__a_b__"));
        let utf8 = Otlp { translation_strategy: NoTranslation, ..config };
        assert_eq!(label_name("a.b", &utf8).as_deref(), Ok("a.b"));
    }

    proptest! {
        #[test]
        fn any_name_gives_a_good_one_or_none(name in ".{0,20}|[_.:a1 ]{0,9}", unit in ".{0,9}|[a-z/{} _]{0,9}") {
            let escaping = [UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes];
            for kind in [Kind::Counter, Kind::Gauge, Kind::Other] {
                for strategy in escaping {
                    if let Ok(built) = metric_name(&name, &unit, kind, strategy) {
                        prop_assert!(model::is_metric_name(&built), "{}", built);
                    }
                }
                let _ = metric_name(&name, &unit, kind, NoUTF8EscapingWithSuffixes);
            }
            for preserve in [false, true] {
                let config = Otlp { label_name_preserve_multiple_underscores: preserve, ..Otlp::default() };
                if let Ok(built) = label_name(&name, &config) {
                    prop_assert!(model::is_label_name(&built), "{}", built);
                }
            }
        }
    }
}
