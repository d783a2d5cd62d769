//! An export that streams: one JSON object per line, as many as there are, in the order of time.
//!
//! Each object holds `timestamp` (nanoseconds, as text), `line` and `labels`. Where a `limit` ends the answer, the last
//! object holds `cursor`: the same request with it goes on where this one stopped. Nothing is held in memory but what is
//! on its way; a client that reads slowly slows the reading, and one that goes away ends it.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::time::Instant;

use ::query::logql::{LogEngine, LogQuery, LogSelector, describe};
use ::service::http::{Params, StrongRead, Tenant};
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::json;
use tokio::sync::mpsc;

use super::params::{HOUR_NS, is_backward, log_selector, required, time_range};
use super::{Api, LokiError};

/// Bytes of lines that are sent together, and how many such pieces may wait.
const PIECE_BYTES: usize = 64 * 1024;
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
    fn run(&self, source: &dyn ::query::Lines, deadline: Instant, send: &mut dyn FnMut(String) -> bool) {
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
        let mut piece = String::new();
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
            let object =
                json!({"timestamp": line.t_ns.to_string(), "line": processed.line, "labels": processed.labels});
            piece.push_str(&object.to_string());
            piece.push('\n');
            if piece.len() >= PIECE_BYTES && !send(std::mem::take(&mut piece)) {
                is_gone = true;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        if is_gone {
            return;
        }
        match (outcome, at) {
            (Err(error), _) => piece.push_str(&format!("{}\n", json!({"error": describe(&error)}))),
            (Ok(()), Some(at)) if is_cut => piece.push_str(&format!("{}\n", json!({"cursor": at.to_string()}))),
            _ => {}
        }
        if !piece.is_empty() {
            send(piece);
        }
    }
}

pub async fn export(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Result<Response, LokiError> {
    let export = Export::read(tenant, &params)?;
    api.strong(strong).await?;
    let permit = api.query_slots.clone().try_acquire_owned();
    let permit = permit.map_err(|_| LokiError::unavailable("too many queries at once"))?;
    let (sender, mut receiver) = mpsc::channel::<String>(WAITING_PIECES);
    let deadline = Instant::now() + api.query_timeout(&export.tenant) * EXPORT_TIMEOUTS;
    let source = api.source(&export.tenant);
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        export.run(&source, deadline, &mut |piece| sender.blocking_send(piece).is_ok());
    });
    // May be polled after its end, which compression does.
    let pieces =
        stream::poll_fn(move |context| receiver.poll_recv(context).map(|piece| piece.map(Ok::<_, Infallible>)));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(pieces)).into_response())
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
            let mut answer = String::new();
            export.run(&store, Instant::now() + Duration::from_secs(60), &mut |piece| {
                answer.push_str(&piece);
                true
            });
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
