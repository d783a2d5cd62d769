//! Literals that PromQL and LogQL share: strings with Go's escapes, numbers, durations.

use model::format_duration;

/// The bytes of the quoted string at the start of `text`, quotes included, or why there is none.
pub fn quoted_len(text: &str) -> Result<usize, &'static str> {
    let bytes = text.as_bytes();
    let quote = bytes.first().copied().ok_or("unterminated quoted string")?;
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            _ if byte == quote => return Ok(at + 1),
            b'\\' if quote != b'`' => at += 1,
            b'\n' if quote != b'`' => return Err("unterminated quoted string"),
            _ => {}
        }
        at += 1;
    }
    Err(if quote == b'`' { "unterminated raw string" } else { "unterminated quoted string" })
}

/// The text that a quoted string stands for. Escaped bytes that are not UTF-8 become U+FFFD.
pub fn unquote(raw: &str) -> Result<String, String> {
    unquoted_bytes(raw).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The same, byte by byte.
pub fn unquoted_bytes(raw: &str) -> Result<Vec<u8>, String> {
    let (Some(quote), Some(inner)) = (raw.chars().next(), raw.get(1..raw.len().saturating_sub(1))) else {
        return Err("invalid string".to_owned());
    };
    if quote == '`' {
        return Ok(inner.replace('\r', "").into_bytes());
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = unescape(&rest[at + 1..], quote, &mut out)?;
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// Decodes one escape (after its backslash) into `out` and returns what follows it.
fn unescape<'a>(text: &'a str, quote: char, out: &mut Vec<u8>) -> Result<&'a str, String> {
    let Some(letter) = text.chars().next() else { return Err("escape sequence not terminated".to_owned()) };
    let simple = match letter {
        'a' => Some(7),
        'b' => Some(8),
        'f' => Some(12),
        'n' => Some(b'\n'),
        'r' => Some(b'\r'),
        't' => Some(b'\t'),
        'v' => Some(11),
        '\\' => Some(b'\\'),
        c if c == quote => Some(c as u8),
        _ => None,
    };
    if let Some(byte) = simple {
        out.push(byte);
        return Ok(&text[1..]);
    }
    let (skip, digits, radix) = match letter {
        'x' => (1, 2, 16),
        'u' => (1, 4, 16),
        'U' => (1, 8, 16),
        '0'..='7' => (0, 3, 8),
        c => return Err(format!("unknown escape sequence U+{:04X} {c:?}", c as u32)),
    };
    let code = text
        .get(skip..skip + digits)
        .filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|code| u32::from_str_radix(code, radix).ok())
        .ok_or_else(|| "illegal character or end of input in escape sequence".to_owned())?;
    match letter {
        'u' | 'U' => {
            let c = char::from_u32(code).ok_or("escape sequence is an invalid Unicode code point")?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        _ => out.push(u8::try_from(code).map_err(|_| "octal escape value > 255")?),
    }
    Ok(&text[skip + digits..])
}

/// Prints bytes as [`quote`] prints text; those that are not UTF-8 as escapes.
pub fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        let quoted = quote(chunk.valid());
        out.push_str(&quoted[1..quoted.len() - 1]);
        out.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    format!("\"{out}\"")
}

/// Prints a string literal that [`unquote`] reads back.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A decimal, hexadecimal, octal or binary number; `_` may stand between digits.
pub fn parse_number(text: &str) -> Option<f64> {
    if text.starts_with('_') || text.ends_with('_') || text.contains("__") {
        return None;
    }
    let plain = text.replace('_', "").to_ascii_lowercase();
    let radix = |digits: &str, radix| u64::from_str_radix(digits, radix).ok().map(|n| n as f64);
    if let Some(hex) = plain.strip_prefix("0x") {
        return radix(hex, 16);
    }
    if let Some(octal) = plain.strip_prefix("0o") {
        return radix(octal, 8);
    }
    if let Some(binary) = plain.strip_prefix("0b") {
        return radix(binary, 2);
    }
    match plain.as_str() {
        "inf" | "+inf" => return Some(f64::INFINITY),
        "-inf" => return Some(f64::NEG_INFINITY),
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    let is_octal = plain.len() > 1 && plain.starts_with('0') && plain.bytes().all(|b| matches!(b, b'0'..=b'7'));
    if is_octal {
        return radix(&plain[1..], 8);
    }
    let starts_well = plain.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if starts_well { plain.parse().ok() } else { None }
}

/// Prints a float as Prometheus does: `Inf` and `NaN`, an exponent where it is very large or small.
pub fn format_number(value: f64) -> String {
    let mut text = String::new();
    write_number(&mut text, value);
    text
}

/// As [`format_number`], at the end of a text. Answers are mostly numbers.
pub fn write_number(out: &mut String, value: f64) {
    const EXACT_INTEGERS: f64 = (1u64 << 53) as f64;
    let size = value.abs();
    if size < EXACT_INTEGERS && value.fract() == 0.0 {
        if value.is_sign_negative() {
            out.push('-');
        }
        return out.push_str(itoa::Buffer::new().format(size as u64));
    }
    if (1e-4..1e15).contains(&size) {
        // Within these bounds the shortest digits come without an exponent.
        return out.push_str(zmij::Buffer::new().format_finite(value));
    }
    match () {
        () if value.is_nan() => out.push_str("NaN"),
        () if value.is_infinite() => out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" }),
        () if (1e-6..1e21).contains(&size) => out.push_str(&value.to_string()),
        () => {
            let text = format!("{value:e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |positive| ('-', positive));
            out.push_str(&format!("{digits}e{sign}{exponent:0>2}"));
        }
    }
}

/// Prints a float as Go's `%g` does, with as many digits as are needed, or this many.
pub fn go_general(value: f64, digits: Option<usize>) -> String {
    if !value.is_finite() || value == 0.0 {
        return format_number(value);
    }
    let text = match digits {
        Some(digits) => format!("{value:.*e}", digits.saturating_sub(1)),
        None => format!("{value:e}"),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= digits.map_or(6, |digits| digits as i32) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let kept = (mantissa.trim_start_matches('-').len().saturating_sub(2) as i32 - exponent).max(0) as usize;
    format!("{value:.kept$}")
}

/// Prints a length of time in seconds as a duration literal.
pub fn format_seconds(seconds: f64) -> String {
    format_duration((seconds * 1000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        let check = |value: f64, expected: &str| assert_eq!(format_number(value), expected);
        check(0.0, "0");
        check(-0.0, "-0");
        check(-3.0, "-3");
        check(0.1 + 0.2, "0.30000000000000004");
        check(1e-4, "0.0001");
        check(1.5e-5, "0.000015");
        check(1e-7, "1e-07");
        check(123_456_789.5, "123456789.5");
        check(9_007_199_254_740_993.0, "9007199254740992");
        check(1.5e20, "150000000000000000000");
        check(1e21, "1e+21");
        check(f64::NEG_INFINITY, "-Inf");
        check(5e-324, "5e-324");
    }

    proptest::proptest! {
        #[test]
        fn a_printed_number_is_read_again(bits in proptest::prelude::any::<u64>(), whole in -1_000_000i64..1_000_000) {
            for value in [f64::from_bits(bits), whole as f64 / 64.0] {
                let read = parse_number(&format_number(value));
                proptest::prop_assert!(read.is_some_and(|read| read.to_bits() == value.to_bits() || read.is_nan() && value.is_nan()));
            }
        }
    }

    #[test]
    fn numbers() {
        let check = |text: &str, expected: Option<f64>| assert_eq!(parse_number(text), expected, "{text}");
        check("0x1F", Some(31.0));
        check("0o17", Some(15.0));
        check("0755", Some(493.0));
        check("089", Some(89.0));
        check("1_000.5e-1", Some(100.05));
        check(".5", Some(0.5));
        for bad in ["", "1__0", "_1", "infinity", "e5", "0x", "1e"] {
            check(bad, None);
        }
    }

    #[test]
    fn numbers_print_as_go_prints_them() {
        let check = |value: f64, expected: &str| assert_eq!(format_number(value), expected);
        check(0.1, "0.1");
        check(1e21, "1e+21");
        check(1e-7, "1e-07");
        check(-1.5e300, "-1.5e+300");
        check(123456789.0, "123456789");
    }

    #[test]
    fn general_format() {
        let check = |value: f64, digits, expected: &str| assert_eq!(go_general(value, digits), expected);
        check(1e6, None, "1e+06");
        check(100_000.0, None, "100000");
        check(-0.25, None, "-0.25");
        check(0.00001, None, "1e-05");
        check(f64::INFINITY, None, "+Inf");
        check(0.1234, Some(2), "0.12");
        check(99.9, Some(2), "1e+02");
        check(10.0, Some(2), "10");
    }

    #[test]
    fn strings() {
        let check = |raw: &str, expected: Option<&str>| assert_eq!(unquote(raw).ok().as_deref(), expected, "{raw}");
        check(r#""a\n\t\"\\""#, Some("a\n\t\"\\"));
        check(r#"'it\'s'"#, Some("it's"));
        check(r"`raw \n`", Some(r"raw \n"));
        check(r#""\x41\102\u00e9\U0001F600""#, Some("ABé😀"));
        for bad in [r#""\q""#, r#""\x4""#, r#""\ud800""#, r#""\'""#, r#""\777""#] {
            check(bad, None);
        }
        assert_eq!(quoted_len("\"a\\\"b\" c"), Ok(6));
        assert!(quoted_len("\"a\nb\"").is_err());
    }

    proptest::proptest! {
        #[test]
        fn quoting_and_unquoting_are_inverse(text in "(\\PC|[\"\\\\\n\t\r\0])*") {
            let quoted = quote(&text);
            proptest::prop_assert_eq!(quoted_len(&quoted), Ok(quoted.len()));
            proptest::prop_assert_eq!(unquote(&quoted), Ok(text));
        }

        #[test]
        fn any_escape_is_read_or_refused(text in "(\\PC|\\\\[xuU0-7a-z'\"])*") {
            let _ = unquote(&format!("\"{text}\""));
        }
    }
}
