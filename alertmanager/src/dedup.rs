//! Whether a group's state is news to an integration (Alertmanager `notify/dedup_stage.go`).

use std::collections::BTreeSet;

use model::Fingerprint;
use serde::{Deserialize, Serialize};

use crate::notify::Memory;

/// What an integration was last told of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    pub group_key: String,
    /// Receiver, kind and position: `team/webhook[0]`.
    pub integration: String,
    pub firing: BTreeSet<Fingerprint>,
    pub resolved: BTreeSet<Fingerprint>,
    /// What the integration wants to know the next time.
    #[serde(default)]
    pub memory: Memory,
    pub at_ms: i64,
    /// Forgotten after this.
    pub expires_at_ms: i64,
}

/// Whether to notify, and why: the reason is in the webhook's `notification_reason`.
pub fn needs_update(
    entry: Option<&LogEntry>,
    firing: &BTreeSet<Fingerprint>,
    resolved: &BTreeSet<Fingerprint>,
    send_resolved: bool,
    repeat_interval_ms: i64,
    now_ms: i64,
) -> Option<&'static str> {
    let Some(entry) = entry else { return (!firing.is_empty()).then_some("first notification") };
    if !firing.is_subset(&entry.firing) {
        // What follows a resolution is a new incident.
        return Some(if entry.firing.is_empty() { "first notification" } else { "new alerts added" });
    }
    if firing.is_empty() {
        return (!entry.firing.is_empty()).then_some("all alerts resolved");
    }
    if send_resolved && !resolved.is_subset(&entry.resolved) {
        return Some("some alerts resolved");
    }
    (entry.at_ms < now_ms - repeat_interval_ms).then_some("repeat interval elapsed")
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
        let entry = known.map(|(firing, resolved, at_ms)| LogEntry {
            group_key: String::new(),
            integration: String::new(),
            firing: set(firing),
            resolved: set(resolved),
            memory: Memory::new(),
            at_ms,
            expires_at_ms: i64::MAX,
        });
        let got = needs_update(entry.as_ref(), &set(firing), &set(resolved), send, 1000, 10_000);
        assert_eq!(got, expected, "{known:?} {firing:?} {resolved:?}");
    }

    #[test]
    fn the_order_of_reasons() {
        check(None, &[1], &[], true, Some("first notification"));
        check(None, &[], &[1], true, None);
        check(Some((&[1], &[], 9_500)), &[1, 2], &[], true, Some("new alerts added"));
        check(Some((&[1, 2], &[], 9_500)), &[1], &[], true, None);
        check(Some((&[1], &[], 9_500)), &[], &[1], false, Some("all alerts resolved"));
        check(Some((&[], &[1], 0)), &[], &[1], true, None);
        check(Some((&[], &[1], 9_500)), &[1], &[], true, Some("first notification"));
        check(Some((&[1, 2], &[], 9_500)), &[1], &[2], true, Some("some alerts resolved"));
        check(Some((&[1, 2], &[], 9_500)), &[1], &[2], false, None);
        check(Some((&[1], &[], 8_000)), &[1], &[], true, Some("repeat interval elapsed"));
        check(Some((&[1], &[], 9_500)), &[1], &[], true, None);
    }
}
