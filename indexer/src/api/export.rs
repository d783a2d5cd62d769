//! An export that streams: one JSON object per line, as many as there are, in the order of time; or Parquet ([`super::sheet`])
//! where `format=parquet` or `Accept: application/vnd.apache.parquet` asks for it.
//!
//! Each object holds `timestamp` (nanoseconds, as text), `line` and `labels`. Where a `limit` ends the answer, the last
//! object holds `cursor`: the same request with it goes on where this one stopped. Nothing is held in memory but what is
//! on its way; a client that reads slowly slows the reading, and one that goes away ends it.

use std::ops::ControlFlow;
use std::time::Instant;

use ::query::logql::{LogEngine, LogQuery, LogSelector, describe};
use ::service::http::{Params, StrongRead, Tenant};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use tokio::sync::mpsc;

use super::params::{HOUR_NS, is_backward, log_selector, required, time_range};
use super::sheet::{Ending, JsonLines, Parquet, Sheet};
use super::{Api, LokiError};

const PARQUET: &str = "application/vnd.apache.parquet";
/// Pieces of an answer that may wait for the client.
const WAITING_PIECES: usize = 4;
/// How much longer an export may take than a query.
const EXPORT_TIMEOUTS: u32 = 60;

/// Where an export goes on: behind this many lines of this time.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cursor {
    t_ns: i64,
    skip: usize,
}

impl Cursor {
    fn parse(text: &str) -> Option<Cursor> {
        let (t_ns, skip) = text.split_once('-')?;
        Some(Cursor { t_ns: t_ns.parse().ok()?, skip: skip.parse().ok()? })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.t_ns, self.skip)
    }
}

struct Export {
    tenant: String,
    selector: LogSelector,
    start_ns: i64,
    end_ns: i64,
    backward: bool,
    limit: Option<usize>,
    cursor: Option<Cursor>,
}

impl Export {
    fn read(tenant: String, params: &Params) -> Result<Export, LokiError> {
        let selector = log_selector(required(params, "query")?)?;
        let (start_ns, end_ns) = time_range(params, HOUR_NS)?;
        let bad = |name: &str, text: &str| LokiError::bad(format!("invalid {name} {text:?}"));
        let limit = params.get("limit").map(|text| text.parse().map_err(|_| bad("limit", text))).transpose()?;
        let cursor =
            params.get("cursor").map(|text| Cursor::parse(text).ok_or_else(|| bad("cursor", text))).transpose()?;
        // Whole histories are mostly wanted oldest first.
        let backward = params.get("direction").is_some() && is_backward(params)?;
        Ok(Export { tenant, selector, start_ns, end_ns, backward, limit, cursor })
    }

    /// Sends what there is, piece by piece.
    fn run(&self, source: &dyn ::query::Lines, deadline: Instant, mut sheet: Box<dyn Sheet + '_>) {
        let (mut start_ns, mut end_ns) = (self.start_ns, self.end_ns);
        if let Some(cursor) = self.cursor {
            match self.backward {
                true => end_ns = end_ns.min(cursor.t_ns.saturating_add(1)),
                false => start_ns = start_ns.max(cursor.t_ns),
            }
        }
        let query = LogQuery {
            start_ns,
            end_ns,
            backward: self.backward,
            deadline: Some(deadline),
            ..LogQuery::new(&self.tenant, &self.selector)
        };
        let mut skipped = 0;
        let (mut at, mut sent, mut is_cut, mut is_gone) = (self.cursor, 0, false, false);
        let outcome = LogEngine::default().visit(source, &query, &mut |line, processed| {
            if self.cursor.is_some_and(|cursor| cursor.t_ns == line.t_ns && skipped < cursor.skip) {
                skipped += 1;
                return ControlFlow::Continue(());
            }
            if self.limit.is_some_and(|limit| sent >= limit) {
                is_cut = true;
                return ControlFlow::Break(());
            }
            let skip = at.filter(|cursor| cursor.t_ns == line.t_ns).map_or(1, |cursor| cursor.skip + 1);
            at = Some(Cursor { t_ns: line.t_ns, skip });
            sent += 1;
            is_gone = !sheet.add(line.t_ns, &processed.line, &processed.labels);
            if is_gone { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if is_gone {
            return;
        }
        sheet.end(match (outcome, at) {
            (Err(error), _) => Ending::Failed(describe(&error)),
            (Ok(()), Some(at)) if is_cut => Ending::Cut(at.to_string()),
            _ => Ending::Complete,
        });
    }
}

pub async fn export(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, LokiError> {
    let export = Export::read(tenant, &params)?;
    let is_parquet = wants_parquet(&headers, &params)?;
    api.strong(strong).await?;
    let permit = api.query_slots.clone().try_acquire_owned();
    let permit = permit.map_err(|_| LokiError::unavailable("too many queries at once"))?;
    let (sender, mut receiver) = mpsc::channel::<std::io::Result<Vec<u8>>>(WAITING_PIECES);
    let deadline = Instant::now() + api.query_timeout(&export.tenant) * EXPORT_TIMEOUTS;
    let source = api.source(&export.tenant);
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let send = Box::new(move |piece| sender.blocking_send(piece).is_ok());
        let sheet: Box<dyn Sheet> = match is_parquet {
            false => Box::new(JsonLines::new(send)),
            true => match Parquet::new(send) {
                Ok(sheet) => Box::new(sheet),
                Err(error) => return tracing::error!(%error, "an export cannot begin"),
            },
        };
        export.run(&source, deadline, sheet);
    });
    // May be polled after its end, which compression does.
    let pieces = stream::poll_fn(move |context| receiver.poll_recv(context));
    let kind = if is_parquet { PARQUET } else { "application/x-ndjson" };
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(pieces)).into_response())
}

fn wants_parquet(headers: &HeaderMap, params: &Params) -> Result<bool, LokiError> {
    let accepted = || headers.get(header::ACCEPT).is_some_and(|kind| kind == PARQUET);
    match params.get("format") {
        None => Ok(accepted()),
        Some("parquet") => Ok(true),
        Some("ndjson" | "json") => Ok(false),
        Some(other) => Err(LokiError::bad(format!("invalid format {other:?}: ndjson or parquet"))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ::query::MemoryLines;
    use model::Labels;

    use super::*;

    /// All lines, asked for in pieces of `limit`.
    fn check(limit: usize, direction: &str, expected: &str) {
        let mut store = MemoryLines::default();
        let labels = Labels::from_pairs([("a", "b")]);
        for (t_ns, text) in [(1, "a"), (2, "b"), (2, "c"), (2, "d"), (3, "e")] {
            store.push(&labels, t_ns, text, &Labels::default());
        }
        let (mut cursor, mut lines) = (String::new(), String::new());
        for _ in 0..10 {
            let query = format!(
                "query=%7Ba%3D%22b%22%7D&start=0&end=0000000000100&limit={limit}&direction={direction}{cursor}"
            );
            let export = Export::read("t".into(), &Params::parse(&query)).expect("a request");
            let mut answer = Vec::new();
            let send = Box::new(|piece: std::io::Result<Vec<u8>>| {
                answer.extend(piece.expect("it does not fail"));
                true
            });
            export.run(&store, Instant::now() + Duration::from_secs(60), Box::new(JsonLines::new(send)));
            let answer = String::from_utf8(answer).expect("text");
            cursor.clear();
            for object in answer.lines() {
                let object: serde_json::Value = serde_json::from_str(object).expect("JSON");
                lines.push_str(object["line"].as_str().unwrap_or(""));
                if let Some(at) = object["cursor"].as_str() {
                    cursor = format!("&cursor={at}");
                }
            }
            if cursor.is_empty() {
                break;
            }
        }
        assert_eq!(lines, expected, "{limit} {direction}");
    }

    #[test]
    fn pieces_make_the_whole() {
        for limit in [1, 2, 3, 4, 5, 100] {
            check(limit, "forward", "abcde");
            check(limit, "backward", "edcba");
        }
    }
}
