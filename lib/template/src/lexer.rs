//! Splits a template into text and the tokens of its actions.

use crate::TemplateError;

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Text(String),
    /// `{{` and `}}`; trimming has been applied to the texts beside them.
    Open,
    Close,
    Identifier(String),
    /// `.Name`; the dot alone is [`Token::Dot`].
    Field(String),
    Dot,
    /// `$name`; `$` alone is the empty name.
    Variable(String),
    String(String),
    Int(i64),
    Float(f64),
    Declare,
    Assign,
    Pipe,
    Comma,
    LeftParen,
    RightParen,
    /// Between arguments blanks count: `.a .b` is two arguments, `.a.b` one.
    Space,
}

#[derive(Debug, Clone)]
pub struct Placed {
    pub token: Token,
    pub line: usize,
    pub column: usize,
}

pub struct Lexer<'a> {
    name: &'a str,
    text: &'a str,
    at: usize,
    tokens: Vec<Placed>,
}

pub fn lex(name: &str, text: &str) -> Result<Vec<Placed>, TemplateError> {
    let mut lexer = Lexer { name, text, at: 0, tokens: Vec::new() };
    lexer.run()?;
    Ok(lexer.tokens)
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn push(&mut self, token: Token) {
        let (line, column) = place(self.text, self.at);
        self.tokens.push(Placed { token, line, column });
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, TemplateError> {
        let (line, column) = place(self.text, self.at);
        Err(TemplateError { name: self.name.to_owned(), line, column, message: message.into() })
    }

    fn run(&mut self) -> Result<(), TemplateError> {
        let mut trim_start = false;
        loop {
            let rest = self.rest();
            let Some(open) = rest.find("{{") else {
                self.text_token(rest, trim_start, false);
                return Ok(());
            };
            let body = &rest[open + 2..];
            let trim_end = body.starts_with('-') && body[1..].starts_with([' ', '\t', '\n', '\r']);
            self.text_token(&rest[..open], trim_start, trim_end);
            self.at += open;
            let start = open + 2 + if trim_end { 1 } else { 0 };
            trim_start = match rest[start..].trim_start().starts_with("/*") {
                true => self.comment()?,
                false => self.action(start - open)?,
            };
        }
    }

    fn text_token(&mut self, text: &str, trim_start: bool, trim_end: bool) {
        let text = if trim_start { text.trim_start() } else { text };
        let text = if trim_end { text.trim_end() } else { text };
        if !text.is_empty() {
            self.push(Token::Text(text.to_owned()));
        }
    }

    /// Skips `{{/* … */}}`; answers whether the text after it is trimmed.
    fn comment(&mut self) -> Result<bool, TemplateError> {
        let rest = self.rest();
        let Some(end) = rest.find("*/") else { return self.fail("unclosed comment") };
        let after = &rest[end + 2..];
        let trims = after.starts_with(" -}}");
        let closed = if trims { Some(4) } else { after.starts_with("}}").then_some(2) };
        let Some(closed) = closed else { return self.fail("comment ends before closing delimiter") };
        self.at += end + 2 + closed;
        Ok(trims)
    }

    /// Tokens up to `}}`; answers whether the text after it is trimmed.
    fn action(&mut self, skip: usize) -> Result<bool, TemplateError> {
        self.push(Token::Open);
        self.at += skip;
        loop {
            let rest = self.rest();
            let spaces = rest.len() - rest.trim_start().len();
            if spaces > 0 && rest[spaces..].starts_with("-}}") {
                self.at += spaces;
                self.push(Token::Close);
                self.at += 3;
                return Ok(true);
            }
            if rest.starts_with("}}") {
                self.push(Token::Close);
                self.at += 2;
                return Ok(false);
            }
            if spaces > 0 {
                self.push(Token::Space);
                self.at += spaces;
                continue;
            }
            self.token(rest)?;
        }
    }

    fn token(&mut self, rest: &str) -> Result<(), TemplateError> {
        let Some(first) = rest.chars().next() else { return self.fail("unclosed action") };
        let simple = [
            (":=", Token::Declare),
            ("=", Token::Assign),
            ("|", Token::Pipe),
            (",", Token::Comma),
            ("(", Token::LeftParen),
            (")", Token::RightParen),
        ];
        if let Some((text, token)) = simple.into_iter().find(|(text, _)| rest.starts_with(text)) {
            self.push(token);
            self.at += text.len();
            return Ok(());
        }
        match first {
            '"' => self.quoted(rest),
            '`' => self.raw(rest),
            '\'' => self.character(rest),
            '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.field(rest),
            '$' => {
                let name = word(&rest[1..]);
                self.push(Token::Variable(name.to_owned()));
                self.at += 1 + name.len();
                Ok(())
            }
            '0'..='9' | '+' | '-' | '.' => self.number(rest),
            _ => {
                let name = word(rest);
                if name.is_empty() {
                    return self.fail(format!("unexpected {first:?} in command"));
                }
                self.push(Token::Identifier(name.to_owned()));
                self.at += name.len();
                Ok(())
            }
        }
    }

    fn field(&mut self, rest: &str) -> Result<(), TemplateError> {
        let name = word(&rest[1..]);
        self.push(if name.is_empty() { Token::Dot } else { Token::Field(name.to_owned()) });
        self.at += 1 + name.len();
        Ok(())
    }

    fn quoted(&mut self, rest: &str) -> Result<(), TemplateError> {
        let mut escaped = false;
        let end = rest[1..].find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends || c == '\n'
        });
        let Some(end) = end.filter(|end| rest[1 + end..].starts_with('"')) else {
            return self.fail("unterminated quoted string");
        };
        let Some(text) = unescape(&rest[1..=end]) else { return self.fail("bad escape in string") };
        self.push(Token::String(text));
        self.at += end + 2;
        Ok(())
    }

    fn raw(&mut self, rest: &str) -> Result<(), TemplateError> {
        let Some(end) = rest[1..].find('`') else { return self.fail("unterminated raw quoted string") };
        self.push(Token::String(rest[1..=end].to_owned()));
        self.at += end + 2;
        Ok(())
    }

    fn character(&mut self, rest: &str) -> Result<(), TemplateError> {
        let Some(end) = rest[1..].find('\'') else { return self.fail("unterminated character constant") };
        let text = unescape(&rest[1..=end]).unwrap_or_default();
        let mut chars = text.chars();
        let (Some(only), None) = (chars.next(), chars.next()) else { return self.fail("malformed character constant") };
        self.push(Token::Int(i64::from(u32::from(only))));
        self.at += end + 2;
        Ok(())
    }

    fn number(&mut self, rest: &str) -> Result<(), TemplateError> {
        let signed = usize::from(rest.starts_with(['+', '-']));
        let body = &rest[signed..];
        let mut previous = ' ';
        let length = body.find(|c: char| {
            let goes_on = c.is_ascii_alphanumeric()
                || c == '.'
                || c == '_'
                || (matches!(c, '+' | '-') && matches!(previous, 'e' | 'E'));
            previous = c;
            !goes_on
        });
        let text = &rest[..signed + length.unwrap_or(body.len())];
        let plain = text.replace('_', "");
        let hex = plain.strip_prefix("0x").and_then(|digits| i64::from_str_radix(digits, 16).ok());
        let token = match hex.or_else(|| plain.parse().ok()) {
            Some(int) => Token::Int(int),
            None => match plain.parse::<f64>() {
                Ok(float) if plain.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
                    Token::Float(float)
                }
                _ => return self.fail(format!("bad number syntax: {text:?}")),
            },
        };
        self.push(token);
        self.at += text.len();
        Ok(())
    }
}

/// The name at the start of a text.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..end]
}

/// Line and column, both from 1, of a byte.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

/// Go's escapes in an interpreted string.
fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        plain.push(match chars.next()? {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'x' => code_point(&mut chars, 2)?,
            'u' => code_point(&mut chars, 4)?,
            'U' => code_point(&mut chars, 8)?,
            same @ ('\\' | '"' | '\'') => same,
            _ => return None,
        });
    }
    Some(plain)
}

fn code_point(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let hex: String = chars.take(digits).collect();
    char::from_u32(u32::from_str_radix(&hex, 16).ok()?)
}
