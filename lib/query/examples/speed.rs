//! How long PromQL takes over a store in memory: `cargo run --release -p binnacle-query --example speed [SERIES [STEPS]]`.
//!
//! Every series has a sample each 15 s, and every query a step each 15 s. Prints nanoseconds per series and step.

use std::time::Instant;

use binnacle_query::{Engine, MemorySeries, parse};
use model::Labels;

const INTERVAL_MS: i64 = 15_000;
const QUERIES: [&str; 8] = [
    "count(m_total)",
    "sum(rate(m_total[5m]))",
    "sum by (instance) (rate(m_total[5m]))",
    "avg by (job) (m_total)",
    "max_over_time(m_total[5m]) > 1e9",
    "sum(sum_over_time(m_total[5m]))",
    "topk(5, rate(m_total[1m]))",
    "sum by (job) (rate(m_total[5m])) / sum by (job) (rate(m_total[5m]))",
];

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().expect("a number"));
    let (series, steps) = (args.next().unwrap_or(20_000), args.next().unwrap_or(960));
    let mut store = MemorySeries::default();
    for i in 0..series {
        let (job, instance) = (format!("j{}", i % 10), format!("i{}", i % 500));
        let labels = [("__name__", "m_total"), ("job", &job), ("instance", &instance), ("n", &i.to_string())];
        let labels = Labels::from_pairs(labels);
        for t in 0..steps as i64 {
            store.push(&labels, t * INTERVAL_MS, (t * 7 % 1000) as f64 + i as f64, None);
        }
    }
    let end_ms = (steps as i64 - 1) * INTERVAL_MS;
    for threads in [1, Engine::default().threads] {
        let engine = Engine { threads, ..Engine::default() };
        for query in QUERIES {
            let expr = parse(query).expect("a query");
            let start = Instant::now();
            let answer = engine.range(&store, "t", &expr, 0, end_ms, INTERVAL_MS, None);
            let took = start.elapsed();
            let cost = took.as_nanos() as f64 / (series * steps) as f64;
            println!("{threads} threads: {cost:7.2} ns, {:7.1} ms: {query}", took.as_secs_f64() * 1000.0);
            assert!(answer.is_ok(), "{answer:?}");
        }
    }
}
