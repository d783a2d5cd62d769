//! The texts of a block by columns, and search in them without putting lines together.
//!
//! A line is words (runs of letters, digits and non-ASCII) and what separates them. Lines with the same separators form a
//! [`Group`]: its skeleton is that text, with a mark in the place of each word, and the n-th words of all its lines are a
//! [`Column`]: a constant, an index into few values, or values one after the other, digits apart from others because they
//! compress better so. Lines that are like few others are kept verbatim.
//!
//! A substring is found in columns ([`Texts::find`]): its own skeleton must be part of a group's, its inner words must equal,
//! and its first and last word must end and begin, the words of those columns. Nothing of this is approximate.

mod find;
mod members;
mod split;

use std::ops::Range;

use model::varint;

pub use find::{Needle, retain};
use members::Members;
pub use split::pack;
use split::{MARK, is_word};

/// No texts are longer; decoding refuses what claims to be.
const MAX_TEXT_BYTES: usize = 64 << 20;
const MAX_LINES: usize = 1 << 20;
/// Lines of more words are kept verbatim.
const MAX_COLUMNS: usize = 250;

/// How a column is written.
const CONSTANT: u8 = 0;
const INDEXED: u8 = 1;
const FIXED: u8 = 2;
const VARYING: u8 = 4;
/// Beside the two above: values of digits only.
const DIGITS: u8 = 1;

/// Why bytes are no texts.
pub type Malformed = &'static str;

/// What texts are made of, without the values that fill them.
#[derive(Debug)]
pub struct Texts {
    bytes: Vec<u8>,
    members: Members,
    verbatim: Vec<Range<usize>>,
    /// The first is group 1.
    groups: Vec<Group>,
    digits_bytes: usize,
    others_bytes: usize,
}

#[derive(Debug)]
struct Group {
    skeleton: Range<usize>,
    /// Where in the skeleton the words are.
    marks: Vec<u32>,
    columns: Vec<Column>,
}

#[derive(Debug)]
enum Column {
    Constant(Range<usize>),
    Indexed {
        values: Vec<Range<usize>>,
        index: Range<usize>,
    },
    Fixed {
        all: All,
        width: usize,
    },
    /// `ends` counts from the first value's start.
    Varying {
        all: All,
        ends: Vec<u32>,
    },
}

/// The values of a column, one after the other.
#[derive(Debug, Clone, Copy)]
struct All {
    are_digits: bool,
    start: usize,
    bytes: usize,
    /// What they are made of beside digits ([`letters_of`]).
    letters: u32,
}

/// The letters of a word, whatever their case, as bits, and [`OTHER`] for bytes past ASCII.
fn letters_of(word: &[u8]) -> u32 {
    word.iter().fold(0, |letters, byte| match byte.to_ascii_lowercase() {
        letter @ b'a'..=b'z' => letters | 1 << (letter - b'a'),
        b'0'..=b'9' => letters,
        _ => letters | OTHER,
    })
}

const OTHER: u32 = 1 << 26;

/// The values that fill columns.
#[derive(Debug, Default)]
pub struct Values {
    pub digits: Vec<u8>,
    pub others: Vec<u8>,
}

impl Values {
    fn of(&self, all: &All) -> &[u8] {
        let values = if all.are_digits { &self.digits } else { &self.others };
        &values[all.start..all.start + all.bytes]
    }
}

impl Column {
    /// The value of a line by its place in the group.
    fn value<'a>(&self, place: usize, texts: &'a Texts, values: &'a Values) -> &'a [u8] {
        match self {
            Column::Constant(value) => &texts.bytes[value.clone()],
            Column::Indexed { values, index } => {
                &texts.bytes[values[texts.bytes[index.start + place] as usize].clone()]
            }
            Column::Fixed { all, width } => &values.of(all)[place * width..(place + 1) * width],
            Column::Varying { all, ends } => {
                let from = if place == 0 { 0 } else { ends[place - 1] as usize };
                &values.of(all)[from..ends[place] as usize]
            }
        }
    }

    fn value_bytes(&self, place: usize, texts: &Texts) -> usize {
        match self {
            Column::Constant(value) => value.len(),
            Column::Indexed { values, index } => values[texts.bytes[index.start + place] as usize].len(),
            Column::Fixed { width, .. } => *width,
            Column::Varying { ends, .. } => (ends[place] - if place == 0 { 0 } else { ends[place - 1] }) as usize,
        }
    }
}

impl Texts {
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Takes the values, if they are what the texts lack.
    pub fn check(&self, values: &Values) -> Result<(), Malformed> {
        match (values.digits.len(), values.others.len()) == (self.digits_bytes, self.others_bytes) {
            true => Ok(()),
            false => Err("values of another length than their texts ask for"),
        }
    }

    /// Appends a line's bytes. `values` were checked.
    pub fn line(&self, line: usize, values: &Values, out: &mut Vec<u8>) {
        let (group, place) = self.members.place(line);
        if group == 0 {
            return out.extend_from_slice(&self.bytes[self.verbatim[place].clone()]);
        }
        let group = &self.groups[group - 1];
        let (skeleton, mut from) = (&self.bytes[group.skeleton.clone()], 0);
        for (column, mark) in group.columns.iter().zip(&group.marks) {
            out.extend_from_slice(&skeleton[from..*mark as usize]);
            out.extend_from_slice(column.value(place, self, values));
            from = *mark as usize + 1;
        }
        out.extend_from_slice(&skeleton[from..]);
    }

    /// Hands each word and each verbatim line to `visit`, mostly once where it repeats. `values` were checked.
    pub fn each_word(&self, values: &Values, mut visit: impl FnMut(&[u8])) {
        self.verbatim.iter().for_each(|line| visit(&self.bytes[line.clone()]));
        for (number, group) in (1..).zip(&self.groups) {
            for column in &group.columns {
                match column {
                    Column::Constant(value) => visit(&self.bytes[value.clone()]),
                    Column::Indexed { values, .. } => {
                        values.iter().for_each(|value| visit(&self.bytes[value.clone()]));
                    }
                    // Digits are no words that anybody looks for.
                    Column::Fixed { all, .. } | Column::Varying { all, .. } if all.are_digits => {}
                    Column::Fixed { .. } | Column::Varying { .. } => {
                        (0..self.members.of(number).len()).for_each(|place| visit(column.value(place, self, values)));
                    }
                }
            }
        }
    }

    /// The bytes of a line.
    pub fn line_bytes(&self, line: usize) -> usize {
        let (group, place) = self.members.place(line);
        if group == 0 {
            return self.verbatim[place].len();
        }
        let group = &self.groups[group - 1];
        let words: usize = group.columns.iter().map(|column| column.value_bytes(place, self)).sum();
        group.skeleton.len() - group.columns.len() + words
    }

    /// Reads what [`pack`] wrote as its structure.
    pub fn read(bytes: Vec<u8>) -> Result<Texts, Malformed> {
        let mut reader = Reader { bytes: &bytes, at: 0 };
        let lines = reader.number(MAX_LINES)?;
        let groups = reader.number(lines)?;
        let members = reader.members(lines, groups)?;
        let verbatim = members.of(0).iter().map(|_| reader.range()).collect::<Result<Vec<_>, _>>()?;
        let mut texts = Texts {
            bytes: Vec::new(),
            members,
            verbatim,
            groups: Vec::with_capacity(groups),
            digits_bytes: 0,
            others_bytes: 0,
        };
        for number in 1..=groups {
            let lines = texts.members.of(number).len();
            let skeleton = reader.range()?;
            let marks: Vec<u32> = memchr::memchr_iter(MARK, &bytes[skeleton.clone()]).map(|at| at as u32).collect();
            if marks.len() > MAX_COLUMNS {
                return Err("a group of too many columns");
            }
            let columns = marks.iter().map(|_| reader.column(lines, &mut texts.digits_bytes, &mut texts.others_bytes));
            let columns = columns.collect::<Result<_, _>>()?;
            texts.groups.push(Group { skeleton, marks, columns });
        }
        if reader.at != bytes.len() {
            return Err("bytes behind the last group");
        }
        texts.bytes = bytes;
        match texts.are_short() {
            true => Ok(texts),
            false => Err("texts that claim to be too long"),
        }
    }

    /// Whether all lines together are as short as a block's are.
    fn are_short(&self) -> bool {
        let all_bytes = |exactly: bool| {
            let verbatim = self.verbatim.iter().fold(0, |bytes, line| line.len().saturating_add(bytes));
            let groups = (1..).zip(&self.groups);
            let groups = groups.map(|(number, group)| self.group_bytes(group, self.members.of(number).len(), exactly));
            groups.fold(verbatim, usize::saturating_add)
        };
        // At most mostly says it, and is quicker.
        all_bytes(false) <= MAX_TEXT_BYTES || all_bytes(true) <= MAX_TEXT_BYTES
    }

    /// The bytes of a group's lines together, or what they are at most.
    fn group_bytes(&self, group: &Group, lines: usize, exactly: bool) -> usize {
        let words = group.columns.iter().map(|column| match column {
            Column::Constant(value) => value.len().saturating_mul(lines),
            Column::Indexed { values, index } if exactly => {
                let lengths = self.bytes[index.clone()].iter().map(|place| values[usize::from(*place)].len());
                lengths.fold(0, usize::saturating_add)
            }
            Column::Indexed { values, .. } => values.iter().map(Range::len).max().unwrap_or(0).saturating_mul(lines),
            Column::Fixed { width, .. } => width * lines,
            Column::Varying { ends, .. } => ends.last().map_or(0, |end| *end as usize),
        });
        let separators = (group.skeleton.len() - group.columns.len()).saturating_mul(lines);
        words.fold(separators, usize::saturating_add)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// A number that is at most `max`.
    fn number(&mut self, max: usize) -> Result<usize, Malformed> {
        let mut rest = &self.bytes[self.at..];
        let number = varint::take(&mut rest).ok_or("a number that is cut short or too large")?;
        self.at = self.bytes.len() - rest.len();
        usize::try_from(number).ok().filter(|number| *number <= max).ok_or(BEYOND)
    }

    /// The group of each line.
    fn members(&mut self, lines: usize, groups: usize) -> Result<Members, Malformed> {
        const LONG: u8 = 0x80;
        let short = self.bytes[self.at..].get(..lines);
        let short = short.filter(|short| short.iter().fold(0, |all, byte| all | byte) < LONG);
        if let Some(short) = short {
            let largest = short.iter().fold(0, |largest, group| largest.max(*group));
            self.at += lines;
            return match usize::from(largest) <= groups {
                true => Ok(Members::new(short.iter().map(|group| usize::from(*group)), groups)),
                false => Err(BEYOND),
            };
        }
        let numbers = (0..lines).map(|_| self.number(groups)).collect::<Result<Vec<_>, _>>()?;
        Ok(Members::new(numbers.iter().copied(), groups))
    }

    /// A length, and so many bytes.
    fn range(&mut self) -> Result<Range<usize>, Malformed> {
        let length = self.number(self.bytes.len())?;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Result<Range<usize>, Malformed> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or("texts cut short")?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    fn column(&mut self, lines: usize, digits: &mut usize, others: &mut usize) -> Result<Column, Malformed> {
        let kind = self.take(1)?;
        let kind = self.bytes[kind.start];
        match kind {
            CONSTANT => Ok(Column::Constant(self.range()?)),
            INDEXED => {
                let count = self.number(usize::from(u8::MAX))?;
                let values = (0..count).map(|_| self.range()).collect::<Result<Vec<_>, _>>()?;
                let index = self.take(lines)?;
                let largest = self.bytes[index.clone()].iter().fold(0, |largest, place| largest.max(*place));
                if lines > 0 && usize::from(largest) >= count {
                    return Err("an index beyond its values");
                }
                Ok(Column::Indexed { values, index })
            }
            _ => self.filled(kind, lines, if kind & DIGITS != 0 { digits } else { others }),
        }
    }

    /// A column whose values are apart; `filled` is how many bytes of them there were so far.
    fn filled(&mut self, kind: u8, lines: usize, filled: &mut usize) -> Result<Column, Malformed> {
        let letters = self.number(u32::MAX as usize)? as u32;
        let mut all = All { are_digits: kind & DIGITS != 0, start: *filled, bytes: 0, letters };
        let column = match kind & !DIGITS {
            FIXED => {
                let width = self.number(MAX_TEXT_BYTES)?;
                all.bytes = width.checked_mul(lines).ok_or(TOO_LONG)?;
                Column::Fixed { all, width }
            }
            VARYING => {
                let ends = self.ends(lines)?;
                all.bytes = ends.last().map_or(0, |end| *end as usize);
                Column::Varying { all, ends }
            }
            _ => return Err("a column of an unknown kind"),
        };
        *filled = filled.checked_add(all.bytes).filter(|bytes| *bytes <= MAX_TEXT_BYTES).ok_or(TOO_LONG)?;
        Ok(column)
    }

    /// So many lengths, as the places where values of these lengths end.
    fn ends(&mut self, lines: usize) -> Result<Vec<u32>, Malformed> {
        const LONG: u64 = 0x8080_8080_8080_8080;
        let (mut ends, mut end) = (Vec::with_capacity(lines), 0usize);
        while ends.len() < lines {
            let eight = self.bytes[self.at..].first_chunk::<8>();
            match eight.filter(|eight| u64::from_le_bytes(**eight) & LONG == 0 && ends.len() + 8 <= lines) {
                Some(eight) => {
                    ends.extend(eight.iter().map(|length| {
                        end += usize::from(*length);
                        end as u32
                    }));
                    self.at += 8;
                }
                None => {
                    end += self.number(MAX_TEXT_BYTES)?;
                    ends.push(end as u32);
                }
            }
            if end > MAX_TEXT_BYTES {
                return Err(TOO_LONG);
            }
        }
        Ok(ends)
    }
}

const BEYOND: Malformed = "a number beyond its bound";
const TOO_LONG: Malformed = "values that claim to be too long";

#[cfg(test)]
mod tests;
