//! `amtool check-config`, `config` and `template`.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use alertmanager::{Route, tool};
use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use model::Labels;

use super::{Setting, pairs, show};

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The files; standard input when left out.
    files: Vec<PathBuf>,
}

pub fn check(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let files = if args.files.is_empty() { vec![PathBuf::from("/dev/stdin")] } else { args.files };
    let mut failed = 0;
    for file in &files {
        print!("Checking '{}'", file.display());
        match tool::check(file) {
            Ok(found) => {
                println!("  SUCCESS\nFound:");
                if found.has_global {
                    println!(" - global config");
                }
                println!(" - route");
                println!(" - {} inhibit rules", found.inhibit_rules);
                println!(" - {} receivers", found.receivers);
                println!(" - {} templates", found.templates);
                if found.templates > 0 {
                    println!("  SUCCESS");
                }
            }
            Err(error) => {
                println!("  FAILED: {error}");
                failed += 1;
            }
        }
        println!();
    }
    if failed > 0 {
        bail!("failed to validate {failed} file(s)");
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    what: Option<ConfigWhat>,
}

#[derive(Debug, Subcommand)]
enum ConfigWhat {
    /// Show the configuration in force.
    Show,
    /// Show the routes, or try them.
    Routes(RoutesArgs),
}

#[derive(Debug, Args)]
struct RoutesArgs {
    #[command(subcommand)]
    what: Option<RoutesWhat>,
    /// A file instead of the router's configuration.
    #[arg(long = "config.file", global = true)]
    config_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum RoutesWhat {
    /// Print the routing tree.
    Show,
    /// Print the receivers that an alert with these labels would go to.
    Test {
        /// Fail unless these are the receivers, separated by commas.
        #[arg(long = "verify.receivers")]
        verify: Option<String>,
        /// Print the routes that match too.
        #[arg(long)]
        tree: bool,
        labels: Vec<String>,
    },
}

pub fn config(args: ConfigArgs, setting: &Setting) -> anyhow::Result<ExitCode> {
    match args.what {
        None | Some(ConfigWhat::Show) => {
            show::config(&setting.server()?.get("/status", &[])?, setting.format()?);
            Ok(ExitCode::SUCCESS)
        }
        Some(ConfigWhat::Routes(routes)) => {
            let root = root(&routes.config_file, setting)?;
            match routes.what {
                None | Some(RoutesWhat::Show) => {
                    println!("Routing tree:\n.\n{}", tree(&root));
                    Ok(ExitCode::SUCCESS)
                }
                Some(RoutesWhat::Test { verify, tree, labels }) => test(&root, verify, tree, &labels),
            }
        }
    }
}

fn root(file: &Option<PathBuf>, setting: &Setting) -> anyhow::Result<Route> {
    if file.is_none() && !setting.has_url() {
        bail!("You have to specify one of --config.file or --alertmanager.url flags.");
    }
    let text = match file {
        Some(path) => {
            tool::check(path).map_err(|error| anyhow!(error))?;
            std::fs::read_to_string(path).with_context(|| path.display().to_string())?
        }
        None => {
            let status = setting.server()?.get("/status", &[])?;
            status["config"]["original"].as_str().unwrap_or("").to_owned()
        }
    };
    tool::routes(&text).map_err(|error| anyhow!(error))
}

/// A route below another, as a picture.
struct Branch {
    text: String,
    below: Vec<Branch>,
}

impl Branch {
    fn draw(&self, indent: &str, is_last: bool, out: &mut String) {
        let (edge, next) = if is_last { ("└── ", "    ") } else { ("├── ", "│   ") };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{indent}{edge}{}", self.text);
        for (i, branch) in self.below.iter().enumerate() {
            branch.draw(&format!("{indent}{next}"), i + 1 == self.below.len(), out);
        }
    }

    fn of(route: &Route) -> Branch {
        Branch { text: tool::describe(route, true, true), below: route.children.iter().map(Branch::of).collect() }
    }

    /// Only the routes that labels go through; the last ones name their receivers.
    fn matching(route: &Route, labels: &Labels) -> Branch {
        let mut below = Vec::new();
        for child in route.children.iter().filter(|child| model::matches_all(&child.matchers, labels)) {
            below.push(Branch::matching(child, labels));
            if !child.go_on {
                break;
            }
        }
        Branch { text: tool::describe(route, false, below.is_empty()), below }
    }
}

fn tree(root: &Route) -> String {
    let mut out = String::new();
    Branch::of(root).draw("", true, &mut out);
    out
}

fn test(root: &Route, verify: Option<String>, with_tree: bool, words: &[String]) -> anyhow::Result<ExitCode> {
    let labels = pairs(words, "Labels", false);
    let labels = labels.map_err(|error| anyhow!("Failed to parse labels: {error}\n"))?;
    let labels = Labels::from_pairs(labels);
    if with_tree {
        let mut out = String::new();
        Branch::matching(root, &labels).draw("", true, &mut out);
        println!("Matching routes:\n.\n{out}\n");
    }
    let receivers: Vec<&str> = root.find(&labels).into_iter().map(|route| route.options.receiver.as_str()).collect();
    let receivers = receivers.join(",");
    println!("{receivers}");
    if verify.is_some_and(|wanted| !wanted.is_empty() && wanted != receivers) {
        println!("WARNING: Expected receivers did not match resolved receivers.");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Subcommand)]
pub enum Template {
    /// Print a text with its templates filled in.
    Render {
        /// Template files; may be repeated.
        #[arg(long = "template.glob", required = true)]
        globs: Vec<String>,
        /// What to fill in.
        #[arg(long = "template.text")]
        text: String,
        #[arg(long = "template.type", value_enum, default_value = "text")]
        kind: TemplateKind,
        /// JSON of the data; an example when left out.
        #[arg(long = "template.data")]
        data: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TemplateKind {
    Text,
    Html,
}

pub fn template(what: Template) -> anyhow::Result<ExitCode> {
    let Template::Render { globs, text, kind, data } = what;
    let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| path.display().to_string());
    let data = data.as_ref().map(read).transpose()?;
    let is_html = kind == TemplateKind::Html;
    let rendered = tool::render(&globs, &text, is_html, data.as_deref(), model::now_ms());
    print!("{}", rendered.map_err(|error| anyhow!(error))?);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "route:\n  receiver: def\n  routes:\n  - {matchers: [team=a], receiver: a, continue: true, routes: [{matchers: [x=1], receiver: x}]}\n  - {matchers: ['team=~\"a|b\"'], receiver: b}\n";

    #[test]
    fn the_tree_is_drawn() {
        let expected = "└── default-route  receiver: def\n    ├── {team=\"a\"}  continue: true  receiver: a\n    │   └── {x=\"1\"}  receiver: x\n    └── {team=~\"a|b\"}  receiver: b\n";
        assert_eq!(tree(&tool::routes(ROUTES).expect("routes")), expected);
    }

    #[test]
    fn only_matching_routes_are_drawn() {
        let root = tool::routes(ROUTES).expect("routes");
        let mut out = String::new();
        Branch::matching(&root, &Labels::from_pairs([("team", "a")])).draw("", true, &mut out);
        let expected = "└── default-route\n    ├── {team=\"a\"}  receiver: a\n    └── {team=~\"a|b\"}  receiver: b\n";
        assert_eq!(out, expected);
    }
}
