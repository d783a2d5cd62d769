//! One flush of one group: mutes, then every integration of its receiver, each with its own memory of what it was told.
//!
//! An alert that has resolved while it was muted, and of which an integration was told that it fires, stays in its group
//! until the mute ends: so a resolved message always comes, and no silence is broken for it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use model::{Alert, Fingerprint, now_ms};
use uuid::Uuid;

use crate::Alertmanager;
use crate::config::Config;
use crate::dedup::{Attempt, Line, REPEAT, needs_update};
use crate::dispatch::Flush;
use crate::members::RECHECK_MS;
use crate::notify::{self, Integration, Memory, Notice, Reason};
use crate::service::Core;
use crate::state::{Event, PART};

/// However short group_interval is, delivery is tried for at least this long.
const MIN_RETRY_MS: i64 = 10_000;
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// Alerts looked at before others may have the lock.
const CHUNK: usize = 1_000;

/// A group's alerts at the moment of a flush.
#[derive(Default)]
struct Gathered {
    /// Those that are told, in Alertmanager's order.
    alerts: Vec<Alert>,
    /// Those that leave the group once everybody knows.
    leaving: Vec<(Fingerprint, Arc<Alert>)>,
}

/// What is told to whom.
struct Telling<'a> {
    integration: &'a Integration,
    line: Line,
    flush: &'a Flush,
    alerts: &'a [Alert],
    config: &'a Config,
    now_ms: i64,
}

/// A decision to tell.
struct News {
    attempt: Attempt,
    memory: Memory,
}

/// What one integration knows after a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knows {
    All,
    NotYet,
    /// It is another router's to tell it.
    ByOthers,
}

enum Outcome {
    Taken(Memory),
    GivenUp { error: String, is_certain: bool },
}

impl Alertmanager {
    pub(crate) async fn flush(self: Arc<Self>, flush: Flush) {
        let now_ms = now_ms();
        let config = self.core.lock().config.clone();
        let integrations = config.receivers.get(&flush.options.receiver).map_or(&[][..], Vec::as_slice);
        let lines = lines(&flush, integrations);
        let gathered = self.gather(&flush, &lines, &config, now_ms);
        let told = integrations.iter().zip(lines).map(|(integration, line)| {
            let (flush, alerts, config) = (&flush, &gathered.alerts[..], &*config);
            self.tell(Telling { integration, line, flush, alerts, config, now_ms })
        });
        let told = futures::future::join_all(told).await;
        let everybody = told.iter().all(|told| *told == Knows::All);
        let again_ms = if told.contains(&Knows::ByOthers) { now_ms + RECHECK_MS } else { i64::MAX };
        let mut core = self.core.lock();
        // An alert that fired again, or was updated, while the flush was under way stays.
        let unchanged = |(fingerprint, alert): &&(Fingerprint, Arc<Alert>)| {
            core.state.alerts.get(fingerprint).is_none_or(|now| now.updated_at_ms == alert.updated_at_ms)
        };
        let leaving: HashSet<Fingerprint> = match everybody {
            true => gathered.leaving.iter().filter(unchanged).map(|(fingerprint, _)| *fingerprint).collect(),
            false => HashSet::new(),
        };
        core.dispatcher.finish(&flush, &leaving, again_ms);
        drop(core);
        self.wake.notify_one();
    }

    fn gather(&self, flush: &Flush, lines: &[Line], config: &Config, now_ms: i64) -> Gathered {
        let mut gathered = Gathered::default();
        let is_quiet_time = !config.muting_intervals(&flush.options, now_ms).is_empty();
        for chunk in flush.alerts.chunks(CHUNK) {
            let core = self.core.lock();
            for fingerprint in chunk {
                let Some(alert) = core.state.alerts.get(fingerprint) else { continue };
                let is_muted = is_quiet_time || core.is_muted(alert, now_ms);
                if !is_muted {
                    gathered.alerts.push(Alert::clone(alert));
                }
                let waits = || lines.iter().any(|line| knows_firing(&core, line, *fingerprint));
                if alert.is_resolved_at(now_ms) && !(is_muted && waits()) {
                    gathered.leaving.push((*fingerprint, alert.clone()));
                }
            }
        }
        gathered.alerts.sort_by(notify::order);
        gathered
    }

    /// Tells one integration, if this is news to it and this router's to tell; answers whether it knows all now.
    async fn tell(&self, telling: Telling<'_>) -> Knows {
        if telling.alerts.is_empty() {
            return Knows::All;
        }
        let Some(News { attempt, memory }) = self.news(&telling) else { return Knows::All };
        if !self.may_begin(&telling.line) {
            return Knows::ByOthers;
        }
        let (line, key, is_quiet) = (telling.line.clone(), attempt.key.clone(), attempt.is_quiet);
        let (flush, now_ms) = (telling.flush, telling.now_ms);
        let sends_resolved = telling.integration.send_resolved();
        let shown = telling.alerts.iter().filter(|alert| sends_resolved || !alert.is_resolved_at(now_ms)).cloned();
        let notice = Notice {
            receiver: flush.options.receiver.clone(),
            group_key: flush.key.clone(),
            group_labels: flush.labels.clone(),
            route_labels: flush.options.labels.clone(),
            external_url: self.options.external_url.clone(),
            reason: reason_text(&attempt.reason),
            idempotency_key: key.clone(),
            alerts: shown.collect(),
            memory: memory.clone(),
            now_ms,
        };
        self.remember(attempt_events(attempt)).await;
        if !self.is_ours(&line, &key) {
            return Knows::ByOthers;
        }
        let outcome = match is_quiet {
            true => Outcome::Taken(memory),
            false => self.deliver(&telling, &notice).await,
        };
        let at_ms = model::now_ms();
        let retention_ms = self.options.retention_ms.min(2 * flush.options.repeat_interval_ms);
        let (event, is_told) = match outcome {
            Outcome::Taken(memory) => {
                (Event::Notified { line, key, memory, at_ms, expires_at_ms: at_ms + retention_ms }, Knows::All)
            }
            Outcome::GivenUp { error, is_certain } => {
                (Event::Failed { line, error, at_ms, is_certain, key, router: self.peer_name() }, Knows::NotYet)
            }
        };
        self.remember(vec![event]).await;
        is_told
    }

    /// Whether there is anything to tell, and under which key.
    fn news(&self, telling: &Telling) -> Option<News> {
        let Telling { integration, flush, now_ms, .. } = telling;
        let ids = |is_resolved: bool| -> BTreeSet<Fingerprint> {
            let wanted = telling.alerts.iter().filter(|alert| alert.is_resolved_at(*now_ms) == is_resolved);
            wanted.map(Alert::fingerprint).collect()
        };
        let (firing, resolved) = (ids(false), ids(true));
        let (sends_resolved, repeat_ms) = (integration.send_resolved(), flush.options.repeat_interval_ms);
        let core = self.core.lock();
        let nothing = crate::dedup::Told::default();
        let told = core.state.log.get(&telling.line).unwrap_or(&nothing);
        let reason = needs_update(told, &firing, &resolved, sends_resolved, repeat_ms, *now_ms)?;
        if reason == REPEAT && firing.iter().all(|fingerprint| core.state.is_acknowledged(fingerprint, *now_ms)) {
            return None;
        }
        let after = told.last_key(*now_ms).to_owned();
        let same = |pending: &&Attempt| pending.firing == firing && pending.resolved == resolved;
        let key = told.pending.as_ref().filter(same).map(|pending| pending.key.clone());
        // What was said of an earlier incident is not taken up again.
        let last = told.last.as_ref().filter(|last| !last.firing.is_empty());
        let memory = last.map(|last| last.memory.clone()).unwrap_or_default();
        let attempt = Attempt {
            line: telling.line.clone(),
            key: key.unwrap_or_else(|| Uuid::new_v4().to_string()),
            reason: reason.to_owned(),
            group_labels: flush.labels.clone(),
            is_quiet: firing.is_empty() && !sends_resolved,
            firing,
            resolved,
            router: self.peer_name(),
            after,
            at_ms: *now_ms,
        };
        Some(News { attempt, memory })
    }

    /// Makes events durable; where the bus cannot take them they are remembered here at least: a page that comes twice
    /// after a crash is better than one that never comes. Among several routers it is the bus that decides who tells.
    async fn remember(&self, events: Vec<Event>) {
        if let Err(error) = self.record(events.clone()).await {
            tracing::error!(%error, "the notification log could not be written");
            if self.peer.is_some() {
                return;
            }
            let mut core = self.core.lock();
            events.into_iter().for_each(|event| drop(core.state.apply(event)));
        }
    }

    /// Tries until it is taken, refused for good, or time is up.
    async fn deliver(&self, telling: &Telling<'_>, notice: &Notice) -> Outcome {
        let kind = telling.integration.kind();
        let label = ("integration", kind.to_owned());
        let give_up_ms = telling.now_ms + telling.flush.options.group_interval_ms.max(MIN_RETRY_MS);
        let (mut backoff, mut is_certain) = (FIRST_BACKOFF, true);
        loop {
            let left = Duration::from_millis((give_up_ms - now_ms()).max(1_000) as u64);
            let failure = match notify::attempt(telling.integration, notice, &telling.config.templates, left).await {
                Ok(memory) => {
                    self.counters.sent.get_or_create(&vec![label]).inc();
                    return Outcome::Taken(memory);
                }
                Err(failure) => failure,
            };
            is_certain &= !matches!(failure.reason, Reason::DeadlineExceeded | Reason::Unanswered);
            let is_over = !failure.retry || now_ms() + backoff.as_millis() as i64 > give_up_ms;
            let (name, group) = (format!("{}/{}", telling.line.receiver, telling.line.integration), &notice.group_key);
            tracing::warn!(integration = name, group, error = %failure, gives_up = is_over, "notification failed");
            if is_over {
                let reason = ("reason", failure.reason.name().to_owned());
                self.counters.failed.get_or_create(&vec![label, reason]).inc();
                return Outcome::GivenUp { error: failure.message, is_certain };
            }
            tokio::time::sleep(backoff).await;
            if !self.is_ours(&telling.line, &notice.idempotency_key) {
                return Outcome::GivenUp { error: "another router takes over".to_owned(), is_certain };
            }
            backoff = backoff.mul_f64(1.5).min(MAX_BACKOFF);
        }
    }
}

fn knows_firing(core: &Core, line: &Line, fingerprint: Fingerprint) -> bool {
    core.state.log.get(line).is_some_and(|told| told.knows_firing(fingerprint))
}

/// The integrations of a group's receiver, each counted among its kind.
fn lines(flush: &Flush, integrations: &[Integration]) -> Vec<Line> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let line = |integration: &Integration| {
        let count = counts.entry(integration.kind()).or_default();
        let name = format!("{}[{count}]", integration.kind());
        *count += 1;
        Line { group_key: flush.key.clone(), receiver: flush.options.receiver.clone(), integration: name }
    };
    integrations.iter().map(line).collect()
}

/// The attempt as events that fit into records.
fn attempt_events(mut attempt: Attempt) -> Vec<Event> {
    let mut events = Vec::new();
    while attempt.firing.len() + attempt.resolved.len() > PART {
        let take = |from: &mut BTreeSet<Fingerprint>| -> BTreeSet<Fingerprint> {
            std::iter::from_fn(|| from.pop_first()).take(PART / 2).collect()
        };
        let (firing, resolved) = (take(&mut attempt.firing), take(&mut attempt.resolved));
        events.push(Event::Part { key: attempt.key.clone(), firing, resolved });
    }
    events.push(Event::Attempt(attempt));
    events
}

/// The reason as a text that lives for ever.
fn reason_text(reason: &str) -> &'static str {
    use crate::dedup::{ALL_RESOLVED, FIRST, NEW, SOME_RESOLVED};
    [FIRST, NEW, ALL_RESOLVED, SOME_RESOLVED, REPEAT].into_iter().find(|known| *known == reason).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    #[test]
    fn a_large_attempt_is_split_and_comes_together() {
        let line = Line { group_key: "g".into(), receiver: "r".into(), integration: "webhook[0]".into() };
        let attempt = Attempt {
            line: line.clone(),
            key: "k".into(),
            reason: "first notification".into(),
            group_labels: model::Labels::default(),
            firing: (0..25_000).map(Fingerprint).collect(),
            resolved: (0..7).map(Fingerprint).collect(),
            is_quiet: false,
            router: String::new(),
            after: String::new(),
            at_ms: 0,
        };
        let events = attempt_events(attempt.clone());
        assert!(events.len() > 3);
        let is_small = |event: &Event| serde_json::to_string(event).is_ok_and(|text| text.len() < 400_000);
        assert!(events.iter().all(is_small));
        let mut state = State::default();
        events.into_iter().for_each(|event| drop(state.apply(event)));
        assert_eq!(state.log[&line].pending, Some(attempt));
    }
}
