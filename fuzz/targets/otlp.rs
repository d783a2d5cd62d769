//! Requests of OpenTelemetry's metrics, protobuf and JSON: translated, admitted, and then good for the bus and the store.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tsdb::fuzz::otlp(bytes);
});
