//! Adding, subtracting and scaling.
//!
//! Two exponential histograms meet at the lower of their resolutions and at a zero bucket that holds both zero buckets and
//! cuts no filled bucket; two with custom bounds meet at the bounds that both have.
//!
//! Sums of many keep beside them what rounding lost ([`Histogram::add_compensated`], after Kahan and Neumaier), in a
//! histogram with the same buckets; adding that one in the end gives the sum.

use super::bounds::exponential_bound;
use super::buckets::index_at;
use super::{Buckets, CUSTOM_SCHEMA, Histogram, HistogramError, ResetHint};

/// What happened when two histograms were combined that a user may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Combined {
    /// One said that it comes after a counter reset, the other that it does not.
    pub reset_hints_collide: bool,
    /// The custom bounds differed, and the result has those that both had.
    pub bounds_reconciled: bool,
}

/// A bucket of a sum: its count, and what rounding lost of it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Entry {
    index: i32,
    sum: f64,
    lost: f64,
}

impl Entry {
    fn add(&mut self, term: f64) {
        (self.sum, self.lost) = compensated_sum(term, self.sum, self.lost);
    }
}

/// The sum, and what it lost by rounding added to what was lost before.
pub(super) fn compensated_sum(term: f64, sum: f64, lost: f64) -> (f64, f64) {
    let total = sum + term;
    let lost = if total.is_infinite() {
        0.0
    } else if sum.abs() >= term.abs() {
        lost + ((sum - total) + term)
    } else {
        lost + ((term - total) + sum)
    };
    (total, lost)
}

impl Histogram {
    /// Adds another one to this one.
    pub fn add(&mut self, other: &Histogram) -> Result<Combined, HistogramError> {
        self.combine(other, false, None)
    }

    /// Subtracts another one. The result of PromQL's `-` is a gauge: the caller sets that hint.
    pub fn sub(&mut self, other: &Histogram) -> Result<Combined, HistogramError> {
        self.combine(other, true, None)
    }

    /// Adds another one, and to `lost` what rounding loses. Start with `None`; in the end `add` what is there.
    pub fn add_compensated(
        &mut self,
        other: &Histogram,
        lost: &mut Option<Histogram>,
    ) -> Result<Combined, HistogramError> {
        self.check_compatible(other)?;
        self.combine(other, false, Some(lost.get_or_insert_with(|| self.emptied())))
    }

    /// Multiplies all counts and the sum. By a negative factor it becomes a gauge.
    pub fn mul(&mut self, factor: f64) {
        self.map_counts(|count| count * factor);
        if factor < 0.0 {
            self.reset_hint = ResetHint::Gauge;
        }
    }

    /// Divides all counts and the sum. By zero no bucket is left.
    pub fn div(&mut self, divisor: f64) {
        self.map_counts(|count| count / divisor);
        if divisor == 0.0 {
            (self.positive, self.negative) = (Buckets::default(), Buckets::default());
        } else if divisor < 0.0 {
            self.reset_hint = ResetHint::Gauge;
        }
    }

    fn map_counts(&mut self, map: impl Fn(f64) -> f64) {
        let counts = self.positive.counts.iter_mut().chain(&mut self.negative.counts);
        for count in counts.chain([&mut self.zero_count, &mut self.count, &mut self.sum]) {
            *count = map(*count);
        }
    }

    /// The same buckets with nothing in them.
    fn emptied(&self) -> Histogram {
        let mut empty = self.clone();
        empty.map_counts(|_| 0.0);
        empty
    }

    fn check_compatible(&self, other: &Histogram) -> Result<(), HistogramError> {
        let is_compatible = self.uses_custom_buckets() == other.uses_custom_buckets();
        if is_compatible { Ok(()) } else { Err(HistogramError::IncompatibleSchemas) }
    }

    /// What is known of resets after combining. Answers whether the hints contradict one another.
    fn combine_hints(&mut self, other: ResetHint) -> bool {
        use ResetHint::{Gauge, NotReset, Reset, Unknown};
        let (hint, collide) = match (self.reset_hint, other) {
            (a, b) if a == b => (a, false),
            (Gauge, _) | (_, Gauge) => (Gauge, false),
            (Reset, NotReset) | (NotReset, Reset) => (Unknown, true),
            _ => (Unknown, false),
        };
        self.reset_hint = hint;
        collide
    }

    fn combine(
        &mut self,
        other: &Histogram,
        subtract: bool,
        mut lost: Option<&mut Histogram>,
    ) -> Result<Combined, HistogramError> {
        self.check_compatible(other)?;
        let reset_hints_collide = self.combine_hints(other.reset_hint);
        let mut bounds_reconciled = false;
        let other_zero_count =
            if self.uses_custom_buckets() { 0.0 } else { self.reconcile_zero_buckets(other, lost.as_deref_mut()) };
        let signed = |term: f64| if subtract { -term } else { term };
        let terms = [other_zero_count, other.count, other.sum].map(signed);
        let mut ignored = Histogram::default();
        let rest = lost.as_deref_mut().unwrap_or(&mut ignored);
        (self.zero_count, rest.zero_count) = compensated_sum(terms[0], self.zero_count, rest.zero_count);
        (self.count, rest.count) = compensated_sum(terms[1], self.count, rest.count);
        (self.sum, rest.sum) = compensated_sum(terms[2], self.sum, rest.sum);
        if self.uses_custom_buckets() && self.custom_bounds != other.custom_bounds {
            bounds_reconciled = true;
            self.combine_custom(other, subtract, lost);
        } else {
            self.combine_buckets(other, subtract, lost);
        }
        Ok(Combined { reset_hints_collide, bounds_reconciled })
    }

    /// Adds buckets at the lower schema of the two; those within the zero bucket are in its count already.
    fn combine_buckets(&mut self, other: &Histogram, subtract: bool, mut lost: Option<&mut Histogram>) {
        let schema = self.schema.min(other.schema);
        let (own_shift, other_shift) = ((self.schema - schema) as u32, (other.schema - schema) as u32);
        let is_plain = lost.is_none();
        let mut ignored = Histogram::default();
        let rest = lost.as_deref_mut().unwrap_or(&mut ignored);
        let threshold = if schema == CUSTOM_SCHEMA { None } else { Some(self.zero_threshold) };
        let sides = [
            (&mut self.positive, &other.positive, &mut rest.positive),
            (&mut self.negative, &other.negative, &mut rest.negative),
        ];
        for (own, theirs, rest) in sides {
            let is_same_layout = own_shift == 0 && other_shift == 0 && own.spans == theirs.spans;
            if is_plain
                && is_same_layout
                && own.counts.len() == theirs.counts.len()
                && !reaches_zero(theirs, schema, threshold)
            {
                let signed = |term: f64| if subtract { -term } else { term };
                own.counts.iter_mut().zip(&theirs.counts).for_each(|(sum, term)| *sum += signed(*term));
                continue;
            }
            let mine = entries(own.indexed(), Some(&rest.counts), own_shift);
            // Before merging: a coarser bucket may lie on both sides of the threshold.
            let outside = theirs.indexed().filter(|(index, _)| !is_within_zero(*index, other.schema, threshold));
            let mut theirs = entries(outside, None, other_shift);
            if subtract {
                theirs.iter_mut().for_each(|entry| (entry.sum, entry.lost) = (-entry.sum, -entry.lost));
            }
            if is_plain {
                theirs.iter_mut().for_each(|entry| entry.lost = 0.0);
            }
            (*own, rest.counts) = layout(&merge(mine, theirs));
            rest.spans.clone_from(&own.spans);
        }
        self.schema = schema;
        if let Some(lost) = lost {
            (lost.schema, lost.zero_threshold) = (schema, self.zero_threshold);
        }
    }

    /// Adds buckets with custom bounds at the bounds that both have.
    fn combine_custom(&mut self, other: &Histogram, subtract: bool, lost: Option<&mut Histogram>) {
        let bounds = common_bounds(&self.custom_bounds, &other.custom_bounds);
        let mut sums: Vec<Entry> =
            (0..=bounds.len()).map(|index| Entry { index: index as i32, sum: 0.0, lost: 0.0 }).collect();
        let rest = lost.as_ref().map(|lost| lost.positive.counts.as_slice());
        for entry in entries(self.positive.indexed(), rest, 0) {
            let into = &mut sums[place_among(&bounds, &self.custom_bounds, entry.index)];
            into.add(entry.sum);
            into.add(entry.lost);
        }
        for (index, count) in other.positive.indexed() {
            sums[place_among(&bounds, &other.custom_bounds, index)].add(if subtract { -count } else { count });
        }
        sums.retain(|entry| entry.sum != 0.0 || entry.lost != 0.0);
        let counts;
        (self.positive, counts) = layout(&sums);
        if let Some(lost) = lost {
            lost.positive = Buckets { spans: self.positive.spans.clone(), counts };
            lost.custom_bounds.clone_from(&bounds);
        }
        self.custom_bounds = bounds;
    }

    /// Widens this zero bucket until it holds the other's and cuts no filled bucket of either. Answers what the other's
    /// count is at that width.
    fn reconcile_zero_buckets(&mut self, other: &Histogram, mut lost: Option<&mut Histogram>) -> f64 {
        let (mut other_count, mut other_threshold) = (other.zero_count, other.zero_threshold);
        while other_threshold != self.zero_threshold {
            if self.zero_threshold > other_threshold {
                (other_count, _, other_threshold) = other.zero_count_within(self.zero_threshold, None);
            } else if other_threshold > self.zero_threshold {
                let (count, rest, threshold) = self.zero_count_within(other_threshold, lost.as_deref());
                (self.zero_count, self.zero_threshold) = (count, threshold);
                if let Some(lost) = lost.as_deref_mut() {
                    lost.zero_count = rest;
                }
                self.drop_within_zero(lost.as_deref_mut());
            } else {
                break; // A threshold is no number: there is nothing to meet at.
            }
        }
        other_count
    }

    /// The zero count if the zero bucket reached to `threshold`, with what rounding lost, and the threshold: the end of
    /// the filled bucket that it would cut.
    pub(super) fn zero_count_within(&self, mut threshold: f64, lost: Option<&Histogram>) -> (f64, f64, f64) {
        let lost_zero = lost.map_or(0.0, |lost| lost.zero_count);
        let (lost_positive, lost_negative) = (lost.map(|lost| &lost.positive), lost.map(|lost| &lost.negative));
        let sides = [(&self.positive, lost_positive), (&self.negative, lost_negative)];
        if threshold == self.zero_threshold {
            return (self.zero_count, lost_zero, threshold);
        }
        'wider: loop {
            let mut zero = Entry { index: 0, sum: self.zero_count, lost: lost_zero };
            for (buckets, lost) in sides {
                for (at, (index, count)) in buckets.indexed().enumerate() {
                    if exponential_bound(index.wrapping_sub(1), self.schema) >= threshold {
                        break;
                    }
                    let upper = exponential_bound(index, self.schema);
                    if upper > threshold {
                        if count != 0.0 {
                            threshold = upper;
                            continue 'wider;
                        }
                        break;
                    }
                    zero.add(count);
                    zero.add(lost.map_or(0.0, |lost| lost.counts[at]));
                }
            }
            return (zero.sum, zero.lost, threshold);
        }
    }

    /// Removes the buckets that the zero bucket holds.
    fn drop_within_zero(&mut self, lost: Option<&mut Histogram>) {
        let (schema, threshold) = (self.schema, self.zero_threshold);
        let mut ignored = Histogram::default();
        let rest = lost.unwrap_or(&mut ignored);
        for (own, rest) in [(&mut self.positive, &mut rest.positive), (&mut self.negative, &mut rest.negative)] {
            let mut kept = entries(own.indexed(), Some(&rest.counts), 0);
            kept.retain(|entry| {
                let is_outside = exponential_bound(entry.index.wrapping_sub(1), schema) >= threshold;
                is_outside && (entry.sum != 0.0 || entry.lost != 0.0)
            });
            (*own, rest.counts) = layout(&kept);
            rest.spans.clone_from(&own.spans);
        }
    }
}

fn is_within_zero(index: i32, schema: i8, threshold: Option<f64>) -> bool {
    threshold.is_some_and(|threshold| exponential_bound(index, schema) <= threshold)
}

fn reaches_zero(buckets: &Buckets, schema: i8, threshold: Option<f64>) -> bool {
    buckets.indexed().next().is_some_and(|(first, _)| is_within_zero(first, schema, threshold))
}

/// Buckets with what was lost of each, at a schema that is `shift` lower.
fn entries(buckets: impl Iterator<Item = (i32, f64)>, lost: Option<&[f64]>, shift: u32) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for (at, (index, sum)) in buckets.enumerate() {
        let index = if shift == 0 { index } else { index_at(index, shift) };
        let lost = lost.and_then(|lost| lost.get(at)).copied().unwrap_or(0.0);
        match entries.last_mut() {
            Some(last) if last.index == index => {
                last.add(sum);
                last.add(lost);
            }
            _ => entries.push(Entry { index, sum, lost }),
        }
    }
    entries
}

/// The sum of two lists of rising indexes.
fn merge(mine: Vec<Entry>, theirs: Vec<Entry>) -> Vec<Entry> {
    let mut merged = Vec::with_capacity(mine.len() + theirs.len());
    let (mut mine, mut theirs) = (mine.into_iter().peekable(), theirs.into_iter().peekable());
    loop {
        let (a, b) = (mine.peek().map(|entry| entry.index), theirs.peek().map(|entry| entry.index));
        let next = match (a, b) {
            (Some(a), Some(b)) if a == b => mine.next().zip(theirs.next()).map(|(mut sum, term)| {
                sum.add(term.sum);
                if term.lost != 0.0 {
                    sum.add(term.lost);
                }
                sum
            }),
            (Some(a), Some(b)) if a < b => mine.next(),
            (Some(_), None) => mine.next(),
            _ => theirs.next(),
        };
        match next {
            Some(entry) => merged.push(entry),
            None => return merged,
        }
    }
}

/// Entries as buckets, and what was lost of each.
fn layout(entries: &[Entry]) -> (Buckets, Vec<f64>) {
    let buckets = Buckets::from_indexed(entries.iter().map(|entry| (entry.index, entry.sum)));
    (buckets, entries.iter().map(|entry| entry.lost).collect())
}

/// The bounds that two rising lists share.
pub(super) fn common_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().copied().filter(|bound| b.binary_search_by(|other| other.total_cmp(bound)).is_ok()).collect()
}

/// Where a custom bucket goes among fewer bounds.
pub(super) fn place_among(fewer: &[f64], own: &[f64], index: i32) -> usize {
    let upper = usize::try_from(index).ok().and_then(|at| own.get(at));
    upper.map_or(fewer.len(), |upper| fewer.partition_point(|bound| bound < upper))
}
