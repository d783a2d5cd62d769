//! When a group is evaluated: slots every interval, shifted by a hash of its name so that groups do not crowd.

use xxhash_rust::xxh3::xxh3_64;

/// The slot of a group at or before an instant.
pub fn slot_before(file: &str, name: &str, interval_ms: i64, now_ms: i64) -> i64 {
    let hash = xxh3_64(format!("{file};{name}").as_bytes());
    let shift_ms = (hash % interval_ms.unsigned_abs()) as i64;
    (now_ms - shift_ms).div_euclid(interval_ms) * interval_ms + shift_ms
}

/// The slot to evaluate next, and how many were missed, when the one at `slot_ms` has just been evaluated.
pub fn next_slot(slot_ms: i64, interval_ms: i64, now_ms: i64) -> (i64, u64) {
    let behind = ((now_ms - slot_ms) / interval_ms).max(0);
    let missed = (behind - 1).max(0);
    (slot_ms + (missed + 1) * interval_ms, missed as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_aligned_and_stay_so() {
        let slot = slot_before("f", "g", 60_000, 1_000_000_000);
        assert!(slot <= 1_000_000_000 && slot > 1_000_000_000 - 60_000);
        assert_eq!(slot_before("f", "g", 60_000, slot), slot);
        assert_eq!(slot_before("f", "g", 60_000, slot + 59_999), slot);
        assert_eq!(slot_before("f", "g", 60_000, slot + 60_000), slot + 60_000);
    }

    #[test]
    fn missed_slots_are_skipped_and_counted() {
        assert_eq!(next_slot(1000, 100, 1010), (1100, 0));
        assert_eq!(next_slot(1000, 100, 1150), (1100, 0));
        assert_eq!(next_slot(1000, 100, 1350), (1300, 2));
        assert_eq!(next_slot(1000, 100, 900), (1100, 0));
    }
}
