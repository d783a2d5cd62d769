//! The notation of test scripts: series, values, and blocks that load them. Evaluations are not this target's.

#![no_main]

use libfuzzer_sys::fuzz_target;
use query::script::{parse_series, parse_values, run};
use query::{Engine, MemorySeries};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let _ = parse_series(&text);
    let _ = parse_values(&text);
    if !text.to_lowercase().contains("eval") {
        let report = run(&text, &Engine::default(), &mut MemorySeries::default());
        assert!(report.is_err() || report.is_ok_and(|report| report.evaluations == 0));
    }
});
