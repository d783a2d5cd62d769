//! Substrings in columns.

use memchr::memmem::Finder;

use super::split::{MARK, split};
use super::{Column, Group, Malformed, Texts, Values, is_word, letters_of};

/// A substring to look for, as it is or whatever the case of its ASCII letters.
#[derive(Debug)]
pub struct Needle {
    text: Vec<u8>,
    ignore_case: bool,
    skeleton: Vec<u8>,
    words: Vec<Vec<u8>>,
    /// Whether its first and last byte belong to words.
    starts_in_word: bool,
    ends_in_word: bool,
}

/// What a word of the needle asks of a column's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Equal,
    End,
    Start,
    Inside,
}

/// What may be left of a group.
enum Found {
    None,
    All,
    /// Places in the group, rising.
    Some(Vec<u32>),
}

impl Needle {
    pub fn new(text: &str, ignore_case: bool) -> Needle {
        let folded = if ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
        let text = folded.into_bytes();
        let (mut skeleton, mut words) = (Vec::new(), Vec::new());
        split(&text, &mut skeleton, &mut words);
        let words = words.into_iter().map(<[u8]>::to_vec).collect();
        let [starts_in_word, ends_in_word] =
            [text.first(), text.last()].map(|byte| byte.is_some_and(|byte| is_word(*byte)));
        Needle { ignore_case, skeleton, words, starts_in_word, ends_in_word, text }
    }

    fn fit(&self, word: usize) -> Fit {
        let is_first = word == 0 && self.starts_in_word;
        let is_last = word + 1 == self.words.len() && self.ends_in_word;
        match (is_first, is_last) {
            (true, true) => Fit::Inside,
            (true, false) => Fit::End,
            (false, true) => Fit::Start,
            (false, false) => Fit::Equal,
        }
    }

    fn equal(&self, a: &[u8], b: &[u8]) -> bool {
        if self.ignore_case { a.eq_ignore_ascii_case(b) } else { a == b }
    }

    /// Whether a value is what the needle's word asks for.
    fn fits(&self, word: usize, value: &[u8]) -> bool {
        let wanted = self.words[word].as_slice();
        match self.fit(word) {
            Fit::Equal => self.equal(value, wanted),
            Fit::End => value.len() >= wanted.len() && self.equal(&value[value.len() - wanted.len()..], wanted),
            Fit::Start => value.len() >= wanted.len() && self.equal(&value[..wanted.len()], wanted),
            Fit::Inside => self.is_inside(value, wanted),
        }
    }

    fn is_inside(&self, text: &[u8], wanted: &[u8]) -> bool {
        match self.ignore_case {
            true => {
                text.windows(wanted.len().max(1)).any(|part| part.eq_ignore_ascii_case(wanted)) || wanted.is_empty()
            }
            false => memchr::memmem::find(text, wanted).is_some(),
        }
    }

    /// Whether a text holds the needle.
    pub fn is_in(&self, text: &[u8]) -> bool {
        self.is_inside(text, &self.text)
    }
}

impl Texts {
    /// Marks the lines that hold the needle. `values` is called only where they are needed.
    pub fn find<'v, E: From<Malformed>>(
        &self,
        needle: &Needle,
        mut values: impl FnMut() -> Result<&'v Values, E>,
        mark: &mut dyn FnMut(u32),
    ) -> Result<(), E> {
        for group in &self.groups {
            match self.find_in_group(group, needle, &mut values)? {
                Found::None => {}
                Found::All => group.lines.iter().for_each(|line| mark(*line)),
                Found::Some(places) => places.iter().for_each(|place| mark(group.lines[*place as usize])),
            }
        }
        let verbatim = (0u32..).zip(&self.places).filter(|(_, (group, _))| *group == 0);
        let holds = |place: &u32| needle.is_in(&self.bytes[self.verbatim[*place as usize].clone()]);
        verbatim.filter(|(_, (_, place))| holds(place)).for_each(|(line, _)| mark(line));
        Ok(())
    }

    fn find_in_group<'v, E>(
        &self,
        group: &Group,
        needle: &Needle,
        values: &mut dyn FnMut() -> Result<&'v Values, E>,
    ) -> Result<Found, E> {
        let skeleton = &self.bytes[group.skeleton.clone()];
        if needle.skeleton.is_empty() {
            return Ok(Found::All);
        }
        let mut found: Vec<u32> = Vec::new();
        let (finder, mut from, mut column) = (Finder::new(&needle.skeleton), 0, 0);
        while let Some(at) = finder.find(&skeleton[from..]).map(|at| from + at) {
            column += skeleton[from..at].iter().filter(|byte| **byte == MARK).count();
            match self.find_at(group, column, needle, values)? {
                Found::None => {}
                Found::All => return Ok(Found::All),
                Found::Some(places) => found.extend(places),
            }
            column += usize::from(skeleton[at] == MARK);
            from = at + 1;
        }
        found.sort_unstable();
        found.dedup();
        Ok(if found.is_empty() { Found::None } else { Found::Some(found) })
    }

    /// The lines whose words fit the needle's, the first of them in this column.
    fn find_at<'v, E>(
        &self,
        group: &Group,
        first: usize,
        needle: &Needle,
        values: &mut dyn FnMut() -> Result<&'v Values, E>,
    ) -> Result<Found, E> {
        let mut left = Found::All;
        // What needs no values comes first.
        for by_values in [false, true] {
            for word in 0..needle.words.len() {
                let column = &group.columns[first + word];
                let needs_values = matches!(column, Column::Fixed { .. } | Column::Varying { .. });
                if needs_values != by_values {
                    continue;
                }
                left = match needs_values {
                    false => self.narrow(left, column, needle, word, group.lines.len()),
                    true if !column.may_fit(&needle.words[word]) => Found::None,
                    true => self.narrow_by_values(left, column, needle, word, group.lines.len(), values()?),
                };
                if matches!(left, Found::None) {
                    return Ok(left);
                }
            }
        }
        Ok(left)
    }

    fn narrow(&self, left: Found, column: &Column, needle: &Needle, word: usize, lines: usize) -> Found {
        match column {
            Column::Constant(value) if needle.fits(word, &self.bytes[value.clone()]) => left,
            Column::Indexed { values, index } => {
                let fits: Vec<bool> =
                    values.iter().map(|value| needle.fits(word, &self.bytes[value.clone()])).collect();
                let index = &self.bytes[index.clone()];
                if fits.iter().all(|fits| *fits) {
                    return left;
                }
                if !fits.contains(&true) {
                    return Found::None;
                }
                keep(left, lines, |place| fits[usize::from(index[place as usize])])
            }
            _ => Found::None,
        }
    }

    fn narrow_by_values(
        &self,
        left: Found,
        column: &Column,
        needle: &Needle,
        word: usize,
        lines: usize,
        values: &Values,
    ) -> Found {
        // One search through all values at once, where it can be that.
        if matches!(left, Found::All) && needle.fit(word) == Fit::Inside && !needle.ignore_case {
            return column.places_with(&needle.words[word], values);
        }
        keep(left, lines, |place| needle.fits(word, column.value(place as usize, self, values)))
    }
}

fn keep(left: Found, lines: usize, keeps: impl Fn(u32) -> bool) -> Found {
    let kept: Vec<u32> = match left {
        Found::None => Vec::new(),
        Found::All => (0..lines as u32).filter(|place| keeps(*place)).collect(),
        Found::Some(places) => places.into_iter().filter(|place| keeps(*place)).collect(),
    };
    if kept.is_empty() { Found::None } else { Found::Some(kept) }
}

impl Column {
    /// Whether a value of a column that must be read may hold a word.
    fn may_fit(&self, word: &[u8]) -> bool {
        let (all, max_bytes) = match self {
            Column::Fixed { all, width } => (all, *width),
            Column::Varying { all, .. } => (all, all.bytes),
            Column::Constant(_) | Column::Indexed { .. } => return true,
        };
        word.len() <= max_bytes && letters_of(word) & !all.letters == 0
    }

    /// The places whose values hold a word.
    fn places_with(&self, word: &[u8], values: &Values) -> Found {
        let all = match self {
            Column::Fixed { all, .. } | Column::Varying { all, .. } => values.of(all),
            Column::Constant(_) | Column::Indexed { .. } => return Found::None,
        };
        let (finder, mut from, mut places) = (Finder::new(word), 0, Vec::new());
        while let Some(at) = finder.find(&all[from..]).map(|at| from + at) {
            let (place, end) = self.place_at(at);
            let is_whole = at + word.len() <= end;
            if is_whole {
                places.push(place as u32);
            }
            from = if is_whole { end } else { at + 1 };
        }
        if places.is_empty() { Found::None } else { Found::Some(places) }
    }

    /// The place whose value holds this byte of all values, and where that value ends.
    fn place_at(&self, at: usize) -> (usize, usize) {
        match self {
            Column::Fixed { width, .. } => (at / width, (at / width + 1) * width),
            Column::Varying { ends, .. } => {
                let place = ends.partition_point(|end| *end as usize <= at);
                (place, ends[place] as usize)
            }
            Column::Constant(_) | Column::Indexed { .. } => unreachable!("their values do not lie side by side"),
        }
    }
}
