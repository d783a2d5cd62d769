//! Requests of OpenTelemetry's logs, protobuf and JSON: mapped, admitted, and then good for the bus and the store.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    indexer::fuzz::otlp(bytes);
});
