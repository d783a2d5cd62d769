//! Bytes of a syslog connection, in pieces: messages are the same however they are cut.

#![no_main]

use agent::intake::Frames;

fn frames(bytes: &[u8], step: usize) -> Vec<Vec<u8>> {
    let (mut frames, mut found) = (Frames::default(), Vec::new());
    for piece in bytes.chunks(step) {
        frames.push(piece);
        found.extend(std::iter::from_fn(|| frames.next_frame()));
    }
    found.extend(frames.last());
    found.iter().for_each(|frame| drop(agent::intake::received(frame)));
    found.into_iter().map(|frame| frame.bytes).collect()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let whole = frames(bytes, bytes.len().max(1));
    assert_eq!(frames(bytes, 1), whole);
    assert_eq!(frames(bytes, 7), whole);
});
