//! Whether a group's state is news to an integration (Alertmanager `notify/dedup_stage.go`).

use std::collections::BTreeSet;

use model::{Fingerprint, Labels};
use serde::{Deserialize, Serialize};

use crate::notify::Memory;

/// Who is told: an integration of a receiver, about a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Line {
    pub group_key: String,
    pub receiver: String,
    /// Kind and position among its kind: `webhook[0]`.
    pub integration: String,
}

/// What is about to be told. It is durable before the first attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub line: Line,
    /// The same for every attempt at telling the same: receivers know a repeat by it.
    pub key: String,
    pub reason: String,
    pub group_labels: Labels,
    pub firing: BTreeSet<Fingerprint>,
    pub resolved: BTreeSet<Fingerprint>,
    /// Nothing is sent: all has resolved, and the integration does not want to hear of it.
    #[serde(default)]
    pub is_quiet: bool,
    /// Who is at it, where several routers share the topic; nobody any more where it is empty.
    #[serde(default)]
    pub router: String,
    /// The key of what the line was told last, as far as that router knew.
    #[serde(default)]
    pub after: String,
    #[serde(default)]
    pub at_ms: i64,
}

/// What an integration was told last of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    #[serde(default)]
    pub key: String,
    pub firing: BTreeSet<Fingerprint>,
    pub resolved: BTreeSet<Fingerprint>,
    /// What the integration wants to know the next time.
    #[serde(default)]
    pub memory: Memory,
    pub at_ms: i64,
    /// Forgotten after this.
    pub expires_at_ms: i64,
}

/// What is known of a line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub last: Option<LogEntry>,
    /// An attempt whose outcome is not known, or not yet.
    pub pending: Option<Attempt>,
}

impl Told {
    /// Whether it was told that an alert fires, or may have been.
    pub fn knows_firing(&self, fingerprint: Fingerprint) -> bool {
        self.last.as_ref().is_some_and(|last| last.firing.contains(&fingerprint))
            || self.pending.as_ref().is_some_and(|pending| pending.firing.contains(&fingerprint))
    }

    /// The key of what was told last, unless that is forgotten at this time.
    pub fn last_key(&self, at_ms: i64) -> &str {
        self.last.as_ref().filter(|last| last.expires_at_ms > at_ms).map_or("", |last| &last.key)
    }

    /// Whether an attempt counts. Where several routers share the topic, it must know what was told last, and none of the
    /// others that are there may have one under way: of two that meet the first on the topic wins.
    pub fn accepts(&self, attempt: &Attempt, is_there: impl Fn(&str) -> bool) -> bool {
        let is_free = self.pending.as_ref().is_none_or(|pending| {
            pending.key == attempt.key || pending.router == attempt.router || !is_there(&pending.router)
        });
        attempt.router.is_empty() || is_free && self.last_key(attempt.at_ms) == attempt.after
    }
}

pub const FIRST: &str = "first notification";
pub const NEW: &str = "new alerts added";
pub const ALL_RESOLVED: &str = "all alerts resolved";
pub const SOME_RESOLVED: &str = "some alerts resolved";
pub const REPEAT: &str = "repeat interval elapsed";

/// Whether to notify, and why: the reason is in the webhook's `notification_reason`.
pub fn needs_update(
    told: &Told,
    firing: &BTreeSet<Fingerprint>,
    resolved: &BTreeSet<Fingerprint>,
    send_resolved: bool,
    repeat_interval_ms: i64,
    now_ms: i64,
) -> Option<&'static str> {
    let may_know = told.pending.as_ref().is_some_and(|pending| !pending.firing.is_empty());
    let Some(entry) = &told.last else {
        return match firing.is_empty() {
            false => Some(FIRST),
            true => may_know.then_some(ALL_RESOLVED),
        };
    };
    if !firing.is_subset(&entry.firing) {
        // What follows a resolution is a new incident.
        return Some(if entry.firing.is_empty() { FIRST } else { NEW });
    }
    if firing.is_empty() {
        return (!entry.firing.is_empty() || may_know).then_some(ALL_RESOLVED);
    }
    if send_resolved && !resolved.is_subset(&entry.resolved) {
        return Some(SOME_RESOLVED);
    }
    (entry.at_ms < now_ms - repeat_interval_ms).then_some(REPEAT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[u64]) -> BTreeSet<Fingerprint> {
        ids.iter().copied().map(Fingerprint).collect()
    }

    fn check(
        known: Option<(&[u64], &[u64], i64)>,
        firing: &[u64],
        resolved: &[u64],
        send: bool,
        expected: Option<&str>,
    ) {
        let last = known.map(|(firing, resolved, at_ms)| LogEntry {
            key: String::new(),
            firing: set(firing),
            resolved: set(resolved),
            memory: Memory::new(),
            at_ms,
            expires_at_ms: i64::MAX,
        });
        let told = Told { last, pending: None };
        let got = needs_update(&told, &set(firing), &set(resolved), send, 1000, 10_000);
        assert_eq!(got, expected, "{known:?} {firing:?} {resolved:?}");
    }

    #[test]
    fn the_order_of_reasons() {
        check(None, &[1], &[], true, Some(FIRST));
        check(None, &[], &[1], true, None);
        check(Some((&[1], &[], 9_500)), &[1, 2], &[], true, Some(NEW));
        check(Some((&[1, 2], &[], 9_500)), &[1], &[], true, None);
        check(Some((&[1], &[], 9_500)), &[], &[1], false, Some(ALL_RESOLVED));
        check(Some((&[], &[1], 0)), &[], &[1], true, None);
        check(Some((&[], &[1], 9_500)), &[1], &[], true, Some(FIRST));
        check(Some((&[1, 2], &[], 9_500)), &[1], &[2], true, Some(SOME_RESOLVED));
        check(Some((&[1, 2], &[], 9_500)), &[1], &[2], false, None);
        check(Some((&[1], &[], 8_000)), &[1], &[], true, Some(REPEAT));
        check(Some((&[1], &[], 9_500)), &[1], &[], true, None);
    }

    /// A process that died while it told of an alert must still tell of its end.
    #[test]
    fn what_may_have_been_told_is_resolved_too() {
        let told = Told { last: None, pending: Some(attempt("k", "", "")) };
        assert_eq!(needs_update(&told, &set(&[]), &set(&[1]), true, 1000, 0), Some(ALL_RESOLVED));
        assert_eq!(needs_update(&told, &set(&[1]), &set(&[]), true, 1000, 0), Some(FIRST));
        assert!(told.knows_firing(Fingerprint(1)) && !told.knows_firing(Fingerprint(2)));
    }

    fn attempt(key: &str, router: &str, after: &str) -> Attempt {
        Attempt {
            line: Line { group_key: String::new(), receiver: String::new(), integration: String::new() },
            key: key.into(),
            reason: String::new(),
            group_labels: Labels::default(),
            firing: set(&[1]),
            resolved: set(&[]),
            is_quiet: false,
            router: router.into(),
            after: after.into(),
            at_ms: 100,
        }
    }

    /// `last` is the key of what was told last and when that is forgotten; `r1` and `r2` are there.
    fn check_accepts(
        last: Option<(&str, i64)>,
        pending: Option<(&str, &str)>,
        new: (&str, &str, &str),
        expected: bool,
    ) {
        let last = last.map(|(key, expires_at_ms)| LogEntry {
            key: key.into(),
            firing: set(&[1]),
            resolved: set(&[]),
            memory: Memory::new(),
            at_ms: 1,
            expires_at_ms,
        });
        let told = Told { last, pending: pending.map(|(key, router)| attempt(key, router, "")) };
        let (key, router, after) = new;
        let got = told.accepts(&attempt(key, router, after), |router| ["r1", "r2"].contains(&router));
        assert_eq!(got, expected, "{told:?} {new:?}");
    }

    #[test]
    fn of_two_routers_attempts_one_counts() {
        check_accepts(None, None, ("k", "r1", ""), true);
        check_accepts(None, Some(("k", "r1")), ("l", "r2", ""), false);
        check_accepts(None, Some(("k", "r1")), ("k", "r2", ""), true);
        check_accepts(None, Some(("k", "r1")), ("l", "r1", ""), true);
        check_accepts(None, Some(("k", "dead")), ("l", "r2", ""), true);
        check_accepts(None, Some(("k", "")), ("l", "r2", ""), true);
        check_accepts(Some(("k", 1_000)), None, ("l", "r2", ""), false);
        check_accepts(Some(("k", 1_000)), None, ("l", "r2", "k"), true);
        check_accepts(Some(("k", 1_000)), None, ("l", "r2", "j"), false);
        // Whoever has forgotten it already, and whoever has not, must agree.
        check_accepts(Some(("k", 100)), None, ("l", "r2", ""), true);
        check_accepts(Some(("k", 1_000)), None, ("l", "", ""), true);
    }
}
