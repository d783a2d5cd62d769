//! `query`, `query_range`, `format_query`.

use std::time::Instant;

use ::query::{Answer, Counting, Engine, Sources, Value, Work};
use axum::extract::State;
use axum::response::Response;
use model::now_ms;
use serde_json::json;
use service::http::{ApiError, Params, StrongRead, Tenant, parse_duration_ms, parse_time_ms};

use super::{App, json, limit, query_error, time_or};

/// More steps than this are refused: no screen shows them.
const MAX_POINTS: i64 = 11_000;

pub async fn instant(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Result<Response, ApiError> {
    let expr = ::query::parse_mixed(params.get("query").unwrap_or("")).map_err(query_error)?;
    let t_ms = time_or(&params, "time", now_ms())?;
    let (engine, timeout, limit) = (engine(&app, &params)?, app.timeout(&params)?, limit(&params)?);
    app.catch_up(strong).await?;
    if strong.0 || app.options.strong_reads {
        app.logs_caught_up(&expr).await.map_err(query_error)?;
    }
    let lines = app.lines();
    let asked = Instant::now();
    let evaluated = app.evaluate(engine, timeout, move |engine, store, deadline| {
        let clock = Clock { asked, started: Instant::now() };
        let sources = Sources { series: store, lines: lines.as_deref(), tenant: &tenant, deadline: Some(deadline) };
        let answer = expr.instant(engine, sources, t_ms)?;
        Ok(written(answer, limit, engine.counting, clock))
    });
    Ok(evaluated.await.map_err(query_error)?.respond())
}

pub async fn range(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Result<Response, ApiError> {
    let expr = ::query::parse_mixed(params.get("query").unwrap_or("")).map_err(query_error)?;
    let start_ms = parse_time_ms("start", params.get("start").unwrap_or(""))?;
    let end_ms = parse_time_ms("end", params.get("end").unwrap_or(""))?;
    let step_ms = parse_duration_ms("step", params.get("step").unwrap_or(""))?;
    check_steps(start_ms, end_ms, step_ms)?;
    let (engine, timeout, limit) = (engine(&app, &params)?, app.timeout(&params)?, limit(&params)?);
    app.catch_up(strong).await?;
    if strong.0 || app.options.strong_reads {
        app.logs_caught_up(&expr).await.map_err(query_error)?;
    }
    let lines = app.lines();
    let asked = Instant::now();
    let evaluated = app.evaluate(engine, timeout, move |engine, store, deadline| {
        let clock = Clock { asked, started: Instant::now() };
        let sources = Sources { series: store, lines: lines.as_deref(), tenant: &tenant, deadline: Some(deadline) };
        let answer = expr.range(engine, sources, start_ms, end_ms, step_ms)?;
        Ok(written(answer, limit, engine.counting, clock))
    });
    Ok(evaluated.await.map_err(query_error)?.respond())
}

fn check_steps(start_ms: i64, end_ms: i64, step_ms: i64) -> Result<(), ApiError> {
    if end_ms < start_ms {
        let message = "invalid parameter \"end\": end timestamp must not be before start time";
        return Err(ApiError::bad_data(message));
    }
    if step_ms <= 0 {
        let message = "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. \
                       Try a positive integer";
        return Err(ApiError::bad_data(message));
    }
    if end_ms.saturating_sub(start_ms) / step_ms > MAX_POINTS {
        let message = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query \
                       resolution (?step=XX)";
        return Err(ApiError::bad_data(message));
    }
    Ok(())
}

/// When a query came, and when its evaluation began.
#[derive(Clone, Copy)]
struct Clock {
    asked: Instant,
    started: Instant,
}

/// The engine, with the lookback and the statistics that the request asks for.
fn engine(app: &App, params: &Params) -> Result<Engine, ApiError> {
    let counting = match params.get("stats") {
        None => Counting::Nothing,
        Some("all") => Counting::PerStep,
        Some(_) => Counting::Total,
    };
    let engine = Engine { counting, ..app.engine() };
    let Some(text) = params.get("lookback_delta") else { return Ok(engine) };
    let lookback_ms = parse_duration_ms("lookback_delta", text)?;
    if lookback_ms <= 0 {
        return Err(ApiError::bad_data("invalid parameter \"lookback_delta\": must be greater than 0"));
    }
    Ok(Engine { lookback_ms, ..engine })
}

/// The answer as JSON. Written where it was evaluated, for it may be large.
fn written(mut answer: Answer, limit: usize, counting: Counting, clock: Clock) -> json::Pieces {
    let all = match &answer.value {
        Value::Vector(vector) => vector.len(),
        Value::Matrix(matrix) => matrix.len(),
        Value::Scalar(_) | Value::Text(..) => 0,
    };
    if all > limit {
        match &mut answer.value {
            Value::Vector(vector) => vector.truncate(limit),
            Value::Matrix(matrix) => matrix.truncate(limit),
            Value::Scalar(_) | Value::Text(..) => {}
        }
        answer.warnings.push("results truncated due to limit".to_owned());
    }
    let evaluated = Instant::now();
    json::pieces(&answer.warnings, &answer.infos, |pieces| {
        json::value(pieces, &answer.value);
        if counting != Counting::Nothing {
            // Beside the result, inside of `data`.
            let out = pieces.last();
            out.pop();
            out.push_str(",\"stats\":");
            out.push_str(&statistics(&answer.work, counting, clock, evaluated).to_string());
            out.push('}');
        }
    })
}

/// As Prometheus tells of a query.
fn statistics(work: &Work, counting: Counting, clock: Clock, evaluated: Instant) -> serde_json::Value {
    let seconds = |from: Instant, to: Instant| to.duration_since(from).as_secs_f64();
    let evaluation = seconds(clock.started, evaluated);
    let mut samples = json!({
        "totalQueryableSamples": work.samples,
        "samplesRead": work.read,
        "peakSamples": work.peak_samples,
    });
    if counting == Counting::PerStep {
        let step = |(t_ms, count): &(i64, u64)| json!([*t_ms as f64 / 1000.0, count]);
        samples["totalQueryableSamplesPerStep"] = work.per_step.iter().map(step).collect();
        samples["samplesReadPerStep"] = work.read_per_step.iter().map(step).collect();
    }
    json!({
        "timings": {
            "evalTotalTime": evaluation,
            "resultSortTime": 0.0,
            "queryPreparationTime": 0.0,
            "innerEvalTime": evaluation,
            "execQueueTime": seconds(clock.asked, clock.started),
            "execTotalTime": seconds(clock.asked, evaluated),
        },
        "samples": samples,
    })
}

pub async fn format(params: Params) -> Result<Response, ApiError> {
    let expr = ::query::parse_mixed(params.get("query").unwrap_or("")).map_err(query_error)?;
    Ok(json::success(&[], &[], |out| json::string(out, &expr.pretty())))
}

pub async fn parse(params: Params) -> Result<Response, ApiError> {
    let expr = ::query::parse_mixed(params.get("query").unwrap_or("")).map_err(query_error)?;
    Ok(json::success(&[], &[], |out| out.push_str(&super::tree::tree(&expr).to_string())))
}
