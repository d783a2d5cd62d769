//! The cluster's events as lines.
//!
//! Each event, and each time that one is counted again, is one line: its message, at the time that it happened last, in
//! the stream `{source="kubernetes-events", namespace}` of what it is about. `kind`, `name`, `reason`, `type`, `component`,
//! `host` and `count` are structured metadata. The core group's events are read: those of `events.k8s.io` are the same.
//!
//! The cursor is the resource version that was reached. After a restart the watch goes on there. Where the server has
//! forgotten it, what is listed is told from there on: versions are numbers of one sequence. A list that is older than the
//! cursor is another cluster's, or one that was restored, and is told whole.

use model::Labels;

use super::lines::Shipping;
use super::objects::Event;
use super::{Change, Enough, Listener, Page, Told};
use crate::intake::Received;
use crate::logs::parse::Level;

pub struct Events {
    shipping: Shipping,
    reached: Option<String>,
}

impl Events {
    pub fn new(shipping: Shipping, reached: Option<String>) -> Events {
        Events { shipping, reached }
    }

    /// What of a page was not told before.
    fn unknown(&self, page: Page<Event>) -> Vec<Event> {
        let reached = self.reached.as_deref().and_then(number);
        let reached = reached.filter(|reached| number(&page.version).is_some_and(|version| version >= *reached));
        let is_new = |event: &Event| {
            let version = number(&event.metadata.resource_version);
            reached.is_none_or(|reached| version.is_none_or(|version| version > reached))
        };
        let mut events: Vec<Event> = page.objects.into_iter().filter(is_new).collect();
        events.sort_by_key(|event| number(&event.metadata.resource_version));
        events
    }

    fn reach(&mut self, version: String) {
        self.shipping.save(&version);
        self.reached = Some(version);
    }
}

impl Listener<Event> for Events {
    async fn told(&mut self, told: Told<Event>) -> Result<(), Enough> {
        match told {
            Told::Page(page) => {
                let end = page.is_last.then(|| page.version.clone());
                let lines = self.unknown(page).iter().map(line).collect();
                self.shipping.ship(lines).await?;
                if let Some(version) = end {
                    self.reach(version);
                }
            }
            Told::Changes(changes) => {
                let version = changes.last().map(|change| change.version().to_owned());
                let set = changes.iter().filter_map(|change| match change {
                    Change::Set(event) => Some(line(event)),
                    Change::Removed(_) | Change::Bookmark(_) => None,
                });
                let lines = set.collect();
                self.shipping.ship(lines).await?;
                if let Some(version) = version.filter(|version| !version.is_empty()) {
                    self.reach(version);
                }
            }
        }
        Ok(())
    }

    fn failed(&mut self, error: &str) {
        tracing::warn!(error, "the API server does not tell of events; asking again");
    }
}

fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}

fn line(event: &Event) -> Received {
    let Event { metadata, involved_object: about, reason, message, r#type, source, series, .. } = event;
    let first = |texts: [&String; 2]| texts.into_iter().find(|text| !text.is_empty()).cloned().unwrap_or_default();
    let count = event.count.max(series.count);
    let times = [&series.last_observed_time, &event.last_timestamp, &event.event_time, &event.first_timestamp];
    let t_ns = times.into_iter().chain([&metadata.creation_timestamp]).find_map(|time| model::parse_rfc3339_ns(time));
    let labels = [
        ("source", "kubernetes-events".to_owned()),
        ("namespace", first([&about.namespace, &metadata.namespace])),
        ("__meta_kubernetes_event_kind", about.kind.clone()),
        ("__meta_kubernetes_event_reason", reason.clone()),
        ("__meta_kubernetes_event_type", r#type.clone()),
    ];
    let metadata = [
        ("kind", about.kind.clone()),
        ("name", about.name.clone()),
        ("reason", reason.clone()),
        ("type", r#type.clone()),
        ("component", first([&event.reporting_component, &source.component])),
        ("host", source.host.clone()),
        ("count", if count > 1 { count.to_string() } else { String::new() }),
    ];
    Received {
        labels: Labels::from_pairs(labels),
        metadata: Labels::from_pairs(metadata),
        level: Some(if r#type == "Normal" { Level::Info } else { Level::Warn }),
        t_ns,
        text: message.clone(),
    }
}
