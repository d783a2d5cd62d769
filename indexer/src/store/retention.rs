//! How long lines are kept, per tenant and stream, and how much of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Labels, Matcher, matches_all};

use super::NS_PER_DAY;

#[derive(Debug, Clone)]
pub struct Retention {
    /// Of tenants that are not named.
    pub default_ns: i64,
    pub tenants: BTreeMap<String, i64>,
    /// The first that a stream matches is for it, whatever its tenant's is.
    pub streams: Vec<StreamRetention>,
    /// Above this the oldest segments go.
    pub max_bytes: Option<u64>,
}

/// A period of the streams that a selector gives, of one tenant or of all.
#[derive(Debug, Clone)]
pub struct StreamRetention {
    pub tenant: Option<String>,
    pub matchers: Vec<Matcher>,
    pub period_ns: i64,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention::of(7 * NS_PER_DAY)
    }
}

impl StreamRetention {
    fn is_of(&self, tenant: &str) -> bool {
        self.tenant.as_deref().is_none_or(|own| own == tenant)
    }
}

impl Retention {
    /// The same for all.
    pub fn of(default_ns: i64) -> Retention {
        Retention { default_ns, tenants: BTreeMap::new(), streams: Vec::new(), max_bytes: None }
    }

    pub fn of_tenant_ns(&self, tenant: &str) -> i64 {
        self.tenants.get(tenant).copied().unwrap_or(self.default_ns)
    }

    /// No line of the tenant is kept longer.
    pub fn longest_ns(&self, tenant: &str) -> i64 {
        let streams = self.streams.iter().filter(|stream| stream.is_of(tenant)).map(|stream| stream.period_ns);
        streams.fold(self.of_tenant_ns(tenant), i64::max)
    }

    /// No line at all is kept longer.
    pub fn longest_of_all_ns(&self) -> i64 {
        let tenants = self.tenants.values().copied();
        tenants.chain(self.streams.iter().map(|stream| stream.period_ns)).fold(self.default_ns, i64::max)
    }

    /// The period of a stream, where it may be another than the longest of its tenant.
    pub fn of_stream_ns(&self, tenant: &str, labels: &Labels) -> Option<i64> {
        if self.streams.is_empty() {
            return None;
        }
        let own = self.streams.iter().find(|stream| stream.is_of(tenant) && matches_all(&stream.matchers, labels));
        Some(own.map_or_else(|| self.of_tenant_ns(tenant), |stream| stream.period_ns))
    }
}

/// Retention at one moment, for one tenant.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    retention: Arc<Retention>,
    tenant: String,
    now_ns: i64,
}

impl Kept {
    pub fn new(retention: &Arc<Retention>, tenant: &str, now_ns: i64) -> Kept {
        Kept { retention: retention.clone(), tenant: tenant.to_owned(), now_ns }
    }

    /// Lines of a stream that are older are not kept, though those of others of their segment may be.
    pub fn oldest_ns(&self, labels: &Labels) -> i64 {
        let period_ns = self.retention.of_stream_ns(&self.tenant, labels);
        period_ns.map_or(i64::MIN, |period_ns| self.now_ns.saturating_sub(period_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_of_a_stream_counts() {
        let rule = |tenant: Option<&str>, app: &str, period_ns| StreamRetention {
            tenant: tenant.map(str::to_owned),
            matchers: vec![Matcher::equal("app", app)],
            period_ns,
        };
        let retention = Retention {
            tenants: BTreeMap::from([("long".to_owned(), 50)]),
            streams: vec![
                rule(Some("other"), "a", 1),
                rule(None, "a", 2),
                rule(None, "a", 3),
                rule(Some("t"), "b", 90),
            ],
            ..Retention::of(10)
        };
        let check = |tenant: &str, app: &str, expected_ns: i64| {
            assert_eq!(
                retention.of_stream_ns(tenant, &Labels::from_pairs([("app", app)])),
                Some(expected_ns),
                "{tenant} {app}"
            );
        };
        check("t", "a", 2);
        check("other", "a", 1);
        check("t", "b", 90);
        check("long", "b", 50);
        check("long", "a", 2);
        assert_eq!([retention.longest_ns("t"), retention.longest_ns("long"), retention.longest_ns("x")], [90, 50, 10]);
        assert_eq!(Retention::of(10).of_stream_ns("t", &Labels::default()), None);
    }
}
