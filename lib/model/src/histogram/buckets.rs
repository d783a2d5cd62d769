//! Buckets one by one, by index and by bounds; merging and compacting them.

use super::bounds::bound;
use super::{BucketSpan, Buckets, Histogram};

/// One bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
    pub count: f64,
    /// Its place among the buckets of its sign; 0 for the zero bucket.
    pub index: i32,
}

impl Bucket {
    /// Which part of the bucket's width lies at or below `v`, a value strictly between its finite bounds: by the distance
    /// when `linear` (custom buckets, the zero bucket), by the ratio otherwise.
    pub fn fraction_below(&self, v: f64, linear: bool) -> f64 {
        if linear {
            return (v - self.lower) / (self.upper - self.lower);
        }
        let (lower, upper, at) = (self.lower.abs().log2(), self.upper.abs().log2(), v.abs().log2());
        if v > 0.0 { (at - lower) / (upper - lower) } else { 1.0 - (at - upper) / (lower - upper) }
    }

    /// How the HTTP API says which bounds belong to the bucket: 0 the upper, 1 the lower, 2 none, 3 both.
    pub fn boundary_rule(&self) -> u8 {
        match (self.lower_inclusive, self.upper_inclusive) {
            (false, true) => 0,
            (true, false) => 1,
            (false, false) => 2,
            (true, true) => 3,
        }
    }
}

impl Histogram {
    /// Positive buckets, rising.
    pub fn positive_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        self.positive.indexed().map(|(index, count)| self.positive_bucket(index, count))
    }

    /// Negative buckets from the one nearest to zero on, falling.
    pub fn negative_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        self.negative.indexed().map(|(index, count)| {
            let mirrored = self.positive_bucket(index, count);
            Bucket {
                lower: -mirrored.upper,
                upper: -mirrored.lower,
                lower_inclusive: mirrored.upper_inclusive,
                upper_inclusive: mirrored.lower_inclusive,
                ..mirrored
            }
        })
    }

    /// All buckets, rising. The zero bucket is among them when it is filled; where others reach into it, they are cut at
    /// the zero threshold.
    pub fn all_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        let threshold = self.zero_threshold;
        let cut_lower = move |bucket: Bucket| {
            let is_cut = bucket.lower > 0.0 && bucket.lower < threshold;
            Bucket { lower: if is_cut { threshold } else { bucket.lower }, ..bucket }
        };
        let cut_upper = move |bucket: Bucket| {
            let is_cut = bucket.upper < 0.0 && bucket.upper > -threshold;
            Bucket { upper: if is_cut { -threshold } else { bucket.upper }, ..bucket }
        };
        let zero = (self.zero_count > 0.0).then(|| self.zero_bucket());
        self.negative_buckets().rev().map(cut_upper).chain(zero).chain(self.positive_buckets().map(cut_lower))
    }

    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
            index: 0,
        }
    }

    fn positive_bucket(&self, index: i32, count: f64) -> Bucket {
        let upper = bound(index, self.schema, &self.custom_bounds);
        let lower = bound(index.wrapping_sub(1), self.schema, &self.custom_bounds);
        let lower_inclusive = if self.uses_custom_buckets() { index == 0 } else { lower < 0.0 };
        let upper_inclusive = self.uses_custom_buckets() || upper > 0.0;
        Bucket { lower, upper, lower_inclusive, upper_inclusive, count, index }
    }
}

impl Buckets {
    /// Indexes and counts, from the lowest index on.
    pub fn indexed(&self) -> Indexed<'_> {
        let length = |span: &BucketSpan| span.offset.wrapping_add_unsigned(span.length);
        let behind = self.spans.iter().fold(0i32, |index, span| index.wrapping_add(length(span)));
        Indexed {
            buckets: self,
            front: Place { span: 0, left: None, index: 0 },
            back: Place { span: self.spans.len(), left: None, index: behind },
            counts: 0..self.counts.len(),
        }
    }

    /// Buckets of rising indexes; neighbours share a span.
    pub fn from_indexed(buckets: impl IntoIterator<Item = (i32, f64)>) -> Buckets {
        let mut made = Buckets::default();
        let mut behind = 0i32;
        for (index, count) in buckets {
            match made.spans.last_mut() {
                Some(span) if index == behind => span.length += 1,
                _ => made.spans.push(BucketSpan { offset: index.wrapping_sub(behind), length: 1 }),
            }
            made.counts.push(count);
            behind = index.wrapping_add(1);
        }
        made
    }

    pub(super) fn equals(&self, other: &Buckets) -> bool {
        let is_same = |((a, x), (b, y)): ((i32, f64), (i32, f64))| a == b && x.to_bits() == y.to_bits();
        self.counts.len() == other.counts.len() && self.indexed().zip(other.indexed()).all(is_same)
    }

    pub(super) fn compact(&mut self) {
        let is_compact = self.counts.iter().all(|count| *count != 0.0)
            && self.spans.iter().skip(1).all(|span| span.offset > 0)
            && self.spans.iter().all(|span| span.length > 0);
        if !is_compact {
            *self = Buckets::from_indexed(self.indexed().filter(|(_, count)| *count != 0.0));
        }
    }

    /// The buckets of a schema that is `shift` lower.
    pub(super) fn merged(&self, shift: u32) -> Buckets {
        let mut merged: Vec<(i32, f64)> = Vec::with_capacity(self.counts.len());
        for (index, count) in self.indexed() {
            let index = index_at(index, shift);
            match merged.last_mut() {
                Some((last, sum)) if *last == index => *sum += count,
                _ => merged.push((index, count)),
            }
        }
        Buckets::from_indexed(merged)
    }
}

/// A bucket's index in a schema that is `shift` lower.
pub(super) fn index_at(index: i32, shift: u32) -> i32 {
    (index.wrapping_sub(1) >> shift.min(31)).wrapping_add(1)
}

/// Iterates over the indexes and counts of [`Buckets`], from both ends.
pub struct Indexed<'a> {
    buckets: &'a Buckets,
    front: Place,
    back: Place,
    /// The counts that neither end has passed.
    counts: std::ops::Range<usize>,
}

struct Place {
    span: usize,
    /// Buckets left in the span; `None` before it is entered.
    left: Option<u32>,
    index: i32,
}

impl Iterator for Indexed<'_> {
    type Item = (i32, f64);

    fn next(&mut self) -> Option<(i32, f64)> {
        let place = &mut self.front;
        loop {
            match place.left {
                Some(0) => {
                    place.span += 1;
                    place.left = None;
                }
                Some(left) => {
                    let at = self.counts.next()?;
                    place.left = Some(left - 1);
                    let index = place.index;
                    place.index = index.wrapping_add(1);
                    return Some((index, self.buckets.counts[at]));
                }
                None => {
                    let span = self.buckets.spans.get(place.span)?;
                    place.index = place.index.wrapping_add(span.offset);
                    place.left = Some(span.length);
                }
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.counts.len()))
    }
}

impl DoubleEndedIterator for Indexed<'_> {
    fn next_back(&mut self) -> Option<(i32, f64)> {
        let place = &mut self.back;
        loop {
            match place.left {
                Some(0) => {
                    place.index = place.index.wrapping_sub(self.buckets.spans[place.span].offset);
                    place.left = None;
                }
                Some(left) => {
                    let at = self.counts.next_back()?;
                    place.left = Some(left - 1);
                    place.index = place.index.wrapping_sub(1);
                    return Some((place.index, self.buckets.counts[at]));
                }
                None => {
                    place.span = place.span.checked_sub(1)?;
                    place.left = Some(self.buckets.spans[place.span].length);
                }
            }
        }
    }
}
