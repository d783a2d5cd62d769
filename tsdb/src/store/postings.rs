//! The inverted index: label name → value → ids of the series that carry it.
//!
//! Names and values are sorted, so that listings come out in order and a regex is a scan of one name's distinct values.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Label, Labels, MatchOp, Matcher};
use roaring::RoaringBitmap;

/// A rough price of one entry of the index, for accounting.
const ENTRY_BYTES: usize = 96;

#[derive(Debug, Default)]
pub struct Postings {
    names: BTreeMap<Arc<str>, BTreeMap<Arc<str>, RoaringBitmap>>,
    /// Ids are `0..series`.
    series: u32,
    bytes: usize,
}

impl Postings {
    /// From names, values and the ids that carry them, each pair once, of so many series.
    pub fn from_pairs(pairs: impl Iterator<Item = (Arc<str>, Arc<str>, RoaringBitmap)>, series: u32) -> Postings {
        let mut postings = Postings { series, ..Postings::default() };
        for (name, value, ids) in pairs {
            postings.bytes += ENTRY_BYTES + value.len();
            postings.names.entry(name).or_default().insert(value, ids);
        }
        postings
    }

    /// Gives the next id to a series. Answers its labels made of the index' own strings, so that equal ones are kept once.
    pub fn add(&mut self, labels: &Labels) -> (u32, Labels) {
        let id = self.series;
        self.series += 1;
        let interned: Vec<Label> = labels.iter().map(|label| self.add_label(id, label)).collect();
        (id, Labels::from_pairs(interned.into_iter().map(|label| (label.name, label.value))))
    }

    fn add_label(&mut self, id: u32, label: &Label) -> Label {
        let name = match self.names.get_key_value(&label.name) {
            Some((name, _)) => name.clone(),
            None => label.name.clone(),
        };
        let values = self.names.entry(name.clone()).or_default();
        let value = match values.get_key_value(&label.value) {
            Some((value, _)) => value.clone(),
            None => {
                self.bytes += ENTRY_BYTES + label.value.len();
                label.value.clone()
            }
        };
        values.entry(value.clone()).or_default().insert(id);
        Label { name, value }
    }

    /// Bytes held, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The series that every matcher accepts.
    pub fn select(&self, matchers: &[Matcher]) -> RoaringBitmap {
        let (excluding, including): (Vec<&Matcher>, Vec<&Matcher>) =
            matchers.iter().partition(|matcher| matcher.matches_empty());
        let mut selected: Option<RoaringBitmap> = None;
        for matcher in including {
            let found = self.carrying(matcher);
            let narrowed = match selected {
                Some(selected) => selected & found,
                None => found,
            };
            if narrowed.is_empty() {
                return narrowed;
            }
            selected = Some(narrowed);
        }
        let mut selected = selected.unwrap_or_else(|| (0..self.series).collect());
        for matcher in excluding {
            // A series without the label is accepted: only those with another value fall out.
            for (_, ids) in self.values_of(&matcher.name).filter(|(value, _)| !matcher.matches(value)) {
                selected -= ids;
            }
        }
        selected
    }

    fn carrying(&self, matcher: &Matcher) -> RoaringBitmap {
        if matcher.op == MatchOp::Equal {
            let values = self.names.get(matcher.name.as_str());
            return values.and_then(|values| values.get(matcher.value.as_str())).cloned().unwrap_or_default();
        }
        let mut found = RoaringBitmap::new();
        for (_, ids) in self.values_of(&matcher.name).filter(|(value, _)| matcher.matches(value)) {
            found |= ids;
        }
        found
    }

    /// Label names, sorted.
    pub fn names(&self) -> impl Iterator<Item = (&Arc<str>, &BTreeMap<Arc<str>, RoaringBitmap>)> {
        self.names.iter()
    }

    /// The distinct values of a name, sorted, with the series that carry them.
    pub fn values_of(&self, name: &str) -> impl Iterator<Item = (&Arc<str>, &RoaringBitmap)> {
        self.names.get(name).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(op: MatchOp, name: &str, value: &str, expected: &[u32]) {
        let mut postings = Postings::default();
        for (a, b) in [("1", "x"), ("2", ""), ("10", "y"), ("", "x")] {
            postings.add(&Labels::from_pairs([("a", a), ("b", b)]));
        }
        let matcher = Matcher::new(name, op, value).expect("a good matcher");
        let found: Vec<u32> = postings.select(std::slice::from_ref(&matcher)).iter().collect();
        assert_eq!(found, expected, "{matcher}");
    }

    #[test]
    fn matchers_of_every_kind() {
        check(MatchOp::Equal, "a", "1", &[0]);
        check(MatchOp::Equal, "a", "", &[3]);
        check(MatchOp::Equal, "c", "", &[0, 1, 2, 3]);
        check(MatchOp::NotEqual, "b", "x", &[1, 2]);
        check(MatchOp::NotEqual, "b", "", &[0, 2, 3]);
        check(MatchOp::Regex, "a", "1.*", &[0, 2]);
        check(MatchOp::Regex, "b", "x?", &[0, 1, 3]);
        check(MatchOp::NotRegex, "b", "x|y", &[1]);
        check(MatchOp::Equal, "c", "z", &[]);
    }
}
