//! Messages of remote write, 1.0 and 2.0: decoded, admitted, and then good for the bus and the store.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tsdb::fuzz::remote_write(bytes);
});
