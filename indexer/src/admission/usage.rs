//! How much a tenant sends: bytes a second, and the streams that had a line within the hour.

use std::collections::HashMap;

const NS_PER_S: i64 = 1_000_000_000;
const ACTIVE_NS: i64 = 3600 * NS_PER_S;
/// How long until streams are looked through again for those that are active no more.
const PRUNE_PAUSE_NS: i64 = 60 * NS_PER_S;

#[derive(Debug, Default)]
pub struct Usage {
    /// Bytes that may come now; below nothing after a large request.
    room_bytes: f64,
    /// When that was so; 0: never yet.
    at_ns: i64,
    /// When each stream had its last line, by its hash.
    streams: HashMap<u64, i64>,
    pruned_ns: i64,
}

impl Usage {
    /// Takes bytes out of what may come at `rate` a second, `burst` at once. More than that at once is taken when nothing
    /// came before, so that no request is refused for ever.
    pub fn take(&mut self, bytes: u64, rate: u64, burst: u64, now_ns: i64) -> bool {
        let burst = burst as f64;
        let passed_s = now_ns.saturating_sub(self.at_ns).max(0) as f64 / NS_PER_S as f64;
        let room = if self.at_ns == 0 { burst } else { (self.room_bytes + passed_s * rate as f64).min(burst) };
        (self.room_bytes, self.at_ns) = (room, now_ns);
        let is_taken = room >= (bytes as f64).min(burst);
        if is_taken {
            self.room_bytes -= bytes as f64;
        }
        is_taken
    }

    /// Whether a stream may have lines: it has some, or there is room for one more.
    pub fn admits(&mut self, stream: u64, max_streams: usize, now_ns: i64) -> bool {
        if let Some(seen_ns) = self.streams.get_mut(&stream) {
            *seen_ns = now_ns;
            return true;
        }
        if self.streams.len() >= max_streams && now_ns.saturating_sub(self.pruned_ns) >= PRUNE_PAUSE_NS {
            self.streams.retain(|_, seen_ns| now_ns.saturating_sub(*seen_ns) < ACTIVE_NS);
            self.pruned_ns = now_ns;
        }
        let has_room = self.streams.len() < max_streams;
        if has_room {
            self.streams.insert(stream, now_ns);
        }
        has_room
    }

    /// Whether nothing came for so long that nothing of it needs to be known.
    pub fn is_idle(&self, now_ns: i64) -> bool {
        let is_active = |seen_ns: &i64| now_ns.saturating_sub(*seen_ns) < ACTIVE_NS;
        !is_active(&self.at_ns) && !self.streams.values().any(is_active)
    }

    pub fn active_streams(&self) -> usize {
        self.streams.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_at_their_rate() {
        let mut usage = Usage::default();
        let mut check = |at_s: i64, bytes: u64, expected: bool| {
            assert_eq!(usage.take(bytes, 10, 20, at_s * NS_PER_S), expected, "{bytes} at {at_s} s");
        };
        check(100, 15, true);
        check(100, 6, false);
        check(100, 5, true);
        check(101, 11, false);
        check(101, 10, true);
        // More than a burst is taken once there is room for one, and paid for afterwards.
        check(102, 50, false);
        check(103, 50, true);
        check(105, 1, false);
        check(106, 1, false);
        check(107, 10, true);
    }

    #[test]
    fn streams_are_active_for_an_hour() {
        let mut usage = Usage::default();
        let mut check = |at_s: i64, stream: u64, expected: bool| {
            assert_eq!(usage.admits(stream, 2, at_s * NS_PER_S), expected, "{stream} at {at_s} s");
        };
        check(10_000, 1, true);
        check(10_000, 2, true);
        check(10_000, 3, false);
        check(12_000, 2, true);
        check(13_600, 3, true);
        check(13_600, 1, false);
        check(13_600, 2, true);
    }
}
