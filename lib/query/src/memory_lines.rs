//! A store of lines in memory: for tests, for scripts, and for whoever has lines at hand.

use std::ops::ControlFlow;

use model::Labels;

use crate::{LineSelect, Lines, QueryError, SelectedLine, Visit};

#[derive(Debug, Clone, PartialEq)]
struct Line {
    t_ns: i64,
    labels: Labels,
    text: String,
    metadata: Labels,
}

/// Lines of one tenant; requests of any tenant see them. A line that is pushed again counts once.
#[derive(Debug, Clone, Default)]
pub struct MemoryLines {
    /// By time.
    lines: Vec<Line>,
}

impl MemoryLines {
    pub fn push(&mut self, labels: &Labels, t_ns: i64, text: &str, metadata: &Labels) {
        let line = Line { t_ns, labels: labels.clone(), text: text.to_owned(), metadata: metadata.clone() };
        let end = self.lines.partition_point(|other| other.t_ns <= t_ns);
        let same_time = self.lines[..end].iter().rev().take_while(|other| other.t_ns == t_ns);
        if !same_time.into_iter().any(|other| *other == line) {
            self.lines.insert(end, line);
        }
    }

    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

impl Lines for MemoryLines {
    fn select(
        &self,
        request: &LineSelect<'_>,
        visit: &mut dyn FnMut(SelectedLine<'_>) -> Visit,
    ) -> Result<(), QueryError> {
        let start = self.lines.partition_point(|line| line.t_ns < request.start_ns);
        let end = self.lines.partition_point(|line| line.t_ns < request.end_ns).max(start);
        let mut visit_one = |line: &Line| {
            let is_wanted = model::matches_all(request.matchers, &line.labels)
                && request.contains.iter().all(|any| any.is_in(&line.text))
                && request.words.iter().all(|word| word.regex.is_match(line.text.as_bytes()));
            let Line { labels, metadata, t_ns, text } = line;
            let line = SelectedLine { labels, metadata, t_ns: *t_ns, text };
            if is_wanted { visit(line) } else { ControlFlow::Continue(()) }
        };
        let lines = &self.lines[start..end];
        let _ = match request.backward {
            true => lines.iter().rev().try_for_each(&mut visit_one),
            false => lines.iter().try_for_each(&mut visit_one),
        };
        Ok(())
    }
}
