//! An alert as rules send it and the router keeps it (Alertmanager API v2).

use serde::{Deserialize, Serialize};

use crate::Labels;

/// Identity of an alert: the hash of its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub u64);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub labels: Labels,
    pub annotations: Labels,
    pub starts_at_ms: i64,
    /// The alert is resolved once this has passed.
    pub ends_at_ms: i64,
    pub updated_at_ms: i64,
    pub generator_url: String,
    /// `ends_at_ms` was not sent but assumed (now + resolve_timeout).
    pub timeout: bool,
}

impl Alert {
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(self.labels.hash(""))
    }

    pub fn name(&self) -> &str {
        self.labels.get("alertname").unwrap_or("")
    }

    pub fn is_resolved_at(&self, now_ms: i64) -> bool {
        self.ends_at_ms <= now_ms
    }
}
