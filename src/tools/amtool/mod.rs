//! What `amtool` does: alerts and silences of a running router, checks of its configuration, templates.
//!
//! Reached through a link named `amtool` or as `binnacle amtool …`. Flags, output and exit codes are amtool's; its
//! configuration files (`~/.config/amtool/config.yml`, `/etc/amtool/config.yml`) are read too.

mod alerts;
mod offline;
mod server;
mod show;
mod silences;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use model::Matcher;

use server::Server;
use show::{Dates, Format};

#[derive(Debug, Parser)]
#[command(name = "amtool", about = "View and modify the current state of the alert router")]
struct Amtool {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// The router to talk to.
    #[arg(long = "alertmanager.url", global = true)]
    url: Option<String>,
    /// How to print.
    #[arg(long, short, value_enum, global = true)]
    output: Option<Format>,
    /// Go's layout of dates.
    #[arg(long = "date.format", global = true)]
    date_format: Option<String>,
    /// How long the command may take.
    #[arg(long, global = true)]
    timeout: Option<String>,
    #[arg(long, short, global = true, hide = true)]
    verbose: bool,
    #[arg(long = "version-check", global = true, hide = true, num_args = 0..=1, action = ArgAction::Set)]
    version_check: Option<Option<bool>>,
    #[arg(long = "no-version-check", global = true, hide = true)]
    no_version_check: bool,
    #[arg(long = "enable-feature", global = true, hide = true)]
    features: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add and query alerts.
    Alert(alerts::AlertArgs),
    /// Add, expire, import, query and update silences.
    Silence(silences::SilenceArgs),
    /// Check configuration files.
    CheckConfig(offline::CheckArgs),
    /// Show the configuration in force, and its routes.
    Config(offline::ConfigArgs),
    /// Show the cluster's status.
    Cluster {
        #[command(subcommand)]
        what: Option<Show>,
    },
    /// Work with templates.
    Template {
        #[command(subcommand)]
        what: offline::Template,
    },
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Show {
    Show,
}

/// What commands share: flags, and behind them the configuration files.
struct Setting {
    common: Common,
    file: BTreeMap<String, String>,
}

impl Setting {
    fn new(common: Common) -> anyhow::Result<Setting> {
        let home = std::env::var("HOME").unwrap_or_default();
        let mut file = BTreeMap::new();
        for path in [format!("{home}/.config/amtool/config.yml"), "/etc/amtool/config.yml".to_owned()] {
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let found =
                alertmanager::tool::flags_of_file(&text).map_err(|error| anyhow!("could not load {path}: {error}"))?;
            for (name, value) in found {
                file.entry(name).or_insert(value);
            }
        }
        Ok(Setting { common, file })
    }

    fn flag(&self, given: &Option<String>, name: &str) -> Option<String> {
        given.clone().or_else(|| self.file.get(name).cloned())
    }

    fn server(&self) -> anyhow::Result<Server> {
        let url = self.flag(&self.common.url, "alertmanager.url");
        let url = url.context("required flag --alertmanager.url not provided")?;
        let timeout = self.flag(&self.common.timeout, "timeout").unwrap_or_else(|| "30s".to_owned());
        let timeout_ms = model::parse_duration(&timeout).map_err(|error| anyhow!("--timeout: {error}"))?;
        Server::new(&url, timeout_ms)
    }

    fn has_url(&self) -> bool {
        self.flag(&self.common.url, "alertmanager.url").is_some()
    }

    fn format(&self) -> anyhow::Result<Format> {
        match (self.common.output, self.file.get("output")) {
            (Some(format), _) => Ok(format),
            (None, Some(name)) => Format::from_str(name, true).map_err(|_| anyhow!("unknown output formatter")),
            (None, None) => Ok(Format::Simple),
        }
    }

    fn dates(&self) -> Dates {
        Dates(
            self.flag(&self.common.date_format, "date.format").unwrap_or_else(|| "2006-01-02 15:04:05 MST".to_owned()),
        )
    }
}

/// amtool's arguments, where that is what was typed.
pub fn wanted(args: &[String]) -> Option<Vec<String>> {
    let name = args.first().and_then(|name| name.rsplit('/').next());
    if name == Some("amtool") {
        return Some(args.to_vec());
    }
    let is_word = args.get(1).is_some_and(|word| word == "amtool");
    is_word.then(|| args.iter().skip(1).cloned().collect())
}

pub fn run(args: Vec<String>) -> ExitCode {
    if args.iter().skip(1).any(|arg| arg == "--version") {
        println!("amtool, version {} (binnacle)", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let Amtool { command, common } = match Amtool::try_parse_from(args) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Whatever cannot be written here has no reader.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let outcome = Setting::new(common).and_then(|setting| match command {
        Command::Alert(args) => alerts::alert(args, &setting),
        Command::Silence(args) => silences::silence(args, &setting),
        Command::CheckConfig(args) => offline::check(args),
        Command::Config(args) => offline::config(args, &setting),
        Command::Cluster { .. } => {
            let status = setting.server()?.get("/status", &[])?;
            show::cluster(&status["cluster"], setting.format()?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Template { what } => offline::template(what),
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("amtool: error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Matchers as typed; a first word that is none is an alert's name.
fn matchers(words: &[String]) -> anyhow::Result<Vec<Matcher>> {
    let mode = alertmanager::MatcherMode::default();
    let mut matchers = Vec::new();
    for (i, word) in words.iter().enumerate() {
        match mode.one(word) {
            Ok(matcher) => matchers.push(matcher),
            Err(_) if i == 0 => matchers.push(Matcher::equal("alertname", word.clone())),
            Err(error) => bail!(error),
        }
    }
    Ok(matchers)
}

/// Labels or annotations as typed.
fn pairs(words: &[String], what: &str, first_is_name: bool) -> anyhow::Result<BTreeMap<String, String>> {
    let mode = alertmanager::MatcherMode::default();
    let mut pairs = BTreeMap::new();
    for (i, word) in words.iter().enumerate() {
        let matcher = match mode.one(word) {
            Err(_) if i == 0 && first_is_name => Matcher::equal("alertname", word.clone()),
            parsed => parsed.map_err(|error| anyhow!(error))?,
        };
        if matcher.op != model::MatchOp::Equal {
            bail!("{what} must be specified as key=value pairs");
        }
        pairs.insert(matcher.name, matcher.value);
    }
    Ok(pairs)
}

/// RFC 3339 as milliseconds.
fn instant(text: &str) -> anyhow::Result<i64> {
    alertmanager::tool::parse_time_ms(text).with_context(|| format!("cannot parse {text:?} as an RFC 3339 time"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_consistent() {
        Amtool::command().debug_assert();
    }

    #[test]
    fn words_are_matchers_or_a_name() {
        let check = |words: &[&str], expected: &str| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let found =
                matchers(&words).map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
            assert_eq!(found.unwrap_or_else(|error| error.to_string()), expected, "{words:?}");
        };
        check(&["Down", "a=b"], r#"alertname="Down" a="b""#);
        check(&["a=~b|c"], r#"a=~"b|c""#);
        check(&["{x=y}"], r#"alertname="{x=y}""#);
        check(&["a=b", "c"], "bad matcher format: c");
    }

    #[test]
    fn a_link_or_a_word_means_amtool() {
        let check = |args: &[&str], expected: bool| {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            assert_eq!(wanted(&args).is_some(), expected, "{args:?}");
        };
        check(&["/bin/amtool", "alert"], true);
        check(&["binnacle", "amtool"], true);
        check(&["binnacle", "alertmanager"], false);
    }

    #[test]
    fn query_is_what_alert_and_silence_do_by_default() {
        for line in ["amtool alert", "amtool alert a=b", "amtool silence -q x", "amtool config", "amtool config routes"]
        {
            assert!(Amtool::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        assert!(Amtool::try_parse_from(["amtool", "alert", "add", "a=b", "--annotation=c=d"]).is_ok());
    }
}
