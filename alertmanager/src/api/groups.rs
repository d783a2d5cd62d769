//! `/api/v2/alerts/groups`: alerts as they are told, all or page by page.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::Response;
use model::{Fingerprint, Labels, now_ms};
use serde::{Deserialize, Serialize};
use serde_json::json;
use service::http::Params;

use super::rows::{Candidate, Filter, Row, in_background, stream};
use super::{App, Failure, number};
use crate::dispatch::GroupRef;
use crate::notify;
use crate::route::RouteOptions;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownGroup {
    alerts: Vec<Row>,
    labels: Labels,
    receiver: serde_json::Value,
    route_labels: Labels,
    /// How many there are, where not all are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    alert_count: Option<usize>,
    #[serde(skip)]
    id: GroupRef,
}

/// Where a page begins: after this group.
#[derive(Serialize, Deserialize)]
struct Cursor {
    labels: Labels,
    place: usize,
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..text.len()).step_by(2).map(digits).collect()
}

impl Cursor {
    fn parse(text: &str) -> Result<GroupRef, Failure> {
        let cursor = from_hex(text).and_then(|bytes| serde_json::from_slice::<Cursor>(&bytes).ok());
        cursor.map(|cursor| (cursor.labels, cursor.place)).ok_or_else(|| Failure::bad("bad cursor"))
    }

    fn of(id: &GroupRef) -> String {
        let cursor = Cursor { labels: id.0.clone(), place: id.1 };
        to_hex(&serde_json::to_vec(&cursor).unwrap_or_default())
    }
}

struct Page {
    after: Option<GroupRef>,
    groups: usize,
    alerts: usize,
}

pub async fn groups(State(app): State<App>, params: Params) -> Result<Response, Failure> {
    let filter = Filter::parse(&app, &params)?;
    let page = Page {
        after: params.get("cursor").map(Cursor::parse).transpose()?,
        groups: number(&params, "limit")?.unwrap_or(usize::MAX),
        alerts: number(&params, "alertLimit")?.unwrap_or(usize::MAX),
    };
    let (groups, next) = in_background(move || page.read(&app, &filter)).await?;
    let mut response = stream(groups);
    if let Some(next) = next.and_then(|next| HeaderValue::from_str(&next).ok()) {
        response.headers_mut().insert("x-next-cursor", next);
    }
    Ok(response)
}

impl Page {
    /// The groups of this page, and the cursor of the next.
    fn read(&self, app: &App, filter: &Filter) -> (Vec<ShownGroup>, Option<String>) {
        let now_ms = now_ms();
        let config = app.core.lock().config.clone();
        let mut after = self.after.clone();
        let mut shown: Vec<ShownGroup> = Vec::new();
        loop {
            let raw = take_groups(app, after.as_ref());
            let Some((last, _, _)) = raw.last() else { break };
            after = Some(last.clone());
            for (id, options, candidates) in raw {
                if !filter.takes_receiver(&config, &options.receiver) {
                    continue;
                }
                let muted_by: Vec<String> =
                    config.muting_intervals(&options, now_ms).into_iter().map(str::to_owned).collect();
                if !filter.muted && !muted_by.is_empty() {
                    continue;
                }
                let mut rows = self.rows(app, filter, candidates, now_ms);
                if rows.is_empty() {
                    continue;
                }
                if shown.len() == self.groups {
                    let next = shown.last().map(|group| Cursor::of(&group.id));
                    return (shown, next);
                }
                rows.iter_mut().for_each(|row| row.muted_by.clone_from(&muted_by));
                shown.push(self.show(id, &options, rows, &config, now_ms));
            }
        }
        if config.has_continue {
            name_all_receivers(&mut shown);
        }
        (shown, None)
    }

    fn rows(&self, app: &App, filter: &Filter, candidates: Vec<Candidate>, now_ms: i64) -> Vec<Row> {
        let wanted = candidates
            .into_iter()
            .filter(|(_, alert)| !alert.is_resolved_at(now_ms) && filter.takes_labels(&alert.labels));
        filter.rows(app, wanted.collect(), now_ms)
    }

    fn show(
        &self,
        id: GroupRef,
        options: &RouteOptions,
        mut rows: Vec<Row>,
        config: &crate::config::Config,
        now_ms: i64,
    ) -> ShownGroup {
        rows.sort_by(|a, b| notify::order(&a.alert, &b.alert));
        let alerts = || rows.iter().map(|row| model::Alert::clone(&row.alert)).collect();
        let route_labels = notify::route_labels_of(options, &id.0, alerts, &config.templates, now_ms);
        let alert_count = (rows.len() > self.alerts).then_some(rows.len());
        rows.truncate(self.alerts);
        rows.iter_mut().for_each(|row| row.receivers = vec![options.receiver.clone()]);
        let receiver = json!({"name": options.receiver});
        ShownGroup { alerts: rows, labels: id.0.clone(), receiver, route_labels, alert_count, id }
    }
}

type RawGroup = (GroupRef, Arc<RouteOptions>, Vec<Candidate>);

/// Some groups after one, as they are.
fn take_groups(app: &App, after: Option<&GroupRef>) -> Vec<RawGroup> {
    const ALERTS_AT_ONCE: usize = 10_000;
    let core = app.core.lock();
    let (mut taken, mut count) = (Vec::new(), 0);
    for (id, group) in core.dispatcher.groups_after(after) {
        let alert = |fingerprint: &Fingerprint| Some((*fingerprint, core.state.alerts.get(fingerprint)?.clone()));
        let alerts: Vec<Candidate> = group.alerts.iter().filter_map(alert).collect();
        count += alerts.len().max(1);
        taken.push((id.clone(), group.options.clone(), alerts));
        if count > ALERTS_AT_ONCE {
            break;
        }
    }
    taken
}

/// Alerts that are in several groups name the receivers of all of them.
fn name_all_receivers(groups: &mut [ShownGroup]) {
    let mut receivers: HashMap<Fingerprint, Vec<String>> = HashMap::new();
    for row in groups.iter().flat_map(|group| &group.alerts) {
        receivers.entry(row.fingerprint).or_default().extend(row.receivers.iter().cloned());
    }
    receivers.values_mut().for_each(|names| names.sort_unstable());
    for row in groups.iter_mut().flat_map(|group| &mut group.alerts) {
        if let Some(names) = receivers.get(&row.fingerprint) {
            row.receivers.clone_from(names);
        }
    }
}
