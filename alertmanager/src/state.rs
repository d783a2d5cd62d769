//! What the router remembers, as a view of the events on the bus.

use std::collections::{BTreeMap, HashMap};

use model::{Alert, Fingerprint};
use serde::{Deserialize, Serialize};

use crate::dedup::LogEntry;
use crate::silence::{Silence, Silences};

/// Expired silences and old log entries are kept this long (`--data.retention`).
pub const RETENTION_MS: i64 = 120 * 3_600_000;
/// A resolved alert is kept this long, so that late changes still find it.
const RESOLVED_RETENTION_MS: i64 = 30 * 60_000;

/// One event on the topic `alerts`. Each is the whole new state of what it names, so that a repeat changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// An alert as it was sent; it is merged with what is known.
    Alert {
        alert: Alert,
    },
    Silence {
        silence: Silence,
    },
    /// An integration took a notification.
    Notified {
        entry: LogEntry,
    },
}

#[derive(Debug, Clone, Default)]
pub struct State {
    pub alerts: BTreeMap<Fingerprint, Alert>,
    pub silences: Silences,
    log: HashMap<(String, String), LogEntry>,
}

/// The state as the snapshot file has it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Snapshot {
    pub bus_id: String,
    pub next_offset: u64,
    alerts: Vec<Alert>,
    silences: Vec<Silence>,
    log: Vec<LogEntry>,
}

impl State {
    /// Applies an event; names the alert that changed.
    pub fn apply(&mut self, event: Event) -> Option<Fingerprint> {
        match event {
            Event::Alert { alert } => {
                let fingerprint = alert.fingerprint();
                let merged = match self.alerts.get(&fingerprint) {
                    Some(known) if overlaps(known, &alert) => merge(known, &alert),
                    _ => alert,
                };
                self.alerts.insert(fingerprint, merged);
                Some(fingerprint)
            }
            Event::Silence { silence } => {
                self.silences.put(silence);
                None
            }
            Event::Notified { entry } => {
                self.log.insert((entry.group_key.clone(), entry.integration.clone()), entry);
                None
            }
        }
    }

    pub fn last_told(&self, group_key: &str, integration: &str) -> Option<&LogEntry> {
        self.log.get(&(group_key.to_owned(), integration.to_owned()))
    }

    pub fn firing(&self, now_ms: i64) -> impl Iterator<Item = &Alert> + Clone {
        self.alerts.values().filter(move |alert| !alert.is_resolved_at(now_ms))
    }

    /// Drops what is too old to matter.
    pub fn forget(&mut self, now_ms: i64) {
        self.alerts.retain(|_, alert| alert.ends_at_ms + RESOLVED_RETENTION_MS > now_ms);
        self.silences.forget(now_ms - RETENTION_MS);
        self.log.retain(|_, entry| entry.expires_at_ms > now_ms);
    }

    pub fn snapshot(&self, bus_id: String, next_offset: u64) -> Snapshot {
        Snapshot {
            bus_id,
            next_offset,
            alerts: self.alerts.values().cloned().collect(),
            silences: self.silences.iter().cloned().collect(),
            log: self.log.values().cloned().collect(),
        }
    }

    pub fn restore(snapshot: Snapshot) -> State {
        let mut state = State::default();
        state.alerts.extend(snapshot.alerts.into_iter().map(|alert| (alert.fingerprint(), alert)));
        snapshot.silences.into_iter().for_each(|silence| state.silences.put(silence));
        let entries =
            snapshot.log.into_iter().map(|entry| ((entry.group_key.clone(), entry.integration.clone()), entry));
        state.log.extend(entries);
        state
    }
}

/// Whether two reports of an alert are of one incident (Alertmanager `provider/mem`).
fn overlaps(known: &Alert, new: &Alert) -> bool {
    (new.ends_at_ms > known.starts_at_ms && new.ends_at_ms < known.ends_at_ms)
        || (new.starts_at_ms > known.starts_at_ms && new.starts_at_ms < known.ends_at_ms)
}

/// The newer report owns the annotations and the end; the earliest start counts; a sent end beats an assumed one.
fn merge(known: &Alert, new: &Alert) -> Alert {
    let (older, newer) = if new.updated_at_ms < known.updated_at_ms { (new, known) } else { (known, new) };
    let mut merged = newer.clone();
    merged.starts_at_ms = older.starts_at_ms.min(newer.starts_at_ms);
    let at_ms = newer.updated_at_ms;
    let end_wins = if newer.is_resolved_at(at_ms) { older.is_resolved_at(at_ms) } else { !older.timeout };
    if end_wins && older.ends_at_ms > newer.ends_at_ms {
        merged.ends_at_ms = older.ends_at_ms;
    }
    merged
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use super::*;

    fn alert(starts_at_ms: i64, ends_at_ms: i64, updated_at_ms: i64, timeout: bool) -> Alert {
        let (labels, annotations) = (Labels::from_pairs([("alertname", "A")]), Labels::default());
        Alert { labels, annotations, starts_at_ms, ends_at_ms, updated_at_ms, generator_url: String::new(), timeout }
    }

    fn check(first: Alert, second: Alert, expected: (i64, i64)) {
        let mut state = State::default();
        state.apply(Event::Alert { alert: first });
        let fingerprint = state.apply(Event::Alert { alert: second }).expect("an alert");
        let merged = &state.alerts[&fingerprint];
        assert_eq!((merged.starts_at_ms, merged.ends_at_ms), expected);
    }

    #[test]
    fn reports_of_one_incident_are_merged() {
        check(alert(100, 500, 100, false), alert(200, 600, 200, false), (100, 600));
        check(alert(100, 900, 100, false), alert(200, 600, 200, false), (100, 900));
        check(alert(100, 900, 100, true), alert(200, 600, 200, false), (100, 600));
        check(alert(100, 900, 100, false), alert(100, 300, 300, false), (100, 300));
        check(alert(100, 200, 100, false), alert(300, 600, 300, false), (300, 600));
    }

    #[test]
    fn a_snapshot_holds_everything() {
        let mut state = State::default();
        state.apply(Event::Alert { alert: alert(1, 2, 3, true) });
        let entry = LogEntry {
            group_key: "g".into(),
            integration: "r/webhook[0]".into(),
            firing: [Fingerprint(1)].into(),
            resolved: Default::default(),
            memory: [("ts".to_owned(), "1".to_owned())].into(),
            at_ms: 5,
            expires_at_ms: 100,
        };
        state.apply(Event::Notified { entry: entry.clone() });
        let text = serde_json::to_string(&state.snapshot("bus".into(), 7)).expect("serialises");
        let snapshot: Snapshot = serde_json::from_str(&text).expect("comes back");
        assert_eq!((snapshot.bus_id.as_str(), snapshot.next_offset), ("bus", 7));
        let mut again = State::restore(snapshot);
        assert_eq!(again.alerts, state.alerts);
        assert_eq!(again.last_told("g", "r/webhook[0]"), Some(&entry));
        again.forget(101);
        assert_eq!(again.last_told("g", "r/webhook[0]"), None);
    }
}
