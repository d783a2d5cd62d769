//! JSON lines, read as leniently as Loki reads them: what stands before a fault counts, numbers stay as they were written,
//! and what nobody asks for is skipped, not checked.

use std::borrow::Cow;

/// Objects within objects that are followed.
const MAX_DEPTH: usize = 64;

const MALFORMED: &str = "Malformed JSON error";
const NO_OBJECT_END: &str = "Value looks like object, but can't find closing '}' symbol";
const NO_ARRAY_END: &str = "Value is array, but can't find closing ']' symbol";
const NO_STRING_END: &str = "Value is string, but can't find closing '\"' symbol";
const UNKNOWN_TYPE: &str = "Unknown value type";
const BAD_ESCAPE: &str = "Encountered an invalid escape sequence in a string";

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

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Text,
    Number,
    Bool,
    Null,
    Array,
    Object,
}

/// A value where it stands; the quotes of a string are left out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw<'a> {
    pub kind: Kind,
    pub text: &'a str,
}

impl Raw<'_> {
    /// As a label's value. A string with a bad escape is empty.
    pub fn value(&self) -> Cow<'_, str> {
        match self.kind {
            Kind::Text | Kind::Array => unescape(self.text).map_or(Cow::Borrowed(""), printable),
            Kind::Null => Cow::Borrowed(""),
            Kind::Number | Kind::Bool | Kind::Object => Cow::Borrowed(self.text),
        }
    }
}

fn printable(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\u{FFFD}') { Cow::Owned(text.replace('\u{FFFD}', " ")) } else { text }
}

/// The first byte from `at` on that is no blank.
fn token(bytes: &[u8], at: usize) -> Option<usize> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
    bytes.get(at..)?.iter().position(|byte| !is_blank(byte)).map(|len| at + len)
}

/// Where the string whose opening quote is before `at` has its closing one.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut i = at;
    loop {
        i += memchr::memchr2(b'"', b'\\', bytes.get(i..)?)?;
        if bytes[i] == b'"' {
            return Some(i);
        }
        i += 2;
    }
}

/// Behind the bracket that closes the one at `at`.
fn block_end(bytes: &[u8], at: usize, open: u8, close: u8) -> Option<usize> {
    let (mut level, mut i) = (0, at);
    loop {
        i += memchr::memchr3(b'"', open, close, bytes.get(i..)?)?;
        match bytes[i] {
            b'"' => i = string_end(bytes, i + 1)?,
            byte if byte == open => level += 1,
            _ => level -= 1,
        }
        i += 1;
        if level == 0 {
            return Some(i);
        }
    }
}

/// The value at or behind `at`, and where it ends.
fn value_at(text: &str, at: usize) -> Result<(Raw<'_>, usize), &'static str> {
    let bytes = text.as_bytes();
    let start = token(bytes, at).ok_or(MALFORMED)?;
    let (kind, end) = match bytes[start] {
        b'"' => {
            let end = string_end(bytes, start + 1).ok_or(NO_STRING_END)?;
            return Ok((Raw { kind: Kind::Text, text: &text[start + 1..end] }, end + 1));
        }
        b'[' => (Kind::Array, block_end(bytes, start, b'[', b']').ok_or(NO_ARRAY_END)?),
        b'{' => (Kind::Object, block_end(bytes, start, b'{', b'}').ok_or(NO_OBJECT_END)?),
        first => {
            let ends = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b',' | b'}' | b']');
            let end = bytes[start..].iter().position(ends).map_or(bytes.len(), |len| start + len);
            let kind = match (first, &bytes[start..end]) {
                (_, b"true" | b"false") => Kind::Bool,
                (_, b"null") => Kind::Null,
                (b'0'..=b'9' | b'-', _) => Kind::Number,
                _ => return Err(UNKNOWN_TYPE),
            };
            (kind, end)
        }
    };
    Ok((Raw { kind, text: &text[start..end] }, end))
}

/// Hands the members of an object to `visit`, up to the first fault, which is the error; one of `visit` is one too.
pub(super) fn each_member<'a>(
    text: &'a str,
    visit: &mut dyn FnMut(&str, Raw<'a>) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    let open = token(bytes, 0).filter(|at| bytes[*at] == b'{').ok_or(NO_OBJECT_END)?;
    let mut at = token(bytes, open + 1).ok_or(MALFORMED)?;
    loop {
        match bytes[at] {
            b'}' => return Ok(()),
            b'"' => {}
            _ => return Err(NO_OBJECT_END),
        }
        let key_end = string_end(bytes, at + 1).ok_or(MALFORMED)?;
        let key = unescape(&text[at + 1..key_end]).ok_or(BAD_ESCAPE)?;
        let colon = token(bytes, key_end + 1).filter(|at| bytes[*at] == b':').ok_or(MALFORMED)?;
        let (value, end) = value_at(text, colon + 1)?;
        visit(&key, value)?;
        at = token(bytes, end).ok_or(NO_ARRAY_END)?;
        match bytes[at] {
            b'}' => return Ok(()),
            b',' => at = token(bytes, at + 1).ok_or(NO_ARRAY_END)?,
            _ => return Err(NO_OBJECT_END),
        }
    }
}

/// The text behind JSON's escapes; `None` where one is bad.
fn unescape(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('\\') {
        return Some(Cow::Borrowed(raw));
    }
    let (mut out, mut rest) = (String::with_capacity(raw.len()), raw);
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let letter = *rest.as_bytes().get(at + 1)?;
        rest = rest.get(at + 2..)?;
        out.push(match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (code, after) = unicode(rest)?;
                rest = after;
                code
            }
            _ => return None,
        });
    }
    out.push_str(rest);
    Some(Cow::Owned(out))
}

/// The character behind `\u`: four hexadecimal digits, or a surrogate pair.
fn unicode(rest: &str) -> Option<(char, &str)> {
    let unit = |text: &str| u32::from_str_radix(text.get(..4)?, 16).ok();
    let first = unit(rest)?;
    let after = &rest[4..];
    if !(0xD800..0xDC00).contains(&first) {
        return Some((char::from_u32(first).unwrap_or('\u{FFFD}'), after));
    }
    let second = after.strip_prefix("\\u").and_then(unit).filter(|code| (0xDC00..0xE000).contains(code))?;
    let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
    Some((char::from_u32(code)?, &after[6..]))
}

/// The value at a path; `None` where there is none.
pub(super) fn at_path<'a>(line: &'a str, path: &[Step]) -> Result<Option<Raw<'a>>, &'static str> {
    let Ok((mut value, _)) = value_at(line, 0) else { return Ok(None) };
    for step in path {
        let found = match step {
            Step::Key(key) => member(value.text, key)?,
            Step::Index(index) if value.kind == Kind::Array => element(value.text, *index)?,
            Step::Index(_) => None,
        };
        let Some(next) = found else { return Ok(None) };
        value = next;
    }
    Ok(Some(value))
}

/// Faults before the member count as its absence; one in its value is an error.
fn member<'a>(object: &'a str, wanted: &str) -> Result<Option<Raw<'a>>, &'static str> {
    const FOUND: &str = "found";
    let mut found = None;
    let outcome = each_member(object, &mut |key, value| {
        if key == wanted {
            found = Some(value);
            return Err(FOUND);
        }
        Ok(())
    });
    match outcome {
        Err(UNKNOWN_TYPE | NO_STRING_END) if found.is_none() => Err(UNKNOWN_TYPE),
        _ => Ok(found),
    }
}

fn element(array: &str, index: usize) -> Result<Option<Raw<'_>>, &'static str> {
    let bytes = array.as_bytes();
    let mut at = 1;
    for i in 0.. {
        match token(bytes, at) {
            Some(next) if bytes[next] != b']' => {}
            _ => break,
        }
        let (value, end) = value_at(array, at)?;
        if i == index {
            return Ok(Some(value));
        }
        match token(bytes, end) {
            Some(next) if bytes[next] == b',' => at = next + 1,
            _ => break,
        }
    }
    Ok(None)
}

/// Hands every scalar to `found`, nested names joined by `_`; arrays and nulls are left out.
pub(super) fn flatten(line: &str, found: &mut dyn FnMut(&str, &str)) -> Result<(), &'static str> {
    flatten_under(line, "", 0, found)
}

fn flatten_under(
    object: &str,
    prefix: &str,
    depth: usize,
    found: &mut dyn FnMut(&str, &str),
) -> Result<(), &'static str> {
    each_member(object, &mut |key, value| {
        if matches!(value.kind, Kind::Null | Kind::Array) {
            return Ok(());
        }
        let name = match (prefix.is_empty(), key.trim().is_empty()) {
            (true, _) => sanitized(key),
            (false, true) => prefix.to_owned(),
            (false, false) => format!("{prefix}_{}", replaced(key.trim())),
        };
        match value.kind {
            Kind::Object if depth < MAX_DEPTH => flatten_under(value.text, &name, depth + 1, found)?,
            Kind::Object => {}
            _ => found(&name, &value.value()),
        }
        Ok(())
    })
}

fn replaced(key: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    key.chars().map(|c| if is_allowed(c) { c } else { '_' }).collect()
}

/// A label name from a key: what a name cannot hold becomes `_`.
pub(super) fn sanitized(key: &str) -> String {
    let mut name = replaced(key.trim());
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
        let line = r#"{"a": {"b c": [1, {"d": "x"}], "e": null}, "n": 1.50, "t": "q\"\u00e9"}"#;
        let check = |path: &str, expected: Option<&str>| {
            let found = at_path(line, &parse_path(path).expect("a path")).expect("well formed");
            assert_eq!(found.as_ref().map(Raw::value).as_deref(), expected, "{path}");
        };
        check(r#"a["b c"][1].d"#, Some("x"));
        check(r#"a["b c"]"#, Some(r#"[1, {"d": "x"}]"#));
        check("a.e", Some(""));
        check("a.f", None);
        check("n", Some("1.50"));
        check("t", Some("q\"é"));
        check("n[0]", None);
        for bad in ["", ".", "a[", "a[x]", "a[\"x"] {
            assert!(parse_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flattening() {
        let check = |line: &str, expected: &[&str], fault: Result<(), &str>| {
            let mut found = Vec::new();
            let outcome = flatten(line, &mut |name, value| found.push(format!("{name}={value}")));
            assert_eq!((found.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), outcome), (expected, fault));
        };
        let all = r#"{"a-b": {"c": true, " ": {"9": 1}}, "0": 1e3, "l": [1, "]"], "z": null, "t": "\ud83d\ude00"}"#;
        check(all, &["a_b_c=true", "a_b_9=1", "_0=1e3", "t=😀"], Ok(()));
        check("{}", &[], Ok(()));
        check("{", &[], Err(MALFORMED));
        check("broken", &[], Err(NO_OBJECT_END));
        check("", &[], Err(NO_OBJECT_END));
        check(r#"{"a": 1, "b": oops}"#, &["a=1"], Err(UNKNOWN_TYPE));
        check(r#"{"a": "x"#, &[], Err(NO_STRING_END));
        check(r#"{"a": [1"#, &[], Err(NO_ARRAY_END));
        check(r#"{"a": 1 "b": 2}"#, &["a=1"], Err(NO_OBJECT_END));
        check(r#"{"a": "\q"}"#, &["a="], Ok(()));
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read(line in "([\"{}\\[\\]:,a1 \\\\u]|\\PC){0,40}") {
            let _ = flatten(&line, &mut |_, _| ());
            let _ = at_path(&line, &[Step::Key("a".into()), Step::Index(1)]);
        }
    }
}
