//! `/federate`: the newest sample of every series that a selector matches, in a format that Prometheus scrapes: text, or
//! protobuf where that is preferred.

mod message;

use std::fmt::Write;

use ::query::{Samples, Series, SeriesSelect, Wants, format_number};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use model::{Histogram, Labels, METRIC_NAME, is_metric_name, is_stale, now_ms};
use service::http::{ApiError, Params, StrongRead, Tenant};

use super::listing::selector;
use super::{App, query_error};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8";

/// The newest sample of one series.
struct Newest {
    labels: Labels,
    t_ms: i64,
    value: f64,
    histogram: Option<std::sync::Arc<Histogram>>,
}

pub async fn federate(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let selectors = params.get_all("match[]").map(selector).collect::<Result<Vec<_>, _>>()?;
    let timeout = app.timeout(&params)?;
    app.catch_up(strong).await?;
    let (end_ms, lookback_ms) = (now_ms(), app.options.lookback_ms);
    let found = app.evaluate(app.engine(), timeout, move |_, store, deadline| {
        let mut newest = Vec::new();
        for matchers in &selectors {
            let start_ms = end_ms - lookback_ms;
            let deadline = Some(deadline);
            let request = SeriesSelect { tenant: &tenant, matchers, start_ms, end_ms, wants: Wants::Values, deadline };
            let set = store.select(&request)?;
            let mut samples = Samples::default();
            for i in 0..set.len() {
                set.read(i, &mut samples)?;
                newest.extend(last(set.labels(i), &samples));
            }
        }
        Ok(newest)
    });
    let newest = in_order(found.await.map_err(query_error)?);
    let external = &app.options.external_labels;
    Ok(match message::is_wanted(&headers) {
        true => ([(header::CONTENT_TYPE, message::CONTENT_TYPE)], message::encode(&newest, external)).into_response(),
        false => ([(header::CONTENT_TYPE, CONTENT_TYPE)], exposition(&newest, external)).into_response(),
    })
}

fn last(labels: &Labels, samples: &Samples) -> Option<Newest> {
    let at = samples.timestamps_ms.len().checked_sub(1)?;
    let (t_ms, value) = (samples.timestamps_ms[at], samples.values[at]);
    let histogram = samples.histograms.last().filter(|(index, _)| *index as usize == at);
    let histogram = histogram.map(|(_, histogram)| histogram.clone());
    (!is_stale(value)).then(|| Newest { labels: labels.clone(), t_ms, value, histogram })
}

/// By name, each series once.
fn in_order(mut newest: Vec<Newest>) -> Vec<Newest> {
    newest.sort_by(|a, b| a.labels.get(METRIC_NAME).cmp(&b.labels.get(METRIC_NAME)).then(a.labels.cmp(&b.labels)));
    newest.dedup_by(|a, b| a.labels == b.labels);
    newest
}

/// Each name with its type once. Of native histograms only those with custom buckets have a text form: they are written as
/// classic ones.
fn exposition(newest: &[Newest], external: &Labels) -> String {
    let mut out = String::new();
    let mut described = (String::new(), false);
    for one in newest {
        let Some(name) = one.labels.get(METRIC_NAME) else { continue };
        let histogram = match &one.histogram {
            Some(histogram) if !histogram.uses_custom_buckets() => continue,
            histogram => histogram.as_deref(),
        };
        let family = (name.to_owned(), histogram.is_some());
        if family != described {
            let kind = if histogram.is_some() { "histogram" } else { "untyped" };
            let _ =
                writeln!(out, "# TYPE {} {kind}", if is_metric_name(name) { name.to_owned() } else { quoted(name) });
            described = family;
        }
        let labels = with_external(&one.labels, external);
        match histogram {
            None => line(&mut out, name, &labels, &[], one.value, one.t_ms),
            Some(histogram) => classic(&mut out, name, &labels, histogram, one.t_ms),
        }
    }
    out
}

/// The labels, and those external ones that they lack; `instance` is there, if empty, so that the scraper adds none.
fn with_external(labels: &Labels, external: &Labels) -> Vec<(String, String)> {
    let pairs = labels.iter().filter(|label| &*label.name != METRIC_NAME);
    let mut all: Vec<(String, String)> = pairs.map(|label| (label.name.to_string(), label.value.to_string())).collect();
    let added = external.iter().map(|label| (label.name.to_string(), label.value.to_string()));
    let instance = external.get("instance").is_none().then(|| ("instance".to_owned(), String::new()));
    let mut added: Vec<_> = added.chain(instance).filter(|(name, _)| labels.get(name).is_none()).collect();
    added.sort();
    all.append(&mut added);
    all
}

fn classic(out: &mut String, name: &str, labels: &[(String, String)], histogram: &Histogram, t_ms: i64) {
    for (bound, count) in below(histogram) {
        let le = [("le".to_owned(), format_number(bound))];
        line(out, &format!("{name}_bucket"), labels, &le, count, t_ms);
    }
    let all = [("le".to_owned(), "+Inf".to_owned())];
    line(out, &format!("{name}_bucket"), labels, &all, histogram.count, t_ms);
    line(out, &format!("{name}_sum"), labels, &[], histogram.sum, t_ms);
    line(out, &format!("{name}_count"), labels, &[], histogram.count, t_ms);
}

/// The bounds of custom buckets, and how much lies at or below each.
fn below(histogram: &Histogram) -> impl Iterator<Item = (f64, f64)> {
    let mut below = 0.0;
    let mut filled = histogram.positive.indexed().peekable();
    (0i32..).zip(&histogram.custom_bounds).map(move |(place, bound)| {
        while let Some((_, count)) = filled.next_if(|(index, _)| *index <= place) {
            below += count;
        }
        (*bound, below)
    })
}

fn line(out: &mut String, name: &str, labels: &[(String, String)], more: &[(String, String)], value: f64, t_ms: i64) {
    let plain = is_metric_name(name);
    let mut pairs: Vec<String> = if plain { Vec::new() } else { vec![quoted(name)] };
    for (name, value) in labels.iter().chain(more) {
        let name = if model::is_label_name(name) { name.clone() } else { quoted(name) };
        pairs.push(format!("{name}={}", quoted(value)));
    }
    if plain {
        out.push_str(name);
    }
    if !pairs.is_empty() {
        let _ = write!(out, "{{{}}}", pairs.join(","));
    }
    let _ = writeln!(out, " {} {t_ms}", format_number(value));
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use model::{BucketSpan, Buckets, CUSTOM_SCHEMA};

    use super::*;

    fn newest(labels: &[(&str, &str)], value: f64, histogram: Option<Histogram>) -> Newest {
        let labels = Labels::from_pairs(labels.iter().copied());
        Newest { labels, t_ms: 1000, value, histogram: histogram.map(std::sync::Arc::new) }
    }

    #[test]
    fn the_text_is_what_prometheus_writes() {
        let buckets = Buckets { spans: vec![BucketSpan { offset: 1, length: 2 }], counts: vec![2.0, 1.0] };
        let histogram = Histogram {
            schema: CUSTOM_SCHEMA,
            count: 3.0,
            sum: 1.5,
            custom_bounds: vec![0.1, 1.0],
            positive: buckets,
            ..Histogram::default()
        };
        let all = vec![
            newest(&[(METRIC_NAME, "up"), ("job", "a\"b")], 1.0, None),
            newest(&[(METRIC_NAME, "h")], 0.0, Some(histogram)),
            newest(&[(METRIC_NAME, "native")], 0.0, Some(Histogram::default())),
            newest(&[(METRIC_NAME, "a.b"), ("instance", "i"), ("dc", "own")], f64::INFINITY, None),
            newest(&[("x", "nameless")], 1.0, None),
        ];
        let text = "# TYPE \"a.b\" untyped\n{\"a.b\",dc=\"own\",instance=\"i\"} +Inf 1000\n\
                    # TYPE h histogram\nh_bucket{dc=\"x\",instance=\"\",le=\"0.1\"} 0 1000\n\
                    h_bucket{dc=\"x\",instance=\"\",le=\"1\"} 2 1000\nh_bucket{dc=\"x\",instance=\"\",le=\"+Inf\"} 3 1000\n\
                    h_sum{dc=\"x\",instance=\"\"} 1.5 1000\nh_count{dc=\"x\",instance=\"\"} 3 1000\n\
                    # TYPE up untyped\nup{job=\"a\\\"b\",dc=\"x\",instance=\"\"} 1 1000\n";
        assert_eq!(exposition(&in_order(all), &Labels::from_pairs([("dc", "x")])), text);
    }
}
