//! The byte ranges of tailed files that the store has covered: what makes a line that is shipped again count once.
//!
//! A line belongs to the bytes up to its end, so it is covered when its *last* byte is. Bytes before it that were covered
//! (a blank line, the start of a line that an agent once shipped unfinished) never hide it.

use std::collections::BTreeMap;

use model::FileId;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ranges {
    /// Half open, rising, apart.
    files: BTreeMap<String, Vec<(u64, u64)>>,
}

impl Ranges {
    fn key(file: FileId) -> String {
        file.to_string()
    }

    /// What is covered of a file.
    pub fn of(&self, file: FileId) -> &[(u64, u64)] {
        self.files.get(&Self::key(file)).map_or(&[], Vec::as_slice)
    }

    pub fn cover(&mut self, file: FileId, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let ranges = self.files.entry(Self::key(file)).or_default();
        let from = ranges.partition_point(|range| range.1 < start);
        let to = ranges.partition_point(|range| range.0 <= end);
        let merged = match ranges.get(from..to) {
            Some([first, .., last]) => (first.0.min(start), last.1.max(end)),
            Some([only]) => (only.0.min(start), only.1.max(end)),
            _ => (start, end),
        };
        ranges.splice(from..to, [merged]);
    }

    pub fn forget(&mut self, file: FileId) {
        self.files.remove(&Self::key(file));
    }

    pub fn file_count(&self) -> usize {
        self.files.len()
    }
}

/// Whether the line at these bytes was covered before.
pub fn is_covered(ranges: &[(u64, u64)], (_, end): (u64, u64)) -> bool {
    let last = end.saturating_sub(1);
    let at = ranges.partition_point(|range| range.1 <= last);
    ranges.get(at).is_some_and(|range| range.0 <= last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId(1);

    fn check(covered: &[(u64, u64)], expected: &[(u64, u64)]) {
        let mut ranges = Ranges::default();
        covered.iter().for_each(|(start, end)| ranges.cover(FILE, *start, *end));
        assert_eq!(ranges.of(FILE), expected, "{covered:?}");
    }

    #[test]
    fn ranges_join() {
        check(&[(0, 10), (10, 20)], &[(0, 20)]);
        check(&[(10, 20), (0, 5)], &[(0, 5), (10, 20)]);
        check(&[(0, 5), (10, 20), (4, 12)], &[(0, 20)]);
        check(&[(0, 5), (10, 20), (30, 40), (0, 50)], &[(0, 50)]);
        check(&[(5, 5)], &[]);
    }

    #[test]
    fn a_line_is_covered_by_its_last_byte() {
        let ranges = [(0, 100)];
        assert!(is_covered(&ranges, (90, 100)));
        assert!(!is_covered(&ranges, (90, 110)), "blank bytes before it were covered, it was not");
        assert!(!is_covered(&ranges, (100, 110)));
        assert!(!is_covered(&[], (0, 1)));
    }

    proptest::proptest! {
        /// Records of a file of ten-byte lines arrive again and overlapping, as after crashes: each line counts once.
        #[test]
        fn every_line_counts_once(records in proptest::collection::vec((0u64..30, 1u64..10), 1..40)) {
            let (mut ranges, mut taken) = (Ranges::default(), vec![0; 40]);
            let mut reached = vec![false; 40];
            for (first, lines) in records {
                for line in first..first + lines {
                    reached[line as usize] = true;
                    if !is_covered(ranges.of(FILE), (line * 10, line * 10 + 10)) {
                        taken[line as usize] += 1;
                    }
                }
                ranges.cover(FILE, first * 10, (first + lines) * 10);
            }
            for (taken, reached) in taken.into_iter().zip(reached) {
                proptest::prop_assert_eq!(taken, u32::from(reached));
            }
        }
    }
}
