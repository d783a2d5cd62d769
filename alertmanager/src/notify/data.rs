//! What a notification says, for templates and for the webhook.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use model::{Alert, Labels, format_rfc3339_ms};
use ring::digest;
use serde::Serialize;
use serde_json::Value as Json;
use template::{Kv, Object, TimeValue, Value};

use super::Memory;
use super::render::Render;

/// Go's zero time: it has not ended.
const NEVER: &str = "0001-01-01T00:00:00Z";
const NEVER_MS: i64 = -62_135_596_800_000;

/// A group's state as one integration is told of it.
#[derive(Debug, Clone)]
pub struct Notice {
    pub receiver: String,
    pub group_key: String,
    pub group_labels: Labels,
    /// The route's own labels, as templates.
    pub route_labels: BTreeMap<String, String>,
    pub external_url: String,
    /// Why now.
    pub reason: &'static str,
    /// The same for every attempt at this notification.
    pub idempotency_key: String,
    /// In the order of [`order`].
    pub alerts: Vec<Alert>,
    /// What the integration remembered of the group the last time.
    pub memory: Memory,
    pub now_ms: i64,
}

impl Notice {
    /// The group's key, short enough for any vendor's deduplication.
    pub fn key_hash(&self) -> String {
        let hash = digest::digest(&digest::SHA256, self.group_key.as_bytes());
        hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The receiver's name as templates and webhooks have it: ready to stand in a regular expression.
    pub fn quoted_receiver(&self) -> String {
        let quote = |c: char| [Some('\\').filter(|_| r"\.+*?()|[]{}^$".contains(c)), Some(c)];
        self.receiver.chars().flat_map(quote).flatten().collect()
    }

    pub fn is_firing(&self) -> bool {
        self.alerts.iter().any(|alert| !alert.is_resolved_at(self.now_ms))
    }

    pub fn status(&self) -> &'static str {
        if self.is_firing() { "firing" } else { "resolved" }
    }

    pub fn common_labels(&self) -> Labels {
        in_common(self.alerts.iter().map(|alert| &alert.labels))
    }

    pub fn common_annotations(&self) -> Labels {
        in_common(self.alerts.iter().map(|alert| &alert.annotations))
    }

    /// The dot of a notification template; `route_labels` are filled in.
    pub fn to_value(&self, route_labels: &Labels) -> Value {
        let alert = |alert: &Alert| (alert.is_resolved_at(self.now_ms), alert_value(alert, self.now_ms));
        let alerts = self.alerts.iter().map(alert).collect();
        Value::map([
            ("Receiver", self.quoted_receiver().into()),
            ("Status", self.status().into()),
            ("Alerts", Value::object(Alerts(alerts))),
            ("GroupLabels", Value::object(Kv(self.group_labels.clone()))),
            ("CommonLabels", Value::object(Kv(self.common_labels()))),
            ("CommonAnnotations", Value::object(Kv(self.common_annotations()))),
            ("RouteLabels", Value::object(Kv(route_labels.clone()))),
            ("NotificationReason", self.reason.into()),
            ("ExternalURL", self.external_url.as_str().into()),
        ])
    }
}

/// Alertmanager's order of alerts: by job and instance, then label sets with fewer labels first.
pub fn order(a: &Alert, b: &Alert) -> Ordering {
    for name in ["job", "instance"] {
        match (a.labels.get(name), b.labels.get(name)) {
            (None, None) => {}
            (None, Some(_)) => return Ordering::Greater,
            (Some(_), None) => return Ordering::Less,
            (Some(a), Some(b)) if a != b => return a.cmp(b),
            _ => {}
        }
    }
    let by_labels = || {
        let pairs = a.labels.iter().zip(&b.labels);
        // Who lacks a name comes first.
        pairs.map(|(a, b)| b.name.cmp(&a.name).then(a.value.cmp(&b.value))).find(|order| order.is_ne())
    };
    a.labels.len().cmp(&b.labels.len()).then_with(|| by_labels().unwrap_or(Ordering::Equal))
}

/// The labels that all sets have with one value.
fn in_common<'a>(mut sets: impl Iterator<Item = &'a Labels>) -> Labels {
    let Some(first) = sets.next() else { return Labels::default() };
    sets.fold(first.clone(), |common, set| {
        let shared = common.iter().filter(|label| set.get(&label.name) == Some(&*label.value));
        Labels::from_pairs(shared.map(|label| (label.name.clone(), label.value.clone())))
    })
}

/// The dot of a template from JSON, by Go's names of its fields.
pub fn data_of_json(data: &Json) -> Value {
    let text = |from: &Json, name: &str| from[name].as_str().unwrap_or("").to_owned();
    let labels = |from: &Json, name: &str| {
        let pairs = from[name].as_object().into_iter().flatten();
        Labels::from_pairs(pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or(""))))
    };
    let kv = |name: &str| Value::object(Kv(labels(data, name)));
    let time = |from: &Json, name: &str| {
        from[name].as_str().and_then(model::parse_rfc3339_ns).map_or(NEVER_MS, |ns| ns.div_euclid(model::NS_PER_MS))
    };
    let alert = |alert: &Json| {
        let fields = [
            ("Status", text(alert, "status").into()),
            ("Labels", Value::object(Kv(labels(alert, "labels")))),
            ("Annotations", Value::object(Kv(labels(alert, "annotations")))),
            ("StartsAt", Value::object(TimeValue::from_ms(time(alert, "startsAt")))),
            ("EndsAt", Value::object(TimeValue::from_ms(time(alert, "endsAt")))),
            ("GeneratorURL", text(alert, "generatorURL").into()),
            ("Fingerprint", text(alert, "fingerprint").into()),
        ];
        let value = Value::object(OneAlert { fields: BTreeMap::from(fields), json: Vec::new() });
        (alert["status"] == "resolved", value)
    };
    let alerts = data["alerts"].as_array().into_iter().flatten().map(alert).collect();
    Value::map([
        ("Receiver", text(data, "receiver").into()),
        ("Status", text(data, "status").into()),
        ("Alerts", Value::object(Alerts(alerts))),
        ("GroupLabels", kv("groupLabels")),
        ("CommonLabels", kv("commonLabels")),
        ("CommonAnnotations", kv("commonAnnotations")),
        ("RouteLabels", kv("routeLabels")),
        ("NotificationReason", text(data, "notification_reason").into()),
        ("ExternalURL", text(data, "externalURL").into()),
    ])
}

fn alert_value(alert: &Alert, now_ms: i64) -> Value {
    let is_resolved = alert.is_resolved_at(now_ms);
    let ends_at_ms = if is_resolved { alert.ends_at_ms } else { NEVER_MS };
    let fields = [
        ("Status", if is_resolved { "resolved" } else { "firing" }.into()),
        ("Labels", Value::object(Kv(alert.labels.clone()))),
        ("Annotations", Value::object(Kv(alert.annotations.clone()))),
        ("StartsAt", Value::object(TimeValue::from_ms(alert.starts_at_ms))),
        ("EndsAt", Value::object(TimeValue::from_ms(ends_at_ms))),
        ("GeneratorURL", alert.generator_url.as_str().into()),
        ("Fingerprint", alert.fingerprint().to_string().into()),
    ];
    let json = [
        ("status", fields[0].1.clone()),
        ("labels", fields[1].1.clone()),
        ("annotations", fields[2].1.clone()),
        ("startsAt", go_time(alert.starts_at_ms).into()),
        ("endsAt", if is_resolved { go_time(alert.ends_at_ms) } else { NEVER.to_owned() }.into()),
        ("generatorURL", fields[5].1.clone()),
        ("fingerprint", fields[6].1.clone()),
    ];
    Value::object(OneAlert { fields: BTreeMap::from(fields), json: json.to_vec() })
}

/// RFC 3339 as Go writes it: no fraction where there is none.
fn go_time(ms: i64) -> String {
    let text = format_rfc3339_ms(ms);
    let Some((seconds, fraction)) = text.trim_end_matches('Z').split_once('.') else { return text };
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { format!("{seconds}Z") } else { format!("{seconds}.{fraction}Z") }
}

/// One of `.Alerts`: its fields by Go's names in templates, and by those of JSON for `toJson`.
#[derive(Debug)]
struct OneAlert {
    fields: BTreeMap<&'static str, Value>,
    json: Vec<(&'static str, Value)>,
}

impl Object for OneAlert {
    fn member(&self, name: &str, _: &[Value]) -> Option<Result<Value, String>> {
        self.fields.get(name).cloned().map(Ok)
    }

    fn print(&self) -> String {
        let printed: Vec<String> =
            ["Status", "Labels", "Annotations", "StartsAt", "EndsAt", "GeneratorURL", "Fingerprint"]
                .iter()
                .map(|name| self.fields[name].print())
                .collect();
        format!("{{{}}}", printed.join(" "))
    }

    fn entries(&self) -> Option<Vec<(Value, Value)>> {
        Some(self.json.iter().map(|(name, value)| ((*name).into(), value.clone())).collect())
    }
}

/// `.Alerts`: a list with `.Firing` and `.Resolved`.
#[derive(Debug)]
struct Alerts(Vec<(bool, Value)>);

impl Object for Alerts {
    fn member(&self, name: &str, _: &[Value]) -> Option<Result<Value, String>> {
        let wanted = match name {
            "Firing" => false,
            "Resolved" => true,
            _ => return None,
        };
        let found = self.0.iter().filter(|(is_resolved, _)| *is_resolved == wanted);
        Some(Ok(Value::list(found.map(|(_, alert)| alert.clone()))))
    }

    fn print(&self) -> String {
        format!("{} alerts", self.0.len())
    }

    fn entries(&self) -> Option<Vec<(Value, Value)>> {
        Some(self.0.iter().enumerate().map(|(i, (_, alert))| (Value::Int(i as i64), alert.clone())).collect())
    }
}

/// The group as JSON: the body of a webhook (Alertmanager `docs/configuration.md`, "webhook_config").
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Payload<'a> {
    receiver: String,
    status: &'static str,
    alerts: Vec<PayloadAlert<'a>>,
    #[serde(rename = "notification_reason")]
    reason: &'static str,
    group_labels: &'a Labels,
    route_labels: &'a Labels,
    common_labels: Labels,
    common_annotations: Labels,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    version: &'static str,
    group_key: &'a str,
    truncated_alerts: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PayloadAlert<'a> {
    status: &'static str,
    labels: &'a Labels,
    annotations: &'a Labels,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'a str,
    fingerprint: String,
}

impl<'a> Payload<'a> {
    /// Of at most so many alerts; 0 is all of them.
    pub fn new(render: &'a Render, max_alerts: usize, version: &'static str) -> Payload<'a> {
        let notice = render.notice;
        let shown = if max_alerts == 0 { notice.alerts.len() } else { max_alerts.min(notice.alerts.len()) };
        let alert = |alert: &'a Alert| {
            let is_resolved = alert.is_resolved_at(notice.now_ms);
            PayloadAlert {
                status: if is_resolved { "resolved" } else { "firing" },
                labels: &alert.labels,
                annotations: &alert.annotations,
                starts_at: go_time(alert.starts_at_ms),
                ends_at: if is_resolved { go_time(alert.ends_at_ms) } else { NEVER.to_owned() },
                generator_url: &alert.generator_url,
                fingerprint: alert.fingerprint().to_string(),
            }
        };
        Payload {
            receiver: notice.quoted_receiver(),
            status: notice.status(),
            alerts: notice.alerts[..shown].iter().map(alert).collect(),
            reason: notice.reason,
            group_labels: &notice.group_labels,
            route_labels: &render.route_labels,
            common_labels: notice.common_labels(),
            common_annotations: notice.common_annotations(),
            external_url: &notice.external_url,
            version,
            group_key: &notice.group_key,
            truncated_alerts: notice.alerts.len() - shown,
        }
    }

    pub fn keep_first(&mut self) {
        self.alerts.truncate(1);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two alerts of one group at 100 s: one fires, one is resolved.
    pub fn notice() -> Notice {
        let alert = |instance: &str, ends_at_ms: i64| Alert {
            labels: Labels::from_pairs([("alertname", "Down"), ("severity", "page"), ("instance", instance)]),
            annotations: Labels::from_pairs([("summary", format!("{instance} is down"))]),
            starts_at_ms: 10_000,
            ends_at_ms,
            updated_at_ms: 10_000,
            generator_url: "http://b/#/explore".to_owned(),
            timeout: false,
        };
        Notice {
            receiver: "team".to_owned(),
            group_key: "{}:{alertname=\"Down\"}".to_owned(),
            group_labels: Labels::from_pairs([("alertname", "Down")]),
            route_labels: BTreeMap::new(),
            external_url: "http://b".to_owned(),
            reason: "first notification",
            idempotency_key: "k1".to_owned(),
            alerts: vec![alert("a<1>", 900_000), alert("b", 50_000)],
            memory: Memory::new(),
            now_ms: 100_000,
        }
    }

    #[test]
    fn the_default_templates_say_what_matters() {
        let (notice, templates) = (notice(), super::super::default_templates());
        let functions = template::alertmanager_functions(notice.now_ms);
        let render = |name: &str, mode| {
            templates.execute(name, &notice.to_value(&Labels::default()), &functions, mode).expect(name)
        };
        assert_eq!(render("email.default.subject", template::Mode::Text), "[FIRING:1] Down (page)");
        let text = render("email.default.text", template::Mode::Text);
        assert!(text.contains("Firing:") && text.contains("Resolved:") && text.contains("b is down"), "{text}");
        let html = render("email.default.html", template::Mode::Html);
        assert!(html.contains("a&lt;1&gt; is down") && !html.contains("a<1>"), "{html}");
    }
}
