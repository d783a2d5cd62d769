//! Where time is divided for counting.

/// Rising instants, each once: a line counts at the first that it is not behind. Asked for neighbours in time, it mostly
/// answers without a search.
pub struct Edges<'a> {
    at_ns: &'a [i64],
    /// The answer before.
    place: usize,
}

impl<'a> Edges<'a> {
    pub fn new(at_ns: &'a [i64]) -> Edges<'a> {
        assert!(at_ns.is_sorted(), "edges rise");
        Edges { at_ns, place: 0 }
    }

    pub fn at_ns(&self) -> &'a [i64] {
        self.at_ns
    }

    /// The place of the edge that an instant counts at; as many as there are for one behind the last.
    pub fn of(&mut self, t_ns: i64) -> usize {
        if !self.is_at(self.place, t_ns) {
            self.place = self.at_ns.partition_point(|edge| *edge < t_ns);
        }
        self.place
    }

    /// Whether a place is that of instants behind the last edge.
    pub fn is_behind_all(&self, place: usize) -> bool {
        place == self.at_ns.len()
    }

    fn is_at(&self, place: usize, t_ns: i64) -> bool {
        self.at_ns.get(place).is_none_or(|edge| t_ns <= *edge)
            && place.checked_sub(1).is_none_or(|before| t_ns > self.at_ns[before])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(at_ns: &[i64], t_ns: &[i64], expected: &[usize]) {
        let mut edges = Edges::new(at_ns);
        assert_eq!(t_ns.iter().map(|t| edges.of(*t)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_instant_counts_at_the_edge_that_it_is_not_behind() {
        check(&[], &[1, 2], &[0, 0]);
        check(&[10, 20], &[i64::MIN, 9, 10, 11, 20, 21, i64::MAX], &[0, 0, 0, 1, 1, 2, 2]);
        check(&[10, 20, 30], &[25, 5, 15, 15, 30, 5], &[2, 0, 1, 1, 2, 0]);
    }
}
