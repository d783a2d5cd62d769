//! Alerts as the API shows them: chosen in pieces, so that nobody waits long for the lock, and sent piece by piece.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use model::{Alert, Fingerprint, Labels, Matcher, format_rfc3339_ms, matches_all};
use regex::Regex;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use service::http::Params;

use super::{App, Failure, matchers_of, wants};
use crate::config::Config;
use crate::state::Ack;

/// Alerts judged before others may have the lock.
const CHUNK: usize = 1_000;
/// Bytes of an answer sent at once, at least.
const PIECE_BYTES: usize = 64 << 10;

pub type Candidate = (Fingerprint, Arc<Alert>);

/// An alert with its status.
#[derive(Debug, Clone)]
pub struct Row {
    pub fingerprint: Fingerprint,
    pub alert: Arc<Alert>,
    pub receivers: Vec<String>,
    pub silenced_by: Vec<String>,
    pub inhibited_by: Vec<Fingerprint>,
    pub muted_by: Vec<String>,
    pub ack: Option<Ack>,
}

/// What a request wants to see.
pub struct Filter {
    matchers: Vec<Matcher>,
    receiver: Option<Regex>,
    receiver_matchers: Vec<Matcher>,
    active: bool,
    silenced: bool,
    inhibited: bool,
    pub muted: bool,
}

impl Filter {
    pub fn parse(app: &App, params: &Params) -> Result<Filter, Failure> {
        let compile = |pattern: &str| Regex::new(&format!("^(?:{pattern})$"));
        let receiver = params.get("receiver").map(compile).transpose();
        let receiver = receiver.map_err(|error| Failure::bad(format!("failed to parse receiver param: {error}")))?;
        let receiver_matchers = matchers_of(app, params, "receiver_matchers")
            .map_err(|error| Failure::bad(format!("failed to parse receiver_matchers param: {error}")))?;
        Ok(Filter {
            matchers: matchers_of(app, params, "filter").map_err(Failure::bad)?,
            receiver,
            receiver_matchers,
            active: wants(params, "active"),
            silenced: wants(params, "silenced"),
            inhibited: wants(params, "inhibited"),
            muted: wants(params, "muted"),
        })
    }

    pub fn takes_labels(&self, labels: &Labels) -> bool {
        matches_all(&self.matchers, labels)
    }

    pub fn takes_receiver(&self, config: &Config, name: &str) -> bool {
        self.receiver.as_ref().is_none_or(|regex| regex.is_match(name))
            && (self.receiver_matchers.is_empty()
                || config.receiver_labels.get(name).is_some_and(|labels| matches_all(&self.receiver_matchers, labels)))
    }

    fn takes(&self, row: &Row) -> bool {
        let is_active = row.silenced_by.is_empty() && row.inhibited_by.is_empty();
        (self.active || !is_active)
            && (self.silenced || row.silenced_by.is_empty())
            && (self.inhibited || row.inhibited_by.is_empty())
    }

    /// The alerts that are wanted, with their status now.
    pub fn rows(&self, app: &App, candidates: Vec<Candidate>, now_ms: i64) -> Vec<Row> {
        let mut rows = Vec::with_capacity(candidates.len());
        for chunk in candidates.chunks(CHUNK) {
            let core = app.core.lock();
            let judged = chunk.iter().map(|(fingerprint, alert)| Row {
                fingerprint: *fingerprint,
                receivers: Vec::new(),
                silenced_by: core.silenced_by(&alert.labels, now_ms),
                inhibited_by: core.inhibited_by(&alert.labels, now_ms),
                muted_by: Vec::new(),
                ack: core.state.acks.get(fingerprint).filter(|ack| ack.holds_at(now_ms)).cloned(),
                alert: alert.clone(),
            });
            rows.extend(judged.filter(|row| self.takes(row)));
        }
        rows
    }
}

struct Named<'a>(&'a str);

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("name", self.0)?;
        map.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    inhibited_by: Vec<String>,
    muted_by: &'a [String],
    silenced_by: &'a [String],
    state: &'static str,
}

/// An acknowledgement as an alert carries it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShownAck<'a> {
    owner: &'a str,
    note: &'a str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<String>,
}

impl<'a> From<&'a Ack> for ShownAck<'a> {
    fn from(ack: &'a Ack) -> ShownAck<'a> {
        let (created_at, ends_at) = (format_rfc3339_ms(ack.created_at_ms), ack.ends_at_ms.map(format_rfc3339_ms));
        ShownAck { owner: &ack.owner, note: &ack.note, created_at, ends_at }
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let alert = &self.alert;
        let is_active = self.silenced_by.is_empty() && self.inhibited_by.is_empty() && self.muted_by.is_empty();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("annotations", &alert.annotations)?;
        map.serialize_entry("endsAt", &format_rfc3339_ms(alert.ends_at_ms))?;
        map.serialize_entry("fingerprint", &self.fingerprint.to_string())?;
        map.serialize_entry("receivers", &self.receivers.iter().map(|name| Named(name)).collect::<Vec<_>>())?;
        map.serialize_entry("startsAt", &format_rfc3339_ms(alert.starts_at_ms))?;
        let status = Status {
            inhibited_by: self.inhibited_by.iter().map(Fingerprint::to_string).collect(),
            muted_by: &self.muted_by,
            silenced_by: &self.silenced_by,
            state: if is_active { "active" } else { "suppressed" },
        };
        map.serialize_entry("status", &status)?;
        map.serialize_entry("updatedAt", &format_rfc3339_ms(alert.updated_at_ms))?;
        map.serialize_entry("generatorURL", &alert.generator_url)?;
        map.serialize_entry("labels", &alert.labels)?;
        if let Some(ack) = &self.ack {
            map.serialize_entry("acknowledgement", &ShownAck::from(ack))?;
        }
        map.end()
    }
}

/// Runs what may take a while beside the async threads.
pub async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(Failure::internal)
}

/// A JSON array of whatever comes, sent piece by piece.
pub fn stream<T: Serialize + Send + 'static>(items: Vec<T>) -> Response {
    let mut items = items.into_iter();
    let (mut is_first, mut is_done) = (true, false);
    let pieces = std::iter::from_fn(move || {
        if is_done {
            return None;
        }
        let mut piece = Vec::with_capacity(PIECE_BYTES * 2);
        while piece.len() < PIECE_BYTES {
            let Some(item) = items.next() else {
                piece.extend_from_slice(if is_first { b"[]\n" } else { b"]\n" });
                is_done = true;
                break;
            };
            piece.push(if is_first { b'[' } else { b',' });
            is_first = false;
            if let Err(error) = serde_json::to_writer(&mut piece, &item) {
                is_done = true;
                return Some(Err(std::io::Error::other(error)));
            }
        }
        Some(Ok(Bytes::from(piece)))
    });
    let body = Body::from_stream(futures::stream::iter(pieces));
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(items: Vec<String>) {
        let response = stream(items.clone());
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        assert_eq!(serde_json::from_slice::<Vec<String>>(&bytes).expect("JSON"), items);
    }

    #[tokio::test]
    async fn an_array_of_any_length() {
        check(vec![]).await;
        check(vec!["a".to_owned()]).await;
        check((0..50_000).map(|i| i.to_string()).collect()).await;
    }
}
