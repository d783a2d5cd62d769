//! Imports as text: Prometheus, OpenMetrics, InfluxDB, JSON lines, Graphite, and Pushgateway's paths.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tsdb::fuzz::import(bytes);
});
