//! Recursive descent over the tokens, precedence climbing for binary operators.
//!
//! Nesting is limited, chains of operators included, so that nothing that walks a tree later can run out of stack.

use model::{Labels, METRIC_NAME, MatchOp, Matcher, is_label_name, is_metric_name};

use super::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Call, Expr, ExprKind, ExtendedRange, Shift, Subquery, VectorSelector,
};
use super::functions::function;
use super::lexer::{Token, tokens};
use super::types::check_types;
use crate::literal::{parse_number, quote, quote_bytes, unquoted_bytes};
use crate::{QueryError, Span};

pub(super) const MAX_DEPTH: usize = 200;
pub(super) const MAX_TEXT_BYTES: usize = 1 << 20;

/// Parses and type-checks an expression.
pub fn parse(text: &str) -> Result<Expr, QueryError> {
    let mut parser = Parser::new(text)?;
    if *parser.peek() == Token::End {
        return Err(parser.span().error("no expression found in input"));
    }
    let expr = parser.expr(0)?;
    parser.expect_end()?;
    check_types(&expr)?;
    Ok(expr)
}

/// Parses what names one series (`m`, `m{a="b"}`, `{a="b"}`, `{}`) at the start of a text, up to a blank outside of
/// braces, and returns the rest: the notation of test scripts.
pub fn parse_series_name(text: &str) -> Result<(Labels, &str), QueryError> {
    let name_len = text.find(|c: char| c.is_whitespace() || c == '{').unwrap_or(text.len());
    let mut end = name_len;
    if text[name_len..].starts_with('{') {
        end = brace_end(text, name_len).unwrap_or(text.len());
    }
    let mut parser = Parser::new(&text[..end])?;
    let selector = parser.series()?;
    parser.expect_end()?;
    if let Some(wrong) = selector.matchers.iter().find(|matcher| matcher.op != MatchOp::Equal) {
        return Err(selector.span.error(format!("a series has only equal labels, not {wrong}")));
    }
    let labels = Labels::from_pairs(selector.matchers.into_iter().map(|matcher| (matcher.name, matcher.value)));
    Ok((labels, &text[end..]))
}

fn brace_end(text: &str, start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let byte = *text.as_bytes().get(at)?;
        match byte {
            b'}' => return Some(at + 1),
            b'"' | b'\'' | b'`' => at += crate::literal::quoted_len(&text[at..]).ok()?,
            _ => at += 1,
        }
    }
}

pub(super) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
}

/// Words that are operators or belong to them, and so never name a metric.
const RESERVED: [&str; 10] =
    ["and", "or", "unless", "atan2", "bool", "on", "ignoring", "group_left", "group_right", "offset"];

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Parser<'a>, QueryError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Span { line: 1, column: 1, ..Span::default() }.error("query is longer than 1 MiB"));
        }
        Ok(Parser { text, tokens: tokens(text)?, at: 0, depth: 0 })
    }

    pub(super) fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn peek_second(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].0
    }

    pub(super) fn span(&self) -> Span {
        self.tokens[self.at].1
    }

    /// The span of the token taken last.
    pub(super) fn last_span(&self) -> Span {
        self.tokens[self.at.saturating_sub(1)].1
    }

    pub(super) fn take(&mut self) -> (Token, Span) {
        let token = self.tokens[self.at].clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    /// Takes the symbol if it is next.
    pub(super) fn eat(&mut self, symbol: &str) -> bool {
        let is_next = matches!(self.peek(), Token::Symbol(next) if *next == symbol);
        if is_next {
            self.take();
        }
        is_next
    }

    pub(super) fn word(&self) -> Option<&str> {
        match self.peek() {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    /// Takes the keyword, in any case, if it is next.
    pub(super) fn eat_word(&mut self, keyword: &str) -> bool {
        let is_next = self.word().is_some_and(|word| word.eq_ignore_ascii_case(keyword));
        if is_next {
            self.take();
        }
        is_next
    }

    pub(super) fn second_is(&self, symbol: &str) -> bool {
        matches!(self.peek_second(), Token::Symbol(next) if *next == symbol)
    }

    pub(super) fn unexpected(&self, context: &str, expected: &str) -> QueryError {
        let span = self.span();
        let found = self.peek().describe(&self.text[span.start..span.end]);
        let within = if context.is_empty() { String::new() } else { format!(" in {context}") };
        let instead = if expected.is_empty() { String::new() } else { format!(", expected {expected}") };
        span.error(format!("unexpected {found}{within}{instead}"))
    }

    pub(super) fn expect(&mut self, symbol: &str, context: &str) -> Result<(), QueryError> {
        if self.eat(symbol) { Ok(()) } else { Err(self.unexpected(context, &format!("{symbol:?}"))) }
    }

    fn expect_end(&self) -> Result<(), QueryError> {
        if *self.peek() == Token::End { Ok(()) } else { Err(self.unexpected("", "")) }
    }

    pub(super) fn deeper(&mut self) -> Result<(), QueryError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.span().error(format!("expression is nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(())
    }

    pub(super) fn shallower(&mut self, depth: usize) {
        self.depth -= depth;
    }

    fn binary_op(&self) -> Option<BinaryOp> {
        let text = match self.peek() {
            Token::Symbol(symbol) => (*symbol).to_owned(),
            Token::Word(word) => word.to_ascii_lowercase(),
            _ => return None,
        };
        BinaryOp::ALL.into_iter().find(|op| op.as_str() == text)
    }

    fn expr(&mut self, min_precedence: u8) -> Result<Expr, QueryError> {
        self.deeper()?;
        let mut levels = 1;
        let mut left = self.unary()?;
        while let Some(op) = self.binary_op().filter(|op| op.precedence() >= min_precedence) {
            self.deeper()?;
            levels += 1;
            let (_, op_span) = self.take();
            let (returns_bool, matching) = self.matching(op, op_span)?;
            let next = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
            let right = self.expr(next)?;
            let span = left.span.to(right.span);
            let binary = Binary { op, op_span, left, right, returns_bool, matching };
            left = Expr { kind: ExprKind::Binary(Box::new(binary)), span };
        }
        self.shallower(levels);
        Ok(left)
    }

    /// A sign binds like `*`: looser than `^`.
    fn unary(&mut self) -> Result<Expr, QueryError> {
        let start = self.span();
        let negative = self.eat("-");
        if !negative && !self.eat("+") {
            let primary = self.primary()?;
            return self.postfix(primary);
        }
        let operand = self.expr(BinaryOp::Pow.precedence())?;
        let span = start.to(operand.span);
        let kind = match operand.kind {
            ExprKind::Number { value, is_duration } => {
                ExprKind::Number { value: if negative { -value } else { value }, is_duration }
            }
            kind => ExprKind::Unary { negative, operand: Box::new(Expr { kind, span: operand.span }) },
        };
        Ok(Expr { kind, span })
    }

    fn primary(&mut self) -> Result<Expr, QueryError> {
        let span = self.span();
        let kind = match self.peek().clone() {
            Token::Number(value) => self.literal(ExprKind::Number { value, is_duration: false }),
            Token::Duration(value) => self.literal(ExprKind::Number { value, is_duration: true }),
            Token::Text(text) => self.literal(ExprKind::Text(text)),
            Token::Symbol("(") => {
                self.take();
                let inner = self.expr(0)?;
                self.expect(")", "parentheses")?;
                ExprKind::Paren(Box::new(inner))
            }
            Token::Symbol("{") => ExprKind::Selector(self.vector_selector()?),
            Token::Word(word) => self.word_expr(&word)?,
            _ => return Err(self.unexpected("", "")),
        };
        Ok(Expr { kind, span: span.to(self.last_span()) })
    }

    fn literal(&mut self, kind: ExprKind) -> ExprKind {
        self.take();
        kind
    }

    fn word_expr(&mut self, word: &str) -> Result<ExprKind, QueryError> {
        let lower = word.to_ascii_lowercase();
        let aggregate = AggregateOp::ALL.into_iter().find(|op| op.as_str() == lower);
        let groups = matches!(self.peek_second(), Token::Word(next)
            if next.eq_ignore_ascii_case("by") || next.eq_ignore_ascii_case("without"));
        if let Some(op) = aggregate.filter(|_| groups || self.second_is("(")) {
            return self.aggregate(op);
        }
        if self.second_is("(") && !RESERVED.contains(&lower.as_str()) {
            return self.call(word);
        }
        if let Some(value) = ["inf", "nan"].contains(&lower.as_str()).then(|| parse_number(&lower)).flatten() {
            return Ok(self.literal(ExprKind::Number { value, is_duration: false }));
        }
        if RESERVED.contains(&lower.as_str()) && (lower != "offset" || self.second_is("(")) {
            return Err(self.unexpected("", ""));
        }
        Ok(ExprKind::Selector(self.vector_selector()?))
    }

    fn call(&mut self, name: &str) -> Result<ExprKind, QueryError> {
        let Some(function) = function(name) else {
            return Err(self.span().error(format!("unknown function with name {name:?}")));
        };
        self.take();
        let args = self.args(function.name == "info")?;
        let label = matches!(function.name, "label_replace" | "label_join").then(|| args.get(1)).flatten();
        if let Some(bytes) = label.and_then(|label| self.bytes_that_are_no_text(label)) {
            let bytes = String::from_utf8_lossy(&bytes).into_owned();
            let message = format!("invalid destination label name in {}(): {bytes}", function.name);
            return Err(QueryError::Execution(message));
        }
        Ok(ExprKind::Call(Call { function, args }))
    }

    fn aggregate(&mut self, op: AggregateOp) -> Result<ExprKind, QueryError> {
        let (_, span) = self.take();
        let before = self.grouping()?;
        let mut args = self.args(false)?;
        let after = if before.is_none() { self.grouping()? } else { None };
        let grouping = before.or(after).unwrap_or_default();
        let wanted = if op.param_type().is_some() { 2 } else { 1 };
        let count = args.len();
        let Some(operand) = args.pop() else {
            return Err(span.error("no arguments for aggregate expression provided"));
        };
        if count != wanted {
            let message =
                format!("wrong number of arguments for aggregate expression provided, expected {wanted}, got {count}");
            return Err(span.error(message));
        }
        let param = args.pop();
        if let Some(bytes) = param.as_ref().and_then(|param| self.bytes_that_are_no_text(param)) {
            return Err(QueryError::Execution(format!("invalid label name {}", quote_bytes(&bytes))));
        }
        Ok(ExprKind::Aggregate(Box::new(Aggregate { op, param, operand, grouping })))
    }

    /// The bytes that a string literal stands for, if they are not UTF-8: they can name no label.
    fn bytes_that_are_no_text(&self, literal: &Expr) -> Option<Vec<u8>> {
        let literal = literal.unwrapped();
        let is_text = matches!(literal.kind, ExprKind::Text(_));
        let bytes =
            is_text.then(|| unquoted_bytes(&self.text[literal.span.start..literal.span.end])).and_then(Result::ok)?;
        std::str::from_utf8(&bytes).is_err().then_some(bytes)
    }

    /// `(a, b)`. The second argument of `info` is a set of matchers that may all match the empty string.
    fn args(&mut self, is_info: bool) -> Result<Vec<Expr>, QueryError> {
        self.expect("(", "function call")?;
        let mut args = Vec::new();
        if self.eat(")") {
            return Ok(args);
        }
        loop {
            if is_info && args.len() == 1 && *self.peek() == Token::Symbol("{") {
                let selector = self.series()?;
                let span = selector.span;
                args.push(Expr { kind: ExprKind::Selector(selector), span });
            } else {
                args.push(self.expr(0)?);
            }
            if self.eat(")") {
                return Ok(args);
            }
            let comma = self.span();
            self.expect(",", "function call")?;
            if *self.peek() == Token::Symbol(")") {
                return Err(comma.error("trailing commas not allowed in function call args"));
            }
        }
    }

    fn vector_selector(&mut self) -> Result<VectorSelector, QueryError> {
        let selector = self.series()?;
        if selector.matchers.iter().all(Matcher::matches_empty) {
            return Err(selector.span.error("vector selector must contain at least one non-empty matcher"));
        }
        Ok(selector)
    }

    /// A name, matchers in braces, or both.
    fn series(&mut self) -> Result<VectorSelector, QueryError> {
        let start = self.span();
        let (mut name, mut matchers) = (None, Vec::new());
        let has_prefix = matches!(self.peek(), Token::Word(_));
        if let Token::Word(word) = self.peek().clone() {
            self.take();
            matchers.push(Matcher::equal(METRIC_NAME, word.as_str()));
            name = Some(word);
        }
        if self.eat("{") {
            while !self.eat("}") {
                self.matcher(&mut name, &mut matchers)?;
                if !self.eat(",") && *self.peek() != Token::Symbol("}") {
                    return Err(self.unexpected("label matching", "\",\" or \"}\""));
                }
            }
        }
        let again = matchers.iter().skip(1).find(|matcher| matcher.name == METRIC_NAME);
        if let (Some(before), Some(again), true) = (&name, again, has_prefix) {
            let (before, value) = (quote(before), quote(&again.value));
            return Err(start.error(format!("metric name must not be set twice: {before} or {value}")));
        }
        let span = start.to(self.last_span());
        Ok(VectorSelector { name, matchers, shift: Shift::default(), extended: None, span })
    }

    fn matcher(&mut self, metric: &mut Option<String>, matchers: &mut Vec<Matcher>) -> Result<(), QueryError> {
        let (label, is_quoted) = match self.peek().clone() {
            Token::Word(word) => (word, false),
            Token::Text(text) => (text, true),
            _ => return Err(self.unexpected("label matching", "identifier or \"}\"")),
        };
        let (_, span) = self.take();
        let op = match self.peek() {
            Token::Symbol("=") => MatchOp::Equal,
            Token::Symbol("!=") => MatchOp::NotEqual,
            Token::Symbol("=~") => MatchOp::Regex,
            Token::Symbol("!~") => MatchOp::NotRegex,
            _ if is_quoted => {
                if let Some(before) = metric {
                    return Err(span.error(format!("metric name must not be set twice: {before:?} or {label:?}")));
                }
                matchers.push(Matcher::equal(METRIC_NAME, label.as_str()));
                *metric = Some(label);
                return Ok(());
            }
            _ => return Err(self.unexpected("label matching", "label matching operator")),
        };
        self.take();
        let Token::Text(value) = self.peek().clone() else {
            return Err(self.unexpected("label matching", "string"));
        };
        self.take();
        matchers.push(Matcher::new(label, op, value).map_err(|error| span.error(error.to_string()))?);
        Ok(())
    }

    /// What may follow an operand: `[range]`, `offset`, `@`, `anchored`, `smoothed`, any of them once.
    fn postfix(&mut self, mut expr: Expr) -> Result<Expr, QueryError> {
        let mut levels = 0;
        loop {
            let keyword = self.word().map(str::to_ascii_lowercase);
            let start = expr.span;
            match (self.peek(), keyword.as_deref()) {
                (Token::Symbol("["), _) => expr = self.range(expr)?,
                (Token::Symbol("@"), _) => self.at(&mut expr)?,
                (_, Some("offset")) => self.offset(&mut expr)?,
                (_, Some("anchored")) => self.extended(&mut expr, ExtendedRange::Anchored)?,
                (_, Some("smoothed")) => self.extended(&mut expr, ExtendedRange::Smoothed)?,
                _ => break,
            }
            self.deeper()?;
            levels += 1;
            expr.span = start.to(self.last_span());
        }
        self.shallower(levels);
        Ok(expr)
    }

    /// `[range]` after a selector or `[range:step]` after any instant vector.
    fn range(&mut self, operand: Expr) -> Result<Expr, QueryError> {
        let bracket = self.span();
        self.expect("[", "range")?;
        let start = self.span();
        let range = self.duration_expr()?;
        if range.constant().is_some_and(|seconds| seconds <= 0.0) {
            return Err(start.error("duration must be greater than 0"));
        }
        let span = operand.span;
        if self.eat(":") {
            let step = if *self.peek() == Token::Symbol("]") { None } else { Some(self.duration_expr()?) };
            if step.as_ref().and_then(|step| step.constant()).is_some_and(|seconds| seconds <= 0.0) {
                return Err(self.last_span().error("duration must be greater than 0"));
            }
            self.expect("]", "subquery")?;
            let subquery = Subquery { operand, range, step, shift: Shift::default() };
            return Ok(Expr { kind: ExprKind::Subquery(Box::new(subquery)), span });
        }
        self.expect("]", "range")?;
        match operand.kind {
            ExprKind::Selector(selector) if selector.shift.offset.is_some() => {
                Err(bracket.error("no offset modifiers allowed before range"))
            }
            ExprKind::Selector(selector) if selector.shift.at.is_some() => {
                Err(bracket.error("no @ modifiers allowed before range"))
            }
            ExprKind::Selector(selector) => Ok(Expr { kind: ExprKind::Range { selector, range }, span }),
            _ => Err(bracket.error("ranges only allowed for vector selectors")),
        }
    }
}

/// Whether a name can stand before the braces of a selector.
pub(super) fn is_plain_metric(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    is_metric_name(name) && !RESERVED.contains(&lower.as_str()) && !["inf", "nan"].contains(&lower.as_str())
}

/// Whether a name needs no quotes in matchers and label lists.
pub(super) fn is_plain_label(name: &str) -> bool {
    is_label_name(name)
}
