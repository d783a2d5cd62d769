//! Parameters of queries, in Loki's notations.

use ::query::QueryError;
use ::query::logql::{LogExpr, LogSelector, parse, parse_duration_ns, parse_matchers};
use ::service::http::Params;
use model::Matcher;

use super::LokiError;

const NS_PER_S: f64 = 1e9;
pub const HOUR_NS: i64 = 3_600_000_000_000;
pub const DEFAULT_LIMIT: usize = 100;
/// Series of a volume unless a request says otherwise.
pub const VOLUME_SERIES: usize = 100;

/// Nanoseconds (more than ten digits), seconds (with or without a fraction), or RFC 3339.
pub fn parse_time_ns(name: &str, text: &str) -> Result<i64, LokiError> {
    let bad =
        || LokiError::bad(format!("could not parse '{name}' parameter: cannot parse {text:?} to a valid timestamp"));
    if let Ok(number) = text.parse::<i64>() {
        let is_seconds = text.trim_start_matches('-').len() <= 10;
        return if is_seconds { number.checked_mul(NS_PER_S as i64).ok_or_else(bad) } else { Ok(number) };
    }
    if let Ok(seconds) = text.parse::<f64>() {
        let ns = seconds * NS_PER_S;
        return if ns.is_finite() && ns.abs() < i64::MAX as f64 { Ok(ns as i64) } else { Err(bad()) };
    }
    model::parse_rfc3339_ns(text).ok_or_else(bad)
}

pub fn time_or(params: &Params, name: &str, default_ns: i64) -> Result<i64, LokiError> {
    params.get(name).map_or(Ok(default_ns), |text| parse_time_ns(name, text))
}

/// `start` and `end`; `since` or `default_ns` before `end` where there is no start.
pub fn time_range(params: &Params, default_ns: i64) -> Result<(i64, i64), LokiError> {
    let end_ns = time_or(params, "end", model::now_ns())?;
    let since_ns = match params.get("since") {
        Some(text) => parse_duration_ns(text).ok_or_else(|| LokiError::bad(format!("bad 'since' {text:?}")))?,
        None => default_ns,
    };
    let start_ns = time_or(params, "start", end_ns.saturating_sub(since_ns))?;
    if end_ns < start_ns {
        return Err(LokiError::bad("end timestamp must not be before or equal to start time"));
    }
    Ok((start_ns, end_ns))
}

/// Seconds with or without a fraction, or a duration.
pub fn step_ms(params: &Params, start_ns: i64, end_ns: i64) -> Result<i64, LokiError> {
    let Some(text) = params.get("step") else {
        // As Loki: about 250 points, at least a second apart.
        return Ok((end_ns.saturating_sub(start_ns) / 250 / 1_000_000_000).max(1) * 1000);
    };
    let ns = text.parse::<f64>().ok().map(|seconds| seconds * NS_PER_S).filter(|ns| ns.abs() < i64::MAX as f64);
    let ns = ns.map(|ns| ns as i64).or_else(|| parse_duration_ns(text));
    match ns.map(|ns| ns / 1_000_000) {
        Some(ms) if ms > 0 => Ok(ms),
        Some(_) => Err(LokiError::bad("zero or negative query resolution step widths are not accepted")),
        None => Err(LokiError::bad(format!("cannot parse 'step' {text:?}"))),
    }
}

/// Lines of one answer; what is beyond `max` is fetched from the last line's time on.
pub fn limit(params: &Params, max: usize) -> Result<usize, LokiError> {
    let Some(text) = params.get("limit") else { return Ok(DEFAULT_LIMIT.min(max)) };
    match text.parse::<usize>() {
        Ok(0) | Err(_) => Err(LokiError::bad(format!("limit must be a positive value, not {text:?}"))),
        Ok(limit) if limit > max => Err(LokiError::bad(format!(
            "max entries limit per query exceeded, limit > max_entries_limit ({limit} > {max})"
        ))),
        Ok(limit) => Ok(limit),
    }
}

pub fn is_backward(params: &Params) -> Result<bool, LokiError> {
    match params.get("direction").map(str::to_ascii_lowercase).as_deref() {
        None | Some("backward") => Ok(true),
        Some("forward") => Ok(false),
        Some(other) => Err(LokiError::bad(format!("invalid direction {other:?}"))),
    }
}

pub fn required<'p>(params: &'p Params, name: &str) -> Result<&'p str, LokiError> {
    params.get(name).ok_or_else(|| LokiError::bad(format!("missing parameter '{name}'")))
}

/// A query that must be one for lines.
pub fn log_selector(text: &str) -> Result<LogSelector, LokiError> {
    match parse(text)? {
        LogExpr::Log(selector) => Ok(selector),
        LogExpr::Metric(_) => Err(QueryError::BadData("only log queries are supported here".to_owned()).into()),
    }
}

/// The matchers of a text that may be a stream selector or a whole query, of which only they count; `{}` takes all.
pub fn stream_matchers(text: &str) -> Result<Vec<Matcher>, LokiError> {
    match parse_matchers(text) {
        Ok(matchers) => Ok(matchers),
        Err(_) => Ok(log_selector(text)?.matchers),
    }
}

/// Those of the parameter `query`, where there is one.
pub fn optional_matchers(params: &Params) -> Result<Vec<Matcher>, LokiError> {
    params.get("query").map_or(Ok(Vec::new()), stream_matchers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |text: &str, expected: Option<i64>| assert_eq!(parse_time_ns("t", text).ok(), expected, "{text}");
        check("1700000000", Some(1_700_000_000_000_000_000));
        check("1700000000123456789", Some(1_700_000_000_123_456_789));
        check("1.5", Some(1_500_000_000));
        check("1970-01-01T00:00:01.000000002Z", Some(1_000_000_002));
        check("NaN", None);
        check("yesterday", None);
    }

    #[test]
    fn steps() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(step_ms(&Params::parse(text), 0, 1_000_000_000_000).ok(), expected, "{text}");
        };
        check("", Some(4000));
        check("step=15", Some(15_000));
        check("step=0.5", Some(500));
        check("step=1m", Some(60_000));
        check("step=0", None);
        check("step=x", None);
    }
}
