//! Text to tokens. Keywords are words here: only the parser knows where a word is one.

use model::parse_duration;

use crate::literal::{parse_number, quoted_len, unquote};
use crate::{QueryError, Span};

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Number(f64),
    /// In seconds.
    Duration(f64),
    Text(String),
    Word(String),
    Symbol(&'static str),
    End,
}

impl Token {
    /// As error messages name it.
    pub fn describe(&self, text: &str) -> String {
        match self {
            Token::Number(_) => format!("number {text:?}"),
            Token::Duration(_) => format!("duration {text:?}"),
            Token::Text(_) => format!("string {text}"),
            Token::Word(word) if KEYWORDS.contains(&word.to_ascii_lowercase().as_str()) => {
                format!("<{}>", word.to_ascii_lowercase())
            }
            Token::Word(_) => format!("identifier {text:?}"),
            Token::Symbol(symbol) if OPERATORS.contains(symbol) => format!("<op:{symbol}>"),
            Token::Symbol(symbol) => format!("{symbol:?}"),
            Token::End => "end of input".to_owned(),
        }
    }
}

const OPERATORS: [&str; 17] =
    ["=~", "!~", "==", "!=", ">=", "<=", "</", ">/", "+", "-", "*", "/", "%", "^", "<", ">", "@"];
const KEYWORDS: [&str; 14] = [
    "and",
    "or",
    "unless",
    "atan2",
    "bool",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "offset",
    "by",
    "without",
    "anchored",
    "smoothed",
];

/// Longer ones first.
const SYMBOLS: [&str; 27] = [
    "=~", "!~", "==", "!=", ">=", "<=", "</", ">/", "+", "-", "*", "/", "%", "^", "=", "<", ">", "(", ")", "{", "}",
    "[", "]", ",", "@", ":", ";",
];

/// What encloses the place: colons belong to names outside of brackets and braces only.
struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    line_start: usize,
    open: Vec<&'static str>,
}

/// All tokens with their spans; the last is [`Token::End`].
pub fn tokens(text: &str) -> Result<Vec<(Token, Span)>, QueryError> {
    let mut lexer = Lexer { text, at: 0, line: 1, line_start: 0, open: Vec::new() };
    let mut found = Vec::new();
    loop {
        let next = lexer.next()?;
        let is_end = next.0 == Token::End;
        found.push(next);
        if is_end {
            return Ok(found);
        }
    }
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn here(&self) -> Span {
        Span { start: self.at, end: self.at, line: self.line, column: self.at - self.line_start + 1 }
    }

    fn advance(&mut self, len: usize) {
        for (i, _) in self.text[self.at..self.at + len].match_indices('\n') {
            self.line += 1;
            self.line_start = self.at + i + 1;
        }
        self.at += len;
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
            let comment = match rest[blanks..].starts_with('#') {
                true => rest[blanks..].find('\n').unwrap_or(rest.len() - blanks),
                false => 0,
            };
            if blanks + comment == 0 {
                return;
            }
            self.advance(blanks + comment);
        }
    }

    fn next(&mut self) -> Result<(Token, Span), QueryError> {
        self.skip_blanks();
        let start = self.here();
        let (token, len) = self.scan().map_err(|message| start.error(message))?;
        self.advance(len);
        Ok((token, Span { end: self.at, ..start }))
    }

    fn scan(&mut self) -> Result<(Token, usize), String> {
        let text = self.text;
        let rest = &text[self.at..];
        let Some(first) = rest.chars().next() else {
            return match self.open.last() {
                None => Ok((Token::End, 0)),
                Some(&"(") => Err("unclosed left parenthesis".to_owned()),
                Some(&"[") => Err("unclosed left bracket".to_owned()),
                Some(_) => Err("unexpected end of input inside braces".to_owned()),
            };
        };
        let colons_belong = !matches!(self.open.last(), Some(&("[" | "{")));
        let second = rest[first.len_utf8()..].chars().next();
        if self.open.last() == Some(&"{") {
            self.check_inside_braces(first, second)?;
        }
        match first {
            '"' | '\'' | '`' => {
                let len = quoted_len(rest)?;
                Ok((Token::Text(unquote(&rest[..len])?), len))
            }
            '0'..='9' => scan_number(rest),
            '.' if second.is_some_and(|c| c.is_ascii_digit()) => scan_number(rest),
            c if c.is_ascii_alphabetic() || c == '_' || c == ':' && colons_belong => {
                let belongs = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':' && colons_belong;
                let len = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
                Ok((Token::Word(rest[..len].to_owned()), len))
            }
            _ => self.scan_symbol(first, second),
        }
    }

    fn check_inside_braces(&self, first: char, second: Option<char>) -> Result<(), String> {
        match (first, second) {
            ('!', Some('=' | '~')) | ('"' | '\'' | '`' | ',' | '=' | '}' | '_', _) => Ok(()),
            ('!', Some(second)) => Err(format!("unexpected character after '!' inside braces: {second:?}")),
            ('{', _) => Err("unexpected left brace '{'".to_owned()),
            (first, _) if first.is_ascii_alphabetic() => Ok(()),
            (first, _) => Err(format!("unexpected character inside braces: {first:?}")),
        }
    }

    fn scan_symbol(&mut self, first: char, second: Option<char>) -> Result<(Token, usize), String> {
        let in_braces = self.open.last() == Some(&"{");
        // A matcher's sign outside of a selector, and a comparison's inside, are none.
        let is_known = |symbol: &&str| match *symbol {
            "=~" | "!~" => in_braces,
            "==" => !in_braces,
            _ => true,
        };
        let fitting = SYMBOLS.into_iter().filter(is_known).find(|symbol| self.rest().starts_with(symbol));
        let Some(symbol) = fitting.filter(|symbol| *symbol != "=" || in_braces || second != Some('~')) else {
            return Err(match (first, second) {
                ('!' | '=', Some(second)) => format!("unexpected character after {first:?}: {second:?}"),
                _ => format!("unexpected character: {first:?}"),
            });
        };
        match symbol {
            "(" | "[" | "{" => self.open.push(symbol),
            ")" | "]" | "}" => {
                let (opens, name) = match symbol {
                    ")" => ("(", "parenthesis"),
                    "]" => ("[", "bracket"),
                    _ => ("{", "brace"),
                };
                if self.open.pop() != Some(opens) {
                    if symbol == "}" {
                        return Err("unexpected character: '}'".to_owned());
                    }
                    return Err(format!("unexpected right {name} '{symbol}'"));
                }
            }
            _ => {}
        }
        Ok((Token::Symbol(symbol), symbol.len()))
    }
}

/// A number, or a duration when units follow.
fn scan_number(rest: &str) -> Result<(Token, usize), String> {
    let bytes = rest.as_bytes();
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let prefixed =
        bytes[0] == b'0' && bytes.get(1).is_some_and(|b| matches!(b, b'x' | b'X' | b'o' | b'O' | b'b' | b'B'));
    let mut len = 0;
    while let Some(&byte) = bytes.get(len) {
        let after_exponent = !prefixed && len > 0 && matches!(bytes[len - 1], b'e' | b'E');
        let sign = matches!(byte, b'+' | b'-') && after_exponent && bytes.get(len + 1).is_some_and(u8::is_ascii_digit);
        if !(is_word(byte) || byte == b'.' && !prefixed || sign) {
            break;
        }
        len += 1;
    }
    let raw = &rest[..len];
    if let Some(number) = parse_number(raw) {
        if number.is_infinite() {
            return Err(format!("error parsing number: strconv.ParseFloat: parsing {raw:?}: value out of range"));
        }
        return Ok((Token::Number(number), len));
    }
    match parse_duration(raw) {
        Ok(ms) => Ok((Token::Duration(ms as f64 / 1000.0), len)),
        Err(model::DurationError::OutOfRange(_)) => Err("duration out of range".to_owned()),
        Err(_) if has_units(raw) => Err(format!("not a valid duration string: {raw:?}")),
        Err(_) => Err(format!("bad number or duration syntax: {raw:?}")),
    }
}

/// Whether a text is numbers with units, if in no valid order.
fn has_units(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let after = unit.strip_prefix("ms").or_else(|| unit.strip_prefix(['s', 'm', 'h', 'd', 'w', 'y']));
        let Some(after) = after.filter(|_| unit.len() < rest.len()) else { return false };
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let printed = match tokens(text) {
            Ok(tokens) => {
                let parts = tokens.iter().map(|(token, span)| token.describe(&text[span.start..span.end]));
                parts.collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(printed, expected, "{text}");
    }

    #[test]
    fn colons_and_keywords_depend_on_the_place() {
        check("a:b", r#"identifier "a:b" end of input"#);
        check("a[5m:1m]", r#"identifier "a" "[" duration "5m" ":" duration "1m" "]" end of input"#);
        check("a # b\n+1", r#"identifier "a" <op:+> number "1" end of input"#);
        check("1e+5-2", r#"number "1e+5" <op:-> number "2" end of input"#);
        check("0x1e+5", r#"number "0x1e" <op:+> number "5" end of input"#);
    }

    #[test]
    fn errors_have_positions() {
        check("a\n ?", "2:2: parse error: unexpected character: '?'");
        check("(a", "1:3: parse error: unclosed left parenthesis");
        check("a}", "1:2: parse error: unexpected character: '}'");
        check("a{b*}", "1:4: parse error: unexpected character inside braces: '*'");
        check("a{!b}", "1:3: parse error: unexpected character after '!' inside braces: 'b'");
        check("a =~ b", "1:3: parse error: unexpected character after '=': '~'");
        check("a !~ b", "1:3: parse error: unexpected character after '!': '~'");
        check("a[5m1h]", "1:3: parse error: not a valid duration string: \"5m1h\"");
        check("5q", "1:1: parse error: bad number or duration syntax: \"5q\"");
        check("'a", "1:1: parse error: unterminated quoted string");
    }
}
