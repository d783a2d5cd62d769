//! What targets expose in protobuf: samples whose series are text that is read again, or an error.

#![no_main]

use agent::scrape::protobuf::{Wanted, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for (native, classic) in [(false, false), (true, false), (true, true)] {
        if let Ok((samples, _)) = parse(bytes, Wanted { native, classic }) {
            for sample in samples {
                let _ = model::exposition::read_series(&sample.series);
            }
        }
    }
});
