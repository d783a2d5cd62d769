//! Histograms against values computed by hand, and against laws that hold for all of them.

use proptest::prelude::*;

use super::*;

fn spans(pairs: &[(i32, u32)]) -> Vec<BucketSpan> {
    pairs.iter().map(|(offset, length)| BucketSpan { offset: *offset, length: *length }).collect()
}

fn buckets(pairs: &[(i32, u32)], counts: &[f64]) -> Buckets {
    Buckets { spans: spans(pairs), counts: counts.to_vec() }
}

/// Schema 0: `(0.5,1]:1 (1,2]:2 (4,8]:4`, `[-2,-1):3`, five at zero.
pub(crate) fn example() -> Histogram {
    Histogram {
        zero_threshold: 0.001,
        zero_count: 5.0,
        count: 15.0,
        sum: 25.5,
        positive: buckets(&[(0, 2), (1, 1)], &[1.0, 2.0, 4.0]),
        negative: buckets(&[(1, 1)], &[3.0]),
        ..Histogram::default()
    }
}

fn custom(bounds: &[f64], counts: &[f64]) -> Histogram {
    Histogram {
        schema: CUSTOM_SCHEMA,
        count: counts.iter().sum(),
        sum: 1.0,
        positive: buckets(&[(0, counts.len() as u32)], counts),
        custom_bounds: bounds.to_vec(),
        ..Histogram::default()
    }
}

/// Every histogram of these tests is compared by how it prints.
fn check(histogram: &Histogram, expected: &str) {
    histogram.validate().expect("it is well formed");
    assert_eq!(histogram.to_string(), expected);
}

#[test]
fn histograms_print_as_in_prometheus() {
    let example = example();
    check(&example, "{count:15, sum:25.5, [-2,-1):3, [-0.001,0.001]:5, (0.5,1]:1, (1,2]:2, (4,8]:4}");
    let written = "{{count:15 sum:25.5 z_bucket:5 z_bucket_w:0.001 buckets:[1 2 0 4] n_offset:1 n_buckets:[3]}}";
    assert_eq!(example.test_expression(), written);
    let custom = custom(&[1.0, 2.5e7], &[1.0, 0.0, 2.0]);
    check(&custom, "{count:3, sum:1, [-Inf,1]:1, (2.5e+07,+Inf]:2}");
    assert_eq!(custom.test_expression(), "{{schema:-53 count:3 sum:1 custom_values:[1 2.5e+07] buckets:[1 0 2]}}");
    let rules: Vec<_> = example.api_buckets().map(|bucket| (bucket.boundary_rule(), bucket.upper)).collect();
    assert_eq!(rules, [(1, -1.0), (3, 0.001), (0, 1.0), (0, 2.0), (0, 8.0)]);
}

#[test]
fn buckets_run_both_ways() {
    let example = example();
    let forward: Vec<_> = example.all_buckets().collect();
    let mut backward: Vec<_> = example.all_buckets().rev().collect();
    backward.reverse();
    assert_eq!((forward.len(), &forward), (5, &backward));
    let wide = Histogram { zero_threshold: 0.75, ..example };
    let lowers: Vec<_> = wide.all_buckets().map(|bucket| bucket.lower).collect();
    assert_eq!(lowers, [-2.0, -0.75, 0.75, 1.0, 4.0]);
    let odd = buckets(&[(3, 0), (2, 1), (0, 0), (4, 2), (7, 0)], &[1.0, 2.0, 3.0]);
    let there: Vec<_> = odd.indexed().collect();
    let mut back: Vec<_> = odd.indexed().rev().collect();
    back.reverse();
    assert_eq!((&there, &back), (&vec![(5, 1.0), (10, 2.0), (11, 3.0)], &there));
}

#[test]
fn sums_meet_at_the_coarser_buckets() {
    let mut sum = example();
    let mut fine = example();
    fine.schema = 1;
    fine.zero_threshold = 0.6;
    assert_eq!(sum.add(&fine).expect("compatible"), Combined::default());
    // The zero bucket grows to 1 for the bucket it would cut, and swallows (0.5,1].
    check(&sum, "{count:30, sum:51, [-2,-1):6, [-1,1]:12, (1,2]:4, (2,4]:4, (4,8]:4}");
}

#[test]
fn custom_bounds_meet_at_the_common_ones() {
    let mut sum = custom(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]);
    let combined = sum.add(&custom(&[0.5, 2.0, 3.0, 4.0], &[10.0, 20.0, 30.0, 40.0, 50.0])).expect("compatible");
    assert!(combined.bounds_reconciled);
    check(&sum, "{count:160, sum:2, [-Inf,2]:33, (2,3]:33, (3,+Inf]:94}");
    let error = sum.add(&example()).expect_err("a mix");
    assert!(error.to_string().ends_with("with a mix of exponential and custom bucket schemas"));
}

#[test]
fn hints_of_sums() {
    use ResetHint::{Gauge, NotReset, Reset, Unknown};
    for (a, b, expected, collide) in [
        (Reset, Reset, Reset, false),
        (Reset, NotReset, Unknown, true),
        (NotReset, Unknown, Unknown, false),
        (Unknown, Gauge, Gauge, false),
        (Gauge, Reset, Gauge, false),
    ] {
        let mut sum = Histogram { reset_hint: a, ..example() };
        let combined = sum.add(&Histogram { reset_hint: b, ..example() }).expect("compatible");
        assert_eq!((sum.reset_hint, combined.reset_hints_collide), (expected, collide), "{a:?} {b:?}");
    }
}

/// 1e100 + 1 − 1e100 is 1 for one who keeps what rounding loses.
#[test]
fn compensated_sums_lose_nothing() {
    let (mut sum, mut lost) = (example(), None);
    sum.mul(1e100);
    let mut large = sum.clone();
    large.mul(-1.0);
    sum.add_compensated(&example(), &mut lost).expect("compatible");
    sum.add_compensated(&large, &mut lost).expect("compatible");
    sum.add(&lost.expect("something was lost")).expect("compatible");
    sum.compact();
    assert_eq!(sum.to_string(), example().to_string());
}

#[test]
fn resets_are_falling_counts() {
    let before = example();
    let mut more = example();
    more.add(&example()).expect("compatible");
    assert!(!more.detect_reset(&before) && before.detect_reset(&more) && !before.detect_reset(&before));
    let mut moved = more.clone();
    moved.positive = buckets(&[(0, 2)], &[5.0, 9.0]);
    assert!(moved.detect_reset(&before), "(4,8] is gone");
    let hinted = Histogram { reset_hint: ResetHint::NotReset, ..moved };
    assert!(!hinted.detect_reset(&before));
    let finer = Histogram { schema: 2, ..more.clone() };
    assert!(finer.detect_reset(&before) && !more.copy_to_schema(-2).detect_reset(&before));
    let wider = Histogram { zero_threshold: 0.7, ..more.clone() };
    assert!(wider.detect_reset(&before), "a filled bucket would be cut");
    let old = custom(&[1.0, 2.0], &[1.0, 1.0, 1.0]);
    assert!(!custom(&[1.0, 3.0], &[1.0, 1.0, 5.0]).detect_reset(&old));
    assert!(custom(&[1.0, 3.0], &[0.0, 5.0, 5.0]).detect_reset(&old));
}

#[test]
fn trimming_keeps_one_side() {
    let trimmed = |mut histogram: Histogram, value: f64, is_upper: bool| {
        if is_upper {
            histogram.trim_upper(value)
        } else {
            histogram.trim_lower(value)
        }
        Histogram { sum: 0.0, ..histogram }
    };
    check(&trimmed(example(), 1.0, true), "{count:9, sum:0, [-2,-1):3, [-0.001,0.001]:5, (0.5,1]:1}");
    check(&trimmed(example(), 1.0, false), "{count:6, sum:0, (1,2]:2, (4,8]:4}");
    check(&trimmed(example(), 4.0 * 2f64.sqrt(), false), "{count:2, sum:0, (4,8]:2}");
    check(&trimmed(example(), 0.0, false), "{count:9.5, sum:0, [-0.001,0.001]:2.5, (0.5,1]:1, (1,2]:2, (4,8]:4}");
    check(&trimmed(custom(&[2.0, 4.0], &[2.0, 4.0, 6.0]), 3.0, true), "{count:4, sum:0, [-Inf,2]:2, (2,4]:2}");
    check(
        &trimmed(custom(&[2.0, 4.0], &[2.0, 4.0, 6.0]), 1.0, false),
        "{count:11, sum:0, [-Inf,2]:1, (2,4]:4, (4,+Inf]:6}",
    );
    let mut whole = example();
    whole.trim_upper(f64::INFINITY);
    assert_eq!(whole, example());
}

#[test]
fn classic_buckets_become_custom_ones() {
    let mut classic = ClassicHistogram::default();
    for (bound, count) in [(f64::INFINITY, 7.0), (1.0, 2.0), (5.0, 2.0), (1.0, 100.0)] {
        classic.set_bucket(bound, count).expect("in order");
    }
    classic.set_sum(9.5);
    let error = classic.clone().set_bucket(2.0, 1.0).expect_err("it falls").to_string();
    assert_eq!(error, "count is not cumulative: 1 < 2");
    check(&classic.clone().convert().expect("whole"), "{count:7, sum:9.5, [-Inf,1]:2, (5,+Inf]:5}");
    classic.set_count(8.0).expect("a count");
    assert_eq!(classic.convert().expect_err("two counts").to_string(), "count mismatch: count=8 != le=+Inf count=7");
}

fn wire(schema: i32, positive: &[(i32, u32)], deltas: &[i64], count: u64) -> WireHistogram {
    let counts =
        WireCounts::Integer { count, zero_count: 0, positive_deltas: deltas.to_vec(), negative_deltas: Vec::new() };
    WireHistogram {
        schema,
        reset_hint: ResetHint::Unknown,
        zero_threshold: 0.0,
        sum: 1.0,
        counts,
        positive_spans: spans(positive),
        negative_spans: Vec::new(),
        custom_bounds: Vec::new(),
    }
}

#[test]
fn what_the_wire_brings_is_checked() {
    check(
        &wire(0, &[(0, 2), (1, 1)], &[1, 1, -1], 4).convert().expect("good"),
        "{count:4, sum:1, (0.5,1]:1, (1,2]:2, (4,8]:1}",
    );
    let reduced = wire(9, &[(0, 4)], &[1, 0, 0, 0], 4).convert().expect("a reserved schema");
    assert_eq!((reduced.schema, &reduced.positive), (8, &buckets(&[(0, 3)], &[1.0, 2.0, 1.0])));
    for (histogram, expected) in [
        (wire(53, &[], &[], 0), "unknown schema, which must be between -9 and 52"),
        (wire(-5, &[], &[], 0), "invalid schema, which must be between -4 and 8 for exponential buckets, or -53"),
        (wire(0, &[(0, 2)], &[1], 1), "positive side: spans need 2 buckets, have 1 buckets"),
        (wire(12, &[(0, 2)], &[1], 1), "spans need 2 buckets, have 1 buckets"),
        (wire(0, &[(0, 1), (-1, 1)], &[1, 1], 3), "span number 2 with offset -1"),
        (wire(0, &[(0, 1)], &[-1], 1), "bucket number 1 has observation count of -1"),
        (wire(0, &[(0, 1)], &[2], 1), "2 observations found in buckets, but the Count field is 1"),
        (wire(-53, &[(0, 3)], &[1, 0, 0], 3), "only 0 custom bounds defined"),
    ] {
        let error = histogram.convert().expect_err("bad").to_string();
        assert!(error.contains(expected), "{error}");
    }
    let stale = WireHistogram { sum: stale_marker(), ..wire(99, &[(0, 9)], &[], 0) }.convert().expect("a marker");
    assert!(stale.is_stale());
}

fn any_buckets() -> impl Strategy<Value = Buckets> {
    prop::collection::btree_map(-20i32..20, 0u32..50, 0..8)
        .prop_map(|filled| Buckets::from_indexed(filled.into_iter().map(|(index, count)| (index, f64::from(count)))))
}

/// With no bucket inside the zero bucket, as instrumentation makes them.
fn any_histogram() -> impl Strategy<Value = Histogram> {
    (-4i8..=8, any_buckets(), any_buckets(), 0u32..4, 0u32..10).prop_map(|(schema, positive, negative, zero, width)| {
        let zero_threshold = f64::from(width) / 8.0;
        let outside = |buckets: Buckets| {
            let lower = |index: i32| bounds::exponential_bound(index - 1, schema);
            Buckets::from_indexed(buckets.indexed().filter(|(index, _)| lower(*index) >= zero_threshold))
        };
        let (positive, negative) = (outside(positive), outside(negative));
        let zero_count = f64::from(zero);
        let count = zero_count + positive.counts.iter().chain(&negative.counts).sum::<f64>();
        let sum = 3.0 * count;
        Histogram { schema, zero_threshold, zero_count, count, sum, positive, negative, ..Histogram::default() }
    })
}

/// All counts of buckets together.
fn total(histogram: &Histogram) -> f64 {
    histogram.zero_count + histogram.positive.counts.iter().chain(&histogram.negative.counts).sum::<f64>()
}

proptest! {
    #[test]
    fn sums_commute_and_keep_every_count(a in any_histogram(), b in any_histogram()) {
        let (mut ab, mut ba) = (a.clone(), b.clone());
        ab.add(&b).expect("compatible");
        ba.add(&a).expect("compatible");
        ab.compact();
        ba.compact();
        prop_assert!(ab.equals(&ba), "{ab} {ba}");
        // Counts that lie within the other's zero bucket are in the zero count.
        prop_assert_eq!(total(&ab), ab.count);
        let mut back = ab.clone();
        back.sub(&b).expect("compatible");
        back.sub(&a).expect("compatible");
        back.compact();
        prop_assert_eq!((total(&back), back.count, back.positive.counts.len()), (0.0, 0.0, 0));
    }

    #[test]
    fn coarser_is_never_fewer(a in any_histogram(), schema in -4i8..=8) {
        let coarse = a.copy_to_schema(schema.min(a.schema));
        prop_assert_eq!(total(&coarse), total(&a));
        prop_assert!(coarse.positive.counts.len() <= a.positive.counts.len());
        prop_assert!(!coarse.detect_reset(&a));
    }

    #[test]
    fn compensated_and_plain_sums_agree(all in prop::collection::vec(any_histogram(), 1..6)) {
        let (mut plain, mut exact, mut lost) = (all[0].clone(), all[0].clone(), None);
        for one in &all[1..] {
            plain.add(one).expect("compatible");
            exact.add_compensated(one, &mut lost).expect("compatible");
        }
        if let Some(lost) = lost {
            exact.add(&lost).expect("compatible");
        }
        plain.compact();
        exact.compact();
        prop_assert!(plain.equals(&exact), "{plain} {exact}");
    }

    #[test]
    fn trims_split_the_count(a in any_histogram(), value in -40.0f64..40.0) {
        let (mut below, mut above) = (a.clone(), a.clone());
        below.trim_upper(value);
        above.trim_lower(value);
        prop_assert!((below.count + above.count - a.count).abs() < 1e-6 || a.zero_threshold > 0.0);
    }

    #[test]
    fn any_spans_never_panic(
        offsets in prop::collection::vec((any::<i32>(), 0u32..4), 0..5),
        deltas in prop::collection::vec(any::<i64>(), 0..12),
        schema in -60i32..60, bounds in prop::collection::vec(any::<f64>(), 0..5),
    ) {
        let raw = WireHistogram { custom_bounds: bounds, ..wire(schema, &offsets, &deltas, 1) };
        let _ = raw.clone().convert();
        let schema = schema.clamp(-53, 8) as i8;
        let counts = deltas.iter().map(|delta| *delta as f64).collect();
        let positive = Buckets { spans: raw.positive_spans, counts };
        let mut odd = Histogram { schema, positive, custom_bounds: raw.custom_bounds, ..Histogram::default() };
        let _ = (odd.to_string(), odd.test_expression(), odd.all_buckets().rev().count(), odd.detect_reset(&example()));
        let _ = odd.clone().add(&odd);
        let _ = odd.clone().add(&example());
        let _ = odd.clone().add(&custom(&[1.0], &[1.0]));
        odd.trim_upper(1.0);
        odd.compact();
    }
}
