//! Elasticsearch's actions and documents: read, admitted, and then good for the bus and the store.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    indexer::fuzz::bulk(bytes);
});
