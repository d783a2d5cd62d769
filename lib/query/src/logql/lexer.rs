//! Cuts LogQL into tokens. Strings are PromQL's; numbers, durations and sizes are cut as Loki cuts them.

use template::convert;

use crate::literal::{quoted_len, unquote};
use crate::{QueryError, Span};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Word(String),
    Text(String),
    /// As it was written: what cannot be read is an error where it is used.
    Number(String),
    Duration(i64),
    Bytes(u64),
    /// `[5m]`, in nanoseconds.
    Range(i64),
    /// `--strict` and `--keep-empty`.
    Flag(&'static str),
    Symbol(&'static str),
    End,
}

/// Words that the grammar knows: messages name them, other words are identifiers.
const KEYWORDS: &str = "by without bool on ignoring group_left group_right or and unless json regexp logfmt unpack pattern \
    label_format line_format ip decolorize drop keep unwrap offset label_replace variants of";

/// Functions, which are such only before a parenthesis: messages shout their names.
const FUNCTIONS: &str = "rate rate_counter count_over_time bytes_rate bytes_over_time avg_over_time sum_over_time \
    min_over_time max_over_time stdvar_over_time stddev_over_time quantile_over_time first_over_time last_over_time \
    absent_over_time vector sum avg max min count stddev stdvar bottomk topk approx_topk sort sort_desc";

impl Token {
    /// As an error message names it; `is_call` where a parenthesis or a grouping follows.
    pub fn describe(&self, is_call: bool) -> String {
        let is_among = |words: &str, word: &str| words.split_whitespace().any(|known| known == word);
        match self {
            Token::Word(word) if is_call && matches!(word.as_str(), "bytes" | "duration" | "duration_seconds") => {
                format!("{}_CONV", word.to_uppercase())
            }
            Token::Word(word) if is_call && is_among(FUNCTIONS, word) => word.to_uppercase(),
            Token::Word(word) if is_among(KEYWORDS, word) => word.clone(),
            Token::Word(_) => "IDENTIFIER".to_owned(),
            Token::Text(_) => "STRING".to_owned(),
            Token::Number(_) => "NUMBER".to_owned(),
            Token::Duration(_) => "DURATION".to_owned(),
            Token::Bytes(_) => "BYTES".to_owned(),
            Token::Range(_) => "RANGE".to_owned(),
            Token::Flag(_) => "PARSER_FLAG".to_owned(),
            Token::Symbol(symbol) => (*symbol).to_owned(),
            Token::End => "$end".to_owned(),
        }
    }
}

/// Longer ones first.
const SYMBOLS: [&str; 28] = [
    "|=", "|~", "|>", "!=", "!~", "!>", "=~", "==", ">=", "<=", "|", "=", ">", "<", "{", "}", "(", ")", "]", ",", "+",
    "-", "*", "/", "%", "^", ".", "@",
];

const FLAGS: [&str; 2] = ["--strict", "--keep-empty"];

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
        let len = quoted_len(rest).map_err(|_| "literal not terminated")?;
        return Ok((Token::Text(unquote(&rest[..len])?), len));
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        return Ok((Token::Word(rest[..len].to_owned()), len));
    }
    if first == '[' {
        let len = rest.find(']').ok_or("missing closing ']' in duration")?;
        return Ok((Token::Range(range_ns(&rest[1..len])?), len + 1));
    }
    if let Some(flag) = FLAGS.iter().find(|flag| rest.starts_with(**flag)) {
        return Ok((Token::Flag(flag), flag.len()));
    }
    let is_fraction = first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit());
    if first.is_ascii_digit() || is_fraction {
        return Ok(quantity(rest));
    }
    if first == '-'
        && let Some((ns, len)) = duration(rest, 1)
    {
        return Ok((Token::Duration(ns), len));
    }
    let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
    let unexpected = || format!("syntax error: unexpected character {first:?}");
    symbol.map(|symbol| (Token::Symbol(symbol), symbol.len())).ok_or_else(unexpected)
}

/// A range, written as Prometheus writes durations.
fn range_ns(text: &str) -> Result<i64, String> {
    if text.is_empty() {
        return Err("empty duration string".to_owned());
    }
    let fault = || {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit: String = text[digits..].chars().take_while(|c| c.is_alphabetic()).collect();
        match digits > 0 && !unit.is_empty() {
            true => format!("unknown unit {unit:?} in duration {text:?}"),
            false => format!("not a valid duration string: {text:?}"),
        }
    };
    model::parse_duration(text).ok().and_then(|ms| ms.checked_mul(1_000_000)).ok_or_else(fault)
}

/// A duration as queries and requests write it: `1h30m`, `1.5s`, `7d`.
pub fn parse_duration_ns(text: &str) -> Option<i64> {
    let of_prometheus = || model::parse_duration(text).ok()?.checked_mul(1_000_000);
    of_prometheus().or_else(|| convert::duration_ns(text).ok())
}

/// The length of what follows byte `from` and may belong to a number with a unit.
fn run_len(rest: &str, from: usize, units: &str) -> usize {
    let is_part = |c: char| c.is_ascii_digit() || c == '.' || units.contains(c);
    rest[from..].find(|c| !is_part(c)).unwrap_or(rest.len() - from)
}

/// The duration at the start of a text whose number ends at byte `from`, and its length.
fn duration(rest: &str, from: usize) -> Option<(i64, usize)> {
    let len = from + run_len(rest, from, "nuµmshdwy");
    if len == from {
        return None;
    }
    parse_duration_ns(&rest[..len]).map(|ns| (ns, len))
}

/// A number, a duration or a size.
fn quantity(rest: &str) -> (Token, usize) {
    let end = number_len(rest);
    if let Some((ns, len)) = duration(rest, end) {
        return (Token::Duration(ns), len);
    }
    let len = end + run_len(rest, end, "BikKMGTP");
    if len > end
        && let Ok(bytes) = convert::bytes(&rest[..len])
    {
        return (Token::Bytes(bytes), len);
    }
    (Token::Number(rest[..end].to_owned()), end)
}

fn number_len(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if bytes[0] == b'0' && bytes.get(1).is_some_and(|byte| matches!(byte, b'x' | b'X' | b'o' | b'O')) {
        return 2 + bytes[2..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    }
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') {
        end += 1 + digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = if end + 1 + sign < bytes.len() { digits(end + 1 + sign) } else { 0 };
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[Token]) {
        let found: Vec<Token> = tokens(text).expect("tokens").into_iter().map(|(token, _)| token).collect();
        assert_eq!(found[..found.len() - 1], *expected, "{text}");
    }

    #[test]
    fn quantities() {
        use Token::{Bytes, Duration, Number, Range, Symbol, Word};
        check(
            "5m 1.5h 1d -5s 90ns",
            &[5 * 60, 5400, 86_400, -5]
                .map(|s| Duration(s * 1_000_000_000))
                .into_iter()
                .chain([Duration(90)])
                .collect::<Vec<_>>(),
        );
        check("20MB 1.5KiB 3B", &[Bytes(20_000_000), Bytes(1536), Bytes(3)]);
        check("1mb", &[Duration(60_000_000_000), Word("b".into())]);
        check("0x10 017 1e3 .5 1.5e-3", &["0x10", "017", "1e3", ".5", "1.5e-3"].map(|n| Number(n.into())));
        check("1--1", &[Number("1".into()), Symbol("-"), Symbol("-"), Number("1".into())]);
        check("[1m30s]", &[Range(90_000_000_000)]);
        for bad in ["[5x]", "[", "[]", "ü", "\"x"] {
            assert!(tokens(bad).is_err(), "{bad}");
        }
    }
}
