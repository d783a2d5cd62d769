//! Numbers as Go prints them, and as Prometheus' `humanize*` functions do.

/// `strconv.FormatFloat(v, 'g', -1, 64)`: shortest digits; an exponent below 1e-4 and from 1e+06 on,
/// as `%v` prints it.
pub fn format_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..6).contains(&exponent) { go_exponent(digits, exponent) } else { format!("{value}") }
}

/// `1.5e+07`: a sign and at least two digits.
fn go_exponent(digits: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `%.<precision>g`: that many significant digits, trailing zeros dropped.
pub fn format_significant(value: f64, precision: usize) -> String {
    if !value.is_finite() {
        return format_float(value);
    }
    let precision = precision.max(1);
    let scientific = format!("{value:.*e}", precision - 1);
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= precision as i32 {
        return go_exponent(&trim(digits), exponent);
    }
    trim(&format!("{value:.*}", (precision as i32 - 1 - exponent).max(0) as usize))
}

/// `%.<precision>e`.
pub fn format_exponent(value: f64, precision: usize) -> String {
    let scientific = format!("{value:.precision$e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    go_exponent(digits, exponent.parse().unwrap_or(0))
}

/// Metric prefixes: 1234567 → `1.235M`.
pub fn humanize(value: f64) -> String {
    scaled(value, 1000.0, &["", "k", "M", "G", "T", "P", "E", "Z", "Y"], &["m", "u", "n", "p", "f", "a", "z", "y"])
}

/// Binary prefixes: 1048576 → `1Mi`; small numbers stay.
pub fn humanize_1024(value: f64) -> String {
    scaled(value, 1024.0, &["", "ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"], &[])
}

fn scaled(mut value: f64, base: f64, up: &[&str], down: &[&str]) -> String {
    if value == 0.0 || !value.is_finite() {
        return format_significant(value, 4);
    }
    let mut prefix = "";
    if value.abs() >= 1.0 {
        for next in &up[1..] {
            if value.abs() < base {
                break;
            }
            prefix = next;
            value /= base;
        }
    } else {
        for next in down {
            if value.abs() >= 1.0 {
                break;
            }
            prefix = next;
            value *= base;
        }
    }
    format!("{}{prefix}", format_significant(value, 4))
}

/// Seconds: `1d 2h 3m 4s`, `1.5s`, `12ms`.
pub fn humanize_duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return format_significant(seconds, 4);
    }
    if seconds == 0.0 {
        return "0s".to_owned();
    }
    if seconds.abs() >= 1.0 {
        let sign = if seconds < 0.0 { "-" } else { "" };
        let whole = seconds.abs() as i64;
        let (days, hours, minutes) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60);
        let rest = whole % 60;
        return match (days, hours, minutes) {
            (0, 0, 0) => format!("{}s", format_significant(seconds, 4)),
            (0, 0, _) => format!("{sign}{minutes}m {rest}s"),
            (0, _, _) => format!("{sign}{hours}h {minutes}m {rest}s"),
            _ => format!("{sign}{days}d {hours}h {minutes}m {rest}s"),
        };
    }
    let (mut value, mut prefix) = (seconds, "");
    for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
        if value.abs() >= 1.0 {
            break;
        }
        prefix = next;
        value *= 1000.0;
    }
    format!("{}{prefix}s", format_significant(value, 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_go_prints_them() {
        for (value, expected) in [
            (250.0, "250"),
            (0.1, "0.1"),
            (123_456.0, "123456"),
            (1_234_567.0, "1.234567e+06"),
            (0.00001, "1e-05"),
            (f64::INFINITY, "+Inf"),
            (-0.5, "-0.5"),
        ] {
            assert_eq!(format_float(value), expected);
        }
        assert_eq!(format_significant(1234.5678, 4), "1235");
        assert_eq!(format_significant(12345.678, 4), "1.235e+04");
        assert_eq!(format_significant(0.5, 4), "0.5");
    }

    #[test]
    fn numbers_for_people() {
        for (value, expected) in
            [(1234567.0, "1.235M"), (0.0123, "12.3m"), (0.0, "0"), (-1500.0, "-1.5k"), (250.0, "250")]
        {
            assert_eq!(humanize(value), expected);
        }
        assert_eq!(humanize_1024(1_048_576.0), "1Mi");
        assert_eq!(humanize_1024(0.25), "0.25");
        for (seconds, expected) in [
            (0.0, "0s"),
            (1.5, "1.5s"),
            (61.0, "1m 1s"),
            (90_061.0, "1d 1h 1m 1s"),
            (0.0125, "12.5ms"),
            (-61.0, "-1m 1s"),
        ] {
            assert_eq!(humanize_duration(seconds), expected);
        }
    }
}
