//! LogQL tests as scripts that people can read, in the notation of Loki's `logqltest`.
//!
//! ```text
//! load                                       # lines; times are from the script's epoch
//!   {app="a"} "GET /x took=5ms" @ 10s [repeat every 10s for 6] [metadata level="info"]
//!
//! eval instant at 60s sum(count_over_time({app="a"}[1m]))
//!   {} 6
//!
//! eval range from 0 to 60s step 30s rate({app="a"}[30s])
//!   {app="a", level="info"} _ 0.1 0.1
//!
//! eval select from 0 to 20s forward {app="a"} | logfmt
//!   {app="a"} "GET /x took=5ms" @ 10s [metadata level="info"] [parsed took="5ms"]
//!
//! eval instant at 0s count_over_time({app="a"})
//!   expect fail msg: syntax error
//!
//! clear
//! ```
//!
//! Further expectations: `empty`, `ordered`, a lone number for a scalar; `fail regex:`. `{{.i}}` in a loaded line is its
//! number among the repeated. Every instant case of a metric runs also as the last step of a range query.

mod expect;
mod notation;

use model::Labels;

use crate::logql::{LogEngine, LogExpr, LogQuery, describe, parse};
use crate::memory_lines::MemoryLines;
use crate::script::{Failure, Report};
use crate::{Lines, Value};
use expect::Expected;
use notation::{line, time_ns, without_comment};

const TENANT: &str = "default";
/// How far back an instant query for lines looks.
const LOOK_BACK_NS: i64 = 30_000_000_000;
const NS_PER_MS: i64 = 1_000_000;

/// What scripts load their lines into.
pub trait LogScriptStore {
    fn clear(&mut self) -> Result<(), String>;
    fn push(&mut self, labels: &Labels, t_ns: i64, text: &str, metadata: &Labels) -> Result<(), String>;
    /// Called when a block of lines is loaded, and where the script says `flush`.
    fn flush(&mut self) -> Result<(), String> {
        Ok(())
    }
    fn source(&self) -> &dyn Lines;
    /// The moment that scripts call 0.
    fn epoch_ns(&self) -> i64 {
        0
    }
}

impl LogScriptStore for MemoryLines {
    fn clear(&mut self) -> Result<(), String> {
        *self = MemoryLines::default();
        Ok(())
    }

    fn push(&mut self, labels: &Labels, t_ns: i64, text: &str, metadata: &Labels) -> Result<(), String> {
        MemoryLines::push(self, labels, t_ns, text, metadata);
        Ok(())
    }

    fn source(&self) -> &dyn Lines {
        self
    }
}

/// Runs a script. A script that cannot be read is an error; evaluations that fail are in the report.
pub fn run_log_script(text: &str, engine: &LogEngine, store: &mut dyn LogScriptStore) -> Result<Report, String> {
    let mut script = Script { engine, store, report: Report::default() };
    let lines: Vec<&str> = text.lines().map(without_comment).collect();
    let mut at = 0;
    while let Some(command) = lines.get(at) {
        let number = at + 1;
        at += 1;
        if command.trim().is_empty() {
            continue;
        }
        let is_inside = |line: &&&str| line.starts_with([' ', '\t']) || line.trim().is_empty();
        let is_comment = |i: usize| text.lines().nth(i).is_some_and(|line| line.trim_start().starts_with('#'));
        let mut block = Vec::new();
        // A line of comment does not end a block; an empty one does.
        while let Some(line) = lines.get(at).filter(is_inside).filter(|line| !line.trim().is_empty() || is_comment(at))
        {
            if !line.trim().is_empty() {
                block.push(line.trim());
            }
            at += 1;
        }
        let done = script.command(number, command.trim(), &block);
        done.map_err(|message| format!("line {number}: {}: {message}", command.trim()))?;
    }
    Ok(script.report)
}

struct Script<'a> {
    engine: &'a LogEngine,
    store: &'a mut dyn LogScriptStore,
    report: Report,
}

impl Script<'_> {
    fn command(&mut self, number: usize, command: &str, block: &[&str]) -> Result<(), String> {
        match command {
            "clear" => self.store.clear(),
            "flush" => self.store.flush(),
            "load" => {
                block.iter().try_for_each(|text| self.load(text).map_err(|message| format!("{text}: {message}")))?;
                self.store.flush()
            }
            _ => {
                let case = Case::parse(command)?;
                let expected = Expected::parse(block)?;
                self.report.evaluations += 1;
                if let Err(message) = case.run(self.engine, self.store, &expected) {
                    self.report.failures.push(Failure { line: number, command: command.to_owned(), message });
                }
                Ok(())
            }
        }
    }

    fn load(&mut self, text: &str) -> Result<(), String> {
        let line = line(text)?;
        // A stream has no empty labels.
        let labels = Labels::from_pairs(line.labels.iter().map(|label| (&*label.name, &*label.value)));
        for i in 0..line.count {
            let t_ns = self.store.epoch_ns() + line.t_ns + i as i64 * line.every_ns;
            let text = line.text.replace("{{.i}}", &i.to_string());
            self.store.push(&labels, t_ns, &text, &line.metadata)?;
        }
        Ok(())
    }
}

/// One evaluation; times are from the script's epoch.
struct Case<'a> {
    query: &'a str,
    start_ns: i64,
    end_ns: i64,
    step_ns: i64,
    backward: bool,
}

impl Case<'_> {
    fn parse(command: &str) -> Result<Case<'_>, String> {
        let mut words = Words(command);
        if words.next() != "eval" {
            return Err("unknown command".to_owned());
        }
        let kind = words.next();
        if kind == "instant" {
            words.expect("at")?;
            let t_ns = time_ns(words.next())?;
            return Ok(Case { query: words.0, start_ns: t_ns, end_ns: t_ns, step_ns: 0, backward: false });
        }
        if !matches!(kind, "range" | "select") {
            return Err("expected eval instant, eval range or eval select".to_owned());
        }
        words.expect("from")?;
        let start_ns = time_ns(words.next())?;
        words.expect("to")?;
        let end_ns = time_ns(words.next())?;
        let (mut step_ns, mut backward) = (1, false);
        if kind == "range" {
            words.expect("step")?;
            step_ns = time_ns(words.next())?;
        } else if let direction @ ("forward" | "backward") = Words(words.0).next() {
            words.next();
            backward = direction == "backward";
        }
        Ok(Case { query: words.0, start_ns, end_ns, step_ns, backward })
    }

    fn run(&self, engine: &LogEngine, store: &dyn LogScriptStore, expected: &Expected) -> Result<(), String> {
        let expr = match parse(self.query) {
            Ok(expr) => expr,
            Err(error) => return expected.failed(&describe(&error)),
        };
        let (source, epoch_ns) = (store.source(), store.epoch_ns());
        match expr {
            LogExpr::Log(selector) => {
                let look_back = if self.step_ns == 0 { LOOK_BACK_NS } else { 0 };
                let query = LogQuery {
                    start_ns: epoch_ns + self.start_ns - look_back,
                    end_ns: epoch_ns + self.end_ns,
                    backward: self.backward,
                    categorize: true,
                    ..LogQuery::new(TENANT, &selector)
                };
                match engine.log(source, &query) {
                    Ok(streams) => expected.streams(streams, epoch_ns),
                    Err(error) => expected.failed(&describe(&error)),
                }
            }
            LogExpr::Metric(metric) => {
                let ms = |ns: i64| (epoch_ns + ns).div_euclid(NS_PER_MS);
                let grid = [ms(self.start_ns), ms(self.end_ns), self.step_ns / NS_PER_MS];
                let range =
                    |[start, end, step]: [i64; 3]| engine.range(source, TENANT, &metric, start, end, step, None);
                if self.step_ns > 0 {
                    return match range(grid) {
                        Ok(value) => expected.value(value, grid),
                        Err(error) => expected.failed(&describe(&error)),
                    };
                }
                match engine.instant(source, TENANT, &metric, grid[0], None) {
                    Ok(value) => expected.value(value, grid)?,
                    Err(error) => return expected.failed(&describe(&error)),
                }
                self.run_as_range(expected, grid[0], range)
            }
        }
    }

    /// The same instant as the only step of a range query; order is the instant query's own.
    fn run_as_range(
        &self,
        expected: &Expected,
        t_ms: i64,
        range: impl Fn([i64; 3]) -> Result<Value, crate::QueryError>,
    ) -> Result<(), String> {
        if expected.is_ordered() {
            return Ok(());
        }
        let grid = [t_ms, t_ms, 1000];
        let value = range(grid).map_err(|error| format!("in range mode: {}", describe(&error)))?;
        expected.value(value, grid).map_err(|message| format!("in range mode: {message}"))
    }
}

/// What is left of a command.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn next(&mut self) -> &'a str {
        let (word, rest) = self.0.split_once([' ', '\t']).unwrap_or((self.0, ""));
        self.0 = rest.trim_start();
        word
    }

    fn expect(&mut self, wanted: &str) -> Result<(), String> {
        let word = self.next();
        if word == wanted { Ok(()) } else { Err(format!("expected {wanted:?}, found {word:?}")) }
    }
}

#[cfg(test)]
mod tests;
