//! Groups of alerts and their timers (Alertmanager `dispatch`).
//!
//! Pure: told of alerts and asked what is due. A group's timer is group_wait at first, then it is set to group_interval
//! *before* each flush. A resolved alert leaves its group only after a flush that reached everybody.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use model::{Alert, Fingerprint, Labels};

use crate::route::{Route, RouteOptions};

#[derive(Debug)]
pub struct Group {
    pub options: Arc<RouteOptions>,
    pub alerts: BTreeSet<Fingerprint>,
    /// The end of group_wait or group_interval.
    next_flush_ms: i64,
    /// When it is looked at, which may be before that.
    due_ms: i64,
    is_flushing: bool,
}

/// A group by its labels and its route's place: the order in which the API shows groups.
pub type GroupRef = (Labels, usize);

#[derive(Debug, Default)]
pub struct Dispatcher {
    groups: BTreeMap<GroupRef, Group>,
    /// The groups that wait for their time.
    due: BTreeSet<(i64, GroupRef)>,
}

/// A flush that is due: what to tell, and to whom.
#[derive(Debug, Clone)]
pub struct Flush {
    pub key: String,
    pub options: Arc<RouteOptions>,
    pub labels: Labels,
    pub alerts: Vec<Fingerprint>,
}

impl Dispatcher {
    /// Puts an alert into the groups of its routes.
    pub fn insert(&mut self, root: &Route, fingerprint: Fingerprint, alert: &Alert, now_ms: i64) {
        for route in root.find(&alert.labels) {
            let options = &route.options;
            let id = (options.group_labels(&alert.labels), options.place);
            if let Some(group) = self.groups.get_mut(&id) {
                group.alerts.insert(fingerprint);
                continue;
            }
            // An alert that has been firing for longer than group_wait need not wait again.
            let has_waited = alert.starts_at_ms.saturating_add(options.group_wait_ms) < now_ms;
            let next_flush_ms = if has_waited { now_ms } else { now_ms.saturating_add(options.group_wait_ms) };
            let (options, alerts) = (options.clone(), BTreeSet::from([fingerprint]));
            self.due.insert((next_flush_ms, id.clone()));
            let due_ms = next_flush_ms;
            self.groups.insert(id, Group { options, alerts, next_flush_ms, due_ms, is_flushing: false });
        }
    }

    /// When the next flush is due, if any group waits for one.
    pub fn next_due_ms(&self) -> Option<i64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// The flushes that are due; their timers are set anew, and they stay out until [`Dispatcher::finish`].
    pub fn take_due(&mut self, now_ms: i64) -> Vec<Flush> {
        let mut flushes = Vec::new();
        while self.next_due_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            let Some((_, id)) = self.due.pop_first() else { break };
            let group = self.groups.get_mut(&id).expect("what is due is a group");
            if group.next_flush_ms <= now_ms {
                group.next_flush_ms = now_ms.saturating_add(group.options.group_interval_ms);
            }
            group.is_flushing = true;
            flushes.push(Flush {
                key: group.options.group_key(&id.0),
                options: group.options.clone(),
                labels: id.0,
                alerts: group.alerts.iter().copied().collect(),
            });
        }
        flushes
    }

    /// A flush has ended; `leaving` are the resolved alerts that everybody has been told of. The group is looked at again
    /// at its time, or at `again_ms` if that is before it.
    pub fn finish(&mut self, flush: &Flush, leaving: &HashSet<Fingerprint>, again_ms: i64) {
        let Some(id) = self.find(flush) else { return };
        let Some(group) = self.groups.get_mut(&id).filter(|group| group.is_flushing) else { return };
        group.is_flushing = false;
        group.alerts.retain(|fingerprint| !leaving.contains(fingerprint));
        if group.alerts.is_empty() {
            self.groups.remove(&id);
        } else {
            group.due_ms = group.next_flush_ms.min(again_ms);
            self.due.insert((group.due_ms, id));
        }
    }

    /// The group of a flush, also where a reload has moved its route.
    fn find(&self, flush: &Flush) -> Option<GroupRef> {
        let all = (flush.labels.clone(), 0)..=(flush.labels.clone(), usize::MAX);
        let same =
            |options: &RouteOptions| options.key == flush.options.key && options.receiver == flush.options.receiver;
        let mut found = self.groups.range(all).filter(|(_, group)| same(&group.options)).map(|(id, _)| id);
        let first = found.next()?;
        Some([first].into_iter().chain(found).find(|id| id.1 == flush.options.place).unwrap_or(first).clone())
    }

    /// Groups anew under other routes. Timers begin again; what is being flushed meanwhile is not flushed twice at once.
    pub fn regroup<'a>(
        &mut self,
        root: &Route,
        alerts: impl Iterator<Item = (&'a Fingerprint, &'a Arc<Alert>)>,
        now_ms: i64,
    ) {
        let old = std::mem::take(self);
        alerts.for_each(|(fingerprint, alert)| self.insert(root, *fingerprint, alert, now_ms));
        let busy = old.groups.into_iter().filter(|(_, group)| group.is_flushing);
        for ((labels, _), group) in busy {
            let flush = Flush { key: String::new(), options: group.options, labels, alerts: Vec::new() };
            if let Some(id) = self.find(&flush)
                && let Some(group) = self.groups.get_mut(&id)
            {
                group.is_flushing = true;
                self.due.remove(&(group.due_ms, id));
            }
        }
    }

    /// The alerts that some group has.
    pub fn held(&self) -> HashSet<Fingerprint> {
        self.groups.values().flat_map(|group| group.alerts.iter().copied()).collect()
    }

    /// Takes an alert out of every group.
    pub fn drop_alert(&mut self, root: &Route, fingerprint: Fingerprint, labels: &Labels) {
        for route in root.find(labels) {
            let id = (route.options.group_labels(labels), route.options.place);
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.alerts.remove(&fingerprint);
            if group.alerts.is_empty() && !group.is_flushing {
                self.due.remove(&(group.due_ms, id.clone()));
                self.groups.remove(&id);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Groups in order, after one of them.
    pub fn groups_after(&self, after: Option<&GroupRef>) -> impl Iterator<Item = (&GroupRef, &Group)> {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        self.groups.range((from, std::ops::Bound::Unbounded))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn root(routes: &str) -> Route {
        let text = format!(
            "route: {{receiver: r, group_by: [alertname], group_wait: 30s, group_interval: 5m, routes: [{routes}]}}\n\
             receivers: [{{name: r}}, {{name: s}}]"
        );
        Config::parse(&text, Path::new("."), Default::default()).expect("good").root
    }

    fn alert(name: &str, instance: &str, starts_at_ms: i64) -> (Fingerprint, Arc<Alert>) {
        let labels = Labels::from_pairs([("alertname", name), ("instance", instance)]);
        let alert = Alert {
            labels,
            annotations: Labels::default(),
            starts_at_ms,
            ends_at_ms: i64::MAX,
            updated_at_ms: 0,
            generator_url: String::new(),
            timeout: false,
        };
        (alert.fingerprint(), Arc::new(alert))
    }

    fn insert(
        dispatcher: &mut Dispatcher,
        root: &Route,
        (fingerprint, alert): &(Fingerprint, Arc<Alert>),
        now_ms: i64,
    ) {
        dispatcher.insert(root, *fingerprint, alert, now_ms);
    }

    #[test]
    fn a_group_waits_then_comes_every_interval() {
        let (root, mut dispatcher) = (root(""), Dispatcher::default());
        insert(&mut dispatcher, &root, &alert("A", "1", 1_000), 1_000);
        insert(&mut dispatcher, &root, &alert("A", "2", 5_000), 5_000);
        insert(&mut dispatcher, &root, &alert("B", "1", 6_000), 6_000);
        assert!(dispatcher.take_due(30_999).is_empty());
        let due = dispatcher.take_due(31_000);
        assert_eq!(due.len(), 1);
        assert_eq!((due[0].key.as_str(), due[0].alerts.len()), (r#"{}:{alertname="A"}"#, 2));
        dispatcher.finish(&due[0], &HashSet::new(), i64::MAX);
        assert_eq!(dispatcher.next_due_ms(), Some(36_000), "B's turn");
        dispatcher.take_due(36_000);
        assert_eq!(dispatcher.next_due_ms(), Some(331_000), "B is still being flushed");
    }

    #[test]
    fn an_old_alert_does_not_wait() {
        let (root, mut dispatcher) = (root(""), Dispatcher::default());
        insert(&mut dispatcher, &root, &alert("A", "1", 0), 100_000);
        assert_eq!(dispatcher.take_due(100_000).len(), 1);
    }

    /// They used to be one group, of the first route's receiver.
    #[test]
    fn routes_with_the_same_matchers_have_groups_of_their_own() {
        let root = root("{matchers: [alertname=A], continue: true}, {matchers: [alertname=A], receiver: s}");
        let mut dispatcher = Dispatcher::default();
        insert(&mut dispatcher, &root, &alert("A", "1", 0), 100_000);
        let due = dispatcher.take_due(100_000);
        let receivers: Vec<&str> = due.iter().map(|flush| flush.options.receiver.as_str()).collect();
        assert_eq!(receivers, ["r", "s"]);
        assert_eq!(due[0].key, due[1].key);
        dispatcher.finish(&due[1], &due[1].alerts.iter().copied().collect(), i64::MAX);
        assert!(dispatcher.groups_after(None).all(|(_, group)| group.options.receiver == "r"));
    }

    #[test]
    fn what_everybody_was_told_of_leaves() {
        let (root, mut dispatcher) = (root(""), Dispatcher::default());
        let one = alert("A", "1", 0);
        insert(&mut dispatcher, &root, &one, 100_000);
        insert(&mut dispatcher, &root, &alert("A", "2", 0), 100_000);
        let due = dispatcher.take_due(100_000);
        dispatcher.finish(&due[0], &HashSet::from([one.0]), i64::MAX);
        let due = dispatcher.take_due(400_000);
        assert_eq!(due[0].alerts.len(), 1);
        dispatcher.finish(&due[0], &due[0].alerts.iter().copied().collect(), i64::MAX);
        assert_eq!((dispatcher.next_due_ms(), dispatcher.len()), (None, 0));
    }

    #[test]
    fn a_reload_flushes_nothing_twice_at_once() {
        let (old, new) = (root(""), root("{matchers: [alertname=B]}"));
        let mut dispatcher = Dispatcher::default();
        let alerts = [alert("A", "1", 0), alert("B", "1", 0)];
        alerts.iter().for_each(|one| insert(&mut dispatcher, &old, one, 100_000));
        let due = dispatcher.take_due(100_000);
        assert_eq!(due.len(), 2);
        dispatcher.regroup(&new, alerts.iter().map(|(fingerprint, alert)| (fingerprint, alert)), 200_000);
        let again: Vec<String> = dispatcher.take_due(200_000).into_iter().map(|flush| flush.key).collect();
        assert_eq!(again, [r#"{}/{alertname="B"}:{alertname="B"}"#], "A is being flushed still, B has another route");
        dispatcher.finish(&due[0], &HashSet::new(), i64::MAX);
        assert_eq!(dispatcher.next_due_ms(), Some(200_000), "A's turn at once");
    }

    #[test]
    fn an_alert_can_be_dropped() {
        let (root, mut dispatcher) = (root(""), Dispatcher::default());
        let one = alert("A", "1", 0);
        insert(&mut dispatcher, &root, &one, 100_000);
        assert_eq!(dispatcher.held(), HashSet::from([one.0]));
        dispatcher.drop_alert(&root, one.0, &one.1.labels);
        assert_eq!((dispatcher.next_due_ms(), dispatcher.len()), (None, 0));
    }

    /// A router looks again at what another should have told; the group's own time stays.
    #[test]
    fn a_group_is_looked_at_again_before_its_time() {
        let (root, mut dispatcher) = (root(""), Dispatcher::default());
        insert(&mut dispatcher, &root, &alert("A", "1", 0), 100_000);
        let due = dispatcher.take_due(100_000);
        dispatcher.finish(&due[0], &HashSet::new(), 102_000);
        assert_eq!(dispatcher.next_due_ms(), Some(102_000));
        let due = dispatcher.take_due(102_000);
        dispatcher.finish(&due[0], &HashSet::new(), i64::MAX);
        assert_eq!(dispatcher.next_due_ms(), Some(400_000));
    }
}
