//! What targets expose, in both text formats: samples with names, or an error with its line.

#![no_main]

use model::exposition::{TextFormat, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    for format in [TextFormat::Prometheus, TextFormat::OpenMetrics] {
        match parse(&text, format) {
            Ok(exposition) => {
                assert!(exposition.samples.iter().all(|sample| sample.labels.metric_name().is_some()));
            }
            Err(error) => assert!(error.line <= text.lines().count(), "{error}"),
        }
    }
});
