//! `query` asks a server over HTTP; `promql` prints and edits expressions.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use model::{Labels, MatchOp, Matcher, now_ms};
use query::promql::{Expr, ExprKind, parse, pretty};
use serde_json::Value;

use super::{Format, print_table};

const DEFAULT_SERVER: &str = "http://127.0.0.1:9090";
const TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub struct Output {
    /// Columns on a terminal, promtool's lines otherwise.
    #[arg(long = "format", short = 'o', value_enum, global = true)]
    format: Option<Format>,
    /// Extra header to send, `name=value`.
    #[arg(long = "header")]
    headers: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub enum Query {
    /// Evaluate at one instant.
    Instant {
        /// The server, where it is not this machine's, and the expression.
        #[arg(required = true, num_args = 1..=2, value_names = ["SERVER", "EXPR"])]
        what: Vec<String>,
        /// RFC 3339 or Unix seconds; now when left out.
        #[arg(long)]
        time: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Evaluate over a range.
    Range {
        #[arg(required = true, num_args = 1..=2, value_names = ["SERVER", "EXPR"])]
        what: Vec<String>,
        /// Five minutes before the end when left out.
        #[arg(long)]
        start: Option<String>,
        #[arg(long)]
        end: Option<String>,
        #[arg(long)]
        step: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// List series.
    Series {
        server: Option<String>,
        #[arg(long = "match", required = true)]
        matches: Vec<String>,
        #[arg(long)]
        start: Option<String>,
        #[arg(long)]
        end: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// List a label's values.
    Labels {
        #[arg(required = true, num_args = 1..=2, value_names = ["SERVER", "NAME"])]
        what: Vec<String>,
        #[arg(long = "match")]
        matches: Vec<String>,
        #[arg(long)]
        start: Option<String>,
        #[arg(long)]
        end: Option<String>,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub enum Promql {
    /// Print an expression over as many lines as it needs.
    Format { query: String },
    /// Edit the label matchers of every selector.
    #[command(subcommand)]
    LabelMatchers(LabelMatchers),
}

#[derive(Debug, Subcommand)]
pub enum LabelMatchers {
    /// Set a matcher, in the place of those of the same label.
    Set {
        #[arg(long = "type", short = 't', default_value = "=", value_parser = ["=", "!=", "=~", "!~"])]
        kind: String,
        query: String,
        name: String,
        value: String,
    },
    /// Delete the matchers of a label.
    Delete { query: String, name: String },
}

pub fn promql(what: Promql) -> anyhow::Result<ExitCode> {
    let print = |text: &str, edit: &dyn Fn(&mut Vec<Matcher>)| {
        let mut expr = parse(text).map_err(|error| pointed(&error, text))?;
        each_selector(&mut expr, edit);
        println!("{}", pretty(&expr));
        anyhow::Ok(ExitCode::SUCCESS)
    };
    match what {
        Promql::Format { query } => print(&query, &|_| {}),
        Promql::LabelMatchers(LabelMatchers::Delete { query, name }) => {
            print(&query, &|matchers| matchers.retain(|matcher| matcher.name != name))
        }
        Promql::LabelMatchers(LabelMatchers::Set { kind, query, name, value }) => {
            let op = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
            let op = op.into_iter().find(|op| op.as_str() == kind).context("--type")?;
            let matcher = Matcher::new(name, op, value)?;
            print(&query, &|matchers| {
                matchers.retain(|other| other.name != matcher.name);
                matchers.push(matcher.clone());
            })
        }
    }
}

/// The error with the line that is wrong, and a caret under the place.
fn pointed(error: &query::QueryError, text: &str) -> anyhow::Error {
    match error {
        query::QueryError::Parse { .. } => anyhow::Error::msg(error.pointed(text)),
        other => anyhow::Error::msg(other.to_string()),
    }
}

fn each_selector(expr: &mut Expr, edit: &dyn Fn(&mut Vec<Matcher>)) {
    match &mut expr.kind {
        ExprKind::Number { .. } | ExprKind::Text(_) => {}
        ExprKind::Paren(inner) => each_selector(inner, edit),
        ExprKind::Unary { operand, .. } => each_selector(operand, edit),
        ExprKind::Binary(binary) => {
            each_selector(&mut binary.left, edit);
            each_selector(&mut binary.right, edit);
        }
        ExprKind::Aggregate(aggregate) => {
            aggregate.param.iter_mut().for_each(|param| each_selector(param, edit));
            each_selector(&mut aggregate.operand, edit);
        }
        ExprKind::Call(call) => call.args.iter_mut().for_each(|arg| each_selector(arg, edit)),
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => edit(&mut selector.matchers),
        ExprKind::Subquery(subquery) => each_selector(&mut subquery.operand, edit),
    }
}

/// The server, if one was given before the last word, and the last word.
fn server_and(mut what: Vec<String>) -> (String, String) {
    let last = what.pop().unwrap_or_default();
    (what.pop().unwrap_or_else(|| DEFAULT_SERVER.to_owned()), last)
}

pub fn query(what: Query) -> anyhow::Result<ExitCode> {
    let mut params: Vec<(&str, String)> = Vec::new();
    let mut give = |name, value: Option<String>| params.extend(value.map(|value| (name, value)));
    let (server, path, output) = match what {
        Query::Instant { what, time, output } => {
            let (server, expr) = server_and(what);
            give("query", Some(expr));
            give("time", time);
            (server, "query".to_owned(), output)
        }
        Query::Range { what, start, end, step, output } => {
            let (server, expr) = server_and(what);
            give("query", Some(expr));
            let (start_s, end_s) = range(start.as_deref(), end.as_deref())?;
            give("start", Some(start_s.to_string()));
            give("end", Some(end_s.to_string()));
            give("step", Some(step.unwrap_or_else(|| ((end_s - start_s) / 250.0).floor().max(1.0).to_string())));
            (server, "query_range".to_owned(), output)
        }
        Query::Series { server, matches, start, end, output } => {
            matches.into_iter().for_each(|one| give("match[]", Some(one)));
            give("start", start);
            give("end", end);
            (server.unwrap_or_else(|| DEFAULT_SERVER.to_owned()), "series".to_owned(), output)
        }
        Query::Labels { what, matches, start, end, output } => {
            let (server, name) = server_and(what);
            matches.into_iter().for_each(|one| give("match[]", Some(one)));
            give("start", start);
            give("end", end);
            (server, format!("label/{}/values", escape_name(&name)), output)
        }
    };
    let is_terminal = std::io::stdout().is_terminal();
    let format = output.format.unwrap_or(if is_terminal { Format::Table } else { Format::Promql });
    let answer = get(&server, &format!("/api/v1/{path}"), &params, &output.headers)?;
    for note in ["warnings", "infos"].iter().filter_map(|name| answer[name].as_array()).flatten() {
        eprintln!("{}", note.as_str().unwrap_or_default());
    }
    print(&answer["data"], format);
    Ok(ExitCode::SUCCESS)
}

/// A label's name in a path: what is not a plain name is escaped as Prometheus does (`U__`).
fn escape_name(name: &str) -> String {
    if model::is_label_name(name) {
        return name.to_owned();
    }
    let escape = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' => c.to_string(),
        '_' => "__".to_owned(),
        other => format!("_{:x}_", other as u32),
    };
    format!("U__{}", name.chars().map(escape).collect::<String>())
}

fn range(start: Option<&str>, end: Option<&str>) -> anyhow::Result<(f64, f64)> {
    let seconds = |name: &str, text: &str| {
        let t_ms = service::http::parse_time_ms(name, text).map_err(|error| anyhow::Error::msg(error.message))?;
        anyhow::Ok(t_ms as f64 / 1000.0)
    };
    let end_s = end.map_or(Ok(now_ms() as f64 / 1000.0), |text| seconds("end", text))?;
    let start_s = start.map_or(Ok(end_s - 300.0), |text| seconds("start", text))?;
    if start_s >= end_s {
        bail!("start time is not before end time");
    }
    Ok((start_s, end_s))
}

/// GETs a path of a server; its envelope, or the error that it tells.
pub fn get(server: &str, path: &str, params: &[(&str, String)], headers: &[String]) -> anyhow::Result<Value> {
    service::http::install_tls_provider();
    let server = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    let url = format!("{}{path}", server.trim_end_matches('/'));
    let client = reqwest::blocking::Client::builder().timeout(TIMEOUT).build()?;
    let mut request = client.get(&url).query(params);
    for header in headers {
        let (name, value) =
            header.split_once('=').with_context(|| format!("--header {header}: expected name=value"))?;
        request = request.header(name, value);
    }
    let response = request.send().with_context(|| format!("cannot ask {url}"))?;
    let status = response.status();
    let text = response.text()?;
    let answer: Value = serde_json::from_str(&text).with_context(|| format!("{url} answered {status}: {text}"))?;
    if answer["status"] != "success" {
        let (kind, error) = (answer["errorType"].as_str().unwrap_or("?"), answer["error"].as_str().unwrap_or("?"));
        bail!("query error: {kind}: {error}");
    }
    Ok(answer)
}

fn print(data: &Value, format: Format) {
    match (format, data["resultType"].as_str()) {
        (Format::Json, Some(_)) => println!("{}", data["result"]),
        (Format::Json, None) => println!("{data}"),
        (_, None) => data.as_array().into_iter().flatten().for_each(|item| println!("{}", listed(item))),
        (Format::Promql, Some(kind)) => print_lines(kind, &data["result"]),
        (Format::Table, Some(kind)) => print_result(kind, &data["result"]),
    }
}

fn listed(item: &Value) -> String {
    item.as_str().map_or_else(|| labels(item), str::to_owned)
}

/// `name{label="value"}`.
fn labels(metric: &Value) -> String {
    let pairs = metric.as_object().into_iter().flatten();
    let labels = Labels::from_pairs(pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or(""))));
    let name = labels.get(model::METRIC_NAME).unwrap_or("").to_owned();
    let others = labels.without(&[model::METRIC_NAME]);
    let pairs: Vec<String> = others.iter().map(|label| format!("{}={:?}", label.name, &*label.value)).collect();
    if pairs.is_empty() && !name.is_empty() { name } else { format!("{name}{{{}}}", pairs.join(", ")) }
}

/// The time and the value of `[t, "v"]`, or of `[t, {histogram}]`.
fn point(pair: &Value) -> (String, String) {
    let value = pair[1].as_str().map_or_else(|| pair[1].to_string(), str::to_owned);
    (pair[0].to_string(), value)
}

fn points(row: &Value) -> impl Iterator<Item = (String, String)> {
    ["values", "histograms"].into_iter().filter_map(|name| row[name].as_array()).flatten().map(point)
}

fn either(element: &Value) -> &Value {
    if element["value"].is_null() { &element["histogram"] } else { &element["value"] }
}

fn print_lines(kind: &str, result: &Value) {
    match kind {
        "vector" => {
            for element in result.as_array().into_iter().flatten() {
                let (t, value) = point(either(element));
                println!("{} => {value} @[{t}]", labels(&element["metric"]));
            }
        }
        "matrix" => {
            for row in result.as_array().into_iter().flatten() {
                println!("{} =>", labels(&row["metric"]));
                points(row).for_each(|(t, value)| println!("{value} @[{t}]"));
            }
        }
        _ => {
            let (t, value) = point(result);
            println!("{kind}: {value} @[{t}]");
        }
    }
}

fn print_result(kind: &str, result: &Value) {
    let time = |t: &str| {
        let ms = t.parse::<f64>().map_or(0, |seconds| (seconds * 1000.0) as i64);
        model::format_rfc3339_ms(ms)
    };
    let rows: Vec<Vec<String>> = match kind {
        "vector" => {
            let row = |element: &Value| vec![labels(&element["metric"]), point(either(element)).1];
            result.as_array().into_iter().flatten().map(row).collect()
        }
        "matrix" => {
            let of_series = |row: &Value| {
                let name = labels(&row["metric"]);
                points(row).map(|(t, value)| vec![name.clone(), time(&t), value]).collect::<Vec<_>>()
            };
            result.as_array().into_iter().flatten().flat_map(of_series).collect()
        }
        _ => vec![vec![kind.to_owned(), point(result).1]],
    };
    let head: &[&str] = if kind == "matrix" { &["SERIES", "TIME", "VALUE"] } else { &["SERIES", "VALUE"] };
    print_table(head, &rows);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_server_may_be_left_out() {
        assert_eq!(server_and(vec!["up".into()]), (DEFAULT_SERVER.into(), "up".into()));
        assert_eq!(server_and(vec!["http://h".into(), "up".into()]), ("http://h".into(), "up".into()));
    }

    #[test]
    fn series_are_shown_as_selectors() {
        let check = |metric: Value, expected: &str| assert_eq!(labels(&metric), expected);
        check(json!({"__name__": "up", "job": "a\"b"}), r#"up{job="a\"b"}"#);
        check(json!({"__name__": "up"}), "up");
        check(json!({}), "{}");
    }

    #[test]
    fn odd_label_names_are_escaped_in_paths() {
        assert_eq!(escape_name("a.b_c"), "U__a_2e_b__c");
        assert_eq!(model::unescape_name(&escape_name("a.b_c")), "a.b_c");
    }
}
