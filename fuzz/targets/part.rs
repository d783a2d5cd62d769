//! Parts of the time-series store, their checksums mended: samples or an error, and what was read can be merged.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tsdb::fuzz::read_any_part(bytes);
});
