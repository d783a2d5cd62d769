//! How long samples are kept.

use std::collections::BTreeMap;

/// Days go as a whole: once all of a day is older than its tenant's period, or the oldest of all past the size.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    /// Of tenants that have no period of their own.
    pub default_ms: i64,
    pub tenants: BTreeMap<String, i64>,
    /// Of the parts of all tenants together.
    pub max_bytes: Option<u64>,
}

impl Retention {
    /// The same for all tenants.
    pub fn of_all(default_ms: i64) -> Retention {
        Retention { default_ms, ..Retention::default() }
    }

    /// Older samples of a tenant are refused.
    pub fn oldest_ms(&self, tenant: &str, now_ms: i64) -> i64 {
        now_ms.saturating_sub(self.tenants.get(tenant).copied().unwrap_or(self.default_ms))
    }
}
