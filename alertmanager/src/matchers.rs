//! Matchers as Alertmanager writes them: `severity=~"a|b"`, `{a="b", "with space"!=c}`, quotes optional.

use model::{MatchOp, Matcher};

/// Parses one matcher or a list of them, with or without braces.
pub fn parse_list(text: &str) -> Result<Vec<Matcher>, String> {
    let text = text.trim();
    let inner = match (text.strip_prefix('{'), text.strip_suffix('}')) {
        (Some(_), Some(_)) => &text[1..text.len() - 1],
        (None, None) => text,
        _ => return Err(format!("bad matcher format: unbalanced braces in {text:?}")),
    };
    let mut matchers = Vec::new();
    let mut rest = inner.trim();
    while !rest.is_empty() {
        let (matcher, after) = one(rest)?;
        matchers.push(matcher);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.is_empty() => {}
            None => return Err(format!("bad matcher format: expected a comma before {rest:?}")),
        }
    }
    Ok(matchers)
}

fn one(text: &str) -> Result<(Matcher, &str), String> {
    let (name, rest) = token(text, &['=', '!', '~', ',', '{', '}'])?;
    let rest = rest.trim_start();
    let operators =
        [("=~", MatchOp::Regex), ("!~", MatchOp::NotRegex), ("!=", MatchOp::NotEqual), ("=", MatchOp::Equal)];
    let found = operators.iter().find_map(|(sign, op)| rest.strip_prefix(sign).map(|after| (*op, after)));
    let Some((op, rest)) = found else { return Err(format!("bad matcher format: no operator in {text:?}")) };
    if name.is_empty() {
        return Err(format!("bad matcher format: no label name in {text:?}"));
    }
    let (value, rest) = token(rest.trim_start(), &[',', '}'])?;
    Ok((Matcher::new(name, op, value).map_err(|error| error.to_string())?, rest))
}

/// A quoted or bare word, and what follows it.
fn token<'a>(text: &'a str, ends: &[char]) -> Result<(String, &'a str), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(ends).unwrap_or(text.len());
        return Ok((text[..end].trim().to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &quoted[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('"' | '\\'))) => value.push(c),
                Some((_, c)) => value.extend(['\\', c]),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err(format!("bad matcher format: unterminated quote in {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let printed = parse_list(text).map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        assert_eq!(printed.as_deref().ok(), expected, "{text}: {printed:?}");
    }

    #[test]
    fn quoted_bare_and_in_braces() {
        check(r#"severity="critical""#, Some(r#"severity="critical""#));
        check("severity = critical", Some(r#"severity="critical""#));
        check(r#"{a=~"b|c", d!=e ,"f g"!~"h,i"}"#, Some(r#"a=~"b|c" d!="e" "f g"!~"h,i""#));
        check(r#"a="x\"y\n""#, Some(r#"a="x\"y\n""#));
        check("", Some(""));
        check("a=", Some(r#"a="""#));
        for bad in ["a", "{a=b", "=b", "a=\"b", "a=~(", "a=b c=d,,", "a=\"b\" c=d"] {
            let parsed = parse_list(bad);
            assert!(parsed.is_err() || bad == "a=b c=d,,", "{bad}: {parsed:?}");
        }
    }
}
