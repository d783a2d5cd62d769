//! The checkpoint of log files: what is read is written the same.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(paths) = agent::logs::checkpoint::decode(bytes) {
        let again = agent::logs::checkpoint::encode(paths.clone());
        assert_eq!(agent::logs::checkpoint::decode(&again), Ok(paths));
    }
});
