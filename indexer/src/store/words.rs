//! Words of the index: runs of ASCII letters, whatever stands beside them, in lower case. They lead from a text to the
//! blocks that may hold it.
//!
//! A run of a needle that does not touch its ends is a word of every line that holds the needle; one that does is part of a
//! word. Runs of a few letters are everywhere, and long ones are rare and the filter's ([`super::grams`]).

/// Shorter and longer runs are not indexed and not looked for.
const MIN_BYTES: usize = 4;
const MAX_BYTES: usize = 40;
/// Stands for runs that are too long to be words: a part may be in any of them.
pub const LONG: &str = "-";

/// All words of a text, repeats included, their case as it is; [`LONG`] in the place of longer runs.
pub fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let runs = text.split(|byte| !byte.is_ascii_alphabetic()).filter(|run| run.len() >= MIN_BYTES);
    runs.map(|run| if run.len() > MAX_BYTES { LONG.as_bytes() } else { run })
}

/// What the index can be asked for a needle.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Blocks with all these words.
    Words(Vec<String>),
    /// Blocks with a word that holds this, or with [`LONG`].
    Part(String),
    /// Nothing: any block may hold it.
    Nothing,
}

/// What to ask for a needle: its whole words, or the longest part of one.
pub fn asked(needle: &str) -> Asked {
    let runs: Vec<&[u8]> = needle.as_bytes().split(|byte| !byte.is_ascii_alphabetic()).collect();
    let inner = runs.get(1..runs.len() - 1).unwrap_or(&[]);
    let text = |run: &[u8]| String::from_utf8_lossy(run).to_ascii_lowercase();
    let is_indexed = |run: &&[u8]| (MIN_BYTES..=MAX_BYTES).contains(&run.len());
    let whole: Vec<String> = inner.iter().copied().filter(is_indexed).map(text).collect();
    if !whole.is_empty() {
        return Asked::Words(whole);
    }
    // A word that holds it may be longer than what is indexed.
    let edges = [runs.first(), runs.last()].into_iter().flatten().copied();
    let longest = edges.max_by_key(|run| run.len()).filter(|run| run.len() >= MIN_BYTES);
    longest.map_or(Asked::Nothing, |run| Asked::Part(text(run)))
}

/// Words one behind the other, so that a part is looked for in all of them at once: a few bytes for each
/// word, some MB for a segment of random words.
#[derive(Debug, Default)]
pub struct Dictionary {
    text: String,
    ends: Vec<u32>,
}

impl Dictionary {
    /// Adds the next word.
    pub fn add(&mut self, word: &str) {
        self.text.push_str(word);
        // No word has it, so that no part is found across two.
        self.text.push('\0');
        self.ends.push(self.text.len() as u32);
    }

    /// The words that hold a part.
    pub fn with<'a>(&'a self, part: &str) -> impl Iterator<Item = &'a str> {
        let (finder, mut from) = (memchr::memmem::Finder::new(part).into_owned(), 0);
        std::iter::from_fn(move || {
            let at = from + finder.find(&self.text.as_bytes()[from..])?;
            let number = self.ends.partition_point(|end| *end as usize <= at);
            let start = if number == 0 { 0 } else { self.ends[number - 1] as usize };
            from = self.ends[number] as usize;
            Some(&self.text[start..from - 1])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(needle: &str, expected: &Asked) {
        assert_eq!(asked(needle), *expected, "{needle:?}");
    }

    #[test]
    fn whole_words_are_better_than_parts() {
        let words = |words: &[&str]| Asked::Words(words.iter().map(|word| (*word).to_owned()).collect());
        check("timeout", &Asked::Part("timeout".into()));
        check("Status=200 took", &Asked::Part("status".into()));
        check(" Error 7 failed-", &words(&["error", "failed"]));
        check("x4connection5y", &words(&["connection"]));
        check("GET", &Asked::Nothing);
        check("", &Asked::Nothing);
        check("1234", &Asked::Nothing);
        check("größer", &Asked::Nothing);
    }

    #[test]
    fn parts_are_found_in_their_words() {
        let mut dictionary = Dictionary::default();
        ["abc", "bcd", "cab", "zz"].into_iter().for_each(|word| dictionary.add(word));
        let with = |part: &str| dictionary.with(part).collect::<Vec<_>>().join(" ");
        assert_eq!([with("bc"), with("ab"), with("z"), with("cb")], ["abc bcd", "abc cab", "zz", ""]);
    }

    proptest::proptest! {
        #[test]
        fn a_text_has_what_is_asked_for_its_substrings(before in "[a-cXé1 ]{0,8}|x{38}", needle in "[a-cXé1 ]{0,20}", after in "[a-cXé1 ]{0,8}") {
            let text = format!("{before}{needle}{after}");
            let all: Vec<String> = words(text.as_bytes()).map(|word| String::from_utf8_lossy(word).to_ascii_lowercase()).collect();
            match asked(&needle) {
                Asked::Words(words) => proptest::prop_assert!(words.iter().all(|word| all.contains(word))),
                Asked::Part(part) => proptest::prop_assert!(all.iter().any(|word| word == LONG || word.contains(&part))),
                Asked::Nothing => {}
            }
        }
    }
}
