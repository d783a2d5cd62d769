//! Label sets of series: each as what differs from the one before it.
//!
//! Neighbours of a scrape differ in one or two labels, so a set is a handful of bytes. Producers that keep their strings
//! pay for no comparison of texts either: equal ones are mostly the same.

use std::cmp::Ordering;
use std::sync::Arc;

use model::{Label, Labels};

use super::wire::{Malformed, Reader, Writer};

/// Labels of all sets of a record together; bounds what a small record can unpack to.
pub const MAX_RECORD_LABELS: usize = 1 << 18;
/// So many labels of the set before can be referred to.
const MASK_BITS: usize = u64::BITS as usize;

/// What a set shares with the one before, as bits of that one's labels, and what is its own.
#[derive(Default)]
struct Difference {
    same: u64,
    /// Of the same name with another value.
    changed: u64,
    values: Writer,
    others: u64,
    pairs: Writer,
}

impl Difference {
    fn find(&mut self, before: &[Label], set: &[Label]) {
        (self.same, self.changed, self.others) = (0, 0, 0);
        self.values.clear();
        self.pairs.clear();
        let before = &before[..before.len().min(MASK_BITS)];
        let mut i = 0;
        for label in set {
            let order = loop {
                match before.get(i).map(|old| order(&old.name, &label.name)) {
                    Some(Ordering::Less) => i += 1,
                    found => break found,
                }
            };
            if order != Some(Ordering::Equal) {
                self.others += 1;
                self.pairs.string(&label.name);
                self.pairs.string(&label.value);
            } else if before[i].value == label.value {
                self.same |= 1 << i;
            } else {
                self.changed |= 1 << i;
                self.values.string(&label.value);
            }
        }
    }
}

fn order(a: &Arc<str>, b: &Arc<str>) -> Ordering {
    if Arc::ptr_eq(a, b) { Ordering::Equal } else { a.cmp(b) }
}

/// Writes the sets; answers how many labels they have.
pub fn write<'a>(count: usize, sets: impl Iterator<Item = &'a Labels>, writer: &mut Writer) -> usize {
    let (mut before, mut labels): (&[Label], _) = (&[], 0);
    let mut difference = Difference::default();
    writer.unsigned(count as u64);
    for set in sets {
        let set = set.as_slice();
        labels += set.len();
        difference.find(before, set);
        writer.unsigned(difference.same);
        writer.unsigned(difference.changed);
        writer.raw(difference.values.as_bytes());
        writer.unsigned(difference.others);
        writer.raw(difference.pairs.as_bytes());
        before = set;
    }
    labels
}

pub fn read(reader: &mut Reader<'_>) -> Result<Vec<Labels>, Malformed> {
    // Two masks and a number of others.
    let count = reader.count(3)?;
    let mut sets: Vec<Labels> = Vec::with_capacity(count);
    let mut left = MAX_RECORD_LABELS;
    for _ in 0..count {
        let before = sets.last().cloned().unwrap_or_default();
        let set = read_one(&before, reader, left)?;
        left -= set.len();
        sets.push(set);
    }
    Ok(sets)
}

fn read_one(before: &Labels, reader: &mut Reader<'_>, max_labels: usize) -> Result<Labels, Malformed> {
    let (same, changed) = (reader.unsigned()?, reader.unsigned()?);
    let known = before.as_slice();
    let all = if known.len() >= MASK_BITS { u64::MAX } else { (1 << known.len()) - 1 };
    if same & changed != 0 || (same | changed) & !all != 0 {
        return Err("a label of no set");
    }
    let mut labels: Vec<Label> = Vec::with_capacity(known.len() + 1);
    for (i, label) in known.iter().take(MASK_BITS).enumerate() {
        if same & 1 << i != 0 {
            labels.push(label.clone());
        } else if changed & 1 << i != 0 {
            labels.push(Label { name: label.name.clone(), value: reader.string()?.into() });
        }
    }
    let others = reader.count(2)?;
    if ((same | changed).count_ones() as usize).saturating_add(others) > max_labels {
        return Err("label sets are too large");
    }
    if others == 0 && same == all && known.len() <= MASK_BITS {
        return Ok(before.clone());
    }
    for _ in 0..others {
        labels.push(Label { name: reader.string()?.into(), value: reader.string()?.into() });
    }
    if others > 0 {
        labels.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    }
    if labels.iter().any(|label| label.value.is_empty()) || !labels.is_sorted_by(|a, b| a.name < b.name) {
        return Err("a label set is not in order");
    }
    Ok(Labels::from_sorted(labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that the last of some sets takes; all of them must come back.
    fn check(sets: &[&[(&str, &str)]]) -> usize {
        let sets: Vec<Labels> = sets.iter().map(|pairs| Labels::from_pairs(pairs.iter().copied())).collect();
        let bytes = |sets: &[Labels]| {
            let mut writer = Writer::default();
            write(sets.len(), sets.iter(), &mut writer);
            writer.into_bytes()
        };
        let all = bytes(&sets);
        let mut reader = Reader::new(&all);
        assert_eq!(read(&mut reader), Ok(sets.clone()));
        assert_eq!(reader.remaining(), 0);
        all.len() - bytes(&sets[..sets.len() - 1]).len()
    }

    #[test]
    fn what_neighbours_share_takes_no_room() {
        let one = [("a", "1"), ("b", "2"), ("c", "3")];
        assert_eq!(check(&[&one, &one]), 3);
        assert_eq!(check(&[&one, &[("a", "1"), ("b", "x"), ("c", "3")]]), 5);
        assert_eq!(check(&[&one, &[("a", "1"), ("c", "3")]]), 3);
        assert_eq!(check(&[&one, &[("a", "1"), ("bb", "2"), ("c", "3")]]), 8);
        assert_eq!(check(&[&one, &[]]), 3);
        check(&[&[], &one, &[("0", "0"), ("a", "1"), ("d", "4")]]);
    }

    /// Sets of one record that say each label anew must read as this.
    fn check_read(sets: &[&[(&str, &str)]], expected: Result<usize, Malformed>) {
        let mut writer = Writer::default();
        writer.unsigned(sets.len() as u64);
        for set in sets {
            [0, 0, set.len() as u64].into_iter().for_each(|number| writer.unsigned(number));
            set.iter().flat_map(|(name, value)| [name, value]).for_each(|text| writer.string(text));
        }
        let bytes = writer.into_bytes();
        let read = read(&mut Reader::new(&bytes));
        assert_eq!(read.map(|sets| sets.iter().map(Labels::len).sum::<usize>()), expected);
    }

    /// Labels out of order were moved into their places one by one, in a time that grows with their square.
    #[test]
    fn hostile_sets_are_refused_or_read_at_once() {
        let out_of_order = Err("a label set is not in order");
        check_read(&[&[("b", "1"), ("a", "1")]], Ok(2));
        check_read(&[&[("a", "1"), ("a", "2")]], out_of_order);
        check_read(&[&[("a", "")]], out_of_order);
        let names: Vec<String> = (0..MAX_RECORD_LABELS).rev().map(|i| format!("{i:06}")).collect();
        let wide: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
        check_read(&[&wide], Ok(MAX_RECORD_LABELS));
        check_read(&[&wide, &[("a", "1")]], Err("label sets are too large"));
    }

    #[test]
    fn wide_sets_come_back() {
        let names: Vec<String> = (0..100).map(|i| format!("n{i:03}")).collect();
        let wide: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
        check(&[&wide, &wide, &wide[30..], &wide]);
    }
}
