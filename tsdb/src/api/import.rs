//! `POST /api/v1/import/prometheus`: samples in the text formats of scrapes, as VictoriaMetrics takes them.
//!
//! `timestamp` (milliseconds) is the time of samples that have none, else it is now; `extra_label=name=value` sets a label
//! on all. `Content-Type: application/openmetrics-text` says which format it is. Good lines are taken: 204, or 400 that
//! names the others.

use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use model::exposition::{TextFormat, parse_good};
use model::{Labels, MetricBatch, Sample, now_ms};
use service::body::decompress;
use service::http::{ApiError, Params, Tenant};

use super::App;
use super::intake::{Gathered, Pair, extra_labels, taken};
use crate::ingest::Refusals;

pub async fn prometheus(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let params = Params::parse(query.as_deref().unwrap_or(""));
    let extra = extra_labels(&params)?;
    let t_ms = params.get("timestamp").map_or(Ok(now_ms()), |text| {
        text.parse().map_err(|_| ApiError::bad_data(format!("invalid parameter \"timestamp\": {text:?}")))
    })?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let format = TextFormat::of_content_type(kind);
    let body = decompress(&headers, body)?;
    let (mut batch, refusals) = read(&String::from_utf8_lossy(&body), format, t_ms, &extra);
    batch.tenant = tenant;
    taken(app.append_batch(batch, refusals).await)
}

/// What is good of a text, and why the rest is not.
pub(crate) fn read(text: &str, format: TextFormat, t_ms: i64, extra: &[Pair]) -> (MetricBatch, Refusals) {
    let mut refusals = Refusals::default();
    let exposition = parse_good(text, format, |fault| refusals.add("malformed line", 1, || fault.to_string()));
    let mut gathered = Gathered::default();
    let mut labelled = HashMap::new();
    for one in exposition.samples {
        let labels = match extra {
            [] => one.labels,
            extra => labelled.entry(one.labels).or_insert_with_key(|labels| with(labels, extra)).clone(),
        };
        let t_ms = one.t_ms.unwrap_or(t_ms);
        let mut exemplar = one.exemplar;
        if let Some(exemplar) = exemplar.as_mut().filter(|exemplar| exemplar.t_ms == 0) {
            exemplar.t_ms = t_ms;
        }
        gathered.float(labels, Sample { t_ms, value: one.value }, 0, exemplar.into_iter().collect());
    }
    (MetricBatch { metadata: exposition.metadata, ..MetricBatch::new("", gathered.into_series()) }, refusals)
}

/// Labels with more set.
pub(crate) fn with(labels: &Labels, more: &[Pair]) -> Labels {
    let mut builder = labels.to_builder();
    for (name, value) in more {
        builder.set(name.clone(), value.clone());
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::super::intake::shown;
    use super::*;

    fn check(text: &str, format: TextFormat, expected: &[&str]) {
        let extra = [("job".into(), "j".into())];
        let (batch, refusals) = read(text, format, 7, &extra);
        assert_eq!(shown(&batch, &refusals), expected);
    }

    #[test]
    fn good_lines_are_taken_and_bad_ones_named() {
        let text = "# TYPE a counter\na{job=\"own\"} 1\na 2 9\n1a 3\nb\na 4 10\n";
        let a = r#"{__name__="a", job="j"}"#;
        let refused = "2 samples refused: malformed line: line 4: not a metric name";
        let all = [&format!("{a} @7 1"), &format!("{a} @9 2"), &format!("{a} @10 4"), refused];
        check(text, TextFormat::Prometheus, &all);
        let open = "a_total 1 2.5 # {t=\"x\"} 1\n# EOF\n";
        check(
            open,
            TextFormat::OpenMetrics,
            &[r#"{__name__="a_total", job="j"} @2500 1"#, r#"exemplar @2500 {t="x"}"#],
        );
    }
}
