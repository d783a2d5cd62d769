//! Exemplars of one series: in time, each once, at most [`MAX_PER_HOUR`] of an hour, the newest.

use model::Exemplar;

/// Of a series in an hour so many are kept.
pub const MAX_PER_HOUR: usize = 10;
const MS_PER_HOUR: i64 = 3_600_000;

/// Sorts, and drops repeats and what is too many.
pub fn thin(exemplars: &mut Vec<Exemplar>) {
    exemplars.sort_by_key(|one| one.t_ms);
    let is_same =
        |a: &Exemplar, b: &Exemplar| a.t_ms == b.t_ms && a.value.to_bits() == b.value.to_bits() && a.labels == b.labels;
    exemplars.dedup_by(|a, b| is_same(a, b));
    let hour = |one: &Exemplar| one.t_ms.div_euclid(MS_PER_HOUR);
    let mut kept: Vec<Exemplar> = Vec::with_capacity(exemplars.len());
    for hours in exemplars.chunk_by(|a, b| hour(a) == hour(b)) {
        kept.extend_from_slice(&hours[hours.len().saturating_sub(MAX_PER_HOUR)..]);
    }
    *exemplars = kept;
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use super::*;

    fn check(times: &[i64], expected: &[i64]) {
        let one = |t_ms: &i64| Exemplar { labels: Labels::default(), value: 1.0, t_ms: *t_ms };
        let mut exemplars = times.iter().map(one).collect();
        thin(&mut exemplars);
        assert_eq!(exemplars.iter().map(|one| one.t_ms).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_newest_of_an_hour_stay_once() {
        check(&[3, 1, 3, 2], &[1, 2, 3]);
        let many: Vec<i64> = (0..15).chain([MS_PER_HOUR, -1]).collect();
        check(&many, &[-1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, MS_PER_HOUR]);
    }
}
