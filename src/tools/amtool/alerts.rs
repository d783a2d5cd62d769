//! `amtool alert`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Setting, instant, matchers, pairs, show};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AlertArgs {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    query: Query,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show alerts (what happens without a word too).
    Query(Query),
    /// Add an alert.
    Add(Add),
}

#[derive(Debug, Args)]
struct Query {
    /// Show inhibited alerts.
    #[arg(long, short)]
    inhibited: bool,
    /// Show silenced alerts.
    #[arg(long, short)]
    silenced: bool,
    /// Show active alerts.
    #[arg(long, short)]
    active: bool,
    #[arg(long, short, hide = true)]
    unprocessed: bool,
    /// Show alerts of receivers that this regular expression matches.
    #[arg(long, short)]
    receiver: Option<String>,
    /// What they must match; a first word that is no matcher is an alert's name.
    matchers: Vec<String>,
}

#[derive(Debug, Args)]
struct Add {
    /// Where it comes from.
    #[arg(long = "generator-url", default_value = "")]
    generator_url: String,
    /// When it started, as RFC 3339.
    #[arg(long)]
    start: Option<String>,
    /// When it ends, as RFC 3339.
    #[arg(long)]
    end: Option<String>,
    /// An annotation, name=value.
    #[arg(long = "annotation")]
    annotations: Vec<String>,
    /// Labels, name=value; a first word alone is the alert's name.
    labels: Vec<String>,
}

pub fn alert(args: AlertArgs, setting: &Setting) -> anyhow::Result<ExitCode> {
    match args.what {
        None => query(args.query, setting),
        Some(What::Query(args)) => query(args, setting),
        Some(What::Add(args)) => add(args, setting),
    }
}

fn query(mut args: Query, setting: &Setting) -> anyhow::Result<ExitCode> {
    if !args.silenced && !args.inhibited && !args.active && !args.unprocessed {
        args.active = true;
    }
    let mut params = vec![
        ("active", args.active.to_string()),
        ("inhibited", args.inhibited.to_string()),
        ("silenced", args.silenced.to_string()),
        ("unprocessed", args.unprocessed.to_string()),
    ];
    params.extend(args.receiver.map(|receiver| ("receiver", receiver)));
    params.extend(matchers(&args.matchers)?.iter().map(|matcher| ("filter", matcher.to_string())));
    let found = setting.server()?.get("/alerts", &params)?;
    let found = found.as_array().cloned().unwrap_or_default();
    print!("{}", show::alerts(found, setting.format()?, &setting.dates()));
    Ok(ExitCode::SUCCESS)
}

fn add(args: Add, setting: &Setting) -> anyhow::Result<ExitCode> {
    let time = |given: &Option<String>| {
        given.as_deref().map(|text| instant(text).map(model::format_rfc3339_ms)).transpose().map(Value::from)
    };
    let mut alert = json!({
        "labels": pairs(&args.labels, "labels", true)?,
        "annotations": pairs(&args.annotations, "annotations", false)?,
        "generatorURL": args.generator_url,
    });
    for (name, given) in [("startsAt", &args.start), ("endsAt", &args.end)] {
        if given.is_some() {
            alert[name] = time(given)?;
        }
    }
    setting.server()?.post("/alerts", &json!([alert]))?;
    Ok(ExitCode::SUCCESS)
}
