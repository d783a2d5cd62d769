//! The live tail: a websocket of lines as they are applied, after those since `start`.
//!
//! Snapshot and subscription are taken in one step, so nothing is missed or sent twice in between. A client that reads too
//! slowly is told how many batches it lost (`dropped_entries`), and never slows ingestion. With `delay_for` lines wait as
//! long before they are sent, those of one batch together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::query::SelectedLine;
use ::query::logql::{Grouped, LogEngine, LogQuery, LogSelector};
use ::service::http::{Params, Tenant};
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use model::{Batch, matches_all};
use serde_json::{Value as Json, json};
use tokio::sync::broadcast::error::RecvError;

use super::answer::stream_list;
use super::params::{HOUR_NS, limit, log_selector, required, time_or};
use super::query::Categorize;
use super::{Api, LokiError};
use crate::store::Applied;

const MAX_DELAY_S: u64 = 5;
/// Messages that may wait for their time; more are counted as lost.
const MAX_WAITING: usize = 1000;

struct Tail {
    tenant: String,
    selector: LogSelector,
    start_ns: i64,
    limit: usize,
    delay: Duration,
    categorize: bool,
}

pub async fn tail(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Categorize(categorize): Categorize,
    upgrade: WebSocketUpgrade,
    params: Params,
) -> Result<Response, LokiError> {
    let selector = log_selector(required(&params, "query")?)?;
    let start_ns = time_or(&params, "start", model::now_ns() - HOUR_NS)?;
    let delay = params.get("delay_for").unwrap_or("0");
    let delay = delay.parse().map_err(|_| LokiError::bad(format!("invalid delay_for {delay:?}")))?;
    if delay > MAX_DELAY_S {
        return Err(LokiError::bad(format!("delay_for can't be greater than {MAX_DELAY_S}")));
    }
    let delay = Duration::from_secs(delay);
    let limit = limit(&params, api.admission.rules(&tenant).limits.max_entries_per_query)?;
    let tail = Tail { tenant, selector, start_ns, limit, delay, categorize };
    Ok(upgrade.on_upgrade(move |socket| async move {
        // The client is gone, or will see why the socket closes.
        let _ = follow(&api, Arc::new(tail), socket).await;
    }))
}

async fn follow(api: &Api, tail: Arc<Tail>, mut socket: WebSocket) -> Result<(), axum::Error> {
    let (snapshot, mut receiver) = api.store.tail(&tail.tenant);
    let (applied, deadline) = (snapshot.applied, Instant::now() + api.query_timeout(&tail.tenant));
    let of_past = tail.clone();
    let past = tokio::task::spawn_blocking(move || {
        let Tail { tenant, selector, start_ns, limit, categorize, .. } = of_past.as_ref();
        let query = LogQuery {
            start_ns: *start_ns,
            limit: *limit,
            backward: true,
            categorize: *categorize,
            deadline: Some(deadline),
            ..LogQuery::new(tenant, selector)
        };
        LogEngine::default().log(&snapshot, &query)
    });
    let mut past = match past.await {
        Ok(Ok(streams)) => streams,
        Ok(Err(error)) => return close(socket, &error.to_string()).await,
        Err(error) => return close(socket, &error.to_string()).await,
    };
    if !past.is_empty() {
        past.iter_mut().for_each(|stream| stream.entries.reverse());
        send(&mut socket, &tail.message(past)).await?;
    }
    let mut waiting: VecDeque<(tokio::time::Instant, Json)> = VecDeque::new();
    loop {
        let next_due = waiting.front().map(|(due, _)| *due);
        let received = tokio::select! {
            message = socket.recv() => match message {
                None | Some(Err(_) | Ok(Message::Close(_))) => return Ok(()),
                Some(Ok(_)) => continue,
            },
            () = due(next_due) => {
                if let Some((_, message)) = waiting.pop_front() {
                    send(&mut socket, &message).await?;
                }
                continue;
            }
            received = receiver.recv() => received,
        };
        let lost = match received {
            Ok(batch) if batch.number <= applied => continue,
            Ok(batch) => {
                let lines = tail.lines(&batch);
                if lines.streams.is_empty() {
                    continue;
                }
                if waiting.len() < MAX_WAITING {
                    waiting.push_back((tokio::time::Instant::now() + tail.delay, tail.message(lines.streams)));
                    continue;
                }
                1
            }
            Err(RecvError::Lagged(batches)) => batches,
            Err(RecvError::Closed) => return Ok(()),
        };
        let lost = json!({"labels": {}, "timestamp": model::now_ns().to_string(), "batches": lost});
        send(&mut socket, &json!({"streams": [], "dropped_entries": [lost]})).await?;
    }
}

/// Returns at a time; never, where there is none.
async fn due(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn send(socket: &mut WebSocket, message: &Json) -> Result<(), axum::Error> {
    socket.send(Message::Text(message.to_string().into())).await
}

async fn close(mut socket: WebSocket, reason: &str) -> Result<(), axum::Error> {
    // A control frame holds 125 bytes, two of them the code.
    let reason = reason[..reason.floor_char_boundary(120)].to_owned();
    let frame = axum::extract::ws::CloseFrame { code: axum::extract::ws::close_code::ERROR, reason: reason.into() };
    socket.send(Message::Close(Some(frame))).await
}

impl Tail {
    fn message(&self, streams: Vec<::query::logql::LogStream>) -> Json {
        let mut message = json!({"streams": stream_list(streams, self.categorize)});
        if self.categorize {
            message["encodingFlags"] = json!(["categorize-labels"]);
        }
        message
    }

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
                grouped.push(&selected, processed, self.categorize);
            }
        }
        grouped
    }
}
