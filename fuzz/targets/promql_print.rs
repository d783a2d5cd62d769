//! PromQL that was printed reads as the same tree, on one line and on several.

#![no_main]

use libfuzzer_sys::fuzz_target;
use query::parse;
use query::promql::pretty;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let Ok(expr) = parse(&text) else { return };
    for printed in [expr.to_string(), pretty(&expr)] {
        match parse(&printed) {
            Ok(again) => assert!(again == expr, "{text:?} printed as {printed:?}: {expr:?} became {again:?}"),
            Err(error) => panic!("{text:?} printed as {printed:?}: {error}"),
        }
    }
});
