//! From lines to columns.

use std::collections::HashMap;

use model::varint;
use xxhash_rust::xxh3::xxh3_64;

use super::{CONSTANT, DIGITS, FIXED, INDEXED, MAX_COLUMNS, VARYING, letters_of};

/// Stands for a word in a skeleton; it is part of no text, because bytes past ASCII belong to words.
pub const MARK: u8 = 0xff;
/// Groups of fewer lines are kept verbatim.
const MIN_GROUP_LINES: u32 = 4;
const MAX_VALUES: usize = u8::MAX as usize;
/// Slots of the table that finds repeated values.
const SLOTS: usize = 1024;

static WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = byte >= 0x80 || (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

/// Whether a byte belongs to a word.
pub fn is_word(byte: u8) -> bool {
    WORD[byte as usize]
}

/// Splits a line: its words, and its skeleton.
pub fn split<'a>(line: &'a [u8], skeleton: &mut Vec<u8>, words: &mut Vec<&'a [u8]>) {
    let mut at = 0;
    while at < line.len() {
        let start = at;
        while at < line.len() && is_word(line[at]) {
            at += 1;
        }
        if at > start {
            words.push(&line[start..at]);
            skeleton.push(MARK);
        }
        while at < line.len() && !is_word(line[at]) {
            skeleton.push(line[at]);
            at += 1;
        }
    }
}

/// Lines as they are written.
#[derive(Debug, Default)]
pub struct Packed {
    pub structure: Vec<u8>,
    pub digits: Vec<u8>,
    pub others: Vec<u8>,
}

struct Gathered<'a> {
    skeleton: Vec<u8>,
    columns: usize,
    lines: u32,
    /// Line by line.
    words: Vec<&'a [u8]>,
}

/// Packs lines; `visit` sees each word and each verbatim line, mostly once where it repeats.
pub fn pack<'a>(lines: impl Iterator<Item = &'a str> + Clone, mut visit: impl FnMut(&[u8])) -> Packed {
    let (groups, of_line) = gather(lines.clone());
    let mut numbers = 0;
    let number_of: Vec<u64> = groups
        .iter()
        .map(|group| {
            let is_group = group.lines >= MIN_GROUP_LINES && group.columns <= MAX_COLUMNS;
            numbers += u64::from(is_group);
            if is_group { numbers } else { 0 }
        })
        .collect();
    let mut packed = Packed::default();
    varint::put(&mut packed.structure, of_line.len() as u64);
    varint::put(&mut packed.structure, numbers);
    of_line.iter().for_each(|group| varint::put(&mut packed.structure, number_of[*group as usize]));
    for (line, _) in lines.zip(&of_line).filter(|(_, group)| number_of[**group as usize] == 0) {
        put(&mut packed.structure, line.as_bytes());
        visit(line.as_bytes());
    }
    for (group, _) in groups.iter().zip(&number_of).filter(|(_, number)| **number > 0) {
        put(&mut packed.structure, &group.skeleton);
        for column in 0..group.columns {
            let values = group.words[column..].iter().step_by(group.columns).copied();
            pack_column(values, &mut packed, &mut visit);
        }
    }
    packed
}

/// The groups, and the group of each line.
fn gather<'a>(lines: impl Iterator<Item = &'a str>) -> (Vec<Gathered<'a>>, Vec<u32>) {
    let (mut groups, mut of_line): (Vec<Gathered<'a>>, Vec<u32>) = Default::default();
    let mut by_hash: HashMap<u64, u32> = HashMap::new();
    let (mut skeleton, mut words) = (Vec::new(), Vec::new());
    for line in lines {
        skeleton.clear();
        words.clear();
        split(line.as_bytes(), &mut skeleton, &mut words);
        let mut place = *by_hash.entry(xxh3_64(&skeleton)).or_insert(groups.len() as u32);
        if groups.get(place as usize).is_some_and(|group| group.skeleton != skeleton) {
            place = groups.len() as u32;
        }
        if place as usize == groups.len() {
            let (skeleton, columns) = (skeleton.clone(), words.len());
            groups.push(Gathered { skeleton, columns, lines: 0, words: Vec::new() });
        }
        let group = &mut groups[place as usize];
        group.lines += 1;
        group.words.extend_from_slice(&words);
        of_line.push(place);
    }
    (groups, of_line)
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn pack_column<'a>(values: impl Iterator<Item = &'a [u8]> + Clone, packed: &mut Packed, visit: &mut impl FnMut(&[u8])) {
    let first = values.clone().next().unwrap_or(b"");
    let structure = &mut packed.structure;
    if values.clone().all(|value| value == first) {
        structure.push(CONSTANT);
        put(structure, first);
        return visit(first);
    }
    if let Some((distinct, index)) = indexed(values.clone()) {
        structure.push(INDEXED);
        varint::put(structure, distinct.len() as u64);
        for value in distinct {
            put(structure, value);
            visit(value);
        }
        return structure.extend_from_slice(&index);
    }
    let are_digits = values.clone().all(|value| value.iter().all(u8::is_ascii_digit));
    let is_fixed = values.clone().all(|value| value.len() == first.len());
    structure.push(if is_fixed { FIXED } else { VARYING } | if are_digits { DIGITS } else { 0 });
    let letters = values.clone().fold(0, |letters, value| letters | letters_of(value));
    varint::put(structure, u64::from(letters));
    match is_fixed {
        true => varint::put(structure, first.len() as u64),
        false => {
            values.clone().for_each(|value| varint::put(structure, value.len() as u64));
        }
    }
    let out = if are_digits { &mut packed.digits } else { &mut packed.others };
    values.for_each(|value| {
        out.extend_from_slice(value);
        visit(value);
    });
}

/// The distinct values, and the place of each value among them, if they are few beside the values.
fn indexed<'a>(values: impl Iterator<Item = &'a [u8]> + Clone) -> Option<(Vec<&'a [u8]>, Vec<u8>)> {
    let max = MAX_VALUES.min(values.clone().count() / 4);
    let (mut distinct, mut index): (Vec<&[u8]>, Vec<u8>) = Default::default();
    // Places among the distinct ones, plus one.
    let mut table = [0u8; SLOTS];
    for value in values {
        let mut slot = xxh3_64(value) as usize % SLOTS;
        while table[slot] != 0 && distinct[usize::from(table[slot]) - 1] != value {
            slot = (slot + 1) % SLOTS;
        }
        if table[slot] == 0 {
            if distinct.len() == max {
                return None;
            }
            distinct.push(value);
            table[slot] = distinct.len() as u8;
        }
        index.push(table[slot] - 1);
    }
    Some((distinct, index))
}
