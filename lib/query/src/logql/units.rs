//! Durations (Go's notation, and days, weeks, years) and sizes in bytes (powers of ten and of two).

const UNITS_NS: [(&str, f64); 11] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
    ("d", 86_400e9),
    ("w", 7.0 * 86_400e9),
    ("y", 365.0 * 86_400e9),
];

/// Parses `1h30m`, `1.5s`, `250ms`, `-2d`, `0`.
pub fn parse_duration_ns(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total_ns = 0.0;
    while !rest.is_empty() || total_ns == 0.0 {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|digits| *digits > 0)?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, unit_ns) = UNITS_NS.iter().find(|(unit, _)| *unit == &rest[..letters])?;
        total_ns += number * unit_ns;
        rest = &rest[letters..];
        if rest.is_empty() {
            break;
        }
    }
    (total_ns < 9.2e18).then_some((sign * total_ns) as i64)
}

/// Parses `20KB`, `10MiB`, `1.5 GB`, `42`. Units are case-insensitive; `k`, `kb` and `kB` are 1000, `ki` and `kib` 1024.
pub fn parse_bytes(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim().to_ascii_lowercase();
    let prefix = unit.strip_suffix('b').unwrap_or(&unit);
    let (letter, base) = prefix.strip_suffix('i').map_or((prefix, 1000.0), |letter| (letter, 1024.0));
    let power = ["", "k", "m", "g", "t", "p", "e"].iter().position(|name| *name == letter)?;
    (!(power == 0 && base == 1024.0)).then(|| number * f64::powi(base, power as i32))
}

/// Prints nanoseconds in the largest units that lose nothing.
pub fn format_duration_ns(ns: i64) -> String {
    match ns {
        _ if ns % 1_000_000 == 0 => model::format_duration(ns / 1_000_000),
        _ if ns % 1_000 == 0 => format!("{}us", ns / 1_000),
        _ => format!("{ns}ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expected: Option<i64>| assert_eq!(parse_duration_ns(text), expected, "{text}");
        check("1h30m", Some(5_400_000_000_000));
        check("1.5s", Some(1_500_000_000));
        check("250ms", Some(250_000_000));
        check("12µs", Some(12_000));
        check("-2d", Some(-172_800_000_000_000));
        check("0", Some(0));
        check("0s", Some(0));
        for bad in ["", "-", "s", "5", "5x", "1..2s", "1s2", "99999999y"] {
            check(bad, None);
        }
        assert_eq!(format_duration_ns(90_000_000_000), "1m30s");
        assert_eq!(format_duration_ns(1_500), "1500ns");
    }

    #[test]
    fn sizes() {
        let check = |text: &str, expected: Option<f64>| assert_eq!(parse_bytes(text), expected, "{text}");
        check("20KB", Some(20_000.0));
        check("10MiB", Some(10_485_760.0));
        check("1.5 GB", Some(1.5e9));
        check("42", Some(42.0));
        check("42B", Some(42.0));
        for bad in ["", "KB", "5q", "5ib", "1.2.3"] {
            check(bad, None);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-+0-9.]{0,6}(\\PC{0,4}|[a-zµ]{0,3}[0-9]?)") {
            let _ = (parse_duration_ns(&text), parse_bytes(&text));
        }
    }
}
