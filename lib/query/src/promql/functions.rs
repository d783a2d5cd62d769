//! The functions of Prometheus 3.14 and the types of their arguments.

use super::value_type::ValueType;
use ValueType::{Matrix as M, Scalar as S, Text as T, Vector as V};

#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: &'static str,
    pub args: &'static [ValueType],
    /// How many of the last arguments may be left out, or how often the last may be repeated.
    pub arity: Arity,
    pub returns: ValueType,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Arity {
    Exact,
    /// The last argument may be left out.
    LastOptional,
    /// The last argument may be left out, or stand up to this often in all.
    LastRepeated(usize),
}

/// All functions, by name.
pub fn functions() -> impl Iterator<Item = &'static Function> {
    TABLE.iter()
}

/// The function of this name.
pub fn function(name: &str) -> Option<&'static Function> {
    TABLE.iter().find(|function| function.name == name)
}

const ANY: Arity = Arity::LastRepeated(usize::MAX);

const fn of(name: &'static str, args: &'static [ValueType], returns: ValueType) -> Function {
    Function { name, args, arity: Arity::Exact, returns }
}

const fn with(name: &'static str, args: &'static [ValueType], arity: Arity, returns: ValueType) -> Function {
    Function { name, args, arity, returns }
}

static TABLE: [Function; 90] = [
    of("abs", &[V], V),
    of("absent", &[V], V),
    of("absent_over_time", &[M], V),
    of("acos", &[V], V),
    of("acosh", &[V], V),
    of("asin", &[V], V),
    of("asinh", &[V], V),
    of("atan", &[V], V),
    of("atanh", &[V], V),
    of("avg_over_time", &[M], V),
    of("ceil", &[V], V),
    of("changes", &[M], V),
    of("clamp", &[V, S, S], V),
    of("clamp_max", &[V, S], V),
    of("clamp_min", &[V, S], V),
    of("cos", &[V], V),
    of("cosh", &[V], V),
    of("count_over_time", &[M], V),
    with("day_of_month", &[V], Arity::LastOptional, V),
    with("day_of_week", &[V], Arity::LastOptional, V),
    with("day_of_year", &[V], Arity::LastOptional, V),
    with("days_in_month", &[V], Arity::LastOptional, V),
    of("deg", &[V], V),
    of("delta", &[M], V),
    of("deriv", &[M], V),
    of("double_exponential_smoothing", &[M, S, S], V),
    of("end", &[], S),
    of("exp", &[V], V),
    of("first_over_time", &[M], V),
    of("floor", &[V], V),
    of("histogram_avg", &[V], V),
    of("histogram_count", &[V], V),
    of("histogram_fraction", &[S, S, V], V),
    of("histogram_quantile", &[S, V], V),
    with("histogram_quantiles", &[V, T, S], Arity::LastRepeated(10), V),
    of("histogram_stddev", &[V], V),
    of("histogram_stdvar", &[V], V),
    of("histogram_sum", &[V], V),
    with("hour", &[V], Arity::LastOptional, V),
    of("idelta", &[M], V),
    of("increase", &[M], V),
    with("info", &[V, V], Arity::LastOptional, V),
    of("irate", &[M], V),
    with("label_join", &[V, T, T, T], ANY, V),
    of("label_replace", &[V, T, T, T, T], V),
    of("last_over_time", &[M], V),
    of("ln", &[V], V),
    of("log10", &[V], V),
    of("log2", &[V], V),
    of("mad_over_time", &[M], V),
    of("max_of", &[S, S], S),
    of("max_over_time", &[M], V),
    of("min_of", &[S, S], S),
    of("min_over_time", &[M], V),
    with("minute", &[V], Arity::LastOptional, V),
    with("month", &[V], Arity::LastOptional, V),
    of("pi", &[], S),
    of("predict_linear", &[M, S], V),
    of("present_over_time", &[M], V),
    of("quantile_over_time", &[S, M], V),
    of("rad", &[V], V),
    of("range", &[], S),
    of("rate", &[M], V),
    of("resets", &[M], V),
    with("round", &[V, S], Arity::LastOptional, V),
    of("scalar", &[V], S),
    of("sgn", &[V], V),
    of("sin", &[V], V),
    of("sinh", &[V], V),
    of("sort", &[V], V),
    with("sort_by_label", &[V, T], ANY, V),
    with("sort_by_label_desc", &[V, T], ANY, V),
    of("sort_desc", &[V], V),
    of("sqrt", &[V], V),
    of("start", &[], S),
    of("start_timestamp", &[V], V),
    of("stddev_over_time", &[M], V),
    of("stdvar_over_time", &[M], V),
    of("step", &[], S),
    of("sum_over_time", &[M], V),
    of("tan", &[V], V),
    of("tanh", &[V], V),
    of("time", &[], S),
    of("timestamp", &[V], V),
    of("ts_of_first_over_time", &[M], V),
    of("ts_of_last_over_time", &[M], V),
    of("ts_of_max_over_time", &[M], V),
    of("ts_of_min_over_time", &[M], V),
    of("vector", &[S], V),
    with("year", &[V], Arity::LastOptional, V),
];
