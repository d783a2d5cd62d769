//! Numerics that windows and aggregations share.

/// A sum that carries what rounding loses (Neumaier's form of Kahan's summation).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KahanSum {
    pub sum: f64,
    pub lost: f64,
}

impl KahanSum {
    pub fn add(&mut self, value: f64) {
        let total = self.sum + value;
        self.lost = match () {
            () if total.is_infinite() => 0.0,
            () if self.sum.abs() >= value.abs() => self.lost + ((self.sum - total) + value),
            () => self.lost + ((value - total) + self.sum),
        };
        self.sum = total;
    }

    pub fn total(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.lost }
    }
}

/// A mean over what is added: of the sum while that is finite, of weighted means once it is not.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean {
    /// The sum, or the mean once `is_weighted`.
    pub total: KahanSum,
    pub count: f64,
    pub is_weighted: bool,
}

impl Mean {
    pub fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.is_weighted {
            let mut next = self.total;
            next.add(value);
            if self.count == 1.0 || next.sum.is_finite() || next.sum.is_nan() {
                self.total = next;
                return;
            }
            self.is_weighted = true;
            let before = self.count - 1.0;
            self.total = KahanSum { sum: self.total.sum / before, lost: self.total.lost / before };
        }
        let weight = (self.count - 1.0) / self.count;
        self.total = KahanSum { sum: weight * self.total.sum, lost: weight * self.total.lost };
        self.total.add(value / self.count);
    }

    pub fn result(self) -> f64 {
        let KahanSum { sum, lost } = self.total;
        if self.is_weighted { sum + lost } else { sum / self.count + lost / self.count }
    }
}

pub(crate) fn sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut total = KahanSum::default();
    values.into_iter().for_each(|value| total.add(value));
    total.total()
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    let mut mean = Mean::default();
    values.iter().for_each(|value| mean.add(*value));
    mean.result()
}

/// The population variance, by Welford's method.
pub(crate) fn variance(values: &[f64]) -> f64 {
    let (mut mean, mut squares) = (KahanSum::default(), KahanSum::default());
    for (i, value) in values.iter().enumerate() {
        let deviation = value - (mean.sum + mean.lost);
        mean.add(deviation / (i + 1) as f64);
        squares.add(deviation * (value - (mean.sum + mean.lost)));
    }
    (squares.sum + squares.lost) / values.len() as f64
}

/// The quantile by linear interpolation between ranks. Sorts the values, NaN first.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(nan_first);
    quantile_of_sorted(q, values)
}

/// Numbers rising, behind what is no number.
pub(super) fn nan_first(a: &f64, b: &f64) -> std::cmp::Ordering {
    b.is_nan().cmp(&a.is_nan()).then(a.total_cmp(b))
}

/// Of at least one value, and a quantile within bounds.
pub(super) fn quantile_of_sorted(q: f64, values: &[f64]) -> f64 {
    let rank = q * (values.len() - 1) as f64;
    let lower = rank.floor() as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// Least squares through `(seconds since `from_ms`, value)`: slope and the value at `from_ms`.
pub(super) fn regression(timestamps_ms: &[i64], values: &[f64], from_ms: i64) -> (f64, f64) {
    let first = values[0];
    if values.iter().all(|value| *value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let n = values.len() as f64;
    let (mut x_sum, mut y_sum) = (KahanSum::default(), KahanSum::default());
    let (mut xy_sum, mut xx_sum) = (KahanSum::default(), KahanSum::default());
    for (t_ms, y) in timestamps_ms.iter().zip(values) {
        let x = t_ms.saturating_sub(from_ms) as f64 / 1000.0;
        x_sum.add(x);
        y_sum.add(*y);
        xy_sum.add(x * y);
        xx_sum.add(x * x);
    }
    let (x, y, xy, xx) = (x_sum.total(), y_sum.total(), xy_sum.total(), xx_sum.total());
    let covariance = xy - x * y / n;
    let variance = xx - x * x / n;
    let slope = covariance / variance;
    (slope, y / n - slope * x / n)
}

/// As `math.Max` and `math.Min` of Go: NaN wins, but not over the infinity that nothing can pass.
pub(super) fn go_max(a: f64, b: f64) -> f64 {
    match () {
        () if a == f64::INFINITY || b == f64::INFINITY => f64::INFINITY,
        () if a.is_nan() || b.is_nan() => f64::NAN,
        () => a.max(b),
    }
}

pub(super) fn go_min(a: f64, b: f64) -> f64 {
    -go_max(-a, -b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_means_hold_up() {
        assert_eq!(sum([1e100, 1.0, -1e100]), 1.0);
        assert_eq!(mean(&[f64::MAX, f64::MAX]), f64::MAX);
        assert_eq!(mean(&[f64::INFINITY, 1.0]), f64::INFINITY);
        assert_eq!(mean(&[5e-324, 5e-324]), 5e-324);
        assert_eq!(variance(&[1.0, 3.0]), 1.0);
    }

    #[test]
    fn nan_wins_over_bounds() {
        assert!(go_max(f64::NAN, 1.0).is_nan() && go_min(1.0, f64::NAN).is_nan());
        assert_eq!((go_max(1.0, 2.0), go_min(1.0, 2.0)), (2.0, 1.0));
    }

    #[test]
    fn quantiles_interpolate() {
        let check = |q: f64, expected: f64| assert_eq!(quantile(q, &mut [3.0, 1.0, 2.0]), expected);
        check(0.0, 1.0);
        check(0.75, 2.5);
        check(1.0, 3.0);
        check(-0.1, f64::NEG_INFINITY);
        check(1.1, f64::INFINITY);
    }
}
