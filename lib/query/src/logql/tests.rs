//! LogQL tests as scripts that people can read, in the spirit of Loki's `logqltest`.
//!
//! ```text
//! load                                    # lines, by time
//!   {app="a"} "GET /x took=5ms" @ 10s repeat every 10s for 6 metadata {level="info"}
//! eval instant at 60s sum(count_over_time({app="a"}[1m]))
//!   {} 6
//! eval range from 0 to 60s step 30s rate({app="a"}[30s])
//!   {app="a"} _ 0.1 0.1
//! eval log {app="a"} |= "GET"             # all of time, oldest first
//!   {app="a", level="info"} "GET /x took=5ms" @ 10s
//! eval log backward limit 1 {app="a"}
//!   …
//!   expect fail TEXT
//! clear
//! ```

use std::ops::ControlFlow;

use model::{Labels, Sample};

use super::*;
use crate::literal::{quoted_len, unquote};
use crate::promql::parse_series_name;
use crate::script::{Written, WrittenSeries, parse_series};
use crate::{LineSelect, Lines, SelectedLine, Value, Visit};

struct Line {
    labels: Labels,
    metadata: Labels,
    t_ns: i64,
    text: String,
}

#[derive(Default)]
struct Memory {
    lines: Vec<Line>,
}

impl Lines for Memory {
    fn select(
        &self,
        request: &LineSelect<'_>,
        visit: &mut dyn FnMut(SelectedLine<'_>) -> Visit,
    ) -> Result<(), QueryError> {
        let wanted = |line: &&Line| {
            (request.start_ns..request.end_ns).contains(&line.t_ns)
                && model::matches_all(request.matchers, &line.labels)
                && request.contains.iter().all(|needle| line.text.contains(needle.as_str()))
        };
        let mut lines: Vec<&Line> = self.lines.iter().filter(wanted).collect();
        lines.sort_by_key(|line| line.t_ns);
        if request.backward {
            lines.reverse();
        }
        for Line { labels, metadata, t_ns, text } in lines {
            if visit(SelectedLine { labels, metadata, t_ns: *t_ns, text }) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

fn time_ns(text: &str) -> Result<i64, String> {
    parse_duration_ns(text).ok_or_else(|| format!("not a time: {text:?}"))
}

fn quoted(text: &str) -> Result<(String, &str), String> {
    let len = quoted_len(text)?;
    Ok((unquote(&text[..len])?, text[len..].trim()))
}

/// `{labels} "text" @ 10s [repeat every 10s for 6] [metadata {…}]`.
fn load_line(line: &str, into: &mut Memory) -> Result<(), String> {
    let (labels, rest) = parse_series_name(line).map_err(|error| error.to_string())?;
    let (text, rest) = quoted(rest.trim())?;
    let (rest, metadata) = rest.split_once("metadata ").unwrap_or((rest, "{}"));
    let (metadata, _) = parse_series_name(metadata).map_err(|error| error.to_string())?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (start, every, times) = match words[..] {
        ["@", at] => (time_ns(at)?, 0, 1),
        ["@", at, "repeat", "every", every, "for", times] => {
            (time_ns(at)?, time_ns(every)?, times.parse().map_err(|_| "not a count")?)
        }
        _ => return Err(format!("not a line: {line}")),
    };
    for i in 0..times {
        let (labels, metadata, text) = (labels.clone(), metadata.clone(), text.clone());
        into.lines.push(Line { labels, metadata, t_ns: start + i * every, text });
    }
    Ok(())
}

fn log(memory: &Memory, rest: &str) -> Result<Vec<(Labels, i64, String)>, String> {
    let (backward, rest) = rest.strip_prefix("backward ").map_or((false, rest), |rest| (true, rest));
    let (limit, rest) = match rest.strip_prefix("limit ").and_then(|rest| rest.split_once(' ')) {
        Some((limit, rest)) => (limit.parse().map_err(|_| "not a limit")?, rest),
        None => (usize::MAX, rest),
    };
    let expr = parse(rest).map_err(|error| describe(&error))?;
    let LogExpr::Log(selector) = expr else { return Err("not a log query".to_owned()) };
    let streams = LogEngine::default()
        .log(memory, "t", &selector, 0, i64::MAX, limit, backward, None)
        .map_err(|error| describe(&error))?;
    let lines = streams.into_iter().flat_map(|stream| {
        let labels = stream.labels;
        stream.entries.into_iter().map(move |entry| (labels.clone(), entry.t_ns, entry.line))
    });
    let mut lines: Vec<_> = lines.collect();
    lines.sort_by_key(|(_, t_ns, _)| if backward { -t_ns } else { *t_ns });
    Ok(lines)
}

type Rows = Vec<(Labels, Vec<Option<f64>>)>;

fn metric(memory: &Memory, query: &str, grid: [i64; 3]) -> Result<Rows, String> {
    let LogExpr::Metric(expr) = parse(query).map_err(|error| describe(&error))? else {
        return Err("not a metric query".to_owned());
    };
    let [start, end, step] = grid.map(|ns| ns / 1_000_000);
    let engine = LogEngine::default();
    let value = match step {
        0 => engine.instant(memory, "t", &expr, start, None),
        _ => engine.range(memory, "t", &expr, start, end, step, None),
    };
    Ok(match value.map_err(|error| describe(&error))? {
        Value::Scalar(sample) => vec![(Labels::default(), vec![Some(sample.value)])],
        Value::Vector(rows) => rows.into_iter().map(|row| (row.labels, vec![row.point.float()])).collect(),
        Value::Matrix(rows) => rows
            .into_iter()
            .map(|row| {
                let at =
                    |t: i64| row.values.iter().find(|sample: &&Sample| sample.t_ms == t).map(|sample| sample.value);
                (row.labels.clone(), (0..=(end - start) / step).map(|i| at(start + i * step)).collect())
            })
            .collect(),
        Value::Text(..) => return Err("a string".to_owned()),
    })
}

fn is_close(a: &[Option<f64>], b: &[Option<f64>]) -> bool {
    let same = |(a, b): (&Option<f64>, &Option<f64>)| match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-6 * a.abs().max(b.abs()) || a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

fn eval(memory: &Memory, command: &str, block: &[&str]) -> Result<(), String> {
    let fail = block.iter().find_map(|line| line.strip_prefix("expect fail"));
    let outcome = if let Some(rest) = command.strip_prefix("eval log ") {
        log(memory, rest).and_then(|got| {
            let mut wanted = Memory::default();
            block
                .iter()
                .filter(|line| !line.starts_with("expect"))
                .try_for_each(|line| load_line(line, &mut wanted))?;
            let wanted: Vec<_> = wanted.lines.into_iter().map(|line| (line.labels, line.t_ns, line.text)).collect();
            if got == wanted { Ok(()) } else { Err(format!("expected {wanted:?}, got {got:?}")) }
        })
    } else {
        let words: Vec<&str> = command.splitn(9, ' ').collect();
        let (grid, query) = match words[..] {
            ["eval", "instant", "at", at, ..] => ([time_ns(at)?, 0, 0], command.splitn(5, ' ').last().unwrap_or("")),
            ["eval", "range", "from", from, "to", to, "step", step, query] => {
                ([time_ns(from)?, time_ns(to)?, time_ns(step)?], query)
            }
            _ => return Err("unknown command".to_owned()),
        };
        metric(memory, query, grid).and_then(|got| {
            let rows = block.iter().filter(|line| !line.starts_with("expect")).map(|line| parse_series(line));
            let floats = |(labels, values): WrittenSeries| {
                let float = |value: Option<Written>| value.and_then(|value| value.point.float());
                (labels, values.into_iter().map(float).collect::<Vec<_>>())
            };
            let wanted = rows.map(|row| row.map(floats)).collect::<Result<Vec<_>, String>>()?;
            let found = |(labels, values): &(Labels, Vec<_>)| {
                got.iter().any(|(other, row)| other == labels && is_close(row, values))
            };
            let same = wanted.len() == got.len() && wanted.iter().all(found);
            if same { Ok(()) } else { Err(format!("expected {wanted:?}, got {got:?}")) }
        })
    };
    match (outcome, fail) {
        (Err(message), Some(wanted)) if message.contains(wanted.trim()) && !message.starts_with("expected") => Ok(()),
        (Err(message), _) => Err(message),
        (Ok(()), Some(_)) => Err("should have failed".to_owned()),
        (Ok(()), None) => Ok(()),
    }
}

fn run(script: &str) -> Result<usize, String> {
    let is_content = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let mut lines = script.lines().filter(is_content).peekable();
    let (mut memory, mut evaluations) = (Memory::default(), 0);
    while let Some(command) = lines.next() {
        let mut block = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with(' ')) {
            block.push(line.trim());
        }
        let done = match command.trim() {
            "load" => block.iter().try_for_each(|line| load_line(line, &mut memory)),
            "clear" => {
                memory = Memory::default();
                Ok(())
            }
            command => {
                evaluations += 1;
                eval(&memory, command, &block)
            }
        };
        done.map_err(|message| format!("{command}: {message}"))?;
    }
    Ok(evaluations)
}

fn check(script: &str) {
    let evaluations = run(script).unwrap_or_else(|message| panic!("{message}"));
    assert!(evaluations > 0);
}

#[test]
fn log_queries() {
    check(include_str!("../../testdata/log_queries.logtest"));
}

#[test]
fn metric_queries() {
    check(include_str!("../../testdata/metric_queries.logtest"));
}

#[test]
fn bad_queries() {
    check(include_str!("../../testdata/bad_queries.logtest"));
}

#[test]
fn a_wrong_expectation_fails() {
    for wrong in [
        "eval instant at 0s vector(1)\n  {} 2",
        "eval instant at 0s vector(1)\n  expect fail x",
        "eval log {a=\"b\"}\n  {a=\"b\"} \"x\" @ 1s",
    ] {
        assert!(run(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn literals_of_line_filters_reach_the_store() {
    let literals = |query: &str| match parse(query) {
        Ok(LogExpr::Log(selector)) => selector.pipeline.literals(),
        other => panic!("{other:?}"),
    };
    assert_eq!(literals(r#"{a="b"} |= "x" != "y" | json |= "z" | line_format "{{.m}}" |= "w""#), ["x", "z"]);
    assert!(literals(r#"{a="b"} |= "x" or "y" |~ "z""#).is_empty());
}

proptest::proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "(\\{a=\"b\"\\}|rate\\(|\\[5m\\]|\\)|\\| ?(json|logfmt|unwrap|drop|line_format) |[|!][=~>]|\"\\PC{0,3}\"|[a-z]{1,2}|[-+*/(),=<>0-9.]|\\PC){0,12}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_line_runs_through_every_parser(line in "([\"{}:,=<> a-c\\\\]|\\PC){0,40}") {
        let query = r#"{a="b"} | json | logfmt | pattern "<x>=<y>" | regexp "(?P<z>.)" | unpack | decolorize | z > 5 | x > 5ms | line_format "{{.x}}{{__line__}}{{__timestamp__}}" | label_format q=x | drop y | keep q"#;
        let Ok(LogExpr::Log(selector)) = parse(query) else { panic!("a good query") };
        let labels = Labels::from_pairs([("a", "b")]);
        selector.pipeline.runner().run(&SelectedLine { labels: &labels, metadata: &labels, t_ns: 1, text: &line });
    }
}
