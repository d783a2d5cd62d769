//! `logs` asks a server for lines, as logcli does.

use std::collections::HashSet;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use futures::StreamExt;
use model::{Labels, NS_PER_MS, format_rfc3339_ms, now_ns};
use query::logql::parse_duration_ns;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};

const DEFAULT_SERVER: &str = "http://127.0.0.1:9090";
const TIMEOUT: Duration = Duration::from_secs(120);
/// Lines that one request asks for.
const BATCH: usize = 1000;
/// Before a tail that broke off is begun again, and between two requests where there is none.
const FOLLOW_PAUSE: Duration = Duration::from_millis(500);
const NS_PER_S: i64 = 1_000_000_000;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Logs {
    #[command(subcommand)]
    list: Option<List>,
    #[command(flatten)]
    query: LogsQuery,
}

#[derive(Debug, Clone, Args)]
struct Server {
    /// The server; LOKI_ADDR, or this machine's, when left out.
    #[arg(long = "addr", visible_alias = "server")]
    addr: Option<String>,
    /// The tenant; LOKI_ORG_ID when left out.
    #[arg(long = "org-id")]
    org_id: Option<String>,
}

#[derive(Debug, Clone, Args)]
struct Span {
    /// How far to look back from the end.
    #[arg(long, default_value = "1h")]
    since: String,
    /// RFC 3339 or Unix time.
    #[arg(long, alias = "start")]
    from: Option<String>,
    #[arg(long, alias = "end")]
    to: Option<String>,
}

#[derive(Debug, Subcommand)]
enum List {
    /// Lines, or numbers over a range.
    Query(LogsQuery),
    /// Numbers at one instant.
    Instant {
        query: String,
        #[arg(long)]
        now: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// Names of labels, or the values of one.
    Labels {
        name: Option<String>,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        server: Server,
    },
    /// Streams.
    Series {
        matcher: Option<String>,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        server: Server,
    },
    /// How many streams, lines and bytes a selector has.
    Stats {
        query: String,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        server: Server,
    },
    /// Which streams have how many bytes.
    Volume {
        query: String,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        server: Server,
    },
    /// Patterns of lines, the most frequent first.
    Patterns {
        query: String,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Time, labels and line.
    Default,
    /// The line alone.
    Raw,
    /// An object per line.
    #[value(alias = "jsonl")]
    Json,
}

#[derive(Debug, Clone, Args)]
struct LogsQuery {
    /// `{app="x"} |= "error"`, or a metric query.
    query: Option<String>,
    #[command(flatten)]
    span: Span,
    /// Lines at most; 0 for all there are.
    #[arg(long, default_value_t = 30)]
    limit: usize,
    /// Oldest first.
    #[arg(long)]
    forward: bool,
    /// Go on with lines as they come.
    #[arg(long, short = 'f', alias = "tail")]
    follow: bool,
    #[arg(long, short = 'o', value_enum, default_value = "default")]
    output: Output,
    /// Leave labels out.
    #[arg(long = "no-labels")]
    no_labels: bool,
    /// Of a metric query.
    #[arg(long)]
    step: Option<String>,
    /// Say nothing but lines.
    #[arg(long, short = 'q')]
    quiet: bool,
    #[command(flatten)]
    server: Server,
}

pub fn logs(what: Logs) -> anyhow::Result<ExitCode> {
    match what.list {
        None => query(&what.query)?,
        Some(List::Query(query_)) => query(&query_)?,
        Some(List::Instant { query, now, server }) => {
            let mut params = vec![("query", query)];
            params.extend(now.map(|now| ("time", now)));
            let answer = get(&server, "query", &params)?;
            print(&format!("{:#}", answer["data"]["result"]))?;
        }
        Some(List::Labels { name, span, server }) => {
            let path = name.map_or("labels".to_owned(), |name| format!("label/{name}/values"));
            print_each(&get(&server, &path, &span.params()?)?["data"], |value| {
                value.as_str().unwrap_or("").to_owned()
            })?;
        }
        Some(List::Series { matcher, span, server }) => {
            let mut params = span.params()?;
            params.extend(matcher.map(|matcher| ("match[]", matcher)));
            print_each(&get(&server, "series", &params)?["data"], |labels| labels_of(labels).to_string())?;
        }
        Some(List::Stats { query, span, server }) => {
            let answer = get(&server, "index/stats", &span.with(query)?)?;
            for name in ["streams", "chunks", "entries", "bytes"] {
                print(&format!("{name}: {}", answer[name]))?;
            }
        }
        Some(List::Volume { query, span, server }) => {
            let answer = get(&server, "index/volume", &span.with(query)?)?;
            print_each(&answer["data"]["result"], |row| {
                format!("{} {}", row["value"][1].as_str().unwrap_or("0"), labels_of(&row["metric"]))
            })?;
        }
        Some(List::Patterns { query, span, server }) => {
            let answer = get(&server, "patterns", &span.with(query)?)?;
            print_each(&answer["data"], |row| {
                let samples = row["samples"].as_array().into_iter().flatten();
                let count: u64 = samples.filter_map(|sample| sample[1].as_u64()).sum();
                format!("{count} {}", row["pattern"].as_str().unwrap_or(""))
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Span {
    fn bounds(&self) -> anyhow::Result<(i64, i64)> {
        let time = |text: &String| {
            let seconds = text.parse::<f64>().ok().map(|seconds| (seconds * NS_PER_S as f64) as i64);
            let ns = model::parse_rfc3339_ns(text).or(seconds);
            ns.with_context(|| format!("{text:?} is no time: RFC 3339 or Unix seconds"))
        };
        let to = self.to.as_ref().map_or_else(|| Ok(now_ns()), time)?;
        let since = parse_duration_ns(&self.since).with_context(|| format!("--since {:?}", self.since))?;
        let from = self.from.as_ref().map_or(Ok(to - since), time)?;
        Ok((from, to))
    }

    fn params(&self) -> anyhow::Result<Vec<(&'static str, String)>> {
        let (from, to) = self.bounds()?;
        Ok(vec![("start", from.to_string()), ("end", to.to_string())])
    }

    fn with(&self, query: String) -> anyhow::Result<Vec<(&'static str, String)>> {
        let mut params = self.params()?;
        params.push(("query", query));
        Ok(params)
    }
}

/// A variable of the environment that says something.
fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Server {
    /// The address of a path under `/loki/api/v1`.
    fn url(&self, path: &str) -> String {
        let addr = self.addr.clone().or_else(|| env("LOKI_ADDR")).unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        let addr = if addr.contains("://") { addr } else { format!("http://{addr}") };
        format!("{}/loki/api/v1/{path}", addr.trim_end_matches('/'))
    }

    fn tenant(&self) -> Option<String> {
        self.org_id.clone().or_else(|| env("LOKI_ORG_ID"))
    }
}

/// GETs a path under `/loki/api/v1`.
fn get(server: &Server, path: &str, params: &[(&str, String)]) -> anyhow::Result<Value> {
    service::http::install_tls_provider();
    let url = server.url(path);
    let client = reqwest::blocking::Client::builder().timeout(TIMEOUT).build()?;
    let mut request = client.get(&url).query(params);
    if let Some(tenant) = server.tenant() {
        request = request.header("X-Scope-OrgID", tenant);
    }
    let response = request.send().with_context(|| format!("cannot ask {url}"))?;
    let status = response.status();
    let text = response.text()?;
    if !status.is_success() {
        bail!("{url} answered {status}: {}", text.trim());
    }
    serde_json::from_str(&text).with_context(|| format!("{url} answered no JSON"))
}

/// A line that was asked for.
struct Line {
    t_ns: i64,
    text: String,
    labels: Labels,
}

fn labels_of(labels: &Value) -> Labels {
    let pairs = labels.as_object().into_iter().flatten();
    Labels::from_pairs(pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or(""))))
}

/// The lines of streams in a direction.
fn lines_of(streams: &Value, forward: bool) -> Vec<Line> {
    let mut lines = Vec::new();
    for stream in streams.as_array().into_iter().flatten() {
        let labels = labels_of(&stream["stream"]);
        for value in stream["values"].as_array().into_iter().flatten() {
            let t_ns = value[0].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
            lines.push(Line { t_ns, text: value[1].as_str().unwrap_or("").to_owned(), labels: labels.clone() });
        }
    }
    lines.sort_by_key(|line| if forward { line.t_ns } else { -line.t_ns });
    lines
}

fn query(what: &LogsQuery) -> anyhow::Result<()> {
    let query = what.query.clone().context("a query is missing, such as '{app=\"x\"} |= \"error\"'")?;
    let (from, to) = what.span.bounds()?;
    if matches!(query::logql::parse(&query), Ok(query::logql::LogExpr::Metric(_))) {
        let mut params = vec![("query", query), ("start", from.to_string()), ("end", to.to_string())];
        params.extend(what.step.clone().map(|step| ("step", step)));
        let answer = get(&what.server, "query_range", &params)?;
        return print(&format!("{:#}", answer["data"]["result"]));
    }
    let mut pages = Pages { what, query, from, to, seen: HashSet::new(), edge_ns: None };
    let forward = what.forward || what.follow;
    let mut left = match what.limit {
        0 => usize::MAX,
        limit => limit,
    };
    if what.follow {
        // The newest of what is there, then what comes.
        let mut newest = pages.next(left.min(BATCH), false)?;
        newest.reverse();
        pages.from = newest.last().map_or(to, |line| line.t_ns);
        pages.show(&newest)?;
        return pages.follow();
    }
    let mut progress = Progress::of(what);
    while left > 0 {
        let page = pages.next(left.min(BATCH), forward)?;
        if page.is_empty() {
            break;
        }
        left -= page.len().min(left);
        pages.show(&page)?;
        progress.add(&page);
        match (forward, page.last()) {
            (true, Some(last)) => pages.from = last.t_ns,
            (false, Some(last)) => pages.to = last.t_ns + 1,
            (_, None) => {}
        }
    }
    progress.end();
    Ok(())
}

/// A server that will not answer differently however often it is asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// How far a long answer is, told to a person whose lines go elsewhere.
struct Progress {
    is_shown: bool,
    lines: usize,
}

impl Progress {
    fn of(what: &LogsQuery) -> Progress {
        let is_watched = std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
        Progress { is_shown: is_watched && !what.quiet, lines: 0 }
    }

    fn add(&mut self, page: &[Line]) {
        self.lines += page.len();
        if let (true, Some(last)) = (self.is_shown, page.last()) {
            let time = format_rfc3339_ms(last.t_ns.div_euclid(NS_PER_MS));
            eprint!("\r{} lines, at {time} ", self.lines);
        }
    }

    fn end(&self) {
        if self.is_shown {
            eprintln!();
        }
    }
}

/// Requests one after the other; lines of the time at which two meet come once.
struct Pages<'a> {
    what: &'a LogsQuery,
    query: String,
    from: i64,
    to: i64,
    seen: HashSet<(i64, String, Labels)>,
    edge_ns: Option<i64>,
}

impl Pages<'_> {
    fn next(&mut self, limit: usize, forward: bool) -> anyhow::Result<Vec<Line>> {
        let direction = if forward { "forward" } else { "backward" };
        let params = [
            ("query", self.query.clone()),
            ("start", self.from.to_string()),
            ("end", self.to.to_string()),
            // Those at the edge come again.
            ("limit", (limit + self.seen.len()).to_string()),
            ("direction", direction.to_owned()),
        ];
        let mut lines = lines_of(&get(&self.what.server, "query_range", &params)?["data"]["result"], forward);
        self.unseen(&mut lines, limit);
        Ok(lines)
    }

    /// Drops lines that were there before, and remembers those that may come again.
    fn unseen(&mut self, lines: &mut Vec<Line>, limit: usize) {
        lines.retain(|line| !self.seen.contains(&(line.t_ns, line.text.clone(), line.labels.clone())));
        lines.truncate(limit);
        if let Some(last) = lines.last() {
            if self.edge_ns != Some(last.t_ns) {
                self.seen.clear();
                self.edge_ns = Some(last.t_ns);
            }
            let at_edge = lines.iter().filter(|line| line.t_ns == last.t_ns);
            self.seen.extend(at_edge.map(|line| (line.t_ns, line.text.clone(), line.labels.clone())));
        }
    }

    /// Lines as they come: by websocket, or where that would need TLS by asking again and again.
    fn follow(&mut self) -> anyhow::Result<()> {
        let Some(address) = self.what.server.url("tail").strip_prefix("http://").map(str::to_owned) else {
            return self.poll();
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        loop {
            match runtime.block_on(self.tail(&address)) {
                // What was not sent, because this was too slow, is asked for from the last line on.
                Ok(()) => {}
                Err(error) if error.is::<Refused>() => return Err(error),
                Err(error) => {
                    self.say(&format!("{error:#}; trying again"));
                    std::thread::sleep(FOLLOW_PAUSE);
                }
            }
        }
    }

    /// Shows what a tail sends, until it breaks off or something was left out.
    async fn tail(&mut self, address: &str) -> anyhow::Result<()> {
        let (start, limit) = (self.from.to_string(), BATCH.to_string());
        let params = [("query", self.query.as_str()), ("start", &start), ("limit", &limit)];
        let url = reqwest::Url::parse_with_params(&format!("ws://{address}"), params)?;
        let mut request = url.as_str().into_client_request()?;
        if let Some(tenant) = self.what.server.tenant() {
            request.headers_mut().insert("X-Scope-OrgID", tenant.parse()?);
        }
        let mut socket = match connect_async(request).await {
            Err(WebSocketError::Http(answer)) => {
                let reason = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                bail!(Refused(format!("{url} answered {}: {}", answer.status(), reason.trim())));
            }
            connected => connected.context("the tail cannot be followed")?.0,
        };
        while let Some(message) = socket.next().await {
            let Message::Text(text) = message.context("the tail broke off")? else { continue };
            let message: Value = serde_json::from_str(&text).context("the tail sent no JSON")?;
            let mut lines = lines_of(&message["streams"], true);
            self.unseen(&mut lines, usize::MAX);
            self.from = lines.last().map_or(self.from, |last| self.from.max(last.t_ns));
            self.show(&lines)?;
            if message["dropped_entries"].as_array().is_some_and(|dropped| !dropped.is_empty()) {
                return Ok(());
            }
        }
        bail!("the tail ended")
    }

    /// Tells a person something beside the lines.
    fn say(&self, text: &str) {
        if !self.what.quiet {
            eprintln!("{text}");
        }
    }

    fn poll(&mut self) -> anyhow::Result<()> {
        loop {
            self.to = now_ns() + NS_PER_S;
            let lines = self.next(BATCH, true)?;
            if let Some(last) = lines.last() {
                self.from = last.t_ns;
                self.show(&lines)?;
            } else {
                std::thread::sleep(FOLLOW_PAUSE);
            }
        }
    }

    fn show(&self, lines: &[Line]) -> anyhow::Result<()> {
        let is_terminal = std::io::stdout().is_terminal();
        lines.iter().try_for_each(|line| print(&shown(line, self.what.output, self.what.no_labels, is_terminal)))
    }
}

fn shown(line: &Line, output: Output, no_labels: bool, in_colour: bool) -> String {
    let time = format_rfc3339_ms(line.t_ns.div_euclid(NS_PER_MS));
    match output {
        Output::Raw => line.text.clone(),
        Output::Json => json!({"labels": line.labels, "line": line.text, "timestamp": time}).to_string(),
        Output::Default if no_labels => format!("{time} {}", line.text),
        Output::Default if in_colour => format!("\x1b[34m{time}\x1b[0m \x1b[32m{}\x1b[0m {}", line.labels, line.text),
        Output::Default => format!("{time} {} {}", line.labels, line.text),
    }
}

fn print_each(rows: &Value, shown: impl Fn(&Value) -> String) -> anyhow::Result<()> {
    rows.as_array().into_iter().flatten().try_for_each(|row| print(&shown(row)))
}

/// A reader that has seen enough (`| head`) ends the program quietly.
fn print(line: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        outcome => Ok(outcome?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_as_asked_for() {
        let line = Line { t_ns: 1_500_000_000, text: "a \"b\"".into(), labels: Labels::from_pairs([("x", "y")]) };
        let check = |output, no_labels, in_colour, expected: &str| {
            assert_eq!(shown(&line, output, no_labels, in_colour), expected);
        };
        check(Output::Raw, false, true, "a \"b\"");
        check(Output::Default, false, false, "1970-01-01T00:00:01.500Z {x=\"y\"} a \"b\"");
        check(Output::Default, true, true, "1970-01-01T00:00:01.500Z a \"b\"");
        check(Output::Default, false, true, "\x1b[34m1970-01-01T00:00:01.500Z\x1b[0m \x1b[32m{x=\"y\"}\x1b[0m a \"b\"");
        check(
            Output::Json,
            false,
            true,
            r#"{"labels":{"x":"y"},"line":"a \"b\"","timestamp":"1970-01-01T00:00:01.500Z"}"#,
        );
    }

    #[test]
    fn spans() {
        let span = |since: &str, from: Option<&str>, to: Option<&str>| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            Span { since: since.to_owned(), from: text(from), to: text(to) }.bounds().ok()
        };
        assert_eq!(span("1m", None, Some("100")), Some((40_000_000_000, 100_000_000_000)));
        assert_eq!(span("1m", Some("1970-01-01T00:00:01Z"), Some("2")), Some((1_000_000_000, 2_000_000_000)));
        assert_eq!(span("soon", None, None), None);
        assert_eq!(span("1h", Some("x"), None), None);
    }
}
