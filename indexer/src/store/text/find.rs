//! Substrings and words in columns.

use memchr::memmem::Finder;
use query::WordTest;

use super::split::{MARK, split};
use super::{All, Column, Group, Malformed, Texts, Values, is_word, letters_of};

/// What to look for in lines.
#[derive(Debug)]
pub enum Needle {
    Text(TextNeedle),
    Word(WordTest),
}

/// A substring, as it is or whatever the case of its ASCII letters.
#[derive(Debug)]
pub struct TextNeedle {
    text: Vec<u8>,
    ignore_case: bool,
    skeleton: Vec<u8>,
    words: Vec<Vec<u8>>,
    /// Whether its first and last byte belong to words.
    starts_in_word: bool,
    ends_in_word: bool,
}

impl Needle {
    pub fn new(text: &str, ignore_case: bool) -> Needle {
        Needle::Text(TextNeedle::new(text, ignore_case))
    }

    pub fn of_word(test: &WordTest) -> Needle {
        Needle::Word(test.clone())
    }

    /// Whether a text holds the needle. Of several lines together it says no only if none does.
    pub fn is_in(&self, text: &[u8]) -> bool {
        match self {
            Needle::Text(needle) => needle.is_inside(text, &needle.text),
            Needle::Word(test) => test.regex.is_match(text),
        }
    }
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

impl TextNeedle {
    fn new(text: &str, ignore_case: bool) -> TextNeedle {
        let folded = if ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
        let text = folded.into_bytes();
        let (mut skeleton, mut words) = (Vec::new(), Vec::new());
        split(&text, &mut skeleton, &mut words);
        let words = words.into_iter().map(<[u8]>::to_vec).collect();
        let [starts_in_word, ends_in_word] =
            [text.first(), text.last()].map(|byte| byte.is_some_and(|byte| is_word(*byte)));
        TextNeedle { ignore_case, skeleton, words, starts_in_word, ends_in_word, text }
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
}

impl Texts {
    /// Marks the lines that hold the needle. `values` is called only where they are needed.
    pub fn find<'v, E: From<Malformed>>(
        &self,
        needle: &Needle,
        mut values: impl FnMut() -> Result<&'v Values, E>,
        mark: &mut dyn FnMut(u32),
    ) -> Result<(), E> {
        for (number, group) in (1..).zip(&self.groups) {
            let lines = self.members.of(number);
            let found = match needle {
                Needle::Text(needle) => self.find_in_group(group, lines.len(), needle, &mut values),
                Needle::Word(test) => self.find_word(group, lines.len(), test, &mut values),
            };
            match found? {
                Found::None => {}
                Found::All => lines.iter().for_each(|line| mark(*line)),
                Found::Some(places) => places.iter().for_each(|place| mark(lines[*place as usize])),
            }
        }
        let verbatim = self.members.of(0).iter().zip(&self.verbatim);
        let holding = verbatim.filter(|(_, text)| needle.is_in(&self.bytes[(*text).clone()]));
        holding.for_each(|(line, _)| mark(*line));
        Ok(())
    }

    fn find_in_group<'v, E>(
        &self,
        group: &Group,
        lines: usize,
        needle: &TextNeedle,
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
            match self.find_at((group, lines), column, needle, values)? {
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

    /// The lines of which a word matches.
    fn find_word<'v, E>(
        &self,
        group: &Group,
        lines: usize,
        test: &WordTest,
        values: &mut dyn FnMut() -> Result<&'v Values, E>,
    ) -> Result<Found, E> {
        let mut found: Vec<u32> = Vec::new();
        for column in &group.columns {
            match column {
                Column::Constant(value) if test.regex.is_match(&self.bytes[value.clone()]) => return Ok(Found::All),
                Column::Constant(_) => {}
                Column::Indexed { values, index } => {
                    let matches: Vec<bool> =
                        values.iter().map(|value| test.regex.is_match(&self.bytes[value.clone()])).collect();
                    if matches.contains(&true) {
                        let index = (0u32..).zip(&self.bytes[index.clone()]);
                        found.extend(index.filter(|(_, value)| matches[usize::from(**value)]).map(|(place, _)| place));
                    }
                }
                _ if !column.may_match(test) => {}
                Column::Fixed { .. } | Column::Varying { .. } => {
                    column.places_matching(test, self, values()?, lines, &mut found);
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(if found.is_empty() { Found::None } else { Found::Some(found) })
    }

    /// The lines whose words fit the needle's, the first of them in this column.
    fn find_at<'v, E>(
        &self,
        (group, lines): (&Group, usize),
        first: usize,
        needle: &TextNeedle,
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
                    false => self.narrow(left, column, needle, word, lines),
                    true if !column.may_fit(&needle.words[word]) => Found::None,
                    true => self.narrow_by_values(left, column, needle, word, lines, values()?),
                };
                if matches!(left, Found::None) {
                    return Ok(left);
                }
            }
        }
        Ok(left)
    }

    fn narrow(&self, left: Found, column: &Column, needle: &TextNeedle, word: usize, lines: usize) -> Found {
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
        needle: &TextNeedle,
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
    let mut kept: Vec<u32> = match left {
        Found::None => Vec::new(),
        Found::All => (0..lines as u32).collect(),
        Found::Some(places) => places,
    };
    retain(&mut kept, keeps);
    if kept.is_empty() { Found::None } else { Found::Some(kept) }
}

/// [`Vec::retain`] for what no processor foresees: nothing branches on what is kept.
pub fn retain(items: &mut Vec<u32>, keeps: impl Fn(u32) -> bool) {
    let mut kept = 0;
    for at in 0..items.len() {
        let item = items[at];
        items[kept] = item;
        kept += usize::from(keeps(item));
    }
    items.truncate(kept);
}

impl Column {
    /// Its values, where they lie apart from the structure, and how long one is at most.
    fn apart(&self) -> Option<(&All, usize)> {
        match self {
            Column::Fixed { all, width } => Some((all, *width)),
            Column::Varying { all, .. } => Some((all, all.bytes)),
            Column::Constant(_) | Column::Indexed { .. } => None,
        }
    }

    /// Whether a value of a column that must be read may hold a word.
    fn may_fit(&self, word: &[u8]) -> bool {
        let Some((all, max_bytes)) = self.apart() else { return true };
        word.len() <= max_bytes && letters_of(word) & !all.letters == 0
    }

    /// Whether a value of a column that must be read may match.
    fn may_match(&self, test: &WordTest) -> bool {
        let Some((all, max_bytes)) = self.apart() else { return true };
        let has_letters = |text: &String| letters_of(text.as_bytes()) & !all.letters == 0;
        test.min_bytes <= max_bytes && test.holds.as_ref().is_none_or(|any| any.texts.iter().any(has_letters))
    }

    /// Adds the places whose values match. Most columns are ruled out by one search through all of their values.
    fn places_matching(&self, test: &WordTest, texts: &Texts, values: &Values, lines: usize, found: &mut Vec<u32>) {
        if let Some(any) = test.holds.as_ref().filter(|any| any.texts.len() == 1 && !any.ignore_case) {
            let Found::Some(places) = self.places_with(any.texts[0].as_bytes(), values) else { return };
            let matches = |place: &u32| test.regex.is_match(self.value(*place as usize, texts, values));
            return found.extend(places.into_iter().filter(matches));
        }
        let Some((all, _)) = self.apart() else { return };
        if !test.regex.is_match(values.of(all)) {
            return;
        }
        let values = (0..lines as u32).map(|place| (place, self.value(place as usize, texts, values)));
        let matching = values.filter(|(_, value)| value.len() >= test.min_bytes && test.regex.is_match(value));
        found.extend(matching.map(|(place, _)| place));
    }

    /// The places whose values hold a word.
    fn places_with(&self, word: &[u8], values: &Values) -> Found {
        let Some((all, _)) = self.apart() else { return Found::None };
        let all = values.of(all);
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
