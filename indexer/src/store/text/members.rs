//! Which lines belong to which group.

use std::cell::OnceCell;
use std::ops::Range;

/// Lines by their group, in one list; group 0 holds those that are kept verbatim.
#[derive(Debug)]
pub struct Members {
    /// Those of a group together, rising.
    lines: Vec<u32>,
    /// Where each group begins, and where the last ends.
    starts: Vec<u32>,
    /// For each line its group, and its place in it: made when a line is asked for.
    places: OnceCell<Vec<(u32, u32)>>,
}

impl Members {
    /// Of the group of each line; there are `groups` beside group 0.
    pub fn new(group_of_line: impl Iterator<Item = usize> + Clone, groups: usize) -> Members {
        let mut starts = vec![0u32; groups + 2];
        group_of_line.clone().for_each(|group| starts[group + 1] += 1);
        for group in 1..starts.len() {
            starts[group] += starts[group - 1];
        }
        let (mut next, mut lines) = (starts.clone(), vec![0; starts[groups + 1] as usize]);
        for (line, group) in (0u32..).zip(group_of_line) {
            lines[next[group] as usize] = line;
            next[group] += 1;
        }
        Members { lines, starts, places: OnceCell::new() }
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn of(&self, group: usize) -> &[u32] {
        let Range { start, end } = self.starts[group]..self.starts[group + 1];
        &self.lines[start as usize..end as usize]
    }

    /// The group of a line, and its place in it.
    pub fn place(&self, line: usize) -> (usize, usize) {
        let (group, place) = self.places.get_or_init(|| self.places())[line];
        (group as usize, place as usize)
    }

    fn places(&self) -> Vec<(u32, u32)> {
        let mut places = vec![(0, 0); self.len()];
        for group in 0..self.starts.len() - 1 {
            for (place, line) in (0u32..).zip(self.of(group)) {
                places[*line as usize] = (group as u32, place);
            }
        }
        places
    }
}
