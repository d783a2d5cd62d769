//! `amtool silence`.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::{ArgAction, Args, Subcommand};
use model::{MatchOp, Matcher, format_rfc3339_ms, now_ms};
use serde_json::{Value, json};

use super::server::{NotFound, Server};
use super::{Setting, instant, matchers, pairs, show};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SilenceArgs {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    query: Query,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show silences (what happens without a word too).
    Query(Query),
    /// Add a silence.
    Add(Add),
    /// End silences now.
    Expire { ids: Vec<String> },
    /// Take silences over from JSON, as `query -o json` prints it.
    Import(Import),
    /// Change silences.
    Update(Update),
}

#[derive(Debug, Args)]
struct Query {
    /// Show expired silences instead of active ones.
    #[arg(long)]
    expired: bool,
    /// Only show ids.
    #[arg(long, short)]
    quiet: bool,
    /// Show silences of this author.
    #[arg(long = "created-by")]
    created_by: Option<String>,
    /// Show this one.
    #[arg(long)]
    id: Option<String>,
    /// Show silences that end, or have ended, within this time.
    #[arg(long)]
    within: Option<String>,
    /// What they must hold; a first word that is no matcher is an alert's name.
    matchers: Vec<String>,
}

#[derive(Debug, Args)]
struct Add {
    #[arg(long, short)]
    author: Option<String>,
    #[arg(long = "require-comment", hide = true, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    require_comment: Option<bool>,
    #[arg(long = "no-require-comment", hide = true)]
    no_require_comment: bool,
    /// How long it lasts.
    #[arg(long, short, default_value = "1h")]
    duration: String,
    /// When it starts, as RFC 3339.
    #[arg(long)]
    start: Option<String>,
    /// When it ends, as RFC 3339; instead of a duration.
    #[arg(long)]
    end: Option<String>,
    /// Why.
    #[arg(long, short, default_value = "")]
    comment: String,
    /// An annotation, name=value.
    #[arg(long = "annotation")]
    annotations: Vec<String>,
    /// What it silences; a first word that is no matcher is an alert's name.
    matchers: Vec<String>,
}

#[derive(Debug, Args)]
struct Import {
    /// Make new silences even where they exist.
    #[arg(long, short)]
    force: bool,
    #[arg(long, short, hide = true)]
    worker: Option<usize>,
    /// JSON; what comes in by standard input when left out.
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Update {
    /// Only show ids.
    #[arg(long, short)]
    quiet: bool,
    /// How long it lasts.
    #[arg(long, short)]
    duration: Option<String>,
    /// When it starts, as RFC 3339.
    #[arg(long)]
    start: Option<String>,
    /// When it ends, as RFC 3339; instead of a duration.
    #[arg(long)]
    end: Option<String>,
    /// Why.
    #[arg(long, short)]
    comment: Option<String>,
    ids: Vec<String>,
}

pub fn silence(args: SilenceArgs, setting: &Setting) -> anyhow::Result<ExitCode> {
    match args.what {
        None => query(args.query, setting),
        Some(What::Query(args)) => query(args, setting),
        Some(What::Add(args)) => add(args, setting),
        Some(What::Expire { ids }) => expire(&ids, setting),
        Some(What::Import(args)) => import(args, setting),
        Some(What::Update(args)) => update(args, setting),
    }
}

fn lasting(text: &str) -> anyhow::Result<i64> {
    let ms = model::parse_duration(text).map_err(|error| anyhow!(error.to_string()))?;
    if ms == 0 {
        bail!("silence duration must be greater than 0");
    }
    Ok(ms)
}

fn time_of(silence: &Value, name: &str) -> anyhow::Result<i64> {
    instant(silence[name].as_str().unwrap_or(""))
}

fn print(found: Vec<Value>, quiet: bool, setting: &Setting) -> anyhow::Result<ExitCode> {
    if quiet {
        found.iter().for_each(|silence| println!("{}", silence["id"].as_str().unwrap_or("")));
    } else {
        print!("{}", show::silences(found, setting.format()?, &setting.dates()));
    }
    Ok(ExitCode::SUCCESS)
}

fn query(args: Query, setting: &Setting) -> anyhow::Result<ExitCode> {
    let filters: Vec<(&str, String)> =
        matchers(&args.matchers)?.iter().map(|matcher| ("filter", matcher.to_string())).collect();
    let within_ms = args.within.as_deref().map(lasting).transpose()?;
    let now_ms = now_ms();
    let is_wanted = |silence: &Value| -> anyhow::Result<bool> {
        let ends_at_ms = time_of(silence, "endsAt")?;
        let is_near = within_ms.is_none_or(|within_ms| (ends_at_ms - now_ms).abs() <= within_ms);
        let has = |name: &str, wanted: &Option<String>| wanted.as_ref().is_none_or(|wanted| silence[name] == **wanted);
        Ok((ends_at_ms < now_ms) == args.expired
            && is_near
            && has("createdBy", &args.created_by)
            && has("id", &args.id))
    };
    let mut found = Vec::new();
    for silence in setting.server()?.get("/silences", &filters)?.as_array().into_iter().flatten() {
        if is_wanted(silence)? {
            found.push(silence.clone());
        }
    }
    print(found, args.quiet, setting)
}

fn matcher_json(matcher: &Matcher) -> Value {
    json!({
        "name": matcher.name, "value": matcher.value,
        "isRegex": matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex),
        "isEqual": matches!(matcher.op, MatchOp::Equal | MatchOp::Regex),
    })
}

fn add(args: Add, setting: &Setting) -> anyhow::Result<ExitCode> {
    let matchers = matchers(&args.matchers)?;
    if matchers.is_empty() {
        bail!("no matchers specified");
    }
    let starts_at_ms = args.start.as_deref().map_or(Ok(now_ms()), instant)?;
    let ends_at_ms = match &args.end {
        Some(end) => instant(end)?,
        None => starts_at_ms + lasting(&args.duration)?,
    };
    if starts_at_ms > ends_at_ms {
        bail!("silence cannot start after it ends");
    }
    let in_file = ["require-comment", "comment_required"].iter().find_map(|name| setting.file.get(*name));
    let required = args.require_comment.unwrap_or_else(|| in_file.is_none_or(|value| value != "false"));
    if required && !args.no_require_comment && args.comment.is_empty() {
        bail!("comment required by config");
    }
    let author = setting.flag(&args.author, "author").or_else(|| std::env::var("USER").ok()).unwrap_or_default();
    let silence = json!({
        "matchers": matchers.iter().map(matcher_json).collect::<Vec<_>>(),
        "startsAt": format_rfc3339_ms(starts_at_ms),
        "endsAt": format_rfc3339_ms(ends_at_ms),
        "createdBy": author,
        "comment": args.comment,
        "annotations": pairs(&args.annotations, "annotations", false)?,
    });
    println!("{}", post(&setting.server()?, &silence)?);
    Ok(ExitCode::SUCCESS)
}

/// Answers the id under which it is known.
fn post(server: &Server, silence: &Value) -> anyhow::Result<String> {
    Ok(server.post("/silences", silence)?["silenceID"].as_str().unwrap_or("").to_owned())
}

fn expire(ids: &[String], setting: &Setting) -> anyhow::Result<ExitCode> {
    if ids.is_empty() {
        bail!("no silence IDs specified");
    }
    let server = setting.server()?;
    ids.iter().try_for_each(|id| server.delete(&format!("/silence/{id}")))?;
    Ok(ExitCode::SUCCESS)
}

fn import(args: Import, setting: &Setting) -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    match &args.file {
        Some(path) => text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?,
        None => drop(std::io::stdin().read_to_string(&mut text)?),
    }
    let silences: Vec<Value> = serde_json::from_str(&text).context("couldn't unmarshal input data, is it JSON?")?;
    let server = setting.server()?;
    let mut failed = 0;
    for mut silence in silences.clone() {
        let id = silence["id"].as_str().unwrap_or("").to_owned();
        if args.force {
            silence["id"] = "".into();
        }
        let posted = post(&server, &silence).or_else(|error| {
            if !error.is::<NotFound>() && error.downcast_ref::<NotFound>().is_none() {
                return Err(error);
            }
            // It is not there any more: a new one.
            silence["id"] = "".into();
            post(&server, &silence)
        });
        match posted {
            Ok(id) => println!("{id}"),
            Err(error) => {
                eprintln!("Error adding silence id='{id}': {error:#}");
                failed += 1;
            }
        }
    }
    if failed > 0 {
        bail!("couldn't import {failed} out of {} silences", silences.len());
    }
    Ok(ExitCode::SUCCESS)
}

fn update(args: Update, setting: &Setting) -> anyhow::Result<ExitCode> {
    if args.ids.is_empty() {
        bail!("no silence IDs specified");
    }
    let server = setting.server()?;
    let mut updated = Vec::new();
    for id in &args.ids {
        let mut silence = server.get(&format!("/silence/{id}"), &[])?;
        if let Some(start) = &args.start {
            silence["startsAt"] = format_rfc3339_ms(instant(start)?).into();
        }
        let starts_at_ms = time_of(&silence, "startsAt")?;
        let ends_at_ms = match (&args.end, &args.duration) {
            (Some(end), _) => instant(end)?,
            (None, Some(duration)) => starts_at_ms + lasting(duration)?,
            (None, None) => time_of(&silence, "endsAt")?,
        };
        if starts_at_ms > ends_at_ms {
            bail!("silence cannot start after it ends");
        }
        silence["endsAt"] = format_rfc3339_ms(ends_at_ms).into();
        if let Some(comment) = &args.comment {
            silence["comment"] = comment.as_str().into();
        }
        silence["id"] = post(&server, &silence)?.into();
        updated.push(silence);
    }
    print(updated, args.quiet, setting)
}
