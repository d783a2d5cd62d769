//! Label sets of series: each as what differs from the one before it, over a table of the strings in them.
//!
//! Neighbours of a scrape differ in one or two labels, so a set is a handful of bytes and hardly any look-up. Strings are
//! recognized by address first: producers that keep their label sets hash no text here.

use std::collections::HashMap;
use std::sync::Arc;

use model::{IdMap, Label, Labels};
use xxhash_rust::xxh3::Xxh3Builder;

use super::wire::{Malformed, Reader, Writer};

/// Labels of all sets of a record together; bounds what a small record can unpack to.
pub const MAX_RECORD_LABELS: usize = 1 << 18;
/// So many leading labels of a set may be those of the set before.
const MASK_BITS: usize = u64::BITS as usize;

#[derive(Default)]
struct Symbols<'a> {
    by_address: IdMap<usize, u64>,
    by_text: HashMap<&'a str, u64, Xxh3Builder>,
    table: Vec<&'a str>,
}

impl<'a> Symbols<'a> {
    fn id(&mut self, text: &'a Arc<str>) -> u64 {
        let address = Arc::as_ptr(text).addr();
        if let Some(id) = self.by_address.get(&address) {
            return *id;
        }
        let table = &mut self.table;
        let id = *self.by_text.entry(text).or_insert_with(|| {
            table.push(text);
            table.len() as u64 - 1
        });
        self.by_address.insert(address, id);
        id
    }
}

/// The mask of a set all of whose labels are those of the set before.
fn full_mask(labels: usize) -> u64 {
    if labels >= MASK_BITS { u64::MAX } else { (1 << labels) - 1 }
}

/// Writes the sets; answers how many labels they have.
pub fn write<'a>(sets: impl Iterator<Item = &'a Labels>, writer: &mut Writer) -> usize {
    let mut symbols = Symbols::default();
    let mut references = Writer::default();
    let (mut before, mut count, mut labels): (&[Label], _, _) = (&[], 0, 0);
    for set in sets {
        let set = set.as_slice();
        count += 1;
        labels += set.len();
        references.unsigned(set.len() as u64);
        let leading = set.iter().zip(before).take(MASK_BITS).enumerate();
        let mask = leading.fold(0u64, |mask, (i, (a, b))| mask | u64::from(a == b) << i);
        references.unsigned(mask);
        for (i, label) in set.iter().enumerate() {
            if i >= MASK_BITS || mask & 1 << i == 0 {
                references.unsigned(symbols.id(&label.name));
                references.unsigned(symbols.id(&label.value));
            }
        }
        before = set;
    }
    writer.unsigned(symbols.table.len() as u64);
    symbols.table.iter().for_each(|text| writer.string(text));
    writer.unsigned(count);
    writer.raw(references.as_bytes());
    labels
}

pub fn read(reader: &mut Reader<'_>) -> Result<Vec<Labels>, Malformed> {
    let table = reader.symbols()?;
    let count = reader.count(2)?;
    let mut sets: Vec<Labels> = Vec::with_capacity(count);
    let mut left = MAX_RECORD_LABELS;
    for _ in 0..count {
        let size = reader.unsigned()?;
        let mask = reader.unsigned()?;
        let before = sets.last().map_or(&[][..], Labels::as_slice);
        let size = usize::try_from(size).map_err(|_| "a label set is too large")?;
        left = left.checked_sub(size).ok_or("label sets are too large")?;
        if size == before.len() && size <= MASK_BITS && mask == full_mask(size) {
            let same = sets.last().cloned().unwrap_or_default();
            sets.push(same);
            continue;
        }
        let mut labels: Vec<Label> = Vec::with_capacity(size);
        for i in 0..size {
            let label = match i < MASK_BITS && mask & 1 << i != 0 {
                true => before.get(i).ok_or("a label of no set")?.clone(),
                false => Label { name: reader.symbol(&table)?, value: reader.symbol(&table)? },
            };
            if label.value.is_empty() || labels.last().is_some_and(|last| last.name >= label.name) {
                return Err("a label set is not in order");
            }
            labels.push(label);
        }
        sets.push(Labels::from_sorted(labels));
    }
    Ok(sets)
}
