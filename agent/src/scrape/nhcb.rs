//! Classic histograms as native ones with custom buckets (`convert_classic_histograms_to_nhcb`): what is described as a
//! histogram and comes as `_bucket`, `_count` and `_sum` becomes one sample.
//!
//! A histogram that makes no sense, or is native already, is not converted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use model::exposition::read_series;
use model::{ClassicHistogram, Exemplar, Labels, METRIC_NAME, MetricKind, MetricMetadata};

use super::history::{Scraped, Value};
use super::protobuf::quote;

/// One histogram at one instant.
#[derive(Default)]
struct Classic {
    histogram: ClassicHistogram,
    is_good: bool,
    exemplars: Vec<Exemplar>,
}

type Key = (Labels, Option<i64>);

/// Replaces classic histograms, or, with `keeps_classic`, adds native ones to them.
pub fn convert(samples: Vec<Scraped>, metadata: &[MetricMetadata], keeps_classic: bool) -> Vec<Scraped> {
    let described = metadata.iter().filter(|one| one.kind == MetricKind::Histogram);
    let families: HashSet<&str> = described.map(|one| one.name.as_str()).collect();
    let mut native: HashSet<Key> = HashSet::new();
    for sample in samples.iter().filter(|sample| matches!(sample.value, Value::Histogram(_))) {
        native.extend(read_series(&sample.series).ok().map(|labels| (labels.build(), sample.t_ms)));
    }
    let (mut order, mut found, mut kept) = (Vec::new(), HashMap::<Key, Classic>::new(), Vec::new());
    let mut classic = Vec::new();
    for sample in samples {
        let Some((key, part)) = part_of(&sample, &families) else {
            kept.push(sample);
            continue;
        };
        if let Value::Float(value) = sample.value
            && !native.contains(&key)
        {
            let one = found.entry(key.clone()).or_insert_with(|| {
                order.push(key.clone());
                Classic { is_good: true, ..Classic::default() }
            });
            one.is_good &= match part {
                Part::Bucket(bound) => one.histogram.set_bucket(bound, value).is_ok(),
                Part::Count => one.histogram.set_count(value).is_ok(),
                Part::Sum => {
                    one.histogram.set_sum(value);
                    true
                }
            };
            one.exemplars.extend(sample.exemplars.iter().cloned());
        }
        classic.push((key, sample));
    }
    let mut converted = HashSet::new();
    for key in order {
        let Some(one) = found.remove(&key).filter(|one| one.is_good) else { continue };
        let Ok(histogram) = one.histogram.convert() else { continue };
        let (series, t_ms) = (text_of(&key.0), key.1);
        kept.push(Scraped { series, value: Value::Histogram(Arc::new(histogram)), t_ms, exemplars: one.exemplars });
        converted.insert(key);
    }
    let is_wanted = |key: &Key| keeps_classic || !(converted.contains(key) || native.contains(key));
    kept.extend(classic.into_iter().filter(|(key, _)| is_wanted(key)).map(|(_, sample)| sample));
    kept
}

enum Part {
    Bucket(f64),
    Count,
    Sum,
}

/// Which histogram a sample is a part of, by its labels without `le` under the family's name.
fn part_of(sample: &Scraped, families: &HashSet<&str>) -> Option<(Key, Part)> {
    let labels = read_series(&sample.series).ok()?.build();
    let name = labels.metric_name()?;
    let (family, suffix) = name.rsplit_once('_')?;
    families.get(family)?;
    let part = match suffix {
        "bucket" => Part::Bucket(match labels.get("le")? {
            "+Inf" => f64::INFINITY,
            bound => bound.parse().ok()?,
        }),
        "count" => Part::Count,
        "sum" => Part::Sum,
        _ => return None,
    };
    Some(((labels.without(&["le"]).with(METRIC_NAME, family), sample.t_ms), part))
}

fn text_of(labels: &Labels) -> String {
    let mut text = String::from("{");
    for label in labels {
        if &*label.name != METRIC_NAME {
            quote(&label.name, &mut text);
            text.push('=');
        }
        quote(&label.value, &mut text);
        text.push(',');
    }
    text + "}"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keeps_classic: bool, expected: &[&str]) {
        let float = |series: &str, value| Scraped {
            series: series.into(),
            value: Value::Float(value),
            t_ms: None,
            exemplars: Vec::new(),
        };
        let samples = vec![
            float("h_bucket{a=\"x\",le=\"1\"}", 1.0),
            float("h_bucket{a=\"x\",le=\"+Inf\"}", 3.0),
            float("h_count{a=\"x\"}", 3.0),
            float("h_sum{a=\"x\"}", 5.5),
            float("bad_bucket{le=\"1\"}", 4.0),
            float("bad_bucket{le=\"2\"}", 1.0),
            float("plain_count", 1.0),
        ];
        let described = |name: &str| MetricMetadata {
            name: name.into(),
            kind: MetricKind::Histogram,
            help: String::new(),
            unit: String::new(),
        };
        let shown = convert(samples, &[described("h"), described("bad")], keeps_classic);
        let shown: Vec<String> = shown
            .iter()
            .map(|sample| match &sample.value {
                Value::Float(value) => format!("{} {value}", sample.series),
                Value::Histogram(histogram) => {
                    format!("{} {} {} {:?}", sample.series, histogram.count, histogram.sum, histogram.custom_bounds)
                }
            })
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn good_histograms_are_converted() {
        let native = r#"{"h","a"="x",} 3 5.5 [1.0]"#;
        let bad = ["bad_bucket{le=\"1\"} 4", "bad_bucket{le=\"2\"} 1"];
        check(false, &["plain_count 1", native, bad[0], bad[1]]);
        let classic = [
            "h_bucket{a=\"x\",le=\"1\"} 1",
            "h_bucket{a=\"x\",le=\"+Inf\"} 3",
            "h_count{a=\"x\"} 3",
            "h_sum{a=\"x\"} 5.5",
        ];
        check(true, &[&["plain_count 1", native][..], &classic[..], &bad[..]].concat());
    }
}
