//! What service discovery reads: files of groups, lines of Kubernetes' watches, answers of name servers.

#![no_main]

use agent::kubernetes::objects::{Event, Object};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    for is_json in [true, false] {
        let _ = agent::discovery::file::parse(&text, is_json);
    }
    let _ = agent::kubernetes::change::<Object>(bytes);
    let _ = agent::kubernetes::change::<Event>(bytes);
    agent::discovery::resolver::read_any(bytes);
});
