//! What may enter: checks on series and samples, before the bus.
//!
//! Good samples are taken whatever stands beside them; what is refused is counted by reason and told with an example.

use std::collections::{BTreeMap, HashMap};

use bus::BusError;
use model::{Exemplar, Histogram, Labels, METRIC_NAME, MS_PER_DAY, MetricMetadata, SeriesSamples};
use service::config::Limits;

/// Samples may be this far ahead of now.
const MAX_AHEAD_MS: i64 = MS_PER_DAY;
/// No histogram has more buckets, and no more spans or custom bounds.
const MAX_HISTOGRAM_BUCKETS: usize = 20_000;
/// As the specification of OpenMetrics bounds the labels of an exemplar, in characters of names and values.
const MAX_EXEMPLAR_LABEL_CHARS: usize = 128;
/// A help text longer than this is cut.
const MAX_HELP_BYTES: usize = 4096;
/// How much of an offending text an error shows.
const MAX_SHOWN_BYTES: usize = 200;

#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Sending it again will not help. What was good has been taken.
    #[error("{0}")]
    Refused(String),
    /// Nothing can be said to be taken; send it again.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// Refused samples by reason: how many, and an example.
#[derive(Debug, Default)]
pub struct Refusals {
    reasons: BTreeMap<&'static str, (u64, String)>,
}

impl Refusals {
    pub fn add(&mut self, reason: &'static str, samples: u64, example: impl FnOnce() -> String) {
        let entry = self.reasons.entry(reason).or_insert_with(|| (0, shorten(example())));
        entry.0 += samples;
    }

    pub fn is_empty(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Reason and count.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.reasons.iter().map(|(reason, (count, _))| (*reason, *count))
    }

    /// One line per reason.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.reasons.iter().map(|(reason, (count, example))| format!("{count} samples refused: {reason}: {example}"))
    }
}

fn shorten(mut text: String) -> String {
    if text.len() > MAX_SHOWN_BYTES {
        let cut = (0..=MAX_SHOWN_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// The bounds of a request, and what is known of the tenant's series.
pub struct Admission<'a> {
    pub limits: &'a Limits,
    /// Samples before it are beyond the tenant's retention.
    pub oldest_ms: i64,
    pub now_ms: i64,
    /// How many series the tenant may begin now.
    pub room: usize,
    /// Whether a series is active; asked only when there is little room, or a limit per metric.
    pub is_active: &'a dyn Fn(&Labels) -> bool,
    /// How many series of a metric are active.
    pub of_metric: &'a dyn Fn(&str) -> usize,
}

impl Admission<'_> {
    /// Keeps what may enter.
    pub fn admit(&self, series: &mut Vec<SeriesSamples>, refusals: &mut Refusals) {
        series.retain(|one| {
            let Some(reason) = label_fault(&one.labels, self.limits) else { return true };
            // One of exemplars alone counts as one.
            refusals.add(reason, one.len().max(1) as u64, || one.labels.to_string());
            false
        });
        self.admit_known(series, refusals);
    }

    /// Keeps what may enter of series whose label sets are good.
    pub fn admit_known(&self, series: &mut Vec<SeriesSamples>, refusals: &mut Refusals) {
        let metric_limit = self.limits.max_series_per_metric;
        let is_roomy = series.len() <= self.room && metric_limit == 0;
        let mut room = self.room;
        let mut begun: HashMap<String, usize> = HashMap::new();
        series.retain_mut(|one| {
            self.drop_untimely(one, refusals);
            if one.is_empty() && one.exemplars.is_empty() {
                return false;
            }
            if is_roomy || (self.is_active)(&one.labels) {
                return true;
            }
            if room == 0 {
                let limit = self.limits.max_active_series;
                refusals.add("too many active series", one.len().max(1) as u64, || {
                    format!("the limit is {limit}, refused {}", one.labels)
                });
                return false;
            }
            if metric_limit > 0 {
                let metric = one.labels.metric_name().unwrap_or("");
                let begun = begun.entry(metric.to_owned()).or_insert_with(|| (self.of_metric)(metric));
                if *begun >= metric_limit {
                    refusals.add("too many series of a metric", one.len().max(1) as u64, || {
                        format!("the limit is {metric_limit}, refused {}", one.labels)
                    });
                    return false;
                }
                *begun += 1;
            }
            room -= 1;
            true
        });
    }

    /// Takes out samples and exemplars of other times, and histograms that are none.
    fn drop_untimely(&self, series: &mut SeriesSamples, refusals: &mut Refusals) {
        let newest_ms = self.now_ms.saturating_add(MAX_AHEAD_MS);
        let fault = |t_ms: i64| match t_ms {
            t if t < self.oldest_ms => Some("older than the retention"),
            t if t > newest_ms => Some("more than a day ahead"),
            _ => None,
        };
        let SeriesSamples { labels, samples, starts_ms, histograms, exemplars } = series;
        if histograms.is_empty() && exemplars.is_empty() && samples.iter().all(|sample| fault(sample.t_ms).is_none()) {
            return;
        }
        let mut is_timely = |t_ms: i64| {
            let Some(reason) = fault(t_ms) else { return true };
            refusals.add(reason, 1, || format!("{} of {labels}", model::format_rfc3339_ms(t_ms)));
            false
        };
        if starts_ms.len() == samples.len() {
            let mut times = samples.iter().map(|sample| sample.t_ms);
            starts_ms.retain(|_| times.next().is_none_or(|t_ms| fault(t_ms).is_none()));
        } else {
            starts_ms.clear();
        }
        samples.retain(|sample| is_timely(sample.t_ms));
        histograms.retain(|sample| is_timely(sample.t_ms));
        histograms.retain(|sample| {
            let Some(reason) = histogram_fault(&sample.histogram) else { return true };
            refusals.add("malformed histogram", 1, || format!("{reason}, of {labels}"));
            false
        });
        exemplars.retain(|one| fault(one.t_ms).is_none() && is_exemplar(one));
    }
}

/// Why a label set may not enter.
pub fn label_fault(labels: &Labels, limits: &Limits) -> Option<&'static str> {
    if labels.get(METRIC_NAME).is_none() {
        return Some("series without a metric name");
    }
    if labels.len() > limits.max_labels {
        return Some("too many labels");
    }
    if labels.iter().any(|label| label.name.is_empty()) {
        return Some("empty label name");
    }
    if labels.iter().any(|label| label.name.len() > limits.max_label_name_bytes) {
        return Some("label name too long");
    }
    labels.iter().any(|label| label.value.len() > limits.max_label_value_bytes).then_some("label value too long")
}

fn histogram_fault(histogram: &Histogram) -> Option<String> {
    if histogram.is_stale() {
        return None;
    }
    let sides = [&histogram.positive, &histogram.negative];
    let lengths = sides.iter().flat_map(|side| [side.counts.len(), side.spans.len()]);
    if lengths.chain([histogram.custom_bounds.len()]).any(|length| length > MAX_HISTOGRAM_BUCKETS) {
        return Some(format!("more than {MAX_HISTOGRAM_BUCKETS} buckets"));
    }
    histogram.validate().err().map(|error| error.to_string())
}

/// Exemplars are a favour: those with too long labels are dropped without a word, as in Prometheus.
fn is_exemplar(one: &Exemplar) -> bool {
    let chars = |text: &str| text.chars().count();
    one.labels.iter().map(|label| chars(&label.name) + chars(&label.value)).sum::<usize>() <= MAX_EXEMPLAR_LABEL_CHARS
}

/// Keeps what a metric's description may be.
pub fn admit_metadata(metadata: Vec<MetricMetadata>, limits: &Limits) -> Vec<MetricMetadata> {
    let is_good = |one: &MetricMetadata| {
        !one.name.is_empty()
            && one.name.len() <= limits.max_label_value_bytes
            && one.unit.len() <= limits.max_label_value_bytes
    };
    let mut kept: Vec<MetricMetadata> = metadata.into_iter().filter(is_good).collect();
    for one in &mut kept {
        let cut = (0..=MAX_HELP_BYTES.min(one.help.len())).rev().find(|at| one.help.is_char_boundary(*at));
        one.help.truncate(cut.unwrap_or(0));
    }
    kept
}

#[cfg(test)]
mod tests {
    use model::Sample;

    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn check(labels: &[(&str, &str)], t_ms: i64, room: usize, expected: &str) {
        let limits = Limits { max_labels: 3, max_label_value_bytes: 10, max_series_per_metric: 2, ..Limits::default() };
        let is_active = |labels: &Labels| labels.get(METRIC_NAME) == Some("known");
        let of_metric = |metric: &str| if metric == "many" { 2 } else { 1 };
        let (oldest_ms, now_ms) = (NOW_MS - MS_PER_DAY, NOW_MS);
        let admission =
            Admission { limits: &limits, oldest_ms, now_ms, room, is_active: &is_active, of_metric: &of_metric };
        let series = SeriesSamples::new(Labels::from_pairs(labels.iter().copied()), vec![Sample { t_ms, value: 1.0 }]);
        let (mut refusals, mut taken) = (Refusals::default(), vec![series]);
        admission.admit(&mut taken, &mut refusals);
        let taken = taken.len();
        let said = refusals.lines().collect::<String>();
        assert_eq!(taken, usize::from(expected.is_empty()), "{said}");
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
    }

    #[test]
    fn every_reason() {
        let x = [("__name__", "x")];
        check(&x, NOW_MS, 1, "");
        check(&[("a", "b")], NOW_MS, 1, "without a metric name");
        check(&[("__name__", "x"), ("a", "1"), ("b", "2"), ("c", "3")], NOW_MS, 1, "too many labels");
        check(&[("__name__", "x"), ("", "1")], NOW_MS, 1, "empty label name");
        check(&[("__name__", "12345678901")], NOW_MS, 1, "label value too long");
        check(&x, NOW_MS - MS_PER_DAY - 1, 1, "1 samples refused: older than the retention");
        check(&x, NOW_MS + MS_PER_DAY + 1, 1, "more than a day ahead");
        check(&x, NOW_MS + MS_PER_DAY, 1, "");
        check(&x, NOW_MS, 0, "too many active series");
        check(&[("__name__", "known")], NOW_MS, 0, "");
        check(&[("__name__", "many")], NOW_MS, 1, "too many series of a metric: the limit is 2");
    }
}
