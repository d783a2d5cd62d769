//! Matchers as Alertmanager writes them, in its two syntaxes.
//!
//! The classic one takes bare values with nearly anything in them (`severity =~ a|b`) and label names of letters; the
//! UTF-8 one takes any name (`"with space"!=c`), wants quotes around anything odd, and understands Go's escapes. Unless a
//! feature flag says otherwise both are tried, and where they disagree the classic one counts.

use model::{MatchOp, Matcher, is_metric_name};

/// How matchers and label names are read (`--enable-feature`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MatcherMode {
    #[default]
    Fallback,
    /// `utf8-strict-mode`
    Utf8,
    /// `classic-mode`
    Classic,
}

impl MatcherMode {
    pub fn of_features(features: &[String]) -> MatcherMode {
        let has = |name: &str| features.iter().any(|feature| feature == name);
        match (has("classic-mode"), has("utf8-strict-mode")) {
            (true, _) => MatcherMode::Classic,
            (false, true) => MatcherMode::Utf8,
            (false, false) => MatcherMode::Fallback,
        }
    }

    /// Parses any number of matchers, with or without braces.
    pub fn list(self, text: &str) -> Result<Vec<Matcher>, String> {
        match self {
            MatcherMode::Classic => classic_list(text),
            MatcherMode::Utf8 => utf8_list(text),
            // What the classic syntax takes has its meaning there; its error is the one that is told.
            MatcherMode::Fallback => classic_list(text).or_else(|error| utf8_list(text).map_err(|_| error)),
        }
    }

    /// Parses one matcher.
    pub fn one(self, text: &str) -> Result<Matcher, String> {
        let utf8 = || {
            let mut found = utf8_list(text)?;
            match found.len() {
                0 => Err("no matchers".to_owned()),
                1 => Ok(found.remove(0)),
                count => Err(format!("expected 1 matcher, found {count}")),
            }
        };
        if self != MatcherMode::Classic && (text.starts_with('{') || text.ends_with('}')) {
            return Err(format!("unexpected open or close brace: {text}"));
        }
        match self {
            MatcherMode::Classic => classic_one(text),
            MatcherMode::Utf8 => utf8(),
            MatcherMode::Fallback => classic_one(text).or_else(|error| utf8().map_err(|_| error)),
        }
    }

    /// Whether a label may have this name.
    pub fn is_valid_name(self, name: &str) -> bool {
        match self {
            MatcherMode::Classic => model::is_label_name(name),
            MatcherMode::Utf8 | MatcherMode::Fallback => !name.is_empty(),
        }
    }
}

#[cfg(test)]
pub fn parse_list(text: &str) -> Result<Vec<Matcher>, String> {
    MatcherMode::Fallback.list(text)
}

/// Longer signs before their beginnings.
const OPERATORS: [(&str, MatchOp); 4] =
    [("=~", MatchOp::Regex), ("!~", MatchOp::NotRegex), ("!=", MatchOp::NotEqual), ("=", MatchOp::Equal)];

fn new_matcher(name: &str, op: MatchOp, value: String) -> Result<Matcher, String> {
    Matcher::new(name, op, value).map_err(|error| error.to_string())
}

fn classic_list(text: &str) -> Result<Vec<Matcher>, String> {
    let text = text.strip_prefix('{').unwrap_or(text);
    let text = text.strip_suffix('}').unwrap_or(text);
    let (mut words, mut word) = (Vec::new(), String::new());
    let (mut is_quoted, mut is_escaped) = (false, false);
    for c in text.chars() {
        match c {
            ',' if !is_quoted => {
                words.push(std::mem::take(&mut word));
                continue;
            }
            '"' if is_escaped => is_escaped = false,
            '"' => is_quoted = !is_quoted,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
        word.push(c);
    }
    if !word.trim().is_empty() {
        words.push(word.trim().to_owned());
    }
    words.iter().map(|word| classic_one(word)).collect()
}

fn classic_one(text: &str) -> Result<Matcher, String> {
    let bad = || format!("bad matcher format: {text}");
    let trimmed = text.trim();
    let at = trimmed.find(['=', '!']).ok_or_else(bad)?;
    let name = trimmed[..at].trim_end();
    if !is_metric_name(name) {
        return Err(bad());
    }
    let found = OPERATORS.iter().find_map(|(sign, op)| Some((*op, trimmed[at..].strip_prefix(sign)?)));
    let (op, raw) = found.ok_or_else(bad)?;
    new_matcher(name, op, classic_value(raw.trim())?)
}

/// A value with or without quotes; a backslash before anything but `n`, `"` and itself stays.
fn classic_value(raw: &str) -> Result<String, String> {
    let unescaped_quote = || format!("matcher value contains unescaped double quote: {raw}");
    let inner = raw.strip_prefix('"');
    let mut is_open = inner.is_some();
    let mut value = String::new();
    let mut chars = inner.unwrap_or(raw).chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => value.push('\n'),
                Some(c @ ('"' | '\\')) => value.push(c),
                Some(c) => value.extend(['\\', c]),
                None => value.push('\\'),
            },
            '"' if !is_open || chars.peek().is_some() => return Err(unescaped_quote()),
            '"' => is_open = false,
            c => value.push(c),
        }
    }
    if is_open { Err(unescaped_quote()) } else { Ok(value) }
}

/// A word of the UTF-8 syntax, with where it begins and ends in characters.
#[derive(Debug, Clone, PartialEq)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    start: usize,
    end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Open,
    Close,
    Comma,
    Operator(MatchOp),
    Quoted,
    Bare,
}

fn is_reserved(c: char) -> bool {
    c.is_whitespace() || "{}!=~,\\\"'`".contains(c)
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, String> {
    let (mut found, mut rest, mut start) = (Vec::new(), text, 0);
    while let Some(c) = rest.chars().next() {
        let operator = || OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign));
        let (kind, bytes) = match c {
            c if c.is_whitespace() => {
                rest = &rest[c.len_utf8()..];
                start += 1;
                continue;
            }
            '{' => (Kind::Open, 1),
            '}' => (Kind::Close, 1),
            ',' => (Kind::Comma, 1),
            '=' | '!' => match operator() {
                Some((sign, op)) => (Kind::Operator(*op), sign.len()),
                None => return Err(format!("{start}:{}: {c}: expected one of '=~'", start + 1)),
            },
            '"' => match closing_quote(rest) {
                Some(end) => (Kind::Quoted, end + 1),
                None => return Err(format!("{start}:{}: {rest}: missing end \"", start + rest.chars().count())),
            },
            c if is_reserved(c) => return Err(format!("{start}:{}: {c}: invalid input", start + 1)),
            _ => (Kind::Bare, rest.find(is_reserved).unwrap_or(rest.len())),
        };
        let end = start + rest[..bytes].chars().count();
        found.push(Token { kind, text: &rest[..bytes], start, end });
        rest = &rest[bytes..];
        start = end;
    }
    Ok(found)
}

/// Where a quoted text ends.
fn closing_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.char_indices().skip(1).find_map(|(at, c)| {
        let closes = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        closes.then_some(at)
    })
}

fn utf8_list(text: &str) -> Result<Vec<Matcher>, String> {
    let all = tokens(text)?;
    let end = text.chars().count();
    let (inner, is_braced) = match &all[..] {
        [Token { kind: Kind::Open, .. }, inner @ .., Token { kind: Kind::Close, .. }] => (inner, true),
        [Token { kind: Kind::Open, .. }, ..] => return Err(format!("0:{end}: end of input: expected close brace")),
        [.., Token { kind: Kind::Close, .. }] => return Err(format!("0:{end}: }}: expected opening brace")),
        inner => (inner, false),
    };
    let mut matchers = Vec::new();
    let mut rest = inner;
    while !rest.is_empty() {
        let name = word(rest.first(), "label name", is_braced)?;
        let expected = ": expected an operator such as '=', '!=', '=~' or '!~'";
        let op = match rest.get(1) {
            Some(Token { kind: Kind::Operator(op), .. }) => *op,
            other => return Err(unexpected(other, is_braced) + expected),
        };
        let value = word(rest.get(2), "label value", is_braced)?;
        matchers.push(new_matcher(&name, op, value).map_err(|error| format!("failed to create matcher: {error}"))?);
        rest = match &rest[3..] {
            [Token { kind: Kind::Comma, .. }, rest @ ..] => rest,
            [] => &[],
            [other, ..] => return Err(unexpected(Some(other), is_braced) + ": expected a comma or close brace"),
        };
    }
    Ok(matchers)
}

fn unexpected(token: Option<&Token>, is_braced: bool) -> String {
    match token {
        Some(token) => format!("{}:{}: unexpected {}", token.start, token.end, token.text),
        None if is_braced => "unexpected }".to_owned(),
        None => "end of input".to_owned(),
    }
}

/// A name or a value.
fn word(token: Option<&Token>, what: &str, is_braced: bool) -> Result<String, String> {
    match token {
        Some(Token { kind: Kind::Bare, text, .. }) => Ok((*text).to_owned()),
        Some(Token { kind: Kind::Quoted, text, start, end }) => {
            unquote(&text[1..text.len() - 1]).ok_or_else(|| format!("{start}:{end}: {text}: invalid input"))
        }
        other => Err(format!("{}: expected {what}", unexpected(other, is_braced))),
    }
}

/// Go's escapes resolved; what they spell must be UTF-8.
fn unquote(text: &str) -> Option<String> {
    let mut value = Vec::new();
    let mut chars = text.chars();
    let push = |value: &mut Vec<u8>, c: char| value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    while let Some(c) = chars.next() {
        match c {
            '\n' => return None,
            '\\' => match chars.next()? {
                'a' => value.push(7),
                'b' => value.push(8),
                'f' => value.push(12),
                'n' => value.push(b'\n'),
                'r' => value.push(b'\r'),
                't' => value.push(b'\t'),
                'v' => value.push(11),
                c @ ('\\' | '"') => push(&mut value, c),
                'u' => push(&mut value, char::from_u32(take_number(&mut chars, 4, 16)?)?),
                'U' => push(&mut value, char::from_u32(take_number(&mut chars, 8, 16)?)?),
                'x' => value.push(u8::try_from(take_number(&mut chars, 2, 16)?).ok()?),
                first @ '0'..='7' => {
                    let rest = take_number(&mut chars, 2, 8)?;
                    value.push(u8::try_from(first.to_digit(8)? * 64 + rest).ok()?);
                }
                _ => return None,
            },
            c => push(&mut value, c),
        }
    }
    String::from_utf8(value).ok()
}

fn take_number(chars: &mut std::str::Chars, digits: usize, radix: u32) -> Option<u32> {
    let text: String = chars.by_ref().take(digits).collect();
    let is_whole = text.chars().count() == digits && text.chars().all(|c| c.is_digit(radix));
    u32::from_str_radix(&text, radix).ok().filter(|_| is_whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mode: MatcherMode, text: &str, expected: Result<&str, &str>) {
        let printed = mode.list(text).map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        assert_eq!(printed.as_deref().map_err(String::as_str), expected, "{mode:?}: {text}");
    }

    #[test]
    fn classic_values_may_be_nearly_anything() {
        let check = |text, expected| check(MatcherMode::Classic, text, expected);
        check(r#"severity="critical""#, Ok(r#"severity="critical""#));
        check("severity = critical", Ok(r#"severity="critical""#));
        check("{a=b c, d=~e|f}", Ok(r#"a="b c" d=~"e|f""#));
        check(r#"a="x\"y\n\z""#, Ok(r#"a="x\"y\n\\z""#));
        check("", Ok(""));
        check("{}", Ok(""));
        check("a=", Ok(r#"a="""#));
        check("a=b=c", Ok(r#"a="b=c""#));
        check("a", Err("bad matcher format: a"));
        check("a=b,,c=d", Err("bad matcher format: "));
        check(r#""a b"=c"#, Err(r#"bad matcher format: "a b"=c"#));
        check(r#"a="b"#, Err(r#"matcher value contains unescaped double quote: "b"#));
        check(r#"a=b"c"#, Err(r#"matcher value contains unescaped double quote: b"c"#));
    }

    #[test]
    fn utf8_names_may_be_anything() {
        let check = |text, expected| check(MatcherMode::Utf8, text, expected);
        check(r#"{a=~"b|c", d!=e ,"f g"!~"h,i"}"#, Ok(r#"a=~"b|c" d!="e" "f g"!~"h,i""#));
        check("ä=ö,", Ok(r#""ä"="ö""#));
        check(r#"a="\u00e4\xc3\xa4\101\t""#, Ok("a=\"ääA\\t\""));
        check(r#"a="\xc3""#, Err(r#"2:8: "\xc3": invalid input"#));
        check("", Ok(""));
        check("{}", Ok(""));
        check("{a=b", Err("0:4: end of input: expected close brace"));
        check("a=b}", Err("0:4: }: expected opening brace"));
        check("a", Err("end of input: expected an operator such as '=', '!=', '=~' or '!~'"));
        check("=b", Err("0:1: unexpected =: expected label name"));
        check("a=", Err("end of input: expected label value"));
        check("a=b c=d", Err("4:5: unexpected c: expected a comma or close brace"));
        check("a=b,,", Err("4:5: unexpected ,: expected label name"));
        check(r#"a="b"#, Err(r#"2:4: "b: missing end ""#));
        check(r#"a="\z""#, Err(r#"2:6: "\z": invalid input"#));
        check("a=~b", Ok(r#"a=~"b""#));
        check("a!b", Err("1:2: !: expected one of '=~'"));
        check("a=`b`", Err("2:3: `: invalid input"));
    }

    #[test]
    fn by_default_either_will_do() {
        let check = |text, expected| check(MatcherMode::Fallback, text, expected);
        check(r#""a b"=c"#, Ok(r#""a b"="c""#));
        check("a=b c", Ok(r#"a="b c""#));
        check(r#"a="\t""#, Ok(r#"a="\\t""#));
        check("a=b}", Ok(r#"a="b""#));
        check("!", Err("bad matcher format: !"));
    }

    #[test]
    fn a_filter_is_one_matcher_without_braces() {
        let check = |mode: MatcherMode, text: &str, expected: Result<&str, &str>| {
            let printed = mode.one(text).map(|matcher| matcher.to_string());
            assert_eq!(printed.as_deref().map_err(String::as_str), expected, "{mode:?}: {text}");
        };
        check(MatcherMode::Fallback, "a=b", Ok(r#"a="b""#));
        check(MatcherMode::Fallback, "{a=b}", Err("unexpected open or close brace: {a=b}"));
        check(MatcherMode::Utf8, "a=b,c=d", Err("expected 1 matcher, found 2"));
        check(MatcherMode::Utf8, "", Err("no matchers"));
        check(MatcherMode::Classic, "ä=b", Err("bad matcher format: ä=b"));
    }

    #[test]
    fn names_by_mode() {
        assert!(MatcherMode::Fallback.is_valid_name("ä b") && !MatcherMode::Fallback.is_valid_name(""));
        assert!(MatcherMode::Classic.is_valid_name("a_b") && !MatcherMode::Classic.is_valid_name("ä"));
        assert_eq!(MatcherMode::of_features(&["x".into(), "classic-mode".into()]), MatcherMode::Classic);
        assert_eq!(MatcherMode::of_features(&["utf8-strict-mode".into()]), MatcherMode::Utf8);
        assert_eq!(MatcherMode::of_features(&[]), MatcherMode::Fallback);
    }
}
