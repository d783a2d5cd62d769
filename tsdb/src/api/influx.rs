//! InfluxDB's line protocol, as VictoriaMetrics takes it: `POST /write`, `/api/v2/write` and both under `/influx`.
//!
//! `measurement,tag=v field=1,other=2i t` is `measurement_field{tag="v"}` and `measurement_other{tag="v"}` at `t`; the
//! database or bucket is the label `db` where no tag has that name. Times are nanoseconds unless `precision` says
//! otherwise, and absent ones are now. Booleans are 1 and 0; texts that are no numbers are passed over. Good lines are
//! taken: 204, or 400 in InfluxDB's words that names the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::{LabelsBuilder, METRIC_NAME, MetricBatch, Sample, now_ms};
use serde_json::{Value, json};
use service::body::decompress;
use service::http::{ApiError, Params, Tenant};

use super::App;
use super::intake::{Gathered, Pair, extra_labels, not_taken};
use crate::ingest::Refusals;

/// What clients take for the server's; the newest that all of them know.
const VERSION: &str = "1.8.0";
const NS_PER_MS: i128 = 1_000_000;
/// Measurement and tags of a line, which all its fields share.
const MAX_KEY_BYTES: usize = 64 * 1024;

pub async fn write(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Response> {
    let params = Params::parse(query.as_deref().unwrap_or(""));
    let reading = reading(&params).map_err(failure)?;
    let body = decompress(&headers, body).map_err(failure)?;
    let (mut batch, refusals) = read(&String::from_utf8_lossy(&body), &reading);
    batch.tenant = tenant;
    match app.append_batch(batch, refusals).await {
        Ok(appended) => match appended.refused {
            None => Ok(StatusCode::NO_CONTENT),
            Some(reasons) => Err(failure(ApiError::bad_data(format!("partial write: {reasons}")))),
        },
        Err(error) => Err(failure(not_taken(&error))),
    }
}

pub async fn ping() -> Response {
    (StatusCode::NO_CONTENT, [(HeaderName::from_static("x-influxdb-version"), VERSION)]).into_response()
}

/// Telegraf asks whether its database exists, or makes it: there is nothing to be made here.
pub async fn query() -> Json<Value> {
    Json(
        json!({"results": [{"statement_id": 0, "series": [{"name": "databases", "columns": ["name"], "values": []}]}]}),
    )
}

/// `{"error": …}` for version 1, `code` and `message` for version 2, and the reason in a header for both.
fn failure(error: ApiError) -> Response {
    let code = if error.status == StatusCode::SERVICE_UNAVAILABLE { "unavailable" } else { "invalid" };
    let shown = error.message.replace(|c: char| c.is_control() || !c.is_ascii(), " ");
    let body = json!({"error": error.message, "code": code, "message": error.message});
    let kind = (header::CONTENT_TYPE, "application/json".to_owned());
    let headers = [kind, (HeaderName::from_static("x-influxdb-error"), shown)];
    (error.status, headers, body.to_string()).into_response()
}

/// How lines are to be understood.
pub(crate) struct Reading {
    /// Nanoseconds of one unit of time.
    unit_ns: i128,
    db: Arc<str>,
    extra: Vec<Pair>,
    now_ms: i64,
}

impl Reading {
    /// Without parameters, at a time.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn at(now_ms: i64) -> Reading {
        Reading { unit_ns: 1, db: Arc::from(""), extra: Vec::new(), now_ms }
    }
}

fn reading(params: &Params) -> Result<Reading, ApiError> {
    let unit_ns = match params.get("precision").unwrap_or("ns") {
        "ns" | "n" => 1,
        "us" | "u" | "µ" => 1_000,
        "ms" => NS_PER_MS,
        "s" => 1_000 * NS_PER_MS,
        "m" => 60_000 * NS_PER_MS,
        "h" => 3_600_000 * NS_PER_MS,
        other => return Err(ApiError::bad_data(format!("invalid precision {other:?} (use n, u, ms, s, m or h)"))),
    };
    let db = params.get("db").or(params.get("bucket")).unwrap_or("").into();
    Ok(Reading { unit_ns, db, extra: extra_labels(params)?, now_ms: now_ms() })
}

/// What is good of a text, and why the rest is not.
pub(crate) fn read(text: &str, reading: &Reading) -> (MetricBatch, Refusals) {
    let (mut gathered, mut refusals) = (Gathered::default(), Refusals::default());
    for (i, line) in split(text, '\n').enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Err(reason) = read_line(line, reading, &mut gathered) {
            refusals.add("malformed line", 1, || format!("line {}: {reason}", i + 1));
        }
    }
    (MetricBatch::new("", gathered.into_series()), refusals)
}

fn read_line(line: &str, reading: &Reading, gathered: &mut Gathered) -> Result<(), &'static str> {
    let mut parts = split(line, ' ').filter(|part| !part.is_empty());
    let key = parts.next().ok_or("no measurement")?;
    let fields = parts.next().ok_or("no fields")?;
    if key.len() > MAX_KEY_BYTES {
        return Err("measurement and tags are too long");
    }
    let t_ms = match parts.next() {
        None => reading.now_ms,
        Some(text) => {
            let count: i64 = text.parse().map_err(|_| "not a timestamp")?;
            let ms = (i128::from(count) * reading.unit_ns).div_euclid(NS_PER_MS);
            i64::try_from(ms).map_err(|_| "not a timestamp")?
        }
    };
    if parts.next().is_some() {
        return Err("text after the timestamp");
    }
    let mut key = split(key, ',');
    let measurement = unescape(key.next().unwrap_or(""), "\\, ");
    let mut labels = LabelsBuilder::default();
    for tag in key {
        let (name, value) = split_once(tag, '=').ok_or("a tag without a value")?;
        if name.is_empty() {
            return Err("a tag without a name");
        }
        labels.set(unescape(name, "\\,= "), unescape(value, "\\,= "));
    }
    if labels.get("db").is_none() {
        labels.set("db", reading.db.clone());
    }
    // All or nothing of a line.
    let mut values = BTreeMap::new();
    for field in split(fields, ',') {
        let (name, value) = split_once(field, '=').ok_or("a field without a value")?;
        if name.is_empty() {
            return Err("a field without a name");
        }
        if let Some(value) = field_value(value)? {
            values.insert(unescape(name, "\\,= "), value);
        }
    }
    for (field, value) in values {
        let name = if measurement.is_empty() { field } else { format!("{measurement}_{field}") };
        let mut labels = labels.clone();
        labels.set(METRIC_NAME, name);
        for (name, value) in &reading.extra {
            labels.set(name.clone(), value.clone());
        }
        gathered.float(labels.build(), Sample { t_ms, value }, 0, Vec::new());
    }
    Ok(())
}

/// A number; none for a text that holds none.
fn field_value(text: &str) -> Result<Option<f64>, &'static str> {
    if let Some(inside) = text.strip_prefix('"') {
        let inside = inside.strip_suffix('"').ok_or("a quote is not closed")?;
        return Ok(inside.trim().parse().ok());
    }
    let number = match text {
        "t" | "T" | "true" | "True" | "TRUE" => return Ok(Some(1.0)),
        "f" | "F" | "false" | "False" | "FALSE" => return Ok(Some(0.0)),
        _ => text,
    };
    let value = if let Some(integer) = number.strip_suffix('i') {
        integer.parse::<i64>().ok().map(|integer| integer as f64)
    } else if let Some(integer) = number.strip_suffix('u') {
        integer.parse::<u64>().ok().map(|integer| integer as f64)
    } else {
        number.parse().ok()
    };
    value.map(Some).ok_or("not a field's value")
}

/// Pieces between unescaped separators that are not within quotes; quotes begin only behind `=`.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let whole = rest?;
        let (piece, after) = match split_once(whole, separator) {
            Some((piece, after)) => (piece, Some(after)),
            None => (whole, None),
        };
        rest = after;
        Some(piece)
    })
}

fn split_once(text: &str, separator: char) -> Option<(&str, &str)> {
    let (mut is_escaped, mut is_quoted, mut before) = (false, false, ' ');
    for (at, c) in text.char_indices() {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' {
            is_escaped = true;
        } else if c == '"' && (is_quoted || before == '=') {
            is_quoted = !is_quoted;
        } else if c == separator && !is_quoted {
            return Some((&text[..at], &text[at + c.len_utf8()..]));
        }
        before = c;
    }
    None
}

/// A backslash stays before what it does not escape.
fn unescape(text: &str, escaped: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek().filter(|next| c == '\\' && escaped.contains(**next)) {
            Some(next) => {
                out.push(*next);
                chars.next();
            }
            None => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::intake::shown;
    use super::*;

    fn settings(query: &str) -> Reading {
        Reading { now_ms: 77, ..reading(&Params::parse(query)).expect("good parameters") }
    }

    fn check(text: &str, query: &str, expected: &[&str]) {
        let (batch, refusals) = read(text, &settings(query));
        assert_eq!(shown(&batch, &refusals), expected, "{text}");
    }

    #[test]
    fn lines_become_series_by_field() {
        check(
            "cpu,host=a idle=1.5,busy=2i,up=t,name=\"x, y=1\",n=\"7\" 1500000000\n\n# comment\ncpu,host=a idle=2",
            "db=tele",
            &[
                r#"{__name__="cpu_busy", db="tele", host="a"} @1500 2"#,
                r#"{__name__="cpu_idle", db="tele", host="a"} @1500 1.5"#,
                r#"{__name__="cpu_idle", db="tele", host="a"} @77 2"#,
                r#"{__name__="cpu_n", db="tele", host="a"} @1500 7"#,
                r#"{__name__="cpu_up", db="tele", host="a"} @1500 1"#,
            ]
            .map(|line| line),
        );
        check(
            r"a\ b\,c,t\=g=v\ w f\,1=9u -1",
            "precision=s&bucket=b",
            &[r#"{__name__="a b,c_f,1", db="b", t=g="v w"} @-1000 9"#],
        );
        check(
            ",db=own f=1 3",
            "db=x&precision=h&extra_label=env=p",
            &[r#"{__name__="f", db="own", env="p"} @10800000 1"#],
        );
        check("m s=\"line\nbreak\",v=1 1000000", "", &[r#"{__name__="m_v"} @1 1"#]);
    }

    #[test]
    fn bad_lines_are_named_beside_good_ones() {
        let bad = "m\nm f\nm f=x 1\nm f=1 x\nm f=1 1 1\nm,t f=1\nm,=1 f=1\nm =1\nm f=1i5\nok f=1 5000000";
        check(bad, "", &[r#"{__name__="ok_f"} @5 1"#, "9 samples refused: malformed line: line 1: no fields"]);
        check(
            "m f=1 9223372036854775807",
            "precision=h",
            &["1 samples refused: malformed line: line 1: not a timestamp"],
        );
        assert!(reading(&Params::parse("precision=d")).is_err());
    }

    proptest! {
        #[test]
        fn any_text_never_panics(text in "[mf,=\\\\\" 1i\n#]{0,60}|.{0,60}") {
            let (batch, _) = read(&text, &settings(""));
            prop_assert!(batch.series.iter().all(|one| one.labels.metric_name().is_some()));
        }
    }
}
