//! Histograms as text, as Prometheus prints them.

use std::fmt::{self, Write};

use super::{Bucket, Buckets, Histogram, ResetHint};

/// Buckets written out between the first and the last filled one, at most.
const MAX_WRITTEN_BUCKETS: usize = 65_536;

/// `{count:3, sum:2.5, [-0.5,0.5]:1, (1,2]:2}`: filled buckets, rising.
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", shortest(self.count), shortest(self.sum))?;
        let zero = (self.zero_count != 0.0 && !self.uses_custom_buckets()).then(|| self.zero_bucket());
        let all = self.negative_buckets().rev().chain(zero).chain(self.positive_buckets());
        for bucket in all.filter(|bucket| bucket.count != 0.0) {
            write!(f, ", {bucket}")?;
        }
        f.write_char('}')
    }
}

/// `(1,2]:2`.
impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.lower_inclusive { '[' } else { '(' };
        let close = if self.upper_inclusive { ']' } else { ')' };
        let (lower, upper, count) = (shortest(self.lower), shortest(self.upper), shortest(self.count));
        write!(f, "{open}{lower},{upper}{close}:{count}")
    }
}

impl Histogram {
    /// The filled buckets as the HTTP API shows them, rising.
    pub fn api_buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.all_buckets().filter(|bucket| bucket.count != 0.0)
    }

    /// The notation of query scripts and rule tests: `{{schema:1 count:3 sum:2.5 buckets:[1 0 2]}}`.
    pub fn test_expression(&self) -> String {
        let mut parts = Vec::new();
        if self.schema != 0 {
            parts.push(format!("schema:{}", self.schema));
        }
        let numbers = [
            ("count", self.count),
            ("sum", self.sum),
            ("z_bucket", self.zero_count),
            ("z_bucket_w", self.zero_threshold),
        ];
        for (name, number) in numbers.into_iter().filter(|(_, number)| *number != 0.0) {
            parts.push(format!("{name}:{}", shortest(number)));
        }
        if self.uses_custom_buckets() {
            parts.push(format!("custom_values:[{}]", spaced(self.custom_bounds.iter().copied())));
        }
        match self.reset_hint {
            ResetHint::Unknown => {}
            ResetHint::Reset => parts.push("counter_reset_hint:reset".to_owned()),
            ResetHint::NotReset => parts.push("counter_reset_hint:not_reset".to_owned()),
            ResetHint::Gauge => parts.push("counter_reset_hint:gauge".to_owned()),
        }
        for (buckets, name, offset_name) in
            [(&self.positive, "buckets", "offset"), (&self.negative, "n_buckets", "n_offset")]
        {
            let (offset, counts) = contiguous(buckets);
            if offset != 0 {
                parts.push(format!("{offset_name}:{offset}"));
            }
            if !counts.is_empty() {
                parts.push(format!("{name}:[{}]", spaced(counts.into_iter())));
            }
        }
        format!("{{{{{}}}}}", parts.join(" "))
    }
}

/// The index of the first filled bucket, and all counts from there to the last filled one.
fn contiguous(buckets: &Buckets) -> (i32, Vec<f64>) {
    let mut filled = buckets.indexed().filter(|(_, count)| *count != 0.0).peekable();
    let first = filled.peek().map_or(0, |(index, _)| *index);
    let mut counts = Vec::new();
    for (index, count) in filled {
        let at = (i64::from(index) - i64::from(first)) as usize;
        if at >= MAX_WRITTEN_BUCKETS {
            break;
        }
        counts.resize(at, 0.0);
        counts.push(count);
    }
    (first, counts)
}

fn spaced(numbers: impl Iterator<Item = f64>) -> String {
    numbers.map(shortest).collect::<Vec<_>>().join(" ")
}

/// A float as Go's `%g` prints it: the shortest digits that give it back, with an exponent below −4 and from 6 on.
pub(super) fn shortest(value: f64) -> String {
    const MAX_PLAIN_EXPONENT: i32 = 6;
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value == 0.0 || (-4..MAX_PLAIN_EXPONENT).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}
