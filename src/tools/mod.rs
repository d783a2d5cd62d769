//! What `promtool` and `logcli` do: ask a server, check files, run tests, work on a data directory.
//!
//! Reached as `binnacle query …`, `binnacle check …` and so on, or through a link named `promtool` or `logcli`. Exit codes are
//! promtool's: 1 for a failure, 3 for what a linter found.

pub mod amtool;
mod check;
mod lint;
mod logs;
mod offline;
mod query;
mod replay;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// What a linter found.
pub const LINT_CODE: u8 = 3;

#[derive(Debug, Parser)]
#[command(name = "binnacle", version, about = "Tools for queries, rules, configurations and stored samples")]
pub struct Tools {
    #[command(subcommand)]
    tool: Tool,
    /// Accepted as promtool's; everything is enabled.
    #[arg(long, global = true, hide = true)]
    experimental: bool,
    #[arg(long = "enable-feature", global = true, hide = true)]
    features: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Tool {
    /// Ask a server.
    #[command(subcommand)]
    Query(query::Query),
    /// Ask a server for log lines, labels and streams.
    Logs(Box<logs::Logs>),
    /// Check files, metrics, or a server.
    #[command(subcommand)]
    Check(check::Check),
    /// Run tests of queries or rules.
    #[command(subcommand)]
    Test(test::Test),
    /// Work on a data directory that no server uses.
    #[command(subcommand)]
    Tsdb(offline::Tsdb),
    /// Work on the logs of a data directory.
    #[command(subcommand)]
    Indexer(offline::Indexer),
    /// Work with rules and a server.
    #[command(subcommand)]
    Rules(replay::Rules),
    /// Print and edit expressions.
    #[command(subcommand)]
    Promql(query::Promql),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns.
    Table,
    /// As promtool prints.
    Promql,
    Json,
}

/// The first words that mean a tool; `tsdb` and `indexer` alone are roles.
const WORDS: [&str; 7] = ["query", "logs", "check", "test", "rules", "promql", "help-tools"];
const TSDB_WORDS: [&str; 7] = ["analyze", "list", "verify", "dump", "dump-openmetrics", "create-blocks-from", "help"];
const INDEXER_WORDS: [&str; 2] = ["verify", "help"];

/// The tools' arguments, where that is what was typed.
pub fn wanted(args: &[String]) -> Option<Vec<String>> {
    let name = args.first().and_then(|name| name.rsplit('/').next());
    if name == Some("promtool") {
        return Some(args.to_vec());
    }
    if name == Some("logcli") {
        let own = ["logcli".to_owned(), "logs".to_owned()];
        return Some(own.into_iter().chain(args[1..].iter().cloned()).collect());
    }
    let mut words = args.iter().skip(1).map(String::as_str);
    let first = words.next()?;
    let second = words.next().unwrap_or("");
    let is_tool = match first {
        "tsdb" => TSDB_WORDS.contains(&second),
        "indexer" => INDEXER_WORDS.contains(&second),
        _ => WORDS.contains(&first),
    };
    is_tool.then(|| args.to_vec())
}

/// Runs a tool to its end.
pub fn run(args: Vec<String>) -> ExitCode {
    let Tools { tool, .. } = match Tools::try_parse_from(args) {
        Ok(tools) => tools,
        Err(error) => {
            // Whatever cannot be written here has no reader.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match tool {
        Tool::Query(query) => query::query(query),
        Tool::Logs(logs) => logs::logs(*logs),
        Tool::Check(check) => check::check(check),
        Tool::Test(test) => test::test(test),
        Tool::Tsdb(tsdb) => offline::tsdb(tsdb),
        Tool::Indexer(offline::Indexer::Verify { dir }) => offline::verify_logs(&dir),
        Tool::Rules(rules) => replay::rules(rules),
        Tool::Promql(promql) => query::promql(promql),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

/// Rows with a head as aligned columns.
pub fn print_table(head: &[&str], rows: &[Vec<String>]) {
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([head[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let print = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width));
        println!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    print(&head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
    rows.iter().for_each(|row| print(row));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_consistent() {
        Tools::command().debug_assert();
    }

    #[test]
    fn roles_are_not_tools() {
        let check = |args: &[&str], expected: bool| {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            assert_eq!(wanted(&args).is_some(), expected, "{args:?}");
        };
        check(&["binnacle"], false);
        check(&["binnacle", "tsdb", "--config.file=x"], false);
        check(&["binnacle", "tsdb", "list"], true);
        // It was taken for the role, which refused the word.
        check(&["binnacle", "tsdb", "verify", "data"], true);
        check(&["binnacle", "indexer", "verify", "data"], true);
        check(&["binnacle", "indexer", "--storage.path=data"], false);
        check(&["binnacle", "query", "instant"], true);
        check(&["/usr/bin/promtool", "tsdb"], true);
        check(&["binnacle", "logs", "{a=\"b\"}"], true);
        check(&["logcli", "labels"], true);
    }
}
