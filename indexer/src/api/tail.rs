//! The live tail: a websocket of lines as they are applied, after those since `start`.
//!
//! Snapshot and subscription are taken in one step, so nothing is missed or sent twice in between. A client that reads too
//! slowly is told how many batches it lost (`dropped_entries`), and never slows ingestion.

use std::sync::Arc;
use std::time::Instant;

use ::query::SelectedLine;
use ::query::logql::{LogEngine, LogEntry, LogSelector};
use ::service::http::{Params, Tenant};
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use model::{Batch, matches_all};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::json::{Grouped, stream_list};
use super::params::{limit, log_selector, required, time_or};
use super::{Api, LokiError};
use crate::store::Applied;

const HOUR_NS: i64 = 3_600_000_000_000;

struct Tail {
    tenant: String,
    selector: LogSelector,
    start_ns: i64,
    limit: usize,
}

pub async fn tail(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    upgrade: WebSocketUpgrade,
    params: Params,
) -> Result<Response, LokiError> {
    let selector = log_selector(required(&params, "query")?)?;
    let start_ns = time_or(&params, "start", model::now_ns() - HOUR_NS)?;
    let tail = Tail { tenant, selector, start_ns, limit: limit(&params)? };
    Ok(upgrade.on_upgrade(move |socket| async move {
        // The client is gone, or will see why the socket closes.
        let _ = follow(&api, Arc::new(tail), socket).await;
    }))
}

async fn follow(api: &Api, tail: Arc<Tail>, mut socket: WebSocket) -> Result<(), axum::Error> {
    let (snapshot, mut receiver) = api.store.tail(&tail.tenant);
    let (applied, deadline) = (snapshot.applied, Instant::now() + api.options.query_timeout);
    let of_past = tail.clone();
    let past = tokio::task::spawn_blocking(move || {
        let Tail { tenant, selector, start_ns, limit } = of_past.as_ref();
        LogEngine::default().log(&snapshot, tenant, selector, *start_ns, i64::MAX, *limit, true, Some(deadline))
    });
    let mut past = match past.await {
        Ok(Ok(streams)) => streams,
        Ok(Err(error)) => return close(socket, &error.to_string()).await,
        Err(error) => return close(socket, &error.to_string()).await,
    };
    if !past.is_empty() {
        past.iter_mut().for_each(|stream| stream.entries.reverse());
        send(&mut socket, json!({"streams": stream_list(past)})).await?;
    }
    loop {
        let received = tokio::select! {
            message = socket.recv() => match message {
                None | Some(Err(_) | Ok(Message::Close(_))) => return Ok(()),
                Some(Ok(_)) => continue,
            },
            received = receiver.recv() => received,
        };
        match received {
            Ok(batch) if batch.number <= applied => {}
            Ok(batch) => {
                let lines = tail.lines(&batch);
                if !lines.streams.is_empty() {
                    send(&mut socket, json!({"streams": stream_list(lines.streams)})).await?;
                }
            }
            Err(RecvError::Lagged(batches)) => {
                let lost = json!({"labels": {}, "timestamp": model::now_ns().to_string(), "batches": batches});
                send(&mut socket, json!({"streams": [], "dropped_entries": [lost]})).await?;
            }
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

async fn send(socket: &mut WebSocket, message: serde_json::Value) -> Result<(), axum::Error> {
    socket.send(Message::Text(message.to_string().into())).await
}

async fn close(mut socket: WebSocket, reason: &str) -> Result<(), axum::Error> {
    // A control frame holds 125 bytes, two of them the code.
    let reason = reason[..reason.floor_char_boundary(120)].to_owned();
    let frame = axum::extract::ws::CloseFrame { code: axum::extract::ws::close_code::ERROR, reason: reason.into() };
    socket.send(Message::Close(Some(frame))).await
}

impl Tail {
    /// The lines of a batch that belong here, by time.
    fn lines(&self, applied: &Applied) -> Grouped {
        let mut grouped = Grouped::default();
        let Batch::Logs(batch) = applied.batch.as_ref() else { return grouped };
        if batch.tenant != self.tenant {
            return grouped;
        }
        let wanted: Vec<bool> =
            batch.streams.iter().map(|labels| matches_all(&self.selector.matchers, labels)).collect();
        let mut runner = self.selector.pipeline.runner();
        for line in applied.taken.iter().map(|i| batch.line(*i as usize)) {
            let (labels, metadata) = (&batch.streams[line.stream as usize], &batch.metadata[line.metadata as usize]);
            if !wanted[line.stream as usize] || line.t_ns < self.start_ns {
                continue;
            }
            let selected = SelectedLine { labels, metadata, t_ns: line.t_ns, text: line.text };
            if let Some(processed) = runner.run(&selected) {
                let entry = LogEntry { t_ns: line.t_ns, line: processed.line.into_owned(), metadata: metadata.clone() };
                grouped.push(processed.labels, entry);
            }
        }
        grouped
    }
}
