//! What the router remembers, as a view of the events on the bus.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use model::{Alert, Fingerprint, Labels};
use serde::{Deserialize, Serialize};

use crate::dedup::{Attempt, Line, LogEntry, Told};
use crate::history::Record;
use crate::members::Members;
use crate::notify::Memory;
use crate::posted::Plain;
use crate::silence::{Silence, SilenceState, Silences};

/// A resolved alert is kept this long, so that late changes still find it.
const RESOLVED_RETENTION_MS: i64 = 30 * 60_000;
/// What was told is forgotten so much later than it says: other routers' clocks may be behind.
const CLOCK_SKEW_MS: i64 = 10 * 60_000;
/// Parts of attempts whose end never came; more are not kept.
const MAX_PARTS: usize = 10_000;
/// Alerts of one part of an attempt.
pub const PART: usize = 10_000;

/// One event on the topic `alerts`. Each says the whole of what it names, so that a repeat changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// An alert as it was sent; it is merged with what is known.
    Alert(Arc<Alert>),
    Silence(Silence),
    Ack(Ack),
    Unack {
        fingerprint: Fingerprint,
        at_ms: i64,
    },
    /// Alerts of the attempt with this key that did not fit into its own event.
    Part {
        key: String,
        firing: BTreeSet<Fingerprint>,
        resolved: BTreeSet<Fingerprint>,
    },
    /// About to tell.
    Attempt(Attempt),
    /// The receiver took the line's last attempt.
    Notified {
        line: Line,
        /// Of the attempt; without one, the last.
        #[serde(default)]
        key: String,
        memory: Memory,
        at_ms: i64,
        expires_at_ms: i64,
    },
    /// The line's last attempt was given up.
    Failed {
        line: Line,
        error: String,
        at_ms: i64,
        /// Whether the receiver cannot have taken it.
        is_certain: bool,
        /// Of the attempt, and whose it was.
        #[serde(default)]
        key: String,
        #[serde(default)]
        router: String,
    },
    /// A router that shares this topic is there.
    Alive {
        router: String,
        beat: u64,
    },
    /// It has stopped, or was not heard of since that beat.
    Gone {
        router: String,
        beat: u64,
    },
    /// What somebody else put on the topic; the service reads alerts out of it.
    Plain(Plain),
}

/// Somebody has an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    pub fingerprint: Fingerprint,
    pub labels: Labels,
    pub owner: String,
    pub note: String,
    pub created_at_ms: i64,
    pub ends_at_ms: Option<i64>,
}

impl Ack {
    pub fn holds_at(&self, now_ms: i64) -> bool {
        self.ends_at_ms.is_none_or(|ends_at_ms| now_ms < ends_at_ms)
    }
}

#[derive(Debug, Default)]
pub struct State {
    pub alerts: HashMap<Fingerprint, Arc<Alert>>,
    pub silences: Silences,
    pub acks: HashMap<Fingerprint, Ack>,
    pub log: HashMap<Line, Told>,
    /// Alerts that history knows as firing.
    pub open: HashSet<Fingerprint>,
    pub members: Members,
    parts: HashMap<String, (BTreeSet<Fingerprint>, BTreeSet<Fingerprint>)>,
}

/// What an event did.
#[derive(Debug, Default)]
pub struct Applied {
    /// The alert that changed, and whether it was not known before.
    pub alert: Option<(Fingerprint, bool)>,
    pub records: Vec<Record>,
}

impl State {
    pub fn apply(&mut self, event: Event) -> Applied {
        let mut records = Vec::new();
        let mut changed = None;
        match event {
            Event::Alert(alert) => changed = Some(self.apply_alert(alert, &mut records)),
            Event::Silence(silence) => records.push(self.apply_silence(silence)),
            Event::Ack(ack) => {
                records.push(Record::Acknowledged(ack.clone()));
                self.acks.insert(ack.fingerprint, ack);
            }
            Event::Unack { fingerprint, at_ms } => {
                if let Some(ack) = self.acks.remove(&fingerprint) {
                    records.push(Record::Unacknowledged { ack, at_ms });
                }
            }
            Event::Part { key, firing, resolved } => {
                if self.parts.len() < MAX_PARTS {
                    let parts = self.parts.entry(key).or_default();
                    parts.0.extend(firing);
                    parts.1.extend(resolved);
                }
            }
            Event::Attempt(mut attempt) => {
                if let Some((firing, resolved)) = self.parts.remove(&attempt.key) {
                    attempt.firing.extend(firing);
                    attempt.resolved.extend(resolved);
                }
                self.apply_attempt(attempt);
            }
            Event::Notified { line, key, memory, at_ms, expires_at_ms } => {
                let Some(told) = self.log.get_mut(&line) else { return Applied::default() };
                let is_meant = |attempt: &mut Attempt| key.is_empty() || attempt.key == key;
                if let Some(attempt) = told.pending.take_if(is_meant) {
                    let (firing, resolved) = (attempt.firing.clone(), attempt.resolved.clone());
                    let key = attempt.key.clone();
                    told.last = Some(LogEntry { key, firing, resolved, memory, at_ms, expires_at_ms });
                    records.extend((!attempt.is_quiet).then_some(Record::Notified { attempt, at_ms }));
                }
            }
            Event::Failed { line, error, at_ms, is_certain, key, router } => {
                let Some(told) = self.log.get_mut(&line) else { return Applied::default() };
                let is_meant =
                    |attempt: &&mut Attempt| (key.is_empty() || attempt.key == key) && attempt.router == router;
                if let Some(attempt) = told.pending.as_mut().filter(is_meant) {
                    records.push(Record::NotificationFailed { attempt: attempt.clone(), error, at_ms });
                    attempt.router.clear();
                    if is_certain {
                        told.pending = None;
                    }
                }
                if *told == Told::default() {
                    self.log.remove(&line);
                }
            }
            Event::Alive { router, beat } => self.members.alive(router, beat),
            Event::Gone { router, beat } => self.members.gone(&router, beat),
            Event::Plain(_) => {}
        }
        Applied { alert: changed, records }
    }

    fn apply_alert(&mut self, alert: Arc<Alert>, records: &mut Vec<Record>) -> (Fingerprint, bool) {
        let (fingerprint, at_ms) = (alert.fingerprint(), alert.updated_at_ms);
        let known = self.alerts.get(&fingerprint);
        let is_new = known.is_none();
        if known.is_some_and(|known| known.is_resolved_at(at_ms)) {
            // What fires again is another incident.
            self.acks.remove(&fingerprint);
        }
        let merged = match known {
            Some(known) if overlaps(known, &alert) => Arc::new(merge(known, &alert)),
            _ => alert,
        };
        if merged.is_resolved_at(at_ms) {
            if self.open.remove(&fingerprint) {
                records.push(Record::AlertResolved { fingerprint, alert: merged.clone() });
            }
        } else if self.open.insert(fingerprint) {
            records.push(Record::AlertFiring { fingerprint, alert: merged.clone() });
        }
        self.alerts.insert(fingerprint, merged);
        (fingerprint, is_new)
    }

    fn apply_attempt(&mut self, attempt: Attempt) {
        let members = &self.members;
        let told = self.log.entry(attempt.line.clone()).or_default();
        if told.accepts(&attempt, |router| members.contains(router)) {
            told.pending = Some(attempt);
        } else if *told == Told::default() {
            self.log.remove(&attempt.line);
        }
    }

    fn apply_silence(&mut self, silence: Silence) -> Record {
        let (id, at_ms) = (silence.id.clone(), silence.updated_at_ms);
        let is_new = self.silences.get(&id).is_none();
        let is_over = silence.ends_at_ms <= at_ms;
        self.silences.put(silence);
        let shown = self.silences.get(&id).map(|silence| silence.to_api(at_ms)).unwrap_or_default();
        match (is_over, is_new) {
            (true, _) => Record::SilenceExpired { at_ms, silence: shown },
            (false, true) => Record::SilenceCreated { at_ms, silence: shown },
            (false, false) => Record::SilenceUpdated { at_ms, silence: shown },
        }
    }

    pub fn firing(&self, now_ms: i64) -> impl Iterator<Item = (&Fingerprint, &Arc<Alert>)> {
        self.alerts.iter().filter(move |(_, alert)| !alert.is_resolved_at(now_ms))
    }

    pub fn is_silenced(&self, labels: &Labels, now_ms: i64) -> bool {
        self.silences.is_silenced(labels, now_ms)
    }

    pub fn is_acknowledged(&self, fingerprint: &Fingerprint, now_ms: i64) -> bool {
        self.acks.get(fingerprint).is_some_and(|ack| ack.holds_at(now_ms))
    }

    /// The alerts that ended by themselves since the last time, for history.
    pub fn sweep(&mut self, now_ms: i64) -> Vec<Record> {
        let mut records = Vec::new();
        let alerts = &self.alerts;
        self.open.retain(|fingerprint| match alerts.get(fingerprint) {
            Some(alert) if alert.is_resolved_at(now_ms) => {
                records.push(Record::AlertResolved { fingerprint: *fingerprint, alert: alert.clone() });
                false
            }
            known => known.is_some(),
        });
        records
    }

    /// Drops what is too old to matter; answers the alerts that went. `held` are alerts that groups still have.
    pub fn forget(&mut self, held: &HashSet<Fingerprint>, retention_ms: i64, now_ms: i64) -> Vec<Arc<Alert>> {
        let is_old = |fingerprint: &Fingerprint, alert: &Alert| {
            let kept_ms = if held.contains(fingerprint) { retention_ms } else { RESOLVED_RETENTION_MS };
            alert.ends_at_ms.saturating_add(kept_ms) <= now_ms
        };
        let mut gone = Vec::new();
        self.alerts.retain(|fingerprint, alert| {
            let is_old = is_old(fingerprint, alert);
            if is_old {
                gone.push(alert.clone());
            }
            !is_old
        });
        let alerts = &self.alerts;
        self.acks.retain(|fingerprint, ack| {
            ack.holds_at(now_ms) && alerts.get(fingerprint).is_some_and(|alert| !alert.is_resolved_at(now_ms))
        });
        self.silences.forget(now_ms - retention_ms);
        // What may still have to be told as resolved stays, however long its silence.
        let is_needed = |fingerprint: &Fingerprint| held.contains(fingerprint);
        self.log.retain(|_, told| {
            let told_of = told.last.iter().flat_map(|last| &last.firing);
            let waits = told_of.chain(told.pending.iter().flat_map(|pending| &pending.firing)).any(is_needed);
            waits || told.last.as_ref().is_some_and(|last| last.expires_at_ms > now_ms - CLOCK_SKEW_MS)
        });
        gone
    }

    pub fn active_silences(&self, now_ms: i64) -> usize {
        self.silences.iter().filter(|silence| silence.state_at(now_ms) == SilenceState::Active).count()
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
    use super::*;

    fn alert(starts_at_ms: i64, ends_at_ms: i64, updated_at_ms: i64, timeout: bool) -> Arc<Alert> {
        let (labels, annotations) = (Labels::from_pairs([("alertname", "A")]), Labels::default());
        let generator_url = String::new();
        Arc::new(Alert { labels, annotations, starts_at_ms, ends_at_ms, updated_at_ms, generator_url, timeout })
    }

    fn put(state: &mut State, alert: Arc<Alert>) -> Fingerprint {
        state.apply(Event::Alert(alert)).alert.expect("an alert").0
    }

    fn check(first: Arc<Alert>, second: Arc<Alert>, expected: (i64, i64)) {
        let mut state = State::default();
        put(&mut state, first);
        let fingerprint = put(&mut state, second);
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
    fn an_acknowledgement_ends_with_its_incident() {
        let mut state = State::default();
        let fingerprint = put(&mut state, alert(100, 500, 100, false));
        let ack = |ends_at_ms| Ack {
            fingerprint,
            labels: Labels::default(),
            owner: "ann".into(),
            note: String::new(),
            created_at_ms: 120,
            ends_at_ms,
        };
        state.apply(Event::Ack(ack(Some(300))));
        assert!(state.is_acknowledged(&fingerprint, 200) && !state.is_acknowledged(&fingerprint, 300));
        state.apply(Event::Ack(ack(None)));
        put(&mut state, alert(100, 600, 400, false));
        assert!(state.is_acknowledged(&fingerprint, 400), "it fires still");
        put(&mut state, alert(700, 900, 700, false));
        assert!(!state.is_acknowledged(&fingerprint, 700), "it fires again");
    }

    #[test]
    fn a_notification_is_known_by_its_attempt() {
        let mut state = State::default();
        let line = Line { group_key: "g".into(), receiver: "r".into(), integration: "webhook[0]".into() };
        let set = |ids: &[u64]| ids.iter().copied().map(Fingerprint).collect::<BTreeSet<_>>();
        let attempt = Attempt {
            line: line.clone(),
            key: "k".into(),
            reason: "new alerts added".into(),
            group_labels: Labels::default(),
            firing: set(&[1]),
            resolved: set(&[]),
            is_quiet: false,
            router: String::new(),
            after: String::new(),
            at_ms: 0,
        };
        state.apply(Event::Part { key: "k".into(), firing: set(&[2]), resolved: set(&[3]) });
        state.apply(Event::Attempt(attempt.clone()));
        assert_eq!(state.log[&line].pending.as_ref().map(|pending| pending.firing.clone()), Some(set(&[1, 2])));
        let failed = |is_certain| Event::Failed {
            line: line.clone(),
            error: "no".into(),
            at_ms: 5,
            is_certain,
            key: "k".into(),
            router: String::new(),
        };
        state.apply(failed(false));
        assert!(state.log[&line].pending.is_some(), "perhaps it was taken");
        let notified = |key: &str| {
            let (line, key, memory) = (line.clone(), key.to_owned(), Memory::new());
            Event::Notified { line, key, memory, at_ms: 6, expires_at_ms: 100 }
        };
        state.apply(notified("another"));
        assert!(state.log[&line].last.is_none(), "it is not about this attempt");
        state.apply(notified("k"));
        let last = state.log[&line].last.clone().expect("told");
        assert_eq!((last.firing, last.resolved), (set(&[1, 2]), set(&[3])));
        state.apply(Event::Attempt(attempt));
        state.apply(failed(true));
        assert!(state.log[&line].pending.is_none() && state.log[&line].last.is_some());
        state.forget(&set(&[2]).into_iter().collect(), 1000, 200);
        assert!(state.log.contains_key(&line), "an alert waits to be told as resolved");
        state.forget(&HashSet::new(), 1000, 101 + CLOCK_SKEW_MS);
        assert!(state.log.is_empty());
    }

    #[test]
    fn history_hears_of_an_incident_once() {
        let mut state = State::default();
        let kinds = |records: Vec<Record>| records.iter().map(Record::kind).collect::<Vec<_>>();
        let mut apply = |alert| kinds(state.apply(Event::Alert(alert)).records);
        assert_eq!(apply(alert(100, 500, 100, false)), ["alert_firing"]);
        assert_eq!(apply(alert(100, 600, 200, false)), [] as [&str; 0]);
        assert_eq!(apply(alert(100, 300, 300, false)), ["alert_resolved"]);
        assert_eq!(apply(alert(400, 900, 400, false)), ["alert_firing"]);
        assert_eq!(kinds(state.sweep(899)), [] as [&str; 0]);
        assert_eq!(kinds(state.sweep(900)), ["alert_resolved"]);
        assert_eq!(kinds(state.sweep(901)), [] as [&str; 0]);
    }
}
