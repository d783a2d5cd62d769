//! What a notification says, for templates and for the webhook.

use model::{Alert, Labels};
use template::{Kv, Object, TimeValue, Value};

/// A group's state as one integration is told of it.
#[derive(Debug, Clone)]
pub struct Notice {
    pub receiver: String,
    pub group_key: String,
    pub group_labels: Labels,
    pub external_url: String,
    /// Why now.
    pub reason: &'static str,
    /// Firing ones first, each kind by start.
    pub alerts: Vec<Alert>,
    pub now_ms: i64,
}

impl Notice {
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

    /// The dot of a notification template.
    pub fn to_value(&self) -> Value {
        let alerts = self.alerts.iter().map(|alert| alert_value(alert, self.now_ms)).collect();
        Value::map([
            ("Receiver", self.receiver.as_str().into()),
            ("Status", self.status().into()),
            ("Alerts", Value::object(Alerts(alerts))),
            ("GroupLabels", Value::object(Kv(self.group_labels.clone()))),
            ("CommonLabels", Value::object(Kv(self.common_labels()))),
            ("CommonAnnotations", Value::object(Kv(self.common_annotations()))),
            ("ExternalURL", self.external_url.as_str().into()),
        ])
    }
}

/// The labels that all sets have with one value.
fn in_common<'a>(mut sets: impl Iterator<Item = &'a Labels>) -> Labels {
    let Some(first) = sets.next() else { return Labels::default() };
    sets.fold(first.clone(), |common, set| {
        let shared = common.iter().filter(|label| set.get(&label.name) == Some(&*label.value));
        Labels::from_pairs(shared.map(|label| (label.name.clone(), label.value.clone())))
    })
}

fn alert_value(alert: &Alert, now_ms: i64) -> Value {
    let is_resolved = alert.is_resolved_at(now_ms);
    // Go's zero time stands for "has not ended".
    let ends_at_ms = if is_resolved { alert.ends_at_ms } else { -62_135_596_800_000 };
    Value::map([
        ("Status", if is_resolved { "resolved" } else { "firing" }.into()),
        ("Labels", Value::object(Kv(alert.labels.clone()))),
        ("Annotations", Value::object(Kv(alert.annotations.clone()))),
        ("StartsAt", Value::object(TimeValue::from_ms(alert.starts_at_ms))),
        ("EndsAt", Value::object(TimeValue::from_ms(ends_at_ms))),
        ("GeneratorURL", alert.generator_url.as_str().into()),
        ("Fingerprint", alert.fingerprint().to_string().into()),
    ])
}

/// `.Alerts`: a list with `.Firing` and `.Resolved`.
#[derive(Debug)]
struct Alerts(Vec<Value>);

impl Object for Alerts {
    fn member(&self, name: &str, _: &[Value]) -> Option<Result<Value, String>> {
        let wanted = match name {
            "Firing" => "firing",
            "Resolved" => "resolved",
            _ => return None,
        };
        let is_wanted = |alert: &&Value| match alert {
            Value::Map(fields) => fields.get("Status").is_some_and(|status| status.print() == wanted),
            _ => false,
        };
        Some(Ok(Value::list(self.0.iter().filter(is_wanted).cloned())))
    }

    fn print(&self) -> String {
        format!("{} alerts", self.0.len())
    }

    fn entries(&self) -> Option<Vec<(Value, Value)>> {
        Some(self.0.iter().enumerate().map(|(i, alert)| (Value::Int(i as i64), alert.clone())).collect())
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
            external_url: "http://b".to_owned(),
            reason: "first_notification",
            alerts: vec![alert("a<1>", 900_000), alert("b", 50_000)],
            now_ms: 100_000,
        }
    }

    #[test]
    fn the_default_templates_say_what_matters() {
        let (notice, templates) = (notice(), super::super::default_templates());
        let functions = template::alertmanager_functions(notice.now_ms);
        let render = |name: &str, mode| templates.execute(name, &notice.to_value(), &functions, mode).expect(name);
        assert_eq!(render("email.default.subject", template::Mode::Text), "[FIRING:1] Down (page)");
        let text = render("email.default.text", template::Mode::Text);
        assert!(text.contains("Firing:") && text.contains("Resolved:") && text.contains("b is down"), "{text}");
        let html = render("email.default.html", template::Mode::Html);
        assert!(html.contains("a&lt;1&gt; is down") && !html.contains("a<1>"), "{html}");
    }
}
