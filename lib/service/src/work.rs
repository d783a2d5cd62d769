//! Long work and how far it is: flushes, snapshots and deletions of this process, and what tools report of their own.
//! It is kept in memory, for the page: at most [`MAX_KEPT`] entries, of which the oldest that has ended goes first.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;

use model::now_ms;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub const MAX_KEPT: usize = 100;
const MAX_TEXT_BYTES: usize = 1024;
/// A tool that says nothing for this long has died.
const SILENCE_MS: i64 = 60_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Running,
    Done,
    Failed,
}

/// How far a piece of work is, as a tool says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// In a word: `flush`, `snapshot`, `delete`, `replay`.
    pub kind: String,
    /// Of what.
    #[serde(default)]
    pub detail: String,
    /// Of `total`, in `unit`; a total of 0 is not known.
    #[serde(default)]
    pub done: u64,
    #[serde(default)]
    pub total: u64,
    #[serde(default)]
    pub unit: String,
    pub state: State,
    #[serde(default)]
    pub error: String,
}

/// A report with its name and times, in Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub id: String,
    #[serde(flatten)]
    pub report: Report,
    pub began_ms: i64,
    pub changed_ms: i64,
    #[serde(skip)]
    is_reported: bool,
}

/// All work that is known of; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Works(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    begun: u64,
    entries: VecDeque<Entry>,
}

impl Known {
    /// Takes an entry where there is room.
    fn add(&mut self, entry: Entry) -> Result<(), String> {
        if self.entries.len() >= MAX_KEPT {
            let ended = self.entries.iter().position(|entry| entry.report.state != State::Running);
            self.entries.remove(ended.ok_or_else(|| format!("{MAX_KEPT} pieces of work are under way"))?);
        }
        self.entries.push_back(entry);
        Ok(())
    }

    fn get(&mut self, id: &str) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }

    fn give_up_silent(&mut self, now_ms: i64) {
        let is_silent = |entry: &&mut Entry| {
            entry.is_reported && entry.report.state == State::Running && now_ms - entry.changed_ms > SILENCE_MS
        };
        for entry in self.entries.iter_mut().filter(is_silent) {
            entry.report.state = State::Failed;
            entry.report.error = "its tool says nothing any more".to_owned();
        }
    }
}

impl Works {
    /// Work of this process. It fails when it is dropped before its end.
    pub fn begin(&self, kind: &str, detail: impl Into<String>) -> Work {
        let mut known = self.0.lock();
        known.begun += 1;
        let id = format!("{kind}-{}", known.begun);
        let (kind, detail) = (kind.to_owned(), detail.into());
        let (error, unit) = (String::new(), String::new());
        let report = Report { kind, detail, done: 0, total: 0, unit, state: State::Running, error };
        let now_ms = now_ms();
        // Work without room is done all the same, unseen.
        let _ = known.add(Entry { id: id.clone(), report, began_ms: now_ms, changed_ms: now_ms, is_reported: false });
        Work { works: self.clone(), id }
    }

    /// Takes what a tool says of its work, which has a name of its own.
    pub fn report(&self, id: &str, report: Report, now_ms: i64) -> Result<(), String> {
        let texts = [id, &report.kind, &report.detail, &report.unit, &report.error];
        if texts.iter().any(|text| text.len() > MAX_TEXT_BYTES) {
            return Err(format!("a text is over {MAX_TEXT_BYTES} bytes"));
        }
        let mut known = self.0.lock();
        known.give_up_silent(now_ms);
        match known.get(id) {
            Some(entry) if !entry.is_reported => Err(format!("{id:?} is work of this process")),
            Some(entry) => {
                (entry.report, entry.changed_ms) = (report, now_ms);
                Ok(())
            }
            None => {
                let entry =
                    Entry { id: id.to_owned(), report, began_ms: now_ms, changed_ms: now_ms, is_reported: true };
                known.add(entry)
            }
        }
    }

    /// The newest first.
    pub fn list(&self, now_ms: i64) -> Vec<Entry> {
        let mut known = self.0.lock();
        known.give_up_silent(now_ms);
        known.entries.iter().rev().cloned().collect()
    }
}

/// Work under way.
#[derive(Debug)]
pub struct Work {
    works: Works,
    id: String,
}

impl Work {
    fn change(&self, change: impl FnOnce(&mut Report)) {
        if let Some(entry) = self.works.0.lock().get(&self.id) {
            change(&mut entry.report);
            entry.changed_ms = now_ms();
        }
    }

    /// So many of so many units are done; a total of 0 is not known.
    pub fn is_at(&self, done: u64, total: u64, unit: &str) {
        self.change(|report| (report.done, report.total, report.unit) = (done, total, unit.to_owned()));
    }

    /// Ends it as its result says, which is passed on.
    pub fn end<T, E: Display>(&self, result: Result<T, E>) -> Result<T, E> {
        self.change(|report| match &result {
            Ok(_) => report.state = State::Done,
            Err(error) => (report.state, report.error) = (State::Failed, error.to_string()),
        });
        result
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.change(|report| {
            if report.state == State::Running {
                (report.state, report.error) = (State::Failed, "it was given up".to_owned());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(works: &Works, now_ms: i64, expected: &[(&str, State, &str)]) {
        let listed = works.list(now_ms);
        let shown: Vec<_> =
            listed.iter().map(|entry| (entry.id.as_str(), entry.report.state, entry.report.error.as_str())).collect();
        assert_eq!(shown, expected);
    }

    fn report(state: State) -> Report {
        serde_json::from_value(serde_json::json!({"kind": "replay", "state": state})).expect("a report")
    }

    #[test]
    fn work_ends_by_its_result_or_is_given_up() {
        let works = Works::default();
        let flush = works.begin("flush", "all");
        flush.is_at(1, 2, "merges");
        let entry = &works.list(0)[0];
        assert_eq!((entry.report.done, entry.report.total, entry.report.unit.as_str()), (1, 2, "merges"));
        assert_eq!(flush.end(Err::<(), _>("full")), Err("full"));
        assert_eq!(works.begin("snapshot", "").end(Ok::<_, String>(7)), Ok(7));
        drop(works.begin("delete", ""));
        let _running = works.begin("flush", "");
        check(
            &works,
            0,
            &[
                ("flush-4", State::Running, ""),
                ("delete-3", State::Failed, "it was given up"),
                ("snapshot-2", State::Done, ""),
                ("flush-1", State::Failed, "full"),
            ],
        );
    }

    #[test]
    fn a_tool_that_falls_silent_has_failed() {
        let works = Works::default();
        works.report("a", report(State::Running), 1000).expect("taken");
        works.report("a", report(State::Running), 2000).expect("taken");
        check(&works, 2000 + SILENCE_MS, &[("a", State::Running, "")]);
        check(&works, 2001 + SILENCE_MS, &[("a", State::Failed, "its tool says nothing any more")]);
        works.report("a", report(State::Done), 200_000).expect("it was slow");
        check(&works, 900_000, &[("a", State::Done, "")]);
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let works = Works::default();
        works.report("old", report(State::Done), 0).expect("taken");
        let running: Vec<Work> = (0..MAX_KEPT).map(|_| works.begin("flush", "")).collect();
        assert_eq!(works.list(0).len(), MAX_KEPT);
        assert!(works.list(0).iter().all(|entry| entry.id != "old"));
        assert!(works.report("more", report(State::Running), 0).is_err());
        assert!(works.report("flush-1", report(State::Running), 0).is_err());
        // Unseen work ends like any other.
        assert_eq!(works.begin("flush", "").end(Ok::<_, String>(())), Ok(()));
        drop(running);
        works.report("more", report(State::Running), 0).expect("there is room again");
        let long = Report { detail: "x".repeat(MAX_TEXT_BYTES + 1), ..report(State::Running) };
        assert!(works.report("long", long, 0).is_err());
    }
}
