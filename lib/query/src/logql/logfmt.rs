//! logfmt: `key=value key="quoted value" flag`.

/// Hands the pairs of a line to `found`, those without a value with an empty one; returns the first fault and goes on
/// behind it unless `strict`.
pub(super) fn pairs(line: &str, strict: bool, mut found: impl FnMut(&str, &str)) -> Option<String> {
    let (mut at, mut fault) = (0, None);
    let bytes = line.as_bytes();
    let mut complain = |message: String| {
        fault.get_or_insert(message);
        strict
    };
    while at < bytes.len() {
        if bytes[at] <= b' ' {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && bytes[at] > b' ' && bytes[at] != b'=' && bytes[at] != b'"' {
            at += 1;
        }
        let key = &line[start..at];
        match bytes.get(at) {
            Some(b'=') if key.is_empty() => {
                at = end_of_word(bytes, at);
                if complain(format!("logfmt syntax error at pos {at} : unexpected '='")) {
                    break;
                }
            }
            Some(b'=') if bytes.get(at + 1) == Some(&b'"') => match quoted(&line[at + 1..]) {
                Some((value, len)) => {
                    found(key, &value);
                    at += 1 + len;
                }
                None => {
                    complain(format!("logfmt syntax error at pos {at} : unterminated quoted value"));
                    break;
                }
            },
            Some(b'=') => {
                let end = end_of_word(bytes, at + 1);
                let value = &line[at + 1..end];
                at = end;
                match value.find(['=', '"']) {
                    None => found(key, value),
                    Some(_) if complain(format!("logfmt syntax error at pos {at} : unexpected '=' or '\"'")) => break,
                    Some(_) => {}
                }
            }
            Some(b'"') => {
                at = end_of_word(bytes, at);
                if complain(format!("logfmt syntax error at pos {at} : unexpected '\"'")) {
                    break;
                }
            }
            _ => found(key, ""),
        }
    }
    fault
}

fn end_of_word(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|byte| *byte <= b' ').map_or(bytes.len(), |len| from + len)
}

/// The value of a quoted string at the start of `text` and its length with quotes.
fn quoted(text: &str) -> Option<(String, usize)> {
    let (mut value, mut chars) = (String::new(), text.char_indices().skip(1));
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, at + 1)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, strict: bool, expected: &str, is_faulty: bool) {
        let mut got = Vec::new();
        let fault = pairs(line, strict, |key, value| got.push(format!("{key}={value}")));
        assert_eq!((got.join("|").as_str(), fault.is_some()), (expected, is_faulty), "{line}");
    }

    #[test]
    fn pairs_and_faults() {
        check(r#"a=1 b="x \"y\"\n" flag c="#, true, "a=1|b=x \"y\"\n|flag=|c=", false);
        check("a=1 =2 b=3", false, "a=1|b=3", true);
        check("a=1 =2 b=3", true, "a=1", true);
        check(r#"a=1 b="open"#, false, "a=1", true);
        check("plain words here", true, "plain=|words=|here=", false);
        check("ü=ö", true, "ü=ö", false);
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read(line in "([a-c=\" \\\\é]|\\PC){0,30}", strict: bool) {
            pairs(&line, strict, |_, _| ());
        }
    }
}
