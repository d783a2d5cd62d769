//! Groups of alerts and their timers (Alertmanager `dispatch`).
//!
//! Pure: told of alerts and asked what is due. A group's timer is group_wait at first, then it is set to group_interval
//! *before* each flush. A resolved alert leaves its group only after a flush that reached everybody.

use std::collections::{BTreeMap, BTreeSet};

use model::{Alert, Fingerprint, Labels};

use crate::route::{Route, RouteOptions};

#[derive(Debug)]
pub struct Group {
    pub options: RouteOptions,
    pub labels: Labels,
    pub alerts: BTreeSet<Fingerprint>,
    next_flush_ms: i64,
    has_flushed: bool,
    is_flushing: bool,
}

/// Groups by key.
#[derive(Debug, Default)]
pub struct Dispatcher {
    groups: BTreeMap<String, Group>,
}

/// A flush that is due: what to tell, and to whom.
#[derive(Debug, Clone)]
pub struct Flush {
    pub key: String,
    pub options: RouteOptions,
    pub labels: Labels,
    pub alerts: Vec<Fingerprint>,
}

impl Dispatcher {
    /// Puts an alert into the groups of its routes.
    pub fn insert(&mut self, root: &Route, alert: &Alert, now_ms: i64) {
        for route in root.find(&alert.labels) {
            let labels = route.group_labels(&alert.labels);
            let waited = alert.starts_at_ms + route.options.group_wait_ms < now_ms;
            let group = self.groups.entry(route.group_key(&labels)).or_insert_with(|| Group {
                options: route.options.clone(),
                labels,
                alerts: BTreeSet::new(),
                next_flush_ms: now_ms + route.options.group_wait_ms,
                has_flushed: false,
                is_flushing: false,
            });
            group.alerts.insert(alert.fingerprint());
            // An alert that has been firing for longer than group_wait need not wait again.
            if waited && !group.has_flushed {
                group.next_flush_ms = now_ms;
            }
        }
    }

    /// When the next flush is due, if any group waits for one.
    pub fn next_due_ms(&self) -> Option<i64> {
        self.groups.values().filter(|group| !group.is_flushing).map(|group| group.next_flush_ms).min()
    }

    /// The flushes that are due; their timers are set anew, and they stay out until [`Dispatcher::finish`].
    pub fn take_due(&mut self, now_ms: i64) -> Vec<Flush> {
        let mut flushes = Vec::new();
        for (key, group) in &mut self.groups {
            if group.is_flushing || group.next_flush_ms > now_ms {
                continue;
            }
            group.next_flush_ms = now_ms + group.options.group_interval_ms;
            group.has_flushed = true;
            group.is_flushing = true;
            let (key, alerts) = (key.clone(), group.alerts.iter().copied().collect());
            flushes.push(Flush { key, options: group.options.clone(), labels: group.labels.clone(), alerts });
        }
        flushes
    }

    /// A flush has ended; `leaving` are the resolved alerts that everybody has been told of.
    pub fn finish(&mut self, key: &str, leaving: &[Fingerprint]) {
        let Some(group) = self.groups.get_mut(key) else { return };
        group.is_flushing = false;
        group.alerts.retain(|fingerprint| !leaving.contains(fingerprint));
        if group.alerts.is_empty() {
            self.groups.remove(key);
        }
    }

    pub fn groups(&self) -> impl Iterator<Item = (&String, &Group)> {
        self.groups.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn root() -> Route {
        let text =
            "route: {receiver: r, group_by: [alertname], group_wait: 30s, group_interval: 5m}\nreceivers: [{name: r}]";
        Config::parse(text, Path::new(".")).expect("good").root
    }

    fn alert(name: &str, instance: &str, starts_at_ms: i64) -> Alert {
        let labels = Labels::from_pairs([("alertname", name), ("instance", instance)]);
        let (annotations, generator_url) = (Labels::default(), String::new());
        Alert {
            labels,
            annotations,
            starts_at_ms,
            ends_at_ms: i64::MAX,
            updated_at_ms: 0,
            generator_url,
            timeout: false,
        }
    }

    #[test]
    fn a_group_waits_then_comes_every_interval() {
        let (root, mut dispatcher) = (root(), Dispatcher::default());
        dispatcher.insert(&root, &alert("A", "1", 1_000), 1_000);
        dispatcher.insert(&root, &alert("A", "2", 5_000), 5_000);
        dispatcher.insert(&root, &alert("B", "1", 6_000), 6_000);
        assert!(dispatcher.take_due(30_999).is_empty());
        let due = dispatcher.take_due(31_000);
        assert_eq!(due.len(), 1);
        assert_eq!((due[0].key.as_str(), due[0].alerts.len()), (r#"{}:{alertname="A"}"#, 2));
        dispatcher.finish(&due[0].key, &[]);
        assert_eq!(dispatcher.next_due_ms(), Some(36_000), "B's turn");
        dispatcher.take_due(36_000);
        assert_eq!(dispatcher.next_due_ms(), Some(331_000), "B is still being flushed");
    }

    #[test]
    fn an_old_alert_does_not_wait() {
        let (root, mut dispatcher) = (root(), Dispatcher::default());
        dispatcher.insert(&root, &alert("A", "1", 0), 100_000);
        assert_eq!(dispatcher.take_due(100_000).len(), 1);
    }

    #[test]
    fn what_everybody_was_told_of_leaves() {
        let (root, mut dispatcher) = (root(), Dispatcher::default());
        let one = alert("A", "1", 0);
        dispatcher.insert(&root, &one, 100_000);
        dispatcher.insert(&root, &alert("A", "2", 0), 100_000);
        let key = dispatcher.take_due(100_000)[0].key.clone();
        dispatcher.finish(&key, &[one.fingerprint()]);
        let due = dispatcher.take_due(400_000);
        assert_eq!(due[0].alerts.len(), 1);
        dispatcher.finish(&key, &due[0].alerts);
        assert_eq!(dispatcher.next_due_ms(), None);
    }
}
