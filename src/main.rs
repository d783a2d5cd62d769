//! The `binnacle` binary: reads what was typed, starts the parts, waits, stops them in reverse.
//!
//! The only crate that knows every part; here they meet, and nowhere else.

mod admitted;
mod cli;
mod process;
mod push;
mod rules;
mod settings;
mod shared;
mod tools;
mod web;

use std::process::ExitCode;

use clap::Parser;
use service::logging::{self, LogFormat};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Cli;
use crate::process::Process;
use crate::settings::Settings;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let Some(args) = tools::amtool::wanted(&args) {
        return tools::amtool::run(args);
    }
    if let Some(args) = tools::wanted(&args) {
        return tools::run(args);
    }
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:?}");
            ExitCode::FAILURE
        }
    }
}

/// Shows what the agent would do with lines.
fn dry_run(settings: &Settings) -> anyhow::Result<()> {
    let setup = settings.log_setup(&settings.config);
    let own_dirs = vec![std::path::absolute(&settings.cli.storage_path)?];
    let mut out = std::io::stdout().lock();
    Ok(agent::dry_run(&setup, &settings.node, model::DEFAULT_TENANT, own_dirs, &mut out)?)
}

/// Runs parts until they are told to stop.
fn serve(args: Vec<String>) -> anyhow::Result<()> {
    let args = cli::under_its_name(args);
    let cli = Cli::parse_from(&args);
    let format = match cli.log_format {
        cli::LogFormat::Text => LogFormat::Text,
        cli::LogFormat::Json => LogFormat::Json,
    };
    logging::init(&cli.log_level, format).map_err(anyhow::Error::msg)?;
    let settings = Settings::new(cli, args)?;
    if settings.cli.dry_run {
        return dry_run(&settings);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(run(settings));
    // After an interrupted start something may still block: what it does is as good as undone, as after `kill -9`.
    runtime.shutdown_background();
    outcome
}

/// Signals are listened to before anything is said or written: whoever reads `Listening on …` may send one at once.
async fn run(settings: Settings) -> anyhow::Result<()> {
    let (mut terminate, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut process = tokio::select! {
        process = Process::start(settings) => process?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let failure = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            _ = hangup.recv() => drop(process.shared.reload().await),
            failure = process.failed() => break Some(failure),
        }
    };
    process.stop().await;
    failure.map_or(Ok(()), |failure| Err(anyhow::Error::msg(failure)))
}
