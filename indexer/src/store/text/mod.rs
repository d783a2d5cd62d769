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
mod split;

use std::ops::Range;

use model::varint;

pub use find::Needle;
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
    /// For each line its group, and its place in it. Group 0 holds the verbatim ones.
    places: Vec<(u32, u32)>,
    verbatim: Vec<Range<usize>>,
    groups: Vec<Group>,
    digits_bytes: usize,
    others_bytes: usize,
    /// Of all lines together.
    pub text_bytes: usize,
}

#[derive(Debug)]
struct Group {
    skeleton: Range<usize>,
    columns: Vec<Column>,
    /// Its lines by rising place.
    lines: Vec<u32>,
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
        self.places.len()
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
        let (group, place) = self.places[line];
        let place = place as usize;
        if group == 0 {
            return out.extend_from_slice(&self.bytes[self.verbatim[place].clone()]);
        }
        let group = &self.groups[group as usize - 1];
        let mut rest = &self.bytes[group.skeleton.clone()];
        for column in &group.columns {
            let mark = memchr::memchr(MARK, rest).unwrap_or(rest.len());
            out.extend_from_slice(&rest[..mark]);
            out.extend_from_slice(column.value(place, self, values));
            rest = rest.get(mark + 1..).unwrap_or(&[]);
        }
        out.extend_from_slice(rest);
    }

    /// Hands each word and each verbatim line to `visit`, mostly once where it repeats. `values` were checked.
    pub fn each_word(&self, values: &Values, mut visit: impl FnMut(&[u8])) {
        self.verbatim.iter().for_each(|line| visit(&self.bytes[line.clone()]));
        for group in &self.groups {
            for column in &group.columns {
                match column {
                    Column::Constant(value) => visit(&self.bytes[value.clone()]),
                    Column::Indexed { values, .. } => {
                        values.iter().for_each(|value| visit(&self.bytes[value.clone()]));
                    }
                    // Digits are no words that anybody looks for.
                    Column::Fixed { all, .. } | Column::Varying { all, .. } if all.are_digits => {}
                    Column::Fixed { .. } | Column::Varying { .. } => {
                        (0..group.lines.len()).for_each(|place| visit(column.value(place, self, values)));
                    }
                }
            }
        }
    }

    /// The bytes of a line.
    pub fn line_bytes(&self, line: usize) -> usize {
        let (group, place) = self.places[line];
        let place = place as usize;
        if group == 0 {
            return self.verbatim[place].len();
        }
        let group = &self.groups[group as usize - 1];
        let words: usize = group.columns.iter().map(|column| column.value_bytes(place, self)).sum();
        group.skeleton.len() - group.columns.len() + words
    }

    /// Reads what [`pack`] wrote as its structure.
    pub fn read(bytes: Vec<u8>) -> Result<Texts, Malformed> {
        let mut reader = Reader { bytes: &bytes, at: 0 };
        let lines = reader.number(MAX_LINES)?;
        let groups = reader.number(lines)?;
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); groups + 1];
        let mut places = Vec::with_capacity(lines);
        for line in 0..lines {
            let group = reader.number(groups)?;
            places.push((group as u32, members[group].len() as u32));
            members[group].push(line as u32);
        }
        let mut members = members.into_iter();
        let verbatim = members.next().unwrap_or_default().into_iter().map(|_| reader.range());
        let verbatim = verbatim.collect::<Result<Vec<_>, _>>()?;
        let (mut others_bytes, mut digits_bytes) = (0usize, 0usize);
        let mut text_bytes = verbatim.iter().map(Range::len).sum();
        let mut read = Vec::with_capacity(groups);
        for lines in members {
            let skeleton = reader.range()?;
            let marks = bytes[skeleton.clone()].iter().filter(|byte| **byte == MARK).count();
            if marks > MAX_COLUMNS {
                return Err("a group of too many columns");
            }
            let columns = (0..marks).map(|_| reader.column(lines.len(), &mut digits_bytes, &mut others_bytes));
            let group = Group { columns: columns.collect::<Result<_, _>>()?, skeleton, lines };
            text_bytes = usize::saturating_add(text_bytes, reader.group_bytes(&group));
            if text_bytes > MAX_TEXT_BYTES {
                return Err("texts that claim to be too long");
            }
            read.push(group);
        }
        match reader.at == bytes.len() {
            true => Ok(Texts { bytes, places, verbatim, groups: read, digits_bytes, others_bytes, text_bytes }),
            false => Err("bytes behind the last group"),
        }
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
        usize::try_from(number).ok().filter(|number| *number <= max).ok_or("a number beyond its bound")
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
                if self.bytes[index.clone()].iter().any(|place| usize::from(*place) >= count) {
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
                let mut ends = Vec::with_capacity(lines);
                for _ in 0..lines {
                    all.bytes += self.number(MAX_TEXT_BYTES - all.bytes)?;
                    ends.push(all.bytes as u32);
                }
                Column::Varying { all, ends }
            }
            _ => return Err("a column of an unknown kind"),
        };
        *filled = filled.checked_add(all.bytes).filter(|bytes| *bytes <= MAX_TEXT_BYTES).ok_or(TOO_LONG)?;
        Ok(column)
    }

    /// The bytes of a group's lines together.
    fn group_bytes(&self, group: &Group) -> usize {
        let lines = group.lines.len();
        let words = group.columns.iter().map(|column| match column {
            Column::Constant(value) => value.len().saturating_mul(lines),
            Column::Indexed { values, index } => {
                let lengths = self.bytes[index.clone()].iter().map(|place| values[usize::from(*place)].len());
                lengths.fold(0, usize::saturating_add)
            }
            Column::Fixed { width, .. } => width * lines,
            Column::Varying { ends, .. } => ends.last().map_or(0, |end| *end as usize),
        });
        let separators = (group.skeleton.len() - group.columns.len()).saturating_mul(lines);
        words.fold(separators, usize::saturating_add)
    }
}

const TOO_LONG: Malformed = "values that claim to be too long";

#[cfg(test)]
mod tests;
