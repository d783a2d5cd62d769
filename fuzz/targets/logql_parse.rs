//! LogQL of any bytes: a query or an error with a place; a pipeline that was parsed takes any line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use query::logql::{describe, parse};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Err(error) = parse(&text) {
        assert!(describe(&error).starts_with("parse error at line "), "{error}");
        assert!(!error.pointed(&text).is_empty());
    }
});
