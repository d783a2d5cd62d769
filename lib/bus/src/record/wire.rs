//! Integers, strings, runs and symbols of a record's body.

use std::collections::HashMap;
use std::sync::Arc;

use model::{Labels, varint};
use xxhash_rust::xxh3::Xxh3Builder;

/// Why a body cannot be read.
pub type Malformed = &'static str;

const CUT_SHORT: Malformed = "the body is cut short";

#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A writer whose bytes start with room for a header.
    pub fn with_header(header_bytes: usize) -> Writer {
        Writer { bytes: vec![0; header_bytes] }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn unsigned(&mut self, value: u64) {
        varint::put(&mut self.bytes, value);
    }

    pub fn signed(&mut self, value: i64) {
        self.unsigned(varint::zigzag(value));
    }

    pub fn string(&mut self, text: &str) {
        self.unsigned(text.len() as u64);
        self.raw(text.as_bytes());
    }

    /// A column of few different neighbours: pairs of a value and how often it repeats.
    pub fn runs(&mut self, values: impl Iterator<Item = i64>) {
        let mut runs = Runs::default();
        values.for_each(|value| runs.push(value));
        self.raw(&runs.finish());
    }

    /// Label sets over a table of the strings in them.
    pub fn label_sets<'a>(&mut self, sets: impl Iterator<Item = &'a Labels> + Clone) {
        let mut ids: HashMap<&str, u64, Xxh3Builder> = HashMap::default();
        let mut table: Vec<&str> = Vec::new();
        let mut references = Writer::default();
        let mut count = 0;
        for set in sets {
            count += 1;
            references.unsigned(set.len() as u64);
            for text in set.iter().flat_map(|label| [label.name.as_ref(), label.value.as_ref()]) {
                let id = *ids.entry(text).or_insert_with(|| {
                    table.push(text);
                    table.len() as u64 - 1
                });
                references.unsigned(id);
            }
        }
        self.unsigned(table.len() as u64);
        for text in table {
            self.string(text);
        }
        self.unsigned(count);
        self.raw(&references.bytes);
    }
}

/// A column being written as runs.
#[derive(Default)]
pub struct Runs {
    done: Writer,
    /// The value at hand, and how often it stood there.
    run: Option<(i64, u64)>,
}

impl Runs {
    #[inline]
    pub fn push(&mut self, value: i64) {
        match &mut self.run {
            Some((current, count)) if *current == value => *count += 1,
            run => {
                let ended = run.replace((value, 1));
                self.end(ended);
            }
        }
    }

    fn end(&mut self, run: Option<(i64, u64)>) {
        if let Some((value, count)) = run {
            self.done.signed(value);
            self.done.unsigned(count);
        }
    }

    pub fn finish(mut self) -> Vec<u8> {
        let last = self.run.take();
        self.end(last);
        self.done.bytes
    }
}

/// Reads a body front to back; every count is checked against the bytes that are left.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(rest: &'a [u8]) -> Reader<'a> {
        Reader { rest }
    }

    pub fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err("bytes are left over") }
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn unsigned(&mut self) -> Result<u64, Malformed> {
        varint::take(&mut self.rest).ok_or("a number is malformed")
    }

    pub fn signed(&mut self) -> Result<i64, Malformed> {
        Ok(varint::unzigzag(self.unsigned()?))
    }

    /// A count of things that take at least `item_bytes` each.
    pub fn count(&mut self, item_bytes: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.unsigned()?).map_err(|_| CUT_SHORT)?;
        if count > self.rest.len() / item_bytes { Err(CUT_SHORT) } else { Ok(count) }
    }

    pub fn string(&mut self) -> Result<&'a str, Malformed> {
        let len = self.count(1)?;
        self.text(len)
    }

    pub fn text(&mut self, len: usize) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.take(len)?).map_err(|_| "a text is no UTF-8")
    }

    /// Reads runs until they hold `count` values.
    pub fn runs(&mut self, count: usize, mut each: impl FnMut(i64) -> Result<(), Malformed>) -> Result<(), Malformed> {
        let mut left = count;
        while left > 0 {
            let value = self.signed()?;
            let repeats = usize::try_from(self.unsigned()?).map_err(|_| CUT_SHORT)?;
            if repeats == 0 || repeats > left {
                return Err("a run does not fit its column");
            }
            for _ in 0..repeats {
                each(value)?;
            }
            left -= repeats;
        }
        Ok(())
    }

    pub fn label_sets(&mut self) -> Result<Vec<Labels>, Malformed> {
        let symbols = self.count(1)?;
        let table = (0..symbols).map(|_| self.string().map(Arc::from)).collect::<Result<Vec<Arc<str>>, _>>()?;
        let sets = self.count(1)?;
        (0..sets).map(|_| self.labels(&table)).collect()
    }

    /// Sets are written sorted by name and without empty values; any other order is no set of ours.
    fn labels(&mut self, table: &[Arc<str>]) -> Result<Labels, Malformed> {
        let count = self.count(2)?;
        let mut pairs: Vec<(Arc<str>, Arc<str>)> = Vec::with_capacity(count);
        for _ in 0..count {
            let (name, value) = (self.symbol(table)?, self.symbol(table)?);
            if value.is_empty() || pairs.last().is_some_and(|(last, _)| *last >= name) {
                return Err("a label set is not in order");
            }
            pairs.push((name, value));
        }
        Ok(Labels::from_pairs(pairs))
    }

    fn symbol(&mut self, table: &[Arc<str>]) -> Result<Arc<str>, Malformed> {
        let id = usize::try_from(self.unsigned()?).map_err(|_| CUT_SHORT)?;
        table.get(id).cloned().ok_or("a symbol is not in the table")
    }
}
