//! Which series a target has, by the texts it writes them as: what was in the last scrape is known again by its bytes, and
//! neither parsed nor relabelled.
//!
//! A target writes its lines in the same order each time, mostly; so a text is first compared with the one that followed
//! the last one, and looked up only when that fails, by tables that are made then and kept for this scrape. Texts that a
//! scrape did not have are forgotten at its end.
//!
//! A series is a row of 32 bytes. Its text, and the labels that it says, are shared among targets ([`Written`]); the labels
//! of its samples are made of them and the target's for each scrape. Only what relabelling changed is held for itself.

use std::collections::HashMap;
use std::sync::Arc;

use model::Labels;
use xxhash_rust::xxh3::xxh3_64;

use super::history::with_target;
use super::texts::Written;

/// No row.
const NONE: u32 = u32::MAX;

/// Where a text's samples go: a row of [`SeriesTable`], or nowhere, where relabelling dropped it.
pub type Place = Option<u32>;

/// A text, and the series that it was the first to name.
struct Row {
    written: Arc<Written>,
    /// The series' last sample's time.
    t_ms: i64,
    /// The text that followed this one the last time.
    next: u32,
    /// The row of the text's series: mostly this one.
    series: u32,
    flags: Flags,
}

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    /// The text is in this scrape.
    met: bool,
    /// The series has a sample in this scrape.
    sampled: bool,
    /// A marker is due when the series is gone.
    live: bool,
    /// The series is live since this scrape.
    born: bool,
    histogram: bool,
    /// The text may mean something else by now; the series is still there.
    forgotten: bool,
}

/// A sample as the table is told of it.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    pub t_ms: i64,
    pub is_live: bool,
    pub is_histogram: bool,
}

pub struct SeriesTable {
    rows: Vec<Row>,
    /// Labels that are not the written ones and the target's.
    own: HashMap<u32, Labels>,
    target: Labels,
    honor_labels: bool,
    /// Rows by the hash of their text, once it is asked for. Of two with one hash only one is found, and the other is read
    /// anew each time.
    by_text: Option<HashMap<u64, u32>>,
    /// Rows of series by the hash of their labels, once it is asked for.
    by_labels: Option<HashMap<u64, u32>>,
    /// The text met last, and the first of all.
    last: u32,
    first: u32,
    /// Series that this scrape has made.
    pub added: usize,
    /// How many rows there were before it.
    known_rows: usize,
}

impl SeriesTable {
    pub fn new(target: Labels, honor_labels: bool) -> SeriesTable {
        SeriesTable {
            rows: Vec::new(),
            own: HashMap::new(),
            target,
            honor_labels,
            by_text: None,
            by_labels: None,
            last: NONE,
            first: NONE,
            added: 0,
            known_rows: 0,
        }
    }

    pub fn begin(&mut self) {
        for row in &mut self.rows {
            (row.flags.met, row.flags.sampled, row.flags.born) = (false, false, false);
        }
        (self.by_text, self.by_labels) = (None, None);
        (self.last, self.added, self.known_rows) = (NONE, 0, self.rows.len());
        if self.rows.is_empty() {
            self.first = NONE;
        }
    }

    /// How long the text at the start of a line is, if it is the one that is expected, and its place.
    pub fn expected(&mut self, line: &str) -> Option<(usize, Place)> {
        let next = if self.last == NONE { self.first } else { self.rows[self.last as usize].next };
        let text = &*self.rows.get(next as usize)?.written.text;
        let length = text.len();
        let rest = line.as_bytes().get(length..)?;
        if !line.starts_with(text) || (!text.ends_with('}') && !is_after_name(rest)) {
            return None;
        }
        Some((length, self.meet(next)))
    }

    /// The place of a text, if it is known.
    pub fn find(&mut self, text: &str) -> Option<Place> {
        let rows = &self.rows;
        let by_text = self.by_text.get_or_insert_with(|| {
            let known = (0u32..).zip(rows).filter(|(_, row)| !row.flags.forgotten);
            known.map(|(at, row)| (xxh3_64(row.written.text.as_bytes()), at)).collect()
        });
        let at = *by_text.get(&xxh3_64(text.as_bytes()))?;
        (*rows[at as usize].written.text == *text).then(|| self.meet(at))
    }

    /// A new text and the labels of its samples; none where it is dropped.
    pub fn add(&mut self, written: Arc<Written>, labels: Option<Labels>) -> Place {
        let known = labels.as_ref().and_then(|labels| self.find_series(labels));
        let hash = xxh3_64(written.text.as_bytes());
        let at = match known {
            // Its text was forgotten, and this is another one perhaps.
            Some(at) if self.rows[at as usize].flags.forgotten => {
                self.rows[at as usize].written = written;
                self.rows[at as usize].flags.forgotten = false;
                at
            }
            _ => {
                let at = self.rows.len() as u32;
                let series = if labels.is_some() { known.unwrap_or(at) } else { NONE };
                self.rows.push(Row { written, t_ms: i64::MIN, next: NONE, series, flags: Flags::default() });
                at
            }
        };
        if let Some(by_text) = &mut self.by_text {
            by_text.insert(hash, at);
        }
        if let Some(labels) = labels.filter(|_| self.rows[at as usize].series == at) {
            self.added += usize::from(known.is_none());
            if let Some(by_labels) = &mut self.by_labels {
                by_labels.insert(labels.hash(""), at);
            }
            match self.merged(at) == labels {
                true => drop(self.own.remove(&at)),
                false => drop(self.own.insert(at, labels)),
            }
        }
        self.meet(at)
    }

    /// The row of the series of some labels.
    fn find_series(&mut self, labels: &Labels) -> Option<u32> {
        let by_labels = self.by_labels.take().unwrap_or_else(|| {
            let series = (0u32..).zip(&self.rows).filter(|(at, row)| row.series == *at);
            series.map(|(at, _)| (self.labels(at).hash(""), at)).collect()
        });
        let at = by_labels.get(&labels.hash("")).copied();
        self.by_labels = Some(by_labels);
        at.filter(|at| self.labels(*at) == *labels)
    }

    fn merged(&self, at: u32) -> Labels {
        with_target(&self.rows[at as usize].written.labels, &self.target, self.honor_labels)
    }

    /// The labels of a series' samples.
    pub fn labels(&self, place: u32) -> Labels {
        self.own.get(&place).cloned().unwrap_or_else(|| self.merged(place))
    }

    fn meet(&mut self, at: u32) -> Place {
        match self.last {
            NONE => self.first = at,
            last => self.rows[last as usize].next = at,
        }
        self.last = at;
        let row = &mut self.rows[at as usize];
        row.flags.met = true;
        (row.series != NONE).then_some(row.series)
    }

    /// Takes note of a sample. False: there was one of this instant in this scrape.
    pub fn sample(&mut self, place: u32, point: Point) -> bool {
        let Row { t_ms, flags, .. } = &mut self.rows[place as usize];
        if flags.sampled && *t_ms == point.t_ms {
            return false;
        }
        *t_ms = point.t_ms;
        flags.born |= point.is_live && !flags.live;
        (flags.sampled, flags.live, flags.histogram) = (true, point.is_live, point.is_histogram);
        true
    }

    /// Series that were there and are not any more; each is told once.
    pub fn ended(&mut self) -> Vec<(Labels, bool)> {
        self.end(|flags| flags.live && !flags.sampled, |_| true)
    }

    /// All series that are live before this scrape, which came to nothing; none is live afterwards.
    pub fn fail(&mut self) -> Vec<(Labels, bool)> {
        let ended = self.end(|flags| flags.live, |flags| !flags.born);
        // What only scrapes that fail have would be held for ever.
        let known = self.known_rows;
        let if_known = |at: u32| if (at as usize) < known { at } else { NONE };
        self.rows.truncate(known);
        self.own.retain(|at, _| if_known(*at) != NONE);
        self.rows.iter_mut().for_each(|row| row.next = if_known(row.next));
        (self.first, self.last) = (if_known(self.first), NONE);
        (self.by_text, self.by_labels) = (None, None);
        ended
    }

    /// All live series; nothing is live afterwards.
    pub fn end_all(&mut self) -> Vec<(Labels, bool)> {
        self.begin();
        self.ended()
    }

    /// Ends some series; answers those of them that are to be told.
    fn end(&mut self, ends: impl Fn(Flags) -> bool, is_told: impl Fn(Flags) -> bool) -> Vec<(Labels, bool)> {
        let mut told = Vec::new();
        for at in 0..self.rows.len() {
            let flags = self.rows[at].flags;
            if ends(flags) {
                self.rows[at].flags.live = false;
                if is_told(flags) {
                    told.push((self.labels(at as u32), flags.histogram));
                }
            }
        }
        told
    }

    /// Forgets what this scrape did not have. Done after a scrape with samples; one that failed says nothing about series.
    pub fn forget_unseen(&mut self) {
        (self.by_text, self.by_labels) = (None, None);
        if self.own.is_empty() {
            self.own = HashMap::new();
        }
        let stays = |row: &Row| row.flags.met || row.flags.sampled;
        if self.rows.iter().all(stays) {
            return;
        }
        // What was met in this scrape was met one after the other: the order stays.
        let mut kept = 0;
        let places: Vec<u32> = self
            .rows
            .iter()
            .map(|row| {
                kept += u32::from(stays(row));
                if stays(row) { kept - 1 } else { NONE }
            })
            .collect();
        let place_of = |at: u32| places.get(at as usize).copied().unwrap_or(NONE);
        self.rows.retain(stays);
        for row in &mut self.rows {
            (row.next, row.series) = (place_of(row.next), place_of(row.series));
        }
        (self.first, self.last) = (place_of(self.first), place_of(self.last));
        let own = std::mem::take(&mut self.own).into_iter();
        self.own = own.map(|(at, labels)| (place_of(at), labels)).filter(|(at, _)| *at != NONE).collect();
    }

    /// Goes on with a target whose texts may mean something else; series stay what they are, so that those that are gone end.
    pub fn retarget(&mut self, target: Labels, honor_labels: bool) {
        (self.by_text, self.by_labels, self.first) = (None, None, NONE);
        if (&target, honor_labels) != (&self.target, self.honor_labels) {
            let series = (0u32..).zip(&self.rows).filter(|(at, row)| row.series == *at);
            self.own = series.map(|(at, _)| (at, self.labels(at))).collect();
        }
        for row in &mut self.rows {
            (row.next, row.flags.forgotten) = (NONE, true);
        }
        (self.target, self.honor_labels) = (target, honor_labels);
    }
}

/// What may follow a name that has no labels.
fn is_after_name(rest: &[u8]) -> bool {
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    blanks > 0 && rest.get(blanks) != Some(&b'{')
}

#[cfg(test)]
mod tests {
    use super::super::texts::Texts;
    use super::*;

    /// What relabelling makes of a series: `drop…` goes, and of `ax` the x.
    fn relabelled(labels: &Labels) -> Option<Labels> {
        let name = labels.metric_name().expect("named");
        (!name.starts_with("drop")).then(|| labels.with("__name__", name.trim_end_matches('x')))
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
                None => table.find(text).unwrap_or_else(|| {
                    let written = Texts::default().series(text).expect("a series");
                    let labels = relabelled(&with_target(&written.labels, &table.target, false));
                    table.add(written, labels)
                }),
            };
            let written = Texts::default().series(text).expect("a series");
            let expected = relabelled(&with_target(&written.labels, &table.target, false));
            assert_eq!(place.map(|place| table.labels(place)), expected);
            if let Some(place) = place {
                table.sample(place, Point { t_ms: 1, is_live: true, is_histogram: false });
            }
        }
        let mut ended: Vec<String> = table.ended().iter().map(|(labels, _)| labels.to_string()).collect();
        ended.sort();
        table.forget_unseen();
        let (expected_guesses, added, gone) = expected;
        assert_eq!(
            (guessed, table.added, ended),
            (expected_guesses, added, gone.iter().map(|s| (*s).to_owned()).collect())
        );
    }

    fn target(name: &str) -> Labels {
        Labels::from_pairs([("job", name)])
    }

    #[test]
    fn what_was_there_is_known_again() {
        let mut table = SeriesTable::new(Labels::default(), false);
        check(&mut table, &["a", "b{c=\"d\"}", "drop", "e"], (0, 3, &[]));
        check(&mut table, &["a", "b{c=\"d\"}", "drop", "e"], (4, 0, &[]));
        check(&mut table, &["e", "a", "f"], (0, 1, &["{__name__=\"b\", c=\"d\"}"]));
        check(&mut table, &["e", "a", "f"], (3, 0, &[]));
        // Two texts of one series.
        check(&mut table, &["e", "a", "ax"], (2, 0, &["{__name__=\"f\"}"]));
        check(&mut table, &["e", "a", "ax"], (3, 0, &[]));
        check(&mut table, &["aa", "a"], (0, 1, &["{__name__=\"e\"}"]));
        check(&mut table, &[], (0, 0, &["{__name__=\"a\"}", "{__name__=\"aa\"}"]));
    }

    /// What was the second text of a series is the only one left.
    #[test]
    fn a_series_lives_on_by_another_text() {
        let mut table = SeriesTable::new(target("j"), false);
        check(&mut table, &["a", "ax"], (0, 1, &[]));
        check(&mut table, &["ax"], (0, 0, &[]));
        check(&mut table, &["ax", "b"], (1, 1, &[]));
        check(&mut table, &["b"], (0, 0, &["{__name__=\"a\", job=\"j\"}"]));
    }

    #[test]
    fn another_target_ends_what_is_not_its_own() {
        let mut table = SeriesTable::new(target("j"), false);
        check(&mut table, &["a", "bx"], (0, 2, &[]));
        table.retarget(target("j"), false);
        check(&mut table, &["bx", "a"], (0, 0, &[]));
        check(&mut table, &["bx", "a"], (2, 0, &[]));
        assert_eq!((table.rows.len(), table.own.len()), (2, 1), "only what relabelling changed is held for itself");
        table.retarget(target("k"), false);
        check(&mut table, &["a"], (0, 1, &["{__name__=\"a\", job=\"j\"}", "{__name__=\"b\", job=\"j\"}"]));
        assert_eq!((table.rows.len(), table.own.len()), (1, 0));
    }

    #[test]
    fn a_failed_scrape_ends_what_was_there_before_it() {
        let mut table = SeriesTable::new(Labels::default(), false);
        check(&mut table, &["a"], (0, 1, &[]));
        table.begin();
        for text in ["a", "b"] {
            let written = Texts::default().series(text).expect("a series");
            let labels = Some(written.labels.clone());
            let place = table.find(text).unwrap_or_else(|| table.add(written, labels)).expect("kept");
            let point = Point { t_ms: 1, is_live: true, is_histogram: false };
            assert!(table.sample(place, point) && !table.sample(place, point), "the second of an instant is not taken");
        }
        assert_eq!(table.fail(), [(Labels::from_pairs([("__name__", "a")]), false)]);
        assert_eq!(table.rows.len(), 1, "what only failing scrapes had is not held");
        assert_eq!(table.end_all(), []);
    }

    #[test]
    fn a_name_is_not_taken_for_one_with_labels() {
        let mut table = SeriesTable::new(Labels::default(), false);
        check(&mut table, &["a"], (0, 1, &[]));
        table.begin();
        assert_eq!(table.expected("a {b=\"c\"} 1"), None);
        assert_eq!(table.expected("ab 1"), None);
        assert_eq!(table.expected("a"), None);
        assert_eq!(table.expected("a\t1"), Some((1, Some(0))));
    }
}
