//! The tree of a PromQL expression. Every node knows its span.

use model::Matcher;

use crate::Span;
use crate::promql::functions::Function;
pub use crate::promql::value_type::ValueType;

#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub enum ExprKind {
    /// `is_duration`: it was written as one (`5m`), and prints as one.
    Number {
        value: f64,
        is_duration: bool,
    },
    Text(String),
    Paren(Box<Expr>),
    Unary {
        negative: bool,
        operand: Box<Expr>,
    },
    Binary(Box<Binary>),
    Aggregate(Box<Aggregate>),
    Call(Call),
    Selector(VectorSelector),
    Range {
        selector: VectorSelector,
        range: DurationExpr,
    },
    Subquery(Box<Subquery>),
}

/// As derived, but NaN equals NaN.
impl PartialEq for ExprKind {
    fn eq(&self, other: &ExprKind) -> bool {
        use ExprKind::{Aggregate, Binary, Call, Number, Paren, Range, Selector, Subquery, Text, Unary};
        match (self, other) {
            (Number { value: a, is_duration: x }, Number { value: b, is_duration: y }) => {
                x == y && (a == b || a.is_nan() && b.is_nan())
            }
            (Text(a), Text(b)) => a == b,
            (Paren(a), Paren(b)) => a == b,
            (Unary { negative: x, operand: a }, Unary { negative: y, operand: b }) => x == y && a == b,
            (Binary(a), Binary(b)) => a == b,
            (Aggregate(a), Aggregate(b)) => a == b,
            (Call(a), Call(b)) => a == b,
            (Selector(a), Selector(b)) => a == b,
            (Range { selector: a, range: x }, Range { selector: b, range: y }) => a == b && x == y,
            (Subquery(a), Subquery(b)) => a == b,
            _ => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    pub op: BinaryOp,
    pub op_span: Span,
    pub left: Expr,
    pub right: Expr,
    pub returns_bool: bool,
    pub matching: Matching,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryOp {
    Or,
    And,
    Unless,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// `</`: a native histogram's observations below a value.
    TrimUpper,
    /// `>/`: those above it.
    TrimLower,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    /// LogQL's `/` and `%`: not a number where the divisor is zero.
    DivNonzero,
    ModNonzero,
    Atan2,
    Pow,
}

impl BinaryOp {
    /// PromQL's.
    pub const ALL: [BinaryOp; 18] = [
        BinaryOp::Or,
        BinaryOp::And,
        BinaryOp::Unless,
        BinaryOp::Equal,
        BinaryOp::NotEqual,
        BinaryOp::Less,
        BinaryOp::LessEqual,
        BinaryOp::Greater,
        BinaryOp::GreaterEqual,
        BinaryOp::TrimUpper,
        BinaryOp::TrimLower,
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Div,
        BinaryOp::Mod,
        BinaryOp::Atan2,
        BinaryOp::Pow,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Or => "or",
            BinaryOp::And => "and",
            BinaryOp::Unless => "unless",
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Less => "<",
            BinaryOp::LessEqual => "<=",
            BinaryOp::Greater => ">",
            BinaryOp::GreaterEqual => ">=",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div | BinaryOp::DivNonzero => "/",
            BinaryOp::Mod | BinaryOp::ModNonzero => "%",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Pow => "^",
        }
    }

    /// The higher the tighter.
    pub fn precedence(self) -> u8 {
        match self {
            BinaryOp::Or => 1,
            BinaryOp::And | BinaryOp::Unless => 2,
            BinaryOp::Add | BinaryOp::Sub => 4,
            BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => 5,
            BinaryOp::DivNonzero | BinaryOp::ModNonzero => 5,
            BinaryOp::Pow => 6,
            _ => 3,
        }
    }

    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::Or | BinaryOp::And | BinaryOp::Unless)
    }

    pub fn is_trim(self) -> bool {
        matches!(self, BinaryOp::TrimLower | BinaryOp::TrimUpper)
    }

    pub fn is_comparison(self) -> bool {
        self.precedence() == 3 && !self.is_trim()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cardinality {
    #[default]
    OneToOne,
    /// `group_left`.
    ManyToOne,
    /// `group_right`.
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// How the sides of a binary operator find each other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matching {
    pub cardinality: Cardinality,
    /// `on(labels)`; otherwise `ignoring(labels)`.
    pub on: bool,
    pub labels: Vec<String>,
    /// The labels that `group_left` or `group_right` takes from the one side.
    pub include: Vec<String>,
    pub fill: Fill,
}

/// What stands in for a missing side.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fill {
    pub left: Option<f64>,
    pub right: Option<f64>,
}

/// NaN equals NaN.
impl PartialEq for Fill {
    fn eq(&self, other: &Fill) -> bool {
        let bits = |side: Option<f64>| side.map(f64::to_bits);
        bits(self.left) == bits(other.left) && bits(self.right) == bits(other.right)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    pub op: AggregateOp,
    pub param: Option<Expr>,
    pub operand: Expr,
    pub grouping: Grouping,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grouping {
    pub without: bool,
    pub labels: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    Quantile,
    CountValues,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    pub const ALL: [AggregateOp; 14] = [
        AggregateOp::Sum,
        AggregateOp::Avg,
        AggregateOp::Min,
        AggregateOp::Max,
        AggregateOp::Count,
        AggregateOp::Group,
        AggregateOp::Stddev,
        AggregateOp::Stdvar,
        AggregateOp::Topk,
        AggregateOp::Bottomk,
        AggregateOp::Quantile,
        AggregateOp::CountValues,
        AggregateOp::Limitk,
        AggregateOp::LimitRatio,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            AggregateOp::Sum => "sum",
            AggregateOp::Avg => "avg",
            AggregateOp::Min => "min",
            AggregateOp::Max => "max",
            AggregateOp::Count => "count",
            AggregateOp::Group => "group",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::Topk => "topk",
            AggregateOp::Bottomk => "bottomk",
            AggregateOp::Quantile => "quantile",
            AggregateOp::CountValues => "count_values",
            AggregateOp::Limitk => "limitk",
            AggregateOp::LimitRatio => "limit_ratio",
        }
    }

    /// The type of the first argument of those that take two.
    pub fn param_type(self) -> Option<ValueType> {
        match self {
            AggregateOp::CountValues => Some(ValueType::Text),
            AggregateOp::Topk
            | AggregateOp::Bottomk
            | AggregateOp::Quantile
            | AggregateOp::Limitk
            | AggregateOp::LimitRatio => Some(ValueType::Scalar),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub function: &'static Function,
    pub args: Vec<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// The name as written before the braces or quoted within; also among the matchers.
    pub name: Option<String>,
    pub matchers: Vec<Matcher>,
    pub shift: Shift,
    pub extended: Option<ExtendedRange>,
    pub span: Span,
}

/// How a selector reaches for samples at or beyond the edges of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtendedRange {
    Anchored,
    Smoothed,
}

/// `offset` and `@`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shift {
    pub offset: Option<DurationExpr>,
    pub at: Option<At>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    TimeMs(i64),
    Start,
    End,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    pub operand: Expr,
    pub range: DurationExpr,
    pub step: Option<DurationExpr>,
    pub shift: Shift,
}

/// A length of time in seconds, possibly computed.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationExpr {
    Seconds(f64),
    Step,
    Range,
    Negative(Box<DurationExpr>),
    Paren(Box<DurationExpr>),
    Pair(DurationOp, Box<DurationExpr>, Box<DurationExpr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DurationOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    MinOf,
    MaxOf,
}

impl DurationOp {
    pub fn as_str(self) -> &'static str {
        match self {
            DurationOp::Add => "+",
            DurationOp::Sub => "-",
            DurationOp::Mul => "*",
            DurationOp::Div => "/",
            DurationOp::Mod => "%",
            DurationOp::Pow => "^",
            DurationOp::MinOf => "min_of",
            DurationOp::MaxOf => "max_of",
        }
    }
}

impl DurationExpr {
    /// In seconds, for a query with this step and range; `None` for a division by zero.
    pub fn seconds(&self, step_s: f64, range_s: f64) -> Option<f64> {
        Some(match self {
            DurationExpr::Seconds(seconds) => *seconds,
            DurationExpr::Step => step_s,
            DurationExpr::Range => range_s,
            DurationExpr::Negative(inner) => -inner.seconds(step_s, range_s)?,
            DurationExpr::Paren(inner) => inner.seconds(step_s, range_s)?,
            DurationExpr::Pair(op, left, right) => {
                let (left, right) = (left.seconds(step_s, range_s)?, right.seconds(step_s, range_s)?);
                match op {
                    DurationOp::Add => left + right,
                    DurationOp::Sub => left - right,
                    DurationOp::Mul => left * right,
                    DurationOp::Div | DurationOp::Mod if right == 0.0 => return None,
                    DurationOp::Div => left / right,
                    DurationOp::Mod => left % right,
                    DurationOp::Pow => left.powf(right),
                    DurationOp::MinOf => left.min(right),
                    DurationOp::MaxOf => left.max(right),
                }
            }
        })
    }

    /// The value of one that does not ask for the query's step or range.
    pub fn constant(&self) -> Option<f64> {
        self.seconds(f64::NAN, f64::NAN).filter(|seconds| !seconds.is_nan())
    }
}

impl Expr {
    /// The expression within any parentheses.
    pub fn unwrapped(&self) -> &Expr {
        match &self.kind {
            ExprKind::Paren(inner) => inner.unwrapped(),
            _ => self,
        }
    }

    /// Visits this node and all below it, parents first, from left to right.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        visit(self);
        match &self.kind {
            ExprKind::Number { .. } | ExprKind::Text(_) | ExprKind::Selector(_) | ExprKind::Range { .. } => {}
            ExprKind::Paren(operand) | ExprKind::Unary { operand, .. } => operand.walk(visit),
            ExprKind::Binary(binary) => {
                binary.left.walk(visit);
                binary.right.walk(visit);
            }
            ExprKind::Aggregate(aggregate) => {
                aggregate.param.iter().for_each(|param| param.walk(visit));
                aggregate.operand.walk(visit);
            }
            ExprKind::Call(call) => call.args.iter().for_each(|arg| arg.walk(visit)),
            ExprKind::Subquery(subquery) => subquery.operand.walk(visit),
        }
    }
}
