//! Cuts LogQL into tokens. Strings and numbers are PromQL's.

use super::units::{parse_bytes, parse_duration_ns};
use crate::literal::{parse_number, quoted_len, unquote};
use crate::{QueryError, Span};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Word(String),
    Text(String),
    Number(f64),
    Duration(i64),
    Bytes(f64),
    Symbol(&'static str),
    End,
}

impl Token {
    /// As an error message names it.
    pub fn describe(&self) -> String {
        match self {
            Token::Word(word) => word.clone(),
            Token::Text(_) => "STRING".to_owned(),
            Token::Number(_) => "NUMBER".to_owned(),
            Token::Duration(_) => "DURATION".to_owned(),
            Token::Bytes(_) => "BYTES".to_owned(),
            Token::Symbol(symbol) => (*symbol).to_owned(),
            Token::End => "$end".to_owned(),
        }
    }
}

/// Longer ones first.
const SYMBOLS: [&str; 31] = [
    "--strict",
    "--keep-empty",
    "|=",
    "|~",
    "|>",
    "!=",
    "!~",
    "!>",
    "=~",
    "==",
    ">=",
    "<=",
    "|",
    "=",
    ">",
    "<",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ",",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    ".",
    "@",
];

/// All tokens with their spans; the last is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, Span)>, QueryError> {
    let mut found = Vec::new();
    let (mut at, mut line, mut line_start) = (0, 1, 0);
    loop {
        let rest = &text[at..];
        let here = |len: usize| Span { start: at, end: at + len, line, column: at - line_start + 1 };
        let Some(c) = rest.chars().next() else {
            found.push((Token::End, here(0)));
            return Ok(found);
        };
        if c.is_whitespace() {
            at += c.len_utf8();
            if c == '\n' {
                (line, line_start) = (line + 1, at);
            }
            continue;
        }
        if c == '#' {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        let (token, len) = next(rest).map_err(|message| here(1).error(message))?;
        found.push((token, here(len)));
        // Raw strings may span lines.
        if let Some(newline) = rest[..len].rfind('\n') {
            line += rest[..len].matches('\n').count();
            line_start = at + newline + 1;
        }
        at += len;
    }
}

fn next(rest: &str) -> Result<(Token, usize), String> {
    let first = rest.chars().next().unwrap_or(' ');
    if matches!(first, '"' | '`') {
        let len = quoted_len(rest)?;
        return Ok((Token::Text(unquote(&rest[..len])?), len));
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let number =
            matches!(rest[..len].to_ascii_lowercase().as_str(), "inf" | "nan").then(|| parse_number(&rest[..len]));
        return Ok((number.flatten().map_or_else(|| Token::Word(rest[..len].to_owned()), Token::Number), len));
    }
    let is_fraction = first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit());
    if first.is_ascii_digit() || is_fraction {
        return quantity(rest);
    }
    let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
    symbol.map(|symbol| (Token::Symbol(symbol), symbol.len())).ok_or_else(|| format!("unexpected character {first:?}"))
}

/// A number, a duration or a size.
fn quantity(rest: &str) -> Result<(Token, usize), String> {
    let mut before = ' ';
    let is_part = |c: char| {
        let signs_exponent = matches!(c, '+' | '-') && matches!(before, 'e' | 'E');
        before = c;
        c.is_alphanumeric() || matches!(c, '.' | '_') || signs_exponent
    };
    let len = rest.len() - rest.trim_start_matches(is_part).len();
    let raw = &rest[..len];
    let token = parse_number(raw)
        .map(Token::Number)
        .or_else(|| parse_duration_ns(raw).map(Token::Duration))
        .or_else(|| parse_bytes(raw).map(Token::Bytes));
    token.map(|token| (token, len)).ok_or_else(|| format!("bad number, duration or size {raw:?}"))
}
