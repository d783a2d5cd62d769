//! `load`: samples as a script writes them, and as Prometheus' storage would hand them back.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{ClassicHistogram, Histogram, Labels, METRIC_NAME, ResetHint};

use super::ScriptStore;
use super::notation::{WrittenSeries, parse_series, parse_starts, start_line};
use crate::Point;

/// Puts a block's series into `store`, their values `step_ms` apart from `start_ms`.
pub fn load(
    store: &mut dyn ScriptStore,
    start_ms: i64,
    step_ms: i64,
    block: &[&str],
    with_custom_buckets: bool,
) -> Result<(), String> {
    let mut starts: Option<(Labels, Vec<Option<i64>>)> = None;
    let mut classic = Classic::default();
    for line in block {
        if let Some((series, values)) = start_line(line) {
            let (labels, _) = parse_series(series)?;
            starts = Some((labels, parse_starts(values)?));
            continue;
        }
        let series = parse_series(line)?;
        let offsets = match starts.take() {
            Some((labels, _)) if labels != series.0 => {
                return Err("@st metric does not match the following sample line metric".to_owned());
            }
            Some((_, offsets)) if offsets.len() != series.1.len() => {
                let (starts, samples) = (offsets.len(), series.1.len());
                return Err(format!("@st line has {starts} values but sample line has {samples}"));
            }
            Some((_, offsets)) => offsets,
            None => Vec::new(),
        };
        let t_ms = |i: usize| start_ms.saturating_add((i as i64).saturating_mul(step_ms));
        if with_custom_buckets {
            classic.add(&series, t_ms)?;
        }
        put(store, series, &offsets, t_ms)?;
    }
    if starts.is_some() {
        return Err("@st line has no following sample line".to_owned());
    }
    classic.put(store)
}

fn put(
    store: &mut dyn ScriptStore,
    (labels, values): WrittenSeries,
    start_offsets_ms: &[Option<i64>],
    t_ms: impl Fn(usize) -> i64,
) -> Result<(), String> {
    let mut before = None;
    for (i, written) in values.into_iter().enumerate() {
        let Some(written) = written else { continue };
        let start_ms = start_offsets_ms.get(i).copied().flatten().map(|offset_ms| t_ms(i).saturating_add(offset_ms));
        let point = stored(written.point, &before);
        store.push(&labels, t_ms(i), point.clone(), start_ms)?;
        before = Some(point);
    }
    Ok(())
}

/// A histogram says that the counter was not reset since the sample before, where that is known. That it was reset is never
/// said, for Prometheus' store does not.
fn stored(point: Point, before: &Option<Point>) -> Point {
    let Point::Histogram(histogram) = &point else { return point };
    if !matches!(histogram.reset_hint, ResetHint::Unknown | ResetHint::Reset) {
        return point;
    }
    let reset_hint = match before {
        Some(Point::Histogram(before)) if before.reset_hint == ResetHint::Gauge => ResetHint::Unknown,
        Some(Point::Histogram(before)) if histogram.detect_reset(before) => ResetHint::Unknown,
        Some(Point::Histogram(_)) => ResetHint::NotReset,
        Some(Point::Float(_)) | None => ResetHint::Unknown,
    };
    Point::from(Histogram { reset_hint, ..Histogram::clone(histogram) })
}

/// Classic histograms of a block, to become histograms with custom buckets.
#[derive(Default)]
struct Classic {
    by_series: BTreeMap<Labels, BTreeMap<i64, ClassicHistogram>>,
}

impl Classic {
    fn add(&mut self, (labels, values): &WrittenSeries, t_ms: impl Fn(usize) -> i64) -> Result<(), String> {
        let name = labels.get(METRIC_NAME).unwrap_or("");
        let suffix = ["_bucket", "_count", "_sum"].into_iter().find(|suffix| name.ends_with(suffix));
        let Some(suffix) = suffix else { return Ok(()) };
        let bound = match suffix {
            "_bucket" => {
                let text = labels.get("le").ok_or_else(|| format!("expected bucket label in metric {labels}"))?;
                match text.parse::<f64>() {
                    Ok(bound) if !bound.is_nan() => bound,
                    _ => return Ok(()),
                }
            }
            _ => 0.0,
        };
        let base = labels.without(&["le"]).with(METRIC_NAME, name.strip_suffix(suffix).unwrap_or(name));
        let at = self.by_series.entry(base).or_default();
        for (i, written) in values.iter().enumerate() {
            let Some(value) = written.as_ref().and_then(|written| written.point.float()) else { continue };
            let histogram = at.entry(t_ms(i)).or_default();
            // What does not fit together fails the conversion.
            let _ = match suffix {
                "_bucket" => histogram.set_bucket(bound, value),
                "_count" => histogram.set_count(value),
                _ => {
                    histogram.set_sum(value);
                    Ok(())
                }
            };
        }
        Ok(())
    }

    fn put(self, store: &mut dyn ScriptStore) -> Result<(), String> {
        for (labels, by_time) in self.by_series {
            let mut before = None;
            for (t_ms, classic) in by_time {
                let histogram = classic.convert().map_err(|error| error.to_string())?;
                let point = stored(Point::Histogram(Arc::new(histogram)), &before);
                store.push(&labels, t_ms, point.clone(), None)?;
                before = Some(point);
            }
        }
        Ok(())
    }
}
