//! Numbers, durations and sizes as Go and Loki read them out of labels, with their error texts, which end up in
//! `__error_details__`.

/// As Go's `%q`, near enough for messages.
fn quote(text: &str) -> String {
    format!("{text:?}")
}

/// `strconv.ParseFloat`.
pub fn float(text: &str) -> Result<f64, String> {
    let bad = || format!("strconv.ParseFloat: parsing {}: invalid syntax", quote(text));
    let plain = text.trim_start_matches(['+', '-']);
    if text.len() - plain.len() > 1 {
        return Err(bad());
    }
    if matches!(plain.to_ascii_lowercase().as_str(), "inf" | "infinity" | "nan") {
        return text.parse().map_err(|_| bad());
    }
    let starts_well = plain.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let value: f64 = text.parse().ok().filter(|_| starts_well).ok_or_else(bad)?;
    if value.is_infinite() {
        return Err(format!("strconv.ParseFloat: parsing {}: value out of range", quote(text)));
    }
    Ok(value)
}

const UNITS_NS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// `time.ParseDuration`, in nanoseconds.
pub fn duration_ns(text: &str) -> Result<i64, String> {
    let bad = || format!("time: invalid duration {}", quote(text));
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    let mut total_ns = 0.0;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number = &rest[..digits];
        let number: f64 = number.parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        if letters == 0 {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let unit = &rest[..letters];
        let Some((_, unit_ns)) = UNITS_NS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("time: unknown unit {} in duration {}", quote(unit), quote(text)));
        };
        total_ns += number * unit_ns;
        rest = &rest[letters..];
    }
    if total_ns >= 9.2e18 { Err(bad()) } else { Ok((sign * total_ns).round() as i64) }
}

const SIZES: [(&str, f64); 26] = [
    ("", 1.0),
    ("b", 1.0),
    ("kib", 1024.0),
    ("ki", 1024.0),
    ("kb", 1e3),
    ("k", 1e3),
    ("mib", 1_048_576.0),
    ("mi", 1_048_576.0),
    ("mb", 1e6),
    ("m", 1e6),
    ("gib", 1_073_741_824.0),
    ("gi", 1_073_741_824.0),
    ("gb", 1e9),
    ("g", 1e9),
    ("tib", 1_099_511_627_776.0),
    ("ti", 1_099_511_627_776.0),
    ("tb", 1e12),
    ("t", 1e12),
    ("pib", 1_125_899_906_842_624.0),
    ("pi", 1_125_899_906_842_624.0),
    ("pb", 1e15),
    ("p", 1e15),
    ("eib", 1_152_921_504_606_846_976.0),
    ("ei", 1_152_921_504_606_846_976.0),
    ("eb", 1e18),
    ("e", 1e18),
];

/// A size as go-humanize reads it: `20KB`, `10 MiB`, `2,048`; whole bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',').unwrap_or(text.len());
    let number = float(&text[..end].replace(',', ""))?;
    let unit = text[end..].trim().to_lowercase();
    let size = SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(|| format!("unhandled size name: {unit}"))?;
    let bytes = number * size.1;
    if bytes >= u64::MAX as f64 { Err(format!("too large: {text}")) } else { Ok(bytes as u64) }
}

/// A duration as Go prints it: `1h30m0s`, `1.5s`, `250ms`.
pub fn go_duration(ns: i64) -> String {
    let (sign, size) = (if ns < 0 { "-" } else { "" }, ns.unsigned_abs());
    let fraction = |unit: u64| format!("{}", size as f64 / unit as f64);
    match size {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{size}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", fraction(1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", fraction(1_000_000)),
        _ => {
            let (minutes, rest) = (size / 60_000_000_000, size % 60_000_000_000);
            let seconds = if rest % 1_000_000_000 == 0 {
                format!("{}s", rest / 1_000_000_000)
            } else {
                let text = format!("{}.{:09}", rest / 1_000_000_000, rest % 1_000_000_000);
                format!("{}s", text.trim_end_matches('0'))
            };
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats() {
        let check = |text: &str, expected: Result<f64, &str>| {
            let got = float(text);
            assert_eq!(got.as_ref().map_err(String::as_str).ok(), expected.as_ref().ok(), "{text}");
            if let (Err(got), Err(expected)) = (&got, expected) {
                assert!(got.ends_with(expected), "{got}");
            }
        };
        check("017", Ok(17.0));
        check("-1.5e3", Ok(-1500.0));
        check("+Inf", Ok(f64::INFINITY));
        check(".5", Ok(0.5));
        check("", Err("parsing \"\": invalid syntax"));
        check("abc", Err("parsing \"abc\": invalid syntax"));
        check("0x10", Err("invalid syntax"));
        check("+-1", Err("invalid syntax"));
        check("1e999", Err("value out of range"));
        assert!(float("NaN").expect("a number").is_nan());
    }

    #[test]
    fn durations() {
        let check = |text: &str, expected: Result<i64, &str>| {
            let expected = expected.map_err(str::to_owned);
            assert_eq!(duration_ns(text), expected, "{text}");
        };
        check("1h30m", Ok(5_400_000_000_000));
        check("1.5s", Ok(1_500_000_000));
        check("-5s", Ok(-5_000_000_000));
        check("12µs", Ok(12_000));
        check("0", Ok(0));
        check("90", Err("time: missing unit in duration \"90\""));
        check("1d", Err("time: unknown unit \"d\" in duration \"1d\""));
        check("oops", Err("time: invalid duration \"oops\""));
        check("", Err("time: invalid duration \"\""));
    }

    #[test]
    fn sizes() {
        let check = |text: &str, expected: Result<u64, &str>| {
            assert_eq!(bytes(text), expected.map_err(str::to_owned), "{text}");
        };
        check("20KB", Ok(20_000));
        check("1.5B", Ok(1));
        check("2,048", Ok(2048));
        check("10 MiB", Ok(10_485_760));
        check("oops", Err("strconv.ParseFloat: parsing \"\": invalid syntax"));
        check("1XB", Err("unhandled size name: xb"));
    }

    #[test]
    fn durations_as_go_prints_them() {
        let check = |ns: i64, expected: &str| assert_eq!(go_duration(ns), expected);
        check(5_400_000_000_000, "1h30m0s");
        check(1_500_000_000, "1.5s");
        check(250_000_000, "250ms");
        check(-1_500, "-1.5µs");
        check(60_000_000_000, "1m0s");
        check(0, "0s");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-+0-9.,]{0,6}(\\PC{0,4}|[a-zµ]{0,3}[0-9]?)") {
            let _ = (float(&text), duration_ns(&text), bytes(&text));
        }

        #[test]
        fn printed_durations_come_back(ns in -1_000_000_000_000_000_i64..1_000_000_000_000_000) {
            let back = duration_ns(&go_duration(ns)).expect("a duration");
            assert!((back - ns).abs() <= 1, "{ns}: {back}");
        }
    }
}
