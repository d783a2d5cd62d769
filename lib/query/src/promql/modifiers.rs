//! What qualifies an operand or operator: `offset`, `@`, computed durations, grouping, vector matching.

use super::ast::{
    At, BinaryOp, Cardinality, DurationExpr, DurationOp, Expr, ExprKind, ExtendedRange, Grouping, Matching, Shift,
    VectorSelector,
};
use super::lexer::Token;
use super::parser::Parser;
use crate::literal::format_number;
use crate::{QueryError, Span};

/// Either kind of node that a modifier may follow.
fn shift_of(expr: &mut Expr) -> Option<&mut Shift> {
    match &mut expr.kind {
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => Some(&mut selector.shift),
        ExprKind::Subquery(subquery) => Some(&mut subquery.shift),
        _ => None,
    }
}

fn selector_of(expr: &mut Expr) -> Option<&mut VectorSelector> {
    match &mut expr.kind {
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => Some(selector),
        _ => None,
    }
}

/// What Go's durations hold.
const MAX_SECONDS: f64 = 9_223_372_036.854_776;

const WHERE_ALLOWED: &str = "must be preceded by an instant vector selector or range vector selector or a subquery";

impl Parser<'_> {
    pub(super) fn offset(&mut self, expr: &mut Expr) -> Result<(), QueryError> {
        self.take();
        let offset = self.signed_duration()?;
        let span = expr.span;
        let shift = shift_of(expr).ok_or_else(|| span.error(format!("offset modifier {WHERE_ALLOWED}")))?;
        if shift.offset.replace(offset).is_some() {
            return Err(span.error("offset may not be set multiple times"));
        }
        Ok(())
    }

    pub(super) fn at(&mut self, expr: &mut Expr) -> Result<(), QueryError> {
        self.take();
        let span = expr.span;
        let at = self.at_time(span)?;
        let shift = shift_of(expr).ok_or_else(|| span.error(format!("@ modifier {WHERE_ALLOWED}")))?;
        if shift.at.replace(at).is_some() {
            return Err(span.error("@ <timestamp> may not be set multiple times"));
        }
        Ok(())
    }

    fn at_time(&mut self, span: Span) -> Result<At, QueryError> {
        for (name, at) in [("start", At::Start), ("end", At::End)] {
            if self.second_is("(") && self.eat_word(name) {
                self.expect("(", "@ modifier")?;
                self.expect(")", "@ modifier")?;
                return Ok(at);
            }
        }
        let negative = self.eat("-");
        if !negative {
            self.eat("+");
        }
        let seconds = match self.peek() {
            Token::Number(seconds) | Token::Duration(seconds) => *seconds,
            Token::Word(word) if ["inf", "nan"].contains(&word.to_ascii_lowercase().as_str()) => {
                crate::literal::parse_number(word).unwrap_or(f64::NAN)
            }
            _ => return Err(self.unexpected("@", "timestamp")),
        };
        self.take();
        let seconds = if negative { -seconds } else { seconds };
        let ms = (seconds * 1000.0).round();
        if ms.is_nan() || ms.abs() > 9.2e15 {
            return Err(span.error(format!("timestamp out of bounds for @ modifier: {}", format_number(seconds))));
        }
        Ok(At::TimeMs(ms as i64))
    }

    pub(super) fn extended(&mut self, expr: &mut Expr, kind: ExtendedRange) -> Result<(), QueryError> {
        let (_, span) = self.take();
        let name = if kind == ExtendedRange::Anchored { "anchored" } else { "smoothed" };
        let selector = selector_of(expr)
            .ok_or_else(|| span.error(format!("{name} modifier must be preceded by a vector selector")))?;
        if selector.extended.replace(kind).is_some() {
            return Err(span.error("anchored and smoothed may not be set multiple times"));
        }
        Ok(())
    }

    /// After `offset`: one sign and one operand; arithmetic needs parentheses.
    fn signed_duration(&mut self) -> Result<DurationExpr, QueryError> {
        if self.eat("-") {
            return Ok(match self.duration_operand()? {
                DurationExpr::Seconds(seconds) => DurationExpr::Seconds(-seconds),
                other => DurationExpr::Negative(Box::new(other)),
            });
        }
        self.eat("+");
        self.duration_operand()
    }

    pub(super) fn duration_expr(&mut self) -> Result<DurationExpr, QueryError> {
        self.duration_sum(0)
    }

    fn duration_sum(&mut self, min_precedence: u8) -> Result<DurationExpr, QueryError> {
        self.deeper()?;
        let mut levels = 1;
        let mut left = if self.eat("-") {
            match self.duration_sum(3)? {
                DurationExpr::Seconds(seconds) => DurationExpr::Seconds(-seconds),
                other => DurationExpr::Negative(Box::new(other)),
            }
        } else {
            self.eat("+");
            self.duration_operand()?
        };
        loop {
            let (op, precedence) = match self.peek() {
                Token::Symbol("+") => (DurationOp::Add, 1),
                Token::Symbol("-") => (DurationOp::Sub, 1),
                Token::Symbol("*") => (DurationOp::Mul, 2),
                Token::Symbol("/") => (DurationOp::Div, 2),
                Token::Symbol("%") => (DurationOp::Mod, 2),
                Token::Symbol("^") => (DurationOp::Pow, 3),
                _ => break,
            };
            if precedence < min_precedence {
                break;
            }
            self.deeper()?;
            levels += 1;
            let (_, op_span) = self.take();
            let right = self.duration_sum(if op == DurationOp::Pow { precedence } else { precedence + 1 })?;
            if matches!(op, DurationOp::Div | DurationOp::Mod) && right.constant() == Some(0.0) {
                let what = if op == DurationOp::Div { "division" } else { "modulo" };
                return Err(op_span.error(format!("{what} by zero")));
            }
            left = DurationExpr::Pair(op, Box::new(left), Box::new(right));
        }
        self.shallower(levels);
        Ok(left)
    }

    fn duration_operand(&mut self) -> Result<DurationExpr, QueryError> {
        match self.peek().clone() {
            Token::Number(seconds) | Token::Duration(seconds) => {
                self.take();
                if seconds.abs() > MAX_SECONDS {
                    return Err(self.last_span().error("duration out of range"));
                }
                Ok(DurationExpr::Seconds(seconds))
            }
            Token::Symbol("(") => {
                self.take();
                let inner = self.duration_expr()?;
                self.expect(")", "duration")?;
                Ok(DurationExpr::Paren(Box::new(inner)))
            }
            Token::Word(word) => self.duration_call(&word.to_ascii_lowercase()),
            Token::End => Err(self.unexpected("offset", "number, duration, step(), or range()")),
            _ => Err(self.unexpected("subquery or range selector", "number, duration, step(), or range()")),
        }
    }

    fn duration_call(&mut self, name: &str) -> Result<DurationExpr, QueryError> {
        let op = match name {
            "min_of" => DurationOp::MinOf,
            "max_of" => DurationOp::MaxOf,
            "step" | "range" => {
                self.take();
                self.expect("(", "duration")?;
                self.expect(")", "duration")?;
                return Ok(if name == "step" { DurationExpr::Step } else { DurationExpr::Range });
            }
            _ => {
                return Err(self.unexpected("subquery or range selector", "number, duration, step(), or range()"));
            }
        };
        self.take();
        self.expect("(", "duration")?;
        let left = self.duration_expr()?;
        self.expect(",", "duration")?;
        let right = self.duration_expr()?;
        self.expect(")", "duration")?;
        Ok(DurationExpr::Pair(op, Box::new(left), Box::new(right)))
    }

    /// `by (…)` or `without (…)`, if it is next.
    pub(super) fn grouping(&mut self) -> Result<Option<Grouping>, QueryError> {
        let without = self.eat_word("without");
        if !without && !self.eat_word("by") {
            return Ok(None);
        }
        Ok(Some(Grouping { without, labels: self.label_list()? }))
    }

    /// `(a, "b.c")`: any word is a label here, keywords too.
    fn label_list(&mut self) -> Result<Vec<String>, QueryError> {
        self.expect("(", "grouping opts")?;
        let mut labels = Vec::new();
        while !self.eat(")") {
            match self.peek().clone() {
                Token::Word(name) if !name.contains(':') => labels.push(name),
                Token::Text(name) if !name.is_empty() => labels.push(name),
                _ => return Err(self.unexpected("grouping opts", "label")),
            }
            self.take();
            if !self.eat(",") && *self.peek() != Token::Symbol(")") {
                return Err(self.unexpected("grouping opts", "\",\" or \")\""));
            }
        }
        Ok(labels)
    }

    /// All that may stand between an operator and its right side.
    pub(super) fn matching(&mut self, op: BinaryOp, op_span: Span) -> Result<(bool, Matching), QueryError> {
        let returns_bool = self.eat_word("bool");
        let mut matching = Matching::default();
        if op.is_set() {
            matching.cardinality = Cardinality::ManyToMany;
        }
        matching.on = self.eat_word("on");
        let has_labels = matching.on || self.eat_word("ignoring");
        if has_labels {
            matching.labels = self.label_list()?;
            self.group_modifier(op_span, &mut matching)?;
        }
        self.fill_modifiers(op, &mut matching)?;
        Ok((returns_bool, matching))
    }

    fn group_modifier(&mut self, op_span: Span, matching: &mut Matching) -> Result<(), QueryError> {
        let left = self.eat_word("group_left");
        if !left && !self.eat_word("group_right") {
            return Ok(());
        }
        matching.cardinality = if left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
        if *self.peek() == Token::Symbol("(") {
            matching.include = self.label_list()?;
        }
        let both = matching.include.iter().find(|label| matching.on && matching.labels.contains(label));
        match both {
            Some(label) => Err(op_span.error(format!("label {label:?} must not occur in ON and GROUP clause at once"))),
            None => Ok(()),
        }
    }

    fn fill_modifiers(&mut self, op: BinaryOp, matching: &mut Matching) -> Result<(), QueryError> {
        loop {
            let span = self.span();
            let name = match self.word().map(str::to_ascii_lowercase) {
                Some(name) if self.second_is("(") && name.starts_with("fill") => name,
                _ => return Ok(()),
            };
            let (left, right) = match name.as_str() {
                "fill" => (true, true),
                "fill_left" => (true, false),
                "fill_right" => (false, true),
                _ => return Ok(()),
            };
            if op.is_set() {
                return Err(span.error("filling in missing series not allowed for set operators"));
            }
            self.take();
            self.expect("(", "fill modifier")?;
            let sign = if self.eat("-") { -1.0 } else { 1.0 };
            self.eat("+");
            let value = match self.peek() {
                Token::Number(value) | Token::Duration(value) => sign * value,
                Token::Word(word) if word.eq_ignore_ascii_case("nan") => f64::NAN,
                Token::Word(word) if word.eq_ignore_ascii_case("inf") => sign * f64::INFINITY,
                _ => return Err(self.unexpected("fill modifier", "number")),
            };
            self.take();
            self.expect(")", "fill modifier")?;
            for (wanted, side) in [(left, &mut matching.fill.left), (right, &mut matching.fill.right)] {
                if wanted && side.replace(value).is_some() {
                    return Err(span.error("fill may not be set multiple times for one side"));
                }
            }
        }
    }
}
