//! Windows over plain floats, each in constant time: what the hot functions of ranges cost must not grow with the range.
//!
//! Results are those of [`super::rate`] and [`super::over_time`], the last bit of sums aside.

use std::collections::VecDeque;
use std::ops::Range;

use super::column::{Grid, absent};
use super::math;
use super::rate::{Kind, Stretch};
use super::select::Frame;
use crate::Samples;

/// The first and the past-the-last sample of each step's window.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    first: usize,
    past: usize,
    start_ms: i64,
    end_ms: i64,
}

/// Walks the windows of a grid; `visit` gets each and gives the value of those that are not empty.
fn slide(times: &[i64], grid: Grid, frame: Frame, mut value: impl FnMut(Bounds) -> f64) -> Vec<f64> {
    let (mut first, mut past) = (0, 0);
    let mut values = Vec::with_capacity(grid.steps);
    for t_ms in grid.times() {
        let end_ms = frame.end_ms(t_ms);
        let start_ms = end_ms.saturating_sub(frame.range_ms);
        while past < times.len() && times[past] <= end_ms {
            past += 1;
        }
        while first < past && times[first] <= start_ms {
            first += 1;
        }
        values.push(if first < past { value(Bounds { first, past, start_ms, end_ms }) } else { absent() });
    }
    values
}

/// A function's value per step, of samples that are all floats without staleness markers. `None` for the functions, and
/// the samples, that need a closer look.
pub(super) fn values(name: &str, params: &[Vec<f64>], samples: &Samples, grid: Grid, frame: Frame) -> Option<Vec<f64>> {
    let Samples { timestamps_ms: times, values, starts_ms, .. } = samples;
    if !starts_ms.is_empty() {
        return None;
    }
    Some(match name {
        "rate" => changes(samples, grid, frame, Kind { is_counter: true, is_rate: true }),
        "increase" => changes(samples, grid, frame, Kind { is_counter: true, is_rate: false }),
        "delta" => changes(samples, grid, frame, Kind { is_counter: false, is_rate: false }),
        "count_over_time" => slide(times, grid, frame, |window| (window.past - window.first) as f64),
        "last_over_time" => slide(times, grid, frame, |window| values[window.past - 1]),
        "present_over_time" | "absent_over_time" => slide(times, grid, frame, |_| 1.0),
        "max_over_time" => extremes(times, values, grid, frame, |a, b| a > b),
        "min_over_time" => extremes(times, values, grid, frame, |a, b| a < b),
        "quantile_over_time" => quantiles(times, values, params.first()?, grid, frame)?,
        "sum_over_time" | "avg_over_time" => {
            let sums = PrefixSums::new(values)?;
            let is_mean = name == "avg_over_time";
            slide(times, grid, frame, |window| {
                let sum = sums.between(window.first, window.past);
                if is_mean { sum / (window.past - window.first) as f64 } else { sum }
            })
        }
        _ => return None,
    })
}

fn changes(samples: &Samples, grid: Grid, frame: Frame, kind: Kind) -> Vec<f64> {
    let resets = if kind.is_counter { super::rate::resets(samples) } else { Vec::new() };
    let steady = if resets.is_empty() { Steady::of(&samples.timestamps_ms, grid, frame) } else { None };
    let Some(steady) = steady else { return sliding_changes(samples, grid, frame, kind, &resets) };
    let part = |steps: Range<usize>| Grid { start_ms: grid.time(steps.start), steps: steps.len(), ..grid };
    let mut values = sliding_changes(samples, part(0..steady.steps.start), frame, kind, &resets);
    values.reserve(grid.steps);
    steady.add_changes(samples, part(steady.steps.clone()), frame, kind, &mut values);
    values.extend(sliding_changes(samples, part(steady.steps.end..grid.steps), frame, kind, &resets));
    values
}

/// Steps whose windows are alike: samples come as often as steps are taken, so that each window is the one before, moved by
/// one sample.
struct Steady {
    steps: Range<usize>,
    /// Of the first of these windows.
    first: usize,
    past: usize,
}

impl Steady {
    /// The steps whose windows are full, where they have three samples or more.
    fn of(times: &[i64], grid: Grid, frame: Frame) -> Option<Steady> {
        let end_ms = frame.end_ms(grid.start_ms);
        let moves = grid.steps > 1 && frame.end_ms(grid.time(1)).wrapping_sub(end_ms) == grid.step_ms;
        let differs = |pair: &[i64]| pair[1].wrapping_sub(pair[0]) ^ grid.step_ms;
        if !moves || times.windows(2).fold(0, |any, pair| any | differs(pair)) != 0 {
            return None;
        }
        // How many samples are not after an instant, if there had been some for ever.
        let origin_ms = *times.first()?;
        let until = |ms: i64| ms.saturating_sub(origin_ms).div_euclid(grid.step_ms).saturating_add(1);
        let (first, past) = (until(end_ms.saturating_sub(frame.range_ms)), until(end_ms));
        let begin = first.saturating_neg().max(0);
        let end = (times.len() as i64 + 1).saturating_sub(past).min(grid.steps as i64);
        if past.saturating_sub(first) < 3 || begin >= end {
            return None;
        }
        let (first, past) = ((first + begin) as usize, (past + begin) as usize);
        Some(Steady { steps: begin as usize..end as usize, first, past })
    }

    /// The change of each window; `grid` is that of its steps.
    fn add_changes(&self, samples: &Samples, grid: Grid, frame: Frame, kind: Kind, out: &mut Vec<f64>) {
        let Steady { first, past, .. } = *self;
        let stretch = |step: usize| {
            let end_ms = frame.end_ms(grid.time(step));
            let times = &samples.timestamps_ms[first + step..past + step];
            Stretch { kind, start_ms: end_ms.saturating_sub(frame.range_ms), end_ms, times, counts_from_ms: None }
        };
        let alike = stretch(0);
        let factor = alike.factor(0.0, 0.0);
        let firsts = &samples.values[first..first + grid.steps];
        let lasts = &samples.values[past - 1..past - 1 + grid.steps];
        let (begin, mut may_reach_zero) = (out.len(), false);
        out.extend(firsts.iter().zip(lasts).map(|(first, last)| {
            let change = last - first;
            may_reach_zero |= alike.may_reach_zero(*first, change);
            change * factor
        }));
        if !may_reach_zero {
            return;
        }
        for (step, (first, last)) in firsts.iter().zip(lasts).enumerate() {
            let change = last - first;
            if alike.may_reach_zero(*first, change) {
                out[begin + step] = change * stretch(step).factor(*first, change);
            }
        }
    }
}

fn sliding_changes(samples: &Samples, grid: Grid, frame: Frame, kind: Kind, resets: &[usize]) -> Vec<f64> {
    let (times, values) = (&samples.timestamps_ms, &samples.values);
    let (mut first_reset, mut past_reset) = (0, 0);
    let mut factors = Factors::default();
    slide(times, grid, frame, |Bounds { first, past, start_ms, end_ms }| {
        while past_reset < resets.len() && resets[past_reset] < past {
            past_reset += 1;
        }
        while first_reset < past_reset && resets[first_reset] <= first {
            first_reset += 1;
        }
        if past - first < 2 {
            return absent();
        }
        let mut change = values[past - 1] - values[first];
        for place in &resets[first_reset..past_reset] {
            change += values[place - 1];
        }
        let stretch = Stretch { kind, start_ms, end_ms, times: &times[first..past], counts_from_ms: None };
        change * factors.of(&stretch, values[first], change)
    })
}

/// The factor of the window before: of a series that is scraped regularly it is the next one's too.
#[derive(Default)]
struct Factors {
    /// How many samples the window had; 0 before the first.
    count: usize,
    lasts_ms: i64,
    /// How far the last one is from the window's end: windows of one length are then alike.
    to_end_ms: i64,
    factor: f64,
}

impl Factors {
    #[inline]
    fn of(&mut self, stretch: &Stretch<'_>, first: f64, change: f64) -> f64 {
        let Stretch { times, end_ms, .. } = *stretch;
        let count = times.len();
        let (from_ms, to_ms) = (times[0], times[count - 1]);
        let (lasts_ms, to_end_ms) = (to_ms - from_ms, end_ms - to_ms);
        if stretch.may_reach_zero(first, change) {
            return stretch.factor(first, change);
        }
        // One number: so the comparison stays in registers.
        if (lasts_ms ^ self.lasts_ms) | (to_end_ms ^ self.to_end_ms) != 0 || count != self.count {
            let factor = stretch.factor(first, change);
            *self = Factors { count, lasts_ms, to_end_ms, factor };
        }
        self.factor
    }
}

/// The value of each window that beats all others; NaN only where there is nothing else.
fn extremes(times: &[i64], values: &[f64], grid: Grid, frame: Frame, beats: fn(f64, f64) -> bool) -> Vec<f64> {
    // Places of values that no later one beats: the front is the extreme.
    let mut places: VecDeque<usize> = VecDeque::new();
    let mut seen = 0;
    slide(times, grid, frame, |window| {
        for place in seen..window.past {
            if values[place].is_nan() {
                continue;
            }
            while places.back().is_some_and(|back| beats(values[place], values[*back])) {
                places.pop_back();
            }
            places.push_back(place);
        }
        seen = seen.max(window.past);
        while places.front().is_some_and(|front| *front < window.first) {
            places.pop_front();
        }
        places.front().map_or(f64::NAN, |place| values[*place])
    })
}

/// The quantile of each window, which is kept sorted. `None` where the quantile changes with the steps, or is out of
/// bounds, which must be noted.
fn quantiles(times: &[i64], values: &[f64], quantiles: &[f64], grid: Grid, frame: Frame) -> Option<Vec<f64>> {
    let q = *quantiles.first().filter(|q| (0.0..=1.0).contains(*q))?;
    if quantiles.iter().any(|other| *other != q) {
        return None;
    }
    let (mut sorted, mut held) = (Vec::new(), 0..0);
    Some(slide(times, grid, frame, |window| {
        // Of values that are in both windows nothing moves.
        for gone in &values[held.start..held.end.min(window.first)] {
            sorted.remove(sorted.partition_point(|other| math::nan_first(other, gone).is_lt()));
        }
        let unseen = held.end.max(window.first);
        for new in &values[unseen..window.past] {
            sorted.insert(sorted.partition_point(|other| math::nan_first(other, new).is_lt()), *new);
        }
        held = window.first..window.past;
        math::quantile_of_sorted(q, &sorted)
    }))
}

/// Sums up to each value, as pairs of floats that together have twice the digits of one.
struct PrefixSums(Vec<(f64, f64)>);

/// How far apart in size values may be for their sums to keep all digits that matter: pairs have 106 bits.
const MAX_RATIO: f64 = (1u64 << 50) as f64;

impl PrefixSums {
    /// `None` where values are not finite, or too far apart.
    fn new(values: &[f64]) -> Option<PrefixSums> {
        let (mut least, mut most) = (f64::INFINITY, 0.0f64);
        for value in values {
            let size = value.abs();
            most = if size > most || size.is_nan() { size } else { most };
            least = if size > 0.0 && size < least { size } else { least };
        }
        let is_sound = (most * values.len() as f64).is_finite() && (most == 0.0 || most / least <= MAX_RATIO);
        if !is_sound || values.iter().any(|value| value.is_nan()) {
            return None;
        }
        let mut sums = Vec::with_capacity(values.len() + 1);
        let (mut high, mut low) = (0.0, 0.0);
        sums.push((high, low));
        for value in values {
            let (sum, lost) = two_sum(high, *value);
            (high, low) = two_sum(sum, low + lost);
            sums.push((high, low));
        }
        Some(PrefixSums(sums))
    }

    fn between(&self, first: usize, past: usize) -> f64 {
        let ((from_high, from_low), (to_high, to_low)) = (self.0[first], self.0[past]);
        let (high, lost) = two_sum(to_high, -from_high);
        high + (lost + (to_low - from_low))
    }
}

/// The sum, and exactly what rounding lost of it.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    (sum, (a - (sum - b_part)) + (b - b_part))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::math::{mean, sum};
    use super::super::rate::counter_rate;
    use super::*;

    const GRID: Grid = Grid { start_ms: 0, step_ms: 700, steps: 30 };

    /// Every window as the plain definition computes it.
    fn check(samples: &Samples, name: &str, plain: impl Fn(&[i64], &[f64], i64, i64) -> Option<f64>) {
        let frame = Frame::plain(3000);
        let params = [vec![0.3; GRID.steps]];
        let Some(found) = values(name, &params, samples, GRID, frame) else { return };
        for (t_ms, found) in GRID.times().zip(found) {
            let inside = |t: &i64| *t > t_ms - 3000 && *t <= t_ms;
            let first = samples.timestamps_ms.iter().position(inside).unwrap_or(0);
            let count = samples.timestamps_ms.iter().filter(|t| inside(t)).count();
            let (times, values) = (&samples.timestamps_ms[first..first + count], &samples.values[first..first + count]);
            let expected =
                (count > 0).then(|| plain(times, values, t_ms - 3000, t_ms)).flatten().unwrap_or_else(absent);
            let is_same = found.to_bits() == expected.to_bits()
                || found.is_nan() && expected.is_nan()
                || (found - expected).abs() <= 1e-12 * expected.abs();
            assert!(is_same, "{name} at {t_ms}: {found}, not {expected}");
        }
    }

    proptest! {
        #[test]
        fn sliding_gives_what_the_definition_gives(
            steps in prop::collection::vec((1i64..2000, prop_oneof![8 => -100.0..100.0, 1 => Just(f64::NAN), 1 => Just(1e300)]), 0..40),
        ) {
            let mut samples = Samples::default();
            let mut t_ms = -1000;
            for (gap_ms, value) in steps {
                t_ms += gap_ms;
                samples.timestamps_ms.push(t_ms);
                samples.values.push(value);
            }
            check(&samples, "rate", counter_rate);
            check(&samples, "sum_over_time", |_, values, _, _| Some(sum(values.iter().copied())));
            check(&samples, "avg_over_time", |_, values, _, _| Some(mean(values)));
            check(&samples, "max_over_time", |_, values, _, _| Some(values.iter().copied().fold(f64::NAN, f64::max)));
            check(&samples, "min_over_time", |_, values, _, _| Some(values.iter().copied().fold(f64::NAN, f64::min)));
            check(&samples, "quantile_over_time", |_, values, _, _| Some(math::quantile(0.3, &mut values.to_vec())));
            check(&samples, "count_over_time", |_, values, _, _| Some(values.len() as f64));
            check(&samples, "last_over_time", |_, values, _, _| values.last().copied());
        }

        #[test]
        fn regular_samples_give_what_the_definition_gives(
            begins_ms in -6000i64..3000,
            values in prop::collection::vec(prop_oneof![6 => 0.0..1.0, 1 => -3.0..0.0, 1 => Just(f64::NAN)], 0..60),
            rises: bool,
        ) {
            let mut samples = Samples::default();
            let mut sum = 0.0;
            for (i, value) in values.into_iter().enumerate() {
                sum += value;
                samples.timestamps_ms.push(begins_ms + i as i64 * GRID.step_ms);
                samples.values.push(if rises { sum } else { value });
            }
            check(&samples, "rate", counter_rate);
            let gauge = |times: &[i64], values: &[f64], start_ms, end_ms| {
                let (first, last) = (*values.first()?, *values.last()?);
                let kind = Kind { is_counter: false, is_rate: false };
                let stretch = Stretch { kind, start_ms, end_ms, times, counts_from_ms: None };
                (values.len() > 1).then(|| (last - first) * stretch.factor(first, last - first))
            };
            check(&samples, "delta", gauge);
        }

        #[test]
        fn a_factor_holds_for_windows_that_are_alike(
            windows in prop::collection::vec((prop::collection::vec(1i64..3, 1..5), 0i64..8), 0..40),
            is_counter: bool,
        ) {
            let mut factors = Factors::default();
            for (gaps, to_end) in windows {
                let mut t_ms = -to_end * 100;
                let mut times: Vec<i64> = gaps.iter().map(|gap| { t_ms -= gap * 100; t_ms }).collect();
                times.reverse();
                let kind = Kind { is_counter, is_rate: true };
                let stretch = Stretch { kind, start_ms: -1015, end_ms: 0, times: &times, counts_from_ms: None };
                for first in [3.0, 1.05, 0.5, -1.0] {
                    let (found, expected) = (factors.of(&stretch, first, 1.0), stretch.factor(first, 1.0));
                    prop_assert_eq!(found.to_bits(), expected.to_bits(), "{:?} from {}", times, first);
                }
            }
        }
    }
}
