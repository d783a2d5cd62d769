//! Which series a target has, by the texts it writes them as: what was in the last scrape is known again by its bytes, and
//! neither parsed nor relabelled.
//!
//! A target writes its lines in the same order each time, mostly; so a text is first compared with the one that followed
//! the last one, and looked up only when that fails. Texts that a scrape did not have are forgotten at its end.

use std::collections::HashMap;
use std::sync::Arc;

use model::Labels;
use xxhash_rust::xxh3::xxh3_64;

/// No text.
const NONE: u32 = u32::MAX;

/// Where a text's samples go: a place in [`SeriesTable`], or nowhere, where relabelling dropped it.
pub type Place = Option<u32>;

struct Text {
    text: Arc<str>,
    place: Place,
    /// What followed it the last time.
    next: u32,
    seen: u32,
}

/// One series of a target.
pub struct Series {
    pub labels: Labels,
    /// The scrape that had it last.
    pub seen: u32,
    /// The scrape since which it is live.
    pub born: u32,
    /// Its last sample's time.
    pub t_ms: i64,
    /// Whether a marker is due when it is gone.
    pub is_live: bool,
    pub is_histogram: bool,
}

#[derive(Default)]
pub struct SeriesTable {
    texts: Vec<Text>,
    /// By the hash of a text. Of two with one hash only one is found, and the other is read anew each time.
    by_text: HashMap<u64, u32>,
    series: Vec<Series>,
    by_labels: HashMap<u64, u32>,
    /// The number of the scrape under way; the first is 1.
    scrape: u32,
    /// The text met last, and the first of all.
    last: u32,
    first: u32,
    seen_texts: usize,
    /// Series that this scrape has made.
    pub added: usize,
}

impl SeriesTable {
    pub fn begin(&mut self) {
        self.scrape = self.scrape.wrapping_add(1);
        (self.last, self.seen_texts, self.added) = (NONE, 0, 0);
        if self.texts.is_empty() {
            self.first = NONE;
        }
    }

    pub fn scrape(&self) -> u32 {
        self.scrape
    }

    /// How long the text at the start of a line is, if it is the one that is expected, and its place.
    pub fn expected(&mut self, line: &str) -> Option<(usize, Place)> {
        let next = if self.last == NONE { self.first } else { self.texts[self.last as usize].next };
        let text = self.texts.get(next as usize)?;
        let length = text.text.len();
        let rest = line.as_bytes().get(length..)?;
        if !line.starts_with(&*text.text) || (!text.text.ends_with('}') && !is_after_name(rest)) {
            return None;
        }
        let place = text.place;
        self.meet(next);
        Some((length, place))
    }

    /// The place of a text, if it is known.
    pub fn find(&mut self, text: &str) -> Option<Place> {
        let at = *self.by_text.get(&xxh3_64(text.as_bytes()))?;
        let known = &self.texts[at as usize];
        if *known.text != *text {
            return None;
        }
        let place = known.place;
        self.meet(at);
        Some(place)
    }

    /// A new text and the labels of its samples; none where it is dropped.
    pub fn add(&mut self, text: Arc<str>, labels: Option<Labels>) -> Place {
        let place = labels.map(|labels| self.place_of(labels));
        let at = self.texts.len() as u32;
        self.by_text.insert(xxh3_64(text.as_bytes()), at);
        self.texts.push(Text { text, place, next: NONE, seen: 0 });
        self.meet(at);
        place
    }

    /// The series of some labels, made where there is none.
    fn place_of(&mut self, labels: Labels) -> u32 {
        let hash = labels.hash("");
        if let Some(at) = self.by_labels.get(&hash)
            && self.series[*at as usize].labels == labels
        {
            return *at;
        }
        let at = self.series.len() as u32;
        self.series.push(Series { labels, seen: 0, born: 0, t_ms: i64::MIN, is_live: false, is_histogram: false });
        self.by_labels.insert(hash, at);
        self.added += 1;
        at
    }

    fn meet(&mut self, at: u32) {
        match self.last {
            NONE => self.first = at,
            last => self.texts[last as usize].next = at,
        }
        self.last = at;
        let text = &mut self.texts[at as usize];
        if text.seen != self.scrape {
            text.seen = self.scrape;
            self.seen_texts += 1;
        }
    }

    pub fn series(&mut self, place: u32) -> &mut Series {
        &mut self.series[place as usize]
    }

    /// Series that were there and are not any more; each is told once.
    pub fn ended(&mut self) -> Vec<(Labels, bool)> {
        let scrape = self.scrape;
        let gone = self.series.iter_mut().filter(|series| series.is_live && series.seen != scrape);
        gone.map(|series| {
            series.is_live = false;
            (series.labels.clone(), series.is_histogram)
        })
        .collect()
    }

    /// All series that are live before this scrape, which came to nothing; none is live afterwards.
    pub fn fail(&mut self) -> Vec<(Labels, bool)> {
        let scrape = self.scrape;
        let live = self.series.iter_mut().filter_map(|series| std::mem::take(&mut series.is_live).then_some(series));
        live.filter(|series| series.born != scrape).map(|series| (series.labels.clone(), series.is_histogram)).collect()
    }

    /// All live series; nothing is live afterwards.
    pub fn end_all(&mut self) -> Vec<(Labels, bool)> {
        self.begin();
        self.ended()
    }

    /// Forgets what this scrape did not have. Done after a scrape with samples; one that failed says nothing about series.
    pub fn forget_unseen(&mut self) {
        if self.seen_texts == self.texts.len() {
            return;
        }
        let scrape = self.scrape;
        let mut series = Vec::new();
        let moved: Vec<u32> = std::mem::take(&mut self.series)
            .into_iter()
            .map(|one| {
                if one.seen != scrape && !one.is_live {
                    return NONE;
                }
                series.push(one);
                series.len() as u32 - 1
            })
            .collect();
        self.series = series;
        // What was met in this scrape was met one after the other: the order stays.
        let mut kept = 0;
        let places: Vec<u32> = self
            .texts
            .iter()
            .map(|text| {
                let stays = text.seen == scrape && text.place.is_none_or(|place| moved[place as usize] != NONE);
                kept += u32::from(stays);
                if stays { kept - 1 } else { NONE }
            })
            .collect();
        let place_of = |at: u32| places.get(at as usize).copied().unwrap_or(NONE);
        (self.first, self.last) = (place_of(self.first), place_of(self.last));
        let mut at = 0;
        self.texts.retain(|_| {
            at += 1;
            places[at - 1] != NONE
        });
        for text in &mut self.texts {
            text.place = text.place.map(|place| moved[place as usize]);
            text.next = place_of(text.next);
        }
        self.by_text.clear();
        self.by_text.extend((0u32..).zip(&self.texts).map(|(at, text)| (xxh3_64(text.text.as_bytes()), at)));
        self.by_labels.clear();
        self.by_labels.extend((0u32..).zip(&self.series).map(|(at, series)| (series.labels.hash(""), at)));
    }

    /// Forgets what texts mean, where labels are made otherwise now; series stay, so that those that are gone end.
    pub fn forget_texts(&mut self) {
        self.texts.clear();
        self.by_text.clear();
        self.first = NONE;
    }
}

/// What may follow a name that has no labels.
fn is_after_name(rest: &[u8]) -> bool {
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    blanks > 0 && rest.get(blanks) != Some(&b'{')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Option<Labels> {
        (!text.starts_with("drop")).then(|| Labels::from_pairs([("n", text.trim_end_matches('x'))]))
    }

    /// One scrape of these texts: which were expected, how many series are new, and which end.
    fn check(table: &mut SeriesTable, texts: &[&str], expected: (usize, usize, &[&str])) {
        table.begin();
        let mut guessed = 0;
        for text in texts {
            let line = format!("{text} 1");
            let place = match table.expected(&line) {
                Some((length, place)) => {
                    assert_eq!(length, text.len());
                    guessed += 1;
                    place
                }
                None => table.find(text).unwrap_or_else(|| table.add((*text).into(), labels(text))),
            };
            assert_eq!(place.is_some(), !text.starts_with("drop"));
            if let Some(place) = place {
                let scrape = table.scrape();
                let series = table.series(place);
                assert_eq!(Some(&series.labels), labels(text).as_ref());
                (series.seen, series.is_live) = (scrape, true);
            }
        }
        let mut ended: Vec<String> =
            table.ended().iter().map(|(labels, _)| labels.get("n").unwrap_or("").to_owned()).collect();
        ended.sort();
        table.forget_unseen();
        let (expected_guesses, added, gone) = expected;
        assert_eq!(
            (guessed, table.added, ended),
            (expected_guesses, added, gone.iter().map(|s| (*s).to_owned()).collect())
        );
    }

    #[test]
    fn what_was_there_is_known_again() {
        let mut table = SeriesTable::default();
        check(&mut table, &["a", "b{c=\"d\"}", "drop", "e"], (0, 3, &[]));
        check(&mut table, &["a", "b{c=\"d\"}", "drop", "e"], (4, 0, &[]));
        check(&mut table, &["e", "a", "f"], (0, 1, &["b{c=\"d\"}"]));
        check(&mut table, &["e", "a", "f"], (3, 0, &[]));
        // Two texts of one series.
        check(&mut table, &["e", "a", "ax"], (2, 0, &["f"]));
        check(&mut table, &["e", "a", "ax"], (3, 0, &[]));
        check(&mut table, &["aa", "a"], (0, 1, &["e"]));
        check(&mut table, &[], (0, 0, &["a", "aa"]));
    }

    #[test]
    fn a_name_is_not_taken_for_one_with_labels() {
        let mut table = SeriesTable::default();
        check(&mut table, &["a"], (0, 1, &[]));
        table.begin();
        assert_eq!(table.expected("a {b=\"c\"} 1"), None);
        assert_eq!(table.expected("ab 1"), None);
        assert_eq!(table.expected("a"), None);
        assert_eq!(table.expected("a\t1"), Some((1, Some(0))));
    }
}
