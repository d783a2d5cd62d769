//! What scripts cannot say: limits, deadlines, how often and how far a source is asked.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use model::{Labels, METRIC_NAME, Sample};
use proptest::prelude::*;

use super::Engine;
use crate::{MemorySeries, Point, QueryError, Series, SeriesSelect, SeriesSet, Value, parse, selectors};

fn series(count: usize, samples: i64) -> MemorySeries {
    let mut store = MemorySeries::default();
    for i in 0..count {
        let labels = Labels::from_pairs([(METRIC_NAME, "m_total"), ("i", i.to_string().as_str())]);
        for t in 0..samples {
            store.push(&labels, t * 15_000, t as f64, None);
        }
    }
    store
}

/// Remembers what it was asked.
struct Asked(MemorySeries, Mutex<Vec<(i64, i64)>>);

impl Series for Asked {
    fn select<'s>(&'s self, request: &SeriesSelect<'_>) -> Result<Box<dyn SeriesSet + 's>, QueryError> {
        self.1.lock().expect("no test panics while holding it").push((request.start_ms, request.end_ms));
        self.0.select(request)
    }
}

fn check_requests(query: &str, expected: &[(i64, i64)]) {
    let source = Asked(series(2, 10), Mutex::default());
    let expr = parse(query).expect("a good query");
    Engine::default().range(&source, "t", &expr, 600_000, 1_200_000, 60_000, None).expect("an answer");
    assert_eq!(*source.1.lock().expect("no test panics while holding it"), expected, "{query}");
}

#[test]
fn a_source_is_asked_once_per_selector_for_no_more_than_needed() {
    check_requests("m_total", &[(300_001, 1_200_000)]);
    check_requests("sum(rate(m_total[1m] offset 1m))", &[(480_001, 1_140_000)]);
    check_requests("m_total @ 30", &[(-269_999, 30_000)]);
    check_requests("rate(m_total[1m] @ start())", &[(540_001, 600_000)]);
    check_requests("max_over_time(m_total[2m:1m])", &[(240_001, 1_200_000)]);
    check_requests("sum(m_total) / (sum(m_total) + 1)", &[(300_001, 1_200_000)]);
    check_requests("m_total - m_total", &[(300_001, 1_200_000)]);
}

fn check_name(query: &str, expected: Option<&str>) {
    let expr = parse(query).expect("a good query");
    let answer = Engine::default().range(&series(1, 10), "t", &expr, 0, 135_000, 15_000, None).expect("an answer");
    let Value::Matrix(rows) = answer.value else { panic!("{query} is a matrix") };
    assert_eq!(rows.iter().map(|row| row.labels.metric_name()).collect::<Vec<_>>(), [expected], "{query}");
}

#[test]
fn a_series_has_the_name_of_its_first_value() {
    check_name("m_total > 3 or -m_total", None);
    check_name("m_total < 3 or -m_total", Some("m_total"));
    check_name("-m_total > -3 or m_total", None);
    check_name("-m_total < -3 or m_total", Some("m_total"));
}

#[test]
fn limits_and_deadlines_end_a_query() {
    let store = series(100, 100);
    let run = |query: &str, engine: &Engine, deadline| {
        engine.range(&store, "t", &parse(query).expect("a good query"), 0, 1_000_000, 1_000, deadline)
    };
    let small = Engine { max_samples: 20_000, ..Engine::default() };
    assert!(matches!(run("m_total", &small, None), Err(QueryError::Limit(_))));
    assert!(matches!(run("m_total + 1", &small, None), Err(QueryError::Limit(_))));
    assert!(matches!(run("vector(1)", &Engine { max_samples: 10, ..small.clone() }, None), Err(QueryError::Limit(_))));
    assert!(run("sum(rate(m_total[1m]))", &small, None).is_ok(), "an aggregation holds its groups, not its input");
    let past = Instant::now().checked_sub(Duration::from_secs(1));
    assert!(matches!(run("m_total", &small, past), Err(QueryError::Timeout(_))));
}

#[test]
fn a_canceled_query_ends() {
    let canceled = Some(std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true)));
    let engine = Engine { canceled, ..Engine::default() };
    let answer = engine.instant(&series(1, 1), "t", &parse("m_total").expect("a query"), 0, None);
    assert!(matches!(answer, Err(QueryError::Canceled(_))));
}

#[test]
fn the_deepest_query_is_evaluated_on_a_small_stack() {
    let store = series(1, 1);
    for query in ["1".to_owned() + &" + vector(1)".repeat(190), "-(".repeat(95) + "vector(1)" + &")".repeat(95)] {
        let expr = parse(&query).expect("within the limit");
        let answer = Engine::default().instant(&store, "t", &expr, 0, None).expect("an answer");
        assert!(matches!(answer.value, Value::Vector(_)));
        assert_eq!(parse(&expr.to_string()).expect("prints well"), expr);
    }
}

#[test]
fn annotations_name_their_place() {
    let expr = parse("quantile(\n 2, rate(m[5m]))").expect("a good query");
    let mut store = MemorySeries::default();
    for t in 0..3 {
        store.push(&Labels::from_pairs([(METRIC_NAME, "m")]), t * 60_000, t as f64, None);
    }
    let answer = Engine::default().instant(&store, "t", &expr, 120_000, None).expect("an answer");
    assert_eq!(answer.warnings, ["PromQL warning: quantile value should be between 0 and 1, got 2 (2:2)"]);
    assert_eq!(answer.infos.len(), 1);
    assert!(answer.infos[0].ends_with("_bucket: \"m\" (2:10)"), "{}", answer.infos[0]);
}

#[test]
fn selectors_are_found_in_order() {
    let expr = parse("sum(a) / on(x) rate(b[5m]) + max_over_time((c > 1)[5m:])").expect("a good query");
    let names: Vec<_> = selectors(&expr).into_iter().filter_map(|selector| selector.name.as_deref()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

/// Some series that the generated expressions select, with gaps and a staleness marker.
fn varied() -> MemorySeries {
    let mut store = MemorySeries::default();
    for line in [
        "up{x=\"1\"} 0+1x9",
        "up{x=\"2\"} 5 4 _ _ stale 3 2 1 0 -1",
        "m{a=\"b\",x=\"1\",y=\"z\"} 0+7x9",
        "m{a=\"b\",x=\"2\"} 1 9 2 8 3 7 NaN Inf -Inf 0",
    ] {
        let (labels, values) = crate::script::parse_series(line).expect("good notation");
        for (i, value) in values.into_iter().enumerate() {
            if let Some(value) = value {
                store.push(&labels, i as i64 * 60_000, value.point, None);
            }
        }
    }
    store
}

fn rows_at(value: &Value, t_ms: i64) -> Vec<(Labels, u64)> {
    let bits = |value: f64| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
    let point = |point: &Point| point.float().map_or(0, bits);
    let mut rows: Vec<(Labels, u64)> = match value {
        Value::Vector(rows) => rows.iter().map(|row| (row.labels.clone(), point(&row.point))).collect(),
        Value::Matrix(rows) => {
            let at = |samples: &[Sample]| samples.iter().find(|sample| sample.t_ms == t_ms).map(|sample| sample.value);
            rows.iter().filter_map(|row| Some((row.labels.clone(), bits(at(&row.values)?)))).collect()
        }
        Value::Scalar(sample) => vec![(Labels::default(), bits(sample.value))],
        Value::Text(..) => Vec::new(),
    };
    rows.sort();
    rows
}

proptest! {
    #[test]
    fn results_do_not_depend_on_the_number_of_threads(query in crate::promql::tests::expression()) {
        let store = varied();
        let expr = parse(&query).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let run = |threads| {
            let engine = Engine { threads, ..Engine::default() };
            let answer = engine.range(&store, "t", &expr, 0, 900_000, 100_000, None);
            answer.map_or_else(|error| error.to_string(), |answer| format!("{answer:?}"))
        };
        prop_assert_eq!(run(1), run(3), "{}", query);
    }

    /// A range query says at each step what an instant query says there.
    #[test]
    fn ranges_are_made_of_instants(query in crate::promql::tests::expression()) {
        let (store, engine) = (varied(), Engine::default());
        let expr = parse(&query).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let range = engine.range(&store, "t", &expr, 0, 900_000, 100_000, None);
        let asks_for_the_range = query.contains("step()") || query.contains("end()");
        for t_ms in (0..=900_000).step_by(100_000) {
            let instant = engine.instant(&store, "t", &expr, t_ms, None);
            if let (Ok(range), Ok(instant), false) = (&range, &instant, asks_for_the_range) {
                let (mut range, mut instant) = (rows_at(&range.value, t_ms), rows_at(&instant.value, t_ms));
                if query.contains(" or ") {
                    // Of a series that lost its name at some steps only, a range has one name for all.
                    let nameless = |rows: &mut Vec<(Labels, u64)>| {
                        rows.iter_mut().for_each(|(labels, _)| *labels = labels.without(&[METRIC_NAME]));
                        rows.sort();
                    };
                    nameless(&mut range);
                    nameless(&mut instant);
                }
                prop_assert_eq!(range, instant, "{} at {}", query, t_ms);
            }
            prop_assert!(range.is_err() || asks_for_the_range || instant.is_ok(), "{} at {}", query, t_ms);
        }
    }
}
