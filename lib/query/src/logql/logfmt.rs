//! logfmt: `key=value key="quoted value" flag`.

use std::borrow::Cow;

/// Hands the pairs of a line to `found`, those without a value with an empty one. A faulty pair is passed over; the last
/// fault is returned. `strict` stops at the first.
pub(super) fn pairs(line: &str, strict: bool, mut found: impl FnMut(&str, &str)) -> Option<String> {
    let (mut at, mut fault) = (0, None);
    while at < line.len() {
        match pair(line, &mut at) {
            Ok(Some((key, value))) => found(key, &value),
            Ok(None) => {}
            Err(message) => {
                fault = Some(message);
                if strict {
                    break;
                }
            }
        }
    }
    fault
}

type Pair<'l> = Option<(&'l str, Cow<'l, str>)>;

/// The pair at `at`, which moves behind it.
fn pair<'l>(line: &'l str, at: &mut usize) -> Result<Pair<'l>, String> {
    let bytes = line.as_bytes();
    let Some(blank) = bytes[*at..].iter().position(|byte| *byte > b' ') else {
        *at = bytes.len();
        return Ok(None);
    };
    let start = *at + blank;
    let key_len = bytes[start..].iter().position(|byte| *byte <= b' ' || matches!(byte, b'=' | b'"'));
    let end = key_len.map_or(bytes.len(), |len| start + len);
    let key = &line[start..end];
    *at = end;
    match bytes.get(end) {
        Some(b'"') => Err(unexpected(bytes, at)),
        Some(b'=') if key.is_empty() => Err(unexpected(bytes, at)),
        Some(b'=') if key.contains('\u{FFFD}') => {
            *at = word_end(bytes, end);
            Err(syntax_error("invalid key", end))
        }
        Some(b'=') => {
            *at = end + 1;
            value(line, at).map(|value| Some((key, value)))
        }
        _ => Ok(Some((key, Cow::Borrowed("")))),
    }
}

/// The value at `at`, behind an equals sign.
fn value<'l>(line: &'l str, at: &mut usize) -> Result<Cow<'l, str>, String> {
    let (bytes, start) = (line.as_bytes(), *at);
    match bytes.get(start) {
        None => Ok(Cow::Borrowed("")),
        Some(b'"') => quoted(line, at),
        Some(_) => {
            let len = bytes[start..].iter().position(|byte| *byte <= b' ' || matches!(byte, b'=' | b'"'));
            *at = len.map_or(bytes.len(), |len| start + len);
            match bytes.get(*at) {
                Some(b'=' | b'"') => Err(unexpected(bytes, at)),
                _ => Ok(Cow::Borrowed(&line[start..*at])),
            }
        }
    }
}

fn quoted<'l>(line: &'l str, at: &mut usize) -> Result<Cow<'l, str>, String> {
    let (bytes, start) = (line.as_bytes(), *at + 1);
    let mut i = start;
    let mut is_escaped = false;
    loop {
        match bytes.get(i) {
            None => {
                *at = bytes.len();
                return Err(syntax_error("unterminated quoted value", bytes.len()));
            }
            Some(b'"') => break,
            Some(b'\\') => {
                is_escaped = true;
                i += 2;
            }
            Some(_) => i += 1,
        }
    }
    *at = i + 1;
    if !is_escaped {
        return Ok(Cow::Borrowed(&line[start..i]));
    }
    unescape(&line[start..i]).map(Cow::Owned).ok_or_else(|| syntax_error("invalid quoted value", *at))
}

fn unescape(raw: &str) -> Option<String> {
    let (mut out, mut chars) = (String::with_capacity(raw.len()), raw.chars());
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'u' => {
                    let digits: String = chars.by_ref().take(4).collect();
                    let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4)?;
                    char::from_u32(code).unwrap_or('\u{FFFD}')
                }
                c @ ('"' | '\\' | '/' | '\'') => c,
                _ => return None,
            },
            c => c,
        });
    }
    Some(out)
}

/// The byte at `at` cannot stand there: the rest of its word is passed over.
fn unexpected(bytes: &[u8], at: &mut usize) -> String {
    let place = *at;
    *at = word_end(bytes, place);
    let shown = if bytes[place] == b'"' { "'\"'" } else { "'='" };
    syntax_error(&format!("unexpected {shown}"), place)
}

fn syntax_error(message: &str, at: usize) -> String {
    format!("logfmt syntax error at pos {} : {message}", at + 1)
}

fn word_end(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|byte| *byte <= b' ').map_or(bytes.len(), |len| from + len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, strict: bool, expected: &str, fault: Option<&str>) {
        let mut got = Vec::new();
        let found = pairs(line, strict, |key, value| got.push(format!("{key}={value}")));
        assert_eq!((got.join("|").as_str(), found.as_deref()), (expected, fault), "{line}");
    }

    #[test]
    fn pairs_and_faults() {
        check(r#"a=1 b="x \"y\"\n" flag c="#, true, "a=1|b=x \"y\"\n|flag=|c=", None);
        check("a=1 =2 b=3", false, "a=1|b=3", Some("logfmt syntax error at pos 5 : unexpected '='"));
        check("a=1 =2 b=3", true, "a=1", Some("logfmt syntax error at pos 5 : unexpected '='"));
        check("foo=10 ===bad", true, "foo=10", Some("logfmt syntax error at pos 8 : unexpected '='"));
        check(r#"a=1 b="open"#, false, "a=1", Some("logfmt syntax error at pos 12 : unterminated quoted value"));
        check(r#"a="\q" b=2"#, false, "b=2", Some("logfmt syntax error at pos 7 : invalid quoted value"));
        check("a=b=c d=1", false, "d=1", Some("logfmt syntax error at pos 4 : unexpected '='"));
        check("plain words here", true, "plain=|words=|here=", None);
        check("ü=ö", true, "ü=ö", None);
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read(line in "([a-c=\" \\\\é]|\\PC){0,30}", strict: bool) {
            pairs(&line, strict, |_, _| ());
        }
    }
}
